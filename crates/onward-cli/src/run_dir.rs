//! The run directory: everything that a run leaves behind, each file written so that it is whole or not there.
//! `docs/run-directory.md` lists them.

use crate::exit::Usage;
use crate::experiment::{Experiment, Paper};
use crate::lock::Lock;
use crate::provenance::Provenance;
use crate::report::probed::Probed;
use anyhow::{Context, Result};
use onward::checkpoint::{newest, previous, remove_leftovers_in, set_aside, write_atomically};
use onward::events::EpochReport;
use onward::{Readout, Trainer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A run directory in use: nobody else's until it is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: Lock,
}

const LOCK: &str = ".lock";

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metrics {
    /// What training reports.
    #[serde(flatten)]
    pub epoch: EpochReport,
    /// Seconds of training so far, evaluation not counted.
    pub seconds: f64,
    /// Validation error in per cent by readout; empty without validation samples.
    pub validation_error: BTreeMap<Readout, f64>,
}

/// A line of a file that grows by one each epoch.
pub trait Line: Serialize + DeserializeOwned {
    /// The file.
    const FILE: &'static str;
    /// Epochs done when the line was written.
    fn epochs(&self) -> u32;
}

impl Line for Metrics {
    const FILE: &'static str = "metrics.jsonl";
    fn epochs(&self) -> u32 {
        self.epoch.epoch
    }
}

impl Line for Probed {
    const FILE: &'static str = "probes.jsonl";
    fn epochs(&self) -> u32 {
        self.epoch
    }
}

/// `summary.json`: what a run came to, with all that is needed to tell what it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub experiment: String,
    pub rule: onward::settings::Rule,
    pub seed: u64,
    pub device: String,
    pub threads: usize,
    pub epochs: u32,
    pub parameters: usize,
    pub train_samples: usize,
    pub seconds: f64,
    pub samples_per_second: f64,
    pub peak_rss_bytes: Option<u64>,
    pub validation_error: BTreeMap<Readout, f64>,
    pub test_error: BTreeMap<Readout, f64>,
    pub test_confusion: BTreeMap<Readout, Vec<Vec<u64>>>,
    pub commit: Option<String>,
    #[serde(default)]
    pub provenance: Vec<Provenance>,
    pub paper: Paper,
    pub settings: toml::Table,
    pub epochs_log: Vec<EpochLine>,
}

/// One epoch in `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochLine {
    pub epoch: u32,
    pub seconds: f64,
    pub loss: f64,
    pub validation_error: BTreeMap<Readout, f64>,
}

impl Metrics {
    /// What the summary keeps of an epoch.
    pub fn line(&self) -> EpochLine {
        let EpochReport { epoch, loss, .. } = self.epoch;
        EpochLine { epoch, seconds: self.seconds, loss, validation_error: self.validation_error.clone() }
    }
}

impl RunDir {
    /// A new run directory.
    ///
    /// # Errors
    /// A [`Usage`] where there is a run already.
    pub fn create(path: &Path, experiment: &Experiment) -> Result<Self> {
        let refuse_another = || match path.join("experiment.toml").exists() {
            false => Ok(()),
            true => Err(Usage(format!(
                "{0}: there is a run here already; give another --out, or go on with it: onward train --resume {0}",
                path.display()
            ))),
        };
        refuse_another()?;
        std::fs::create_dir_all(path.join("checkpoint"))
            .with_context(|| format!("{}: the run directory could not be made", path.display()))?;
        let run = Self::lock(path)?;
        // Another process may have come first.
        refuse_another()?;
        run.write("experiment.toml", experiment.document().as_bytes())?;
        Ok(run)
    }

    /// Refuses a directory with a run of another experiment.
    ///
    /// # Errors
    /// A [`Usage`] where there is one, or one that does not say what it is of.
    pub fn refuse_other(path: &Path, experiment: &Experiment) -> Result<()> {
        let file = path.join("experiment.toml");
        let empty = !file.exists() && !path.join("summary.json").exists();
        if empty || experiment.is(&Experiment::read(&file)?) {
            return Ok(());
        }
        Err(Usage(format!("{}: a run with other settings is here; give another --out", path.display())).into())
    }

    /// An earlier run's directory, and its experiment.
    ///
    /// # Errors
    /// A [`Usage`] where it is none, or in use.
    pub fn reopen(path: &Path) -> Result<(Self, Experiment)> {
        let file = path.join("experiment.toml");
        if !file.exists() {
            return Err(Usage(format!("{}: not a run directory: it has no experiment.toml", path.display())).into());
        }
        let run = Self::lock(path)?;
        Ok((run, Experiment::read(&file)?))
    }

    fn lock(path: &Path) -> Result<Self> {
        let taken = || format!("{}: another process is training in this run directory", path.display());
        let run = RunDir { path: path.to_owned(), _lock: Lock::take(&path.join(LOCK), taken)? };
        // What a process that was killed was writing.
        remove_leftovers_in(path);
        remove_leftovers_in(&path.join("checkpoint"));
        Ok(run)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last checkpoint's place.
    pub fn last(&self) -> PathBuf {
        self.path.join("checkpoint/last.safetensors")
    }

    /// The trainer of the last checkpoint, and a warning where that was damaged and the one before it stands in; `None`
    /// before the first checkpoint.
    ///
    /// # Errors
    /// Where neither can be used.
    pub fn load(&self) -> Result<Option<(Trainer, Option<String>)>> {
        let last = self.last();
        if !last.exists() && !previous(&last).exists() {
            return Ok(None);
        }
        let (trainer, damage) = newest(&last, |path| Trainer::load(path))?;
        let warning = damage.map(|damage| -> Result<String> {
            let aside = match last.exists() {
                true => set_aside(&last).with_context(|| format!("{}: it could not be moved aside", last.display()))?,
                false => return Ok(format!("{damage}.")),
            };
            Ok(format!("{damage}. It is now called {}.", aside.display()))
        });
        let warning = warning.transpose()?;
        let step = trainer.position().step;
        Ok(Some((trainer, warning.map(|warning| format!("{warning} Going on from step {step}.")))))
    }

    /// Saves the last checkpoint, and how many seconds of training it took.
    pub fn save(&self, trainer: &Trainer, seconds: f64) -> Result<()> {
        // Apart from the checkpoint, whose bytes are a function of the seed alone.
        self.write("checkpoint/seconds", format!("{seconds}\n").as_bytes())?;
        Ok(trainer.save(self.last(), &BTreeMap::new())?)
    }

    /// Seconds of training up to the last checkpoint; 0 where that is not known.
    pub fn seconds(&self) -> f64 {
        let text = std::fs::read_to_string(self.path.join("checkpoint/seconds")).unwrap_or_default();
        text.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite()).unwrap_or(0.0)
    }

    /// Saves the network with the lowest validation error.
    pub fn save_best(&self, trainer: &Trainer) -> Result<()> {
        Ok(trainer.network().save(self.path.join("checkpoint/best.safetensors"))?)
    }

    /// What the run was trained by and on, in the order in which it went on; empty where that is not recorded.
    ///
    /// # Errors
    /// Where the file cannot be read or understood.
    pub fn provenance(path: &Path) -> Result<Vec<Provenance>> {
        let file = path.join(Provenance::FILE);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{}: it could not be read", file.display()))?;
        let all = serde_json::from_str(&text);
        Ok(all.map_err(|error| Usage(format!("{}: not a run's provenance: {error}", file.display())))?)
    }

    /// Notes what trains the run from here on; returns all that has.
    pub fn add_provenance(&self, here: &Provenance) -> Result<Vec<Provenance>> {
        let mut all = Self::provenance(&self.path)?;
        if all.last() != Some(here) {
            all.push(here.clone());
            self.write(Provenance::FILE, format!("{}\n", serde_json::to_string_pretty(&all)?).as_bytes())?;
        }
        Ok(all)
    }

    /// The epochs recorded so far, up to `epochs` of them; see [`RunDir::lines`].
    pub fn metrics(path: &Path, epochs: u32) -> Result<Vec<Metrics>> {
        Self::lines(path, epochs)
    }

    /// The lines written so far, up to those of `epochs` epochs.
    ///
    /// # Errors
    /// Where the file cannot be read, or a line before its last cannot be understood.
    pub fn lines<L: Line>(path: &Path, epochs: u32) -> Result<Vec<L>> {
        let file = path.join(L::FILE);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{}: it could not be read", file.display()))?;
        let lines: Vec<&str> = text.lines().collect();
        let mut all = Vec::new();
        for (n, line) in lines.iter().enumerate() {
            match serde_json::from_str::<L>(line) {
                Ok(line) if line.epochs() <= epochs => all.push(line),
                Ok(_) => break,
                // A run that was killed may have left half a line behind.
                Err(_) if n + 1 == lines.len() => break,
                Err(error) => {
                    return Err(Usage(format!("{}:{}: not a line of it: {error}", file.display(), n + 1)).into());
                }
            }
        }
        Ok(all)
    }

    /// Replaces a file of lines.
    pub fn write_lines<L: Line>(&self, all: &[L]) -> Result<()> {
        let mut text = String::new();
        for line in all {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        self.write(L::FILE, text.as_bytes())
    }

    /// Adds a line.
    pub fn add_line<L: Line>(&self, line: &L) -> Result<()> {
        let name = self.path.join(L::FILE);
        let add = || {
            let mut file = File::options().create(true).append(true).open(&name)?;
            file.write_all(format!("{}\n", serde_json::to_string(line)?).as_bytes())
        };
        add().with_context(|| format!("{}: it could not be written", name.display()))
    }

    /// The summary of a finished run; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or understood.
    pub fn summary(path: &Path) -> Result<Option<Summary>> {
        let file = path.join("summary.json");
        if !file.exists() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{}: it could not be read", file.display()))?;
        let summary = serde_json::from_str(&text);
        Ok(Some(summary.map_err(|error| Usage(format!("{}: not a run's summary: {error}", file.display())))?))
    }

    /// Whether some process trains in this run directory now.
    pub fn in_use(path: &Path) -> bool {
        Lock::is_taken(&path.join(LOCK))
    }

    /// Writes `report.html`.
    pub fn write_report(&self, html: &str) -> Result<()> {
        self.write("report.html", html.as_bytes())
    }

    /// Why training failed, if it did.
    pub const FAILURE: &str = "failure.txt";

    /// Notes why training failed; where even that fails, there is no place for it.
    pub fn note_failure(&self, error: &anyhow::Error) {
        let _ = self.write(Self::FAILURE, format!("{error:#}\n").as_bytes());
    }

    /// Takes back [`RunDir::note_failure`]: training goes on.
    pub fn clear_failure(&self) {
        let _ = std::fs::remove_file(self.path.join(Self::FAILURE));
    }

    /// Writes `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        self.write("summary.json", format!("{}\n", serde_json::to_string_pretty(summary)?).as_bytes())
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        write_atomically(&path, contents).with_context(|| format!("{}: it could not be written", path.display()))
    }
}
