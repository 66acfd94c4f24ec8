//! One pass with the neutral label: a softmax head reads the normalised activities.

use crate::batch::{Batch, Label, Labelled};
use crate::engine;
use crate::layer::{Activation, Dense, Layer};
use crate::network::Network;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};

/// `logits = Σ_l ŷ_l S_l` over the layers read. It learns by cross-entropy, and no gradient leaves it (released code).
#[derive(Debug)]
pub struct Head {
    first: usize,
    /// `S_l: (O_l, K)` of layer `first`, `first + 1`, …
    pub(crate) layers: Vec<Box<dyn Layer>>,
}

impl Head {
    /// A head that starts at zero, reading the layers from [`Network::first_read`] on.
    pub(crate) fn new(network: &Network) -> Self {
        let first = network.first_read();
        let layers = network.stages()[first..].iter().map(|stage| {
            let (inputs, outputs) = (stage.layer.outputs(), network.classes());
            let weights = vec![0.0; inputs * outputs];
            let dense = Dense { inputs, outputs, activation: Activation::Linear, bias: false, weights, mask: None };
            engine::dense(network.recipe().engine.precision, dense)
        });
        Head { first, layers: layers.collect() }
    }

    /// How many numbers are learned.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters()).sum()
    }

    /// The part of the head that reads layer `l`, if it reads it.
    fn index(&self, l: usize) -> Option<usize> {
        l.checked_sub(self.first)
    }

    /// Adds what layer `l` says, `ŷ: (R, O)`, to `logits: (R, K)`.
    pub(crate) fn add(&self, l: usize, y: &Inputs<'_>, answer: &mut Activity, logits: &mut [f32]) {
        let Some(layer) = self.index(l).map(|i| &self.layers[i]) else { return };
        answer.resize(y.rows(), layer.outputs());
        layer.forward(y, answer);
        logits.iter_mut().zip(&answer.values).for_each(|(logit, part)| *logit += part);
    }

    /// Learns from layer `l`: `ŷ: (R, O)`, `d: (R, K)` the target less the probabilities.
    pub(crate) fn update(&mut self, l: usize, y: &Inputs<'_>, d: &Directions, step: &Step) {
        if let Some(i) = self.index(l) {
            self.layers[i].update(y, d, step);
        }
    }
}

/// Logits `(N, K)` of the neutral pass.
pub(crate) fn scores(network: &Network, batch: &Batch, buffers: &mut [Activity; 2]) -> Vec<f32> {
    let head = network.head().expect("predict() has looked for the head");
    let mut rows = Labelled::default();
    rows.fill(network, batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
    let mut logits = vec![0.0; batch.len() * network.classes()];
    let mut answer = Activity::default();
    network.sweep(
        &rows.as_inputs(batch, None),
        network.depth(),
        buffers,
        |_, _, _| (),
        |l, y| head.add(l, &y.as_inputs(), &mut answer, &mut logits),
    );
    logits
}
