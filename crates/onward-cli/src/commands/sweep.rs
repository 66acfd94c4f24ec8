//! `onward sweep`: many combinations of settings trained side by side, and ranked on validation samples.

mod ranking;
mod space;

use crate::children::{PAUSE, Process};
use crate::commands::report::open;
use crate::exit::{Interrupted, Usage};
use crate::experiment::Experiment;
use crate::interrupt;
use crate::run_dir::RunDir;
use crate::settings::wrapped;
use crate::terminal;
use anyhow::{Context, Result};
use onward::Readout;
use onward::checkpoint::write_atomically;
use ranking::{Outcome, Ranking};
use space::Space;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Flags of `onward sweep`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Args {
    /// What to try, a TOML file; `onward sweep --help` has an example.
    file: PathBuf,
    /// Where the runs go, a directory each; finished ones are read, others gone on with. By default runs/sweep-FILE.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at a time; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    jobs: usize,
    /// Threads of each run; 0 to share the cores evenly.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// The readout whose validation error decides; by default the mean of all that the networks offer.
    #[arg(long, value_enum, value_name = "READOUT")]
    by: Option<By>,
    /// Only list what would be trained.
    #[arg(long)]
    list: bool,
}

const EXAMPLE: &str = "\
A file such as this one trains 2 x 4 combinations, each with three seeds:

  experiment = \"default-small\"       # what is varied: an experiment or a file
  seeds = 3                          # how many, or a list: [7, 8, 9]; else
                                     # the experiment's own
  draws = 4                          # random values for each combination

  [set]                              # settings that are the same for all
  training.epochs = 5

  [grid]                             # every combination of these
  negatives.kind = [\"hard\", \"uniform\"]

  [random]                           # drawn from ranges, or from lists
  optimizer.rate = { from = 0.001, to = 0.1, log = true }
  training.batch = [50, 100, 200]

Run it again to go on after Ctrl-C or a crash, or with more values, draws or
seeds: what is finished is not trained again.";

/// A readout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Each label is tried, and the goodness compared.
    EveryLabel,
    /// The softmax head is asked.
    OnePass,
}

/// A run to be trained.
#[derive(Debug)]
struct Job {
    trial: usize,
    seed: u64,
    experiment: Experiment,
    path: PathBuf,
}

/// A run under way, in a process of its own.
struct Running {
    job: usize,
    process: Process,
    /// What it says on stderr.
    said: File,
    since: Instant,
}

/// Trains what is not trained yet, and ranks.
pub fn run(args: &Args) -> Result<()> {
    let space = Space::open(&args.file)?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("sweep-{}", space.name)));
    let jobs = jobs(&space, &out);
    if args.list {
        return list(&space, &jobs);
    }
    if jobs.is_empty() {
        let reasons: Vec<&str> =
            space.trials.iter().filter_map(|trial| trial.experiment.as_ref().err()).map(|e| &e[..]).collect();
        return Err(Usage(format!("none of these settings go together: {}", reasons.join("; "))).into());
    }
    std::fs::create_dir_all(&out).with_context(|| format!("{}: it could not be made", out.display()))?;
    let todo = unfinished(&jobs)?;
    terminal::print(&format!(
        "{} combinations, {} seeds: {} runs, {} of them finished; results go to {}\n",
        space.trials.len(),
        space.seeds.len(),
        jobs.len(),
        jobs.len() - todo.len(),
        out.display()
    ))?;
    let failures = train(&space, &jobs, todo, args)?;

    let mut outcomes = Vec::new();
    for (n, job) in jobs.iter().enumerate() {
        let run = match failures.iter().find(|(failed, _)| *failed == n) {
            Some((_, reason)) => Err(reason.clone()),
            None => match open(&job.path) {
                Ok(run) if run.summary.is_none() => Err("it has not come to its end".into()),
                run => run.map_err(|error| format!("{error:#}")),
            },
        };
        outcomes.push(Outcome { trial: job.trial, seed: job.seed, path: job.path.clone(), run });
    }
    let by = args.by.map(|by| match by {
        By::EveryLabel => Readout::EveryLabel,
        By::OnePass => Readout::OnePass,
    });
    let ranking = Ranking::new(&space, outcomes, by);
    let mut text = format!("\n{}\n", ranking.text(terminal::columns()));
    for (name, contents) in [
        ("sweep.csv", ranking.csv()?),
        ("sweep.json", ranking.json()?),
        ("sweep.html", ranking.html(&space.name).into_bytes()),
    ] {
        let file = out.join(name);
        write_atomically(&file, &contents).with_context(|| format!("{}: it could not be written", file.display()))?;
        text.push_str(&format!("{}\n", file.display()));
    }
    terminal::print(&text)?;
    match ranking.failed() {
        0 => Ok(()),
        failed => anyhow::bail!("{failed} of {} runs failed; the same command tries them again", jobs.len()),
    }
}

/// Every run, all trials with the first seed before any with the second: an answer comes early, and gets surer.
fn jobs(space: &Space, out: &Path) -> Vec<Job> {
    let of_seed = |&seed: &u64| {
        let all = space.trials.iter().enumerate();
        all.filter_map(move |(trial, tried)| {
            let mut experiment = tried.experiment.as_ref().ok()?.clone();
            experiment.recipe.seed = onward::settings::Seed(seed);
            Some(Job { trial, seed, experiment, path: out.join(tried.directory(seed)) })
        })
    };
    space.seeds.iter().flat_map(of_seed).collect()
}

fn list(space: &Space, jobs: &[Job]) -> Result<()> {
    let mut text = String::new();
    for trial in &space.trials {
        let state = match &trial.experiment {
            Ok(_) => {
                let done = jobs.iter().filter(|job| space.trials[job.trial].values == trial.values);
                let done = done.filter(|job| job.path.join("summary.json").exists()).count();
                format!("{done} of {} finished", space.seeds.len())
            }
            Err(reason) => format!("refused: {reason}"),
        };
        let lines = wrapped(&format!("{}  ({state})", trial.text()), terminal::columns() - 4);
        text.push_str(&format!("{}\n", lines.join("\n    ")));
    }
    terminal::print(&text)
}

/// The runs that are still to be trained, by number.
///
/// # Errors
/// A [`Usage`] where a run of other settings is in the way.
fn unfinished(jobs: &[Job]) -> Result<VecDeque<usize>> {
    let mut todo = VecDeque::new();
    for (n, job) in jobs.iter().enumerate() {
        RunDir::refuse_other(&job.path, &job.experiment)?;
        if !matches!(RunDir::summary(&job.path), Ok(Some(_))) {
            todo.push_back(n);
        }
    }
    Ok(todo)
}

/// Trains side by side, in processes of their own: one that fails or runs out of memory takes none of the others with it.
/// Answers which failed, and why.
fn train(space: &Space, jobs: &[Job], mut todo: VecDeque<usize>, args: &Args) -> Result<Vec<(usize, String)>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let at_once = if args.jobs == 0 { cores } else { args.jobs }.clamp(1, todo.len().max(1));
    let threads = if args.threads == 0 { (cores / at_once).max(1) } else { args.threads };
    interrupt::catch()?;
    let (all, start) = (todo.len(), Instant::now());
    let (mut running, mut failures, mut done): (Vec<Running>, Vec<_>, _) = (Vec::new(), Vec::new(), 0);
    let mut told = false;
    loop {
        while running.len() < at_once && !interrupt::asked() {
            let Some(job) = todo.pop_front() else { break };
            running.push(begin(job, &jobs[job], threads)?);
        }
        if running.is_empty() {
            break;
        }
        if interrupt::asked() && !std::mem::replace(&mut told, true) {
            running.iter().for_each(|one| one.process.ask_to_stop());
        }
        std::thread::sleep(PAUSE);
        let mut i = 0;
        while i < running.len() {
            let Some(status) = running[i].process.ended().context("a run could not be waited for")? else {
                i += 1;
                continue;
            };
            let mut one = running.swap_remove(i);
            let job = &jobs[one.job];
            if interrupt::asked() && !status.success() {
                continue;
            }
            done += 1;
            let name = format!("{}, seed {}", space.trials[job.trial].text(), job.seed);
            let result = match status.success() {
                true => validation(&job.path, one.since.elapsed())?,
                false => {
                    let reason = match status.code() {
                        Some(130) => "it was stopped from elsewhere, and saved".into(),
                        _ => reason(&mut one.said, &status.to_string()),
                    };
                    failures.push((one.job, reason.clone()));
                    format!("FAILED: {reason}")
                }
            };
            let left = start.elapsed().mul_f64((all - done) as f64 / done as f64).as_secs();
            let left = if done < all { format!("; about {} left", span(left)) } else { String::new() };
            // Whoever stops listening does not stop the training.
            let _ = terminal::print(&line(&format!("{done:>4}/{all}  "), &name, &format!("{result}{left}")));
        }
    }
    if interrupt::asked() {
        let _ = terminal::print("\nStopped. The same command goes on.\n");
        return Err(Interrupted.into());
    }
    Ok(failures)
}

/// Starts a run, or goes on with it.
fn begin(number: usize, job: &Job, threads: usize) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe().context("this program could not be found again")?);
    command.arg("train").args(["--threads", &threads.to_string(), "--progress", "none"]);
    match job.path.join("experiment.toml").exists() {
        true => command.arg("--resume").arg(&job.path),
        false => {
            let file = job.path.with_file_name(format!("{}.toml", file_name(&job.path)));
            write_atomically(&file, job.experiment.document().as_bytes())
                .with_context(|| format!("{}: it could not be written", file.display()))?;
            command.arg(&file).arg("--out").arg(&job.path)
        }
    };
    let said = tempfile::tempfile().context("a scratch file could not be made")?;
    let stderr = said.try_clone().context("a scratch file could not be shared")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    // Ctrl-C reaches this process alone, which asks each run once, and says when all have stopped.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let process = Process::start(&mut command).context("a run could not be started")?;
    Ok(Running { job: number, process, said, since: Instant::now() })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A run and its result in a line; where the terminal is not wide enough, in more, indented.
fn line(number: &str, name: &str, result: &str) -> String {
    let (columns, indent) = (terminal::columns(), number.chars().count());
    let line = format!("{number}{name}: {result}\n");
    if line.chars().count() <= columns + 1 {
        return line;
    }
    let width = columns.saturating_sub(indent).max(20);
    let lines = [wrapped(&format!("{name}:"), width), wrapped(result, width)].concat();
    format!("{number}{}\n", lines.join(&format!("\n{:indent$}", "")))
}

/// What a finished run came to.
fn validation(path: &Path, time: Duration) -> Result<String> {
    let summary = RunDir::summary(path)?.context("a finished run has a summary")?;
    let errors = crate::progress::errors(&summary.validation_error);
    Ok(format!("{errors}   in {}", span(time.as_secs())))
}

/// The last that a failed run said.
fn reason(said: &mut File, status: &str) -> String {
    let mut text = Vec::new();
    let read = said.rewind().and_then(|()| said.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).filter(|_| read.is_ok());
    last.map_or_else(|| status.to_owned(), |line| line.trim_start_matches("error: ").to_owned())
}

/// `12 s`, `3 min`, `2.5 h`.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}
