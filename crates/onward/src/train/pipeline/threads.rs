//! A pipeline whose blocks are threads of this process.

use super::Line;
use super::block::{Block, Packet};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// A thread for each block; where there are more cores than blocks, each block computes with several.
#[derive(Debug)]
pub struct Threads {
    pools: Vec<Arc<rayon::ThreadPool>>,
    first: Option<SyncSender<Packet>>,
    last: Option<Receiver<Packet>>,
    running: Vec<JoinHandle<Block>>,
}

impl Threads {
    /// Places for `blocks` blocks, which share `threads` threads; each has one at least.
    ///
    /// # Errors
    /// [`Error::Data`] where the system starts no more threads.
    pub fn new(blocks: usize, threads: usize) -> Result<Self> {
        let each = |i: usize| (threads / blocks + usize::from(i >= blocks - threads % blocks)).max(1);
        let pool = |i: usize| rayon::ThreadPoolBuilder::new().num_threads(each(i)).build().map(Arc::new);
        let pools = (0..blocks).map(pool).collect::<Result<_, _>>();
        let pools =
            pools.map_err(|error| Error::Data(format!("the pipeline's threads could not be started: {error}")))?;
        Ok(Threads { pools, first: None, last: None, running: Vec::new() })
    }
}

impl Line for Threads {
    fn places(&self) -> usize {
        self.pools.len()
    }

    fn begin(&mut self, blocks: Vec<Block>) -> Result<()> {
        // A packet may wait before each block: what comes irregularly does not stop the others. Results never wait, or the one
        // who sends packets and receives results would.
        let (first, mut below) = sync_channel::<Packet>(1);
        let (results, last) = channel();
        let count = blocks.len();
        for (i, (mut block, pool)) in blocks.into_iter().zip(&self.pools).enumerate() {
            let (up, above) = sync_channel(1);
            let (from, results, pool) = (std::mem::replace(&mut below, above), results.clone(), pool.clone());
            let work = move || {
                for mut packet in from {
                    block.run(&mut packet);
                    let gone = if i + 1 == count { results.send(packet).is_err() } else { up.send(packet).is_err() };
                    if gone {
                        break;
                    }
                }
                block
            };
            self.running.push(std::thread::spawn(move || pool.install(work)));
        }
        (self.first, self.last) = (Some(first), Some(last));
        Ok(())
    }

    fn send(&mut self, packet: Packet) -> Result<()> {
        self.first.as_ref().and_then(|first| first.send(packet).ok()).ok_or_else(ended)
    }

    fn receive(&mut self) -> Result<Packet> {
        self.last.as_ref().and_then(|last| last.recv().ok()).ok_or_else(ended)
    }

    fn end(&mut self) -> Result<Vec<Block>> {
        (self.first, self.last) = (None, None);
        let blocks = self.running.drain(..).map(JoinHandle::join).collect::<Result<Vec<_>, _>>();
        // A layer of the caller's own may have panicked: so does whoever trains it.
        Ok(blocks.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

fn ended() -> Error {
    Error::Data("a block of the pipeline has ended before its work was done".into())
}
