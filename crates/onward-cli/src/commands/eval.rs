//! `onward eval`: how often a trained network is wrong, and about what.

use crate::confusion;
use crate::progress::grouped;
use crate::trained::{Choice, Trained};
use crate::{source, terminal};
use anyhow::{Context, Result};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use onward::{Dataset, Evaluation, Network, ProbeSettings, Readout};
use onward_data::Loaded;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Measures the error of a trained network
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run directory, or a checkpoint file
    #[arg(value_name = "RUN|CHECKPOINT")]
    trained: PathBuf,
    /// Other data than the run was trained on: a data set's name, a file or a folder
    #[arg(long, value_name = "NAME|PATH")]
    data: Option<String>,
    /// Which samples of the data
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// Run the programs that the network's black boxes name: only for networks that you trust
    #[arg(long)]
    allow_programs: bool,
    /// How labels are read out [default: every way that the network offers]
    #[arg(long, value_enum)]
    readout: Option<Asked>,
    /// Also train a linear softmax on what each layer hands up, to see what it knows of the classes
    #[arg(long)]
    probe: bool,
    /// Print one JSON object, with everything
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    Test,
    Train,
}

/// A readout, or two at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    One(Choice),
    Both,
}

impl ValueEnum for Asked {
    fn value_variants<'a>() -> &'a [Self] {
        use Choice::{ClassScores, Combined, EveryLabel, OnePass};
        &[Asked::One(EveryLabel), Asked::One(OnePass), Asked::One(ClassScores), Asked::One(Combined), Asked::Both]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Asked::One(choice) => choice.to_possible_value(),
            Asked::Both => Some(PossibleValue::new("both").help("Every label, and one pass")),
        }
    }
}

/// One readout's result.
struct Measured {
    readout: Readout,
    evaluation: Evaluation,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let trained = Trained::find(&args.trained)?;
    let network = trained.network(args.allow_programs)?;
    let readouts = match args.readout {
        None => network.readouts(),
        Some(Asked::One(choice)) => vec![choice.into()],
        Some(Asked::Both) => vec![Readout::EveryLabel, Readout::OnePass],
    };
    readouts.iter().try_for_each(|readout| trained.check(&network, *readout))?;
    let from = match &args.data {
        Some(source) => source.clone(),
        None => trained.data_source()?,
    };
    let Loaded { train, test, kind, .. } = source::open(&from)?;
    let (source, data) = samples(args, &from, &train, test.as_ref());
    let measured: Result<Vec<_>> = readouts.into_iter().map(|readout| measure(&network, data, readout)).collect();
    let measured = measured.with_context(|| source.clone())?;
    let mut probed = None;
    if args.probe {
        let few = source::mixed(train.clone(), kind)?.slice(0..train.len().min(PROBED))?;
        probed = Some(network.linear_probe(&few, data, ProbeSettings::default()).context(from)?);
    }
    if args.json {
        let mut all = as_json(&trained, &source, &network, &measured);
        if let Some(probed) = probed {
            all["linear_probe"] = json!({ "input": probed[0], "layers": probed[1..] });
        }
        return terminal::print(&format!("{all:#}\n"));
    }
    let mut text = as_text(&trained, &source, &network, &measured, terminal::columns());
    if let Some(probed) = probed {
        text.push_str(&probe_text(&probed));
    }
    terminal::print(&text)
}

/// Training samples that linear probes learn from at most: enough to tell layers apart in seconds.
const PROBED: usize = 10_000;

fn probe_text(errors: &[f64]) -> String {
    let mut text =
        String::from("\nLinear probe: the error of a softmax that learns from one layer's activities alone\n");
    for (l, error) in errors.iter().enumerate() {
        let what = if l == 0 { "input".into() } else { format!("layer {}", l - 1) };
        let _ = writeln!(text, "{what:<12}{error:>6.2} %");
    }
    text
}

/// The samples to evaluate on, of the source's training and test samples, and what to call them.
fn samples<'a>(args: &Args, source: &str, train: &'a Dataset, test: Option<&'a Dataset>) -> (String, &'a Dataset) {
    match (args.split, test) {
        (Split::Train, _) => (format!("{source}, training samples"), train),
        (Split::Test, Some(test)) => (format!("{source}, test samples"), test),
        // A single file is just its samples.
        (Split::Test, None) if args.data.is_some() => (source.into(), train),
        (Split::Test, None) => (format!("{source}, all samples, those of the training among them"), train),
    }
}

fn measure(network: &Network, data: &Dataset, readout: Readout) -> Result<Measured> {
    let start = Instant::now();
    let evaluation = network.evaluate(data, readout)?;
    Ok(Measured { readout, evaluation, seconds: start.elapsed().as_secs_f64() })
}

/// The bounds, in per cent, that hold the error on all such samples 19 times out of 20 (Wilson).
fn interval(evaluation: &Evaluation) -> (f64, f64) {
    const Z: f64 = 1.96;
    let n = evaluation.samples as f64;
    let p = evaluation.errors as f64 / n;
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let per_cent = |bound: f64| 100.0 * bound.max(0.0) / (1.0 + Z * Z / n);
    (per_cent(centre - half), per_cent(centre + half))
}

fn as_text(trained: &Trained, source: &str, network: &Network, measured: &[Measured], columns: usize) -> String {
    let classes = network.class_names();
    let mut text = format!("{}\n{source}\n\n", trained.checkpoint.display());
    for Measured { readout, evaluation, seconds } in measured {
        let ((low, high), error) = (interval(evaluation), evaluation.error());
        let readout = readout.to_string();
        let wrong = format!("{} of {}", grouped(evaluation.errors as u64), grouped(evaluation.samples as u64));
        let _ = writeln!(text, "{readout:<12}{error:>6.2} %  {wrong}  (95 %: {low:.2} to {high:.2} %)  {seconds:.1} s");
    }
    for Measured { readout, evaluation, .. } in measured {
        let _ = writeln!(text, "\nConfusion, {readout}");
        text.push_str(&confusion::text(evaluation, classes, columns));
    }
    text
}

fn as_json(trained: &Trained, source: &str, network: &Network, measured: &[Measured]) -> Value {
    let classes = network.class_names();
    let readouts = measured.iter().map(|Measured { readout, evaluation, seconds }| {
        let (low, high) = interval(evaluation);
        let pairs = confusion::worst_pairs(evaluation, confusion::WORST);
        let result = json!({
            "error": evaluation.error(),
            "interval_95": [low, high],
            "samples": evaluation.samples,
            "errors": evaluation.errors,
            "seconds": seconds,
            "class_error": (0..classes.len()).map(|i| confusion::class_error(evaluation, i)).collect::<Vec<_>>(),
            "worst_pairs": pairs
                .iter()
                .map(|&(i, j, count)| json!({"true": classes[i], "found": classes[j], "count": count}))
                .collect::<Vec<_>>(),
            "confusion": evaluation.confusion,
        });
        (readout.to_string(), result)
    });
    json!({
        "checkpoint": trained.checkpoint.to_string_lossy(),
        "data": source,
        "classes": classes,
        "readouts": readouts.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // The textbook's: 1 of 10 is 1.79 to 40.42 %.
        let evaluation = |samples, errors| Evaluation { samples, errors, confusion: vec![] };
        let (low, high) = interval(&evaluation(10, 1));
        assert!((low - 1.79).abs() < 0.01 && (high - 40.42).abs() < 0.01, "{low} {high}");
        assert_eq!(interval(&evaluation(10, 0)).0, 0.0);
    }
}
