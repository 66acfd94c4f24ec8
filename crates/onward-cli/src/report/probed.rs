//! `probes.jsonl`: after each epoch, what every layer makes of a few samples that it does not learn from.

use anyhow::Result;
use onward::probe::LayerProbe;
use onward::{Dataset, Network};
use serde::{Deserialize, Serialize};

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// Epochs done.
    pub epoch: u32,
    /// How many samples were shown.
    pub samples: usize,
    /// Every layer, from the bottom.
    pub layers: Vec<Layer>,
}

/// What one layer made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The least goodness of any sample, where the first bin begins.
    pub low: f64,
    /// The most, where the last bin ends.
    pub high: f64,
    /// Positive samples by goodness, in bins of equal width.
    pub positive: Vec<u32>,
    /// Negative ones, made from them as training does it.
    pub negative: Vec<u32>,
    /// Wrong labels in per cent, where this layer's goodness alone decides among all labels; `None` where no label goes in.
    pub error: Option<f64>,
    /// Units that were off for every positive sample.
    pub silent_units: usize,
}

const BINS: usize = 25;

impl Probed {
    /// Probes `network` after `epoch` epochs.
    pub fn new(network: &Network, epoch: u32, samples: &Dataset) -> Result<Self> {
        let probe = network.probe(samples)?;
        let layers = probe.layers.iter().map(|layer| Layer::new(layer, samples.labels())).collect();
        Ok(Probed { epoch, samples: samples.len(), layers })
    }
}

impl Layer {
    fn new(probe: &LayerProbe, labels: &[u32]) -> Self {
        let all = || probe.positive.iter().chain(&probe.negative).map(|&g| f64::from(g));
        let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), g| (low.min(g), high.max(g)));
        // A black box has no goodness at all.
        let low = if low.is_finite() { low } else { 0.0 };
        let high = if high > low && high.is_finite() { high } else { low + 1.0 };
        let count = |goodness: &[f32]| {
            let mut counts = vec![0; BINS];
            for &g in goodness {
                let bin = (f64::from(g) - low) / (high - low) * BINS as f64;
                counts[(bin as usize).min(BINS - 1)] += 1;
            }
            counts
        };
        let wrong = probe.found.iter().zip(labels).filter(|(found, label)| found != label).count();
        Layer {
            low,
            high,
            positive: count(&probe.positive),
            negative: count(&probe.negative),
            error: (!probe.found.is_empty()).then(|| 100.0 * wrong as f64 / labels.len() as f64),
            silent_units: probe.alive.iter().filter(|alive| !**alive).count(),
        }
    }
}

/// Of the samples at hand, those to probe with: so few that it costs about a hundredth of an epoch.
pub fn few(train: &Dataset, validation: Option<&Dataset>) -> Dataset {
    let from = validation.unwrap_or(train);
    let affordable = train.len() / (30 * train.classes().len().max(1));
    from.slice(0..affordable.clamp(50, 500).min(from.len())).expect("there is a sample at least")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodness_is_counted_in_bins() {
        let probe = LayerProbe {
            positive: vec![4.0, 3.9, 2.0],
            negative: vec![0.0, 0.05, 4.0],
            found: vec![0, 1, 1],
            alive: vec![true, false, false],
        };
        let layer = Layer::new(&probe, &[0, 1, 0]);
        assert_eq!((layer.low, layer.high, layer.silent_units), (0.0, 4.0, 2));
        assert!((layer.error.unwrap() - 100.0 / 3.0).abs() < 1e-9);
        let filled = |counts: &[u32]| {
            counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (i, *n)).collect::<Vec<_>>()
        };
        assert_eq!(filled(&layer.positive), [(12, 1), (24, 2)]);
        assert_eq!(filled(&layer.negative), [(0, 2), (24, 1)]);

        let nothing = Layer::new(&LayerProbe::default(), &[]);
        assert_eq!((nothing.low, nothing.high, nothing.positive.iter().sum::<u32>()), (0.0, 1.0, 0));

        let same = LayerProbe { positive: vec![7.0], negative: vec![7.0], found: vec![0], alive: vec![] };
        let layer = Layer::new(&same, &[0]);
        assert_eq!((layer.low, layer.high, layer.positive[0], layer.negative[0]), (7.0, 8.0, 1, 1));
    }
}
