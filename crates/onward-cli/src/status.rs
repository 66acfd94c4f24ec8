//! `status.json`: where a run is right now. It is replaced, whole, about once a second while there are steps, and once more when
//! training stops; `onward watch` and programs of other people read it, so names and meanings stay
//! (`docs/run-directory.md`).

use anyhow::{Context, Result};
use onward::Trainer;
use onward::events::{LayerReport, StepReport};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Steps.
    Training,
    /// Nothing, until the user goes on.
    Paused,
    /// An epoch is done, and validation samples are read out; or the last one is, and test samples are.
    Evaluating,
    /// Nothing any more: it was asked to stop, and has saved everything.
    Stopped,
    /// Nothing any more: it failed. `failure.txt` says why.
    Failed,
    /// Nothing any more: `summary.json` is there.
    Finished,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When it was written: seconds since 1970.
    pub written: f64,
    pub phase: Phase,
    /// The process that trains.
    pub process: u32,
    /// Epochs done, and epochs in all; with greedy order, counted over all layers.
    pub epochs_done: u32,
    pub epochs: u32,
    /// Steps done: in all, and of the current epoch; and how many it has.
    pub step: u64,
    pub step_of_epoch: u64,
    pub steps_per_epoch: u64,
    /// Training samples a second, lately; `null` before two looks could be compared.
    pub samples_per_second: Option<f64>,
    /// Seconds of training so far, and those left, evaluation between epochs included; `null` where that is not known.
    pub seconds: f64,
    pub seconds_left: Option<f64>,
    /// Memory that the process has now, where the system says so.
    pub memory_bytes: Option<u64>,
    /// Mean loss per sample and layer since the file before, in nats; `null` where it is not finite.
    pub loss: Option<f64>,
    /// Each layer's threshold, from the bottom; 1 for those that have none.
    pub thresholds: Vec<f64>,
    /// Each layer in the current epoch so far, as in `metrics.jsonl`; empty where layers do not learn for themselves.
    pub layers: Vec<LayerReport>,
}

impl Status {
    /// Its name in a run directory.
    pub const FILE: &'static str = "status.json";

    /// The file as it is now; `None` where there is none that can be understood: it tells nothing that a run depends on.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(run.join(Self::FILE)).ok()?).ok()
    }

    /// Replaces the file. A power cut may lose it, unlike the other files: it is of no use after one.
    ///
    /// # Errors
    /// Where it cannot be written; training goes on without.
    pub fn write(&self, run: &Path) -> Result<()> {
        let text = format!("{}\n", serde_json::to_string_pretty(self)?);
        // Called as unfinished files are, so that what a killed process leaves is removed like theirs.
        let mut scratch = tempfile::Builder::new();
        scratch.prefix(".status.json.").suffix(".partial");
        #[cfg(unix)]
        scratch.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut scratch = scratch.tempfile_in(run)?;
        std::io::Write::write_all(&mut scratch, text.as_bytes())?;
        scratch.persist(run.join(Self::FILE)).context("the status could not be replaced")?;
        Ok(())
    }

    /// How long ago it was written; nothing where the clock went back.
    pub fn age(&self) -> Duration {
        Duration::try_from_secs_f64(now() - self.written).unwrap_or_default()
    }

    /// Epochs done, the part of the current one included.
    pub fn epoch(&self) -> f64 {
        f64::from(self.epochs_done) + (self.step_of_epoch as f64 / self.steps_per_epoch.max(1) as f64).min(1.0)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What a user may ask of training besides its end, from a dashboard.
#[derive(Debug, Default)]
pub struct Controls {
    paused: AtomicBool,
    checkpoint: AtomicBool,
}

impl Controls {
    /// Pauses, or goes on.
    #[cfg_attr(not(feature = "tui"), expect(dead_code, reason = "only a dashboard asks"))]
    pub fn turn(&self) {
        self.paused.fetch_xor(true, Ordering::Relaxed);
    }

    /// Whether training is to wait.
    pub fn paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Asks for a checkpoint now.
    #[cfg_attr(not(feature = "tui"), expect(dead_code, reason = "only a dashboard asks"))]
    pub fn ask_for_checkpoint(&self) {
        self.checkpoint.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint was asked for; it is not any more.
    pub fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }
}

/// Between two files.
const EVERY: Duration = Duration::from_secs(1);

/// Looks whose mean is the rate.
const LOOKS: usize = 10;

/// Makes the statuses of a run.
#[derive(Debug)]
pub struct Pulse {
    epochs: u32,
    /// When the last one was made, and when this process began to train: pauses move it.
    last: Option<Instant>,
    begun: Instant,
    /// Time and samples of the last looks.
    looks: VecDeque<(Instant, u64)>,
    samples: u64,
    /// Where this process began, in epochs.
    first: f64,
    /// Losses since the last one: their sum and their number.
    loss: (f64, u64),
    steps_per_epoch: u64,
    latest: Option<Status>,
}

impl Pulse {
    /// Of a run that is about to train.
    pub fn new(trainer: &Trainer, samples: usize) -> Self {
        let (position, steps_per_epoch) = (trainer.position(), trainer.steps_per_epoch(samples));
        let part = position.step_of_epoch as f64 / steps_per_epoch.max(1) as f64;
        Pulse {
            epochs: trainer.epochs(),
            last: None,
            begun: Instant::now(),
            looks: VecDeque::new(),
            samples: 0,
            first: f64::from(position.epoch) + part,
            loss: (0.0, 0),
            steps_per_epoch,
            latest: None,
        }
    }

    /// Takes a step in; answers whether another status is due.
    pub fn step(&mut self, step: &StepReport) -> bool {
        self.samples += step.samples as u64;
        self.steps_per_epoch = step.steps_per_epoch;
        self.loss = (self.loss.0 + step.loss, self.loss.1 + 1);
        self.last.is_none_or(|last| last.elapsed() >= EVERY)
    }

    /// Where the run is now, after `seconds` of training.
    pub fn status(&mut self, phase: Phase, trainer: &Trainer, seconds: f64) -> Status {
        let now_here = Instant::now();
        self.last = Some(now_here);
        self.looks.push_back((now_here, self.samples));
        while self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let (sum, steps) = std::mem::take(&mut self.loss);
        let position = trainer.position();
        let mut status = Status {
            written: now(),
            phase,
            process: std::process::id(),
            epochs_done: position.epoch,
            epochs: self.epochs,
            step: position.step,
            step_of_epoch: position.step_of_epoch,
            steps_per_epoch: self.steps_per_epoch,
            samples_per_second: rate(&self.looks),
            seconds,
            seconds_left: None,
            memory_bytes: crate::memory::rss_bytes(),
            loss: Some(sum / steps as f64).filter(|loss| loss.is_finite()),
            thresholds: crate::progress::thresholds(trainer.network()),
            layers: trainer.so_far().layers,
        };
        let here = status.epoch() - self.first;
        let left = f64::from(self.epochs) - status.epoch();
        let all_left = self.begun.elapsed().as_secs_f64() / here * left;
        status.seconds_left = Some(all_left).filter(|left| here > 0.0 && left.is_finite());
        // A layer that reports no number reports nothing: JSON has none either.
        if position.step_of_epoch == 0 || !status.layers.iter().all(finite) {
            status.layers.clear();
        }
        self.latest = Some(status.clone());
        status
    }

    /// The last status again, in another phase; `None` where there is none.
    pub fn again(&mut self, phase: Phase) -> Option<Status> {
        let status = self.latest.as_mut()?;
        (status.phase, status.written) = (phase, now());
        Some(status.clone())
    }

    /// So long nothing was to be done: it counts neither for the rate nor for what is left.
    pub fn paused(&mut self, pause: Duration) {
        self.begun += pause;
        self.evaluated(pause);
    }

    /// So long it read out: it counts for what is left, not for the rate.
    pub fn evaluated(&mut self, time: Duration) {
        self.looks.iter_mut().for_each(|(at, _)| *at += time);
        self.last = None;
    }
}

/// Samples a second between the first of some looks and the last.
fn rate(looks: &VecDeque<(Instant, u64)>) -> Option<f64> {
    let (&(first, from), &(last, to)) = (looks.front()?, looks.back()?);
    let seconds = last.duration_since(first).as_secs_f64();
    (to > from && seconds > 0.0).then(|| (to - from) as f64 / seconds)
}

fn finite(layer: &LayerReport) -> bool {
    let LayerReport { loss, goodness_positive, goodness_negative, wrong_order, active_rows, weight_rms, .. } = *layer;
    let all = [loss, goodness_positive, goodness_negative, wrong_order, active_rows, f64::from(weight_rms)];
    all.iter().all(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_looks() {
        let start = Instant::now();
        let at = |seconds: u64, samples| (start + Duration::from_secs(seconds), samples);
        assert_eq!(rate(&VecDeque::new()), None);
        assert_eq!(rate(&[at(0, 100)].into()), None);
        assert_eq!(rate(&[at(0, 100), at(2, 500), at(4, 900)].into()), Some(200.0));
        assert_eq!(rate(&[at(0, 100), at(2, 100)].into()), None, "nothing was trained");
    }

    #[test]
    fn a_status_is_replaced_whole_and_read_back() {
        let recipe = onward::Recipe::default();
        let data = onward_mnist::train().slice(0..200).unwrap();
        let trainer = Trainer::new(recipe, &data).unwrap();
        let mut pulse = Pulse::new(&trainer, data.len());
        let status = pulse.status(Phase::Training, &trainer, 0.0);
        assert_eq!((status.step, status.steps_per_epoch, status.loss, status.seconds_left), (0, 2, None, None));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Status::read(folder.path()), None);
        status.write(folder.path()).unwrap();
        let stopped = pulse.again(Phase::Stopped).unwrap();
        stopped.write(folder.path()).unwrap();
        assert_eq!(Status::read(folder.path()), Some(stopped));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let step = StepReport { step: 1, epoch: 0, step_of_epoch: 0, steps_per_epoch: 2, samples: 100, loss: 0.5 };
        assert!(!pulse.step(&step), "a second has not passed");
        assert_eq!(pulse.status(Phase::Training, &trainer, 1.0).loss, Some(0.5));
        assert!(status.write(&folder.path().join("none")).is_err());
    }
}
