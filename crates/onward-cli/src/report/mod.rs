//! `report.html`: a run as one page that opens off line.

pub mod compare;
mod figure;
pub mod html;
mod image;
mod layers;
pub mod mistakes;
pub mod probed;
pub mod stats;

use crate::experiment::Experiment;
use crate::health::{Finding, Layers, examine};
use crate::progress::{grouped, shortened};
use crate::run_dir::{Metrics, Summary};
use crate::settings::{SETTINGS, lookup};
use figure::{Ink, Lines, Series};
use html::escape;
use indicatif::{DecimalBytes, HumanDuration};
use mistakes::Judged;
use onward::settings::{LabelPlace, LayerSettings};
use onward::{Dataset, Network, Readout};
use probed::Probed;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

/// Everything that a page shows.
#[derive(Debug)]
pub struct Report<'a> {
    pub experiment: &'a Experiment,
    /// The run directory, as its users call it.
    pub path: &'a str,
    pub status: Status,
    pub metrics: &'a [Metrics],
    pub probes: &'a [Probed],
    /// What the probes were made with: `validation` or `training`.
    pub probed_on: &'static str,
    pub network: &'a Network,
    pub train: &'a Dataset,
    /// What the readouts made of these samples, and which samples they are.
    pub judged: Option<(&'static str, &'a Dataset, &'a [Judged])>,
    pub summary: Option<&'a Summary>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Some process trains it now: epochs in all, and the memory that it has, where that is known.
    Training { epochs: u32, memory: Option<u64> },
    /// Stopped before its end.
    Stopped,
    /// Done.
    Finished,
}

impl Report<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let Experiment { name, about, data, recipe, .. } = self.experiment;
        let seed = recipe.seed.0;
        let epochs = self.metrics.last().map_or(0, |last| last.epoch.epoch);
        let status = match self.status {
            Status::Training { epochs: all, .. } => {
                format!("In training: {epochs} of {all} epochs. Load this page again to see more.")
            }
            Status::Stopped => {
                format!("Stopped after {epochs} epochs. Go on with: onward train --resume {}", self.path)
            }
            Status::Finished => format!("Finished after {epochs} epochs."),
        };
        let mut body = format!(
            "<h1>{}, seed {seed}</h1>\n<p>{}</p>\n<p class=\"soft\">{} Data: {}. {}</p>\n",
            escape(name),
            escape(about),
            escape(&status),
            escape(&data.source),
            escape(self.path)
        );
        body.push_str(&self.tiles());
        body.push_str(&self.findings());
        body.push_str(&self.curves());
        body.push_str(&layers::sections(self.network, self.metrics, self.probes, self.probed_on));
        body.push_str(&self.fields());
        body.push_str(&self.pairs());
        if let Some((which, data, judged)) = &self.judged {
            body.push_str(&mistakes::section(self.network, data, which, judged));
        }
        body.push_str(&self.settings());
        html::page(&format!("{name}, seed {seed}"), &body)
    }

    fn tiles(&self) -> String {
        let mut tiles = Vec::new();
        if let Some((which, _, judged)) = &self.judged {
            for Judged { readout, evaluation, .. } in *judged {
                tiles.push((format!("{:.2} %", evaluation.error()), format!("{which} error, {readout}")));
            }
        }
        let paper = self.experiment.paper.error;
        if paper > 0.0 {
            tiles.push((format!("{paper} %"), "test error in the paper".into()));
        }
        let seconds = self.metrics.last().map_or(0.0, |last| last.seconds);
        tiles.push((HumanDuration(Duration::from_secs_f64(seconds.max(0.0))).to_string(), "of training".into()));
        if let Some(summary) = self.summary {
            tiles.push((grouped(summary.samples_per_second as u64), "samples a second".into()));
            if let Some(bytes) = summary.peak_rss_bytes {
                tiles.push((DecimalBytes(bytes).to_string(), "of memory at most".into()));
            }
            tiles.push((summary.threads.to_string(), format!("threads on {}", summary.device)));
        }
        if let Status::Training { memory: Some(bytes), .. } = self.status {
            tiles.push((DecimalBytes(bytes).to_string(), "of memory now".into()));
        }
        tiles.push((shortened(&LayerSettings::brief(&self.experiment.recipe.network.layers)), "units".into()));
        tiles.push((grouped(self.network.parameters() as u64), "parameters".into()));
        tiles.push((grouped(self.train.len() as u64), "training samples".into()));
        let tile = |(value, name): &(String, String)| format!("<div><b>{}</b>{}</div>\n", escape(value), escape(name));
        format!("<div class=\"tiles\">\n{}</div>\n", tiles.iter().map(tile).collect::<String>())
    }

    fn findings(&self) -> String {
        let findings = examine(&Layers::of(self.network), self.network.classes(), self.metrics, self.probes);
        let item = |Finding { text, hint }: &Finding| {
            format!("<li><span class=\"bad\">{}</span> {}</li>\n", escape(text), escape(hint))
        };
        let mut items: String = findings.iter().take(FINDINGS).map(item).collect();
        if let Some(more @ 1..) = findings.len().checked_sub(FINDINGS) {
            let _ = writeln!(items, "<li>And {more} more: onward doctor {}</li>", escape(self.path));
        }
        let body = if items.is_empty() { items } else { format!("<ul>\n{items}</ul>\n") };
        html::section("What is wrong", "As <code>onward doctor</code> sees it.", &body)
    }

    fn curves(&self) -> String {
        let epochs = |value: &dyn Fn(&Metrics) -> Option<f64>| -> Vec<(f64, f64)> {
            let point = |metrics: &Metrics| Some((f64::from(metrics.epoch.epoch), value(metrics)?));
            self.metrics.iter().filter_map(point).collect()
        };
        let readouts: BTreeSet<Readout> =
            self.metrics.iter().flat_map(|metrics| metrics.validation_error.keys().copied()).collect();
        let errors = readouts.iter().enumerate().map(|(i, readout)| Series {
            name: readout.to_string(),
            ink: Ink::Nth(i),
            points: epochs(&|metrics| metrics.validation_error.get(readout).copied()),
        });
        let one = |name: &str, ink, points| vec![Series { name: name.into(), ink, points }];
        let figures = [
            Lines { title: "Validation error", unit: "%, by epoch", series: errors.collect() }.html(),
            Lines {
                title: "Loss of the layers",
                unit: "nats a sample, by epoch",
                series: one("loss", Ink::Nth(2), epochs(&|metrics| Some(metrics.epoch.loss))),
            }
            .html(),
            Lines {
                title: "Loss of the softmax head",
                unit: "nats a sample, by epoch",
                series: one("loss", Ink::Nth(3), epochs(&|metrics| metrics.epoch.head_loss)),
            }
            .html(),
        ];
        let mut rows = Vec::new();
        for metrics in thinned(self.metrics, ROWS) {
            let mut row = vec![
                metrics.epoch.epoch.to_string(),
                format!("{:.3}", metrics.epoch.loss),
                format!("{:.1}", metrics.seconds),
            ];
            row.extend(readouts.iter().map(|readout| {
                metrics.validation_error.get(readout).map_or("-".into(), |error| format!("{error:.2} %"))
            }));
            rows.push(row);
        }
        let names: Vec<String> = readouts.iter().map(Readout::to_string).collect();
        let headings: Vec<&str> =
            ["epoch", "loss", "seconds"].into_iter().chain(names.iter().map(|name| &name[..])).collect();
        let summary = format!("In numbers{}", of_all(rows.len(), self.metrics.len()));
        let numbers =
            if rows.is_empty() { String::new() } else { html::details(&summary, &html::table(&headings, &rows)) };
        let body = html::side_by_side(&figures);
        let body = if body.is_empty() { body } else { body + &numbers };
        html::section(
            "Error and loss",
            "Validation samples are held out of the training set; no layer learns from them.",
            &body,
        )
    }

    fn fields(&self) -> String {
        let Some((image, units)) = image::fields(self.network) else { return String::new() };
        let outputs = self.network.stages()[0].layer.outputs();
        let about = format!(
            "What learning has changed in the weights from the pixels to {units} of the first layer's {} units (the idea of \
             the paper's figure 2, less the random weights that the units started from): blue pixels excite a unit, orange \
             ones inhibit it (of colour images, bright and dark). The label's inputs are left out.",
            grouped(outputs as u64)
        );
        html::section("What the first layer looks for", &about, &image)
    }

    /// Some pairs as training would make them from the first samples.
    fn pairs(&self) -> String {
        const PAIRS: usize = 8;
        let network = self.network;
        let Ok(samples) = self.train.slice(0..PAIRS.min(self.train.len())) else { return String::new() };
        let Ok(probe) = network.probe(&samples) else { return String::new() };
        let (classes, settings, length) = (network.class_names(), &network.recipe().network, samples.shape().len());
        let mut body = String::from("<div class=\"gallery\">\n");
        for n in 0..samples.len() {
            let mut x = vec![0.0; length];
            samples.read(n, &mut x);
            let right = samples.labels().get(n).copied();
            let wrong = probe.negative.labels.as_ref().map_or(right, |labels| labels.get(n).copied());
            let other = probe.negative.inputs.as_ref().map(|inputs| inputs[n * length..(n + 1) * length].to_vec());
            for (sign, mut x, label) in [("positive", x.clone(), right), ("negative", other.unwrap_or(x), wrong)] {
                let label = label.filter(|_| settings.label != LabelPlace::None);
                if let (LabelPlace::Replace, Some(label)) = (settings.label, label) {
                    x[..classes.len()].fill(0.0);
                    x[label as usize] = settings.label_strength;
                }
                let caption = label.map_or(sign.into(), |label| format!("{sign}: {}", classes[label as usize]));
                body.push_str(&mistakes::picture(&samples, &x, &caption));
            }
        }
        body.push_str("</div>\n");
        let made = match probe.negative.labels {
            Some(_) => {
                "with their true label, whose goodness rises, and with a wrong one drawn as training draws them now, whose goodness falls"
            }
            None => {
                "as they are, whose goodness rises, and turned into negatives as training does it, whose goodness falls"
            }
        };
        let place = match settings.label {
            LabelPlace::Replace => "The label is in the first pixels: the one that is lit is the class.",
            LabelPlace::Prepend => "The label goes in front of the pixels, and is not seen here.",
            LabelPlace::Top => "The label comes in at the top, and is not seen here.",
            LabelPlace::None => "No label goes in.",
        };
        html::section("Pairs it learns from", &format!("The first training samples {made}. {place}"), &body)
    }

    fn settings(&self) -> String {
        let (own, default) = (self.experiment.to_table(), Experiment::default().to_table());
        let rows: Vec<Vec<String>> = SETTINGS
            .iter()
            .filter_map(|setting| {
                let value = lookup(&own, setting.key)?;
                let text = escape(&value.to_string());
                let changed = lookup(&default, setting.key) != Some(value);
                let text = if changed { format!("<b>{text}</b>") } else { text };
                Some(vec![format!("<code>{}</code>", setting.key), text, escape(setting.help)])
            })
            .collect();
        let table = html::table(&["setting", "value", "meaning"], &rows).replacen("<table", "<table class=\"text\"", 1);
        let mut body = html::details("All settings", &table);
        if let Some(commit) = self.summary.and_then(|summary| summary.commit.as_ref()) {
            let _ = writeln!(body, "<p class=\"soft\">Trained by onward at commit {}.</p>", escape(commit));
        }
        html::section("Settings", "Those in bold are not at their default. The same as a file: experiment.toml.", &body)
    }
}

/// Rows of the table of epochs at most.
const ROWS: usize = 100;

/// Findings at most: a deep network may have one a layer.
const FINDINGS: usize = 12;

/// Says that not all epochs are shown, where that is so.
pub fn of_all(shown: usize, all: usize) -> String {
    if shown == all { String::new() } else { format!(" ({shown} of {} epochs, evenly spread)", grouped(all as u64)) }
}

/// At most `most` of them, evenly spread, the first and the last among them.
pub fn thinned<T>(all: &[T], most: usize) -> Vec<&T> {
    match all.len() {
        n if n <= most => all.iter().collect(),
        _ if most < 2 => all.last().into_iter().take(most).collect(),
        n => (0..most).map(|i| &all[i * (n - 1) / (most - 1)]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{of_all, thinned};

    #[test]
    fn epochs_are_thinned_and_that_is_said() {
        let all: Vec<u32> = (1..=4_001).collect();
        assert_eq!(thinned(&all, 5), [&1, &1_001, &2_001, &3_001, &4_001]);
        assert_eq!(thinned(&all[..3], 5), [&1, &2, &3]);
        assert_eq!((thinned(&all, 1), thinned(&all, 0).len()), (vec![&4_001], 0));
        assert_eq!(of_all(24, 4_001), " (24 of 4,001 epochs, evenly spread)");
        assert_eq!(of_all(3, 3), "");
    }
}
