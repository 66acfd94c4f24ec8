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
use onward::events::LayerReport;
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
    let (info, network) = (trained.info()?, trained.network(false)?);
    let (mut experiment, mut metrics, mut finished) = (None, Vec::new(), false);
    if let Some(run) = &trained.run {
        experiment = Some(Experiment::read(&run.join("experiment.toml"))?);
        metrics = RunDir::metrics(run, u32::MAX)?;
        finished = run.join("summary.json").exists();
    }
    let found = Found { trained, info, network, experiment, metrics, finished };
    terminal::print(&if args.json { found.json()? } else { found.text(args.tensors) })
}

impl Found {
    /// The experiment's settings that are not at their default: key and value.
    fn changes(&self) -> Vec<(&'static str, String)> {
        let default = Experiment::default();
        // A checkpoint without its run knows its recipe, but not its data.
        let alone = || Experiment { recipe: self.info.recipe.clone(), ..Experiment::default() };
        let (own, default) = (self.experiment.clone().unwrap_or_else(alone).to_table(), default.to_table());
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
        let Found { trained, info, experiment, metrics, finished, .. } = self;
        let _ = writeln!(text, "{}", trained.checkpoint.display());
        let seed = info.recipe.seed.0;
        let _ = match experiment {
            Some(experiment) => writeln!(text, "{}, seed {seed}: {}", experiment.name, experiment.about),
            None => writeln!(text, "in no run directory; seed {seed}"),
        };
        match (info.position, &trained.run) {
            (Some(position), run) => {
                let _ = write!(text, "after epoch {} and {} steps", position.epoch, grouped(position.step));
                let _ = match run {
                    Some(_) if *finished => writeln!(text, ": finished"),
                    Some(run) => writeln!(text, ": not finished; go on with onward train --resume {}", run.display()),
                    None => writeln!(text),
                };
            }
            (None, _) => text.push_str("a network only, without the state to train on\n"),
        }
        let classes = info.classes.len();
        let _ = writeln!(text, "samples of {} in {classes} classes, {} on disk", info.shape, DecimalBytes(info.bytes));
        self.layers(&mut text);

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

    /// A line for each layer: what it is, and how it did in the last epoch in which it learned.
    fn layers(&self, text: &mut String) {
        let mut row = |cells: [String; 7]| {
            let [layer, shape, parameters, rms, goodness, wrong, dead] = cells;
            let line =
                format!("{layer:>5} {shape:>13} {parameters:>12} {rms:>11} {goodness:>13} {wrong:>12} {dead:>6}");
            text.push_str(line.trim_end());
            text.push('\n');
        };
        row([const { String::new() }; 7]);
        let headings = ["layer", "shape", "parameters", "weight rms", "goodness +/-", "wrong order", "dead"];
        row(headings.map(String::from));
        for (l, stage) in self.network.stages().iter().enumerate() {
            let layer = &stage.layer;
            let report = |metrics: &Metrics| metrics.epoch.layers.iter().find(|layer| layer.layer == l).cloned();
            let report = self.metrics.iter().rev().find_map(report);
            let unit = if stage.measure.threshold > 0.0 { f64::from(stage.measure.threshold) } else { 1.0 };
            let told = |tell: &dyn Fn(&LayerReport) -> String| report.as_ref().map_or_else(String::new, tell);
            row([
                l.to_string(),
                format!("{}→{}", layer.inputs(), layer.outputs()),
                grouped(layer.parameters() as u64),
                format!("{:.4}", layer.weight_rms()),
                told(&|of| format!("{:.2}/{:.2}", of.goodness_positive / unit, of.goodness_negative / unit)),
                told(&|of| format!("{:.1} %", 100.0 * of.wrong_order)),
                told(&|of| of.dead_units.to_string()),
            ]);
        }
        if let Some(head) = self.network.head() {
            let mut cells = [const { String::new() }; 7];
            (cells[0], cells[2]) = ("head".into(), grouped(head.parameters() as u64));
            row(cells);
        }
        if !self.metrics.is_empty() {
            text.push_str("The last epoch's goodness of positive/negative samples (threshold: 1), share of\n");
            text.push_str("pairs in the wrong order, and units that were off for every positive sample.\n");
        }
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
            "checkpoint": trained.checkpoint.to_string_lossy(),
            "run": trained.run.as_ref().map(|run| run.to_string_lossy()),
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
    let heading = if readouts.is_empty() { "epochs" } else { "validation error by epoch" };
    let mut text = format!("\n{heading}\n{:>7} {:>10} {:>8}{names}\n", "epoch", "loss", "seconds");
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
