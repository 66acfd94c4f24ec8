//! What a dashboard shows: a run's past, epoch by epoch, and where it is now. It knows of no terminal.

use crate::progress::{self, Start, grouped};
use crate::run_dir::Metrics;
use crate::status::{Phase, Status};
use crate::watched::{State, Watched};
use indicatif::HumanDuration;
use onward::Readout;
use onward::events::LayerReport;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// What does not change while a run trains.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// The experiment and its seed; where that is not known, the run directory.
    pub name: String,
    /// The run directory, for people.
    pub run: String,
    pub epochs: u32,
    /// What each layer's goodness is shown in multiples of.
    pub thresholds: Vec<f64>,
}

impl Heading {
    /// Of a run that is about to train.
    pub fn of(start: &Start<'_>) -> Self {
        Heading {
            name: format!("{}, seed {}", start.experiment, start.seed),
            run: start.run.into(),
            epochs: start.epochs,
            thresholds: progress::thresholds(start.network),
        }
    }
}

/// How the run is, in the words of its title.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Waiting,
    Training,
    Paused,
    Evaluating,
    Stopping,
    Stopped,
    Died,
    Failed,
    Finished,
}

impl Mood {
    /// A word or two.
    pub fn text(&self) -> &'static str {
        match self {
            Mood::Waiting => "waiting",
            Mood::Training => "training",
            Mood::Paused => "paused",
            Mood::Evaluating => "reading out",
            Mood::Stopping => "stopping",
            Mood::Stopped => "stopped",
            Mood::Died => "died",
            Mood::Failed => "failed",
            Mood::Finished => "finished",
        }
    }
}

/// A named line: x in epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub struct Dashboard {
    pub heading: Heading,
    pub mood: Mood,
    pub metrics: Vec<Metrics>,
    pub status: Option<Status>,
    /// The layers as they were told of last.
    layers: Vec<LayerReport>,
    /// Losses within the current epoch, as statuses told them.
    recent: Vec<(f64, f64)>,
    /// The last thing that was said.
    pub message: String,
    /// Whether the run can be paused and stopped from here.
    pub commands: bool,
}

impl Dashboard {
    /// Of a run that trains in this process.
    pub fn of_training(heading: Heading) -> Self {
        Dashboard { heading, commands: true, ..Dashboard::default() }
    }

    /// Of a run that trains elsewhere, in this directory.
    pub fn of_watched(run: &Path) -> Self {
        let name = run.display().to_string();
        let message = format!("Waiting for a run in {name}");
        Dashboard {
            heading: Heading { run: name.clone(), name, ..Heading::default() },
            message,
            ..Dashboard::default()
        }
    }

    /// Takes in where training is.
    pub fn take_status(&mut self, status: &Status) {
        self.mood = match status.phase {
            _ if self.mood == Mood::Stopping => Mood::Stopping,
            Phase::Training => Mood::Training,
            Phase::Paused => Mood::Paused,
            Phase::Evaluating => Mood::Evaluating,
            Phase::Stopped => Mood::Stopped,
            Phase::Failed => Mood::Failed,
            Phase::Finished => Mood::Finished,
        };
        self.heading.epochs = status.epochs;
        let known = self.recent.last().map_or(f64::NEG_INFINITY, |last| last.0);
        if let Some(loss) = status.loss.filter(|_| status.epoch() > known) {
            self.recent.push((status.epoch(), loss));
        }
        if !status.layers.is_empty() {
            self.layers.clone_from(&status.layers);
        }
        self.status = Some(status.clone());
    }

    /// Takes in an epoch.
    pub fn take_epoch(&mut self, metrics: &Metrics) {
        self.recent.clear();
        self.layers.clone_from(&metrics.epoch.layers);
        self.metrics.push(metrics.clone());
    }

    /// Takes in what was seen of a run elsewhere.
    pub fn take_watched(&mut self, watched: &Watched) {
        if let Some(experiment) = &watched.experiment {
            self.heading.name = format!("{}, seed {}", experiment.name, experiment.recipe.seed.0);
        }
        self.heading.epochs = watched.epochs().unwrap_or(0);
        self.heading.thresholds.clone_from(&watched.thresholds);
        if self.metrics.len() != watched.metrics.len() {
            self.recent.clear();
            self.layers = watched.metrics.last().map(|last| last.epoch.layers.clone()).unwrap_or_default();
        }
        self.metrics.clone_from(&watched.metrics);
        match &watched.status {
            Some(status) => self.take_status(status),
            None => self.status = None,
        }
        let run = &self.heading.run;
        let (mood, message) = match &watched.state {
            State::Absent => (Mood::Waiting, format!("Waiting for a run in {run}")),
            State::Training => {
                let silent = |status: &&Status| status.phase != Phase::Evaluating && status.age().as_secs() > 10;
                let silent = watched.status.as_ref().filter(silent);
                let message = silent.map(|status| format!("No news for {}.", HumanDuration(status.age())));
                let mood = if watched.status.is_some() { self.mood.clone() } else { Mood::Training };
                (mood, message.unwrap_or_default())
            }
            State::Stopped => (Mood::Stopped, format!("Go on with: onward train --resume {run}")),
            State::Died => (Mood::Died, format!("Its process ended. Go on with: onward train --resume {run}")),
            State::Failed(reason) => (Mood::Failed, reason.clone()),
            State::Finished(errors) => (Mood::Finished, format!("Test error: {errors}")),
        };
        (self.mood, self.message) = (mood, message);
    }

    /// The share of all steps that is done, 0 to 1; `None` before the first.
    pub fn share(&self) -> Option<f64> {
        let epochs = f64::from(self.heading.epochs);
        if self.mood == Mood::Finished {
            return Some(1.0);
        }
        let last = || Some(f64::from(self.metrics.last()?.epoch.epoch));
        let done = self.status.as_ref().map(Status::epoch).or_else(last)?;
        (epochs > 0.0).then(|| (done / epochs).clamp(0.0, 1.0))
    }

    /// `epoch 3/10`, the one at work.
    pub fn epoch(&self) -> String {
        let done = self.status.as_ref().map(|status| status.epochs_done);
        let done = done.or_else(|| Some(self.metrics.last()?.epoch.epoch)).unwrap_or(0);
        let at_work = matches!(self.mood, Mood::Training | Mood::Paused | Mood::Stopping);
        let epoch = if at_work { (done + 1).min(self.heading.epochs.max(1)) } else { done };
        format!("epoch {epoch}/{}", self.heading.epochs)
    }

    /// Numbers with their units, the most wanted first.
    pub fn numbers(&self) -> Vec<String> {
        let mut all = Vec::new();
        let last = self.metrics.last();
        let duration = |seconds: f64| HumanDuration(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        if let Some(status) = &self.status {
            all.extend(status.samples_per_second.map(|rate| format!("{} samples/s", grouped(rate as u64))));
            let left = status.seconds_left.filter(|_| self.mood != Mood::Stopped && self.share() != Some(1.0));
            all.extend(left.map(|left| format!("{} left", duration(left))));
        }
        let seconds = self.status.as_ref().map(|status| status.seconds).or_else(|| Some(last?.seconds));
        all.extend(seconds.map(|seconds| format!("{} so far", duration(seconds))));
        let loss = self.status.as_ref().and_then(|status| status.loss).or_else(|| Some(last?.epoch.loss));
        all.extend(loss.map(|loss| format!("loss {loss:.3}")));
        all.extend(
            last.iter().flat_map(|last| {
                last.validation_error.iter().map(|(readout, error)| format!("{readout} {error:.2} %"))
            }),
        );
        let memory = self.status.as_ref().and_then(|status| status.memory_bytes);
        all.extend(memory.map(|bytes| format!("{} MB of memory", grouped(bytes / 1_000_000))));
        all
    }

    /// Validation errors by readout.
    pub fn errors(&self) -> Vec<Curve> {
        let readouts: BTreeSet<Readout> =
            self.metrics.iter().flat_map(|metrics| metrics.validation_error.keys().copied()).collect();
        let curve = |readout: Readout| {
            let error = |metrics: &Metrics| metrics.validation_error.get(&readout).copied();
            Curve { name: readout.to_string(), points: self.by_epoch(error) }
        };
        readouts.into_iter().map(curve).collect()
    }

    /// The loss, up to now.
    pub fn loss(&self) -> Vec<Curve> {
        let mut points = self.by_epoch(|metrics| Some(metrics.epoch.loss));
        points.extend(&self.recent);
        if points.is_empty() { Vec::new() } else { vec![Curve { name: "loss".into(), points }] }
    }

    /// The share of pairs in the wrong order by layer, in per cent.
    pub fn wrong_pairs(&self) -> Vec<Curve> {
        let layers: BTreeSet<usize> =
            self.metrics.iter().flat_map(|metrics| metrics.epoch.layers.iter().map(|layer| layer.layer)).collect();
        let curve = |layer: usize| {
            let wrong = |metrics: &Metrics| {
                let report = metrics.epoch.layers.iter().find(|report| report.layer == layer)?;
                Some(100.0 * report.wrong_order)
            };
            Curve { name: format!("layer {layer}"), points: self.by_epoch(wrong) }
        };
        layers.into_iter().map(curve).collect()
    }

    fn by_epoch(&self, value: impl Fn(&Metrics) -> Option<f64>) -> Vec<(f64, f64)> {
        let point = |metrics: &Metrics| Some((f64::from(metrics.epoch.epoch), value(metrics)?));
        self.metrics.iter().filter_map(point).filter(|(_, y)| y.is_finite()).collect()
    }

    /// The layers as they are in the current epoch, or were in the last one.
    pub fn layers(&self) -> &[LayerReport] {
        &self.layers
    }

    /// A layer's goodness of positives and negatives, in multiples of its threshold.
    pub fn goodness(&self, layer: &LayerReport) -> (f64, f64) {
        let unit = self.heading.thresholds.get(layer.layer).copied().unwrap_or(1.0);
        (layer.goodness_positive / unit, layer.goodness_negative / unit)
    }

    /// The keys and what they do.
    pub fn keys(&self) -> Vec<(&'static str, &'static str)> {
        let pause = if self.mood == Mood::Paused { "go on" } else { "pause" };
        match self.commands {
            // The way out first: a narrow window cuts the others off.
            true => vec![("q", "stop"), ("p", pause), ("c", "checkpoint")],
            false => vec![("q", "leave")],
        }
    }
}
