//! The pipeline as rank 0 sees it.

use crate::job::Job;
use crate::post::{Idle, PACKET, Post, READY, STATE};
use crate::serve::Control;
use crate::worker::Worker;
use mpi::Tag;
use onward::train::pipeline::{Block, Line, Packet};
use onward::{Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// How long other ranks may be silent once this process has been told to end: less than the second that Open MPI leaves it.
const SILENCE: Duration = Duration::from_millis(500);

/// A block on each rank, the lowest one on this, rank 0.
pub struct Ranks<'a> {
    job: &'a Job,
    places: usize,
    ending: &'a dyn Fn() -> bool,
    post: Post<'a>,
    /// The lowest block, with packets and their bytes for the next rank.
    worker: Option<Worker<(Packet, Vec<u8>)>>,
    /// The blocks above as they were given; they take over the state of those that work.
    away: Vec<Block>,
    /// What the lowest layer has read, of packets that are on other ranks.
    shells: VecDeque<Packet>,
    arrived: VecDeque<Packet>,
    under_way: usize,
}

impl std::fmt::Debug for Ranks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranks")
            .field("places", &self.places)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

impl<'a> Ranks<'a> {
    pub(crate) fn new(job: &'a Job, places: usize, ending: &'a dyn Fn() -> bool) -> Self {
        let (worker, away, shells, arrived, under_way) = Default::default();
        Ranks { job, places, ending, post: job.post(), worker, away, shells, arrived, under_way }
    }

    /// Moves whatever can be moved; answers whether anything could.
    fn pump(&mut self) -> Result<bool> {
        let Some(worker) = &mut self.worker else { return Ok(false) };
        let mut moved = false;
        self.post.progress();
        while let Some((packet, bytes)) = worker.take() {
            if self.away.is_empty() {
                self.arrived.push_back(packet);
                self.post.reuse(bytes);
            } else {
                self.shells.push_back(packet);
                self.post.send(1, PACKET, bytes);
            }
            moved = true;
        }
        if !self.shells.is_empty()
            && let Some(bytes) = self.post.take(self.away.len(), PACKET)
        {
            let mut packet = self.shells.pop_front().expect("there is one");
            packet.read(&bytes).inspect_err(|_| self.job.broken.set(true))?;
            self.post.reuse(bytes);
            self.arrived.push_back(packet);
            moved = true;
        }
        Ok(moved)
    }

    /// Waits a little; fails where the others are silent although this process has been told to end.
    fn wait(&self, idle: &Idle) -> Result<()> {
        if idle.length() > SILENCE && (self.ending)() {
            self.job.broken.set(true);
            return Err(Error::Data(format!(
                "told to end, and nothing has come from the other ranks for {} ms: one of them has probably died, which \
                 the job's launcher says more about",
                SILENCE.as_millis()
            )));
        }
        idle.wait();
        Ok(())
    }

    fn message(&mut self, from: usize, tag: Tag) -> Result<Vec<u8>> {
        let idle = Idle::default();
        loop {
            if let Some(message) = self.post.take(from, tag) {
                return Ok(message);
            }
            self.post.progress();
            self.wait(&idle)?;
        }
    }
}

impl Line for Ranks<'_> {
    fn places(&self) -> usize {
        self.places
    }

    fn begin(&mut self, blocks: Vec<Block>) -> Result<()> {
        let mut blocks = blocks.into_iter();
        let lowest = blocks.next().expect("a pipeline has a block");
        self.away = blocks.collect();
        let count = self.away.len();
        let descriptions = self.away.iter().map(Block::describe).collect::<Result<Vec<_>>>()?;
        let mut state = self.post.paper();
        for (rank, description) in (1..).zip(descriptions) {
            state.clear();
            self.away[rank - 1].write_state(&mut state);
            let above = if rank == count { 0 } else { rank + 1 };
            self.post.tell(rank, Control::Begin { above, description: &description, state: &state });
        }
        self.post.reuse(state);
        for rank in 1..=count {
            let problem = self.message(rank, READY)?;
            if !problem.is_empty() {
                self.job.broken.set(true);
                let problem = String::from_utf8_lossy(&problem);
                return Err(Error::Data(format!("rank {rank} cannot host its block of layers: {problem}")));
            }
        }
        self.worker = Some(Worker::start(lowest, move |block, (mut packet, mut bytes): (Packet, Vec<u8>)| {
            block.run(&mut packet);
            if count > 0 {
                packet.write(&mut bytes);
            }
            (packet, bytes)
        }));
        Ok(())
    }

    fn send(&mut self, packet: Packet) -> Result<()> {
        let paper = self.post.paper();
        if let Some(worker) = &mut self.worker {
            worker.give((packet, paper));
            self.under_way += 1;
        }
        self.pump().map(drop)
    }

    fn receive(&mut self) -> Result<Packet> {
        let mut idle = Idle::default();
        loop {
            if let Some(packet) = self.arrived.pop_front() {
                self.under_way -= 1;
                return Ok(packet);
            }
            match self.pump()? {
                true => idle.reset(),
                false => self.wait(&idle)?,
            }
        }
    }

    fn end(&mut self) -> Result<Vec<Block>> {
        if self.job.broken.get() {
            return Err(Error::Data("the pipeline's ranks are gone".into()));
        }
        while self.under_way > 0 {
            self.receive()?;
        }
        let mut blocks: Vec<Block> = self.worker.take().map(Worker::end).into_iter().collect();
        (1..=self.away.len()).for_each(|rank| self.post.tell(rank, Control::End));
        for (i, mut block) in std::mem::take(&mut self.away).into_iter().enumerate() {
            let state = self.message(i + 1, STATE)?;
            block.read_state(&state).inspect_err(|_| self.job.broken.set(true))?;
            self.post.reuse(state);
            blocks.push(block);
        }
        Ok(blocks)
    }
}
