//! What a layer makes of its own answers: its objective's gain from every row, and the way that the activities should move.

use crate::network::Stage;
use crate::objective::cross_entropy;
use crate::pass::{Activity, Directions};
use crate::peer::add_up;
use crate::settings::Recipe;
use crate::train::rest::SOLVED;
use crate::train::stage::Lesson;
use crate::train::totals::LayerTotals;
use rayon::prelude::*;
use std::ops::Range;

/// The directions of a layer's rows in step `taken`: the batch's positive ones, then as many negative ones. Clears the `solved`
/// mark of samples that the layer has anything to learn from. Of the direction that positive rows share, there is only what
/// `Peer::push` makes it from. Returns the summed loss.
pub(super) fn of_pairs(
    stage: &mut Stage,
    recipe: &Recipe,
    taken: u64,
    y: &Activity,
    totals: &mut LayerTotals,
    solved: &mut [bool],
    d: &mut Directions,
) -> f64 {
    let (measure, batch) = (&stage.measure, solved.len());
    let (from_positive, from_negative) = recipe.training.learns_from(taken);
    let groups = measure.groups();
    let mut goodness = vec![0.0; 2 * batch * groups];
    for (r, values) in goodness.chunks_exact_mut(groups).enumerate() {
        measure.values(y.row(r), y.squares[r], values);
    }
    let (positive, negative) = goodness.split_at(batch * groups);
    let mut slopes = vec![0.0; 2 * batch * groups];
    let (raised, lowered) = slopes.split_at_mut(batch * groups);
    let (mut loss, mut sum_positive, mut sum_negative) = (0.0, 0.0, 0.0);
    for (n, solved) in solved.iter_mut().enumerate() {
        let of = n * groups..(n + 1) * groups;
        let (positive, negative) = (&positive[of.clone()], &negative[of.clone()]);
        let slopes = raised[of.clone()].iter_mut().zip(&mut lowered[of]);
        for (k, (raised, lowered)) in slopes.enumerate() {
            let (a, b) = (measure.group_logit(k, positive[k]), measure.group_logit(k, negative[k]));
            let terms = recipe.objective.terms(a, b);
            *raised = if from_positive { terms.positive } else { 0.0 };
            *lowered = if from_negative { terms.negative } else { 0.0 };
            *solved &= terms.positive.abs() < SOLVED && terms.negative.abs() < SOLVED;
            loss += f64::from(terms.loss);
        }
        let (positive, negative) = (measure.total(positive), measure.total(negative));
        sum_positive += f64::from(positive);
        sum_negative += f64::from(negative);
        totals.wrong += u64::from(measure.logit(positive) <= measure.logit(negative));
    }
    totals.loss += loss;
    totals.positive += sum_positive;
    totals.negative += sum_negative;
    d.shared.clear();
    if from_positive {
        add_up(y, batch, &mut d.shared, &mut totals.alive);
    }
    d.shared_rows = 0..batch;
    let slopes = |r: u32| &slopes[r as usize * groups..][..groups];
    choose_rows(recipe, 0..2 * batch as u32, slopes, totals, d);
    find_along(stage, y, slopes, d);
    loss
}

/// The same for a layer that tells the label itself, from a row of each sample: uphill in the log probability of the true
/// label. The layer's own class scores take their step too.
pub(super) fn of_classes(
    stage: &mut Stage,
    lesson: &Lesson<'_>,
    y: &Activity,
    totals: &mut LayerTotals,
    solved: &mut [bool],
    d: &mut Directions,
) -> f64 {
    let Lesson { recipe, labels, step, .. } = lesson;
    let batch = labels.len();
    let (mut scores, mut slopes) = (Vec::new(), Vec::new());
    stage.class_scores(y, 0..batch, &mut scores);
    let classes = scores.len() / batch;
    for (scores, &label) in scores.chunks_exact(classes).zip(*labels) {
        let others = scores.iter().enumerate().filter(|(k, _)| *k != label as usize).map(|(_, score)| *score);
        let (own, best) = (scores[label as usize], others.fold(f32::NEG_INFINITY, f32::max));
        totals.positive += f64::from(own);
        totals.negative += f64::from(best);
        totals.wrong += u64::from(own <= best);
    }
    let loss = cross_entropy(&mut scores, labels, &mut slopes);
    totals.loss += loss;
    for (solved, slopes) in solved.iter_mut().zip(slopes.chunks_exact(classes)) {
        *solved &= slopes.iter().all(|slope| slope.abs() < SOLVED);
    }
    add_up(y, batch, &mut d.shared, &mut totals.alive);
    d.shared_rows = 0..batch;
    let of_row = |r: u32| &slopes[r as usize * classes..][..classes];
    choose_rows(recipe, 0..batch as u32, of_row, totals, d);
    let Some(scores) = &mut stage.scores else {
        find_along(stage, y, of_row, d);
        return loss;
    };
    let values: Vec<f32> = d.rows.iter().flat_map(|&r| of_row(r)).copied().collect();
    d.values.fill(0.0);
    scores.backward(&values, &mut d.values);
    for (&r, d) in d.rows.iter().zip(d.values.chunks_exact_mut(y.width())) {
        y.gate(r as usize, d);
    }
    let ones = vec![1.0; batch];
    let taught = Directions { rows: d.rows.clone(), values, ..Default::default() };
    scores.update(&y.raw(0..batch, &ones), &taught, step);
    loss
}

/// The directions of the rows picked, along which their groups' goodness changes by their slopes.
fn find_along<'a>(stage: &Stage, y: &Activity, slopes: impl Fn(u32) -> &'a [f32] + Sync, d: &mut Directions) {
    let width = y.width();
    let along = d.values.par_chunks_exact_mut(width).zip(&d.rows).with_min_len((1 << 14) / width.max(1));
    along.for_each(|(d, &r)| {
        stage.measure.direction(y.row(r as usize), slopes(r), d);
        // It is 0 where a ReLU is; other activations have a derivative of their own.
        if !y.derivative.is_empty() {
            y.gate(r as usize, d);
        }
    });
}

/// Picks the rows whose slopes are not all negligible, and makes room for their directions.
fn choose_rows<'a>(
    recipe: &Recipe,
    rows: Range<u32>,
    slopes: impl Fn(u32) -> &'a [f32],
    totals: &mut LayerTotals,
    d: &mut Directions,
) {
    let learns = |slope: &f32| slope.abs() > recipe.training.negligible;
    d.rows.clear();
    d.rows.extend(rows.filter(|&r| slopes(r).iter().any(learns)));
    totals.active += d.rows.len() as u64;
    d.values.resize(d.rows.len() * totals.alive.len(), 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Step;
    use crate::pass::Inputs;
    use crate::settings::{LabelPlace, ObjectiveSettings, Precision};
    use crate::tensor::{Numbers, Tensor};
    use crate::{Network, Shape};

    /// A weight step of exactly the gradient: no smoothing, no weight cost.
    const GRADIENT: Step = Step::Smoothed { momentum: 0.0, share: 1.0, rate: 1.0, cost: 0.0 };
    const LABELS: [u32; 3] = [0, 2, 1];

    fn stage(objective: ObjectiveSettings, raise: bool) -> (Stage, Recipe) {
        let mut recipe = Recipe { objective, ..Default::default() };
        (recipe.network.layers, recipe.network.label) = (vec![6.into()], LabelPlace::None);
        (recipe.engine.precision, recipe.peer.strength) = (Precision::Reference, 0.0);
        recipe.goodness.raise = raise.into();
        let classes = ["a", "b", "c"].map(String::from);
        (Network::new(recipe.clone(), Shape::features(4), &classes).unwrap().stages.remove(0), recipe)
    }

    fn weights(tensors: &[Tensor]) -> &[f64] {
        let Numbers::F64(weights) = &tensors.iter().find(|t| t.name == "weight").unwrap().numbers else {
            unreachable!()
        };
        weights
    }

    fn moved(mut tensors: Vec<Tensor>, i: usize, by: f64) -> Vec<Tensor> {
        let weight = tensors.iter_mut().find(|t| t.name == "weight").unwrap();
        let Numbers::F64(weights) = &mut weight.numbers else { unreachable!() };
        weights[i] += by;
        tensors
    }

    #[test]
    fn layers_that_tell_the_label_step_along_the_derivative() {
        let values: Vec<f32> = (0..12).map(|i| (i * 7 % 11) as f32 / 5.0).collect();
        let x = Inputs::plain(&values, 4, &[1.0; 3]);
        for (objective, raise) in [
            (ObjectiveSettings::PerClass, true),
            (ObjectiveSettings::PerClass, false),
            (ObjectiveSettings::MonoForward, true),
        ] {
            let learn = |stage: &mut Stage, recipe: &Recipe| {
                let (mut y, mut d, mut solved) = (Activity::default(), Directions::default(), [true; 3]);
                let mut totals = LayerTotals { alive: vec![0; 6], ..Default::default() };
                stage.layer.forward(&x, &mut y);
                let lesson =
                    Lesson { recipe, step: GRADIENT, taken: 0, batch: 3, first: 0, learning: 0..1, labels: &LABELS };
                let loss = of_classes(stage, &lesson, &y, &mut totals, &mut solved, &mut d);
                stage.peer.push(3, &mut d.shared);
                stage.layer.update(&x, &d, &GRADIENT);
                assert_eq!(totals.loss, loss);
                (loss, y.values.iter().map(|y| *y > 0.0).collect::<Vec<_>>())
            };
            let (mut stage_, recipe) = stage(objective, raise);
            let before = stage_.layer.tensors();
            let matrix = stage_.scores.as_ref().map(|scores| scores.tensors());
            learn(&mut stage_, &recipe);
            // The ½ is the released code's (see `Measure::direction`); a matrix of scores has none.
            let factor = if matrix.is_some() { 1.0 } else { 0.5 };
            let h = 1e-2;
            let numeric = |change: &dyn Fn(&mut Stage, f64)| {
                let at = |by| {
                    let (mut stage, recipe) = stage(objective, raise);
                    change(&mut stage, by);
                    learn(&mut stage, &recipe)
                };
                let ((above, on), (below, on_below)) = (at(h), at(-h));
                // Where a unit switches between the two, the loss has a corner.
                (on == on_below).then(|| -(above - below) / (2.0 * h))
            };
            let near =
                |found: f64, expected: Option<f64>| expected.is_none_or(|e| (found - e).abs() < 2e-3 * (1.0 + e.abs()));
            for (i, (after, was)) in weights(&stage_.layer.tensors()).iter().zip(weights(&before)).enumerate() {
                let change = |stage: &mut Stage, by| stage.layer.restore(&moved(before.clone(), i, by)).unwrap();
                let expected = numeric(&change).map(|slope| factor * slope);
                assert!(near(after - was, expected), "{objective:?}: {i}: {} for {expected:?}", after - was);
            }
            let Some(matrix) = matrix else { continue };
            let after = stage_.scores.as_ref().unwrap().tensors();
            for (i, (after, was)) in weights(&after).iter().zip(weights(&matrix)).enumerate() {
                let change = |stage: &mut Stage, by| {
                    stage.scores.as_mut().unwrap().restore(&moved(matrix.clone(), i, by)).unwrap();
                };
                let expected = numeric(&change);
                assert!(near(after - was, expected), "scores: {i}: {} for {expected:?}", after - was);
            }
        }
    }
}
