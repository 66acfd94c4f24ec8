//! Sums over the replicas of a block: the thread that computes begins them and waits for them, the rank's first thread has MPI
//! add up meanwhile.

use mpi::collective::{CommunicatorCollectives, SystemOperation};
use mpi::request::{Request, StaticScope};
use mpi::topology::SimpleCommunicator;
use onward::train::pipeline::Sums;
use onward::{Error, Result};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Thread;

/// The computing thread's end.
#[derive(Debug)]
pub struct Asker {
    begun: Sender<Vec<f32>>,
    done: Receiver<Vec<f32>>,
    host: Thread,
}

impl Sums for Asker {
    fn begin(&mut self, numbers: Vec<f32>) {
        // Where nobody adds up any more, `finish` says so.
        let _ = self.begun.send(numbers);
        self.host.unpark();
    }

    fn finish(&mut self) -> Result<Vec<f32>> {
        self.done.recv().map_err(|_| Error::Data("the other replicas of the block are gone".into()))
    }
}

/// The first thread's end.
pub struct Adder<'a> {
    group: &'a SimpleCommunicator,
    begun: Receiver<Vec<f32>>,
    done: Sender<Vec<f32>>,
    /// The oldest first.
    running: VecDeque<Running>,
    /// Memory of numbers that have been added.
    spare: Vec<Vec<f32>>,
}

/// A sum that MPI works on.
struct Running {
    request: Request<'static, [f32], StaticScope>,
    numbers: ManuallyDrop<Vec<f32>>,
    sum: ManuallyDrop<Vec<f32>>,
}

impl std::fmt::Debug for Adder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adder").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

/// Both ends, for the thread that calls this and another one.
pub fn sums(group: &SimpleCommunicator) -> (Asker, Adder<'_>) {
    let ((asked, begun), (done, summed)) = (channel(), channel());
    let (running, spare) = Default::default();
    let asker = Asker { begun: asked, done: summed, host: std::thread::current() };
    (asker, Adder { group, begun, done, running, spare })
}

impl Adder<'_> {
    /// Begins what is to begin, and hands over what is done; answers whether there was anything.
    pub fn progress(&mut self) -> bool {
        let mut moved = false;
        while let Ok(numbers) = self.begun.try_recv() {
            self.start(numbers);
            moved = true;
        }
        while let Some(Running { request, mut numbers, mut sum }) = self.running.pop_front() {
            if let Err(request) = request.test() {
                self.running.push_front(Running { request, numbers, sum });
                break;
            }
            // SAFETY: MPI is done with both, and neither is used here again.
            let (numbers, sum) = unsafe { (ManuallyDrop::take(&mut numbers), ManuallyDrop::take(&mut sum)) };
            self.spare.push(numbers);
            // A thread that has ended has panicked: whoever takes its packets finds out.
            let _ = self.done.send(sum);
            moved = true;
        }
        moved
    }

    /// Whether sums are under way: they go on only while this is asked for.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    fn start(&mut self, numbers: Vec<f32>) {
        let mut sum = ManuallyDrop::new(self.spare.pop().unwrap_or_default());
        let numbers = ManuallyDrop::new(numbers);
        sum.resize(numbers.len(), 0.0);
        // SAFETY: neither vector is touched or freed before the request is complete: `progress` sees to it, and where it never
        // finds it so, both are leaked.
        let (from, to): (&'static [f32], &'static mut [f32]) = unsafe {
            let to = std::slice::from_raw_parts_mut(sum.as_mut_ptr(), sum.len());
            (std::slice::from_raw_parts(numbers.as_ptr(), numbers.len()), to)
        };
        let request = self.group.immediate_all_reduce_into(StaticScope, from, to, SystemOperation::sum());
        self.running.push_back(Running { request, numbers, sum });
    }
}

impl Drop for Adder<'_> {
    fn drop(&mut self) {
        // Only where the job is broken: what MPI may still use stays.
        self.running.drain(..).for_each(|running| std::mem::forget(running.request));
    }
}
