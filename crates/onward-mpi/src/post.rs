//! Messages of any length, which nobody waits for unless asked to.

use crate::serve::Control;
use mpi::Tag;
use mpi::point_to_point::{Destination, MatchedReceiveVec, Source};
use mpi::request::{Request, StaticScope};
use mpi::topology::{Communicator, SimpleCommunicator};
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// What a rank is to do next: a [`Control`].
pub const CONTROL: Tag = 1;
/// Whether it is ready: empty, or what is wrong.
pub const READY: Tag = 2;
/// A packet of rows.
pub const PACKET: Tag = 3;
/// A block's state, back to rank 0.
pub const STATE: Tag = 4;

/// Sends and receives messages.
pub struct Post<'a> {
    world: &'a SimpleCommunicator,
    piece: usize,
    outgoing: Vec<Outgoing>,
    /// Memory of messages that have gone.
    spare: Vec<Vec<u8>>,
}

/// A message on its way.
#[derive(Debug)]
struct Outgoing {
    requests: Vec<Request<'static, [u8], StaticScope>>,
    bytes: ManuallyDrop<Vec<u8>>,
}

impl<'a> Post<'a> {
    pub fn new(world: &'a SimpleCommunicator, piece: usize) -> Self {
        Post { world, piece, outgoing: Vec::new(), spare: Vec::new() }
    }

    /// Memory for a message.
    pub fn paper(&mut self) -> Vec<u8> {
        let mut paper = self.spare.pop().unwrap_or_default();
        paper.clear();
        paper
    }

    /// Takes memory back.
    pub fn reuse(&mut self, paper: Vec<u8>) {
        if self.spare.len() < 4 {
            self.spare.push(paper);
        }
    }

    /// Sends a message: pieces of full length, and a shorter one, which may be empty, to end it.
    pub fn send(&mut self, to: usize, tag: Tag, bytes: Vec<u8>) {
        let bytes = ManuallyDrop::new(bytes);
        // SAFETY: the vector is neither changed nor freed before all its requests are complete: `progress` sees to it, and where
        // it never finds them so, the vector is leaked.
        let all: &'static [u8] = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        let to = self.world.process_at_rank(to as i32);
        let last = all.len() / self.piece * self.piece;
        let pieces = all[..last].chunks(self.piece).chain([&all[last..]]);
        let requests = pieces.map(|piece| to.immediate_send_with_tag(StaticScope, piece, tag)).collect();
        self.outgoing.push(Outgoing { requests, bytes });
        self.progress();
    }

    /// Tells another rank what to do.
    pub fn tell(&mut self, rank: usize, control: Control<'_>) {
        let mut message = self.paper();
        control.write(&mut message);
        self.send(rank, CONTROL, message);
    }

    /// Frees what has gone.
    pub fn progress(&mut self) {
        for mut message in std::mem::take(&mut self.outgoing) {
            message.requests = message.requests.drain(..).filter_map(|request| request.test().err()).collect();
            match message.requests.is_empty() {
                true => self.reuse(ManuallyDrop::into_inner(message.bytes)),
                false => self.outgoing.push(message),
            }
        }
    }

    /// Waits until everything has gone.
    pub fn flush(&mut self) {
        let idle = Idle::default();
        while !self.outgoing.is_empty() {
            self.progress();
            idle.wait(false);
        }
    }

    /// A message of this tag from that rank, if one has begun to arrive.
    pub fn take(&mut self, from: usize, tag: Tag) -> Option<Vec<u8>> {
        let from = self.world.process_at_rank(from as i32);
        let (mut bytes, _) = from.immediate_matched_probe_with_tag(tag)?.matched_receive_vec::<u8>();
        let mut last = bytes.len();
        while last == self.piece {
            let (mut more, _) = from.matched_probe_with_tag(tag).matched_receive_vec();
            last = more.len();
            bytes.append(&mut more);
        }
        Some(bytes)
    }

    /// Waits for a message of this tag from that rank.
    pub fn wait(&mut self, from: usize, tag: Tag) -> Vec<u8> {
        let idle = Idle::default();
        loop {
            if let Some(message) = self.take(from, tag) {
                return message;
            }
            self.progress();
            idle.wait(false);
        }
    }
}

impl Drop for Post<'_> {
    fn drop(&mut self) {
        // Only where the job is broken: what MPI may still read stays.
        self.outgoing.drain(..).flat_map(|message| message.requests).for_each(std::mem::forget);
    }
}

/// How to wait: at first ready at once, then without taking a core from those who compute.
#[derive(Debug)]
pub struct Idle {
    since: Instant,
}

impl Default for Idle {
    fn default() -> Self {
        Idle { since: Instant::now() }
    }
}

impl Idle {
    /// Something has happened.
    pub fn reset(&mut self) {
        self.since = Instant::now();
    }

    /// How long nothing has happened.
    pub fn length(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits a little, the longer the longer nothing has happened; less while a sum is under way (`summing`), which takes many
    /// steps, each only when it is asked for, and a thread that computes waits for it. Where the others are far behind, their
    /// machine may be this one.
    pub fn wait(&self, summing: bool) {
        let (patience, most) = if summing { (1_000, 50) } else { (50, 1_000) };
        let (length, most) = (self.length(), Duration::from_micros(most));
        if length < Duration::from_micros(patience) {
            std::thread::yield_now();
        } else {
            // Whoever begins a sum wakes this thread up.
            std::thread::park_timeout((length / 8).clamp(Duration::from_micros(20), most));
        }
    }
}
