//! What every rank but the first does: host a block whenever rank 0 has one for it.

use crate::job::Job;
use crate::post::{CONTROL, Idle, PACKET, Post, READY, STATE};
use crate::sums::{Adder, sums};
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
    /// [`Error::Data`] where rank 0 runs another version of this program, or another replica is gone.
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
                    let (asker, adder) = self.group.as_ref().map(sums).unzip();
                    let block = block.and_then(|mut block| {
                        asker
                            .map_or(Ok(()), |asker| block.join_group(Box::new(asker), self.replica() == 0))
                            .map(|()| block)
                    });
                    let problem = block.as_ref().err().map_or(String::new(), Error::to_string);
                    post.send(0, READY, problem.into_bytes());
                    if let Ok(block) = block {
                        let block = self.host(&mut post, block, above, adder);
                        known = Some((description.to_owned(), block.inspect_err(|_| self.broken.set(true))?));
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

    /// Has packets pass the block on their way from the rank below to the one above, until rank 0 says that it is over.
    fn host(&self, post: &mut Post<'_>, block: Block, above: usize, mut adder: Option<Adder<'_>>) -> Result<Block> {
        // Rank 0 makes the packets, for all replicas of the lowest block.
        let below = self.rank().saturating_sub(self.replicas);
        let lowest = block.layers().start == 0;
        let mut packet = Packet::default();
        let mut worker = Worker::start(block, move |block, mut bytes: Vec<u8>| {
            let read = if lowest { packet.read_start(&bytes) } else { packet.read(&bytes) };
            match read {
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
            let mut moved = adder.as_mut().is_some_and(Adder::progress);
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
                idle.wait(adder.as_ref().is_some_and(Adder::is_busy));
            }
        }
        idle.reset();
        let block = worker.end(|| help(&mut adder, &idle))?;
        let mut state = post.paper();
        match self.replica() {
            0 => block.write_state(&mut state),
            _ => block.write_report(&mut state),
        }
        post.send(0, STATE, state);
        Ok(block)
    }
}

/// While a block ends: has its last sums go on, or waits a little where they cannot.
pub fn help(adder: &mut Option<Adder<'_>>, idle: &Idle) {
    if !adder.as_mut().is_some_and(Adder::progress) {
        idle.wait(adder.as_ref().is_some_and(Adder::is_busy));
    }
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
