//! One pass with the neutral label: a softmax head reads the normalised activities.

use crate::batch::{Batch, Label, Labelled};
use crate::engine;
use crate::layer::{Activation, Dense, Layer};
use crate::network::Network;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::readout::exit;
use crate::settings::Precision;

/// `logits = Σ_l ŷ_l S_l` over the layers read. It learns by cross-entropy, and no gradient leaves it (released code).
#[derive(Debug)]
pub struct Head {
    /// The layers that it reads.
    pub(crate) reads: Vec<usize>,
    /// `S_l: (O_l, K)` of each of them.
    pub(crate) layers: Vec<Box<dyn Layer>>,
}

impl Head {
    /// A head that starts at zero, reading the layers from [`Network::first_read`] on.
    pub(crate) fn new(network: &Network) -> Self {
        let first = network.first_read();
        let reads: Vec<usize> = network.learners().filter(|&l| l >= first).collect();
        let widths = |l: usize| network.stages()[l].layer.outputs();
        Self::reading(reads, widths, network.classes(), network.recipe().engine.precision)
    }

    /// A head that starts at zero, reading these layers, of so many units each: `widths(l)` is `O_l`.
    pub(crate) fn reading(
        reads: Vec<usize>,
        widths: impl Fn(usize) -> usize,
        classes: usize,
        precision: Precision,
    ) -> Self {
        let layers = reads.iter().map(|&l| {
            let (inputs, outputs) = (widths(l), classes);
            let weights = vec![0.0; inputs * outputs];
            engine::dense(precision, Dense { inputs, outputs, activation: Activation::Linear, bias: false, weights })
        });
        Head { layers: layers.collect(), reads }
    }

    /// The layers that it reads, and what it reads of each: a layer of weights `S_l: (O_l, K)`.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &dyn Layer)> {
        self.reads.iter().copied().zip(self.layers.iter().map(|layer| &**layer))
    }

    /// How many numbers are learned.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters()).sum()
    }

    /// The part of the head that reads layer `l`, if it reads it.
    fn index(&self, l: usize) -> Option<usize> {
        self.reads.iter().position(|&read| read == l)
    }

    /// Adds what layer `l` says, `ŷ: (R, O)`, to `logits: (R, K)`. Returns whether the head reads that layer.
    pub(crate) fn add(&self, l: usize, y: &Inputs<'_>, answer: &mut Activity, logits: &mut [f32]) -> bool {
        let Some(layer) = self.index(l).map(|i| &self.layers[i]) else { return false };
        answer.resize(y.rows(), layer.outputs());
        layer.forward(y, answer);
        logits.iter_mut().zip(&answer.values).for_each(|(logit, part)| *logit += part);
        true
    }

    /// Learns from layer `l`: `ŷ: (R, O)`, `d: (R, K)` the target less the probabilities.
    pub(crate) fn update(&mut self, l: usize, y: &Inputs<'_>, d: &Directions, step: &Step) {
        if let Some(i) = self.index(l) {
            self.layers[i].update(y, d, step);
        }
    }
}

impl Head {
    /// Adds to `dx: (R, O)` what layer `l` would have to do for the logits to move along `d: (R, K)`.
    pub(crate) fn backward(&self, l: usize, d: &[f32], dx: &mut [f32]) {
        if let Some(i) = self.index(l) {
            self.layers[i].backward(d, dx);
        }
    }
}

/// Logits `(N, K)` of the neutral pass.
pub(crate) fn scores(network: &Network, batch: &Batch, buffers: &mut [Activity; 2]) -> Vec<f32> {
    let head = network.head().expect("predict() has looked for the head");
    let mut rows = Labelled::default();
    rows.fill(network, batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
    let mut answer = Activity::default();
    exit::scores(network, &rows.as_inputs(batch, None), 1, buffers, |l, stage, y, logits| {
        stage.normalization.apply(y);
        head.add(l, &y.as_inputs(), &mut answer, logits)
    })
}
