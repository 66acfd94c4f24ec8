//! Replicas of a block: each learns from its share of every batch, and all step along the sum of what the shares teach.
//!
//! A layer's sum is begun as soon as its gradient is there, and awaited when the layer is needed next: meanwhile the layers
//! above learn, and then those below from the next batch. All replicas begin the same sums in the same order, whatever goes
//! wrong, and step along the same numbers: their weights stay the same to the bit.

use crate::engine::cpu::sum_inputs;
use crate::error::Result;
use crate::layer::Layer;
use crate::optimizer::Step;
use crate::pass::{Directions, Inputs};
use crate::peer::Peer;
use std::collections::VecDeque;
use std::fmt::Debug;

/// How the replicas of a block add up what they have.
pub trait Sums: Debug + Send {
    /// Begins to add `numbers` to those of the other replicas, who call this as often and with as many each time.
    fn begin(&mut self, numbers: Vec<f32>);

    /// Waits for the oldest sum that has begun: the same bits for all replicas.
    ///
    /// # Errors
    /// Where a replica cannot be reached.
    fn finish(&mut self) -> Result<Vec<f32>>;
}

/// The replicas of a block, as one of them sees them. Its layers have numbers from the bottom, and then the parts of the head.
#[derive(Debug)]
pub(crate) struct Group {
    sums: Box<dyn Sums>,
    /// Samples of a whole batch.
    batch: usize,
    /// Layers whose sums have begun, and how they will step along them; the oldest first.
    under_way: VecDeque<(usize, Step)>,
    /// Below this number, layers have begun their sums for this batch.
    begun: usize,
    spare: Vec<Vec<f32>>,
}

impl Group {
    pub fn new(sums: Box<dyn Sums>, batch: usize) -> Self {
        let (under_way, begun, spare) = Default::default();
        Group { sums, batch, under_way, begun, spare }
    }

    /// Has layer `at` learn from `x` by `d`, whose `shared` is `Σ y` of the positive rows, or empty in the head.
    ///
    /// The direction that all positive rows share follows from the mean activity of the whole batch, so it has to wait for the
    /// sum; its gradient is `Σ x̂ ⊗ shared`. So `Σ x̂` and `Σ y` go along with the gradient of the other directions.
    pub fn learn(&mut self, at: usize, layer: &dyn Layer, x: &Inputs<'_>, d: &mut Directions, step: Step) {
        let mut numbers = self.zeros(layer.gradient_len());
        let answered = std::mem::take(&mut d.shared);
        layer.add_gradient(x, d, &mut numbers);
        if !answered.is_empty() {
            let mut seen = Vec::new();
            sum_inputs(x, d, &mut seen);
            numbers.extend(seen.iter().chain(&answered));
        }
        d.shared = answered;
        self.begin(at, numbers, step);
    }

    /// Takes part in the sum of layer `at` without anything to learn from.
    pub fn abstain(&mut self, at: usize, layer: &dyn Layer, has_peers: bool, step: Step) {
        let others = if has_peers { layer.inputs() + layer.outputs() } else { 0 };
        let numbers = self.zeros(layer.gradient_len() + others);
        self.begin(at, numbers, step);
    }

    fn zeros(&mut self, count: usize) -> Vec<f32> {
        let mut numbers = self.spare.pop().unwrap_or_default();
        numbers.clear();
        numbers.resize(count, 0.0);
        numbers
    }

    fn begin(&mut self, at: usize, numbers: Vec<f32>, step: Step) {
        self.sums.begin(numbers);
        self.under_way.push_back((at, step));
        self.begun = at + 1;
    }

    /// Below which number layers have begun their sums for this batch. The next batch is another one.
    pub fn end_batch(&mut self) -> usize {
        std::mem::take(&mut self.begun)
    }

    /// Takes the last step of layer `at`, if its sum has begun; a layer of the network has a `peer`, a part of the head has none.
    pub fn catch_up(&mut self, at: usize, layer: &mut dyn Layer, peer: Option<&mut Peer>) -> Result<()> {
        let Some((_, step)) = self.under_way.pop_front_if(|(first, _)| *first == at) else { return Ok(()) };
        let mut numbers = self.sums.finish()?;
        let (gradient, others) = numbers.split_at_mut(layer.gradient_len());
        if let Some(peer) = peer {
            let (seen, answered) = others.split_at(layer.inputs());
            let mut shared = answered.to_vec();
            peer.push(self.batch, &mut shared);
            // As many rows as share it; the first one stands for all that they have read.
            let (source, mut scale) = (vec![0; self.batch], vec![0.0; self.batch]);
            scale[0] = 1.0;
            let (width, source) = (seen.len(), Some(&source[..]));
            let x = Inputs { source, ..Inputs::plain(seen, width, &scale) };
            let d = Directions { shared, shared_rows: 0..self.batch, ..Default::default() };
            if !d.shared.is_empty() {
                layer.add_gradient(&x, &d, gradient);
            }
        }
        layer.step_along(gradient, &step);
        self.spare.push(numbers);
        Ok(())
    }
}
