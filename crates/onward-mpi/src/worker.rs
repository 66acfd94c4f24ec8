//! A block at work on a thread of its own, so that messages come and go meanwhile.

use onward::Result;
use onward::train::pipeline::Block;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

/// A block that is given jobs and has them ready later, in their order.
#[derive(Debug)]
pub struct Worker<T> {
    jobs: Sender<T>,
    ready: Receiver<T>,
    thread: JoinHandle<Result<Block>>,
    inside: usize,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts; `work` is called with the block and each job.
    pub fn start(mut block: Block, mut work: impl FnMut(&mut Block, T) -> T + Send + 'static) -> Self {
        let (jobs, waiting) = channel();
        let (done, ready) = channel();
        let run = move || {
            for job in waiting {
                // Once into the thread pool for the whole job: a product from outside would wake it up anew.
                let job = rayon::scope(|_| work(&mut block, job));
                if done.send(job).is_err() {
                    break;
                }
            }
            rayon::scope(|_| block.leave_group())?;
            Ok(block)
        };
        Worker { jobs, ready, thread: std::thread::spawn(run), inside: 0 }
    }

    /// Jobs given and not taken back yet.
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// Gives it a job. The caller sees to it that there are few.
    pub fn give(&mut self, job: T) {
        self.inside += 1;
        // A thread that has ended has panicked: `take` finds out.
        let _ = self.jobs.send(job);
    }

    /// A job that is done, if there is one.
    ///
    /// # Panics
    /// As the block did.
    pub fn take(&mut self) -> Option<T> {
        match self.ready.try_recv() {
            Ok(job) => {
                self.inside -= 1;
                Some(job)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("a block has panicked: its message is above"),
        }
    }

    /// The block, once it has done all its jobs and taken all steps; `wait` is called again and again until then.
    ///
    /// # Errors
    /// Where its replicas are gone.
    ///
    /// # Panics
    /// As the block did.
    pub fn end(self, mut wait: impl FnMut()) -> Result<Block> {
        drop(self.jobs);
        while !self.thread.is_finished() {
            wait();
        }
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
