//! Layers with receptive fields: who sees what, the gradient by finite differences, the fast engine against the
//! reference, and networks of them that learn.

mod common;

use onward::layer::{Activation, FewChannels, Layer, Make, Plan, fields::Source};
use onward::optimizer::Step;
use onward::pass::{Activity, Codes, Common, Directions, Inputs};
use onward::random::stream;
use onward::settings::{Fields, LabelPlace, LayerSettings, NegativesKind, OptimizerKind, OptimizerSettings, Precision};
use onward::tensor::{Numbers, Tensor};
use onward::{Dataset, Event, Flow, Readout, Recipe, Shape, Trainer, Values};
use rand::RngExt;

/// A weight step of exactly the gradient: no smoothing, no weight cost.
const GRADIENT: Step = Step::Smoothed { momentum: 0.0, share: 1.0, rate: 1.0, cost: 0.0 };

fn fields(channels: usize, field: usize, stride: usize, pad: usize) -> Fields {
    Fields { channels, field, stride, pad }
}

/// Layers of every kind, of few and of many channels, with and without edges, above images and above maps.
fn plans() -> Vec<Plan> {
    let image = || vec![Source::Whole(2), Source::Planes(Shape::image(2, 6, 5))];
    let maps =
        || vec![Source::Locations(Shape::image(3, 4, 4)), Source::Above(Shape::image(2, 3, 3), fields(2, 2, 1, 0))];
    let mut plans = Vec::new();
    for fields in [fields(2, 3, 1, 1), fields(60, 3, 2, 0), fields(3, 2, 2, 1)] {
        for sources in [image(), maps()] {
            let settings = LayerSettings::Local(fields);
            plans.push(Plan::new(&settings, sources.clone(), "network.layers[0]".into()).unwrap());
            if !matches!(sources[1], Source::Above(..)) {
                plans.push(Plan::new(&LayerSettings::Conv(fields), sources, "network.layers[0]".into()).unwrap());
            }
        }
    }
    plans.extend(wide_plans());
    plans
}

/// Local layers of few channels and many neighbouring locations, which have products of their own.
fn wide_plans() -> Vec<Plan> {
    let above = |channels, field, pad| {
        Source::Above(
            Shape::image(channels, 5 + field - 1 - 2 * pad, 18 + field - 1 - 2 * pad),
            fields(1, field, 1, field - 1 - pad),
        )
    };
    let cases = [
        (fields(3, 3, 1, 1), vec![Source::Planes(Shape::image(2, 5, 18))]),
        (fields(4, 3, 2, 1), vec![Source::Whole(2), Source::Locations(Shape::image(2, 9, 35))]),
        (fields(5, 2, 3, 0), vec![Source::Planes(Shape::image(1, 14, 53))]),
        (fields(3, 3, 1, 1), vec![Source::Locations(Shape::image(3, 5, 18)), above(2, 3, 1), Source::Whole(3)]),
        (fields(6, 2, 2, 1), vec![Source::Planes(Shape::image(1, 8, 34)), above(1, 4, 2)]),
    ];
    let plan =
        |(fields, sources)| Plan::new(&LayerSettings::Local(fields), sources, "network.layers[0]".into()).unwrap();
    let plans = cases.map(plan);
    for plan in &plans {
        assert_eq!((plan.shape.height, plan.shape.width), (5, 18));
        let LayerSettings::Local(fields) = plan.settings() else { unreachable!() };
        assert!(FewChannels::suits(fields, &plan.sources, plan.shape));
    }
    plans.into()
}

fn numbers(layer: &dyn Layer) -> Vec<(String, Vec<f64>)> {
    let wide = |numbers: &Numbers| match numbers {
        Numbers::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        Numbers::F64(v) => v.clone(),
        Numbers::U8(_) => unreachable!(),
    };
    layer.tensors().iter().map(|t| (t.name.clone(), wide(&t.numbers))).collect()
}

/// Numbers that bf16 holds exactly.
fn nearest_bf16(mut tensor: Tensor) -> Tensor {
    let Numbers::F32(numbers) = &mut tensor.numbers else { unreachable!() };
    for x in numbers {
        let bits = x.to_bits();
        *x = f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
    }
    tensor
}

fn in_double_precision(mut tensor: Tensor) -> Tensor {
    let Numbers::F32(numbers) = &tensor.numbers else { unreachable!() };
    tensor.numbers = Numbers::F64(numbers.iter().map(|&x| f64::from(x)).collect());
    tensor
}

/// Some rows of inputs, and a direction for some of the rows, gated as a goodness would.
struct Case {
    values: Vec<f32>,
    scale: Vec<f32>,
    d: Directions,
}

impl Case {
    fn new(layer: &dyn Layer, rows: usize, seed: u64) -> Self {
        let mut random = stream(seed, "layers", 0);
        let values = (0..rows * layer.inputs()).map(|_| random.random::<f32>() - 0.3).collect();
        let scale = (0..rows).map(|_| 0.5 + random.random::<f32>()).collect();
        let mut case = Case { values, scale, d: Directions::default() };
        let mut y = Activity::default();
        layer.forward(&case.inputs(), &mut y);
        for r in (0..rows).filter(|r| r % 3 != 1) {
            case.d.rows.push(r as u32);
            case.d.values.extend(y.row(r).iter().map(|y| if *y > 0.0 { random.random::<f32>() - 0.5 } else { 0.0 }));
        }
        case
    }

    /// With numbers that bf16 holds exactly.
    fn rounded(mut self) -> Self {
        let numbers = self.values.iter_mut().chain(&mut self.d.values);
        numbers.for_each(|x| *x = (*x * 16.0).round() / 16.0);
        self.scale.iter_mut().for_each(|scale| *scale = if *scale < 1.0 { 0.5 } else { 1.0 });
        self
    }

    /// The directions of some of the rows.
    fn directions(&self, rows: std::ops::Range<u32>) -> Directions {
        let width = self.d.values.len() / self.d.rows.len();
        let some = self.d.rows.iter().zip(self.d.values.chunks_exact(width)).filter(|(r, _)| rows.contains(r));
        let (rows, values): (Vec<u32>, Vec<&[f32]>) = some.unzip();
        Directions { rows, values: values.concat(), ..Default::default() }
    }

    fn inputs(&self) -> Inputs<'_> {
        let width = self.values.len() / self.scale.len();
        Inputs::plain(&self.values, width, &self.scale)
    }
}

fn build(plan: &Plan, precision: Precision) -> Box<dyn Layer> {
    let make = Make { precision, activation: Activation::Relu };
    plan.build(make, &mut stream(5, "weights", 0)).unwrap()
}

#[test]
fn a_unit_depends_on_what_it_sees_and_on_nothing_else() {
    let (height, width, channels, f) = (7, 6, 3, fields(2, 3, 2, 1));
    let image = Shape::image(channels, height, width);
    for (settings, location_first) in [(LayerSettings::Local(f), false), (LayerSettings::Conv(f), true)] {
        for source in [Source::Planes(image), Source::Locations(image)] {
            let plan = Plan::new(&settings, vec![source], String::new()).unwrap();
            assert_eq!(plan.shape, Shape::image(2, 4, 3), "{location_first}");
            let layer = build(&plan, Precision::F32);
            let answer = |x: &[f32]| {
                let mut y = Activity::default();
                layer.forward(&Inputs::plain(x, x.len(), &[1.0]), &mut y);
                y.values
            };
            // A bright image switches some of the units on wherever they are.
            let base: Vec<f32> = (0..image.len()).map(|i| 1.0 + (i % 5) as f32).collect();
            let before = answer(&base);
            let mut seen_by_some = 0;
            for i in 0..image.len() {
                let (y, x) = match source {
                    Source::Planes(_) => (i / width % height, i % width),
                    _ => (i / channels / width, i / channels % width),
                };
                let mut changed = base.clone();
                changed[i] += 0.01;
                for (unit, (a, b)) in before.iter().zip(answer(&changed)).enumerate() {
                    let (row, column) = (unit / 2 / 3, unit / 2 % 3);
                    let sees = |at: usize, pixel: usize| (at * 2..at * 2 + 3).contains(&(pixel + 1));
                    let sees = sees(row, y) && sees(column, x);
                    assert!(sees || *a == b, "unit {unit} does not see pixel {y},{x}");
                    seen_by_some += u32::from(sees && *a != b);
                }
            }
            assert!(seen_by_some > 100, "only {seen_by_some} units answered to what they see");
        }
    }
}

#[test]
fn the_step_is_the_derivative() {
    for plan in plans() {
        let layer = build(&plan, Precision::Reference);
        assert_eq!(layer.parameters(), plan.parameters(), "{plan:?}");
        assert_eq!((layer.inputs(), layer.outputs()), (plan.inputs(), plan.shape.len()));
        let case = Case::new(&*layer, 5, 3);
        let gain = |layer: &dyn Layer| {
            let mut y = Activity::default();
            layer.forward(&case.inputs(), &mut y);
            let rows = case.d.rows.iter().zip(case.d.values.chunks_exact(layer.outputs()));
            rows.flat_map(|(&r, d)| y.row(r as usize).iter().zip(d)).map(|(y, d)| f64::from(y * d)).sum::<f64>()
        };
        let mut learned = build(&plan, Precision::Reference);
        learned.update(&case.inputs(), &case.d, &GRADIENT);
        let (before, after) = (numbers(&*layer), numbers(&*learned));
        let mut random = stream(9, "layers", 1);
        let mut moved = 0;
        for (t, (name, values)) in
            before.iter().enumerate().filter(|(_, (name, _))| name.ends_with("weight") || name.ends_with("bias"))
        {
            for _ in 0..10 {
                let at = random.random_range(0..values.len());
                let step = after[t].1[at] - values[at];
                let at_most = |h: f64| {
                    let mut tensors = layer.tensors();
                    let Numbers::F64(v) = &mut tensors[t].numbers else { unreachable!() };
                    v[at] += h;
                    let mut nudged = build(&plan, Precision::Reference);
                    nudged.restore(&tensors).unwrap();
                    gain(&*nudged)
                };
                let numeric = (at_most(1e-3) - at_most(-1e-3)) / 2e-3;
                let never_learns = name.ends_with("weight") && values[at] == 0.0;
                moved += u32::from(step != 0.0);
                assert!(
                    if never_learns { step == 0.0 } else { (step - numeric).abs() < 2e-3 * (1.0 + numeric.abs()) },
                    "{name}[{at}] of {plan:?}: step {step}, finite difference {numeric}"
                );
            }
        }
        assert!(moved > 2, "only {moved} of the numbers looked at have learned: {plan:?}");
    }
}

#[test]
fn the_fast_engine_takes_the_references_steps() {
    for plan in plans() {
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 5e-2)] {
            let (mut reference, mut fast) = (build(&plan, Precision::Reference), build(&plan, precision));
            let mut case = Case::new(&*reference, 23, 4);
            case.d.shared = (0..reference.outputs()).map(|o| (o % 7) as f32 / 70.0).collect();
            case.d.shared_rows = 0..11;
            let step = Step::Smoothed { momentum: 0.9, share: 0.01, rate: 0.1, cost: 0.001 };
            let (mut expected, mut found) = (Activity::default(), Activity::default());
            for _ in 0..3 {
                reference.update(&case.inputs(), &case.d, &step);
                fast.update(&case.inputs(), &case.d, &step);
            }
            reference.forward(&case.inputs(), &mut expected);
            fast.forward(&case.inputs(), &mut found);
            for (a, b) in expected.values.iter().zip(&found.values).chain(expected.squares.iter().zip(&found.squares)) {
                assert!((a - b).abs() < tolerance * (1.0 + a.abs()), "{a} and {b}: {precision:?} {plan:?}");
            }
            // One thread, the same bits.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let mut alone = Activity::default();
            pool.install(|| fast.forward(&case.inputs(), &mut alone));
            assert_eq!(alone.values, found.values);
        }
    }
}

#[test]
fn a_step_along_the_sum_of_the_gradients_of_parts_is_the_step() {
    let dense = Plan::new(&LayerSettings::Dense(53), vec![Source::Whole(37)], String::new()).unwrap();
    let smoothed = Step::Smoothed { momentum: 0.9, share: 0.01, rate: 0.1, cost: 0.001 };
    let adam = OptimizerSettings { kind: OptimizerKind::Adam, rate: 0.01, ..Default::default() };
    for plan in plans().into_iter().chain([dense]) {
        for (precision, tolerance) in [(Precision::Reference, 1e-6), (Precision::F32, 1e-5), (Precision::Bf16, 1e-3)] {
            for step in [smoothed, Step::new(&adam, 1.0, 23, 0)] {
                let (mut whole, mut parts) = (build(&plan, precision), build(&plan, precision));
                let mut case = Case::new(&*whole, 23, 4);
                case.d.shared = (0..whole.outputs()).map(|o| (o % 7) as f32 / 70.0).collect();
                case.d.shared_rows = 0..11;
                let ones = [1.0].into_iter().chain([0.0; 10]).collect::<Vec<f32>>();
                for _ in 0..2 {
                    whole.update(&case.inputs(), &case.d, &step);
                    let mut gradient = vec![0.0; parts.gradient_len()];
                    for rows in [0..9, 9..23] {
                        parts.add_gradient(&case.inputs(), &case.directions(rows), &mut gradient);
                    }
                    // What rows share, learned from the sum of them.
                    let mut sum = vec![0.0; whole.inputs()];
                    let all = case.inputs().dense();
                    all.chunks_exact(sum.len())
                        .take(11)
                        .for_each(|x| sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x));
                    let x = Inputs { values: &sum, source: Some(&[0; 11]), scale: &ones, ..case.inputs() };
                    let d = Directions { shared: case.d.shared.clone(), shared_rows: 0..11, ..Default::default() };
                    parts.add_gradient(&x, &d, &mut gradient);
                    parts.step_along(&gradient, &step);
                }
                for ((name, a), (_, b)) in numbers(&*whole).iter().zip(numbers(&*parts)) {
                    // Adam magnifies the rounding of the smallest gradients.
                    let tolerance = if step == smoothed { tolerance } else { 30.0 * tolerance };
                    let near = |(a, b): (&f64, &f64)| (a - b).abs() < tolerance * (1.0 + a.abs());
                    assert!(a.len() == b.len() && a.iter().zip(&b).all(near), "{name}: {precision:?} {plan:?}");
                }
                let (mut expected, mut found) = (Activity::default(), Activity::default());
                whole.forward(&case.inputs(), &mut expected);
                parts.forward(&case.inputs(), &mut found);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-2 * (1.0 + a.abs());
                assert!(expected.values.iter().zip(&found.values).all(near), "{precision:?} {plan:?}");
            }
        }
    }
}

#[test]
fn any_number_of_rows_fits_the_tiles_of_few_channels() {
    // Around the rows of a tile, of a group and of a part, and widths below and above a vector's.
    let narrow = |channels, width, field| {
        let sources = vec![Source::Planes(Shape::image(2, 3, width)), Source::Whole(1)];
        Plan::new(&LayerSettings::Local(fields(channels, field, 1, field / 2)), sources, String::new()).unwrap()
    };
    let plans = [narrow(3, 14, 11), narrow(2, 16, 3), narrow(7, 32, 5), narrow(3, 48, 3)];
    for plan in &plans.into_iter().chain(wide_plans()).collect::<Vec<_>>() {
        let LayerSettings::Local(f) = plan.settings() else { unreachable!() };
        assert!(FewChannels::suits(f, &plan.sources, plan.shape), "{plan:?}");
        let counts = [1, 2, 3, 5, 6, 7, 13, 48, 49, 97, 400];
        for (precision, rows) in counts.into_iter().flat_map(|n| [(Precision::F32, n), (Precision::Bf16, n)]) {
            let (mut reference, mut fast) = (build(plan, Precision::Reference), build(plan, precision));
            let none = Inputs::plain(&[], plan.inputs(), &[]);
            let mut nothing = Activity::default();
            fast.update(&none, &Directions::default(), &GRADIENT);
            fast.forward(&none, &mut nothing);
            assert_eq!((nothing.rows(), fast.tensors()), (0, build(plan, precision).tensors()));
            let case = Case::new(&*reference, rows, 6).rounded();
            reference.update(&case.inputs(), &case.d, &GRADIENT);
            fast.update(&case.inputs(), &case.d, &GRADIENT);
            let (exact, learned) = (numbers(&*reference), numbers(&*fast));
            for name in ["weight", "bias"] {
                let of = |numbers: &[(String, Vec<f64>)]| numbers.iter().find(|(n, _)| n == name).unwrap().1.clone();
                let (a, b) = (of(&exact), of(&learned));
                let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-4 * (1.0 + a.abs());
                assert!(
                    a.len() == b.len() && a.iter().zip(&b).all(near),
                    "{name} after {rows} rows: {precision:?} {plan:?}"
                );
            }
            let weights: Vec<Tensor> = fast.tensors().into_iter().map(nearest_bf16).collect();
            fast.restore(&weights).unwrap();
            let mut exact = reference.tensors();
            for weight in weights.into_iter().map(in_double_precision) {
                exact.iter_mut().filter(|t| t.name == weight.name).for_each(|t| t.clone_from(&weight));
            }
            reference.restore(&exact).unwrap();
            let (mut expected, mut found) = (Activity::default(), Activity::default());
            reference.forward(&case.inputs(), &mut expected);
            fast.forward(&case.inputs(), &mut found);
            for (a, b) in expected.values.iter().zip(&found.values) {
                assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} and {b}: {rows} rows {precision:?} {plan:?}");
            }
            let (mut down, mut back) = (vec![0.25; case.values.len()], vec![0.25; case.values.len()]);
            let d: Vec<f32> = expected.values.iter().map(|y| y.min(0.5)).collect();
            reference.backward(&d, &mut down);
            fast.backward(&d, &mut back);
            assert!(
                down.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())),
                "{rows} rows {precision:?} {plan:?}"
            );
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut alone = Activity::default();
                pool.install(|| fast.forward(&case.inputs(), &mut alone));
                assert_eq!((&alone.values, &alone.squares), (&found.values, &found.squares));
            }
        }
    }
}

#[test]
fn what_rows_of_a_sample_have_in_common_may_be_multiplied_once() {
    // Below what a thread answers at a time and above what is learned from at a time; samples in no order.
    for (plan, rows) in plans().iter().flat_map(|plan| [(plan, 3), (plan, 130), (plan, 700)]) {
        for precision in [Precision::F32, Precision::Bf16] {
            let tolerance = if precision == Precision::F32 { 2e-4 } else { 1e-2 };
            let mut apart = build(plan, precision);
            let mut together = build(plan, precision);
            let (width, inputs) = (plan.inputs(), plan.sources[0].len());
            let mut case = Case::new(&*apart, rows, 3).rounded();
            let sample: Vec<u32> = (0..rows as u32).map(|r| r * r % 41 % 17).collect();
            for r in 0..rows {
                let first = sample.iter().position(|of| *of == sample[r]).unwrap();
                case.values.copy_within(first * width..first * width + inputs, r * width);
                case.scale[r] = case.scale[first];
            }
            case.d.shared = (0..apart.outputs()).map(|o| (o % 7) as f32 / 64.0).collect();
            case.d.shared_rows = 0..rows / 2;
            let x = Inputs { common: Some(Common { inputs, sample: &sample }), ..case.inputs() };
            for _ in 0..2 {
                let (mut expected, mut found) = (Activity::default(), Activity::default());
                apart.forward(&case.inputs(), &mut expected);
                together.forward(&x, &mut found);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() < tolerance * (1.0 + a.abs());
                assert!(expected.values.iter().zip(&found.values).all(near), "{rows} rows: {precision:?} {plan:?}");
                assert!(expected.squares.iter().zip(&found.squares).all(near), "{rows} rows: {precision:?} {plan:?}");
                apart.update(&case.inputs(), &case.d, &GRADIENT);
                together.update(&x, &case.d, &GRADIENT);
            }
            for ((name, a), (_, b)) in numbers(&*apart).iter().zip(numbers(&*together)) {
                let near = |(a, b): (&f64, &f64)| (a - b).abs() < f64::from(tolerance) * (1.0 + a.abs());
                assert!(
                    a.len() == b.len() && a.iter().zip(&b).all(near),
                    "{name}, {rows} rows: {precision:?} {plan:?}"
                );
            }
        }
    }
}

#[test]
fn rows_that_share_values_and_have_codes_are_read_in_full() {
    let plan = &plans()[0];
    let mut layer = build(plan, Precision::F32);
    let (values, codes, scale) = (vec![0.5; plan.inputs()], [1.0, 0.0, 0.0, 1.0, 0.5, 0.5], [1.0, 2.0, 0.5]);
    let mut shared = vec![0.5; plan.inputs()];
    shared[..2].fill(0.0);
    let x = Inputs {
        source: Some(&[0, 0, 0]),
        codes: Some(Codes { values: &codes, classes: 2 }),
        ..Inputs::plain(&shared, shared.len(), &scale)
    };
    let full = x.dense();
    assert_eq!((full[0], full[1], full[plan.inputs() + 1], full[2]), (1.0, 0.0, 2.0, values[2]));
    let plain = Inputs::plain(&full, plan.inputs(), &[1.0; 3]);
    let d = Directions { rows: vec![0, 2], values: vec![0.1; 2 * plan.shape.len()], ..Default::default() };
    let mut twin = build(plan, Precision::F32);
    layer.update(&x, &d, &GRADIENT);
    twin.update(&plain, &d, &GRADIENT);
    assert_eq!(layer.tensors(), twin.tensors());
    let (mut a, mut b) = (Activity::default(), Activity::default());
    layer.forward(&x, &mut a);
    twin.forward(&plain, &mut b);
    assert_eq!(a.values, b.values);
}

/// Images of a bright stripe, upright or lying, anywhere.
fn stripes(n: usize, seed: u64) -> Dataset {
    let mut random = stream(seed, "stripes", 0);
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
    let mut values = Vec::new();
    for &label in &labels {
        let at = random.random_range(0..8usize);
        values.extend((0..64).map(|i| {
            let on = if label == 0 { i % 8 == at } else { i / 8 == at };
            random.random::<f32>() * 0.5 + if on { 1.0 } else { 0.0 }
        }));
    }
    let classes = ["upright", "lying"].map(String::from).to_vec();
    Dataset::new(Shape::image(1, 8, 8), Values::Floats(values), labels, classes).unwrap()
}

#[test]
fn networks_of_fields_learn_repeat_and_come_back() {
    let (train, test) = (stripes(1200, 1), stripes(300, 2));
    let local = |channels, field, stride| LayerSettings::Local(fields(channels, field, stride, 0));
    let conv = |channels, field, stride| LayerSettings::Conv(fields(channels, field, stride, 0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    for (name, layers) in [
        ("local", vec![local(16, 4, 2), local(32, 2, 1)]),
        ("few channels", vec![local(4, 4, 1), local(8, 3, 1)]),
        ("conv", vec![conv(16, 4, 1), conv(24, 3, 2)]),
        ("mixed", vec![conv(8, 3, 1), local(8, 3, 3), LayerSettings::Dense(40)]),
    ] {
        let run = |threads: usize| {
            let mut recipe = Recipe::default();
            recipe.network.layers = layers.clone();
            recipe.network.label = LabelPlace::Prepend;
            recipe.negatives.kind = NegativesKind::Uniform;
            recipe.readout.skip = 0;
            (recipe.training.epochs, recipe.training.batch) = (20, 20);
            recipe.optimizer.rate = 0.003;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer = Trainer::new(recipe, &train).unwrap();
                trainer.fit(&train, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
                trainer.into_network()
            })
        };
        let network = run(2);
        for readout in [Readout::EveryLabel, Readout::OnePass] {
            let error = network.evaluate(&test, readout).unwrap().error();
            assert!(error < 12.0, "{name}: {error} % of 2 classes wrong by {readout}");
        }
        let predictions = network.predict(&test, Readout::EveryLabel).unwrap();
        assert_eq!(predictions, run(1).predict(&test, Readout::EveryLabel).unwrap(), "{name}");
        network.save(&path).unwrap();
        let loaded = onward::Network::load(&path).unwrap();
        assert_eq!(predictions, loaded.predict(&test, Readout::EveryLabel).unwrap(), "{name}");
    }
}
