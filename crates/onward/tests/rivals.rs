//! The rules that Forward-Forward is compared with: backpropagation's gradient by finite differences, through every
//! normalisation and kind of layer; batches in parts; perturbation; and that each learns.

mod common;

use common::{patterns, recipe, without_checksum};
use onward::settings::{Fields, LabelPlace, LayerSettings, Normalization, OptimizerKind, Precision, Rule};
use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};
use std::collections::BTreeMap;

fn fit(recipe: Recipe, data: &Dataset) -> Trainer {
    let mut trainer = Trainer::new(recipe, data).unwrap();
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    trainer
}

/// Mean cross-entropy of the one-pass readout.
fn loss(network: &Network, data: &Dataset) -> f64 {
    let predictions = network.predict(data, Readout::OnePass).unwrap();
    let labels = data.labels().iter().enumerate();
    -labels.map(|(n, &label)| f64::from(predictions.row(n)[label as usize]).ln()).sum::<f64>() / data.len() as f64
}

/// Patterns as 4×6 images, for layers with fields.
fn images(n: usize) -> Dataset {
    let data = patterns(n);
    let mut values = vec![0.0; 24 * n];
    values.chunks_exact_mut(24).enumerate().for_each(|(n, to)| data.read(n, to));
    let names = data.classes().to_vec();
    Dataset::new(Shape::image(1, 4, 6), Values::Floats(values), data.labels().to_vec(), names).unwrap()
}

fn layers() -> Vec<(&'static str, Vec<LayerSettings>)> {
    let fields = |channels, field| Fields { channels, field, stride: 1, pad: 1 };
    vec![
        ("dense", vec![11.into(), 9.into(), 7.into()]),
        ("local", vec![LayerSettings::Local(fields(3, 3)), LayerSettings::Local(fields(50, 3)), 7.into()]),
        ("conv", vec![LayerSettings::Conv(fields(4, 3)), LayerSettings::Conv(fields(3, 2))]),
    ]
}

fn backprop(layers: Vec<LayerSettings>, normalization: Normalization, precision: Precision) -> Recipe {
    let mut recipe = recipe(precision, &[]);
    recipe.network.layers = layers;
    recipe.rule = Rule::Backprop;
    recipe.network.label = LabelPlace::None;
    recipe.negatives.kind = onward::settings::NegativesKind::Hybrid;
    recipe.network.normalization = normalization;
    (recipe.optimizer.rate, recipe.head.rate) = (0.1, 0.1);
    recipe
}

fn weights(network: &Network) -> Vec<(String, Vec<f64>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n");
    network.save(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut all: Vec<_> = tensors
        .iter()
        .filter(|(name, _)| name.ends_with("weight") || name.ends_with("bias"))
        .map(|(name, view)| {
            let numbers = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
            (name.to_owned(), numbers)
        })
        .collect();
    all.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
    all
}

#[test]
fn the_gradient_is_the_derivative_through_every_layer_and_normalisation() {
    let data = images(30);
    for (name, layers) in layers() {
        for norm in [Normalization::Rms, Normalization::Length, Normalization::Layer, Normalization::None] {
            // The head starts at 0, where no gradient goes down: some steps first.
            let mut recipe = backprop(layers.clone(), norm, Precision::Reference);
            (recipe.optimizer.momentum, recipe.head.momentum) = (0.0, 0.0);
            (recipe.optimizer.weight_cost, recipe.head.weight_cost) = (0.0, 0.0);
            recipe.training.schedule = onward::settings::Schedule::Constant;
            recipe.training.epochs = 3;
            let after_three = fit(recipe.clone(), &data).into_network();
            recipe.training.epochs = 4;
            let trainer = fit(recipe.clone(), &data);
            let (before, after) = (weights(&after_three), weights(trainer.network()));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("n");
            after_three.save(&path).unwrap();
            let file = without_checksum(std::fs::read(&path).unwrap());
            let mut moved = 0;
            for (t, (tensor, values)) in before.iter().enumerate().filter(|(_, (t, _))| !t.starts_with("head")) {
                for at in [0, values.len() / 3, values.len() / 2, values.len() - 1] {
                    let step = (after[t].1[at] - values[at]) / 0.1;
                    let nudged = |h: f64| {
                        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
                        let view = tensors.tensor(tensor).unwrap();
                        let offset = view.data().as_ptr() as usize - file.as_ptr() as usize + at * 8;
                        let mut changed = file.clone();
                        changed[offset..offset + 8].copy_from_slice(&(values[at] + h).to_le_bytes());
                        std::fs::write(&path, changed).unwrap();
                        loss(&Network::load(&path).unwrap(), &data)
                    };
                    if values[at] == 0.0 && tensor.ends_with("weight") {
                        continue; // outside of a local layer's fields
                    }
                    let (above, here, below) = (nudged(2e-3), nudged(0.0), nudged(-2e-3));
                    let numeric = -(above - below) / 4e-3;
                    let near = |a: f64, b: f64| (a - b).abs() < 2e-3 * (0.1 + b.abs());
                    if !near((here - above) / 2e-3, (below - here) / 2e-3) {
                        continue; // a unit switches in between: the loss has a corner here, or bends too much
                    }
                    moved += u32::from(step.abs() > 1e-5);
                    let close = near(step, numeric);
                    assert!(close, "{name}, {norm:?}, {tensor}[{at}]: step {step}, finite difference {numeric}");
                }
            }
            assert!(moved > 3, "{name}, {norm:?}: only {moved} of the weights looked at have moved");
        }
    }
}

#[test]
fn the_fast_engine_takes_the_references_steps() {
    let data = images(60);
    for (name, layers) in layers() {
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 2e-2)] {
            let run = |precision| {
                let mut recipe = backprop(layers.clone(), Normalization::Rms, precision);
                recipe.training.epochs = 5;
                fit(recipe, &data).network().predict(&data, Readout::OnePass).unwrap().probabilities
            };
            for (a, b) in run(Precision::Reference).iter().zip(run(precision)) {
                assert!((a - b).abs() < tolerance, "{name}, {precision:?}: {a} and {b}");
            }
        }
    }
}

#[test]
fn a_batch_in_parts_is_the_same_step() {
    let data = patterns(90);
    let run = |parts, norm| {
        let mut recipe = backprop(vec![30.into(), 20.into()], norm, Precision::F32);
        recipe.rival.parts = parts;
        fit(recipe, &data)
    };
    let whole = run(1, Normalization::Rms);
    for parts in [2, 7, 30, 1000] {
        let in_parts = run(parts, Normalization::Rms);
        let probabilities = |t: &Trainer| t.network().predict(&data, Readout::OnePass).unwrap().probabilities;
        for (a, b) in probabilities(&whole).iter().zip(probabilities(&in_parts)) {
            assert!((a - b).abs() < 1e-4, "{parts} parts: {a} and {b}");
        }
        assert!(in_parts.activity_bytes() < whole.activity_bytes(), "{parts} parts take less memory");
    }
}

#[test]
fn every_rule_learns_and_goes_on_to_the_same_bits() {
    let data = patterns(600);
    let mut perturbation = backprop(vec![8.into()], Normalization::Rms, Precision::F32);
    perturbation.rule = Rule::Perturbation;
    perturbation.optimizer.rate = 10.0;
    perturbation.rival.nudge = 0.01;
    perturbation.training.epochs = 60;
    let mut dropout = backprop(vec![40.into(), 40.into()], Normalization::None, Precision::F32);
    (dropout.network.dropout, dropout.training.epochs) = (0.2, 10);
    let mut adam = backprop(vec![40.into(), 40.into()], Normalization::Layer, Precision::F32);
    (adam.optimizer.kind, adam.optimizer.rate, adam.training.epochs) = (OptimizerKind::Adam, 0.003, 10);
    for (name, recipe, most) in [("perturbation", perturbation, 45.0), ("dropout", dropout, 10.0), ("adam", adam, 10.0)]
    {
        let whole = fit(recipe.clone(), &data);
        assert_eq!(whole.network().readouts(), [Readout::OnePass]);
        let error = whole.network().evaluate(&data, Readout::OnePass).unwrap().error();
        assert!(error < most, "{name}: {error} % of 3 classes wrong");

        let mut stopped = Trainer::new(recipe, &data).unwrap();
        let mut steps = 0;
        let stop = &mut |_: Event<'_>, _: &Trainer| {
            steps += 1;
            if steps == 33 { Flow::Stop } else { Flow::Continue }
        };
        stopped.fit(&data, stop).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last");
        stopped.save(&path, &BTreeMap::new()).unwrap();
        let mut resumed = Trainer::load(&path).unwrap();
        resumed.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
        let probabilities = |t: &Trainer| t.network().predict(&data, Readout::OnePass).unwrap().probabilities;
        assert_eq!(probabilities(&resumed), probabilities(&whole), "{name}");
    }
}

#[test]
fn perturbation_reports_the_variance_of_its_estimates() {
    let data = patterns(300);
    let variance = |width: usize| {
        let mut recipe = backprop(vec![width.into()], Normalization::Rms, Precision::F32);
        recipe.rule = Rule::Perturbation;
        recipe.training.epochs = 1;
        let mut reported = None;
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        let mut observe = |event: Event<'_>, _: &Trainer| {
            if let Event::Epoch(epoch) = event {
                reported = epoch.estimate_variance;
                assert!(epoch.layers.is_empty());
            }
            Flow::Continue
        };
        trainer.fit(&data, &mut observe).unwrap();
        reported.unwrap()
    };
    assert!(variance(16) > 0.0);
}

#[test]
fn combinations_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut Recipe)| {
        let mut recipe = backprop(vec![8.into()], Normalization::Rms, Precision::F32);
        change(&mut recipe);
        recipe.check().unwrap_err().to_string()
    };
    assert!(refused(|r| r.head.enabled = false).contains("head.enabled"));
    assert!(refused(|r| r.training.order = onward::settings::Order::Greedy).contains("training.order"));
    assert!(refused(|r| r.training.rest = 4).contains("training.rest"));
    assert!(refused(|r| (r.rival.parts, r.optimizer.kind) = (2, OptimizerKind::Adam)).contains("rival.parts"));
}
