//! The closed-form gradient of a layer against finite differences of its loss: every goodness, way of grouping, sign,
//! objective and input normalisation.

use onward::engine;
use onward::goodness::Measure;
use onward::layer::{Activation, Dense, Layer};
use onward::optimizer::Step;
use onward::pass::{Activity, Directions, Inputs};
use onward::settings::{GoodnessKind, GoodnessSettings, Normalization, ObjectiveSettings, Precision, Raise, Threshold};
use onward::tensor::{Numbers, Tensor};
use rand::RngExt;

const I: usize = 5;
const O: usize = 4;
const PAIRS: usize = 3;

/// A weight step of exactly the gradient: no smoothing, no weight cost.
const GRADIENT: Step = Step::Smoothed { momentum: 0.0, share: 1.0, rate: 1.0, cost: 0.0 };

fn layer(activation: Activation, weights: &[f64]) -> Box<dyn Layer> {
    let weights = weights.iter().map(|&w| w as f32).collect();
    let dense = Dense { inputs: I, outputs: O, activation, bias: true, weights };
    engine::dense(Precision::Reference, dense)
}

/// Summed loss of all pairs and groups, and the layer's slopes by row and group.
fn loss(measure: &Measure, objective: ObjectiveSettings, y: &Activity) -> (f64, Vec<f32>) {
    let groups = measure.groups();
    let logits = |r: usize| -> Vec<f32> {
        let mut values = vec![0.0; groups];
        measure.values(y.row(r), y.squares[r], &mut values);
        (0..groups).map(|k| measure.group_logit(k, values[k])).collect()
    };
    let mut slopes = vec![0.0; 2 * PAIRS * groups];
    let mut loss = 0.0;
    for n in 0..PAIRS {
        for (k, (a, b)) in logits(n).into_iter().zip(logits(PAIRS + n)).enumerate() {
            let terms = objective.terms(a, b);
            loss += f64::from(terms.loss);
            (slopes[n * groups + k], slopes[(PAIRS + n) * groups + k]) = (terms.positive, terms.negative);
        }
    }
    (loss, slopes)
}

/// Groups, whether by location, locations: every way in which four units fall into groups.
const GROUPINGS: [(usize, bool, usize); 6] =
    [(1, false, 1), (2, false, 1), (4, true, 1), (2, false, 2), (1, true, 2), (2, true, 2)];

/// Every combination of goodness, grouping and share of groups that raise.
fn goodnesses() -> Vec<(GoodnessSettings, usize)> {
    let kinds = [GoodnessKind::SumOfSquares, GoodnessKind::MeanOfSquares, GoodnessKind::Sum];
    let mut all = vec![];
    for (groups, by_location, locations) in GROUPINGS {
        for raise in [1.0, 0.0, 0.5].into_iter().filter(|share| *share != 0.5 || groups > 1) {
            for kind in kinds {
                let raise = Raise(raise);
                let threshold = Threshold::Value(1.5 / groups as f32);
                let settings = GoodnessSettings { kind, raise, groups, by_location, threshold, temperature: 1.7 };
                all.push((settings, locations));
            }
        }
    }
    all
}

#[test]
fn the_closed_form_is_the_derivative() {
    let mut random = onward::random::stream(3, "gradient", 0);
    let mut uniform = |low: f64, high: f64| low + (high - low) * random.random::<f64>();
    let activations = [Activation::Relu, Activation::StudentT(1.5)];
    for ((settings, locations), activation) in
        goodnesses().into_iter().flat_map(|g| activations.map(|a| (g.clone(), a)))
    {
        for objective in [ObjectiveSettings::Logistic, ObjectiveSettings::Symmetric] {
            for norm in [Normalization::Rms, Normalization::Length, Normalization::Layer, Normalization::None] {
                let case = format!("{settings:?} {objective:?} {norm:?} {activation:?}");
                let measure = Measure::new(&settings, locations, O / locations);
                let weights: Vec<f64> = (0..I * O).map(|_| f64::from(uniform(-0.8, 0.8) as f32)).collect();
                let mut below = Activity::default();
                below.resize(2 * PAIRS, I);
                below.values.iter_mut().for_each(|x| *x = uniform(0.0, 2.0) as f32);
                below.measure();
                norm.apply(&mut below);
                let x: Inputs<'_> = below.as_inputs();

                let mut y = Activity::default();
                y.resize(2 * PAIRS, O);
                layer(activation, &weights).forward(&x, &mut y);
                let (_, slopes) = loss(&measure, objective, &y);
                let mut d = Directions { rows: (0..2 * PAIRS as u32).collect(), ..Default::default() };
                d.values.resize(2 * PAIRS * O, 0.0);
                for (r, d) in d.values.chunks_exact_mut(O).enumerate() {
                    measure.direction(y.row(r), &slopes[r * measure.groups()..][..measure.groups()], d);
                    y.gate(r, d);
                }
                let mut learned = layer(activation, &weights);
                learned.update(&x, &d, &GRADIENT);
                let found = weight(&learned.tensors());

                for (w, (found, before)) in found.iter().zip(&weights).enumerate() {
                    let h = 1e-2;
                    let at = |delta: f64| {
                        let mut moved = weights.clone();
                        moved[w] += delta;
                        let mut y = Activity::default();
                        y.resize(2 * PAIRS, O);
                        layer(activation, &moved).forward(&x, &mut y);
                        (loss(&measure, objective, &y).0, y.values.iter().map(|y| *y > 0.0).collect::<Vec<_>>())
                    };
                    let ((above, on), (under, on_under)) = (at(h), at(-h));
                    if on != on_under {
                        continue; // a unit switches between the two: the loss has a corner here
                    }
                    // The ½ is the released code's (see `Measure::direction`).
                    let numeric = -0.5 * (above - under) / (2.0 * h);
                    let closed = found - before;
                    assert!(
                        (closed - numeric).abs() < 2e-3 * (1.0 + numeric.abs()),
                        "{case}, weight {w}: closed form {closed}, finite difference {numeric}"
                    );
                }
            }
        }
    }
}

/// The weights in the order of `Dense::weights`, `(I, O)`.
fn weight(tensors: &[Tensor]) -> Vec<f64> {
    let Numbers::F64(stored) = &tensors.iter().find(|t| t.name == "weight").unwrap().numbers else { unreachable!() };
    (0..I * O).map(|w| stored[(w % O) * I + w / O]).collect()
}
