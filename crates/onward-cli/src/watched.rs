//! A run that trains elsewhere, or did: how it is, as the files in its directory tell.

use crate::experiment::Experiment;
use crate::progress;
use crate::run_dir::{Line, Metrics, RunDir};
use crate::status::{Phase, Status};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none yet.
    Absent,
    Training,
    /// Stopped before its end, as it was asked to; it may go on.
    Stopped,
    /// Its process ended without a word: killed, or the machine went down. It may go on.
    Died,
    Failed(String),
    /// With its test errors in words.
    Finished(String),
}

/// A status that was not replaced for so long is of a process that is not there, if nobody holds the lock either.
const STALE: Duration = Duration::from_secs(10);

/// A run and what was seen of it last.
#[derive(Debug)]
pub struct Watched {
    run: PathBuf,
    /// Length and time of the file that `metrics` are from.
    read: Option<(u64, Option<SystemTime>)>,
    pub state: State,
    /// Where it is within an epoch; `None` where nobody trains it, or does not say.
    pub status: Option<Status>,
    /// What each layer's goodness is measured by, where some status told it.
    pub thresholds: Vec<f64>,
    pub metrics: Vec<Metrics>,
    pub experiment: Option<Experiment>,
}

impl Watched {
    /// Whatever is in this directory, or comes there.
    pub fn new(run: &Path) -> Self {
        let (read, status, thresholds, metrics, experiment) = Default::default();
        Watched { run: run.to_owned(), read, state: State::Absent, status, thresholds, metrics, experiment }
    }

    /// Looks again.
    ///
    /// # Errors
    /// Where its files cannot be understood.
    pub fn look(&mut self) -> Result<()> {
        // The state before the lines: lines that are written in between are of a run that trains.
        let status = Status::read(&self.run);
        self.state = state(&self.run, status.as_ref())?;
        let at_work = |status: &Status| matches!(status.phase, Phase::Training | Phase::Paused | Phase::Evaluating);
        status.iter().for_each(|status| self.thresholds.clone_from(&status.thresholds));
        self.status = status.filter(|status| self.state == State::Training && at_work(status));
        let now = std::fs::metadata(self.run.join(Metrics::FILE)).ok();
        let now = now.map(|file| (file.len(), file.modified().ok()));
        if now != self.read || self.experiment.is_none() {
            self.metrics = RunDir::metrics(&self.run, u32::MAX)?;
            let file = self.run.join("experiment.toml");
            self.experiment = Experiment::read(&file).ok();
            self.read = now;
        }
        Ok(())
    }

    /// Epochs in all, once that is known.
    pub fn epochs(&self) -> Option<u32> {
        let planned = || Some(self.experiment.as_ref()?.recipe.training.epochs);
        self.status.as_ref().map(|status| status.epochs).or_else(planned)
    }
}

fn state(run: &Path, status: Option<&Status>) -> Result<State> {
    // Whoever trains holds the lock before the experiment is there, and until everything is. To look at the lock is to take
    // it for an instant, which must not be the instant in which a new run does.
    if !run.join("experiment.toml").exists() {
        return Ok(State::Absent);
    }
    if RunDir::in_use(run) {
        return Ok(State::Training);
    }
    if let Some(summary) = RunDir::summary(run)? {
        let errors = progress::errors(&summary.test_error);
        return Ok(State::Finished(if errors.is_empty() { "no test samples".into() } else { errors }));
    }
    if let Ok(reason) = std::fs::read_to_string(run.join(RunDir::FAILURE)) {
        return Ok(State::Failed(reason.trim().into()));
    }
    Ok(match status {
        Some(Status { phase: Phase::Training | Phase::Paused | Phase::Evaluating, .. }) => {
            // Not every file system knows locks.
            if status.is_some_and(|status| status.age() < STALE) { State::Training } else { State::Died }
        }
        Some(Status { phase: Phase::Failed, .. }) => State::Failed("it left no reason".into()),
        _ => State::Stopped,
    })
}
