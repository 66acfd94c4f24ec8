//! `onward watch`: follows a run that trains elsewhere, from the files in its directory alone.

use crate::experiment::Experiment;
use crate::interrupt;
use crate::progress;
use crate::run_dir::{Metrics, RunDir};
use crate::terminal;
use anyhow::{Result, bail};
use indicatif::HumanDuration;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of `onward watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run directory; it need not be there yet.
    run: PathBuf,
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How a run is, as its files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// There is none yet.
    Absent,
    Training,
    /// Stopped before its end; it may go on.
    Stopped,
    Failed(String),
    Finished(String),
}

/// Follows the run until it ends, however it ends.
pub fn run(args: &Args) -> Result<()> {
    interrupt::catch()?;
    let (mut shown, mut said) = (0, None);
    loop {
        // The state before the lines: lines that are written in between are of a run that trains.
        let state = state(&args.run)?;
        if said.as_ref() != Some(&state) {
            announce(&args.run, &state)?;
            said = Some(state.clone());
        }
        let metrics = RunDir::metrics(&args.run, u32::MAX)?;
        // A run that went on from an earlier checkpoint, or another one in its place: what it does again is told again.
        shown = shown.min(metrics.len());
        for at in shown..metrics.len() {
            terminal::print(&line(&metrics, at, epochs(&args.run)))?;
        }
        shown = metrics.len();
        match state {
            State::Finished(errors) => return terminal::print(&format!("Finished. Test error: {errors}\n")),
            State::Stopped => {
                let run = args.run.display();
                return terminal::print(&format!("Stopped. Go on with: onward train --resume {run}\n"));
            }
            State::Failed(reason) => bail!("the run has failed: {reason}"),
            State::Absent | State::Training => {}
        }
        if interrupt::asked() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn state(run: &Path) -> Result<State> {
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
    match std::fs::read_to_string(run.join(RunDir::FAILURE)) {
        Ok(reason) => Ok(State::Failed(reason.trim().into())),
        Err(_) => Ok(State::Stopped),
    }
}

fn announce(run: &Path, state: &State) -> Result<()> {
    match state {
        State::Absent => terminal::print(&format!("Waiting for a run in {}\n", run.display())),
        State::Training => terminal::print(&format!("{}: in training\n", run.display())),
        _ => Ok(()),
    }
}

/// Epochs in all, once that is known.
fn epochs(run: &Path) -> Option<u32> {
    let file = run.join("experiment.toml");
    Some(Experiment::open(&file.to_string_lossy()).ok()?.recipe.training.epochs)
}

/// An epoch in a line: errors, loss, what is left, and each layer's goodness of positives and negatives.
fn line(metrics: &[Metrics], at: usize, epochs: Option<u32>) -> String {
    let Metrics { epoch, seconds, validation_error } = &metrics[at];
    let of = epochs.map_or(String::new(), |epochs| format!("/{epochs}"));
    let mut line = format!("{:>7}  loss {:.3}", format!("{}{of}", epoch.epoch), epoch.loss);
    if !validation_error.is_empty() {
        line.push_str(&format!("  {}", progress::errors(validation_error)));
    }
    if let Some(left) = epochs.and_then(|epochs| epochs.checked_sub(epoch.epoch)).filter(|left| *left > 0) {
        let each = seconds / f64::from(epoch.epoch.max(1));
        let left = (each * f64::from(left)).clamp(0.0, 1e9);
        line.push_str(&format!("  {} left", HumanDuration(Duration::from_secs_f64(left))));
    }
    line.push('\n');
    if !epoch.layers.is_empty() {
        let layer = |layer: &onward::events::LayerReport| {
            format!("{:.0}/{:.0}", layer.goodness_positive, layer.goodness_negative)
        };
        let layers: Vec<String> = epoch.layers.iter().map(layer).collect();
        line.push_str(&format!("         goodness +/- {}\n", layers.join("  ")));
    }
    line
}
