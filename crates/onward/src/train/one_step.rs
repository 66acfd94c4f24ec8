//! The on-line rule of the paper's section 7.

use crate::layer::Layer;
use crate::network::Stage;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};

/// Takes the goodness of the first row of `x: (R, I)`, which `stage` has answered by `y: (R, O)`, `rate` of the way to beyond the
/// threshold: by the share `margin` of it to the side of positive data (`up` is 1) or of negative data (−1). Answers false
/// where it is there already.
pub(crate) fn step_beyond(
    stage: &mut Stage,
    (x, y): (&Inputs<'_>, &Activity),
    up: f32,
    (margin, rate): (f32, f32),
    d: &mut Directions,
) -> bool {
    let (measure, squares) = (&stage.measure, y.squares[0]);
    let g = measure.value(y.row(0), squares);
    let wanted = measure.threshold * (1.0 + up * measure.sign * margin);
    let on_the_way = up * (measure.logit(g) - measure.logit(wanted)) < 0.0;
    if on_the_way {
        // The same share of the sum of squares as of the goodness.
        one_step(&mut *stage.layer, x, y, squares * (1.0 + rate * (wanted / g - 1.0)), d);
    }
    on_the_way
}

/// Takes the first row's goodness from `g = Σ y²` to `goal`, in one step of a ReLU layer without biases.
///
/// `x: (R, I)` with `|x̂|² = I`, `y: (R, O)` the layer's answer to it; rows beyond the first take no part. `ΔW = (η/I)·x̂ yᵀ` with `η = sqrt(goal/g) − 1`
/// multiplies every active unit by `1 + η` and leaves the others off: the goodness becomes `goal` exactly, up to rounding, and
/// the normalised answer stays what it was, so layers above need not wait. A layer that is all off stays off.
pub fn one_step(layer: &mut dyn Layer, x: &Inputs<'_>, y: &Activity, goal: f32, d: &mut Directions) {
    let g = y.squares[0];
    if g <= 0.0 || !g.is_finite() {
        return;
    }
    let eta = (goal / g).sqrt() - 1.0;
    d.rows.clear();
    d.rows.push(0);
    d.values.clear();
    d.values.extend_from_slice(y.row(0));
    d.shared.clear();
    let step = Step::Smoothed { momentum: 0.0, share: 1.0, rate: eta / x.width as f32, cost: 0.0 };
    layer.update(x, d, &step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::RowDense;
    use crate::engine::reference::ReferenceDense;
    use crate::layer::{Activation, Dense};
    use rand::RngExt;

    /// Section 7: the goodness becomes `g*`, whatever the layer and the sample; the normalised answer stays.
    #[test]
    fn one_step_makes_the_goodness_exactly_what_was_asked_for() {
        for seed in 0..50 {
            let mut random = crate::random::stream(seed, "one step", 0);
            let (inputs, outputs) = (random.random_range(1..40usize), random.random_range(8..80usize));
            let weights: Vec<f32> = (0..inputs * outputs).map(|_| random.random_range(-1.0..1.0)).collect();
            let dense = Dense { inputs, outputs, activation: Activation::Relu, bias: false, weights };
            let mut x: Vec<f32> = (0..inputs).map(|_| random.random_range(-1.0..1.0)).collect();
            let length = (crate::engine::sum_of_squares(&x) / inputs as f32).sqrt();
            x.iter_mut().for_each(|x| *x /= length); // |x̂|² = I
            let x = Inputs::plain(&x, inputs, &[1.0]);
            let goal = random.random_range(0.01..500.0f32);
            let layers: [Box<dyn Layer>; 2] =
                [Box::new(RowDense::new(dense.clone())), Box::new(ReferenceDense::new(dense))];
            for mut layer in layers {
                let (mut before, mut after) = (Activity::default(), Activity::default());
                layer.forward(&x, &mut before);
                one_step(&mut *layer, &x, &before, goal, &mut Directions::default());
                layer.forward(&x, &mut after);
                let g = before.squares[0];
                assert!(g > 0.0);
                assert!((after.squares[0] / goal - 1.0).abs() < 1e-4, "{g} → {}, not {goal}", after.squares[0]);
                for (a, b) in before.values.iter().zip(&after.values) {
                    let (a, b) = (a / g.sqrt(), b / goal.sqrt());
                    assert!((a - b).abs() < 1e-5, "the direction of the answer moved: {a} → {b}");
                }
            }
        }
    }

    #[test]
    fn a_layer_that_is_off_stays_as_it_is() {
        let dense = Dense { inputs: 1, outputs: 2, activation: Activation::Relu, bias: false, weights: vec![-1.0; 2] };
        let mut layer = RowDense::new(dense);
        let x = Inputs::plain(&[1.0], 1, &[1.0]);
        let mut y = Activity::default();
        layer.forward(&x, &mut y);
        one_step(&mut layer, &x, &y, 5.0, &mut Directions::default());
        layer.forward(&x, &mut y);
        assert_eq!(y.values, [0.0, 0.0]);
    }
}
