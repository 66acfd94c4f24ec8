//! What a sweep came to: its combinations, the best on validation samples first.

use super::space::{Space, Trial};
use crate::report::compare::{Comparison, Run};
use crate::report::html;
use crate::report::stats::mean;
use crate::settings::wrapped;
use anyhow::Result;
use onward::Readout;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

/// A run and what came of it, or why nothing did.
#[derive(Debug)]
pub struct Outcome {
    pub trial: usize,
    pub seed: u64,
    pub path: PathBuf,
    pub run: Result<Run, String>,
}

/// The combinations in order.
#[derive(Debug)]
pub struct Ranking<'a> {
    /// The best first; those without a finished run last.
    places: Vec<Place<'a>>,
    refused: Vec<(&'a Trial, &'a str)>,
    readouts: Vec<Readout>,
    by: Option<Readout>,
}

/// A combination and its runs.
#[derive(Debug)]
struct Place<'a> {
    trial: &'a Trial,
    outcomes: Vec<Outcome>,
}

/// Combinations whose curves the page shows.
const CURVES: usize = 6;

impl<'a> Ranking<'a> {
    /// Ranks by the last validation error, a mean over the seeds: of this readout, or the mean of all.
    pub fn new(space: &'a Space, outcomes: Vec<Outcome>, by: Option<Readout>) -> Self {
        let mut of_trial: BTreeMap<usize, Vec<Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            of_trial.entry(outcome.trial).or_default().push(outcome);
        }
        let place = |(trial, outcomes)| Place { trial: &space.trials[trial], outcomes };
        let mut places: Vec<Place<'_>> = of_trial.into_iter().map(place).collect();
        // A stable order: equals stay as the file has them.
        places.sort_by(|a, b| a.score(by).total_cmp(&b.score(by)));
        let readouts: BTreeSet<Readout> =
            places.iter().flat_map(|place| place.errors().flat_map(|errors| errors.keys().copied())).collect();
        let refused = |trial: &'a Trial| Some((trial, &trial.experiment.as_ref().err()?[..]));
        let refused = space.trials.iter().filter_map(refused).collect();
        Ranking { places, refused, readouts: readouts.into_iter().collect(), by }
    }

    /// How many runs failed.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    fn failures(&self) -> impl Iterator<Item = (&Place<'a>, &Outcome, &str)> {
        self.places.iter().flat_map(|place| {
            place.outcomes.iter().filter_map(move |outcome| Some((place, outcome, &outcome.run.as_ref().err()?[..])))
        })
    }

    fn criterion(&self) -> String {
        let by = self.by.map_or("the readouts' mean".into(), |readout| readout.to_string());
        format!("Ranked by {by} on the validation samples after the last epoch, never on test samples.")
    }

    /// For the terminal.
    pub fn text(&self, columns: usize) -> String {
        let mut text = String::new();
        let about = format!("{} Errors in per cent: mean (least–most) over the seeds.", self.criterion());
        wrapped(&about, columns).iter().for_each(|line| text.push_str(&format!("{line}\n")));
        text.push_str("\nrank seeds");
        self.readouts.iter().for_each(|readout| text.push_str(&format!("  {:<18}", readout.to_string())));
        text.push_str("  settings\n");
        for (rank, place) in self.places.iter().enumerate() {
            let mut line = format!("{:>4} {:>5}", rank + 1, place.errors().count());
            for readout in &self.readouts {
                line.push_str(&format!("  {:<18}", range(&place.of(*readout))));
            }
            line.push_str("  ");
            let indent = line.chars().count();
            let settings = wrapped(&place.trial.text(), columns.saturating_sub(indent).max(16));
            text.push_str(&format!("{line}{}\n", settings.join(&format!("\n{:indent$}", ""))));
        }
        for (trial, reason) in &self.refused {
            let line = format!("refused: {}: {reason}", trial.text());
            wrapped(&line, columns).iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        for (place, outcome, reason) in self.failures() {
            let line = format!("failed: {}, seed {}: {reason}", place.trial.text(), outcome.seed);
            wrapped(&line, columns).iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }

    /// A line a run.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let keys = self.keys();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let errors = self.readouts.iter().map(|readout| format!("validation_error/{readout}"));
        let head = ["rank", "run", "seed"].map(String::from).into_iter().chain(keys.iter().cloned()).chain(errors);
        writer.write_record(head.chain(["seconds".into(), "failure".into()]))?;
        for (rank, place) in self.places.iter().enumerate() {
            for outcome in &place.outcomes {
                let mut line =
                    vec![(rank + 1).to_string(), outcome.path.display().to_string(), outcome.seed.to_string()];
                line.extend(keys.iter().map(|key| place.trial.value(key).unwrap_or_default()));
                let errors = outcome.errors();
                let error = |readout| errors.and_then(|errors| errors.get(readout)).map(f64::to_string);
                line.extend(self.readouts.iter().map(|readout| error(readout).unwrap_or_default()));
                line.push(outcome.seconds().map_or(String::new(), |seconds| format!("{seconds:.3}")));
                line.push(outcome.run.as_ref().err().cloned().unwrap_or_default());
                writer.write_record(line)?;
            }
        }
        Ok(writer.into_inner()?)
    }

    /// Everything, for programs.
    pub fn json(&self) -> Result<Vec<u8>> {
        let place = |(rank, place): (usize, &Place<'_>)| {
            let runs = place.outcomes.iter().map(|outcome| {
                json!({
                    "path": outcome.path, "seed": outcome.seed, "validation_error": outcome.errors(),
                    "seconds": outcome.seconds(), "failure": outcome.run.as_ref().err(),
                })
            });
            let errors = self.readouts.iter().filter_map(|readout| {
                let all = place.of(*readout);
                let (least, most) = ends(&all)?;
                Some((readout.to_string(), json!({ "mean": mean(&all), "least": least, "most": most })))
            });
            json!({
                "rank": rank + 1, "settings": settings(place.trial),
                "validation_error": errors.collect::<Map<_, _>>(), "runs": runs.collect::<Vec<_>>(),
            })
        };
        let refused = |(trial, reason): &(&Trial, &str)| json!({ "settings": settings(trial), "reason": reason });
        let all = json!({
            "ranked_by": self.by.map_or("mean".into(), |by| by.to_string()),
            "trials": self.places.iter().enumerate().map(place).collect::<Vec<_>>(),
            "refused": self.refused.iter().map(refused).collect::<Vec<_>>(),
        });
        Ok(format!("{}\n", serde_json::to_string_pretty(&all)?).into_bytes())
    }

    /// A page: the ranking, then the best beside each other.
    pub fn html(&self, name: &str) -> String {
        let title = format!("{name}: {} combinations", self.places.len() + self.refused.len());
        let keys = self.keys();
        let errors: Vec<String> = self.readouts.iter().map(|readout| format!("{readout} %")).collect();
        let mut headings = vec!["rank", "seeds"];
        headings.extend(errors.iter().map(|name| &name[..]));
        let escaped: Vec<String> = keys.iter().map(|key| html::escape(key)).collect();
        headings.extend(escaped.iter().map(|key| &key[..]));
        headings.push("seconds each");
        let row = |(rank, place): (usize, &Place<'_>)| {
            let mut row = vec![(rank + 1).to_string(), place.errors().count().to_string()];
            row.extend(self.readouts.iter().map(|readout| range(&place.of(*readout))));
            row.extend(keys.iter().map(|key| html::escape(&place.trial.value(key).unwrap_or_default())));
            let seconds: Vec<f64> = place.outcomes.iter().filter_map(Outcome::seconds).collect();
            row.push(if seconds.is_empty() { "-".into() } else { format!("{:.0}", mean(&seconds)) });
            row
        };
        let rows: Vec<Vec<String>> = self.places.iter().enumerate().map(row).collect();
        let mut table = html::table(&headings, &rows);
        let mut problems = String::new();
        for (trial, reason) in &self.refused {
            let text = html::escape(&format!("refused: {}: {reason}", trial.text()));
            let _ = writeln!(problems, "<li>{text}</li>");
        }
        for (place, outcome, reason) in self.failures() {
            let text = html::escape(&format!("failed: {}, seed {}: {reason}", place.trial.text(), outcome.seed));
            let _ = writeln!(problems, "<li class=\"bad\">{text}</li>");
        }
        if !problems.is_empty() {
            let _ = write!(table, "<ul>\n{problems}</ul>\n");
        }
        let about = format!("{} Mean (least–most) over the seeds.", self.criterion());
        let mut body = format!("<h1>{}</h1>\n{}", html::escape(&title), html::section("Ranking", &about, &table));
        let runs = self.places.iter().take(CURVES).flat_map(|place| &place.outcomes);
        let runs: Vec<Run> = runs.filter_map(|outcome| outcome.run.as_ref().ok().cloned()).collect();
        if !runs.is_empty() {
            body.push_str(&Comparison::validated(runs).sections());
        }
        html::page(&title, &body)
    }

    /// The settings that vary.
    fn keys(&self) -> Vec<String> {
        let trials = self.places.iter().map(|place| place.trial);
        let values = trials.flat_map(|trial| &trial.values);
        values.map(|(key, _)| key.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Place<'_> {
    /// What is ranked by: infinite where no run has it.
    fn score(&self, by: Option<Readout>) -> f64 {
        let one = |errors: &BTreeMap<Readout, f64>| match by {
            Some(readout) => errors.get(&readout).copied(),
            None => (!errors.is_empty()).then(|| mean(&errors.values().copied().collect::<Vec<_>>())),
        };
        let all: Vec<f64> = self.errors().filter_map(one).collect();
        if all.is_empty() { f64::INFINITY } else { mean(&all) }
    }

    /// Validation errors of the runs that have finished.
    fn errors(&self) -> impl Iterator<Item = &BTreeMap<Readout, f64>> {
        self.outcomes.iter().filter_map(Outcome::errors)
    }

    fn of(&self, readout: Readout) -> Vec<f64> {
        self.errors().filter_map(|errors| errors.get(&readout).copied()).collect()
    }
}

impl Outcome {
    fn errors(&self) -> Option<&BTreeMap<Readout, f64>> {
        Some(&self.run.as_ref().ok()?.summary.as_ref()?.validation_error)
    }

    fn seconds(&self) -> Option<f64> {
        Some(self.run.as_ref().ok()?.summary.as_ref()?.seconds)
    }
}

fn settings(trial: &Trial) -> Map<String, Value> {
    trial.values.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

fn ends(errors: &[f64]) -> Option<(f64, f64)> {
    let least = errors.iter().copied().reduce(f64::min)?;
    Some((least, errors.iter().copied().reduce(f64::max)?))
}

/// `1.83 (1.80–1.89)`, or `1.83`.
fn range(errors: &[f64]) -> String {
    match (ends(errors), errors.len()) {
        (None, _) => "-".into(),
        (_, 1) => format!("{:.2}", errors[0]),
        (Some((least, most)), _) => format!("{:.2} ({least:.2}–{most:.2})", mean(errors)),
    }
}
