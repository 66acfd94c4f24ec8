//! What is wrong with a run, in sentences: judged from what it reports of itself.

mod watch;

pub use watch::Watch;

use crate::report::probed::Probed;
use crate::run_dir::Metrics;
use onward::events::LayerReport;
use onward::settings::ObjectiveSettings;
use onward::{Network, Readout, Recipe};

/// One thing that is wrong, and what helps.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub text: String,
    pub hint: &'static str,
}

/// What there is to know of the layers besides their reports.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Units in each.
    pub widths: Vec<usize>,
    /// Each one's threshold.
    pub thresholds: Vec<f64>,
    /// Whether positive samples should be above their thresholds: not where only differences count.
    by_threshold: bool,
    /// Whether positive samples should have the higher goodness.
    raise: bool,
}

impl Layers {
    /// The layers of a network.
    pub fn of(network: &Network) -> Self {
        let Recipe { goodness, objective, .. } = network.recipe();
        Layers {
            widths: network.stages().iter().map(|stage| stage.layer.outputs()).collect(),
            thresholds: network.stages().iter().map(|stage| f64::from(stage.measure.threshold)).collect(),
            by_threshold: *objective == ObjectiveSettings::Logistic,
            raise: goodness.raise.0 > 0.0,
        }
    }

    /// Goodness in words: in multiples of the threshold, where there is one.
    fn told(&self, layer: usize, goodness: f64) -> String {
        let threshold = self.thresholds[layer];
        if threshold > 0.0 { format!("{:.3} of its threshold", goodness / threshold) } else { format!("{goodness:.3}") }
    }
}

const LOWER: &str = "Lower optimizer.rate, to a third say.";
const REVIVE: &str = "Lower optimizer.rate, or raise peer.strength, which revives silent units.";

/// Of a layer's units, the share that may be dead.
const DEAD: f64 = 0.2;
/// Multiples of the threshold beyond which goodness has exploded or collapsed.
const EXPLODED: f64 = 100.0;
const COLLAPSED: f64 = 0.01;
/// The share of pairs in the wrong order from which on a layer tells nothing apart.
const BLIND: f64 = 0.45;
/// By what share positive and negative samples may both be on one side of the threshold: the mean of an epoch has its beginning in it.
const BESIDE: f64 = 0.02;

/// What is wrong with a layer at one moment. `dead`: the share of its units that may be.
fn unhealthy(layers: &Layers, report: &LayerReport, dead: f64) -> Option<Finding> {
    let LayerReport { layer, goodness_positive, goodness_negative, dead_units, loss, .. } = *report;
    let (threshold, width) = (layers.thresholds[layer], layers.widths[layer]);
    if !report.weight_rms.is_finite() {
        let text = format!("layer {layer} has NaN or infinity among its weights: training has diverged.");
        return Some(Finding { text, hint: LOWER });
    }
    if loss == 0.0 && goodness_positive == 0.0 && goodness_negative == 0.0 {
        return None; // every sample rested
    }
    let most = goodness_positive.max(goodness_negative);
    if !loss.is_finite() || !most.is_finite() {
        let text = format!("layer {layer} computes NaN or infinity: training has diverged.");
        return Some(Finding { text, hint: LOWER });
    }
    if threshold > 0.0 && most > EXPLODED * threshold {
        let text = format!("layer {layer} explodes: its goodness is {}.", layers.told(layer, most));
        return Some(Finding { text, hint: LOWER });
    }
    if threshold > 0.0 && layers.raise && most < COLLAPSED * threshold {
        let text = format!("layer {layer} has collapsed: its goodness is {}.", layers.told(layer, most));
        return Some(Finding { text, hint: REVIVE });
    }
    if dead_units as f64 > dead * width as f64 {
        let share = 100.0 * dead_units as f64 / width as f64;
        let text = format!(
            "layer {layer} has {dead_units} dead units of {width} ({share:.0} %): off for every positive sample."
        );
        return Some(Finding { text, hint: REVIVE });
    }
    None
}

/// Everything that is wrong with a run, the gravest first. `classes`: `K`.
pub fn examine(layers: &Layers, classes: usize, metrics: &[Metrics], probes: &[Probed]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if metrics.is_empty() {
        return findings;
    }
    let mut well = vec![true; layers.widths.len()];
    for (layer, well) in well.iter_mut().enumerate() {
        let before = findings.len();
        let reports: Vec<(u32, &LayerReport)> = metrics
            .iter()
            .flat_map(|metrics| metrics.epoch.layers.iter().map(move |report| (metrics.epoch.epoch, report)))
            .filter(|(_, report)| report.layer == layer && (report.loss != 0.0 || report.goodness_positive != 0.0))
            .collect();
        examine_layer(layers, layer, &reports, &mut findings);
        *well = findings.len() == before;
    }
    examine_alone(classes, probes, &well, &mut findings);
    examine_loss(metrics, &mut findings);
    for readout in [Readout::EveryLabel, Readout::OnePass, Readout::ClassScores] {
        let errors = metrics.iter().filter_map(|metrics| {
            Some((metrics.epoch.epoch, *metrics.validation_error.get(&readout)?)).filter(|(_, error)| error.is_finite())
        });
        // Where the learning rate ends near zero, the error falls at the end as it should.
        let annealed = metrics.last().is_some_and(|last| last.epoch.gain < 0.5);
        examine_errors(readout, classes, &errors.collect::<Vec<_>>(), annealed, &mut findings);
    }
    findings
}

fn examine_layer(layers: &Layers, layer: usize, reports: &[(u32, &LayerReport)], findings: &mut Vec<Finding>) {
    let (Some((_, first)), Some((epoch, last))) = (reports.first(), reports.last()) else { return };
    // The end of a run decides; what went wrong on the way and healed is past.
    if let Some(Finding { text, hint }) = unhealthy(layers, last, DEAD) {
        findings.push(Finding { text: format!("epoch {epoch}: {text}"), hint });
        return; // what else is odd with it comes from this
    }
    let wrong = 100.0 * last.wrong_order;
    if last.wrong_order > BLIND {
        findings.push(Finding {
            text: format!("epoch {epoch}: layer {layer} does not tell positive from negative: {wrong:.0} % of its pairs are in the wrong order, 50 % is chance."),
            hint: "Raise optimizer.rate or train longer; if the loss jumps about, lower it instead.",
        });
    } else if reports.len() > 2 && last.wrong_order > 0.9 * first.wrong_order && last.wrong_order > 0.2 {
        findings.push(Finding {
            text: format!(
                "layer {layer} has learned next to nothing since its first epoch: {:.0} % of its pairs were in the wrong order then, {wrong:.0} % in epoch {epoch}.",
                100.0 * first.wrong_order
            ),
            hint: "Raise optimizer.rate, or lower it if the loss jumps about.",
        });
    }
    let threshold = layers.thresholds[layer];
    let (high, low) = match layers.raise {
        true => (last.goodness_positive, last.goodness_negative),
        false => (last.goodness_negative, last.goodness_positive),
    };
    let (below, above) = (high < threshold * (1.0 - BESIDE), low > threshold * (1.0 + BESIDE));
    if layers.by_threshold && last.wrong_order <= BLIND && (below || above) {
        let side = if below { "below" } else { "above" };
        findings.push(Finding {
            text: format!(
                "epoch {epoch}: layer {layer} has both positive and negative samples {side} its threshold on average ({}, {}).",
                layers.told(layer, last.goodness_positive),
                layers.told(layer, last.goodness_negative)
            ),
            hint: "Train longer, or move goodness.threshold to where they are.",
        });
    }
    if first.weight_rms > 0.0 && last.weight_rms > 10.0 * first.weight_rms {
        let times = last.weight_rms / first.weight_rms;
        findings.push(Finding {
            text: format!("layer {layer}'s weights have grown {times:.0} times since its first epoch."),
            hint: "Lower optimizer.rate, or raise optimizer.weight_cost.",
        });
    }
}

/// Layers that, alone, say nothing of the label, though nothing else is wrong with them.
fn examine_alone(classes: usize, probes: &[Probed], well: &[bool], findings: &mut Vec<Finding>) {
    let Some(last) = probes.last() else { return };
    for (l, layer) in last.layers.iter().enumerate() {
        if let Some(error) = layer.error
            && guesses(error, classes)
            && well.get(l).is_none_or(|well| *well)
        {
            findings.push(Finding {
                text: format!("epoch {}: layer {l} alone finds the label no better than chance ({error:.0} % wrong of {} samples).", last.epoch, last.samples),
                hint: "With negatives.kind \"hard\" this is usual early on: train longer, or use \"uniform\".",
            });
        }
    }
}

fn examine_loss(metrics: &[Metrics], findings: &mut Vec<Finding>) {
    let losses: Vec<f64> = metrics.iter().map(|metrics| metrics.epoch.loss).collect();
    let jumps = losses.windows(2).filter(|pair| pair[1] > 1.3 * pair[0] && pair[0] > 0.0).count();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    if losses.len() > 2 && (last > 1.5 * first || jumps * 3 > losses.len()) {
        findings.push(Finding {
            text: format!(
                "the loss does not settle: {first:.3} after the first epoch, {last:.3} after the last, and it rose by a third or more {jumps} times."
            ),
            hint: LOWER,
        });
    }
}

fn examine_errors(
    readout: Readout,
    classes: usize,
    errors: &[(u32, f64)],
    annealed: bool,
    findings: &mut Vec<Finding>,
) {
    let Some(&(epoch, last)) = errors.last() else { return };
    let Some(&(best_epoch, best)) = errors.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { return };
    if guesses(last, classes) {
        findings.push(Finding {
            text: format!("epoch {epoch}: {}", at_chance(readout, classes, last)),
            hint: match findings.is_empty() {
                true => "Train longer; check that the labels belong to their samples.",
                false => "This may come from the above; if not, train longer.",
            },
        });
    } else if rises(errors) {
        findings.push(Finding {
            text: format!(
                "the {readout} validation error rises: {best:.2} % in epoch {best_epoch}, {last:.2} % in epoch {epoch}."
            ),
            hint: "checkpoint/best.safetensors has the best epoch; train for fewer epochs, or with augment.shift or augment.mask.",
        });
    } else if let [.., (_, before), (_, _), (_, end)] = errors
        && errors.len() >= 5
        && !annealed
        && *end < 0.8 * before
        && end == &best
        && *end > 1.0
    {
        findings.push(Finding {
            text: format!("the {readout} validation error was still falling fast at the end: {before:.2} % two epochs before, {end:.2} % in epoch {epoch}."),
            hint: "Train for more epochs, or raise optimizer.rate.",
        });
    }
}

/// Whether the latest errors are higher than earlier ones: medians of three in a row, for single epochs go up and down.
fn rises(errors: &[(u32, f64)]) -> bool {
    let median = |three: &[(u32, f64)]| {
        let (a, b, c) = (three[0].1, three[1].1, three[2].1);
        a.min(b).max(a.max(b).min(c))
    };
    let medians: Vec<f64> = errors.windows(3).map(median).collect();
    let best = medians.iter().copied().fold(f64::INFINITY, f64::min);
    medians.last().is_some_and(|last| *last > 1.2 * best && *last > best + 0.5)
}

/// Whether an error in per cent is no better than that of guessing.
fn guesses(error: f64, classes: usize) -> bool {
    error > 0.9 * chance(classes)
}

/// A readout whose error is no better than that of guessing.
fn at_chance(readout: Readout, classes: usize, error: f64) -> String {
    format!(
        "the {readout} readout is no better than chance: {error:.1} % wrong, where guessing among {classes} classes has {:.1} %.",
        chance(classes)
    )
}

/// The error of guessing, in per cent.
fn chance(classes: usize) -> f64 {
    100.0 * (1.0 - 1.0 / classes.max(1) as f64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use onward::events::EpochReport;
    use std::collections::BTreeMap;

    pub fn layers() -> Layers {
        Layers { widths: vec![10, 20], thresholds: vec![10.0, 20.0], by_threshold: true, raise: true }
    }

    fn well(layer: usize) -> LayerReport {
        let threshold = [10.0, 20.0][layer];
        LayerReport {
            layer,
            loss: 0.5,
            goodness_positive: 1.2 * threshold,
            goodness_negative: 0.8 * threshold,
            wrong_order: 0.05,
            active_rows: 0.3,
            dead_units: 0,
            weight_rms: 0.1,
        }
    }

    pub fn epochs(n: u32, change: impl Fn(u32, &mut Metrics)) -> Vec<Metrics> {
        let epoch = |n: u32| {
            let layers = vec![well(0), well(1)];
            let epoch = EpochReport {
                epoch: n,
                step: 100 * u64::from(n),
                loss: 1.0,
                head_loss: None,
                estimate_variance: None,
                gain: 1.0,
                layers,
            };
            let validation_error = BTreeMap::from([(Readout::EveryLabel, 3.0)]);
            let mut metrics = Metrics { epoch, seconds: 1.0, validation_error };
            change(n, &mut metrics);
            metrics
        };
        (1..=n).map(epoch).collect()
    }

    /// The findings on a run of five epochs that is well but for a change.
    fn found(change: impl Fn(u32, &mut Metrics)) -> Vec<String> {
        examine(&layers(), 10, &epochs(5, change), &[]).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_run_that_is_well_has_no_findings() {
        assert!(found(|_, _| ()).is_empty());
        // Just above the threshold, which is 10.
        assert!(found(|_, metrics| metrics.epoch.layers[0].goodness_negative = 10.1).is_empty());
        // Where every sample rests, an epoch says nothing.
        let rested = |n: u32, metrics: &mut Metrics| {
            if n == 5 {
                for layer in &mut metrics.epoch.layers {
                    (layer.loss, layer.goodness_positive, layer.goodness_negative, layer.dead_units) =
                        (0.0, 0.0, 0.0, 10);
                }
            }
        };
        assert_eq!(found(rested), [] as [&str; 0]);
    }

    #[test]
    fn every_illness_is_named_with_its_layer_and_epoch() {
        type Change = fn(u32, &mut Metrics);
        let cases: [(Change, &str); 13] = [
            (
                |_, m| m.epoch.layers[1].dead_units = 5,
                "epoch 5: layer 1 has 5 dead units of 20 (25 %): off for every positive sample.",
            ),
            (
                |_, m| m.epoch.layers[0].goodness_positive = 2e3,
                "epoch 5: layer 0 explodes: its goodness is 200.000 of its threshold.",
            ),
            (
                |_, m| (m.epoch.layers[0].goodness_positive, m.epoch.layers[0].goodness_negative) = (0.05, 0.01),
                "epoch 5: layer 0 has collapsed: its goodness is 0.005 of its threshold.",
            ),
            (
                |_, m| m.epoch.layers[1].loss = f64::NAN,
                "epoch 5: layer 1 computes NaN or infinity: training has diverged.",
            ),
            (
                |_, m| m.epoch.layers[0].weight_rms = f32::INFINITY,
                "epoch 5: layer 0 has NaN or infinity among its weights: training has diverged.",
            ),
            (
                |_, m| m.epoch.layers[1].wrong_order = 0.5,
                "epoch 5: layer 1 does not tell positive from negative: 50 % of its pairs are in the wrong order, 50 % is chance.",
            ),
            (
                |_, m| m.epoch.layers[0].wrong_order = 0.3,
                "layer 0 has learned next to nothing since its first epoch: 30 % of its pairs were in the wrong order then, 30 % in epoch 5.",
            ),
            (
                |_, m| m.epoch.layers[0].goodness_negative = 11.0,
                "epoch 5: layer 0 has both positive and negative samples above its threshold on average (1.200 of its threshold, 1.100 of its threshold).",
            ),
            (
                |n, m| m.epoch.layers[0].weight_rms = 0.1 * (4 * n) as f32 * (n > 1) as u8 as f32 + 0.1,
                "layer 0's weights have grown 21 times since its first epoch.",
            ),
            (
                |n, m| m.epoch.loss = [1.0, 2.0, 1.0, 2.0, 1.0][n as usize - 1],
                "the loss does not settle: 1.000 after the first epoch, 1.000 after the last, and it rose by a third or more 2 times.",
            ),
            (
                |_, m| m.validation_error = BTreeMap::from([(Readout::EveryLabel, 89.0)]),
                "epoch 5: the every-label readout is no better than chance: 89.0 % wrong, where guessing among 10 classes has 90.0 %.",
            ),
            (
                |n, m| m.validation_error = BTreeMap::from([(Readout::OnePass, 2.0 + f64::from(n))]),
                "the one-pass validation error rises: 3.00 % in epoch 1, 7.00 % in epoch 5.",
            ),
            (
                |n, m| m.validation_error = BTreeMap::from([(Readout::OnePass, 20.0 / f64::from(n))]),
                "the one-pass validation error was still falling fast at the end: 6.67 % two epochs before, 4.00 % in epoch 5.",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(found(change), [expected]);
        }
    }

    #[test]
    fn an_error_that_goes_up_and_down_does_not_rise() {
        let at = |errors: &[f64]| rises(&errors.iter().map(|error| (0, *error)).collect::<Vec<_>>());
        assert!(!at(&[3.0, 2.9, 2.3, 3.1, 3.0, 4.5]));
        assert!(!at(&[3.0, 4.0]));
        assert!(at(&[3.0, 2.9, 2.8, 3.1, 3.5, 3.0, 3.6]));
        assert!(!at(&[40.0, 40.2, 40.1, 41.0, 41.0]), "less than a fifth");
    }

    #[test]
    fn layers_alone_are_compared_with_chance() {
        let layer = |error| crate::report::probed::Layer {
            low: 0.0,
            high: 1.0,
            positive: vec![],
            negative: vec![],
            error,
            silent_units: 0,
        };
        let probed = Probed { epoch: 2, samples: 50, layers: vec![layer(Some(10.0)), layer(Some(88.0)), layer(None)] };
        let findings = examine(&layers(), 10, &epochs(2, |_, _| ()), &[probed]);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].text,
            "epoch 2: layer 1 alone finds the label no better than chance (88 % wrong of 50 samples)."
        );
    }
}
