//! The closed-form gradient of a layer against finite differences of its loss: every goodness, sign, objective and input
//! normalisation.

use onward::engine;
use onward::goodness::Measure;
use onward::layer::{Activation, Dense, Layer};
use onward::optimizer::Step;
use onward::pass::{Activity, Directions, Inputs};
use onward::settings::{GoodnessKind, GoodnessSettings, Normalization, ObjectiveSettings, Precision, Threshold};
use onward::tensor::{Numbers, Tensor};
use rand::RngExt;

const I: usize = 5;
const O: usize = 4;
const PAIRS: usize = 3;

/// A weight step of exactly the gradient: no smoothing, no weight cost.
const GRADIENT: Step = Step::Smoothed { momentum: 0.0, share: 1.0, rate: 1.0, cost: 0.0 };

fn layer(weights: &[f64]) -> Box<dyn Layer> {
    let weights = weights.iter().map(|&w| w as f32).collect();
    let dense = Dense { inputs: I, outputs: O, activation: Activation::Relu, bias: true, weights };
    engine::dense(Precision::Reference, dense)
}

/// Summed loss of all pairs, and the layer's slopes by row.
fn loss(measure: &Measure, objective: ObjectiveSettings, y: &Activity) -> (f64, Vec<f32>) {
    let logit = |r: usize| measure.logit(measure.value(y.row(r), y.squares[r]));
    let mut slopes = vec![0.0; 2 * PAIRS];
    let mut loss = 0.0;
    for n in 0..PAIRS {
        let terms = objective.terms(logit(n), logit(PAIRS + n));
        loss += f64::from(terms.loss);
        (slopes[n], slopes[PAIRS + n]) = (terms.positive, terms.negative);
    }
    (loss, slopes)
}

#[test]
fn the_closed_form_is_the_derivative() {
    let mut random = onward::random::stream(3, "gradient", 0);
    let mut uniform = |low: f64, high: f64| low + (high - low) * random.random::<f64>();
    for kind in [GoodnessKind::SumOfSquares, GoodnessKind::MeanOfSquares, GoodnessKind::Sum] {
        for raise in [true, false] {
            for objective in [ObjectiveSettings::Logistic, ObjectiveSettings::Symmetric] {
                for norm in [Normalization::Rms, Normalization::Length, Normalization::Layer, Normalization::None] {
                    let case = format!("{kind:?} raise={raise} {objective:?} {norm:?}");
                    let settings = GoodnessSettings { kind, raise, threshold: Threshold::Value(1.5), temperature: 1.7 };
                    let measure = Measure::new(&settings, O);
                    let weights: Vec<f64> = (0..I * O).map(|_| f64::from(uniform(-0.8, 0.8) as f32)).collect();
                    let mut below = Activity::default();
                    below.resize(2 * PAIRS, I);
                    below.values.iter_mut().for_each(|x| *x = uniform(0.0, 2.0) as f32);
                    below.measure();
                    norm.apply(&mut below);
                    let x: Inputs<'_> = below.as_inputs();

                    let mut y = Activity::default();
                    y.resize(2 * PAIRS, O);
                    layer(&weights).forward(&x, &mut y);
                    let (_, slopes) = loss(&measure, objective, &y);
                    let mut d = Directions { rows: (0..2 * PAIRS as u32).collect(), ..Default::default() };
                    d.values.resize(2 * PAIRS * O, 0.0);
                    for (r, d) in d.values.chunks_exact_mut(O).enumerate() {
                        measure.direction(y.row(r), slopes[r], d);
                    }
                    let mut learned = layer(&weights);
                    learned.update(&x, &d, &GRADIENT);
                    let found = weight(&learned.tensors());

                    for (w, (found, before)) in found.iter().zip(&weights).enumerate() {
                        let h = 1e-2;
                        let at = |delta: f64| {
                            let mut moved = weights.clone();
                            moved[w] += delta;
                            let mut y = Activity::default();
                            y.resize(2 * PAIRS, O);
                            layer(&moved).forward(&x, &mut y);
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
}

/// The weights in the order of `Dense::weights`, `(I, O)`.
fn weight(tensors: &[Tensor]) -> Vec<f64> {
    let Numbers::F64(stored) = &tensors.iter().find(|t| t.name == "weight").unwrap().numbers else { unreachable!() };
    (0..I * O).map(|w| stored[(w % O) * I + w / O]).collect()
}
