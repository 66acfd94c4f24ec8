//! What an epoch comes to: sums over its steps, and the report made of them.

use crate::network::Network;
use crate::rival;
use serde::{Deserialize, Serialize};

/// Sums over the steps of the current epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub samples: u64,
    pub head_loss: f64,
    #[serde(default)]
    pub estimates: rival::Estimates,
    pub layers: Vec<LayerTotals>,
}

/// What one layer adds to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerTotals {
    pub loss: f64,
    /// The goodness of positive samples; of layers that tell the label themselves, the score of the true one.
    pub positive: f64,
    /// The goodness of negative samples; of layers that tell the label themselves, the best score of a wrong one.
    pub negative: f64,
    /// Samples where the second was no worse than the first.
    pub wrong: u64,
    /// Rows that there was anything to learn from.
    pub active: u64,
    /// 1 for each unit that was on for some positive sample.
    pub alive: Vec<u8>,
}

impl LayerTotals {
    /// Adds what another replica of the layer has added up.
    pub fn add(&mut self, other: &LayerTotals) {
        let LayerTotals { loss, positive, negative, wrong, active, alive } = other;
        self.loss += loss;
        self.positive += positive;
        self.negative += negative;
        self.wrong += wrong;
        self.active += active;
        self.alive.iter_mut().zip(alive).for_each(|(own, alive)| *own |= alive);
    }
}

impl Totals {
    /// Nothing yet.
    pub fn none(network: &Network) -> Self {
        let widths = network.stages().iter().map(|stage| stage.layer.outputs());
        let layers = widths.map(|width| LayerTotals { alive: vec![0; width], ..Default::default() }).collect();
        Totals { layers, ..Default::default() }
    }

    /// Whether these are sums over the same layers.
    pub fn fits(&self, other: &Totals) -> bool {
        let same_layers = self.layers.len() == other.layers.len();
        same_layers && self.layers.iter().zip(&other.layers).all(|(a, b)| a.alive.len() == b.alive.len())
    }
}
