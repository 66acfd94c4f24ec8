//! `onward report`: a run as a page to look at, or several runs compared.

use crate::experiment::Experiment;
use crate::provenance::Provenance;
use crate::report::compare::{self, Comparison};
use crate::report::mistakes::Judged;
use crate::report::{Report, Status};
use crate::run_dir::RunDir;
use crate::scalars;
use crate::source::samples_of_run;
use crate::status::Status as Now;
use crate::terminal;
use crate::trained::Trained;
use anyhow::{Context, Result};
use onward::checkpoint::write_atomically;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Flags of `onward report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run directory; several are compared.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Where to write the page; by default report.html in the run directory, or comparison.html here for several runs.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print every number of every epoch as CSV instead, for spreadsheets
    #[arg(long, conflicts_with = "out")]
    csv: bool,
}

/// Writes the page.
pub fn run(args: &Args) -> Result<()> {
    if args.csv {
        let runs = args.runs.iter().map(|run| open(run)).collect::<Result<Vec<_>>>()?;
        return Ok(std::io::stdout().lock().write_all(&scalars::csv(&runs)?)?);
    }
    let (text, html, default) = match &args.runs[..] {
        [run] => {
            let (run, html) = page(run)?;
            (String::new(), html, run.join("report.html"))
        }
        runs => {
            let comparison = Comparison::new(runs.iter().map(|run| open(run)).collect::<Result<_>>()?);
            (format!("{}\n", comparison.text()), comparison.html(), "comparison.html".into())
        }
    };
    let file = args.out.as_ref().unwrap_or(&default);
    write_atomically(file, html.as_bytes()).with_context(|| format!("{}: it could not be written", file.display()))?;
    terminal::print(&format!("{text}{}\n", file.display()))
}

/// A run to compare.
pub fn open(path: &Path) -> Result<compare::Run> {
    let run = Trained::find(path)?.run_directory()?;
    Ok(compare::Run {
        experiment: Experiment::read(&run.join("experiment.toml"))?,
        metrics: RunDir::metrics(&run, u32::MAX)?,
        summary: RunDir::summary(&run)?,
        path: run,
    })
}

/// A run's directory, and its page.
fn page(path: &Path) -> Result<(PathBuf, String)> {
    let trained = Trained::find(path)?;
    let run = &trained.run_directory()?;
    let network = trained.network(false)?;
    let experiment = Experiment::read(&run.join("experiment.toml"))?;
    let samples = samples_of_run(run, &experiment)?;
    let source = &experiment.data.source;
    let then = RunDir::provenance(run)?.pop();
    if let Some(problem) = then.and_then(|then| Provenance::here(&samples).other_data(&then, source)) {
        eprintln!("warning: {}: {problem}", run.display());
    }
    let epochs = trained.info()?.position.map_or(u32::MAX, |position| position.epoch);
    let summary = RunDir::summary(run)?;
    let status = match &summary {
        Some(_) => Status::Finished,
        None if RunDir::in_use(run) => {
            let memory = Now::read(run).and_then(|now| now.memory_bytes);
            Status::Training { epochs: experiment.recipe.training.epochs, memory }
        }
        None => Status::Stopped,
    };
    // The test samples are for the end.
    let (which, data) = match (&summary, &samples.test, &samples.validation) {
        (Some(_), Some(test), _) => ("test", Some(test)),
        (_, _, validation) => ("validation", validation.as_ref()),
    };
    let judged = data.map_or(Ok(Vec::new()), |data| Judged::all(&network, data))?;
    let report = Report {
        experiment: &experiment,
        path: &run.display().to_string(),
        status,
        metrics: &RunDir::lines(run, epochs)?,
        probes: &RunDir::lines(run, epochs)?,
        probed_on: samples.probed_on(),
        network: &network,
        train: &samples.train,
        judged: data.map(|data| (which, data, &judged[..])),
        summary: summary.as_ref(),
    };
    Ok((run.clone(), report.html()))
}
