//! The fast engine against the reference, on random shapes: one row, no rows, one column, one input, every padding.

use onward::engine;
use onward::engine::cpu::RowDense;
use onward::layer::{Activation, Dense, Layer};
use onward::optimizer::Step;
use onward::pass::{Activity, Codes, Directions, Inputs};
use onward::settings::Precision;
use onward::tensor::Numbers;
use proptest::prelude::*;
use rand::RngExt;

/// One product and one step, whatever the shapes.
#[derive(Debug)]
struct Case {
    precision: Precision,
    /// Whether the layer for few rows computes, instead of the one for batches.
    few: bool,
    inputs: usize,
    outputs: usize,
    activation: Activation,
    bias: bool,
    adam: bool,
    /// Samples, and rows that read them; with codes of so many classes, where there are any.
    samples: usize,
    rows: usize,
    classes: usize,
    /// Whether several rows share their values' product.
    shared_product: bool,
    shared_direction: bool,
    steps: usize,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let width = prop_oneof![1usize..6, 40usize..56, 90usize..150];
    let inputs = prop_oneof![1usize..20, 250usize..300];
    let precision = prop_oneof![Just(Precision::F32), Just(Precision::Bf16)];
    // Now and then more than one task has.
    let rows = prop_oneof![4 => 0usize..30, 1 => 60usize..140];
    let flags = any::<[bool; 8]>();
    (precision, inputs, width, flags, 0usize..20, rows, 0usize..4, 1usize..3, any::<u64>()).prop_map(
        |(precision, inputs, outputs, flags, samples, rows, classes, steps, seed)| {
            // Miri looks at how memory is used, and takes its time.
            let (inputs, rows) = if cfg!(miri) { (inputs.min(20), rows.min(15)) } else { (inputs, rows) };
            let [relu, bias, adam, shared_product, shared_direction, codes, few, student] = flags;
            let few = few && precision == Precision::F32 && !student;
            let activation = match (student, relu) {
                (true, _) => Activation::StudentT(if relu { 1.0 } else { 7.5 }),
                (false, true) => Activation::Relu,
                (false, false) => Activation::Linear,
            };
            // Adam divides by the size of the gradient: where that is nothing but rounding, so is the step, and the
            // next product tells nothing.
            let steps = if adam { 1 } else { steps };
            let classes = if codes { classes.min(inputs) } else { 0 };
            let rows = if samples == 0 { 0 } else { rows };
            let shared_product = shared_product && classes > 0;
            let (samples, rows) = if classes == 0 { (rows, rows) } else { (samples, rows) };
            Case {
                precision,
                few,
                inputs,
                outputs,
                activation,
                bias,
                adam,
                samples,
                rows,
                classes,
                shared_product,
                shared_direction,
                steps,
                seed,
            }
        },
    )
}

/// Numbers that bf16 holds exactly: then both precisions must agree with the reference alike.
fn exact(random: &mut onward::random::Random) -> f32 {
    f32::from(random.random_range(-8i8..=8)) / 8.0
}

fn numbers(layer: &dyn Layer, name: &str) -> Vec<f64> {
    let tensors = layer.tensors();
    match &tensors.iter().find(|t| t.name == name).expect("both engines have it").numbers {
        Numbers::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        Numbers::F64(v) => v.clone(),
        Numbers::U8(_) => unreachable!(),
    }
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let scale = 1.0 + expected.abs();
        prop_assert!((found - expected).abs() <= tolerance * scale, "{}[{}]: {} for {}", what, i, found, expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 10 } else { 300 }))]

    #[test]
    fn equal_the_reference(case in case()) {
        let Case { inputs, outputs, samples, rows, classes, .. } = case;
        let mut random = onward::random::stream(case.seed, "engines", 0);
        let weights: Vec<f32> = (0..inputs * outputs).map(|_| exact(&mut random)).collect();
        let dense = Dense { inputs, outputs, activation: case.activation, bias: case.bias, weights };
        let mut reference = engine::dense(Precision::Reference, dense.clone());
        let mut fast: Box<dyn Layer> =
            if case.few { Box::new(RowDense::new(dense)) } else { engine::dense(case.precision, dense) };

        let mut values: Vec<f32> = (0..samples * inputs).map(|_| exact(&mut random)).collect();
        values.chunks_exact_mut(inputs).for_each(|row| row[..classes].fill(0.0));
        let source: Vec<u32> = (0..rows as u32).map(|r| if classes > 0 { random.random_range(0..samples as u32) } else { r }).collect();
        let mut codes: Vec<f32> = (0..rows * classes).map(|_| exact(&mut random)).collect();
        if classes > 0 && rows > 0 {
            codes[..classes].fill(0.25); // as the neutral label has it
        }
        let scale: Vec<f32> = (0..rows).map(|_| 0.1 + random.random::<f32>()).collect();
        let plain = Inputs {
            source: (classes > 0).then_some(&source[..]),
            codes: (classes > 0).then_some(Codes { values: &codes, classes }),
            ..Inputs::plain(&values, inputs, &scale)
        };
        // Rounding of bf16 inputs shows only in the last product: weights that have learned are not exact any more.
        let tolerance = if case.precision == Precision::Bf16 { 2e-2 } else { 2e-5 };
        for step in 0..case.steps {
            let mut base = vec![7.0]; // what is there already stays
            let projected = case.shared_product && fast.project(&values, &mut base);
            assert_eq!((base[0], base.len() - 1), (7.0, if projected { case.samples * outputs } else { 0 }));
            let x = Inputs { base: projected.then_some(&base[1..]), ..plain };
            let (mut expected, mut found) = (Activity::default(), Activity::default());
            expected.resize(rows, outputs);
            found.resize(rows, outputs);
            reference.forward(&plain, &mut expected);
            fast.forward(&x, &mut found);
            let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let rounded = classes > 0 && !case.shared_product; // rows in full have their scale inside
            let bound = if step == 0 && !rounded { 2e-5 } else { tolerance };
            close("y", &wide(&found.values), &wide(&expected.values), bound * 10.0)?;
            close("derivative", &wide(&found.derivative), &wide(&expected.derivative), bound * 10.0)?;
            close("squares", &wide(&found.squares), &wide(&expected.squares), bound * 40.0)?;

            let active: Vec<u32> = (0..rows as u32).filter(|_| random.random()).collect();
            let shared = if case.shared_direction && rows > 0 { (0..outputs).map(|_| exact(&mut random)).collect() } else { vec![] };
            let d = Directions {
                values: (0..active.len() * outputs).map(|_| exact(&mut random)).collect(),
                rows: active,
                shared,
                shared_rows: 0..rows / 2,
            };
            let settings = onward::settings::OptimizerSettings {
                kind: if case.adam { onward::settings::OptimizerKind::Adam } else { onward::settings::OptimizerKind::Smoothed },
                ..Default::default()
            };
            let step = Step::new(&settings, 0.7, rows.max(1), step as u64);
            reference.update(&plain, &d, &step);
            fast.update(&x, &d, &step);
        }
        let tolerance = if case.adam { 3e-2 } else { 2e-5 };
        // In bf16 the directions are rounded too: one part in 256.
        let rounding = if case.precision == Precision::Bf16 { 4e-3 } else { 2e-5 };
        close("weight", &numbers(&*fast, "weight"), &numbers(&*reference, "weight"), tolerance)?;
        close("smoothed", &numbers(&*fast, "weight.smoothed"), &numbers(&*reference, "weight.smoothed"), rounding)?;
        if case.bias {
            close("bias", &numbers(&*fast, "bias"), &numbers(&*reference, "bias"), tolerance)?;
            close("bias.smoothed", &numbers(&*fast, "bias.smoothed"), &numbers(&*reference, "bias.smoothed"), 2e-5)?;
        }
        prop_assert_eq!(fast.equalise(), !case.few);
        if !case.few {
            reference.equalise();
            // Weights that were 0 are nothing but their gradient, and are made as long as the others.
            close("equal", &numbers(&*fast, "weight"), &numbers(&*reference, "weight"), tolerance.max(rounding))?;
        }
        prop_assert!((fast.weight_rms() - reference.weight_rms()).abs() < 1e-3);
    }
}
