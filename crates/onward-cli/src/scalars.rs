//! The numbers of a run, each under its name: what spreadsheets and TensorBoard show.

use crate::report::compare::Run;
use crate::run_dir::Metrics;
use anyhow::Result;
use onward::{Readout, Recipe};
use std::collections::BTreeMap;

/// A number under its name. Names in families are `family/member`, such as `goodness_positive/layer_0`.
pub type Scalar = (String, f64);

/// Every number of an epoch; `before`: the epoch before it.
pub fn of_epoch(metrics: &Metrics, before: Option<&Metrics>, recipe: &Recipe) -> Vec<Scalar> {
    let epoch = &metrics.epoch;
    let mut all = errors("validation_error", &metrics.validation_error);
    all.push(("loss".into(), epoch.loss));
    all.extend(epoch.head_loss.map(|loss| ("head_loss".into(), loss)));
    all.extend(epoch.estimate_variance.map(|variance| ("estimate_variance".into(), variance)));
    all.push(("learning_rate".into(), short(epoch.gain * recipe.optimizer.rate)));
    let (step, seconds) = before.map_or((0, 0.0), |before| (before.epoch.step, before.seconds));
    if metrics.seconds > seconds {
        let samples = epoch.step.saturating_sub(step) * recipe.training.batch as u64;
        all.push(("samples_per_second".into(), samples as f64 / (metrics.seconds - seconds)));
    }
    for layer in &epoch.layers {
        let mut put = |family: &str, value| all.push((format!("{family}/layer_{}", layer.layer), value));
        put("goodness_positive", layer.goodness_positive);
        put("goodness_negative", layer.goodness_negative);
        put("wrong_order", layer.wrong_order);
        put("dead_units", layer.dead_units as f64);
        put("active_rows", layer.active_rows);
        put("layer_loss", layer.loss);
        put("weight_rms", short(layer.weight_rms));
    }
    all
}

/// A single precision number as people write it: 0.005, not 0.004999999888241291.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// Errors in per cent, by readout.
pub fn errors(family: &str, errors: &BTreeMap<Readout, f64>) -> Vec<Scalar> {
    errors.iter().map(|(readout, error)| (format!("{family}/{readout}"), *error)).collect()
}

/// Runs as CSV: a line an epoch, a column a number; where a run or an epoch has no such number, nothing.
pub fn csv(runs: &[Run]) -> Result<Vec<u8>> {
    let mut columns: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for run in runs {
        let path = run.path.display().to_string();
        for (i, metrics) in run.metrics.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| &run.metrics[i]);
            let scalars = of_epoch(metrics, before, &run.experiment.recipe);
            let unknown = scalars.iter().filter(|(name, _)| !columns.contains(name)).map(|(name, _)| name.clone());
            let unknown: Vec<String> = unknown.collect();
            columns.extend(unknown);
            let seed = run.experiment.recipe.seed.0;
            let place = [path.clone(), seed.to_string(), metrics.epoch.epoch.to_string()];
            let place = place.into_iter().chain([metrics.epoch.step.to_string(), format!("{:.3}", metrics.seconds)]);
            lines.push((place.collect::<Vec<_>>(), scalars));
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let place = ["run", "seed", "epoch", "step", "seconds"];
    writer.write_record(place.iter().copied().chain(columns.iter().map(String::as_str)))?;
    for (place, scalars) in lines {
        let value = |name: &String| scalars.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_string());
        writer.write_record(place.into_iter().chain(columns.iter().map(|name| value(name).unwrap_or_default())))?;
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;
    use onward::events::{EpochReport, LayerReport};

    fn metrics(epoch: u32, layers: &[usize]) -> Metrics {
        let layer = |&layer| LayerReport {
            layer,
            loss: 0.25,
            goodness_positive: 12.0,
            goodness_negative: 8.0,
            wrong_order: 0.125,
            active_rows: 0.5,
            dead_units: 3,
            weight_rms: 0.0625,
        };
        let epoch = EpochReport {
            epoch,
            step: u64::from(epoch) * 10,
            loss: 0.5,
            head_loss: None,
            estimate_variance: None,
            gain: 0.5,
            layers: layers.iter().map(layer).collect(),
        };
        Metrics { seconds: f64::from(epoch.epoch) * 4.0, epoch, validation_error: [(Readout::OnePass, 7.5)].into() }
    }

    #[test]
    fn a_table_has_a_line_an_epoch_and_a_column_a_number() {
        let experiment = Experiment::default();
        let run =
            |path: &str, metrics| Run { path: path.into(), experiment: experiment.clone(), metrics, summary: None };
        let runs = [run("a", vec![metrics(1, &[0]), metrics(2, &[])]), run("b, c", vec![metrics(1, &[])])];
        let expected = "run,seed,epoch,step,seconds,validation_error/one-pass,loss,learning_rate,samples_per_second,\
                        goodness_positive/layer_0,goodness_negative/layer_0,wrong_order/layer_0,dead_units/layer_0,\
                        active_rows/layer_0,layer_loss/layer_0,weight_rms/layer_0\n\
                        a,1,1,10,4.000,7.5,0.5,0.005,250,12,8,0.125,3,0.5,0.25,0.0625\n\
                        a,1,2,20,8.000,7.5,0.5,0.005,250,,,,,,,\n\
                        \"b, c\",1,1,10,4.000,7.5,0.5,0.005,250,,,,,,,\n";
        assert_eq!(String::from_utf8(csv(&runs).unwrap()).unwrap(), expected);
        assert_eq!(csv(&[]).unwrap(), b"run,seed,epoch,step,seconds\n");
    }
}
