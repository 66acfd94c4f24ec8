//! This process's place among those of the job.

use crate::line::Ranks;
use crate::post::Post;
use crate::serve::Control;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::{Color, Communicator, SimpleCommunicator};
use onward::{Error, Result};
use std::cell::Cell;

/// A job of many processes, which this one has joined. It leaves it when this is dropped; when rank 0 leaves it, the others are
/// done serving.
pub struct Job {
    /// The ranks with replicas of this one's block, where there are any; given up before the job is left.
    pub(crate) group: Option<SimpleCommunicator>,
    universe: Option<Universe>,
    pub(crate) world: SimpleCommunicator,
    /// How many ranks there are for each block.
    pub(crate) replicas: usize,
    /// Longest piece of a message, in bytes.
    piece: usize,
    /// Whether some rank no longer takes part, so that this one cannot leave in order.
    pub(crate) broken: Cell<bool>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.ranks())
    }
}

impl Job {
    /// Joins the job that this process was started for; a process that was started alone is a job of one rank. Must be called
    /// once, by the thread that will call everything else here.
    ///
    /// # Errors
    /// [`Error::Data`] where this process has joined before, or MPI cannot be used beside other threads.
    pub fn join() -> Result<Job> {
        let joined = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, threading) =
            joined.ok_or_else(|| Error::Data("this process has joined an MPI job before".into()))?;
        if threading < Threading::Funneled {
            return Err(Error::Data("this MPI library does not allow other threads in a process".into()));
        }
        let world = universe.world();
        let broken = Cell::new(false);
        Ok(Job { group: None, universe: Some(universe), world, replicas: 1, piece: 1 << 30, broken })
    }

    /// Gives each block of a [`Job::line`] so many ranks next to each other: replicas, each of which learns from its share of
    /// every batch. Every rank must ask for the same.
    ///
    /// # Errors
    /// [`Error::Data`] where the ranks cannot be divided so.
    pub fn divide(&mut self, replicas: usize) -> Result<()> {
        let ranks = self.ranks();
        if replicas == 0 || !ranks.is_multiple_of(replicas) {
            return Err(Error::Data(format!(
                "{ranks} ranks cannot be divided into blocks of {replicas} replicas each"
            )));
        }
        let color = Color::with_value((self.rank() / replicas) as i32);
        self.group = if replicas > 1 { self.world.split_by_color(color) } else { None };
        self.replicas = replicas;
        Ok(())
    }

    /// Which process of the job this is, from 0.
    pub fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    /// How many processes the job has.
    pub fn ranks(&self) -> usize {
        self.world.size() as usize
    }

    /// How many of them are on this machine. Every rank must ask.
    pub fn ranks_here(&self) -> usize {
        self.world.split_shared(0).size() as usize
    }

    /// A line of at most `blocks` blocks, one to each rank or to each group of them ([`Job::divide`]), for the trainer of rank 0;
    /// the other ranks must [`Job::serve`].
    ///
    /// `ending` says whether this process has been told to end. Whoever starts the job tells all ranks so when one of them has
    /// died, and when the user wants to stop. Then the line waits for other ranks only as long as anything arrives; if nothing
    /// does, it fails.
    ///
    /// # Panics
    /// On another rank than 0.
    pub fn line<'a>(&'a self, blocks: usize, ending: &'a dyn Fn() -> bool) -> Ranks<'a> {
        assert_eq!(self.rank(), 0, "rank 0 has the trainer");
        Ranks::new(self, blocks.clamp(1, self.ranks() / self.replicas), ending)
    }

    /// Which of its block's replicas this rank has, from 0.
    pub(crate) fn replica(&self) -> usize {
        self.rank() % self.replicas
    }

    /// Has messages go in pieces of so many bytes at most: the same at every rank. For tests; MPI's own limit is the default.
    #[doc(hidden)]
    pub fn set_piece(&mut self, bytes: usize) {
        self.piece = bytes;
    }

    /// Whether some rank no longer takes part: the job is over, and the trainer has lost the layers that were away.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub(crate) fn post(&self) -> Post<'_> {
        Post::new(&self.world, self.piece)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Leaving in order waits for everybody. Who ends without it ends the job: `mpirun` and `srun` see to that.
        if self.broken.get() || std::thread::panicking() {
            std::mem::forget(self.group.take());
            return std::mem::forget(self.universe.take());
        }
        if self.rank() == 0 {
            let mut post = self.post();
            (1..self.ranks()).for_each(|rank| post.tell(rank, Control::Stop));
            post.flush();
        }
    }
}
