//! `onward verify`: trains a run again, and says whether it comes to the same.

use crate::commands::train::{Options, errors_of, judge, prepare};
use crate::exit::{Interrupted, Usage};
use crate::experiment::Experiment;
use crate::interrupt;
use crate::progress::{Mode, Progress, Start, grouped};
use crate::provenance::Provenance;
use crate::run_dir::{Metrics, RunDir, Summary};
use crate::settings::wrapped;
use crate::source::{Samples, samples_of_run};
use crate::terminal;
use crate::trained::Trained;
use anyhow::{Context, Result, bail};
use onward::checkpoint::{COMBINED, Info, different_tensors};
use onward::{Dataset, Event, Flow, Readout, Trainer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Flags of `onward verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of a finished run; nothing in it is changed.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Only the first N epochs: for long runs, and for those that are not finished
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// How far errors may be apart, in points of per cent, where the same bits are not to be expected: on another machine or by
    /// another version [default: three standard errors of their difference]
    #[arg(long, value_name = "POINTS")]
    tolerance: Option<f64>,
    /// Run the programs that the run's black boxes name: only for runs that you trust
    #[arg(long)]
    allow_programs: bool,
    /// Threads to compute with; 0 for one per core. They change no bit.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// How to show progress; the verdict is said in any case.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    progress: Mode,
}

/// Trains it again. Fails where it comes to something else.
pub fn run(args: &Args) -> Result<()> {
    args.progress.check()?;
    if args.tolerance.is_some_and(|points| !(0.0..=100.0).contains(&points)) {
        let found = args.tolerance.unwrap_or_default();
        return Err(Usage(format!("--tolerance {found}: expected 0 to 100 points")).into());
    }
    prepare(&Options { threads: args.threads, ..Options::default() })?;
    let verdict = Retrained::new(args)?.verdict()?;
    match args.progress {
        Mode::Json => {
            let line = json!({ "event": "verdict", "verified": verdict.verified, "bits": verdict.bits,
                               "text": verdict.text });
            terminal::print(&format!("{line}\n"))?;
        }
        _ => {
            let lines = wrapped(&verdict.text, terminal::columns());
            terminal::print(&format!("{}\n", lines.join("\n")))?;
        }
    }
    if !verdict.verified {
        bail!("{} was not verified", args.run.display());
    }
    Ok(())
}

/// What the comparison came to.
struct Verdict {
    verified: bool,
    /// Whether every bit compared is the same.
    bits: bool,
    text: String,
}

/// A number that was measured then and now.
struct Measured {
    what: String,
    then: f64,
    now: f64,
    tolerance: f64,
}

/// A run, trained again.
struct Retrained<'a> {
    args: &'a Args,
    /// What trained it then.
    then: Vec<Provenance>,
    here: Provenance,
    epochs: u32,
    tensors: usize,
    /// Whether all of it was trained again, not only its first epochs.
    whole: bool,
    /// The first thing that is another: what, and what it was then and is now.
    difference: Option<String>,
    measured: Vec<Measured>,
}

/// What there is of the run.
struct Original {
    path: PathBuf,
    experiment: Experiment,
    metrics: Vec<Metrics>,
    /// Of a finished run that is to be trained to its end.
    summary: Option<Summary>,
    provenance: Vec<Provenance>,
}

impl Original {
    fn read(args: &Args) -> Result<Self> {
        let path = match args.run.join("experiment.toml").exists() {
            true => args.run.clone(),
            false => Trained::find(&args.run)?.run_directory()?,
        };
        let experiment = Experiment::read(&path.join("experiment.toml"))?;
        let mut metrics = RunDir::metrics(&path, u32::MAX)?;
        let mut summary = RunDir::summary(&path)?;
        let have = metrics.len();
        let run = path.display();
        match args.epochs {
            None if summary.is_none() => {
                return Err(Usage(format!(
                    "{run}: this run is not finished (it has {have} epochs): verify its first N with --epochs N"
                ))
                .into());
            }
            None => {}
            Some(asked) if asked as usize > have => {
                return Err(Usage(format!("--epochs {asked}: {run} has {have} epochs")).into());
            }
            Some(asked) => {
                summary = summary.filter(|summary| summary.epochs == asked);
                metrics.truncate(asked as usize);
            }
        }
        let whole = summary.as_ref().is_none_or(|summary| summary.epochs as usize == metrics.len());
        let numbered = metrics.iter().enumerate().all(|(i, line)| line.epoch.epoch as usize == i + 1);
        if !whole || !numbered {
            return Err(Usage(format!(
                "{run}: metrics.jsonl is damaged: found {} epochs of {}, expected each once and in order",
                metrics.len(),
                summary.map_or(metrics.len(), |summary| summary.epochs as usize)
            ))
            .into());
        }
        let checkpoint = path.join("checkpoint/last.safetensors");
        if summary.is_some() && checkpoint.exists() {
            // A damaged one is refused now, not after the training.
            Info::read(checkpoint)?;
        }
        let provenance = RunDir::provenance(&path)?;
        Ok(Original { path, experiment, metrics, summary, provenance })
    }
}

impl<'a> Retrained<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let original = Original::read(args)?;
        let samples = samples_of_run(&original.path, &original.experiment)?;
        let here = Provenance::here(&samples);
        let Original { experiment, provenance, .. } = &original;
        if let Some(problem) = provenance.iter().find_map(|then| here.other_data(then, &experiment.data.source)) {
            bail!("{}: {problem}", original.path.display());
        }
        let mut trainer = Trainer::new(experiment.recipe.clone(), &samples.train)?;
        trainer.allow_programs(args.allow_programs);
        trainer.check(&samples.train)?;
        if (trainer.epochs() as usize) < original.metrics.len() {
            let (run, found, expected) = (original.path.display(), trainer.epochs(), original.metrics.len());
            let problem =
                format!("{run}: its experiment.toml asks for {found} epochs, but it was trained for {expected}");
            return Err(Usage(problem).into());
        }
        let mut retrained = Retrained {
            args,
            then: provenance.clone(),
            here,
            epochs: original.metrics.len() as u32,
            tensors: 0,
            whole: original.summary.is_some(),
            difference: None,
            measured: Vec::new(),
        };
        retrained.train(&original, &samples, &mut trainer)?;
        Ok(retrained)
    }

    /// Whether the same bits are to be expected.
    fn same_kind(&self) -> bool {
        !self.then.is_empty() && self.then.iter().all(|then| *then == self.here)
    }

    fn note(&mut self, found: Option<String>) {
        self.difference = self.difference.take().or(found);
    }

    /// Trains as far as the run is to be verified, and compares on the way: where the same bits are to be expected, the first
    /// that is another is the end of it.
    fn train(&mut self, original: &Original, samples: &Samples, trainer: &mut Trainer) -> Result<()> {
        let Original { path, experiment, metrics, .. } = original;
        let run = path.display().to_string();
        let validation = samples.validation.as_ref();
        let mut progress = Progress::start(
            self.args.progress,
            &Start {
                network: trainer.network(),
                experiment: &experiment.name,
                seed: experiment.recipe.seed.0,
                run: &run,
                again: true,
                samples: (samples.train.len(), validation.map_or(0, Dataset::len)),
                epochs: self.epochs,
                steps: (trainer.steps_per_epoch(samples.train.len()), 0),
                batch: experiment.recipe.training.batch,
                threads: rayon::current_num_threads(),
            },
        );
        let same_kind = self.same_kind();
        let (mut failure, mut last, mut seconds, mut since) = (None, None, 0.0, Instant::now());
        let mut observe = |event: Event<'_>, trainer: &Trainer| {
            let mut handle = || -> Result<bool> {
                match event {
                    Event::Step(step) => progress.step(step),
                    Event::Epoch(epoch) => {
                        seconds += since.elapsed().as_secs_f64();
                        let validation_error = errors_of(&judge(trainer.network(), validation)?);
                        let line = Metrics { epoch: epoch.clone(), seconds, validation_error };
                        progress.epoch(&line);
                        let at = epoch.epoch as usize;
                        let then = &metrics[at - 1];
                        self.note(difference(
                            &format!("epoch {at}: "),
                            &without_seconds(then),
                            &without_seconds(&line),
                        ));
                        last = Some(line);
                        since = Instant::now();
                        return Ok(at < metrics.len() && (self.difference.is_none() || !same_kind));
                    }
                    _ => {}
                }
                Ok(true)
            };
            let go_on = handle().unwrap_or_else(|error| {
                failure = Some(error);
                false
            });
            if go_on && !interrupt::asked() { Flow::Continue } else { Flow::Stop }
        };
        let outcome = trainer.fit(&samples.train, &mut observe);
        progress.stop();
        outcome?;
        if let Some(error) = failure {
            return Err(error);
        }
        progress.say("");
        let done = last.as_ref().map_or(0, |line: &Metrics| line.epoch.epoch);
        if done < self.epochs && !(same_kind && self.difference.is_some()) {
            return Err(Interrupted.into());
        }
        let (Some(then), Some(now)) = (metrics.get(done.saturating_sub(1) as usize), last) else { return Ok(()) };
        self.measured = self.errors("validation", validation, &then.validation_error, &now.validation_error);
        let whole = original.summary.as_ref().filter(|_| done == self.epochs);
        if let Some(summary) = whole {
            self.compare_ends(summary, path, samples, trainer)?;
        }
        if self.measured.is_empty() {
            let (then, now) = (then.epoch.loss, now.epoch.loss);
            self.measured = vec![Measured { what: "loss".into(), then, now, tolerance: 0.1 * then.abs() }];
        }
        Ok(())
    }

    /// Compares what the run and this one ended in: the last checkpoint, and the test samples' errors.
    fn compare_ends(&mut self, summary: &Summary, path: &Path, samples: &Samples, trainer: &mut Trainer) -> Result<()> {
        let checkpoint = path.join("checkpoint/last.safetensors");
        // Runs from before there was a combined readout are without it.
        let combined = Info::read(&checkpoint).is_ok_and(|info| info.tensors.iter().any(|(name, ..)| name == COMBINED));
        if let Some(validation) = samples.validation.as_ref().filter(|_| combined) {
            trainer.combine_readouts(validation)?;
        }
        if checkpoint.exists() {
            let scratch = tempfile::tempdir().context("a scratch directory could not be made")?;
            let again = scratch.path().join("last.safetensors");
            trainer.save(&again, &BTreeMap::new())?;
            let different = different_tensors(&checkpoint, &again)?;
            self.tensors = Info::read(&again)?.tensors.len();
            self.note(different.first().map(|name| {
                let others = match different.len() - 1 {
                    0 => String::new(),
                    n => format!(", and {n} more of {} tensors", self.tensors),
                };
                format!("the last checkpoint: tensor `{name}` is another{others}")
            }));
        }
        let judged = judge(trainer.network(), samples.test.as_ref())?;
        let errors = errors_of(&judged);
        if !errors.is_empty() {
            self.measured = self.errors("test", samples.test.as_ref(), &summary.test_error, &errors);
        }
        let confusion: BTreeMap<_, _> = judged.iter().map(|one| (one.readout, &one.evaluation.confusion)).collect();
        let now = json!({ "parameters": trainer.network().parameters(), "train_samples": samples.train.len(),
                          "test_error": errors, "test_confusion": confusion });
        let then = json!({ "parameters": summary.parameters, "train_samples": summary.train_samples,
                           "test_error": summary.test_error, "test_confusion": summary.test_confusion });
        self.note(difference("summary.json: ", &then, &now));
        Ok(())
    }

    /// Errors in per cent then and now, and how far they may be apart.
    fn errors(
        &self,
        of: &str,
        data: Option<&Dataset>,
        then: &BTreeMap<Readout, f64>,
        now: &BTreeMap<Readout, f64>,
    ) -> Vec<Measured> {
        let samples = data.map_or(1, Dataset::len) as f64;
        let both = then.iter().filter_map(|(readout, then)| Some((readout, *then, *now.get(readout)?)));
        let measured = both.map(|(readout, then, now)| {
            // Of the errors of both together; as if there were one more, for none at all are no proof of none ever.
            let p = ((then + now) / 200.0 * samples + 0.5) / (samples + 0.5);
            let standard = 100.0 * (2.0 * p * (1.0 - p) / samples).sqrt();
            let tolerance = self.args.tolerance.unwrap_or(3.0 * standard);
            Measured { what: format!("{of} error, {readout}"), then, now, tolerance }
        });
        measured.collect()
    }

    fn verdict(&self) -> Result<Verdict> {
        let run = self.args.run.display();
        let part = match (self.whole, self.epochs) {
            (true, _) => String::new(),
            (false, 1) => " (its first epoch)".into(),
            (false, n) => format!(" (its first {n} epochs)"),
        };
        let bits = self.difference.is_none();
        let others: Vec<&Provenance> = self.then.iter().filter(|then| **then != self.here).collect();
        let by = match (&self.then[..], &others[..]) {
            ([], _) => format!("it does not say what trained it; {} now", self.here.brief()),
            (_, []) => format!("{} both times", self.here.brief()),
            (_, others) => {
                let then: Vec<String> = others.iter().map(|then| then.brief()).collect();
                format!("{} then, {} now", then.join(" and "), self.here.brief())
            }
        };
        let Some(found) = &self.difference else {
            let mut compared = vec![match self.epochs {
                1 => "the metrics of one epoch".to_owned(),
                n => format!("the metrics of {} epochs", grouped(n.into())),
            }];
            if self.tensors > 0 {
                compared.push(format!("all {} tensors of its last checkpoint", self.tensors));
            }
            if self.whole && self.measured.iter().any(|one| one.what.starts_with("test")) {
                compared.push("its test errors".into());
            }
            let compared = and(&compared);
            let text = format!("Verified: {run}{part} comes to the same bits: {compared}; {by}.");
            return Ok(Verdict { verified: true, bits, text });
        };
        if self.same_kind() {
            let text = format!("Not verified: {run}{part} comes to other bits, and should not: {found}; {by}.");
            return Ok(Verdict { verified: false, bits, text });
        }
        let within = self.measured.iter().all(|one| (one.now - one.then).abs() <= one.tolerance);
        let numbers = self.measured.iter().map(|Measured { what, then, now, tolerance }| {
            let unit = if what == "loss" { "" } else { " %" };
            format!("{what} {then:.2}{unit} then, {now:.2}{unit} now (tolerance {tolerance:.2})")
        });
        let numbers = and(&numbers.collect::<Vec<_>>());
        let text = match within {
            true => format!("Verified within tolerance: {run}{part}: {numbers}. Not to the bit ({found}); {by}."),
            false => format!("Not verified: {run}{part} is out of tolerance: {numbers}; {by}."),
        };
        Ok(Verdict { verified: within, bits, text })
    }
}

/// `a, b and c`.
fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn without_seconds(metrics: &Metrics) -> Value {
    let mut value = serde_json::to_value(metrics).unwrap_or_default();
    value.as_object_mut().and_then(|fields| fields.remove("seconds"));
    value
}

/// The first number that differs, and where it is.
fn difference(place: &str, then: &Value, now: &Value) -> Option<String> {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
            let null = Value::Null;
            let part = |fields: &'_ serde_json::Map<String, Value>, key: &str| fields.get(key).cloned();
            keys.into_iter().find_map(|key| {
                let dot = if place.ends_with(' ') { "" } else { "." };
                let (then, now) = (part(then, key), part(now, key));
                difference(&format!("{place}{dot}{key}"), then.as_ref().unwrap_or(&null), now.as_ref().unwrap_or(&null))
            })
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            let pairs = then.iter().zip(now).enumerate();
            pairs.into_iter().find_map(|(i, (then, now))| difference(&format!("{place}[{i}]"), then, now))
        }
        (then, now) if then == now => None,
        (then, now) => Some(format!("{place} was {then}, is {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let found = |then, now| difference("epoch 3: ", &then, &now);
        let metrics = |loss: f64, dead: u32| json!({ "layers": [{ "loss": 1.0 }, { "dead": dead, "loss": loss }] });
        assert_eq!(found(metrics(0.5, 2), metrics(0.5, 2)), None);
        assert_eq!(found(metrics(0.5, 2), metrics(0.25, 2)).unwrap(), "epoch 3: layers[1].loss was 0.5, is 0.25");
        assert_eq!(found(metrics(0.5, 2), metrics(0.25, 3)).unwrap(), "epoch 3: layers[1].dead was 2, is 3");
        assert_eq!(found(json!({}), json!({ "gain": 1 })).unwrap(), "epoch 3: gain was null, is 1");
        assert_eq!(found(json!([1]), json!([1, 2])).unwrap(), "epoch 3:  was [1], is [1,2]");
    }
}
