//! `onward experiments`.

use crate::experiment::{EMBEDDED, Experiment};
use anyhow::Result;
use onward::settings::LayerSettings;
use serde::Deserialize;
use std::io::Write;

/// What `onward bench experiments --json` wrote on two cores.
const COSTS: &str = include_str!("../../../../results/costs/costs.json");

/// What is read of it.
#[derive(Debug, Deserialize)]
struct Costs {
    experiments: Vec<Cost>,
}

#[derive(Debug, Deserialize)]
struct Cost {
    experiment: String,
    minutes: f64,
}

/// How many minutes training an experiment took where that was measured, as a short text.
fn minutes(costs: &Costs, name: &str) -> String {
    match costs.experiments.iter().find(|cost| cost.experiment == name) {
        None => "-".into(),
        Some(Cost { minutes, .. }) if *minutes < 1.0 => format!("{minutes:.2}"),
        Some(Cost { minutes, .. }) if *minutes < 10.0 => format!("{minutes:.1}"),
        Some(Cost { minutes, .. }) => format!("{minutes:.0}"),
    }
}

/// Flags of `onward experiments`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print this experiment as a file, with every setting: the start of one of your own.
    name: Option<String>,
    /// Print a file with every setting at its default, its range and its meaning.
    #[arg(long, conflicts_with = "name")]
    settings: bool,
}

/// Prints what was asked for.
pub fn run(args: &Args) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.settings {
        return Ok(write!(out, "{}", Experiment::default().document())?);
    }
    if let Some(name) = &args.name {
        return Ok(write!(out, "{}", Experiment::open(name)?.document())?);
    }
    let costs: Costs = serde_json::from_str(COSTS)?;
    writeln!(out, "{:24} {:>13} {:>6} {:>6} {:>5}  LAYERS", "EXPERIMENT", "PAPER", "ERROR", "EPOCHS", "MIN.")?;
    for (name, _) in EMBEDDED {
        let experiment = Experiment::open(name)?;
        let layers = LayerSettings::brief(&experiment.recipe.network.layers);
        let error = match experiment.paper.error {
            0.0 => "-".into(),
            error => format!("{error} %"),
        };
        let section = if experiment.paper.section.is_empty() { "-" } else { &experiment.paper.section };
        let epochs = experiment.recipe.training.epochs;
        let minutes = minutes(&costs, name);
        writeln!(out, "{name:24} {section:>13} {error:>6} {epochs:>6} {minutes:>5}  {layers}")?;
        writeln!(out, "    {}", experiment.about)?;
    }
    writeln!(out, "\nPAPER and ERROR: where the paper reports it, and its test error.")?;
    writeln!(out, "MIN.: minutes of training on two cores where we measured it, in the precision of")?;
    writeln!(out, "the file. How long each would take here: onward bench experiments.")?;
    Ok(writeln!(out, "Train one: onward train NAME. Print it as a file: onward experiments NAME.")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_has_a_cost_and_every_cost_an_experiment() {
        let costs: Costs = serde_json::from_str(COSTS).unwrap();
        for (name, _) in EMBEDDED {
            let minutes = minutes(&costs, name);
            assert!(minutes.parse::<f64>().is_ok_and(|minutes| minutes > 0.0), "{name}: {minutes}");
        }
        assert!(costs.experiments.iter().all(|cost| EMBEDDED.iter().any(|(name, _)| *name == cost.experiment)));
    }
}
