//! `onward compare`: one experiment by several rules, beside each other: error against samples, time and memory.

use crate::children::Process;
use crate::commands::report::open;
use crate::exit::{Interrupted, Usage};
use crate::experiment::Experiment;
use crate::interrupt;
use crate::progress::{Mode, grouped};
use crate::report::compare::Comparison;
use crate::run_dir::{RunDir, Summary};
use crate::settings::{parse_flag, wrapped};
use crate::terminal;
use anyhow::{Context, Result};
use onward::checkpoint::write_atomically;
use onward::settings::{BlackBoxSettings, Frames, LayerSettings, ProcessSettings, Rule};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::Value;

/// Flags of `onward compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiment: one that `onward experiments` lists, or a TOML file.
    #[arg(default_value = "default-small")]
    experiment: String,
    /// The rules to train it by.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["forward-forward", "backprop"])]
    rules: Vec<Choice>,
    /// Put such a black box between every two layers.
    #[arg(long, value_enum, value_name = "KIND")]
    black_box: Option<BoxChoice>,
    /// The program that answers where the black box is a process, such as "python3 black_box.py".
    #[arg(long, value_name = "COMMAND", required_if_eq("black_box", "process"))]
    program: Option<String>,
    /// Change a setting for every rule.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Change a setting for one rule, such as backprop:optimizer.rate=0.3.
    #[arg(long, value_name = "RULE:KEY=VALUE")]
    set_for: Vec<String>,
    /// Epochs; each visits all training samples once.
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// The seed of all random draws.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Training samples to use.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Data to train on instead: a data set's name, a file or a folder.
    #[arg(long, value_name = "NAME|PATH")]
    data: Option<String>,
    /// Where the runs go, one directory a rule; runs that are there already are gone on with, finished ones read.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads to compute with; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// How to show progress.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    progress: Mode,
}

/// For rules that silence no units.
const NO_DROPOUT: &str = "network.dropout=0.0";

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// Each layer for itself, from a positive and a negative pass.
    ForwardForward,
    /// The head's gradient, sent down through all layers.
    Backprop,
    /// Random nudges of all weights, kept as far as they helped.
    Perturbation,
    /// Layers that stay random, and a head that learns.
    RandomLayers,
}

impl Choice {
    fn rule(self) -> Rule {
        match self {
            Choice::ForwardForward => Rule::ForwardForward,
            Choice::Backprop => Rule::Backprop,
            Choice::Perturbation => Rule::Perturbation,
            Choice::RandomLayers => Rule::RandomLayers,
        }
    }

    fn name(self) -> String {
        word(self)
    }

    /// What people would set for this rule where the experiment was made for Forward-Forward.
    fn customary(self) -> &'static [&'static str] {
        match self {
            Choice::ForwardForward => &[],
            Choice::Backprop => &["optimizer.rate=0.1", "optimizer.weight_cost=0.0001", "head.weight_cost=0.0001"],
            // Divided by the number of parameters: see `rival::perturbation`.
            Choice::Perturbation => &["optimizer.rate=10.0", NO_DROPOUT],
            Choice::RandomLayers => &[NO_DROPOUT],
        }
    }

    /// Whether it silences units where the experiment asks for that.
    fn drops_out(self) -> bool {
        !self.customary().contains(&NO_DROPOUT)
    }
}

/// As the command line has it.
fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

/// A black box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BoxChoice {
    /// Four levels.
    Quantiser,
    /// A random linear map, and the sine of it.
    Random,
    /// Noise of half the activities' size.
    Noise,
    /// Each activity becomes 1 or 0, at random.
    Binary,
    /// A program of yours (--program) answers a row of as many numbers for each row, in binary frames.
    Process,
}

/// Trains what is not trained yet, and compares.
pub fn run(args: &Args) -> Result<()> {
    args.progress.check()?;
    if let (Some(program), true) = (&args.program, args.black_box != Some(BoxChoice::Process)) {
        let problem = format!("--program {program}: there is no place for it; give --black-box process too");
        return Err(Usage(problem).into());
    }
    let base = Experiment::open(&args.experiment)?.with(changes(args)?)?;
    let own = |choice: &Choice| -> Result<Experiment> {
        let mut experiment = base.clone();
        let customary = choice.customary().iter().map(|flag| parse_flag(flag));
        let of_rule = format!("{}:", choice.name());
        let set = args.set_for.iter().filter_map(|flag| flag.strip_prefix(&of_rule)).map(setting);
        experiment = experiment.with(customary.chain(set).collect::<Result<Vec<_>, _>>()?)?;
        experiment.recipe.rule = choice.rule();
        if let Some(kind) = args.black_box {
            experiment.recipe.network.layers = between(&experiment.recipe.network.layers, kind, args)?;
        }
        Ok(experiment)
    };
    if let Some(flag) =
        args.set_for.iter().find(|flag| !args.rules.iter().any(|rule| flag.starts_with(&format!("{}:", rule.name()))))
    {
        return Err(Usage(format!("--set-for {flag}: expected RULE:KEY=VALUE with one of --rules")).into());
    }
    let mut done = BTreeSet::new();
    let chosen = args.rules.iter().filter(|choice| done.insert(choice.name()));
    let chosen = chosen.map(|choice| Ok((choice, own(choice)?))).collect::<Result<Vec<_>>>()?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("compare-{}", base.name)));
    std::fs::create_dir_all(&out).with_context(|| format!("{}: it could not be made", out.display()))?;

    let (mut runs, mut notes, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (choice, experiment) in chosen {
        // What cannot be trained is part of the answer.
        if let Err(error) = experiment.recipe.clone().check() {
            refused.push(format!("{}: refused. {error}", choice.name()));
            continue;
        }
        if base.recipe.network.dropout > 0.0 && !choice.drops_out() {
            notes.push(format!("{}: without `network.dropout`, as it silences no units.", choice.name()));
        }
        let path = out.join(choice.name());
        train(&experiment, &path, args, &choice.name())?;
        runs.push((choice.name(), path));
    }
    if runs.is_empty() {
        return Err(Usage(refused.join("\n")).into());
    }
    let mut text = table(&runs)?;
    for line in notes.iter().chain(&refused).flat_map(|note| wrapped(note, terminal::columns())) {
        text.push_str(&format!("{line}\n"));
    }
    let opened = runs.iter().map(|(_, path)| open(path)).collect::<Result<_>>()?;
    let page = out.join("comparison.html");
    write_atomically(&page, Comparison::new(opened).html().as_bytes())
        .with_context(|| format!("{}: it could not be written", page.display()))?;
    terminal::print(&format!("{text}\n{}\n", page.display()))
}

/// A setting that a flag changes.
///
/// # Errors
/// A [`Usage`] also where it is the rule.
fn setting(flag: &str) -> Result<(String, Value), Usage> {
    match parse_flag(flag)? {
        (key, rule) if key == "rule" => {
            let rule = rule.as_str().unwrap_or_default();
            Err(Usage(format!("--set {flag}: the rules are what is compared; give them as --rules {rule}")))
        }
        given => Ok(given),
    }
}

fn changes(args: &Args) -> Result<Vec<(String, Value)>> {
    let mut changes = args.set.iter().map(|flag| setting(flag)).collect::<Result<Vec<_>, _>>()?;
    let numbers = [("training.epochs", args.epochs), ("seed", args.seed), ("data.train", args.limit)];
    for (key, number) in numbers {
        if let Some(number) = number {
            changes.push(parse_flag(&format!("{key}={number}"))?);
        }
    }
    if let Some(data) = &args.data {
        changes.push(("data.source".into(), Value::String(data.clone())));
    }
    Ok(changes)
}

/// The layers with a black box between every two.
fn between(layers: &[LayerSettings], kind: BoxChoice, args: &Args) -> Result<Vec<LayerSettings>> {
    let black_box = |below: &LayerSettings| {
        Ok(LayerSettings::BlackBox(match kind {
            BoxChoice::Quantiser => BlackBoxSettings::Quantiser { levels: 4 },
            BoxChoice::Random => BlackBoxSettings::Random,
            BoxChoice::Noise => BlackBoxSettings::Noise { deviation: 0.5 },
            BoxChoice::Binary => BlackBoxSettings::Binary,
            BoxChoice::Process => {
                let LayerSettings::Dense(outputs) = *below else {
                    let problem = "--black-box process: it answers as many numbers as it gets, which is known here for fully \
                                   connected layers alone; put it into a file of your own, with its `outputs`";
                    return Err(Usage(problem.into()));
                };
                let program = args.program.as_deref().unwrap_or_default();
                let command = program.split_whitespace().map(String::from).collect();
                BlackBoxSettings::Process(ProcessSettings { command, outputs, frames: Frames::Binary, timeout: 10.0 })
            }
        }))
    };
    let mut all = Vec::new();
    for layer in layers {
        if let Some(below) = all.last() {
            all.push(black_box(below)?);
        }
        all.push(layer.clone());
    }
    Ok(all)
}

/// Trains in a process of its own, whose peak memory is then this rule's alone.
fn train(experiment: &Experiment, path: &Path, args: &Args, name: &str) -> Result<()> {
    let file = path.with_extension("toml");
    let document = experiment.document();
    if path.exists() {
        RunDir::refuse_other(path, experiment)?;
        if RunDir::summary(path)?.is_some() {
            return Ok(());
        }
    }
    // Asked to stop, a run saves itself first; this process waits for it, and starts no other.
    interrupt::catch()?;
    if interrupt::asked() {
        return Err(Interrupted.into());
    }
    write_atomically(&file, document.as_bytes())
        .with_context(|| format!("{}: it could not be written", file.display()))?;
    terminal::print(&format!("— {name} —\n"))?;
    let mut command = Command::new(std::env::current_exe().context("this program could not be found again")?);
    command.arg("train").args(["--threads", &args.threads.to_string(), "--progress", &word(args.progress)]);
    match path.join("experiment.toml").exists() {
        true => command.arg("--resume").arg(path),
        false => command.arg(&file).arg("--out").arg(path),
    };
    let status = Process::start(&mut command).and_then(|run| run.wait()).context("the run could not be started")?;
    terminal::print("\n")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Usage(format!("the run by {name} was refused")).into()),
        Some(130) => Err(Interrupted.into()),
        _ => anyhow::bail!("the run by {name} has failed"),
    }
}

fn table(runs: &[(String, PathBuf)]) -> Result<String> {
    let summary = |path: &Path| RunDir::summary(path)?.context("a finished run has a summary");
    let summaries = runs.iter().map(|(_, path)| summary(path)).collect::<Result<Vec<_>>>()?;
    // Not all data comes with test samples.
    let tested = summaries.iter().all(|summary| !summary.test_error.is_empty());
    let errors = |summary: &Summary| if tested { &summary.test_error } else { &summary.validation_error }.clone();
    let readouts: BTreeSet<_> = summaries.iter().flat_map(|summary| errors(summary).into_keys()).collect();
    let mut text = match (readouts.is_empty(), tested) {
        (true, _) => String::new(),
        (_, true) => format!("{:16} test error\n", ""),
        (_, false) => format!("{:16} validation error\n", ""),
    };
    text.push_str(&format!("{:16}", "rule"));
    readouts.iter().for_each(|readout| text.push_str(&format!(" {:>8}", readout.to_string())));
    text.push_str(&format!(" {:>11} {:>9} {:>9}\n", "samples/s", "seconds", "peak MB"));
    let mut notes = String::new();
    for ((name, path), summary) in runs.iter().zip(&summaries) {
        text.push_str(&format!("{name:16}"));
        for readout in &readouts {
            let error = errors(summary).get(readout).map_or("-".into(), |error| format!("{error:.2} %"));
            text.push_str(&format!(" {error:>width$}", width = readout.to_string().len().max(8)));
        }
        text.push_str(&format!(
            " {:>11} {:>9.1} {:>9}\n",
            grouped(summary.samples_per_second as u64),
            summary.seconds,
            summary.peak_rss_bytes.map_or("-".into(), |bytes| format!("{:.0}", bytes as f64 / 1e6)),
        ));
        let variance = RunDir::metrics(path, u32::MAX)?.last().and_then(|last| last.epoch.estimate_variance);
        if let Some(variance) = variance {
            notes.push_str(&format!(
                "{name}: the variance of its {} weights' shared estimate is {variance:.3}.\n",
                grouped(summary.parameters as u64)
            ));
        }
    }
    Ok(text + &notes)
}
