//! What each experiment costs here: its training rate, measured for a moment, times its samples and epochs.

use super::{Bench, colour_noise};
use crate::experiment::{Data, EMBEDDED, Experiment};
use crate::progress::grouped;
use crate::source;
use anyhow::Result;
use serde_json::{Value, json};

/// Training images of CIFAR-10, the held out ones among them.
const COLOUR_IMAGES: usize = 50_000;

impl Bench<'_> {
    /// Trains each experiment for a moment.
    pub(super) fn experiments(&self) -> Result<(Value, String)> {
        let mut text = format!(
            "what experiments take, {} threads (training alone)\n  {:26}{:>12}{:>10}{:>10}\n",
            self.threads, "", "samples/s", "epochs", "minutes"
        );
        let mut lines = Vec::new();
        for (name, _) in EMBEDDED.iter().filter(|(name, _)| name.starts_with(self.asked())) {
            let experiment = Experiment::open(name)?;
            let samples = if experiment.data.source == "cifar10" {
                let Data { train, validation, .. } = experiment.data;
                let kept = COLOUR_IMAGES - validation;
                colour_noise().map(|data| (data, if train == 0 { kept } else { kept.min(train) }))
            } else {
                samples(&experiment)
            };
            let epochs = experiment.recipe.training.epochs;
            let Ok((data, visited)) = samples else {
                text.push_str(&format!("  {name:26}{:>12}{epochs:>10}{:>10}\n", "no data", "-"));
                continue;
            };
            let (rate, _) = self.train(experiment.recipe, &data, self.threads)?;
            let minutes = f64::from(epochs) * visited as f64 / rate / 60.0;
            text.push_str(&format!("  {name:26}{:>12}{epochs:>10}{minutes:>10.1}\n", grouped(rate as u64)));
            lines.push(json!({ "experiment": name, "samples_per_second": rate, "epochs": epochs, "minutes": minutes }));
        }
        Ok((lines.into(), text))
    }
}

/// What an experiment trains on, and how much of it an epoch visits.
fn samples(experiment: &Experiment) -> Result<(onward::Dataset, usize)> {
    let data = source::samples(experiment)?.train;
    let visited = data.len();
    Ok((data, visited))
}
