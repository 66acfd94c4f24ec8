//! `onward train`.

use crate::confusion;
use crate::exit::{Interrupted, Usage};
use crate::experiment::Experiment;
use crate::health::Watch;
use crate::interrupt;
use crate::memory::{self, peak_rss_bytes, rss_bytes};
use crate::progress::{Mode, Progress, Start, errors, grouped};
use crate::provenance::Provenance;
use crate::ranks::Ranks;
use crate::report::mistakes::Judged;
use crate::report::probed::{Probed, few};
use crate::report::{Report, Status};
use crate::run_dir::{Metrics, RunDir, Summary};
use crate::scalars;
use crate::settings::parse_flag;
use crate::source::{self, Samples, samples_of_run};
use crate::status::{Phase, Pulse, Status as Now};
use crate::tensorboard::{self, EventFile};
use crate::terminal;
use anyhow::{Context, Result};
use onward::{Dataset, Event, Flow, Network, Readout, Trainer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use toml::Value;

/// Flags of `onward train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An experiment that `onward experiments` lists, or a file that ends in .toml.
    #[arg(default_value = "default", conflicts_with = "resume")]
    experiment: String,
    /// Change a setting: KEY=VALUE, such as training.batch=50. `onward experiments --settings` explains them all.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// Visits to the whole training set (training.epochs).
    #[arg(long, conflicts_with = "resume")]
    epochs: Option<u32>,
    /// Decides every random draw (seed).
    #[arg(long, conflicts_with = "resume")]
    seed: Option<u32>,
    /// Use only N training samples (data.train).
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    limit: Option<u32>,
    /// What to train on (data.source): a name that `onward data` lists, a file, or a folder.
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    data: Option<String>,
    /// The run directory; by default a new one under runs/.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with an interrupted run, to the same bits as if it had never stopped.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Run the programs that the run's black boxes name: only for runs that you trust
    #[arg(long, requires = "resume")]
    allow_programs: bool,
    /// Where to compute (engine.device).
    #[arg(long, value_enum, conflicts_with = "resume")]
    device: Option<Device>,
    /// Threads to compute with; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Under mpirun or srun: how many processes have the same layers, each for its share of every batch
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
    /// How to show progress.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    progress: Mode,
    /// Minutes between checkpoints within an epoch; there is one after each epoch in any case.
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0)]
    checkpoint_minutes: f64,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Device {
    /// This machine's processor.
    Cpu,
    /// Reserved for a GPU engine; this version refuses it.
    Cuda,
}

/// Trains.
pub fn run(args: &Args) -> Result<()> {
    args.progress.check()?;
    if !(0.0..=1e6).contains(&args.checkpoint_minutes) {
        return Err(Usage(format!("--checkpoint-minutes {}: expected 0 to 1,000,000", args.checkpoint_minutes)).into());
    }
    let minutes = args.checkpoint_minutes;
    let options = Options { threads: args.threads, progress: args.progress, checkpoint_minutes: minutes };
    let ranks = Ranks::join(args.replicas)?;
    let options = Options { threads: ranks.threads(args.threads), ..options };
    if ranks.follows() {
        interrupt::ignore()?;
        prepare(&options)?;
        return ranks.serve();
    }
    if let Some(path) = &args.resume {
        resume(path, &options, args.allow_programs, &ranks)?;
    } else {
        let experiment = Experiment::open(&args.experiment)?.with(changes(args)?)?;
        let path = args.out.clone().unwrap_or_else(|| default_path(&experiment));
        start(experiment, path, &options, &ranks)?;
    }
    Ok(())
}

/// How to train, whatever is trained.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads to compute with; 0 for one per core.
    pub threads: usize,
    /// How to show progress.
    pub progress: Mode,
    /// Minutes between checkpoints within an epoch.
    pub checkpoint_minutes: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { threads: 0, progress: Mode::Auto, checkpoint_minutes: 5.0 }
    }
}

/// Trains an experiment in a new run directory.
pub fn start(mut experiment: Experiment, path: PathBuf, options: &Options, ranks: &Ranks) -> Result<Summary> {
    prepare(options)?;
    ranks.check(&experiment.recipe)?;
    // Whatever can be refused is refused before there is a directory.
    let all = source::open(&experiment.data.source)?;
    experiment.fit(&all.train, all.kind);
    let samples = source::split(all, &experiment.data)?;
    memory::check(&experiment.recipe, &samples.train)?;
    let trainer = Trainer::new(experiment.recipe.clone(), &samples.train)?;
    trainer.check(&samples.train)?;
    if let Some(what) = experiment.overwritten(&samples.train) {
        eprintln!("{}: {what}", experiment.data.source);
    }
    let run = RunDir::create(&path, &experiment)?;
    let here = Provenance::here(&samples);
    Run::new(run, experiment, samples, here, trainer, 0.0).train(options, ranks)
}

/// Goes on with an earlier run; `programs`: whether its black boxes may run programs.
pub fn resume(path: &Path, options: &Options, programs: bool, ranks: &Ranks) -> Result<Summary> {
    prepare(options)?;
    let (run, experiment) = RunDir::reopen(path)?;
    ranks.check(&experiment.recipe)?;
    let samples = samples_of_run(path, &experiment)?;
    let here = Provenance::here(&samples);
    let source = &experiment.data.source;
    if let Some(problem) = RunDir::provenance(path)?.last().and_then(|then| here.other_data(then, source)) {
        return Err(Usage(format!("{}: {problem}, or train a new run on what is there now", path.display())).into());
    }
    let (mut trainer, seconds) = match run.load()? {
        Some((trainer, warning)) => {
            warning.iter().for_each(|warning| eprintln!("warning: {warning}"));
            (trainer, run.seconds())
        }
        None => (Trainer::new(experiment.recipe.clone(), &samples.train)?, 0.0),
    };
    trainer.allow_programs(programs);
    Run::new(run, experiment, samples, here, trainer, seconds).train(options, ranks)
}

/// Threads and signals, once.
pub fn prepare(options: &Options) -> Result<()> {
    interrupt::catch()?;
    static PREPARED: std::sync::Once = std::sync::Once::new();
    let mut outcome = Ok(());
    PREPARED.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global();
        outcome = pool.context("the threads could not be started");
    });
    outcome
}

/// The settings that flags change.
fn changes(args: &Args) -> Result<Vec<(String, Value)>> {
    let mut changes = args.set.iter().map(|flag| parse_flag(flag)).collect::<Result<Vec<_>, _>>()?;
    let numbers = [("training.epochs", args.epochs), ("seed", args.seed), ("data.train", args.limit)];
    for (key, number) in numbers {
        if let Some(number) = number {
            changes.push(parse_flag(&format!("{key}={number}"))?);
        }
    }
    match args.device {
        Some(Device::Cpu) => changes.push(parse_flag("engine.device=cpu")?),
        Some(Device::Cuda) => changes.push(parse_flag("engine.device=cuda")?),
        None => {}
    }
    if let Some(data) = &args.data {
        changes.push(("data.source".into(), Value::String(data.clone())));
    }
    Ok(changes)
}

/// `runs/NAME-SEED-DATE-TIME`.
fn default_path(experiment: &Experiment) -> PathBuf {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S");
    let base = format!("{}-{}-{now}", experiment.name, experiment.recipe.seed.0);
    let numbered = |n: u32| if n == 1 { base.clone() } else { format!("{base}-{n}") };
    let free = (1..).map(|n| Path::new("runs").join(numbered(n))).find(|path| !path.exists());
    free.expect("some number is free")
}

/// A run under way.
struct Run {
    run: RunDir,
    experiment: Experiment,
    samples: Samples,
    /// What trains it now.
    here: Provenance,
    trainer: Trainer,
    /// Seconds of training before this process, and in it.
    seconds: f64,
    metrics: Vec<Metrics>,
    probes: Vec<Probed>,
    provenance: Vec<Provenance>,
    pulse: Pulse,
}

impl Run {
    fn new(
        run: RunDir,
        experiment: Experiment,
        samples: Samples,
        here: Provenance,
        trainer: Trainer,
        seconds: f64,
    ) -> Self {
        let (metrics, probes, provenance) = Default::default();
        let pulse = Pulse::new(&trainer, samples.train.len());
        Run { run, experiment, samples, here, trainer, seconds, metrics, probes, provenance, pulse }
    }

    fn train(mut self, options: &Options, ranks: &Ranks) -> Result<Summary> {
        let path = self.run.path().display().to_string();
        let position = self.trainer.position();
        self.metrics = RunDir::metrics(self.run.path(), position.epoch)?;
        self.probes = RunDir::lines(self.run.path(), position.epoch)?;
        self.provenance = match self.trainer.is_done() {
            true => RunDir::provenance(self.run.path())?,
            false => self.run.add_provenance(&self.here)?,
        };
        self.run.write_lines(&self.metrics)?;
        self.run.write_lines(&self.probes)?;
        let mut progress = Progress::start(
            options.progress,
            &Start {
                network: self.trainer.network(),
                experiment: &self.experiment.name,
                seed: self.experiment.recipe.seed.0,
                run: &path,
                again: false,
                samples: (self.samples.train.len(), self.samples.validation.as_ref().map_or(0, Dataset::len)),
                epochs: self.trainer.epochs(),
                steps: (self.trainer.steps_per_epoch(self.samples.train.len()), position.step),
                batch: self.experiment.recipe.training.batch,
                threads: rayon::current_num_threads(),
            },
        );
        self.metrics.iter().for_each(|metrics| progress.epoch(metrics));

        let mut events = EventFile::begin(self.run.path(), &self.events())?;
        self.run.clear_failure();
        let between_checkpoints = Duration::from_secs_f64(60.0 * options.checkpoint_minutes);
        let outcome = self.epochs(ranks, &progress, &mut events, between_checkpoints);
        let now = match &outcome {
            Err(_) => self.pulse.again(Phase::Failed),
            Ok(()) if self.trainer.is_done() => self.pulse.again(Phase::Evaluating),
            Ok(()) => Some(self.pulse.status(Phase::Stopped, &self.trainer, self.seconds)),
        };
        now.iter().for_each(|now| tell(&self.run, &progress, now));
        progress.stop();
        outcome.inspect_err(|error| self.run.note_failure(error))?;
        if !self.trainer.is_done() {
            let at = self.trainer.position();
            progress
                .say(&format!("\nStopped after step {} and saved. Go on with: onward train --resume {path}", at.step));
            return Err(Interrupted.into());
        }
        self.finish(&progress, &mut events)
    }

    /// What TensorBoard is to know of the epochs so far.
    fn events(&self) -> Vec<tensorboard::Event> {
        let before = std::iter::once(None).chain(self.metrics.iter().map(Some));
        self.metrics.iter().zip(before).map(|(metrics, before)| as_event(metrics, before, &self.experiment)).collect()
    }

    /// Trains until done or interrupted, and saves what must not be lost.
    fn epochs(
        &mut self,
        ranks: &Ranks,
        progress: &Progress,
        events: &mut EventFile,
        between_checkpoints: Duration,
    ) -> Result<()> {
        let Run { run, experiment, samples, trainer, seconds, metrics, probes, pulse, .. } = self;
        let validation = samples.validation.as_ref();
        let few = few(&samples.train, validation);
        let mut watch = Watch::new(trainer.network());
        let shown = few.slice(0..few.len().min(Watch::SHOWN))?;
        let mut failure = None;
        let mut since = Instant::now();
        let mut saved = Instant::now();
        let mut observe = |event: Event<'_>, trainer: &Trainer| {
            let mut handle = || -> Result<()> {
                match event {
                    Event::Step(step) => {
                        progress.step(step);
                        if step.step.is_multiple_of(Watch::STEPS) {
                            let seen = (step.step_of_epoch + 1) * step.samples as u64;
                            watch.look(&trainer.so_far(), seen).iter().for_each(|finding| progress.warn(finding));
                            watch.look_at(trainer, &shown)?.iter().for_each(|finding| progress.warn(finding));
                        }
                        if pulse.step(step) {
                            let seconds = *seconds + since.elapsed().as_secs_f64();
                            tell(run, progress, &pulse.status(Phase::Training, trainer, seconds));
                        }
                        let asked = progress.controls().take_checkpoint();
                        if asked || saved.elapsed() >= between_checkpoints {
                            *seconds += since.elapsed().as_secs_f64();
                            run.save(trainer, *seconds)?;
                            (since, saved) = (Instant::now(), Instant::now());
                        }
                        if asked {
                            progress.note(&format!("Saved after step {}.", step.step));
                        }
                        if progress.controls().paused() {
                            *seconds += since.elapsed().as_secs_f64();
                            pause(run, progress, pulse, trainer, *seconds)?;
                            since = Instant::now();
                        }
                    }
                    Event::Epoch(epoch) => {
                        *seconds += since.elapsed().as_secs_f64();
                        let network = trainer.network();
                        tell(run, progress, &pulse.status(Phase::Evaluating, trainer, *seconds));
                        let begun = Instant::now();
                        let judged = judge(network, validation)?;
                        let line =
                            Metrics { epoch: epoch.clone(), seconds: *seconds, validation_error: errors_of(&judged) };
                        progress.epoch(&line);
                        watch.judge(&line).iter().for_each(|finding| progress.warn(finding));
                        run.add_line(&line)?;
                        events.add(&as_event(&line, metrics.last(), experiment))?;
                        probes.push(Probed::new(network, epoch.epoch, &few)?);
                        run.add_line(&probes[probes.len() - 1])?;
                        let best = metrics.iter().map(mean_error).fold(f64::INFINITY, f64::min);
                        if mean_error(&line) < best || line.validation_error.is_empty() {
                            run.save_best(trainer)?;
                        }
                        metrics.push(line);
                        run.save(trainer, *seconds)?;
                        let report = Report {
                            experiment,
                            path: &run.path().display().to_string(),
                            status: Status::Training { epochs: trainer.epochs(), memory: rss_bytes() },
                            metrics,
                            probes,
                            probed_on: samples.probed_on(),
                            network,
                            train: &samples.train,
                            judged: validation.map(|data| ("validation", data, &judged[..])),
                            summary: None,
                        };
                        run.write_report(&report.html())?;
                        pulse.evaluated(begun.elapsed());
                        (since, saved) = (Instant::now(), Instant::now());
                    }
                    _ => {}
                }
                Ok(())
            };
            if let Err(error) = handle() {
                failure = Some(error);
            }
            let stop = failure.is_some() || interrupt::asked();
            if stop { Flow::Stop } else { Flow::Continue }
        };
        let directory = run.path().to_owned();
        ranks.fit(&directory, trainer, &samples.train, &mut observe)?;
        if let Some(error) = failure {
            return Err(error);
        }
        if !trainer.is_done() {
            *seconds += since.elapsed().as_secs_f64();
            run.save(trainer, *seconds)?;
        }
        Ok(())
    }

    /// The final numbers.
    fn finish(mut self, progress: &Progress, events: &mut EventFile) -> Result<Summary> {
        let path = self.run.path().display().to_string();
        if let Some(validation) = &self.samples.validation
            && self.trainer.combine_readouts(validation)?
        {
            self.run.save(&self.trainer, self.seconds)?;
        }
        let network = self.trainer.network();
        let judged = judge(network, self.samples.test.as_ref())?;
        let position = self.trainer.position();
        let visited = position.step * self.experiment.recipe.training.batch as u64;
        let summary = Summary {
            experiment: self.experiment.name.clone(),
            rule: self.experiment.recipe.rule,
            seed: self.experiment.recipe.seed.0,
            device: "cpu".into(),
            threads: rayon::current_num_threads(),
            epochs: position.epoch,
            parameters: network.parameters(),
            train_samples: self.samples.train.len(),
            seconds: self.seconds,
            samples_per_second: visited as f64 / self.seconds,
            peak_rss_bytes: peak_rss_bytes(),
            validation_error: self.metrics.last().map(|last| last.validation_error.clone()).unwrap_or_default(),
            test_error: errors_of(&judged),
            test_confusion: judged.iter().map(|one| (one.readout, one.evaluation.confusion.clone())).collect(),
            commit: option_env!("ONWARD_COMMIT").map(String::from),
            provenance: std::mem::take(&mut self.provenance),
            paper: self.experiment.paper.clone(),
            settings: self.experiment.to_table(),
            epochs_log: self.metrics.iter().map(Metrics::line).collect(),
        };
        let scalars = scalars::errors("test_error", &summary.test_error);
        events.add(&tensorboard::Event { epoch: summary.epochs, seconds: summary.seconds, scalars })?;
        self.run.write_summary(&summary)?;
        let report = Report {
            experiment: &self.experiment,
            path: &path,
            status: Status::Finished,
            metrics: &self.metrics,
            probes: &self.probes,
            probed_on: self.samples.probed_on(),
            network,
            train: &self.samples.train,
            judged: self.samples.test.as_ref().map(|data| ("test", data, &judged[..])),
            summary: Some(&summary),
        };
        self.run.write_report(&report.html())?;
        self.pulse.again(Phase::Finished).iter().for_each(|now| tell(&self.run, progress, now));
        progress.end(&path, &summary);

        if let (Some(test), Some(Judged { readout, evaluation, .. })) = (&self.samples.test, judged.last()) {
            let confusion = confusion::text(evaluation, network.class_names(), terminal::columns());
            progress.say(&format!("\nTest samples by class, {readout}:\n{}", confusion.trim_end()));
            let paper = match self.experiment.paper.error {
                0.0 => String::new(),
                error => format!("\nThe paper's: {error} %"),
            };
            progress.say(&format!(
                "\nTest error on {}: {}{paper}",
                grouped(test.len() as u64),
                errors(&summary.test_error)
            ));
        }
        progress.say(&format!(
            "Trained for {:.0} s at {} samples/s. Everything is in\n  {path}",
            summary.seconds,
            grouped(summary.samples_per_second as u64)
        ));
        progress.say(&format!(
            "Next:\n  open {path}/report.html in a browser\n  onward inspect {path}\n  onward predict {path} IMAGE…"
        ));
        Ok(summary)
    }
}

/// Tells whoever watches, here or elsewhere, where training is now.
fn tell(run: &RunDir, progress: &Progress, now: &Now) {
    // What is of use for a second is no reason to stop; whatever keeps it from being written stops the next checkpoint too.
    let _ = now.write(run.path());
    progress.status(now);
}

/// Waits between two steps until the user goes on, or stops.
fn pause(run: &RunDir, progress: &Progress, pulse: &mut Pulse, trainer: &Trainer, seconds: f64) -> Result<()> {
    let begun = Instant::now();
    tell(run, progress, &pulse.status(Phase::Paused, trainer, seconds));
    let mut told = Instant::now();
    while progress.controls().paused() && !interrupt::asked() {
        std::thread::sleep(Duration::from_millis(30));
        if progress.controls().take_checkpoint() {
            run.save(trainer, seconds)?;
            progress.note(&format!("Saved after step {}.", trainer.position().step));
        }
        if told.elapsed() >= Duration::from_secs(1) {
            pulse.again(Phase::Paused).iter().for_each(|now| tell(run, progress, now));
            told = Instant::now();
        }
    }
    pulse.paused(begun.elapsed());
    Ok(())
}

/// An epoch as TensorBoard shows it; `before`: the epoch before it.
fn as_event(metrics: &Metrics, before: Option<&Metrics>, experiment: &Experiment) -> tensorboard::Event {
    let scalars = scalars::of_epoch(metrics, before, &experiment.recipe);
    tensorboard::Event { epoch: metrics.epoch.epoch, seconds: metrics.seconds, scalars }
}

fn mean_error(metrics: &Metrics) -> f64 {
    let errors = &metrics.validation_error;
    errors.values().sum::<f64>() / errors.len().max(1) as f64
}

/// What every readout makes of the samples, if there are any.
pub fn judge(network: &Network, data: Option<&Dataset>) -> Result<Vec<Judged>> {
    data.map_or(Ok(Vec::new()), |data| Judged::all(network, data))
}

/// Errors in per cent.
pub fn errors_of(judged: &[Judged]) -> BTreeMap<Readout, f64> {
    judged.iter().map(|one| (one.readout, one.evaluation.error())).collect()
}
