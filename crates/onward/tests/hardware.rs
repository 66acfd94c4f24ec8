//! Imprecise hardware: weights are read through gains and offsets that no rule knows, and Forward-Forward learns through them.

mod common;

use common::{patterns, recipe};
use onward::engine::dense;
use onward::layer::{Activation, Dense};
use onward::settings::{Fields, LayerSettings, Precision, Rule};
use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};

fn imprecise(precision: Precision, gain: f32, noise: f32) -> Recipe {
    let mut recipe = recipe(precision, &[30, 20]);
    (recipe.hardware.gain, recipe.hardware.noise) = (gain, noise);
    recipe
}

fn fit(recipe: Recipe, data: &Dataset) -> Trainer {
    let mut trainer = Trainer::new(recipe, data).unwrap();
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    trainer
}

fn probabilities(network: &Network, data: &Dataset) -> Vec<f32> {
    network.predict(data, Readout::OnePass).unwrap().probabilities
}

fn error(network: &Network, data: &Dataset) -> f64 {
    network.evaluate(data, Readout::OnePass).unwrap().error()
}

/// What the first layer answers to one sample, before normalisation.
fn answers(network: &Network, x: &[f32]) -> Vec<f32> {
    let layer = &network.stages()[0].layer;
    let mut y = onward::pass::Activity::default();
    y.resize(1, layer.outputs());
    let scale = [1.0];
    let x = onward::pass::Inputs::plain(x, x.len(), &scale);
    layer.forward(&x, &mut y);
    y.values
}

#[test]
fn each_weight_has_a_gain_and_an_offset_of_its_own() {
    let data = patterns(30);
    let new =
        |gain, noise| Network::new(imprecise(Precision::Reference, gain, noise), data.shape(), data.classes()).unwrap();
    let (precise, gains, offsets) = (new(0.0, 0.0), new(0.5, 0.0), new(0.0, 0.5));
    // One input at a time: its weight to each unit, where that is positive.
    let (mut ratios, mut differences) = (Vec::new(), Vec::new());
    for input in 0..24 {
        let mut x = [0.0; 24];
        x[input] = 1.0;
        let (w, g, o) = (answers(&precise, &x), answers(&gains, &x), answers(&offsets, &x));
        for unit in 0..w.len() {
            if w[unit] > 0.0 && g[unit] > 0.0 {
                ratios.push(f64::from(g[unit] / w[unit]));
            }
            if w[unit] > 0.25 && o[unit] > 0.0 {
                differences.push(f64::from(o[unit] - w[unit]));
            }
        }
    }
    let moments = |all: &[f64]| {
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        (mean, (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt())
    };
    let ((mean, deviation), (bias, spread)) = (moments(&ratios), moments(&differences));
    assert!((mean - 1.0).abs() < 0.1 && (deviation - 0.5).abs() < 0.1, "gains of {mean} ± {deviation}");
    // Half of the initial weights' root mean square, 1/√24.
    assert!(bias.abs() < 0.04 && (spread - 0.5 / 24f64.sqrt()).abs() < 0.03, "offsets of {bias} ± {spread}");
}

#[test]
fn layers_learn_through_the_device_and_only_that_device_can_use_what_they_learned() {
    let data = patterns(900);
    let mut settings = imprecise(Precision::F32, 0.5, 0.5);
    settings.training.epochs = 15;
    let trainer = fit(settings.clone(), &data);
    let own = error(trainer.network(), &data);
    assert!(own < 20.0, "{own} % of 3 classes wrong");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.safetensors");
    trainer.network().save(&path).unwrap();
    let mut network = Network::load(&path).unwrap();
    assert_eq!(probabilities(trainer.network(), &data), probabilities(&network, &data));

    // The same weights read as they are.
    for l in 0..network.depth() {
        let told = &network.stages()[l].layer;
        let (inputs, outputs) = (told.inputs(), told.outputs());
        let (activation, weights) = (Activation::Relu, vec![0.0; inputs * outputs]);
        let mut precise = dense(Precision::F32, Dense { inputs, outputs, activation, bias: true, weights });
        precise.restore(&told.tensors()).unwrap();
        network.set_layer(l, precise).unwrap();
    }
    let elsewhere = error(&network, &data);
    assert!(elsewhere > 3.0 * own + 1.0, "{own} % on the device, {elsewhere} % elsewhere");
}

#[test]
fn engines_meet_the_same_device() {
    let data = patterns(90);
    let run = |precision| {
        let mut settings = imprecise(precision, 0.3, 0.3);
        settings.training.epochs = 1;
        probabilities(fit(settings, &data).network(), &data)
    };
    let (oracle, fast) = (run(Precision::Reference), run(Precision::F32));
    let most = oracle.iter().zip(&fast).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most < 1e-4, "probabilities differ by {most}");
}

#[test]
fn a_stopped_run_goes_on_with_the_same_bits() {
    let data = patterns(300);
    let straight = fit(imprecise(Precision::F32, 0.3, 0.3), &data);
    let mut stopped = Trainer::new(imprecise(Precision::F32, 0.3, 0.3), &data).unwrap();
    let mut steps = 0;
    let stop = &mut |_: Event<'_>, _: &Trainer| {
        steps += 1;
        if steps == 17 { Flow::Stop } else { Flow::Continue }
    };
    stopped.fit(&data, stop).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.safetensors");
    stopped.save(&path, &Default::default()).unwrap();
    let mut resumed = Trainer::load(&path).unwrap();
    resumed.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    assert_eq!(probabilities(straight.network(), &data), probabilities(resumed.network(), &data));
}

#[test]
fn every_kind_of_layer_and_rule_trains_on_it() {
    let data = patterns(60);
    let mut values = vec![0.0; 24 * 60];
    values.chunks_exact_mut(24).enumerate().for_each(|(n, to)| data.read(n, to));
    let names = data.classes().to_vec();
    let images = Dataset::new(Shape::image(1, 4, 6), Values::Floats(values), data.labels().to_vec(), names).unwrap();
    let fields = |channels| Fields { channels, field: 3, stride: 1, pad: 1 };
    for rule in [Rule::ForwardForward, Rule::Backprop, Rule::Perturbation] {
        let mut settings = imprecise(Precision::F32, 0.3, 0.3);
        settings.network.layers =
            vec![LayerSettings::Local(fields(3)), LayerSettings::Local(fields(50)), LayerSettings::Conv(fields(4))];
        settings.network.label = onward::settings::LabelPlace::Prepend;
        if rule != Rule::ForwardForward {
            settings.network.label = onward::settings::LabelPlace::None;
            settings.negatives.kind = onward::settings::NegativesKind::Hybrid;
        } else {
            settings.network.layers = vec![30.into(), 20.into()];
        }
        settings.rule = rule;
        settings.training.epochs = 1;
        let trainer = fit(settings, &images);
        assert!(probabilities(trainer.network(), &images).iter().all(|p| p.is_finite()), "{rule:?}");
    }
}
