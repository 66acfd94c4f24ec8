//! `onward experiments`.

use crate::experiment::{EMBEDDED, Experiment};
use anyhow::Result;
use onward::settings::LayerSettings;
use std::io::Write;

/// Flags of `onward experiments`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print this experiment as a file, every setting resolved: the start of one of your own.
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
    writeln!(out, "{:24} {:>13}  {:>7}  {:>6}  LAYERS", "EXPERIMENT", "PAPER", "ERROR", "EPOCHS")?;
    for (name, _) in EMBEDDED {
        let experiment = Experiment::open(name)?;
        let layers = LayerSettings::brief(&experiment.recipe.network.layers);
        let error = match experiment.paper.error {
            0.0 => "-".into(),
            error => format!("{error} %"),
        };
        let section = if experiment.paper.section.is_empty() { "-" } else { &experiment.paper.section };
        let epochs = experiment.recipe.training.epochs;
        writeln!(out, "{name:24} {section:>13}  {error:>7}  {epochs:>6}  {layers}")?;
        writeln!(out, "    {}", experiment.about)?;
    }
    writeln!(out, "\nPAPER and ERROR: where the paper reports it, and its test error.")?;
    writeln!(out, "How long each would take here: onward bench experiments.")?;
    Ok(writeln!(out, "Train one: onward train NAME. Print it as a file: onward experiments NAME.")?)
}
