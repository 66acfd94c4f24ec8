//! `onward stream`: learns from records as they come, for as long as they come.

pub mod bench;

use crate::exit::{Interrupted, Usage};
use crate::feed::Feed;
use crate::interrupt;
use crate::lock::Lock;
use crate::progress::grouped;
use anyhow::{Context, Result};
use onward::checkpoint::{newest, previous, remove_leftovers, set_aside};
use onward::settings::{RecurrentSettings, Seed};
use onward::train::stream::{Learner, StreamRule, StreamSettings, Task, Verdict, WrongLabels, WrongWindows};
use onward_data::records::{Columns, Format, LabelColumn, NO_LABEL, Next, Record, Records};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Flags of `onward stream`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A file of records, or - for standard input.
    #[arg(default_value = "-", conflicts_with = "listen")]
    input: PathBuf,
    /// Take records from programs on this machine that connect to this address, such as 127.0.0.1:7000.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    learning: Learning,
    /// Save here everything needed to go on: every so many records, when the stream ends or stalls, and when interrupted.
    /// Only what --resume names is replaced.
    #[arg(long, value_name = "FILE", help_heading = "Checkpoints")]
    checkpoint: Option<PathBuf>,
    /// Records between checkpoints.
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Checkpoints",
          value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Go on from a checkpoint, to the same bits as if there had been no stop; of the same file, what was learned is not
    /// read again. Columns and settings are the checkpoint's.
    #[arg(long, value_name = "FILE", help_heading = "Checkpoints")]
    resume: Option<PathBuf>,
    /// Learn nothing: only say what the checkpoint's network makes of the records.
    #[arg(long, requires = "resume", help_heading = "Checkpoints")]
    frozen: bool,
    /// What is written to standard output: a JSON object for each record; or nothing, and only summaries on standard error.
    #[arg(long, value_enum, default_value_t = Output::Records, help_heading = "Output")]
    output: Output,
    /// Records between summaries on standard error; one at the end there is in any case.
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Output",
          value_parser = clap::value_parser!(u64).range(1..))]
    summary_every: u64,
    /// Stop after so many records.
    #[arg(long, value_name = "N", help_heading = "Output")]
    limit: Option<u64>,
    /// Seconds without records after which a stall is reported, and a checkpoint written.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, help_heading = "Output")]
    stall: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A JSON object for each record.
    Records,
    /// Nothing.
    Summary,
}

/// How records are written down, and what is done about what is missing.
#[derive(Clone, Debug, Serialize, Deserialize, clap::Args)]
struct Reading {
    /// How records are written down [default: what the file's name ends with, or csv].
    #[arg(long, value_enum, help_heading = "Records", conflicts_with = "resume")]
    format: Option<FormatName>,
    /// What separates the fields of CSV.
    #[arg(long, value_name = "CHARACTER", default_value_t = ',', help_heading = "Records", conflicts_with = "resume")]
    delimiter: char,
    /// Numbers in a record (raw alone).
    #[arg(long, value_name = "N", help_heading = "Records", conflicts_with = "resume")]
    columns: Option<usize>,
    /// The features, by name or by number from 1 [default: every column that is nothing else].
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Records", conflicts_with = "resume")]
    features: Vec<String>,
    /// The label [default, with labels: the column named label, class or target; without names, the last]. A field that is
    /// empty: the label is not known.
    #[arg(long, value_name = "COLUMN", help_heading = "Records", conflicts_with = "resume")]
    label: Option<String>,
    /// Columns to leave out.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Records", conflicts_with = "resume")]
    ignore: Vec<String>,
    /// What names a record. A later record of the same name, with a label and without features, is its label coming late.
    #[arg(long, value_name = "COLUMN", help_heading = "Records", conflicts_with = "resume")]
    id: Option<String>,
    /// Labels come N records late: a record's label is that of the record N before it.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Records", conflicts_with_all = ["resume", "id"])]
    delay: usize,
    /// What values may be, of one column or of all: -40:85, or temperature=-40:85. Others count as missing.
    #[arg(long, value_name = "[COLUMN=]LOW:HIGH", value_parser = range, allow_hyphen_values = true, help_heading = "Records",
          conflicts_with = "resume")]
    range: Vec<(String, f64, f64)>,
    /// What is done about a record with a value that is missing, no number or out of range: put the feature's mean so far
    /// in its place, or leave the record out.
    #[arg(long, value_enum, default_value_t = Missing::Impute, help_heading = "Records", conflicts_with = "resume")]
    missing: Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
enum FormatName {
    /// Comma-separated values, with or without names.
    Csv,
    /// A JSON object or array a line.
    Json,
    /// NPY arrays one after another.
    Npy,
    /// Little-endian single precision numbers.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
enum Missing {
    /// The feature's running mean stands for the value.
    Impute,
    /// The record is left out.
    Skip,
}

/// What is learned, and how.
#[derive(Clone, Debug, clap::Args)]
struct Learning {
    /// Predict labels and learn from them; or learn, without labels, what is usual.
    #[arg(long, value_enum, default_value_t = Mode::Classify, help_heading = "Learning", conflicts_with = "resume")]
    mode: Mode,
    /// The hidden layers' widths.
    #[arg(long, value_delimiter = ',', default_values_t = [64usize, 64], help_heading = "Learning", conflicts_with = "resume")]
    layers: Vec<usize>,
    /// Records that are seen together, the newest last.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Learning", conflicts_with = "resume")]
    window: usize,
    /// Make the network a recurrent one, which sees a record a moment and remembers: layers hear from the layer above too,
    /// as it was a record before. For video, and all that makes sense in its order (without labels).
    #[arg(long, help_heading = "Learning", conflicts_with = "resume")]
    recurrent: bool,
    /// How weights learn: along the gradient, or by the on-line rule that sets a record's goodness in one step.
    #[arg(long, value_enum, default_value_t = RuleName::Gradient, help_heading = "Learning", conflicts_with = "resume")]
    rule: RuleName,
    /// The learning rate [default: 0.01, lower with more than 64 numbers in a window; 0.5 for the one-step rule].
    #[arg(long, help_heading = "Learning", conflicts_with = "resume")]
    rate: Option<f32>,
    /// Records in a step.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Learning", conflicts_with = "resume")]
    batch: usize,
    /// What should not occur [default: hard, or mixed-or-noise without labels, or another where the network is recurrent].
    #[arg(long, value_enum, help_heading = "Learning", conflicts_with = "resume")]
    negatives: Option<NegativesName>,
    /// Room for so many classes.
    #[arg(long, value_name = "K", default_value_t = 10, help_heading = "Learning", conflicts_with = "resume")]
    classes: usize,
    /// The least weight of a new value in the features' running means and deviations: 0.001 follows about the last thousand.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Learning", conflicts_with = "resume")]
    forget: f64,
    /// Recent records that are kept, for late labels and for negatives.
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Learning", conflicts_with = "resume")]
    memory: usize,
    /// Recent records that an anomaly is measured against.
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Learning", conflicts_with = "resume")]
    calibration: usize,
    /// Decides every random draw.
    #[arg(long, default_value_t = 1, help_heading = "Learning", conflicts_with = "resume")]
    seed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Predict each record's label, then learn from it.
    Classify,
    /// Tell what is usual from what is not.
    Unsupervised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RuleName {
    /// Along the gradient of the objective.
    Gradient,
    /// The paper's on-line rule (section 7).
    OneStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum NegativesName {
    /// Wrong labels that the net believes in.
    Hard,
    /// Any wrong label.
    Uniform,
    /// Features of other records, and values anywhere, in turn.
    MixedOrNoise,
    /// Some features of another recent record.
    Mixed,
    /// Some features anywhere within five deviations.
    Noise,
    /// The window's records in another order.
    Shuffled,
    /// Another recent record in the place of the newest.
    Another,
    /// What the net itself takes for real.
    Predicted,
}

/// How far from the threshold the one-step rule moves goodness.
const MARGIN: f32 = 0.1;

/// Problems that are said one by one; further ones are counted.
const SAID: u64 = 5;

/// Refuses labels that come when their records are forgotten.
fn check_delay(delay: usize, memory: usize) -> Result<()> {
    match delay < memory {
        true => Ok(()),
        false => {
            let problem = format!("only {memory} records are kept: raise --memory above {delay}");
            Err(Usage(format!("--delay {delay}: {problem}")).into())
        }
    }
}

/// Keeps others from writing the checkpoint at `path`, and removes what a killed process was writing there.
fn lock(path: &Path) -> Result<Lock> {
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    let taken = || format!("{}: another process is writing this checkpoint", path.display());
    let lock = Lock::take(&path.with_file_name(name), taken)?;
    remove_leftovers(path);
    Ok(lock)
}

/// Where a file really lies, for a symbolic link; else the path as it is.
fn real(path: &Path) -> PathBuf {
    let real = path.is_symlink().then(|| path.canonicalize().ok()).flatten();
    real.unwrap_or_else(|| path.to_owned())
}

/// A path by which a file is known again, whatever it is called and wherever that is done.
fn whole(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Whether both paths lead to the same file, which is there.
fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Refuses to write a checkpoint at `path` over anything but the one that the stream goes on from.
fn check_place(path: &Path, args: &Args) -> Result<()> {
    let place = path.display();
    if path.is_dir() {
        return Err(Usage(format!("{place}: it is a directory; expected a file to write the checkpoint to")).into());
    }
    if is_same_file(path, &args.input) {
        let problem = "it is what is to be learned from, which a checkpoint would replace: give another --checkpoint";
        return Err(Usage(format!("{place}: {problem}")).into());
    }
    if args.resume.as_deref() == Some(path) {
        return Ok(());
    }
    match [path.to_owned(), previous(path)].into_iter().find(|file| file.exists()) {
        None => Ok(()),
        Some(file) => Err(Usage(format!(
            "{}: there is a file here already; give another --checkpoint, or go on from it with --resume {place}",
            file.display()
        ))
        .into()),
    }
}

/// Learns until the stream ends.
pub fn run(args: &Args) -> Result<()> {
    // By one name, whoever writes it: locks and the checkpoint before lie beside it.
    let [checkpoint, resume] = [&args.checkpoint, &args.resume].map(|path| path.as_deref().map(real));
    let args = &Args { checkpoint, resume, ..args.clone() };
    if !(0.001..=1e6).contains(&args.stall) {
        return Err(Usage(format!("--stall {}: expected 0.001 to 1,000,000", args.stall)).into());
    }
    let stream = Stream::new(args)?;
    let is_there = |path: &PathBuf| path.exists() || previous(path).exists();
    let written = stream.checkpoint.clone().filter(|_| !args.frozen && args.resume.as_ref().is_none_or(is_there));
    let check = || written.iter().try_for_each(|path| check_place(path, args));
    check()?;
    let _lock = written.as_deref().map(lock).transpose()?;
    // Another process may have come first.
    check()?;
    let (mut stream, position) = match &args.resume {
        Some(path) => stream.resume(path, args)?,
        None => (stream, 0),
    };
    interrupt::catch()?;
    let stall = Duration::from_secs_f64(args.stall);
    let (feed, skip) = match args.listen {
        Some(address) => {
            let (feed, address) = Feed::listen(address, stall, interrupt::asked)?;
            eprintln!("Listening at {address}; Ctrl-C stops.");
            (feed, 0)
        }
        None => {
            let feed = Feed::open(&args.input, stall, interrupt::asked)?;
            let skip = if args.resume.is_some() { stream.skip_of(&args.input, position) } else { 0 };
            (feed, skip)
        }
    };
    stream.input.clone_from(&feed.name);
    let is_file = args.listen.is_none() && args.input != Path::new("-");
    stream.source = if is_file { whole(&args.input) } else { feed.name.clone() };
    stream.typed = args.input.to_string_lossy().into_owned();
    let format = stream.reading.format(&args.input)?;
    let columns = stream.reading.columns(stream.labels, &stream.features);
    let mut records = Records::new(stream.input.clone(), feed, format, columns);
    let out = io::stdout().lock();
    let outcome = stream.follow(&mut records, skip, &mut BufWriter::with_capacity(1 << 16, out));
    let cause = outcome.as_ref().err();
    if cause
        .and_then(|error| error.downcast_ref())
        .is_some_and(|error| matches!(error, onward::Error::NotFinite { .. }))
    {
        // The last checkpoint is better than what has diverged.
        return outcome;
    }
    // Whatever else has ended the stream, what was learned is kept.
    if stream.position > skip {
        stream.save()?;
    }
    let unread =
        cause.and_then(|error| error.downcast_ref()).is_some_and(|e: &io::Error| e.kind() == ErrorKind::BrokenPipe);
    if !unread {
        let nothing = outcome.is_err() && stream.tally.records == 0;
        eprint!("{}", if nothing { String::new() } else { stream.ending() });
        outcome?;
    }
    if interrupt::asked() { Err(Interrupted.into()) } else { Ok(()) }
}

impl Reading {
    fn format(&self, input: &Path) -> Result<Format> {
        let ending = input.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let name = self.format.unwrap_or(match ending.as_deref() {
            Some("json" | "jsonl" | "ndjson") => FormatName::Json,
            Some("npy") => FormatName::Npy,
            Some("f32" | "raw" | "bin") => FormatName::Raw,
            _ => FormatName::Csv,
        });
        Ok(match name {
            FormatName::Csv => {
                let delimiter =
                    u8::try_from(self.delimiter).ok().filter(u8::is_ascii).filter(|d| !b"\"\r\n".contains(d));
                let problem = || Usage(format!("--delimiter {:?}: expected one ASCII character", self.delimiter));
                Format::Csv(delimiter.ok_or_else(problem)?)
            }
            FormatName::Json => Format::Json,
            FormatName::Npy => Format::Npy,
            FormatName::Raw => Format::Raw(self.columns.ok_or_else(|| {
                Usage("raw numbers do not say how many make a record: say it with --columns N".into())
            })?),
        })
    }

    /// `known`: the features that were learned before, if any.
    fn columns(&self, labels: bool, known: &[String]) -> Columns {
        let label = match &self.label {
            Some(name) => LabelColumn::Named(name.clone()),
            None if labels => LabelColumn::Auto,
            None => LabelColumn::None,
        };
        let features = if self.features.is_empty() { known.to_vec() } else { self.features.clone() };
        let ignore = self.ignore.clone();
        Columns { features, label, id: self.id.clone(), ignore, ranges: self.range.clone() }
    }
}

/// `-40:85` or `temperature=-40:85`.
fn range(text: &str) -> Result<(String, f64, f64), String> {
    let (name, bounds) = text.rsplit_once('=').unwrap_or(("", text));
    let parsed =
        bounds.split_once(':').and_then(|(low, high)| Some((low.parse::<f64>().ok()?, high.parse::<f64>().ok()?)));
    match parsed {
        Some((low, high)) if low <= high && low.is_finite() && high.is_finite() => Ok((name.to_owned(), low, high)),
        _ => Err("expected LOW:HIGH, such as -40:85, or COLUMN=LOW:HIGH".into()),
    }
}

impl Learning {
    fn settings(&self) -> Result<StreamSettings> {
        use NegativesName as N;
        let mut settings = match self.mode {
            Mode::Classify => StreamSettings::classify(self.classes),
            Mode::Unsupervised => StreamSettings::unsupervised(),
        };
        let unfit = |name| {
            Usage(format!(
                "--negatives {name}: not with --mode {}",
                if self.mode == Mode::Classify { "classify" } else { "unsupervised" }
            ))
        };
        if self.recurrent {
            settings.recurrent = Some(RecurrentSettings::default().keep);
        }
        match (&mut settings.task, self.negatives) {
            (Task::Unsupervised { negatives }, None) if self.recurrent => *negatives = WrongWindows::Another,
            (_, None) => {}
            (Task::Classify { negatives, .. }, Some(N::Hard)) => *negatives = WrongLabels::Hard,
            (Task::Classify { negatives, .. }, Some(N::Uniform)) => *negatives = WrongLabels::Uniform,
            (Task::Unsupervised { .. }, Some(N::Hard | N::Uniform)) => return Err(unfit("hard or uniform").into()),
            (Task::Unsupervised { negatives }, Some(name)) => {
                *negatives = match name {
                    N::Mixed => WrongWindows::Mixed,
                    N::Noise => WrongWindows::Noise,
                    N::Shuffled => WrongWindows::Shuffled,
                    N::Another => WrongWindows::Another,
                    N::Predicted => WrongWindows::Predicted,
                    _ => WrongWindows::MixedOrNoise,
                }
            }
            (Task::Classify { .. }, Some(_)) => return Err(unfit("of windows").into()),
        }
        settings.layers.clone_from(&self.layers);
        (settings.window, settings.batch, settings.forget) = (self.window, self.batch, self.forget);
        (settings.memory, settings.calibration) = (self.memory, self.calibration);
        settings.seed = Seed(self.seed.into());
        if self.rule == RuleName::OneStep {
            settings.rule = StreamRule::OneStep { margin: MARGIN };
        }
        let default = if self.rule == RuleName::OneStep { 0.5 } else { settings.optimizer.rate };
        settings.optimizer.rate = self.rate.unwrap_or(default);
        Ok(settings.check()?)
    }
}

/// A stream under way.
struct Stream {
    settings: StreamSettings,
    /// Whether the learning rate is to suit the number of features.
    own_rate: bool,
    /// Made when the first record says how many features there are.
    learner: Option<Learner>,
    /// The features' names.
    features: Vec<String>,
    reading: Reading,
    labels: bool,
    frozen: bool,
    /// Where records come from, in messages.
    input: String,
    /// The same in checkpoints: a file by its [`whole`] path.
    source: String,
    /// And as it was typed.
    typed: String,
    /// Lines or frames read from there.
    position: u64,
    /// Records whose label has yet to come.
    waiting: VecDeque<Waiting>,
    /// Of the newest record.
    verdict: Verdict,
    tally: Tally,
    /// In this process.
    clock: Clock,
    said: u64,
    checkpoint: Option<PathBuf>,
    every: u64,
    output: Output,
    summary_every: u64,
    limit: Option<u64>,
    /// Records when the last checkpoint was written.
    saved: u64,
}

/// A record whose label has yet to come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    id: String,
    /// `None`: the record was left out.
    number: Option<u64>,
    guess: Option<usize>,
}

/// What is counted, over all processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    records: u64,
    /// Records left out: no records at all, or with values missing.
    skipped: u64,
    missing: u64,
    malformed: u64,
    out_of_range: u64,
    labels: u64,
    right: u64,
    /// Labels that could not be used: too late, or of one class too many.
    unused_labels: u64,
    /// Share of right predictions, the last thousand or so.
    recent: f64,
}

/// How long records take: counts by the logarithm of nanoseconds, in steps of an eighth of an octave.
#[derive(Clone, Debug)]
struct Clock {
    start: Instant,
    records: u64,
    buckets: [u64; 256],
}

/// One record, for programs.
#[derive(Serialize)]
struct Line<'a> {
    record: u64,
    line: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<Probabilities<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<&'a str>,
    goodness: &'a [f32],
    score: f32,
    anomaly: f32,
    #[serde(skip_serializing_if = "is_zero")]
    imputed: u32,
    latency_us: f64,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

struct Probabilities<'a>(&'a [String], &'a [f32]);

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

impl Stream {
    fn new(args: &Args) -> Result<Self> {
        let settings = args.learning.settings()?;
        let is_another = |path: &&PathBuf| args.resume.as_ref().is_none_or(|resumed| !is_same_file(path, resumed));
        let checkpoint = args.checkpoint.as_ref().filter(is_another).or(args.resume.as_ref()).cloned();
        let labels = settings.classes() > 0;
        check_delay(args.reading.delay, settings.memory)?;
        Ok(Stream {
            own_rate: args.learning.rate.is_none() && args.learning.rule == RuleName::Gradient,
            settings,
            learner: None,
            features: Vec::new(),
            reading: args.reading.clone(),
            labels,
            frozen: args.frozen,
            input: String::new(),
            source: String::new(),
            typed: String::new(),
            position: 0,
            waiting: VecDeque::new(),
            verdict: Verdict::default(),
            tally: Tally::default(),
            clock: Clock::new(),
            said: 0,
            checkpoint,
            every: args.every,
            output: args.output,
            summary_every: args.summary_every,
            limit: args.limit,
            saved: 0,
        })
    }

    /// Goes on; also answers how far the input was read.
    fn resume(mut self, path: &Path, args: &Args) -> Result<(Self, u64)> {
        let ((mut learner, notes), damage) = newest(path, |path| Learner::load(path))?;
        learner.set_learning(!args.frozen);
        let note = |key: &str| -> Result<&String> {
            let missing = || Usage(format!("{}: it does not say how its stream was read", path.display()));
            notes.get(key).ok_or_else(|| missing().into())
        };
        let damaged = || Usage(format!("{}: its notes on the stream cannot be understood", path.display()));
        self.settings = learner.settings().clone();
        self.labels = self.settings.classes() > 0;
        self.reading = serde_json::from_str(note("reading")?).with_context(damaged)?;
        self.features = serde_json::from_str(note("features")?).with_context(damaged)?;
        self.waiting = serde_json::from_str(note("waiting")?).with_context(damaged)?;
        self.tally = serde_json::from_str(note("tally")?).with_context(damaged)?;
        self.source.clone_from(note("input")?);
        self.typed = notes.get("typed").cloned().unwrap_or_default();
        let position: u64 = note("position")?.parse().with_context(damaged)?;
        check_delay(self.reading.delay, self.settings.memory)?;
        if self.waiting.len() > self.settings.memory {
            return Err(damaged().into());
        }
        let counts = &self.tally;
        let sane =
            [counts.skipped, counts.missing, counts.malformed, counts.out_of_range, counts.unused_labels, position];
        if counts.records != learner.records()
            || counts.right > counts.labels
            || counts.labels > counts.records
            || sane.iter().any(|n| *n > 1 << 60)
        {
            return Err(damaged().into());
        }
        self.saved = learner.records();
        if let Some(damage) = damage {
            let mut aside = String::new();
            // The next checkpoint must not push out the one that is whole.
            if !args.frozen && self.checkpoint.as_deref() == Some(path) && path.exists() {
                let moved = set_aside(path).with_context(|| format!("{}: it could not be moved", path.display()))?;
                aside = format!(" It is now called {}.", moved.display());
            }
            eprintln!("warning: {damage}.{aside} Going on after record {}.", grouped(learner.records()));
        }
        self.learner = Some(learner);
        Ok((self, position))
    }

    /// How many records of `input` were learned before, of the `position` read so far; said, where there is a choice: what comes
    /// from elsewhere than a file, comes once. A file may have moved together with its checkpoint.
    fn skip_of(&self, input: &Path, position: u64) -> u64 {
        let (name, source) = (input.display(), Path::new(&self.source));
        let moved = !source.exists() && input == Path::new(&self.typed);
        match moved || whole(input) == whole(source) {
            _ if input == Path::new("-") || !input.is_file() => 0,
            true => {
                eprintln!("{name}: its first {} records were learned before and are passed over", grouped(position));
                position
            }
            false => {
                eprintln!("{name}: read from its start; what was learned before came from {}", self.source);
                0
            }
        }
    }

    /// Learns until the stream ends or the user has had enough. `skip`: lines or frames that were learned before.
    fn follow<R: Read>(&mut self, records: &mut Records<R>, skip: u64, out: &mut impl Write) -> Result<()> {
        let mut record = Record::default();
        self.position = 0;
        self.clock = Clock::new();
        let (mut last_summary, mut stalled) = (self.tally.records, false);
        loop {
            if interrupt::asked() || self.limit.is_some_and(|limit| self.clock.records >= limit) {
                break;
            }
            if records.is_idle() {
                out.flush()?;
            }
            let next = records.next(&mut record).map_err(|error| {
                let unlabelled = error.problem.starts_with(NO_LABEL);
                let hint =
                    if unlabelled { ": --label COLUMN says which, --mode unsupervised learns without" } else { "" };
                Usage(format!("{error}{hint}"))
            })?;
            if self.position < skip && matches!(next, Next::Record | Next::Skipped(_)) {
                self.position += 1;
                continue;
            }
            match next {
                Next::Record => {
                    self.record(records.features(), &record, out)?;
                    self.position += 1;
                }
                Next::Skipped(ref problem) => {
                    self.skip(problem);
                    self.wait(Waiting { id: String::new(), number: None, guess: None });
                    self.delayed_label(&Record::default())?;
                    self.position += 1;
                }
                Next::Stalled if interrupt::asked() => break,
                Next::Stalled if stalled => {}
                Next::Stalled => {
                    eprintln!("{}: nothing has come for a while; waiting on", self.input);
                    self.save()?;
                }
                Next::End if self.position < skip => {
                    return Err(Usage(format!(
                        "{0}: it has {1} records, but {skip} were learned from it before: is it another file? Learn from it with `< {0}`",
                        self.input, self.position
                    ))
                    .into());
                }
                Next::End => break,
            }
            stalled = next == Next::Stalled;
            if self.tally.records - self.saved >= self.every {
                self.save()?;
            }
            if self.tally.records - last_summary >= self.summary_every {
                last_summary = self.tally.records;
                eprintln!("{}", self.summary());
            }
        }
        Ok(out.flush()?)
    }

    /// Predicts, learns and writes.
    fn record(&mut self, features: &[String], record: &Record, out: &mut impl Write) -> Result<()> {
        if self.learner.is_none() {
            let settings = self.settings.clone();
            let settings = if self.own_rate { settings.for_features(features.len()) } else { settings };
            self.learner = Some(Learner::new(settings, features.len())?);
        }
        if self.features.is_empty() {
            self.features = features.to_vec();
        }
        let faults = record.faults.total();
        if faults as usize == record.values.len() && record.has_label && !record.id.is_empty() {
            return self.late_label(record);
        }
        self.tally.missing += u64::from(record.faults.missing);
        self.tally.malformed += u64::from(record.faults.malformed);
        self.tally.out_of_range += u64::from(record.faults.out_of_range);
        if faults > 0 && (self.reading.missing == Missing::Skip || faults as usize == record.values.len()) {
            self.skip(&record.problem);
            self.wait(Waiting { id: record.id.clone(), number: None, guess: None });
            return self.delayed_label(record);
        }
        if faults > 0 {
            self.say(&record.problem);
        }

        let Some(learner) = &mut self.learner else { unreachable!("it was made above") };
        let start = Instant::now();
        self.verdict.clone_from(learner.observe(&record.values)?);
        self.tally.records += 1;
        let (number, guess) = (self.verdict.number, self.verdict.label);
        let truth = (record.has_label && self.reading.delay == 0).then_some(&*record.label);
        match truth {
            Some(truth) if self.labels => self.learn(number, guess, truth)?,
            _ => {
                self.wait(Waiting { id: record.id.clone(), number: Some(number), guess });
                self.delayed_label(record)?;
            }
        }
        let took = start.elapsed();
        self.clock.count(took);
        if self.output == Output::Summary {
            return Ok(());
        }
        let (verdict, classes) = (&self.verdict, self.learner.as_ref().map_or(&[][..], Learner::classes));
        let line = Line {
            record: number,
            line: record.line,
            id: &record.id,
            label: guess.map(|guess| classes[guess].as_str()),
            probabilities: guess.map(|_| Probabilities(classes, &verdict.probabilities)),
            truth,
            goodness: &verdict.goodness,
            score: verdict.score,
            anomaly: verdict.anomaly,
            imputed: faults,
            latency_us: took.as_nanos() as f64 / 1e3,
        };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    }

    /// Learns that a record's label is this.
    fn learn(&mut self, number: u64, guess: Option<usize>, label: &str) -> Result<()> {
        let Some(learner) = &mut self.learner else { return Ok(()) };
        let Some(class) = learner.class(label) else {
            self.tally.unused_labels += 1;
            let room = self.settings.classes();
            self.say(&format!(
                "label \"{}\" is one class more than the {room} there is room for",
                label.escape_debug()
            ));
            return Ok(());
        };
        if !learner.label(number, class)? {
            self.tally.unused_labels += 1;
            return Ok(());
        }
        self.tally.labels += 1;
        let right = guess == Some(class);
        self.tally.right += u64::from(right);
        let share = (1.0 / self.tally.labels as f64).max(0.001);
        self.tally.recent += share * (f64::from(u8::from(right)) - self.tally.recent);
        Ok(())
    }

    /// Notes a record whose label has yet to come, as long as there is any use in it.
    fn wait(&mut self, waiting: Waiting) {
        if !self.labels || (self.reading.delay == 0 && waiting.id.is_empty()) {
            return;
        }
        self.waiting.push_back(waiting);
        let most = if self.reading.delay > 0 { self.reading.delay + 1 } else { self.settings.memory };
        if self.waiting.len() > most {
            self.waiting.pop_front();
        }
    }

    /// With labels that come so many records late: this record's is that of an earlier one.
    fn delayed_label(&mut self, record: &Record) -> Result<()> {
        if self.reading.delay == 0 || self.waiting.len() <= self.reading.delay {
            return Ok(());
        }
        match self.waiting.pop_front() {
            Some(Waiting { number: Some(number), guess, .. }) if record.has_label => {
                self.learn(number, guess, &record.label)
            }
            _ => Ok(()),
        }
    }

    /// The label of an earlier record of the same name has come.
    fn late_label(&mut self, record: &Record) -> Result<()> {
        match self.waiting.iter().rposition(|waiting| waiting.id == record.id) {
            Some(at) => match self.waiting.remove(at) {
                Some(Waiting { number: Some(number), guess, .. }) => self.learn(number, guess, &record.label)?,
                _ => self.tally.unused_labels += 1,
            },
            None => self.tally.unused_labels += 1,
        }
        Ok(())
    }

    fn skip(&mut self, problem: &str) {
        self.tally.skipped += 1;
        self.say(problem);
    }

    /// Says what is wrong with a record, unless much was wrong before.
    fn say(&mut self, problem: &str) {
        self.said += 1;
        match self.said.cmp(&SAID) {
            std::cmp::Ordering::Less => eprintln!("{}: {problem}", self.input),
            std::cmp::Ordering::Equal => eprintln!("{}: {problem}; further problems are only counted", self.input),
            std::cmp::Ordering::Greater => {}
        }
    }

    /// Writes a checkpoint, if there is a place for it and anything new.
    fn save(&mut self) -> Result<()> {
        let (Some(path), Some(learner)) = (&self.checkpoint, &self.learner) else { return Ok(()) };
        if self.frozen {
            return Ok(());
        }
        let notes = BTreeMap::from([
            ("reading".to_owned(), serde_json::to_string(&self.reading)?),
            ("features".to_owned(), serde_json::to_string(&self.features)?),
            ("waiting".to_owned(), serde_json::to_string(&self.waiting)?),
            ("tally".to_owned(), serde_json::to_string(&self.tally)?),
            ("input".to_owned(), self.source.clone()),
            ("typed".to_owned(), self.typed.clone()),
            ("position".to_owned(), self.position.to_string()),
        ]);
        learner.save(path, &notes)?;
        self.saved = self.tally.records;
        Ok(())
    }

    /// One line on how it goes.
    fn summary(&self) -> String {
        let Tally { records, labels, recent, skipped, .. } = self.tally;
        let mut line = format!("{:>13} records{:>12}/s", grouped(records), grouped(self.clock.rate() as u64));
        if labels > 0 {
            line.push_str(&format!("   right {:.2} % (lately {:.1} %)", self.accuracy(), 100.0 * recent));
        }
        if skipped > 0 {
            line.push_str(&format!("   left out {}", grouped(skipped)));
        }
        line
    }

    fn accuracy(&self) -> f64 {
        100.0 * self.tally.right as f64 / self.tally.labels.max(1) as f64
    }

    /// What it all came to.
    fn ending(&self) -> String {
        let Tally { records, skipped, missing, malformed, out_of_range, labels, unused_labels, recent, .. } =
            self.tally;
        let mut text = format!("{} records", grouped(records));
        if self.clock.records < records {
            text.push_str(&format!(", {} of them now", grouped(self.clock.records)));
        }
        if self.clock.records > 0 {
            let [half, most] = [0.5, 0.99].map(|share| self.clock.quantile(share));
            text.push_str(&format!(
                ", {}/s; half took up to {half:.1} µs, 99 % up to {most:.1} µs\n",
                grouped(self.clock.rate() as u64)
            ));
        } else {
            text.push('\n');
        }
        if labels > 0 {
            text.push_str(&format!(
                "{:.2} % of {} labels predicted right (lately {:.1} %)\n",
                self.accuracy(),
                grouped(labels),
                100.0 * recent
            ));
        }
        let counts = [
            (skipped, "records left out"),
            (missing, "values missing"),
            (malformed, "no numbers"),
            (out_of_range, "out of range"),
            (unused_labels, "labels not used"),
        ];
        let counts: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
        if !counts.is_empty() {
            text.push_str(&format!("{}\n", counts.join(", ")));
        }
        match &self.checkpoint {
            Some(path) if self.learner.is_some() && !self.frozen => {
                text.push_str(&format!("Go on with: onward stream --resume {} …\n", path.display()));
            }
            None if interrupt::asked() => text.push_str("Nothing is saved: --checkpoint FILE would have been.\n"),
            _ => {}
        }
        text
    }
}

impl Clock {
    fn new() -> Self {
        Clock { start: Instant::now(), records: 0, buckets: [0; 256] }
    }

    fn count(&mut self, took: Duration) {
        let nanoseconds = took.as_nanos().max(1) as f64;
        self.buckets[((8.0 * nanoseconds.log2()) as usize).min(255)] += 1;
        self.records += 1;
    }

    fn rate(&self) -> f64 {
        self.records as f64 / self.start.elapsed().as_secs_f64()
    }

    /// Microseconds that this share of the records took at most.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.records as f64).ceil() as u64;
        let mut sum = 0;
        let bucket = self.buckets.iter().position(|n| {
            sum += n;
            sum >= wanted
        });
        1e-3 * ((bucket.unwrap_or(255) + 1) as f64 / 8.0).exp2()
    }
}
