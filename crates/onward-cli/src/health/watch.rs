//! What goes wrong with a run while it trains: each illness is warned of once, with layer and step.

use super::{BLIND, COLLAPSED, EXPLODED, Finding, LOWER, Layers, at_chance, guesses, unhealthy};
use crate::run_dir::Metrics;
use onward::activity::LayerActivity;
use onward::events::EpochReport;
use onward::settings::Rule;
use onward::{Dataset, Network, Readout, Result, Trainer};
use std::collections::BTreeSet;

const AT_CHANCE: &str = "If it does not improve, raise optimizer.rate or head.rate, or lower them if the loss jumps \
                         about; check that the labels belong to their samples.";

/// Watches a run, and warns once of each illness of each layer, of the head and of each readout.
#[derive(Debug)]
pub struct Watch {
    layers: Layers,
    /// Layers that were warned of.
    warned: Vec<bool>,
    /// Readouts that were warned of; the head among them, while there is nothing but its loss to judge it by.
    readouts: BTreeSet<Readout>,
    /// `K`.
    classes: usize,
    /// The epoch at the last look, and the head's summed loss over so many of its samples by then.
    head: (u32, f64, u64),
    /// Samples whose loss was in an earlier window.
    passed: u64,
}

impl Watch {
    /// Steps between two looks.
    pub const STEPS: u64 = 100;
    /// Samples that layers are shown where their rule tells nothing of them.
    pub const SHOWN: usize = 100;
    /// So many samples of an epoch must have been seen before a unit may be called dead.
    const SEEN: u64 = 1_000;
    /// So many samples before a window in which a head may be called no better than chance.
    const LEARNED: u64 = 5_000;
    /// The share of the loss of guessing that a head must get below.
    const GUESSING: f64 = 0.98;

    /// Watches a network in training.
    pub fn new(network: &Network) -> Self {
        let layers = Layers::of(network);
        Watch {
            warned: vec![false; layers.widths.len()],
            layers,
            readouts: BTreeSet::new(),
            classes: network.classes(),
            head: (0, 0.0, 0),
            passed: 0,
        }
    }

    /// What is newly wrong in an epoch of which `samples` have been seen so far.
    pub fn look(&mut self, so_far: &EpochReport, samples: u64) -> Vec<Finding> {
        let mut findings = Vec::new();
        if samples < Self::SEEN {
            return findings;
        }
        for report in &so_far.layers {
            // Every layer tells nothing apart at first.
            let blind = so_far.epoch > 1 && report.wrong_order > BLIND;
            let blind = blind.then(|| Finding {
                text: format!(
                    "layer {} does not tell positive from negative: {:.0} % of its pairs are in the wrong order, 50 % is chance.",
                    report.layer,
                    100.0 * report.wrong_order
                ),
                hint: "Raise optimizer.rate or train longer; if the loss jumps about, lower it instead.",
            });
            if let Some(finding) = unhealthy(&self.layers, report, 0.5).or(blind) {
                self.warn(report.layer, so_far.step, finding, &mut findings);
            }
        }
        findings.extend(self.look_at_head(so_far, samples));
        findings
    }

    /// The same of layers that learn by no goodness of their own: judged by what they make of some samples.
    ///
    /// # Errors
    /// Where the samples do not fit the network.
    pub fn look_at(&mut self, trainer: &Trainer, samples: &Dataset) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if matches!(trainer.recipe().rule, Rule::Backprop | Rule::Perturbation) {
            let activities = trainer.network().activity(samples)?;
            for (layer, activity) in activities.iter().enumerate() {
                if let Some(finding) = self.inactive(layer, activity, samples.len()) {
                    self.warn(layer, trainer.position().step, finding, &mut findings);
                }
            }
        }
        Ok(findings)
    }

    /// What is wrong with a layer that has no goodness.
    fn inactive(&self, layer: usize, activity: &LayerActivity, samples: usize) -> Option<Finding> {
        let (width, &LayerActivity { mean_square, silent_units }) = (self.layers.widths[layer], activity);
        if 2 * silent_units > width {
            let share = 100.0 * silent_units as f64 / width as f64;
            let text = format!(
                "layer {layer} has {silent_units} silent units of {width} ({share:.0} %): off for each of {samples} samples."
            );
            return Some(Finding { text, hint: "Lower optimizer.rate: what is always off learns nothing." });
        }
        // In multiples of 1, which is what a layer's goodness per unit is held against elsewhere.
        let (what, hint) = match mean_square {
            square if square.is_nan() || square >= EXPLODED * EXPLODED => ("explodes", LOWER),
            square if square < COLLAPSED * COLLAPSED => {
                ("has collapsed", "Lower optimizer.rate, or optimizer.weight_cost.")
            }
            _ => return None,
        };
        Some(Finding { text: format!("layer {layer} {what}: its mean square activity is {mean_square:.3e}."), hint })
    }

    /// Whether the head is no better than chance over the samples since it was last judged.
    fn look_at_head(&mut self, so_far: &EpochReport, samples: u64) -> Option<Finding> {
        let sum = so_far.head_loss? * samples as f64;
        let (epoch, before, seen) = self.head;
        // What an epoch ended with after the last look is left out.
        let (before, seen) = if epoch == so_far.epoch { (before, seen) } else { (0.0, 0) };
        let window = samples.saturating_sub(seen);
        if window < Self::SEEN {
            return None;
        }
        self.head = (so_far.epoch, sum, samples);
        let late = self.passed >= Self::LEARNED;
        self.passed += window;
        let (loss, guessing) = ((sum - before) / window as f64, (self.classes as f64).ln());
        let said = match loss {
            loss if loss > 10.0 * guessing => "explodes",
            loss if late && loss > Self::GUESSING * guessing => "is no better than that of guessing",
            _ => return None,
        };
        let text = format!(
            "step {}: the softmax head's loss {said}: {loss:.3} nats over the last {window} samples, where guessing among {} classes has {guessing:.3}.",
            so_far.step, self.classes
        );
        self.readouts.insert(Readout::OnePass).then_some(Finding { text, hint: AT_CHANCE })
    }

    /// What an epoch's end shows: readouts that are no better than chance on validation samples.
    pub fn judge(&mut self, metrics: &Metrics) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (&readout, &error) in &metrics.validation_error {
            if metrics.epoch.epoch > 1 && guesses(error, self.classes) && self.readouts.insert(readout) {
                let (epoch, step) = (metrics.epoch.epoch, metrics.epoch.step);
                let text = format!("epoch {epoch}, step {step}: {}", at_chance(readout, self.classes, error));
                findings.push(Finding { text, hint: AT_CHANCE });
            }
        }
        findings
    }

    fn warn(&mut self, layer: usize, step: u64, Finding { text, hint }: Finding, findings: &mut Vec<Finding>) {
        if !std::mem::replace(&mut self.warned[layer], true) {
            findings.push(Finding { text: format!("step {step}: {text}"), hint });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{epochs, layers};
    use super::*;
    use std::collections::BTreeMap;

    fn watch() -> Watch {
        let (readouts, head, passed) = Default::default();
        Watch { layers: layers(), warned: vec![false; 2], readouts, classes: 10, head, passed }
    }

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_watch_warns_once_of_each_layer_and_not_too_early() {
        let mut watch = watch();
        let mut epoch = epochs(1, |_, _| ()).remove(0).epoch;
        assert!(watch.look(&epoch, 5_000).is_empty());
        epoch.layers[1].dead_units = 15;
        assert!(watch.look(&epoch, 900).is_empty(), "few samples turn few units on");
        let expected = "step 100: layer 1 has 15 dead units of 20 (75 %): off for every positive sample.";
        assert_eq!(texts(watch.look(&epoch, 1_000)), [expected]);
        assert!(watch.look(&epoch, 2_000).is_empty());
        epoch.layers[0].goodness_negative = 1e9;
        assert_eq!(watch.look(&epoch, 2_000).len(), 1);
    }

    #[test]
    fn a_layer_that_tells_nothing_apart_is_named_from_the_second_epoch_on() {
        let mut watch = watch();
        let mut epochs = epochs(2, |_, m| m.epoch.layers[1].wrong_order = 0.49);
        assert!(watch.look(&epochs[0].epoch, 5_000).is_empty());
        let expected = "step 200: layer 1 does not tell positive from negative: 49 % of its pairs are in the wrong order, 50 % is chance.";
        assert_eq!(texts(watch.look(&epochs[1].epoch, 5_000)), [expected]);
        epochs[1].epoch.layers[0].wrong_order = 0.44;
        assert!(watch.look(&epochs[1].epoch, 5_000).is_empty());
    }

    #[test]
    fn a_head_is_judged_by_its_loss_since_the_last_look() {
        let mut watch = watch();
        let mut epoch = epochs(1, |_, _| ()).remove(0).epoch;
        let mut at = |number: u32, head_loss: f64, samples: u64| {
            (epoch.epoch, epoch.head_loss) = (number, Some(head_loss));
            texts(watch.look(&epoch, samples))
        };
        assert!(at(1, 5.3, 4_000).is_empty(), "at first every head guesses, or worse");
        // 4,000 samples at 5.3, 2,000 at 0.8: the last ones count.
        assert!(at(1, (4.0 * 5.3 + 2.0 * 0.8) / 6.0, 6_000).is_empty());
        assert!(at(2, 2.3, 900).is_empty(), "too few samples to tell");
        assert_eq!(
            at(2, 2.3, 2_000),
            [
                "step 100: the softmax head's loss is no better than that of guessing: 2.300 nats over the last 2000 samples, where guessing among 10 classes has 2.303."
            ]
        );
        assert!(at(2, 2.3, 9_000).is_empty(), "once is enough");
    }

    #[test]
    fn how_a_head_began_is_no_reason_to_warn() {
        let mut epoch = epochs(1, |_, _| ()).remove(0).epoch;
        epoch.head_loss = Some(5.3);
        let mut watch = watch();
        assert!(watch.look(&epoch, 10_000).is_empty(), "wide networks begin far above guessing");
        assert!(texts(watch.look(&epoch, 20_000))[0].contains("is no better than that of guessing"));
    }

    #[test]
    fn a_head_that_explodes_is_named_at_once() {
        let mut epoch = epochs(1, |_, _| ()).remove(0).epoch;
        epoch.head_loss = Some(24.0);
        let found = texts(watch().look(&epoch, 1_000));
        assert!(found[0].starts_with("step 100: the softmax head's loss explodes: 24.000 nats"), "{found:?}");
    }

    #[test]
    fn readouts_are_compared_with_chance_from_the_second_epoch_on() {
        let mut watch = watch();
        let all = epochs(3, |_, m| {
            m.validation_error = BTreeMap::from([(Readout::EveryLabel, 88.0), (Readout::OnePass, 40.0)]);
        });
        assert!(watch.judge(&all[0]).is_empty());
        let expected = "epoch 2, step 200: the every-label readout is no better than chance: 88.0 % wrong, where guessing among 10 classes has 90.0 %.";
        assert_eq!(texts(watch.judge(&all[1])), [expected]);
        assert!(watch.judge(&all[2]).is_empty(), "once is enough");
    }

    #[test]
    fn layers_without_goodness_are_judged_by_their_activity() {
        let watch = watch();
        let told = |mean_square, silent_units| {
            watch.inactive(1, &LayerActivity { mean_square, silent_units }, 100).map(|finding| finding.text)
        };
        assert_eq!(told(1.0, 10), None);
        assert_eq!(told(1.0, 11).unwrap(), "layer 1 has 11 silent units of 20 (55 %): off for each of 100 samples.");
        assert_eq!(told(2e4, 0).unwrap(), "layer 1 explodes: its mean square activity is 2.000e4.");
        assert_eq!(told(f64::NAN, 0).unwrap(), "layer 1 explodes: its mean square activity is NaN.");
        assert_eq!(told(1e-5, 0).unwrap(), "layer 1 has collapsed: its mean square activity is 1.000e-5.");
    }
}
