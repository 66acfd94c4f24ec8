//! How training is shown: a bar or a dashboard on a terminal, plain lines in a pipe, JSON lines for programs, or nothing.

use crate::dashboard::{self, Heading, Screen};
use crate::exit::Usage;
use crate::health::Finding;
use crate::run_dir::{Metrics, Summary};
use crate::settings::wrapped;
use crate::status::{Controls, Status};
use crate::terminal;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use onward::events::StepReport;
use onward::settings::Rule;
use onward::{Network, Readout};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A bar on a terminal, plain lines otherwise.
    Auto,
    /// A bar with rate and remaining time, and a line per epoch.
    Bar,
    /// A dashboard with curves and keys, on a terminal; an optional part of the program.
    Tui,
    /// A line per epoch.
    Plain,
    /// One JSON object per line: start, epoch, end.
    Json,
    /// Nothing.
    None,
}

impl Mode {
    /// Refuses what this build does not have.
    pub fn check(self) -> Result<()> {
        match self {
            Mode::Tui if !dashboard::BUILT_IN => {
                Err(Usage(format!("--progress tui: {}", dashboard::HOW_TO_GET)).into())
            }
            _ => Ok(()),
        }
    }
}

/// Shows one run.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
    screen: Option<Screen>,
    /// What is to be read once the dashboard has gone.
    kept: Mutex<Vec<String>>,
    controls: Arc<Controls>,
    epochs: u32,
    thresholds: Vec<f64>,
    readouts: Vec<Readout>,
}

/// What is known before the first step.
#[derive(Debug)]
pub struct Start<'a> {
    /// The network to be trained.
    pub network: &'a Network,
    /// The experiment's name.
    pub experiment: &'a str,
    /// Its seed.
    #[cfg_attr(not(feature = "tui"), expect(dead_code, reason = "only a dashboard says it"))]
    pub seed: u64,
    /// The run directory, for people.
    pub run: &'a str,
    /// Whether results are compared with those that are there, instead of going there.
    pub again: bool,
    /// Training and validation samples.
    pub samples: (usize, usize),
    /// Epochs in all.
    pub epochs: u32,
    /// Steps in an epoch, and those done already.
    pub steps: (u64, u64),
    /// Samples in a step.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
}

impl Progress {
    /// Announces a run.
    pub fn start(mode: Mode, start: &Start<'_>) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let dashboard = terminal::has_cursor();
        let mode = match mode {
            Mode::Auto if terminal => Mode::Bar,
            Mode::Auto => Mode::Plain,
            // What only looks on has no keys.
            Mode::Tui if start.again && terminal => Mode::Bar,
            Mode::Tui if start.again || !dashboard => Mode::Plain,
            mode => mode,
        };
        let controls = Arc::<Controls>::default();
        let screen = (mode == Mode::Tui).then(|| Screen::open(Heading::of(start), controls.clone())).flatten();
        let mode = if mode == Mode::Tui && screen.is_none() { Mode::Plain } else { mode };
        let bar = (mode == Mode::Bar).then(|| {
            let (per_epoch, done) = start.steps;
            let bar = ProgressBar::new(per_epoch * u64::from(start.epochs) * start.batch as u64);
            let style = "{bar:24} {percent:>3} %  {per_sec} samples/s  {eta} left  {msg}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .expect("a constant template")
                    .with_key("per_sec", |state: &indicatif::ProgressState, f: &mut dyn std::fmt::Write| {
                        let _ = write!(f, "{:.0}", state.per_sec());
                    })
                    .progress_chars("━╸ "),
            );
            bar.set_position(done * start.batch as u64);
            bar.reset_eta();
            bar
        });
        let thresholds = thresholds(start.network);
        let validated = start.samples.1 > 0;
        let readouts = if validated { start.network.readouts() } else { Vec::new() };
        let (epochs, kept) = (start.epochs, Mutex::default());
        let progress = Progress { mode, bar, screen, kept, controls, epochs, thresholds, readouts };
        progress.announce(start);
        progress
    }

    fn announce(&self, start: &Start<'_>) {
        let (train, validation) = start.samples;
        if self.mode == Mode::Json {
            return self.line(
                &json!({
                    "event": "start", "experiment": start.experiment, "run": start.run, "epochs": start.epochs,
                    "train_samples": train, "validation_samples": validation, "parameters": start.network.parameters(),
                    "threads": start.threads,
                })
                .to_string(),
            );
        }
        let widths: Vec<_> = start.network.stages().iter().map(|stage| stage.layer.outputs().to_string()).collect();
        self.line(&format!(
            "{}: {}-{} units, {} parameters, {} threads",
            start.experiment,
            start.network.shape().len(),
            shortened(&widths.join("-")),
            grouped(start.network.parameters() as u64),
            start.threads
        ));
        let held_out =
            if validation > 0 { format!(", {} to validate on", grouped(validation as u64)) } else { String::new() };
        let what = if start.again { "compared with" } else { "results go to" };
        self.line(&format!("{} training samples{held_out}; {what} {}", grouped(train as u64), start.run));
        let errors: String = self.readouts.iter().map(|readout| format!("{:>13}", readout.to_string())).collect();
        let heading = if errors.is_empty() { "" } else { "validation error" };
        self.line(&format!("\n{:>18}{heading:>width$}", "", width = errors.len().max(heading.len())));
        let goodness = match start.network.recipe().rule {
            Rule::ForwardForward => "  goodness +/- (threshold: 1)",
            _ => "",
        };
        self.line(&format!("  epoch      loss  {errors}{goodness}"));
    }

    /// One step is done.
    pub fn step(&self, step: &StepReport) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("epoch {}/{}", step.epoch + 1, self.epochs));
            bar.inc(step.samples as u64);
        }
    }

    /// Where training is now.
    pub fn status(&self, status: &Status) {
        self.screen.iter().for_each(|screen| screen.status(status));
    }

    /// What the user of a dashboard asks for.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// An answer to a user of a dashboard.
    pub fn note(&self, text: &str) {
        self.screen.iter().for_each(|screen| screen.message(text));
    }

    /// One epoch is done.
    pub fn epoch(&self, metrics: &Metrics) {
        self.screen.iter().for_each(|screen| screen.epoch(metrics));
        if self.mode == Mode::Json {
            let mut line = json!({ "event": "epoch" });
            let fields = serde_json::to_value(metrics).unwrap_or_default();
            if let (Some(line), serde_json::Value::Object(fields)) = (line.as_object_mut(), fields) {
                line.extend(fields);
            }
            return self.line(&line.to_string());
        }
        let epoch = &metrics.epoch;
        let mut line = format!("{:>7} {:>9.3}  ", format!("{}/{}", epoch.epoch, self.epochs), epoch.loss);
        for readout in &self.readouts {
            let error = metrics.validation_error.get(readout).map_or("-".into(), |error| format!("{error:.2} %"));
            line.push_str(&format!("{error:>13}"));
        }
        line.push(' ');
        for layer in &epoch.layers {
            let unit = self.thresholds[layer.layer];
            let part = format!(" {:.2}/{:.2}", layer.goodness_positive / unit, layer.goodness_negative / unit);
            if line.chars().count() + part.len() > 78 {
                line.push_str(" …");
                break;
            }
            line.push_str(&part);
        }
        self.line(&line);
    }

    /// A sentence for people.
    pub fn say(&self, text: &str) {
        if self.mode != Mode::Json {
            self.line(text);
        }
    }

    /// Something is going wrong.
    pub fn warn(&self, Finding { text, hint }: &Finding) {
        match self.mode {
            Mode::Json => self.line(&json!({ "event": "warning", "text": text, "hint": hint }).to_string()),
            _ => wrapped(&format!("warning: {text} {hint}"), 80).iter().for_each(|line| self.line(line)),
        }
        self.note(&format!("warning: {text} {hint}"));
    }

    /// Training is over, one way or another: the bar goes, or the dashboard, and what was said meanwhile is there to read.
    pub fn stop(&mut self) {
        if self.screen.take().is_some() {
            let kept = std::mem::take(self.kept.get_mut().unwrap_or_else(|error| error.into_inner()));
            kept.iter().for_each(|line| self.line(line));
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The summary, for programs.
    pub fn end(&self, run: &str, summary: &Summary) {
        if self.mode == Mode::Json {
            self.line(&json!({ "event": "end", "run": run, "summary": summary }).to_string());
        }
    }

    /// Whoever stops listening does not stop the training: failed writes are let go.
    fn line(&self, text: &str) {
        if self.mode == Mode::None {
            return;
        }
        if self.screen.is_some() {
            return self.kept.lock().unwrap_or_else(|error| error.into_inner()).push(text.to_owned());
        }
        let write = || drop(writeln!(std::io::stdout().lock(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// A network in a few characters, however deep it is: `1000-1000-1000`, but `10×24` instead of `24-24-24-…`.
pub fn shortened(layers: &str) -> String {
    let parts: Vec<&str> = layers.split('-').collect();
    let runs = parts.chunk_by(|a, b| a == b);
    let run = |run: &[&str]| if run.len() > 4 { format!("{}×{}", run.len(), run[0]) } else { run.join("-") };
    runs.map(run).collect::<Vec<_>>().join("-")
}

/// What each layer's goodness is shown in multiples of: its threshold, where it has one.
pub fn thresholds(network: &Network) -> Vec<f64> {
    let thresholds = network.stages().iter().map(|stage| f64::from(stage.measure.threshold));
    thresholds.map(|threshold| if threshold > 0.0 { threshold } else { 1.0 }).collect()
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `every-label 1.73 %   one-pass 1.61 %`.
pub fn errors(errors: &BTreeMap<Readout, f64>) -> String {
    errors.iter().map(|(readout, error)| format!("{readout} {error:.2} %")).collect::<Vec<_>>().join("   ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn deep_networks_are_told_in_short() {
        let short = ["1000", "20-20-20-20", "20-20-20-20-20-7", "local 1-8-8-8-8-8"].map(super::shortened);
        assert_eq!(short, ["1000", "20-20-20-20", "5×20-7", "local 1-5×8"]);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(super::grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
