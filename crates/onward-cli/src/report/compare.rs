//! Runs beside each other: those that differ in nothing but the seed are one line, and count as many times.

use super::figure::{Ink, Lines, Series};
use super::{html, stats};
use crate::experiment::Experiment;
use crate::progress::grouped;
use crate::run_dir::{Metrics, Summary};
use crate::settings::{SETTINGS, lookup, tells, wrapped};
use onward::Readout;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

/// A run to compare.
#[derive(Clone, Debug)]
pub struct Run {
    pub path: PathBuf,
    pub experiment: Experiment,
    pub metrics: Vec<Metrics>,
    pub summary: Option<Summary>,
}

/// Runs in groups of equal settings.
#[derive(Debug)]
pub struct Comparison {
    groups: Vec<Group>,
    readouts: Vec<Readout>,
    /// Which runs are not among them, and why.
    left_out: Vec<String>,
    /// Whether every run has its test error; the last validation errors are compared otherwise.
    tested: bool,
}

#[derive(Debug)]
struct Group {
    name: String,
    runs: Vec<Run>,
}

/// Differences this unlikely by luck are called differences.
const SIGNIFICANT: f64 = 0.05;

impl Comparison {
    /// Groups the runs, in the order in which they are named.
    pub fn new(runs: Vec<Run>) -> Self {
        let (groups, left_out) = by_settings(runs);
        // A run that had no test samples has a summary without test errors.
        let tested = |run: &Run| run.summary.as_ref().is_some_and(|summary| !summary.test_error.is_empty());
        let tested = groups.iter().flat_map(|group| &group.runs).all(tested);
        Self::by(groups, left_out, tested)
    }

    /// The same by the last validation errors, whether the test errors are known or not.
    pub fn validated(runs: Vec<Run>) -> Self {
        let (groups, left_out) = by_settings(runs);
        Self::by(groups, left_out, false)
    }

    fn by(groups: Vec<Group>, left_out: Vec<String>, tested: bool) -> Self {
        let errors = groups.iter().flat_map(|group| group.runs.iter().map(|run| run.errors(tested)));
        let readouts: BTreeSet<Readout> = errors.flat_map(|errors| errors.into_keys().collect::<Vec<_>>()).collect();
        Comparison { groups, readouts: readouts.into_iter().collect(), left_out, tested }
    }

    fn what(&self) -> &'static str {
        if self.tested { "test error" } else { "last validation error" }
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = format!("Mean {} in per cent ± standard deviation over the seeds\n\n", self.what());
        let name = self.groups.iter().map(|group| group.name.chars().count()).max().unwrap_or(0).clamp(8, 34);
        let mut row = |cells: &[String]| {
            let mut line = format!("{:name$}", cells[0]);
            line.push_str(&format!(" {:>5}", cells[1]));
            line.extend(cells[2..].iter().map(|cell| format!(" {cell:>12}")));
            text.push_str(line.trim_end());
            text.push('\n');
        };
        let headings = self.readouts.iter().map(Readout::to_string);
        row(&["run".to_owned(), "seeds".to_owned()].into_iter().chain(headings).collect::<Vec<_>>());
        for group in &self.groups {
            let errors = self.readouts.iter().map(|readout| spread(&group.errors(*readout, self.tested)));
            let name = group.name.chars().take(name).collect();
            row(&[name, group.runs.len().to_string()].into_iter().chain(errors).collect::<Vec<_>>());
        }
        text.push('\n');
        for line in self.left_out.iter().chain(&self.verdicts()).flat_map(|verdict| wrapped(verdict, 80)) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// A sentence on each group and readout, beside the first group.
    fn verdicts(&self) -> Vec<String> {
        let Some((first, others)) = self.groups.split_first() else { return Vec::new() };
        let pairs = others.iter().flat_map(|group| self.readouts.iter().map(move |readout| (group, *readout)));
        pairs
            .filter_map(|(group, readout)| {
                let (a, b) = (first.errors(readout, self.tested), group.errors(readout, self.tested));
                if a.is_empty() || b.is_empty() {
                    return None;
                }
                let difference = stats::mean(&b) - stats::mean(&a);
                let (size, word) = (difference.abs(), if difference < 0.0 { "lower" } else { "higher" });
                let told = format!("{}: {readout} {size:.2} points {word} than {}", group.name, first.name);
                Some(match stats::p_value(&a, &b) {
                    Some(p) if p < SIGNIFICANT => format!("{told}: more than luck (p = {p:.3})."),
                    Some(p) => format!("{told}: no more than luck would do (p = {p:.2})."),
                    None if a.len() < 2 || b.len() < 2 => {
                        format!("{told}; whether that is luck, only two seeds or more of each can tell.")
                    }
                    None => format!("{told}; whether that is luck, seeds that all come to the same cannot tell."),
                })
            })
            .collect()
    }

    /// The page.
    pub fn html(&self) -> String {
        let runs: usize = self.groups.iter().map(|group| group.runs.len()).sum();
        let body = format!("<h1>{runs} runs compared</h1>\n{}", self.sections());
        html::page(&format!("{runs} runs compared"), &body)
    }

    /// What a page says of them.
    pub fn sections(&self) -> String {
        [self.table(), self.curves(), self.differences()].concat()
    }

    fn table(&self) -> String {
        let names: Vec<String> = self.readouts.iter().map(|readout| format!("{readout} %")).collect();
        let mut headings = vec!["run", "seeds", "epochs"];
        headings.extend(names.iter().map(|name| &name[..]));
        headings.extend(["minutes each", "parameters", "samples/s", "peak MB"]);
        let rows: Vec<_> = self.groups.iter().map(|group| self.row(group)).collect();
        let verdicts: String = self
            .left_out
            .iter()
            .chain(&self.verdicts())
            .map(|verdict| format!("<li>{}</li>\n", html::escape(verdict)))
            .collect();
        let body = format!("{}<ul>\n{verdicts}</ul>\n", html::table(&headings, &rows));
        let about = format!(
            "Mean {} ± standard deviation over the seeds. Runs that differ in nothing but their seed are one line. Whether a \
             difference is more than luck is judged by Welch's test, at p below {SIGNIFICANT}; with many comparisons, expect \
             one in twenty to look like more than it is.",
            self.what()
        );
        html::section("Errors", &about, &body)
    }

    fn row(&self, group: &Group) -> Vec<String> {
        let last = |run: &Run| run.metrics.last().map_or((0, 0.0), |last| (last.epoch.epoch, last.seconds));
        let (epochs, seconds): (Vec<u32>, Vec<f64>) = group.runs.iter().map(last).unzip();
        let parameters = group.runs.iter().find_map(|run| run.summary.as_ref()).map(|summary| summary.parameters);
        let mut row = vec![html::escape(&group.name), group.runs.len().to_string()];
        row.push(epochs.iter().max().map_or("-".into(), u32::to_string));
        row.extend(self.readouts.iter().map(|readout| spread(&group.errors(*readout, self.tested))));
        row.push(format!("{:.1}", stats::mean(&seconds) / 60.0));
        row.push(parameters.map_or("-".into(), |n| grouped(n as u64)));
        let mean = |of: &dyn Fn(&Summary) -> Option<f64>| {
            let all: Vec<f64> = group.runs.iter().filter_map(|run| of(run.summary.as_ref()?)).collect();
            if all.is_empty() { "-".into() } else { grouped(stats::mean(&all) as u64) }
        };
        row.push(mean(&|summary| Some(summary.samples_per_second)));
        row.push(mean(&|summary| Some(summary.peak_rss_bytes? as f64 / 1e6)));
        row
    }

    fn curves(&self) -> String {
        let over = |at: &dyn Fn(&Metrics) -> f64, value: &dyn Fn(&Metrics) -> Option<f64>| -> Vec<Series> {
            let runs =
                self.groups.iter().enumerate().flat_map(|(i, group)| group.runs.iter().map(move |run| (i, group, run)));
            runs.map(|(i, group, run)| {
                let point = |metrics: &Metrics| Some((at(metrics), value(metrics)?));
                let points = run.metrics.iter().filter_map(point).collect();
                Series { name: group.name.clone(), ink: Ink::Nth(i), points }
            })
            .collect()
        };
        let curve = |value: &dyn Fn(&Metrics) -> Option<f64>| over(&|metrics| f64::from(metrics.epoch.epoch), value);
        let titles: Vec<String> = self.readouts.iter().map(|readout| format!("Validation error, {readout}")).collect();
        let mut figures: Vec<String> = self
            .readouts
            .iter()
            .zip(&titles)
            .map(|(readout, title)| {
                let series = curve(&|metrics| metrics.validation_error.get(readout).copied());
                Lines { title, unit: "%, by epoch", series }.html()
            })
            .collect();
        let best = |metrics: &Metrics| metrics.validation_error.values().copied().reduce(f64::min);
        let series = over(&|metrics| metrics.seconds, &best);
        figures.push(
            Lines { title: "Validation error, best readout, by time", unit: "%, by seconds of training", series }
                .html(),
        );
        let series = curve(&|metrics| Some(metrics.epoch.loss));
        figures.push(Lines { title: "Loss of the layers", unit: "nats a sample, by epoch", series }.html());
        html::section(
            "Epoch by epoch",
            "One line a run; runs that differ in their seed alone share a colour.",
            &html::side_by_side(&figures),
        )
    }

    /// The settings in which the groups differ.
    fn differences(&self) -> String {
        let rows: Vec<Vec<String>> = differing(&self.groups)
            .into_iter()
            .map(|key| {
                let values = self.groups.iter().map(|group| html::escape(&value(&group.runs[0].experiment, key)));
                [format!("<code>{key}</code>")].into_iter().chain(values).collect()
            })
            .collect();
        let names: Vec<String> = self.groups.iter().map(|group| html::escape(&group.name)).collect();
        let headings: Vec<&str> = ["setting"].into_iter().chain(names.iter().map(|name| &name[..])).collect();
        let mut body = if rows.is_empty() { String::new() } else { html::table(&headings, &rows) };
        let mut list = String::new();
        for group in &self.groups {
            for run in &group.runs {
                let (path, seed) = (run.path.display().to_string(), run.experiment.recipe.seed.0);
                let _ = writeln!(list, "<li>{}: {}, seed {seed}</li>", html::escape(&group.name), html::escape(&path));
            }
        }
        body.push_str(&html::details("The run directories", &format!("<ul>\n{list}</ul>\n")));
        html::section("Where they differ", "Settings that are not the same in all of them.", &body)
    }
}

impl Run {
    /// Test errors, or those of the last validation.
    fn errors(&self, tested: bool) -> BTreeMap<Readout, f64> {
        match (&self.summary, self.metrics.last()) {
            (Some(summary), _) if tested => summary.test_error.clone(),
            (_, Some(last)) => last.validation_error.clone(),
            _ => BTreeMap::new(),
        }
    }
}

impl Group {
    fn errors(&self, readout: Readout, tested: bool) -> Vec<f64> {
        self.runs.iter().filter_map(|run| run.errors(tested).get(&readout).copied()).collect()
    }
}

/// Settings that say what a run is called, not what it does.
fn told(key: &str) -> bool {
    ["name", "seed"].contains(&key) || tells(key)
}

fn value(experiment: &Experiment, key: &str) -> String {
    lookup(&experiment.to_table(), key).map_or(String::new(), ToString::to_string)
}

fn same(a: &Experiment, b: &Experiment) -> bool {
    let (a, b) = (a.to_table(), b.to_table());
    SETTINGS.iter().all(|setting| told(setting.key) || lookup(&a, setting.key) == lookup(&b, setting.key))
}

/// The keys in which the groups differ.
fn differing(groups: &[Group]) -> Vec<&'static str> {
    let tables: Vec<_> = groups.iter().map(|group| group.runs[0].experiment.to_table()).collect();
    let keys = SETTINGS.iter().map(|setting| setting.key).filter(|key| !told(key));
    keys.filter(|key| tables.iter().any(|table| lookup(table, key) != lookup(&tables[0], key))).collect()
}

/// Runs by their settings, in the order in which they are named, and which were left out of them: of each seed one stays, rather
/// one that has finished, for the same draws once more tell nothing of luck.
fn by_settings(runs: Vec<Run>) -> (Vec<Group>, Vec<String>) {
    let (mut groups, mut left_out) = (Vec::<Group>::new(), Vec::new());
    for mut run in runs {
        let Some(group) = groups.iter_mut().find(|group| same(&group.runs[0].experiment, &run.experiment)) else {
            groups.push(Group { name: String::new(), runs: vec![run] });
            continue;
        };
        match group.runs.iter_mut().find(|other| other.experiment.recipe.seed == run.experiment.recipe.seed) {
            Some(other) => {
                if other.summary.is_none() && run.summary.is_some() {
                    std::mem::swap(other, &mut run);
                }
                let (run, other) = (run.path.display(), other.path.display());
                left_out.push(format!("{run}: left out; {other} has the same settings and the same seed."));
            }
            None => group.runs.push(run),
        }
    }
    name(&mut groups);
    (groups, left_out)
}

/// Names the groups by their experiments; where these do not tell them apart, by the settings in which they differ, or at
/// last by number.
fn name(groups: &mut [Group]) {
    let keys = differing(groups);
    let experiments: Vec<String> = groups.iter().map(|group| group.runs[0].experiment.name.clone()).collect();
    for i in 0..groups.len() {
        let own = &experiments[i];
        let alike = experiments.iter().filter(|name| *name == own).count() > 1;
        let settings = keys.iter().map(|key| {
            let short = key.rsplit('.').next().unwrap_or(key);
            format!("{short} {}", value(&groups[i].runs[0].experiment, key).trim_matches('"'))
        });
        groups[i].name = match alike {
            false => own.clone(),
            true if keys.len() <= 2 => settings.collect::<Vec<_>>().join(", "),
            true => format!("{own} ({})", groups[i].runs[0].path.display()),
        };
    }
}

/// `1.83 ± 0.05`, or `1.83`.
fn spread(errors: &[f64]) -> String {
    match (errors, stats::deviation(errors)) {
        ([], _) => "-".into(),
        (errors, Some(deviation)) => format!("{:.2} ± {deviation:.2}", stats::mean(errors)),
        (errors, None) => format!("{:.2}", stats::mean(errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onward::events::EpochReport;
    use toml::Value;

    fn run(path: &str, seed: i64, batch: i64, error: f64) -> Run {
        let given = [("seed".into(), Value::Integer(seed)), ("training.batch".into(), Value::Integer(batch))];
        let epoch = EpochReport {
            epoch: 3,
            step: 9,
            loss: 0.5,
            head_loss: None,
            estimate_variance: None,
            gain: 1.0,
            layers: Vec::new(),
        };
        let validation_error = BTreeMap::from([(Readout::OnePass, error)]);
        Run {
            path: path.into(),
            experiment: Experiment::default().with(given).unwrap(),
            metrics: vec![Metrics { epoch, seconds: 6.0, validation_error }],
            summary: None,
        }
    }

    #[test]
    fn runs_that_differ_in_their_seed_are_one_line() {
        let runs = [("a", 1, 100, 2.0), ("c", 1, 50, 1.0), ("b", 2, 100, 2.2), ("d", 2, 50, 1.1)];
        let runs = runs.map(|(path, seed, batch, error)| run(path, seed, batch, error));
        let comparison = Comparison::new(runs.into());
        let expected = "Mean last validation error in per cent ± standard deviation over the seeds\n\n\
                        run       seeds     one-pass\n\
                        batch 100     2  2.10 ± 0.14\n\
                        batch 50      2  1.05 ± 0.07\n\n\
                        batch 50: one-pass 1.05 points lower than batch 100: more than luck (p = 0.027).\n";
        assert_eq!(comparison.text(), expected);
        let html = comparison.html();
        assert!(html.contains("<td><code>training.batch</code></td><td>100</td><td>50</td>"), "{html}");
    }

    #[test]
    fn long_names_and_three_readouts_fit_a_terminal() {
        let named = |name: &str, seed| {
            let mut run = run(name, seed, 100, 12.25);
            run.experiment = run.experiment.with([("name".into(), Value::String(name.into()))]).unwrap();
            let errors = [Readout::EveryLabel, Readout::OnePass, Readout::Combined].map(|readout| (readout, 12.25));
            run.metrics[0].validation_error = errors.into();
            run
        };
        let long = "a-name-that-is-longer-than-the-table-has-room-for";
        let text = Comparison::new(vec![named(long, 1), named(long, 2), named("short", 1)]).text();
        assert!(text.contains("12.25 ± 0.00") && text.contains("combined"), "{text}");
        assert!(text.lines().take(5).all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_seed_counts_once() {
        let runs = [("a", 1, 100, 2.0), ("a/", 1, 100, 2.0), ("b", 1, 50, 2.5), ("b", 1, 50, 2.5)];
        let comparison = Comparison::new(runs.map(|(path, seed, batch, error)| run(path, seed, batch, error)).into());
        let text = comparison.text();
        assert!(text.contains("\nbatch 100     1         2.00\nbatch 50      1         2.50\n"), "{text}");
        for expected in [
            "\na/: left out; a has the same settings and the same seed.\n",
            "\nb: left out; b has the same settings and the same seed.\n",
            "only\ntwo seeds or more of each can tell.",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(comparison.html().contains("<h1>2 runs compared</h1>") && comparison.html().contains("a/: left out"));
    }

    #[test]
    fn of_a_seed_the_run_that_has_finished_stays() {
        let summary = include_str!("../../../../results/default-1.json");
        let finished = Run { summary: Some(serde_json::from_str(summary).unwrap()), ..run("b", 1, 100, 3.0) };
        let text = Comparison::new(vec![run("a", 1, 100, 2.0), finished]).text();
        assert!(text.contains("\na: left out; b has the same settings and the same seed.\n"), "{text}");
        assert!(text.contains("test error"), "{text}");
    }

    #[test]
    fn seeds_that_come_to_the_same_tell_nothing() {
        let runs = [("a", 1, 100, 2.0), ("b", 2, 100, 2.0), ("c", 1, 50, 2.5), ("d", 2, 50, 2.5)];
        let text = Comparison::new(runs.map(|(path, seed, batch, error)| run(path, seed, batch, error)).into()).text();
        assert!(text.ends_with("whether that is luck,\nseeds that all come to the same cannot tell.\n"), "{text}");
    }

    #[test]
    fn one_seed_tells_nothing() {
        let comparison = Comparison::new(vec![run("a", 1, 100, 2.0), run("b", 1, 50, 2.5)]);
        let expected = "batch 50: one-pass 0.50 points higher than batch 100; whether that is luck, only\n\
                        two seeds or more of each can tell.\n";
        assert!(comparison.text().ends_with(expected), "{}", comparison.text());
    }
}
