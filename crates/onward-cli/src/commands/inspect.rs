//! `onward inspect`: what a run or a checkpoint is, and how it went.

use crate::experiment::Experiment;
use crate::progress::grouped;
use crate::run_dir::{Metrics, RunDir};
use crate::settings::{SETTINGS, lookup};
use crate::terminal;
use crate::trained::Trained;
use anyhow::Result;
use indicatif::DecimalBytes;
use onward::Network;
use onward::checkpoint::Info;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

/// Flags of `onward inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run directory, or a checkpoint file.
    #[arg(value_name = "RUN|CHECKPOINT")]
    trained: PathBuf,
    /// List every tensor of the checkpoint too.
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object, with everything.
    #[arg(long)]
    json: bool,
}

/// Everything that there is to say.
struct Found {
    trained: Trained,
    info: Info,
    network: Network,
    experiment: Option<Experiment>,
    metrics: Vec<Metrics>,
    finished: bool,
}

/// Prints it.
pub fn run(args: &Args) -> Result<()> {
    let trained = Trained::find(&args.trained)?;
    let (info, network) = (trained.info()?, trained.network()?);
    let (mut experiment, mut metrics, mut finished) = (None, Vec::new(), false);
    if let Some(run) = &trained.run {
        experiment = Some(Experiment::open(&run.join("experiment.toml").to_string_lossy())?);
        metrics = RunDir::metrics(run, u32::MAX)?;
        finished = run.join("summary.json").exists();
    }
    let found = Found { trained, info, network, experiment, metrics, finished };
    terminal::print(&if args.json { found.json()? } else { found.text(args.tensors) })
}

impl Found {
    /// The experiment's settings that are not at their default: key and value.
    fn changes(&self) -> Vec<(&'static str, String)> {
        let Some(experiment) = &self.experiment else { return Vec::new() };
        let (default, own) = (Experiment::default().to_table(), experiment.to_table());
        let told = |key: &str| key == "name" || key == "about" || key == "seed" || key.starts_with("paper.");
        let keys = SETTINGS.iter().map(|setting| setting.key).filter(|key| !told(key));
        keys.filter_map(|key| {
            let value = lookup(&own, key)?;
            (lookup(&default, key) != Some(value)).then(|| (key, value.to_string()))
        })
        .collect()
    }

    fn text(&self, tensors: bool) -> String {
        let mut text = String::new();
        let Found { trained, info, network, experiment, metrics, finished } = self;
        let _ = writeln!(text, "{}", trained.checkpoint.display());
        if let Some(experiment) = experiment {
            let _ = writeln!(text, "{}, seed {}: {}", experiment.name, experiment.recipe.seed.0, experiment.about);
        }
        match info.position {
            Some(position) => {
                let state = if *finished { "finished" } else { "not finished" };
                let _ = writeln!(text, "{state}, after epoch {} and {} steps", position.epoch, grouped(position.step));
            }
            None => text.push_str("a network only, without the state to train on\n"),
        }
        let classes = info.classes.len();
        let _ = writeln!(text, "samples of {} in {classes} classes, {} on disk", info.shape, DecimalBytes(info.bytes));

        let last = metrics.last();
        let _ = writeln!(
            text,
            "\n{:>5} {:>15} {:>12} {:>10} {:>12}",
            "layer", "shape", "parameters", "weight rms", "dead units"
        );
        for (l, stage) in network.stages().iter().enumerate() {
            let layer = &stage.layer;
            let dead =
                last.and_then(|m| m.epoch.layers.iter().find(|layer| layer.layer == l)).map(|layer| layer.dead_units);
            let _ = writeln!(
                text,
                "{l:>5} {:>15} {:>12} {:>10.4} {:>12}",
                format!("{}→{}", layer.inputs(), layer.outputs()),
                grouped(layer.parameters() as u64),
                layer.weight_rms(),
                dead.map_or("-".into(), |dead| dead.to_string())
            );
        }
        if let Some(head) = network.head() {
            let _ = writeln!(text, "{:>5} {:>15} {:>12}", "head", "", grouped(head.parameters() as u64));
        }

        let changes = self.changes();
        if !changes.is_empty() {
            text.push_str("\nsettings that are not at their default\n");
            for (key, value) in changes {
                let _ = writeln!(text, "  {key} = {value}");
            }
        }
        if !metrics.is_empty() {
            text.push_str(&epochs(metrics));
        }
        if tensors {
            text.push_str("\ntensors\n");
            for (name, dtype, shape) in &info.tensors {
                let _ = writeln!(text, "  {name:28} {dtype:>4} {shape:?}");
            }
        }
        text
    }

    fn json(&self) -> Result<String> {
        let Found { trained, info, network, experiment, metrics, finished } = self;
        let layers = network.stages().iter().map(|stage| {
            let layer = &stage.layer;
            json!({ "inputs": layer.inputs(), "outputs": layer.outputs(), "parameters": layer.parameters(),
                    "weight_rms": layer.weight_rms(), "threshold": stage.measure.threshold })
        });
        let tensors =
            info.tensors.iter().map(|(name, dtype, shape)| json!({ "name": name, "dtype": dtype, "shape": shape }));
        let value = json!({
            "checkpoint": trained.checkpoint,
            "run": trained.run,
            "finished": finished,
            "position": info.position,
            "shape": [info.shape.channels, info.shape.height, info.shape.width],
            "classes": info.classes,
            "bytes": info.bytes,
            "parameters": network.parameters(),
            "layers": layers.collect::<Vec<_>>(),
            "recipe": info.recipe,
            "experiment": experiment,
            "metrics": metrics,
            "tensors": tensors.collect::<Vec<_>>(),
        });
        Ok(format!("{value:#}\n"))
    }
}

/// Lines of the table of epochs.
const LINES: usize = 12;

/// A table of at most [`LINES`] epochs, evenly spread, the first and the last among them.
fn epochs(metrics: &[Metrics]) -> String {
    let readouts: Vec<_> = metrics[0].validation_error.keys().collect();
    let names: String = readouts.iter().map(|readout| format!("{:>13}", readout.to_string())).collect();
    let mut text = format!("\nvalidation error by epoch\n{:>7} {:>10} {:>8}{names}\n", "epoch", "loss", "seconds");
    let shown = LINES.min(metrics.len());
    for i in 0..shown {
        let at = if shown == 1 { 0 } else { i * (metrics.len() - 1) / (shown - 1) };
        let Metrics { epoch, seconds, validation_error } = &metrics[at];
        let _ = write!(text, "{:>7} {:>10.3} {seconds:>8.1}", epoch.epoch, epoch.loss);
        for readout in &readouts {
            let error = validation_error.get(readout).map_or("-".into(), |error| format!("{error:.2} %"));
            let _ = write!(text, "{error:>13}");
        }
        text.push('\n');
    }
    text
}
