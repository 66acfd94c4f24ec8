//! `onward doctor`: what is wrong with a run, in sentences.

use crate::experiment::Experiment;
use crate::health::{Finding, Layers, examine};
use crate::run_dir::RunDir;
use crate::settings::wrapped;
use crate::terminal;
use crate::trained::Trained;
use anyhow::{Result, bail};
use onward::Network;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `onward doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run directory, finished or not.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Says it. Fails where something is wrong.
pub fn run(args: &Args) -> Result<()> {
    let (state, findings) = examine_run(&args.run)?;
    let text = match args.json {
        true => {
            let findings = findings.iter().map(|finding| json!({ "text": finding.text, "hint": finding.hint }));
            format!("{:#}\n", json!({ "state": state, "findings": findings.collect::<Vec<_>>() }))
        }
        false => text(&state, &findings, terminal::columns()),
    };
    terminal::print(&text)?;
    match findings.len() {
        0 => Ok(()),
        1 => bail!("one thing is wrong with this run"),
        n => bail!("{n} things are wrong with this run"),
    }
}

fn text(state: &str, findings: &[Finding], columns: usize) -> String {
    let mut text = format!("{state}\n");
    for Finding { text: found, hint } in findings {
        let (first, rest) = found.split_at(found.chars().next().map_or(0, char::len_utf8));
        for line in wrapped(&format!("{}{rest}", first.to_uppercase()), columns) {
            text.push_str(&format!("\n{line}"));
        }
        for line in wrapped(hint, columns - 2) {
            text.push_str(&format!("\n  {line}"));
        }
        text.push('\n');
    }
    if findings.is_empty() {
        text.push_str("Nothing is wrong that can be seen from what the run recorded.\n");
    }
    text
}

/// How far a run is, and what is wrong with it.
fn examine_run(path: &Path) -> Result<(String, Vec<Finding>)> {
    // A run that stopped before its first checkpoint has something to say too.
    let path = match path.join("experiment.toml").exists() {
        true => path.to_owned(),
        false => Trained::find(path)?.run_directory()?,
    };
    Experiment::read(&path.join("experiment.toml"))?;
    let (metrics, probes) = (RunDir::metrics(&path, u32::MAX)?, RunDir::lines(&path, u32::MAX)?);
    let mut findings = Vec::new();
    if let Ok(failure) = std::fs::read_to_string(path.join(RunDir::FAILURE)) {
        let text = format!("training failed: {}.", failure.trim());
        findings
            .push(Finding { text, hint: "Once that is put right, go on with onward train --resume, or train anew." });
    }
    let failed = !findings.is_empty();
    let epochs = metrics.last().map_or(0, |last| last.epoch.epoch);
    let finished = RunDir::summary(&path)?.is_some();
    let (in_use, saved) = (RunDir::in_use(&path), path.join("checkpoint/last.safetensors").exists());
    let state = match (finished, in_use) {
        (true, _) => format!("{}: finished after {epochs} epochs.", path.display()),
        (_, true) if epochs == 0 => format!("{}: in training, in its first epoch.", path.display()),
        (_, true) => format!("{}: in training, after epoch {epochs}.", path.display()),
        _ => format!("{0}: stopped after epoch {epochs}; go on with onward train --resume {0}", path.display()),
    };
    match Trained::find(&path).and_then(|trained| trained.network(false)) {
        Ok(network) => findings.extend(examine(&Layers::of(&network), network.classes(), &metrics, &probes)),
        // There may be one soon, or it is said already why there is none.
        Err(_) if !saved && (in_use || failed) => {}
        Err(_) if !saved && !finished => {
            let text = "it stopped before its first checkpoint.".into();
            findings
                .push(Finding { text, hint: "Nothing is lost: onward train --resume starts it from the beginning." });
        }
        Err(error) => {
            let text = format!("its checkpoint cannot be used: {error:#}.");
            let best = path.join("checkpoint/best.safetensors");
            let hint = match Network::load(best) {
                Ok(_) => "checkpoint/best.safetensors is whole: use it in its place.",
                Err(_) => "Train it again: onward train RUN/experiment.toml.",
            };
            findings.push(Finding { text, hint });
        }
    }
    Ok((state, findings))
}
