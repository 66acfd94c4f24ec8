//! `onward watch`: follows a run that trains elsewhere, from the files in its directory alone.

use crate::dashboard;
use crate::exit::Usage;
use crate::interrupt;
use crate::progress::{self, grouped};
use crate::run_dir::Metrics;
use crate::status::{Phase, Status};
use crate::terminal;
use crate::watched::{State, Watched};
use anyhow::{Result, bail};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Flags of `onward watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run directory; it need not be there yet.
    run: PathBuf,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Show::Auto)]
    progress: Show,
}

/// How to show a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Show {
    /// A dashboard on a terminal, where this build has one; plain lines otherwise.
    Auto,
    /// A dashboard.
    Tui,
    /// A line per epoch, and where it is in between.
    Plain,
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often a pipe is told where an epoch is, where nothing else is to be told.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Follows the run until it ends, however it ends.
pub fn run(args: &Args) -> Result<()> {
    if args.progress == Show::Tui && !dashboard::BUILT_IN {
        return Err(Usage(format!("--progress tui: {}", dashboard::HOW_TO_GET)).into());
    }
    if args.run.exists() && !args.run.is_dir() {
        return Err(Usage(format!("{}: it is no directory; expected that of a run", args.run.display())).into());
    }
    interrupt::catch()?;
    if args.progress != Show::Plain && dashboard::BUILT_IN && terminal::has_cursor() {
        let last = dashboard::watch(&args.run)?;
        return last.map_or(Ok(()), |state| end(&args.run, state));
    }
    follow(&args.run)
}

/// The same in lines.
fn follow(run: &Path) -> Result<()> {
    let mut watched = Watched::new(run);
    let (mut shown, mut said) = (0, None);
    let mut meanwhile = Meanwhile::new();
    loop {
        watched.look()?;
        if said.as_ref() != Some(&watched.state) {
            match &watched.state {
                State::Absent => meanwhile.print(&format!("Waiting for a run in {}\n", run.display()))?,
                State::Training => meanwhile.print(&format!("{}: in training\n", run.display()))?,
                _ => {}
            }
            said = Some(watched.state.clone());
        }
        // A run that went on from an earlier checkpoint, or another one in its place: what it does again is told again.
        shown = shown.min(watched.metrics.len());
        for at in shown..watched.metrics.len() {
            meanwhile.print(&line(&watched.metrics, at, watched.epochs()))?;
        }
        shown = watched.metrics.len();
        if !matches!(watched.state, State::Absent | State::Training) {
            drop(meanwhile);
            return end(run, watched.state);
        }
        if interrupt::asked() {
            return Ok(());
        }
        watched.status.iter().try_for_each(|status| meanwhile.tell(status))?;
        std::thread::sleep(LOOK);
    }
}

/// Says how it ended.
fn end(run: &Path, state: State) -> Result<()> {
    let run = run.display();
    match state {
        State::Finished(errors) => terminal::print(&format!("Finished. Test error: {errors}\n")),
        State::Stopped => terminal::print(&format!("Stopped. Go on with: onward train --resume {run}\n")),
        State::Failed(reason) => bail!("the run has failed: {reason}"),
        State::Died => {
            bail!(
                "the process that trained it ended without a word: killed, or the machine went down\n\
                 Nothing before its last checkpoint is lost. Go on with: onward train --resume {run}"
            )
        }
        State::Absent | State::Training => Ok(()),
    }
}

/// Where an epoch is: on a terminal in one line that is written again and again, elsewhere in a line now and then.
struct Meanwhile {
    bar: Option<ProgressBar>,
    printed: Instant,
}

impl Meanwhile {
    fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("a constant template"));
            bar
        });
        Meanwhile { bar, printed: Instant::now() }
    }

    fn print(&mut self, text: &str) -> Result<()> {
        self.printed = Instant::now();
        match &self.bar {
            Some(bar) => bar.suspend(|| terminal::print(text)),
            None => terminal::print(text),
        }
    }

    fn tell(&mut self, status: &Status) -> Result<()> {
        match &self.bar {
            Some(bar) => bar.set_message(place(status)),
            None if self.printed.elapsed() >= BETWEEN_LINES => self.print(&format!("{}\n", place(status)))?,
            None => {}
        }
        Ok(())
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Where a run is in an epoch, in a line.
fn place(status: &Status) -> String {
    let Status { epochs_done, epochs, step_of_epoch, steps_per_epoch, .. } = *status;
    let at_work = if status.phase == Phase::Evaluating { epochs_done } else { epochs_done + 1 };
    let epoch = format!("{}/{epochs}", at_work.min(epochs.max(1)));
    let mut line = format!("{epoch:>7}  ");
    match status.phase {
        Phase::Evaluating => line.push_str("reading out"),
        phase => {
            if phase == Phase::Paused {
                line.push_str("paused at ");
            }
            line.push_str(&format!("step {}/{}", grouped(step_of_epoch), grouped(steps_per_epoch)));
            line.extend(status.loss.map(|loss| format!("  loss {loss:.3}")));
            line.extend(status.samples_per_second.map(|rate| format!("  {} samples/s", grouped(rate as u64))));
            let left = status.seconds_left.map(|left| HumanDuration(Duration::from_secs_f64(left.clamp(0.0, 1e9))));
            line.extend(left.map(|left| format!("  {left} left")));
        }
    }
    // Pauses are told of each second, too; only reading out may take its time.
    if status.phase != Phase::Evaluating && status.age() > SILENCE {
        line.push_str(&format!("  (no news for {})", HumanDuration(status.age())));
    }
    line
}

/// How long a run that takes steps is silent before that is said.
const SILENCE: Duration = Duration::from_secs(10);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_a_line() {
        let text = r#"{"written": 4e9, "phase": "training", "process": 1, "epochs_done": 2, "epochs": 10, "step": 1250,
            "step_of_epoch": 1050, "steps_per_epoch": 1100, "samples_per_second": 12345.6, "seconds": 20.0,
            "seconds_left": 125.0, "memory_bytes": null, "loss": 0.25, "thresholds": [], "layers": []}"#;
        let mut status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(place(&status), "   3/10  step 1,050/1,100  loss 0.250  12,345 samples/s  2 minutes left");
        (status.phase, status.loss, status.samples_per_second) = (Phase::Paused, None, None);
        assert_eq!(place(&status), "   3/10  paused at step 1,050/1,100  2 minutes left");
        status.written = 1e9;
        assert!(place(&status).contains("  (no news for "));
        status.phase = Phase::Evaluating;
        assert_eq!(place(&status), "   2/10  reading out");
    }
}
