//! A trained network on disk, named by its run directory or by a checkpoint file.

use crate::exit::Usage;
use crate::experiment::Experiment;
use crate::run_dir::RunDir;
use crate::source;
use anyhow::{Context, Result};
use clap::ValueEnum;
use onward::checkpoint::Info;
use onward::{Network, Readout};
use std::path::{Path, PathBuf};

/// Where a trained network lies.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The checkpoint file.
    pub checkpoint: PathBuf,
    /// The run directory that the checkpoint lies in, if it does.
    pub run: Option<PathBuf>,
}

/// A readout as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// A pass for each label; the one with the most goodness wins
    EveryLabel,
    /// One pass; the softmax head decides
    OnePass,
    /// One pass; the class scores of layers that tell the label themselves, added up
    ClassScores,
    /// Every label and one pass together, weighted by samples that were held out
    Combined,
}

impl From<Choice> for Readout {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::EveryLabel => Readout::EveryLabel,
            Choice::OnePass => Readout::OnePass,
            Choice::ClassScores => Readout::ClassScores,
            Choice::Combined => Readout::Combined,
        }
    }
}

const LAST: &str = "last.safetensors";

impl Trained {
    /// What `path` names: a run directory stands for its last checkpoint.
    pub fn find(path: &Path) -> Result<Self> {
        let kind = path.metadata().with_context(|| Usage(format!("{}: cannot be opened", path.display())))?;
        if kind.is_file() {
            let run = Some(above(&above(path))).filter(|run| is_run(run));
            // An empty path is no argument that a user could be told to give.
            let run = run.map(|run| if run.as_os_str().is_empty() { ".".into() } else { run });
            return Ok(Trained { checkpoint: path.to_owned(), run });
        }
        if !kind.is_dir() {
            return Err(Usage(format!("{}: neither a file nor a directory", path.display())).into());
        }
        let checkpoint = path.join("checkpoint").join(LAST);
        if checkpoint.exists() {
            return Ok(Trained { checkpoint, run: is_run(path).then(|| path.to_owned()) });
        }
        if path.join(LAST).exists() {
            return Trained::find(&path.join(LAST));
        }
        let run = path.display();
        let problem = match is_run(path) {
            true if RunDir::in_use(path) => {
                format!("in training, with no checkpoint yet: wait for one, or follow it with onward watch {run}")
            }
            true => format!("it stopped before its first checkpoint: go on with onward train --resume {run}"),
            false => format!(
                "not a run directory: found neither experiment.toml nor checkpoint/{LAST}; \
                 expected a directory that `onward train` made, or a checkpoint file"
            ),
        };
        Err(Usage(format!("{run}: {problem}")).into())
    }

    /// The run directory.
    ///
    /// # Errors
    /// A [`Usage`] where the checkpoint lies in none.
    pub fn run_directory(&self) -> Result<PathBuf> {
        let problem =
            || format!("{}: it lies in no run directory, which is what is asked for", self.checkpoint.display());
        self.run.clone().ok_or_else(|| Usage(problem()).into())
    }

    /// What the checkpoint says of itself.
    pub fn info(&self) -> Result<Info> {
        Ok(Info::read(&self.checkpoint)?)
    }

    /// The data that the network was trained on.
    pub fn data_source(&self) -> Result<String> {
        match &self.run {
            Some(run) => {
                let experiment = Experiment::read(&run.join("experiment.toml"))?;
                source::check_of_run(run, &experiment)?;
                Ok(experiment.data.source)
            }
            None => Err(Usage("the checkpoint lies in no run directory: say which data with --data".into()).into()),
        }
    }

    /// The network; `programs`: whether its black boxes may run programs.
    pub fn network(&self, programs: bool) -> Result<Network> {
        let mut network = Network::load(&self.checkpoint)?;
        network.allow_programs(programs);
        Ok(network)
    }

    /// The readout that is asked for, where the network offers it; else the one that tells most at once: the layers' class
    /// scores, or in one pass, or every label tried.
    ///
    /// # Errors
    /// A [`Usage`] where the network does not offer it, or none at all.
    pub fn readout(&self, network: &Network, asked: Option<Choice>) -> Result<Readout> {
        let at_once = network.readouts().into_iter().rfind(|readout| *readout != Readout::Combined);
        let most = || at_once.unwrap_or(Readout::OnePass);
        let readout = asked.map_or_else(most, Readout::from);
        self.check(network, readout).map(|()| readout)
    }

    /// Refuses a readout that the network does not offer.
    pub fn check(&self, network: &Network, readout: Readout) -> Result<()> {
        let offered = network.readouts();
        if offered.contains(&readout) {
            return Ok(());
        }
        let without = match readout {
            Readout::EveryLabel => "goodness of layers that see the label, which the every-label readout compares",
            Readout::OnePass => "the softmax head that the one-pass readout needs (head.enabled = true)",
            Readout::ClassScores => "an objective that gives each class a score, as the class-scores readout needs",
            Readout::Combined => {
                "weights of both readouts, which samples held out (data.validation) give when training ends"
            }
        };
        let other = match offered.is_empty() {
            true => "it offers no other readout".into(),
            false => offered.iter().map(|other| format!("use --readout {other}")).collect::<Vec<_>>().join(" or "),
        };
        Err(Usage(format!("{}: it was trained without {without}; {other}", self.checkpoint.display())).into())
    }
}

/// The folder that `path` lies in; empty where that is the one at work in.
fn above(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if path.file_name().is_some() => folder.to_owned(),
        _ => path.join(".."),
    }
}

fn is_run(path: &Path) -> bool {
    path.join("experiment.toml").exists()
}
