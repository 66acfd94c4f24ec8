//! Top-down connections: the states of a recurrent network against the definition, written out; and that it learns.

mod common;

use common::{patterns, recipe};
use onward::layer::Layer;
use onward::pass::{Activity, Inputs};
use onward::settings::{Fields, LabelPlace, LayerSettings, NegativesKind, Order, Precision};
use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};

fn recurrent(layers: Vec<LayerSettings>) -> Recipe {
    let mut recipe = recipe(Precision::F32, &[]);
    recipe.network.layers = layers;
    recipe.network.label = LabelPlace::Top;
    recipe.recurrent.iterations = 6;
    recipe.readout.skip = 0;
    recipe.optimizer.rate = 0.003;
    recipe
}

fn fit(recipe: Recipe, data: &Dataset) -> Trainer {
    let mut trainer = Trainer::new(recipe, data).unwrap();
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    trainer
}

fn answer(layer: &dyn Layer, x: &[f32]) -> Vec<f32> {
    let mut y = Activity::default();
    layer.forward(&Inputs::plain(x, x.len(), &[1.0]), &mut y);
    y.values
}

/// Divided by its root mean square.
fn normalised(v: &[f32]) -> Vec<f32> {
    let rms = (v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / v.len() as f64).sqrt();
    v.iter().map(|x| (f64::from(*x) / rms.max(1e-10)) as f32).collect()
}

/// The goodness of every layer at every moment, summed over layers and averaged over moments 3 to 5, less the thresholds.
fn score(network: &Network, image: &[f32], label: usize) -> f32 {
    let [first, second] = network.stages() else { panic!("two layers") };
    let (image, classes) = (normalised(image), 3);
    let nothing = |n| vec![0.0; n];
    let widths = [first.layer.outputs(), second.layer.outputs()];
    let a = answer(&*first.layer, &[image.clone(), nothing(widths[1])].concat());
    let b = answer(&*second.layer, &[normalised(&a), nothing(classes)].concat());
    let (mut a, mut b) = (a, b);
    let mut top = nothing(classes);
    top[label] = (classes as f32).sqrt();
    let mut score = 0.0;
    for moment in 1..=5 {
        let new_a = answer(&*first.layer, &[image.clone(), normalised(&b)].concat());
        let new_b = answer(&*second.layer, &[normalised(&a), top.clone()].concat());
        if moment >= 3 {
            for (y, width) in [(&new_a, widths[0]), (&new_b, widths[1])] {
                score += y.iter().map(|y| y * y).sum::<f32>() - width as f32;
            }
        }
        let mix = |old: &[f32], new: &[f32]| old.iter().zip(new).map(|(o, n)| 0.3 * o + 0.7 * n).collect::<Vec<_>>();
        (a, b) = (mix(&a, &new_a), mix(&b, &new_b));
    }
    score / 3.0
}

#[test]
fn states_move_as_defined() {
    let data = patterns(90);
    let mut recipe = recurrent(vec![20.into(), 16.into()]);
    recipe.training.epochs = 2;
    let network = fit(recipe, &data).into_network();
    let found = network.predict(&data, Readout::EveryLabel).unwrap();
    for n in 0..9 {
        let mut image = vec![0.0; 24];
        data.read(n, &mut image);
        let scores: Vec<f32> = (0..3).map(|label| score(&network, &image, label)).collect();
        for label in 1..3 {
            let expected = scores[label] - scores[0];
            let found = (found.row(n)[label] / found.row(n)[0]).ln();
            assert!((found - expected).abs() < 1e-2 * (1.0 + expected.abs()), "{n}, {label}: {found}, {expected}");
        }
    }
}

#[test]
fn it_learns_with_labels_and_without_fully_connected_and_local() {
    let patterns = patterns(900);
    let mut values = vec![0.0; 24 * 900];
    values.chunks_exact_mut(24).enumerate().for_each(|(n, to)| patterns.read(n, to));
    let (labels, names) = (patterns.labels().to_vec(), patterns.classes().to_vec());
    let data = Dataset::new(Shape::image(1, 4, 6), Values::Floats(values), labels, names).unwrap();
    let local = |channels, field| LayerSettings::Local(Fields { channels, field, stride: 1, pad: 1 });
    for (name, layers, label) in [
        ("dense", vec![40.into(), 40.into()], LabelPlace::Top),
        ("local", vec![local(4, 3), local(4, 3)], LabelPlace::Top),
        ("no labels", vec![40.into(), 40.into()], LabelPlace::None),
    ] {
        let mut recipe = recurrent(layers);
        recipe.network.label = label;
        recipe.training.epochs = 12;
        if label == LabelPlace::None {
            (recipe.negatives.kind, recipe.negatives.blurs) = (NegativesKind::Hybrid, 1);
        }
        let network = fit(recipe.clone(), &data).into_network();
        let expected: &[Readout] = match label {
            LabelPlace::Top => &[Readout::EveryLabel, Readout::OnePass],
            _ => &[Readout::OnePass],
        };
        assert_eq!(network.readouts(), expected, "{name}");
        for &readout in expected {
            let error = network.evaluate(&data, readout).unwrap().error();
            assert!(error < 15.0, "{name}: {error} % of 3 classes wrong by {readout}");
        }
        // Lowering the goodness of positive data instead of raising it works too.
        if name == "local" {
            recipe.goodness.raise = false.into();
            let error = fit(recipe, &data).network().evaluate(&data, Readout::OnePass).unwrap().error();
            assert!(error < 25.0, "{error} % of 3 classes wrong, lowering");
        }
    }
}

#[test]
fn combinations_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut Recipe)| {
        let mut recipe = recurrent(vec![8.into()]);
        change(&mut recipe);
        recipe.check().unwrap_err().to_string()
    };
    assert!(refused(|r| r.network.label = LabelPlace::Replace).contains("network.label"));
    assert!(refused(|r| r.recurrent.iterations = 0).contains("network.label"));
    assert!(refused(|r| r.training.order = Order::Greedy).contains("training.order"));
    assert!(refused(|r| r.recurrent.first = 6).contains("recurrent.first"));
    let conv = |r: &mut Recipe| {
        r.network.layers = vec![LayerSettings::Conv(Fields { channels: 1, field: 1, stride: 1, pad: 0 })];
    };
    assert!(refused(conv).contains("network.layers"));
}
