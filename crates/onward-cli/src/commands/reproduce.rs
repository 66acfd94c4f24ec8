//! `onward reproduce`: the paper's experiments, its errors beside ours.

use crate::commands::train::{Options, resume, start};
use crate::exit::Usage;
use crate::experiment::{EMBEDDED, Experiment};
use crate::progress::Mode;
use crate::ranks::Ranks;
use crate::report::stats::mean;
use crate::run_dir::{RunDir, Summary};
use crate::terminal;
use anyhow::{Context, Result};
use onward::Readout;
use onward::settings::LayerSettings;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use toml::Value;

/// Flags of `onward reproduce`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiments, as `onward experiments` lists them; all that the paper gives an error for, if none is named.
    names: Vec<String>,
    /// Train nothing: print what our own full-size runs came to.
    #[arg(long)]
    recorded: bool,
    /// How many seeds to train each experiment with, from 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "recorded")]
    seeds: u16,
    /// Where the run directories go.
    #[arg(long, value_name = "DIR", default_value = "runs", conflicts_with = "recorded")]
    out: PathBuf,
    /// Print the table in Markdown, for documents.
    #[arg(long)]
    markdown: bool,
    /// Threads to compute with; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Errors that differ by less are the same.
const REACHED: f64 = 1e-9;

/// Full-size runs, as the program wrote them: name and contents of each file in `results/`.
const RECORDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/recorded.rs"));

/// Trains, and prints the table.
pub fn run(args: &Args) -> Result<()> {
    let names: Vec<&str> = match args.names.is_empty() {
        false => args.names.iter().map(String::as_str).collect(),
        true => reported().collect(),
    };
    let mut experiments: Vec<Experiment> = Vec::new();
    for name in &names {
        let experiment = Experiment::open(name)?;
        // Named twice, it is not two results.
        if !experiments.contains(&experiment) {
            experiments.push(experiment);
        }
    }
    let mut summaries = Vec::new();
    if args.recorded {
        summaries = recorded()?;
        if !args.names.is_empty() {
            summaries.retain(|summary| args.names.contains(&summary.experiment));
        }
        if summaries.is_empty() {
            return Err(Usage(format!("there is no recorded run of {}", names.join(", "))).into());
        }
    }
    let options = Options { threads: args.threads, progress: Mode::Auto, ..Options::default() };
    let mut runs = Vec::new();
    for experiment in experiments.iter().filter(|_| !args.recorded) {
        for seed in 1..=args.seeds {
            let experiment = experiment.with([("seed".into(), Value::Integer(seed.into()))])?;
            let path = args.out.join(format!("{}-{seed}", experiment.name));
            RunDir::refuse_other(&path, &experiment)?;
            runs.push((experiment, path));
        }
    }
    for (experiment, path) in runs {
        // Another of the same name may just have been trained here.
        RunDir::refuse_other(&path, &experiment)?;
        summaries.push(match RunDir::summary(&path)? {
            // Done before: a long reproduction may be stopped and started again.
            Some(summary) => summary,
            None if path.join("experiment.toml").exists() => resume(&path, &options, false, &Ranks::alone())?,
            None => start(experiment, path, &options, &Ranks::alone())?,
        });
    }
    terminal::print(&if args.markdown { markdown(&summaries) } else { plain(&summaries) })
}

/// The experiments that the paper or the released code gives an error for.
fn reported() -> impl Iterator<Item = &'static str> {
    let reports = |name: &str| Experiment::open(name).is_ok_and(|experiment| experiment.paper.error > 0.0);
    EMBEDDED.iter().map(|(name, _)| *name).filter(move |name| reports(name))
}

/// Our own full-size runs.
fn recorded() -> Result<Vec<Summary>> {
    let parse = |(name, text): &(&str, &str)| -> Result<Summary> {
        serde_json::from_str(text).with_context(|| format!("{name}: it is not a run's summary"))
    };
    RECORDED.iter().map(parse).collect()
}

/// One line of the table.
struct Line {
    experiment: String,
    layers: String,
    epochs: u32,
    /// Of the products.
    precision: String,
    paper: f64,
    /// Each readout's test errors, by seed.
    errors: BTreeMap<Readout, Vec<f64>>,
    minutes: f64,
}

/// A setting of a run.
fn text<'a>(summary: &'a Summary, section: &str, key: &str) -> Option<&'a str> {
    summary.settings.get(section).and_then(|section| section.get(key)).and_then(Value::as_str)
}

fn lines(summaries: &[Summary]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for summary in summaries {
        // Other data than the experiment's own is another line.
        let own = Experiment::open(&summary.experiment).map_or("mnist".into(), |experiment| experiment.data.source);
        let experiment = match text(summary, "data", "source") {
            Some(source) if source != own => {
                let name = std::path::Path::new(source).file_name().unwrap_or_default().to_string_lossy();
                format!("{} on {name}", summary.experiment)
            }
            _ => summary.experiment.clone(),
        };
        let at = lines.iter().position(|line| line.experiment == experiment).unwrap_or_else(|| {
            let layers = summary.settings.get("network").and_then(|network| network.get("layers"));
            let layers = layers.cloned().and_then(|layers| Vec::<LayerSettings>::deserialize(layers).ok());
            lines.push(Line {
                experiment,
                layers: LayerSettings::brief(&layers.unwrap_or_default()),
                epochs: summary.epochs,
                precision: text(summary, "engine", "precision").unwrap_or("f32").to_owned(),
                paper: summary.paper.error,
                errors: BTreeMap::new(),
                minutes: 0.0,
            });
            lines.len() - 1
        });
        lines[at].minutes += summary.seconds / 60.0;
        for (readout, error) in &summary.test_error {
            lines[at].errors.entry(*readout).or_default().push(*error);
        }
    }
    lines
}

impl Line {
    fn seeds(&self) -> usize {
        self.errors.values().map(Vec::len).max().unwrap_or(0)
    }

    /// The mean over the seeds, and where there are several, what `range` says of the least and the most of them.
    fn error(&self, readout: Readout, range: fn(f64, f64) -> String) -> String {
        let Some(errors) = self.errors.get(&readout) else { return "-".into() };
        let mean = mean(errors);
        // A miss that rounding would hide is shown.
        let hidden = mean > self.paper + REACHED && (100.0 * mean).round() == (100.0 * self.paper).round();
        let decimals = if hidden { 3 } else { 2 };
        let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
        let most = errors.iter().copied().fold(0.0, f64::max);
        let range = if errors.len() > 1 { range(least, most) } else { String::new() };
        format!("{mean:.decimals$}{range}")
    }

    /// Whether the paper's error is reached, by the mean of the readout that the paper reports.
    fn verdict(&self) -> &'static str {
        let errors =
            [Readout::EveryLabel, Readout::OnePass, Readout::ClassScores].iter().find_map(|r| self.errors.get(r));
        match errors {
            Some(errors) if self.paper > 0.0 => {
                if mean(errors) <= self.paper + REACHED {
                    "reached"
                } else {
                    "missed"
                }
            }
            _ => "-",
        }
    }

    fn paper(&self) -> String {
        if self.paper > 0.0 { format!("{:.2}", self.paper) } else { "-".into() }
    }

    fn minutes(&self) -> String {
        format!("{:.1}", self.minutes / self.seeds().max(1) as f64)
    }
}

/// The readouts that the tables show.
const SHOWN: [Readout; 3] = [Readout::EveryLabel, Readout::OnePass, Readout::Combined];

fn plain(summaries: &[Summary]) -> String {
    let mut text = String::from("Test error in per cent: mean over the seeds, ± half of their range\n\n");
    let cells = |of: &dyn Fn(Readout) -> String| SHOWN.map(|readout| format!(" {:>11}", of(readout))).concat();
    let titles = cells(&|readout| readout.to_string());
    let _ = writeln!(text, "{:23} {:>5}{titles} {:>5}", "experiment", "paper", "seeds");
    for line in lines(summaries) {
        let errors = cells(&|readout| line.error(readout, |least, most| format!(" ±{:.2}", 0.5 * (most - least))));
        let (paper, seeds, verdict) = (line.paper(), line.seeds(), line.verdict());
        let _ = writeln!(text, "{:23} {paper:>5}{errors} {seeds:>5} {verdict}", line.experiment);
    }
    text
}

fn markdown(summaries: &[Summary]) -> String {
    let mut text = String::from(
        "| experiment | hidden layers | epochs | products | paper % | every-label % | one-pass % | combined % | seeds | minutes each | verdict |\n\
         |---|---|---:|---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for line in lines(summaries) {
        let errors = SHOWN.map(|readout| line.error(readout, |least, most| format!(" ({least:.2}–{most:.2})")));
        let Line { experiment, layers, epochs, precision, .. } = &line;
        let (paper, errors, minutes) = (line.paper(), errors.join(" | "), line.minutes());
        let (seeds, verdict) = (line.seeds(), line.verdict());
        let _ = writeln!(
            text,
            "| `{experiment}` | {layers} | {epochs} | {precision} | {paper} | {errors} | {seeds} | {minutes} | {verdict} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal() {
        let table = plain(&recorded().unwrap());
        assert!(table.lines().count() > 10 && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn the_readme_has_the_recorded_table() {
        let readme = include_str!("../../../../README.md");
        let table = markdown(&recorded().unwrap());
        assert!(
            readme.contains(&table),
            "README.md needs the output of `onward reproduce --recorded --markdown`:\n{table}"
        );
    }
}
