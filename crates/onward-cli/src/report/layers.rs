//! What happens in each layer, epoch by epoch.

use super::figure::{Bins, Ink, Lines, Series, histograms};
use super::html;
use super::probed::Probed;
use crate::progress::thresholds;
use crate::run_dir::Metrics;
use onward::Network;
use onward::events::LayerReport;
use std::fmt::Write;

/// Epochs that the slider goes through at most; fewer where layers are many, so that the page can be opened.
const FRAMES: usize = 24;
/// Histograms in all, unless even the first epoch and the last one have more.
const HISTOGRAMS: usize = 1_200;

/// Every section on layers.
pub fn sections(network: &Network, metrics: &[Metrics], probes: &[Probed], which: &str) -> String {
    let units = thresholds(network);
    let mut html = goodness(&units, metrics);
    html.push_str(&slider(&units, probes, which));
    html.push_str(&health(network, metrics, probes));
    html
}

/// A layer's value over the epochs in which it learned.
fn curve(metrics: &[Metrics], layer: usize, value: impl Fn(&LayerReport) -> f64) -> Vec<(f64, f64)> {
    let reports = |metrics: &'_ Metrics| {
        let report = metrics.epoch.layers.iter().find(|report| report.layer == layer)?;
        Some((f64::from(metrics.epoch.epoch), value(report)))
    };
    metrics.iter().filter_map(reports).collect()
}

/// One line a layer.
fn by_layer(depth: usize, points: impl Fn(usize) -> Vec<(f64, f64)>) -> Vec<Series> {
    (0..depth).map(|l| Series { name: format!("layer {l}"), ink: Ink::Nth(l), points: points(l) }).collect()
}

fn goodness(units: &[f64], metrics: &[Metrics]) -> String {
    let figures: Vec<String> = units
        .iter()
        .enumerate()
        .map(|(l, unit)| {
            let positive = curve(metrics, l, |report| report.goodness_positive / unit);
            let ends = positive.first().into_iter().chain(positive.last());
            let level = ends.map(|(epoch, _)| (*epoch, 1.0)).collect();
            let series = vec![
                Series { name: "positive".into(), ink: Ink::Positive, points: positive },
                Series {
                    name: "negative".into(),
                    ink: Ink::Negative,
                    points: curve(metrics, l, |report| report.goodness_negative / unit),
                },
                Series { name: "threshold".into(), ink: Ink::Level, points: level },
            ];
            Lines { title: &format!("Layer {l}"), unit: "goodness / threshold, by epoch", series }.html()
        })
        .collect();
    html::section(
        "Goodness of positives and negatives",
        "What each layer learns to tell apart: the mean goodness of positive and of negative samples, while training. The further apart, the surer the layer.",
        &html::side_by_side(&figures),
    )
}

/// Histograms of goodness, an epoch at a time.
fn slider(units: &[f64], probes: &[Probed], which: &str) -> String {
    let Some(last) = probes.last() else { return String::new() };
    let chosen = super::thinned(probes, (HISTOGRAMS / units.len().max(1)).clamp(2, FRAMES));
    let shown = chosen.len();
    // The axis is the same for all epochs, so that the drift is seen.
    let range = |l: usize| {
        let layers = chosen.iter().filter_map(|probed| probed.layers.get(l));
        let (low, high) = layers
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), layer| (low.min(layer.low), high.max(layer.high)));
        (low / units[l], high / units[l])
    };
    let ranges: Vec<_> = (0..units.len()).map(range).collect();
    let mut body = format!(
        "<div class=\"slider\"><input type=\"range\" min=\"0\" max=\"{0}\" value=\"{0}\" step=\"1\" \
         aria-label=\"epoch\"><output>epoch {1}</output></div>\n",
        shown - 1,
        last.epoch
    );
    for (i, probed) in chosen.iter().enumerate() {
        let figures: Vec<String> = probed
            .layers
            .iter()
            .zip(units)
            .enumerate()
            .map(|(l, (layer, unit))| {
                let (low, high) = (layer.low / unit, layer.high / unit);
                let bins = |name, ink, counts| Bins { name, ink, low, high, counts };
                let all = [
                    bins("negative", Ink::Negative, &layer.negative),
                    bins("positive", Ink::Positive, &layer.positive),
                ];
                histograms(
                    &format!("Layer {l}, epoch {}", probed.epoch),
                    "goodness / threshold",
                    &all,
                    ranges[l],
                    Some(1.0),
                )
            })
            .collect();
        let hidden = if i + 1 < shown { " hidden" } else { "" };
        let _ = writeln!(
            body,
            "<div class=\"frame\" data-name=\"epoch {}\"{hidden}>{}</div>",
            probed.epoch,
            html::side_by_side(&figures)
        );
    }
    let about = format!(
        "How the goodness of {} {which} samples spreads, and that of negatives made from them as training does it now. \
         Move the slider to see it drift apart{}; the dashed line is the threshold.",
        last.samples,
        super::of_all(shown, probes.len())
    );
    html::section("The same, sample by sample", &about, &body)
}

fn health(network: &Network, metrics: &[Metrics], probes: &[Probed]) -> String {
    let depth = network.depth();
    let widths: Vec<f64> = network.stages().iter().map(|stage| stage.layer.outputs() as f64).collect();
    let alone = |l: usize| {
        let points = probes.iter().filter_map(|probed| Some((f64::from(probed.epoch), probed.layers.get(l)?.error?)));
        points.collect()
    };
    let figures = [
        Lines {
            title: "Pairs in the wrong order",
            unit: "%, by epoch",
            series: by_layer(depth, |l| curve(metrics, l, |report| 100.0 * report.wrong_order)),
        }
        .html(),
        Lines { title: "Error of each layer alone", unit: "%, by epoch", series: by_layer(depth, alone) }.html(),
        Lines {
            title: "Dead units",
            unit: "% of the layer, by epoch",
            series: by_layer(depth, |l| curve(metrics, l, |report| 100.0 * report.dead_units as f64 / widths[l])),
        }
        .html(),
        Lines {
            title: "Rows with anything to learn from",
            unit: "%, by epoch",
            series: by_layer(depth, |l| curve(metrics, l, |report| 100.0 * report.active_rows)),
        }
        .html(),
        Lines {
            title: "Weights",
            unit: "root mean square, by epoch",
            series: by_layer(depth, |l| curve(metrics, l, |report| f64::from(report.weight_rms))),
        }
        .html(),
    ];
    html::section(
        "How each layer does",
        "A pair is in the wrong order where the negative had the better goodness. A layer alone takes the label with the \
         most goodness in that layer, of all labels tried. Dead units were off for every positive sample of the epoch. Rows \
         that a layer is sure of teach it nothing any more.",
        &html::side_by_side(&figures),
    )
}
