//! What every rank but the first does: host a block whenever rank 0 has one for it.

use crate::job::Job;
use crate::post::{CONTROL, Idle, PACKET, Post, READY, STATE};
use crate::worker::Worker;
use onward::train::pipeline::{Block, Packet};
use onward::{Error, Result};

/// What rank 0 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// Host this block, and send packets on to that rank, 0 from the last block.
    Begin {
        /// The rank above.
        above: usize,
        /// What the block is made from.
        description: &'a [u8],
        /// The state that it begins with.
        state: &'a [u8],
    },
    /// Send the block's state back: no packets are under way.
    End,
    /// Leave.
    Stop,
}

impl<'a> Control<'a> {
    pub fn write(self, to: &mut Vec<u8>) {
        match self {
            Control::Begin { above, description, state } => {
                to.push(0);
                to.extend_from_slice(&(above as u64).to_le_bytes());
                to.extend_from_slice(&(description.len() as u64).to_le_bytes());
                to.extend_from_slice(description);
                to.extend_from_slice(state);
            }
            Control::End => to.push(1),
            Control::Stop => to.push(2),
        }
    }

    pub fn read(from: &'a [u8]) -> Option<Self> {
        let (kind, rest) = from.split_first()?;
        match kind {
            0 => {
                let (above, rest) = rest.split_first_chunk()?;
                let (length, rest) = rest.split_first_chunk()?;
                let (description, state) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
                Some(Control::Begin { above: u64::from_le_bytes(*above) as usize, description, state })
            }
            1 => Some(Control::End),
            2 => Some(Control::Stop),
            _ => None,
        }
    }
}

/// How many packets a rank has with it at most: one that its block works on, one that waits for it.
const INSIDE: usize = 2;

impl Job {
    /// Hosts blocks for rank 0, until that one leaves the job.
    ///
    /// # Errors
    /// [`Error::Data`] where rank 0 runs another version of this program.
    ///
    /// # Panics
    /// Where a layer does.
    pub fn serve(&self) -> Result<()> {
        let mut post = self.post();
        let mut known: Option<(Vec<u8>, Block)> = None;
        loop {
            let message = post.wait(0, CONTROL);
            match Control::read(&message) {
                Some(Control::Begin { above, description, state }) => {
                    // As long as the same layers are here, their memory stays.
                    let block = match known.take().filter(|(known, _)| known == description) {
                        Some((_, block)) => Ok(block),
                        None => Block::build(description),
                    };
                    let block = block.and_then(|mut block| block.read_state(state).map(|()| block));
                    let problem = block.as_ref().err().map_or(String::new(), Error::to_string);
                    post.send(0, READY, problem.into_bytes());
                    if let Ok(block) = block {
                        known = Some((description.to_owned(), host(&mut post, block, self.rank() - 1, above)));
                    }
                }
                Some(Control::Stop) => {
                    post.flush();
                    return Ok(());
                }
                Some(Control::End) | None => {
                    self.broken.set(true);
                    return Err(Error::Data("rank 0 speaks otherwise: is the same program running everywhere?".into()));
                }
            }
        }
    }
}

/// Has packets pass the block on their way from the rank below to the one above, until rank 0 says that it is over.
fn host(post: &mut Post<'_>, block: Block, below: usize, above: usize) -> Block {
    let mut packet = Packet::default();
    let mut worker = Worker::start(block, move |block, mut bytes: Vec<u8>| {
        match packet.read(&bytes) {
            Ok(()) => block.run(&mut packet),
            Err(error) => packet.fail(error),
        }
        if above == 0 {
            packet.forget_rows();
        }
        bytes.clear();
        packet.write(&mut bytes);
        bytes
    });
    let mut idle = Idle::default();
    loop {
        post.progress();
        let mut moved = false;
        if worker.inside() < INSIDE
            && let Some(packet) = post.take(below, PACKET)
        {
            worker.give(packet);
            moved = true;
        }
        if let Some(packet) = worker.take() {
            post.send(above, PACKET, packet);
            moved = true;
        }
        if moved {
            idle.reset();
        } else if post.take(0, CONTROL).is_some() {
            break;
        } else {
            idle.wait();
        }
    }
    let block = worker.end();
    let mut state = post.paper();
    block.write_state(&mut state);
    post.send(0, STATE, state);
    block
}

#[cfg(test)]
mod tests {
    use super::Control;

    #[test]
    fn what_is_asked_for_is_understood() {
        let begin = Control::Begin { above: 3, description: b"layers", state: b"weights" };
        for control in [begin, Control::End, Control::Stop] {
            let mut bytes = Vec::new();
            control.write(&mut bytes);
            assert_eq!(Control::read(&bytes), Some(control));
        }
        let mut bytes = Vec::new();
        begin.write(&mut bytes);
        assert_eq!(Control::read(&bytes[..20]), None);
        assert_eq!(Control::read(&[9]), None);
        assert_eq!(Control::read(&[]), None);
    }
}
