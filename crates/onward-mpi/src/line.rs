//! The pipeline as rank 0 sees it.

use crate::job::Job;
use crate::post::{Idle, PACKET, Post, READY, STATE};
use crate::serve::{Control, help};
use crate::sums::{Adder, sums};
use crate::worker::Worker;
use mpi::Tag;
use onward::train::pipeline::{Block, Line, Packet, share};
use onward::{Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// How long other ranks may be silent once this process has been told to end: less than the second that Open MPI leaves it.
const SILENCE: Duration = Duration::from_millis(500);

/// A block on each rank, or on as many as there are replicas of it; the first replica of the lowest one is on this, rank 0.
pub struct Ranks<'a> {
    job: &'a Job,
    places: usize,
    ending: &'a dyn Fn() -> bool,
    post: Post<'a>,
    /// The lowest block, with packets and their bytes for the next rank.
    worker: Option<Worker<(Packet, Vec<u8>)>>,
    /// The sums that it shares with its replicas.
    adder: Option<Adder<'a>>,
    /// The blocks above as they were given; they take over the state of those that work.
    away: Vec<Block>,
    /// What the lowest layer has read, of packets that are on other ranks.
    shells: VecDeque<Packet>,
    /// Packets whose shares are under way, where there are replicas.
    wholes: VecDeque<Packet>,
    /// Of each replica, the shares that have passed all blocks, or whole packets where there is but one.
    shares: Vec<VecDeque<Packet>>,
    spare: Vec<Packet>,
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
        let (worker, adder, away, under_way) = Default::default();
        let (shells, wholes, shares, spare) = Default::default();
        Ranks { job, places, ending, post: job.post(), worker, adder, away, shells, wholes, shares, spare, under_way }
    }

    /// Moves whatever can be moved; answers whether anything could.
    fn pump(&mut self) -> Result<bool> {
        let Some(worker) = &mut self.worker else { return Ok(false) };
        let mut moved = self.adder.as_mut().is_some_and(Adder::progress);
        self.post.progress();
        while let Some((packet, bytes)) = worker.take() {
            if self.away.is_empty() {
                self.shares[0].push_back(packet);
                self.post.reuse(bytes);
            } else {
                self.shells.push_back(packet);
                self.post.send(self.job.replicas, PACKET, bytes);
            }
            moved = true;
        }
        let highest = self.away.len() * self.job.replicas;
        for replica in 0..self.job.replicas {
            let own = replica == 0;
            if own && self.shells.is_empty() {
                continue;
            }
            if let Some(bytes) = self.post.take(highest + replica, PACKET) {
                let shell = if own { self.shells.pop_front() } else { self.spare.pop() };
                let mut packet = shell.unwrap_or_default();
                packet.read(&bytes).inspect_err(|_| self.job.broken.set(true))?;
                self.post.reuse(bytes);
                self.shares[replica].push_back(packet);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// A packet that has passed all blocks, in all its shares.
    fn arrived(&mut self) -> Option<Packet> {
        if self.shares.iter().any(VecDeque::is_empty) {
            return None;
        }
        let mut shares: Vec<Packet> = self.shares.iter_mut().filter_map(VecDeque::pop_front).collect();
        let Some(mut whole) = self.wholes.pop_front() else { return shares.pop() };
        whole.join(shares.iter_mut());
        self.spare.append(&mut shares);
        Some(whole)
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
        idle.wait(self.adder.as_ref().is_some_and(Adder::is_busy));
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
        let mut lowest = blocks.next().expect("a pipeline has a block");
        self.away = blocks.collect();
        let (count, replicas) = (self.away.len(), self.job.replicas);
        let mut state = self.post.paper();
        for (at, block) in std::iter::once(&lowest).chain(&self.away).enumerate() {
            // Rank 0 has its own block.
            let ranks = (at * replicas).max(1)..(at + 1) * replicas;
            if ranks.is_empty() {
                continue;
            }
            let description = block.describe()?;
            state.clear();
            block.write_state(&mut state);
            for rank in ranks {
                let above = if at == count { 0 } else { rank + replicas };
                self.post.tell(rank, Control::Begin { above, description: &description, state: &state });
            }
        }
        self.post.reuse(state);
        for rank in 1..(count + 1) * replicas {
            let problem = self.message(rank, READY)?;
            if !problem.is_empty() {
                self.job.broken.set(true);
                let problem = String::from_utf8_lossy(&problem);
                return Err(Error::Data(format!("rank {rank} cannot host its block of layers: {problem}")));
            }
        }
        self.shares.resize_with(replicas, VecDeque::new);
        if let Some(group) = &self.job.group {
            let (asker, adder) = sums(group);
            lowest.join_group(Box::new(asker), true)?;
            self.adder = Some(adder);
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
        let replicas = self.job.replicas;
        let Some(worker) = &mut self.worker else { return Ok(()) };
        self.under_way += 1;
        if replicas == 1 {
            worker.give((packet, self.post.paper()));
            return self.pump().map(drop);
        }
        for replica in (0..replicas).rev() {
            let mut part = self.spare.pop().unwrap_or_default();
            packet.share(share(packet.samples(), replica, replicas), &mut part);
            let mut paper = self.post.paper();
            if replica == 0 {
                worker.give((part, paper));
            } else {
                part.write_start(&mut paper);
                self.post.send(replica, PACKET, paper);
                self.spare.push(part);
            }
        }
        self.wholes.push_back(packet);
        self.pump().map(drop)
    }

    fn receive(&mut self) -> Result<Packet> {
        let mut idle = Idle::default();
        loop {
            if let Some(packet) = self.arrived() {
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
        let (count, replicas) = (self.away.len() + 1, self.job.replicas);
        (1..count * replicas).for_each(|rank| self.post.tell(rank, Control::End));
        let (Some(worker), idle) = (self.worker.take(), Idle::default()) else { return Ok(Vec::new()) };
        let lowest = worker.end(|| help(&mut self.adder, &idle)).inspect_err(|_| self.job.broken.set(true))?;
        let blocks: Vec<Block> = std::iter::once(lowest).chain(std::mem::take(&mut self.away)).collect();
        let ended = blocks.into_iter().enumerate().map(|(at, mut block)| {
            if at > 0 {
                let state = self.message(at * replicas, STATE)?;
                block.read_state(&state)?;
                self.post.reuse(state);
            }
            let others = (at * replicas + 1)..(at + 1) * replicas;
            block.add_reports(&others.map(|rank| self.message(rank, STATE)).collect::<Result<Vec<_>>>()?)?;
            Ok(block)
        });
        let ended = ended.collect::<Result<Vec<_>>>();
        ended.inspect_err(|_| self.job.broken.set(true))
    }
}
