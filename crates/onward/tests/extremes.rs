//! Extreme numbers: whatever the width and the scale, nothing that overflows single precision goes unnoticed. It shows as a sum
//! of squares, a scale, a score or a loss that is not finite, and training and readouts stop with the layer and the step.

mod common;

use onward::engine;
use onward::engine::cpu::RowDense;
use onward::goodness::Measure;
use onward::layer::{Activation, Dense, Layer};
use onward::pass::{Activity, Codes, Inputs};
use onward::random::{Random, stream};
use onward::settings::{
    ActivationKind, GoodnessKind, GoodnessSettings, Normalization, ObjectiveSettings, OptimizerKind, Order, Precision,
    Rule,
};
use onward::tensor::Numbers;
use onward::{Dataset, Error, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};
use proptest::prelude::*;
use rand::RngExt;

/// Widths from 1 to 4096, those beside whole vectors and panels among them.
fn width() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..70, 1usize..=4096, Just(4096)]
}

/// A number of any size with any sign, or one of those that arithmetic trips over.
fn extreme(random: &mut Random, sizes: (f32, f32), odd: f64) -> f32 {
    if random.random::<f64>() < odd {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-40, f32::MIN_POSITIVE, -0.0];
        return odd[random.random_range(0..odd.len())];
    }
    let size = 10f32.powf(random.random_range(sizes.0..=sizes.1));
    match random.random_range(0..8) {
        0 => 0.0,
        1..4 => -size,
        _ => size,
    }
}

/// Powers of ten between which numbers lie.
fn sizes() -> impl Strategy<Value = (f32, f32)> {
    (-38f32..38.4, 0f32..40.0).prop_map(|(low, range)| (low, (low + range).min(38.4)))
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum()
}

/// Whether single precision must have overflowed, or must not have; between the two, rounding decides.
fn overflows(value: f64) -> Option<bool> {
    let most = f64::from(f32::MAX);
    match value {
        value if value.is_nan() || value > 1.001 * most => Some(true),
        value if value < 0.999 * most => Some(false),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn normalising_is_right_or_refuses(width in width(), sizes in sizes(), odd in prop_oneof![Just(0.0), Just(0.01)], seed: u64) {
        let mut random = stream(seed, "extremes", 0);
        let values: Vec<f32> = (0..2 * width).map(|_| extreme(&mut random, sizes, odd)).collect();
        for kind in [Normalization::Rms, Normalization::Length, Normalization::Layer, Normalization::None] {
            let mut y = Activity::default();
            y.resize(2, width);
            y.values.copy_from_slice(&values);
            y.measure();
            kind.apply(&mut y);
            for (r, values) in values.chunks_exact(width).enumerate() {
                let (sum, scale) = (squares(values), y.scale[r]);
                if kind == Normalization::Layer {
                    // Its mean may overflow where the squares do not.
                    prop_assert!(scale.is_nan() || (y.row(r).iter().all(|y| (y * scale).is_finite())));
                    prop_assert!(overflows(sum / 4.0) != Some(true) || scale.is_nan() || width == 1, "{sum:e}: {scale}");
                    continue;
                }
                if let Some(overflows) = overflows(sum) {
                    prop_assert_eq!(scale.is_nan(), overflows, "{:?}: {:e}", kind, sum);
                }
                let expected = match kind {
                    Normalization::Rms => 1.0 / (1e-10 + (sum / width as f64).sqrt()),
                    Normalization::Length => 1.0 / (1e-10 + sum.sqrt()),
                    _ => 1.0,
                };
                prop_assert!(scale.is_nan() || (f64::from(scale) / expected - 1.0).abs() < 1e-4, "{kind:?}: {scale:e} for {expected:e}");
            }
        }
    }

    #[test]
    fn goodness_is_right_or_not_finite(
        width in width(), sizes in sizes(), odd in prop_oneof![Just(0.0), Just(0.01)], groups in 1usize..4, temperature in prop_oneof![Just(1.0f32), Just(1e-4), Just(1e4)], seed: u64
    ) {
        let mut random = stream(seed, "extremes", 1);
        let y: Vec<f32> = (0..width * groups).map(|_| extreme(&mut random, sizes, odd).max(0.0)).collect();
        let mut activity = Activity::default();
        activity.resize(1, y.len());
        activity.values.copy_from_slice(&y);
        activity.measure();
        for kind in [GoodnessKind::SumOfSquares, GoodnessKind::MeanOfSquares, GoodnessKind::Sum] {
            let measure = Measure::new(&GoodnessSettings { kind, groups, temperature, ..Default::default() }, 1, width * groups);
            let mut values = vec![0.0; groups];
            measure.values(&y, activity.squares[0], &mut values);
            for (k, (y, &g)) in y.chunks_exact(width).zip(&values).enumerate() {
                let sum = match kind {
                    GoodnessKind::Sum => y.iter().map(|&y| f64::from(y)).sum(),
                    _ => squares(y),
                };
                if let Some(overflows) = overflows(sum) {
                    prop_assert_eq!(!g.is_finite(), overflows, "{:?}: {} of {:e}", kind, g, sum);
                }
                let expected = if kind == GoodnessKind::MeanOfSquares { sum / width as f64 } else { sum };
                // Squares of the smallest numbers vanish, and do so in truth where anything is compared with a threshold.
                prop_assert!(!g.is_finite() || (f64::from(g) - expected).abs() <= 1e-3 * expected + 1e-35, "{kind:?}: {g:e} for {expected:e}");
                let logit = measure.group_logit(k, g);
                prop_assert!(logit.is_finite() || f64::from(g) / f64::from(temperature) > 1e38 || !g.is_finite());
                let terms = ObjectiveSettings::Logistic.terms(logit, logit);
                prop_assert_eq!(terms.loss.is_finite(), logit.is_finite(), "a loss of {} for a logit of {}", terms.loss, logit);
                // A finite goodness has a finite direction.
                let (slopes, mut d) = (vec![1.0; groups], vec![f32::NAN; width * groups]);
                measure.direction(&activity.values, &slopes, &mut d);
                let d = &d[k * width..(k + 1) * width];
                prop_assert!(!g.is_finite() || temperature < 1.0 || d.iter().all(|d| d.is_finite()), "{kind:?}");
            }
        }
    }

    #[test]
    fn layers_are_right_or_say_so(
        inputs in prop_oneof![1usize..20, 250usize..300], outputs in prop_oneof![1usize..60, Just(4096)], few: bool, student: bool, shared: bool, sizes in (sizes(), sizes()), odd in prop_oneof![Just(0.0), Just(0.01)], seed: u64
    ) {
        let (inputs, outputs) = if outputs > 60 { (inputs % 20 + 2, outputs) } else { (inputs + 1, outputs) };
        let mut random = stream(seed, "extremes", 2);
        let weights: Vec<f32> = (0..inputs * outputs).map(|_| extreme(&mut random, sizes.0, 0.0)).collect();
        let (activation, freedom) = if student { (Activation::StudentT(3.0), 3.0) } else { (Activation::Relu, f64::NAN) };
        let dense = Dense { inputs, outputs, activation, bias: true, weights: weights.clone() };
        let rows = 3;
        // Two samples; the last two rows share one, and differ in their code.
        let mut values: Vec<f32> = (0..2 * inputs).map(|_| extreme(&mut random, sizes.1, odd)).collect();
        values.chunks_exact_mut(inputs).for_each(|row| row[0] = 0.0);
        let codes = [0.5, 1.0, 0.0];
        let scale = [1.0, 0.5, 2.0];
        let code = Some(Codes { values: &codes, classes: 1 });
        let x = Inputs { source: Some(&[0, 1, 1]), codes: code, ..Inputs::plain(&values, inputs, &scale) };
        let mut layers: Vec<(&str, Box<dyn Layer>)> = vec![
            ("reference", engine::dense(Precision::Reference, dense.clone())),
            ("f32", engine::dense(Precision::F32, dense.clone())),
            ("bf16", engine::dense(Precision::Bf16, dense.clone())),
        ];
        if few && !student {
            layers.push(("rows", Box::new(RowDense::new(dense))));
        }
        for (name, layer) in layers {
            let (mut base, mut y) = (Vec::new(), Activity::default());
            let projected = shared && layer.project(&values, &mut base);
            y.resize(rows, outputs);
            layer.forward(&Inputs { base: projected.then_some(&base), ..x }, &mut y);
            for r in 0..rows {
                let mut row = x.shared(r).to_vec();
                row[0] = codes[r];
                let odd = row.iter().any(|x| !x.is_finite());
                let (mut sum, mut worst) = (0.0f64, 0.0f64);
                for o in 0..outputs {
                    let terms = row.iter().enumerate().map(|(i, &x)| f64::from(x) * f64::from(scale[r]) * f64::from(weights[i * outputs + o]));
                    let (a, size) = terms.fold((0.0f64, 0.0f64), |(a, size), term| (a + term, size + term.abs()));
                    // What is smaller than the smallest normal number may vanish; bf16 units take such weights and inputs for 0 too,
                    // and keep 8 bits of others.
                    let largest = row.iter().chain(weights.iter().skip(o).step_by(outputs)).map(|x| f64::from(x.abs()));
                    let (precise, vanish) = if name == "bf16" { (2e-2, largest.fold(1.0, f64::max)) } else { (1e-5, 1.0) };
                    let tolerance = size * precise + 1e-37 * vanish * inputs as f64;
                    let expected = if student { 0.5 * (freedom + 1.0) * (a * a / freedom).ln_1p() } else { a.max(0.0) };
                    let found = f64::from(y.row(r)[o]);
                    let near = match student {
                        // The slope is at most √3 there.
                        true => (found - expected).abs() <= 2.0 * tolerance.min(1e3) + 1e-5 * expected + 1e-6,
                        false => (found - expected).abs() <= tolerance,
                    };
                    worst = worst.max(size);
                    sum += expected * expected;
                    prop_assert!(!y.squares[r].is_finite() || near, "{name}: row {r}, unit {o}: {found:e} for {expected:e}, size {size:e}");
                }
                let finite = y.squares[r].is_finite();
                prop_assert!(!finite || y.row(r).iter().all(|y| y.is_finite()), "{name}");
                prop_assert!(!finite || !odd, "{name}: row {r} hides what is not finite: {:?}", y.row(r));
                prop_assert!(!finite || overflows(sum) != Some(true), "{name}: row {r}: {} for {sum:e}", y.squares[r]);
                // And it does not cry wolf.
                let small = 2.0 * worst.max(1.0).powi(2) * outputs as f64 * if student { worst.max(1.0) } else { 1.0 };
                // The largest numbers of all overflow when they are scaled, or rounded to bf16.
                let largest = row.iter().chain(&weights).any(|x| x.abs() > 1.6e38);
                prop_assert!(finite || odd || largest || small > 1e38, "{name}: row {r}: {} for {sum:e}", y.squares[r]);
            }
        }
    }
}

/// A recipe with everything that may blow up.
fn recipe() -> impl Strategy<Value = Recipe> {
    let normalization = || {
        prop_oneof![
            Just(Normalization::Rms),
            Just(Normalization::Length),
            Just(Normalization::Layer),
            Just(Normalization::None)
        ]
    };
    let goodness =
        prop_oneof![Just(GoodnessKind::SumOfSquares), Just(GoodnessKind::MeanOfSquares), Just(GoodnessKind::Sum)];
    let objective = prop_oneof![
        Just(ObjectiveSettings::Logistic),
        Just(ObjectiveSettings::Symmetric),
        Just(ObjectiveSettings::PerClass),
        Just(ObjectiveSettings::MonoForward),
    ];
    let rule = prop_oneof![3 => Just(Rule::ForwardForward), 1 => Just(Rule::Backprop), 1 => Just(Rule::Perturbation)];
    let precision = prop_oneof![Just(Precision::F32), Just(Precision::Bf16), Just(Precision::Reference)];
    let rate = prop_oneof![Just(1e-30f32), Just(0.01), Just(1.0), Just(10.0)];
    let kinds = (normalization(), normalization(), goodness, objective, rule, precision);
    let (flags, temperature) = (any::<[bool; 4]>(), prop_oneof![Just(1.0f32), Just(1e-4), Just(1e4)]);
    (kinds, (rate.clone(), rate), flags, temperature, any::<u64>()).prop_map(
        |(kinds, rates, flags, temperature, seed)| {
            let mut recipe = common::recipe(kinds.5, &[7, 50]);
            (recipe.network.normalization, recipe.network.input_normalization) = (kinds.0, kinds.1);
            (recipe.goodness.kind, recipe.objective, recipe.rule) = (kinds.2, kinds.3, kinds.4);
            (recipe.optimizer.rate, recipe.head.rate) = rates;
            let [adam, student, cost, pipelined] = flags;
            if adam {
                recipe.optimizer.kind = OptimizerKind::Adam;
            }
            if student {
                recipe.network.activation = ActivationKind::StudentT;
            }
            if cost {
                recipe.optimizer.weight_cost = 10.0;
            }
            if pipelined {
                recipe.training.order = Order::Pipelined;
            }
            recipe.goodness.temperature = temperature;
            (recipe.seed.0, recipe.training.batch, recipe.training.epochs) = (seed, 6, 12);
            if recipe.objective.by_class() || recipe.rule != Rule::ForwardForward {
                recipe.network.label = onward::settings::LabelPlace::None;
            }
            recipe
        },
    )
}

/// Twelve samples of six features in three classes, values about as large as `size`.
fn data(size: f32, seed: u64) -> Result<Dataset, Error> {
    let mut random = stream(seed, "extremes", 3);
    let values = (0..72).map(|_| size * random.random_range(-1.0..1.0f32)).collect();
    let labels = (0..12).map(|n| n % 3).collect();
    Dataset::new(Shape::features(6), Values::Floats(values), labels, ["a", "b", "c"].map(String::from).to_vec())
}

fn all_finite(network: &Network) -> bool {
    let layers = network.stages().iter().map(|stage| &*stage.layer);
    let head = network.head().into_iter().flat_map(|head| head.parts()).map(|(_, layer)| layer);
    let mut weights = layers.chain(head).flat_map(|layer| layer.tensors()).filter(|t| t.name == "weight");
    weights.all(|tensor| match tensor.numbers {
        Numbers::F32(values) => values.iter().all(|x| x.is_finite()),
        Numbers::F64(values) => values.iter().all(|x| x.is_finite()),
        Numbers::U8(_) => true,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn training_ends_in_finite_weights_or_says_where_it_broke(recipe in recipe(), power in -38f32..38.4) {
        let seed = recipe.seed.0;
        let data = match data(10f32.powf(power), seed) {
            Ok(data) => data,
            Err(error) => {
                prop_assert!(power > 17.0 && error.to_string().contains("scale the values first"), "{}", error);
                return Ok(());
            }
        };
        // What does not fit together is refused elsewhere.
        let Ok(mut trainer) = Trainer::new(recipe, &data) else { return Ok(()) };
        let mut epochs_finite = true;
        let outcome = trainer.fit(&data, &mut |event: Event<'_>, trainer: &Trainer| {
            if let Event::Epoch(epoch) = event {
                epochs_finite &= all_finite(trainer.network()) && epoch.loss.is_finite();
            }
            Flow::Continue
        });
        prop_assert!(epochs_finite, "an epoch was reported that had broken");
        match outcome {
            Err(Error::NotFinite { step, .. } | Error::HeadNotFinite { step, .. }) => prop_assert!(step <= 24),
            Err(error) => prop_assert!(false, "{}", error),
            Ok(()) => {
                for readout in trainer.network().readouts() {
                    match trainer.network().predict(&data, readout) {
                        Ok(found) => prop_assert!(found.probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{}", readout),
                        Err(error) => prop_assert!(error.to_string().contains("too large for single precision"), "{}", error),
                    }
                }
            }
        }
    }
}

#[test]
fn a_readout_that_overflows_names_the_sample() {
    let few = |values: Vec<f32>| {
        Dataset::new(Shape::features(2), Values::Floats(values), vec![0, 1], ["a", "b"].map(String::from).to_vec())
            .unwrap()
    };
    let mut recipe = common::recipe(Precision::F32, &[4, 4]);
    (recipe.network.normalization, recipe.network.input_normalization) = (Normalization::None, Normalization::None);
    recipe.network.label = onward::settings::LabelPlace::Prepend;
    recipe.readout.skip = 0;
    let network = Network::new(recipe, Shape::features(2), &["a", "b"].map(String::from)).unwrap();
    let error = network.predict(&few(vec![1.0, -1.0, 1e17, -1e17]), Readout::EveryLabel);
    assert!(error.is_ok(), "a sum of squares of 1e34 is a number: {error:?}");
    let wide = Network::new(
        Recipe { goodness: GoodnessSettings { temperature: 1e-4, ..Default::default() }, ..network.recipe().clone() },
        Shape::features(2),
        &["a", "b"].map(String::from),
    );
    let error = wide.unwrap().predict(&few(vec![1.0, -1.0, 3e18, -3e18]), Readout::EveryLabel).unwrap_err().to_string();
    assert!(error.starts_with("sample 1: the every-label readout gives class `a` a score of inf"), "{error}");
}
