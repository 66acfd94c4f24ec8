//! The recurrent network of the paper's section 3.4 on a stream, where each record is a moment.
//!
//! All layers answer at once to what was below and above them a moment ago, so a record is seen by the first layer when it
//! comes, by the second one record later, and so on up; what layers know of the past comes down again. Each record takes a
//! wrong one along, which rises beside it: every layer reads, beside the real state below, the one that the wrong record
//! has come to there, both with the real state above, and raises its goodness for the first and lowers it for the second.

use super::{Learner, Work};
use crate::engine::sum_of_squares;
use crate::error::Result;
use crate::network::Stage;
use crate::pass::{Activity, Inputs};
use crate::recurrent::{blend, join};
use crate::train::stage::check_finite;

/// Rows of a layer's state: what is there, and what a wrong record has come to.
const ROWS: usize = 2;

/// The states of all layers.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// `(2, O)` of each layer, with the scale that its neighbours see it at.
    pub(super) states: Vec<Activity>,
    next: Vec<Activity>,
    /// What the layer at hand reads `(2, I)`: below, then above, each normalised.
    x: Vec<f32>,
    answer: Activity,
}

impl Moments {
    /// States before the first record: nothing.
    pub(super) fn new(stages: &[Stage]) -> Self {
        let nothing = |stage: &Stage| {
            let mut state = Activity::default();
            state.resize(ROWS, stage.layer.outputs());
            stage.normalization.apply(&mut state);
            state
        };
        let states: Vec<Activity> = stages.iter().map(nothing).collect();
        Moments { next: states.clone(), states, ..Default::default() }
    }

    /// The states that were saved: `values: (2, O)` of layer `l`.
    pub(super) fn restore(&mut self, l: usize, stage: &Stage, values: &[f32]) {
        let state = &mut self.states[l];
        state.values.copy_from_slice(values);
        for r in 0..ROWS {
            state.squares[r] = sum_of_squares(state.row(r));
        }
        stage.normalization.apply(state);
    }

    /// Writes what layer `l` reads; `bottom` is what the first layer reads from below `(2, I)`.
    fn read(&mut self, l: usize, bottom: &Inputs<'_>) -> usize {
        let Moments { states, x, .. } = self;
        let below = l.checked_sub(1).map_or(*bottom, |below| states[below].as_inputs());
        let above = states.get(l + 1).map(Activity::as_inputs);
        let width = below.width + above.map_or(0, |above| above.width);
        x.resize(ROWS * width, 0.0);
        for (r, x) in x.chunks_exact_mut(width).enumerate() {
            join((&below, r), above.map(|above| (above, 0)), x);
        }
        width
    }

    /// Layer `l`'s next state: both rows are the real state and a part of their answers.
    fn take_in(&mut self, l: usize, stage: &Stage, keep: f32) {
        let Moments { states, next, answer, .. } = self;
        for r in 0..ROWS {
            next[l].squares[r] = blend(keep, states[l].row(0), answer.row(r), next[l].row_mut(r));
        }
        stage.normalization.apply(&mut next[l]);
    }
}

impl Learner {
    /// A record's moment: every layer answers, is judged by its answer, learns, and moves on, keeping so much of
    /// its state.
    pub(super) fn moment(&mut self, number: u64, keep: f32) -> Result<()> {
        // The real record goes there too, so that pairs are made up even where nothing is learned.
        let (learns, inputs) = (self.pair_up(number)? && self.learns, self.inputs());
        let Self { stages, work, settings, batch, steps, moments, verdict, recent, .. } = self;
        let Work { rows, slope, .. } = work;
        rows.take(batch, inputs);
        let bottom = rows.as_inputs(inputs);
        let first = settings.skip.min(stages.len() - 1);
        verdict.number = number;
        verdict.score = 0.0;
        verdict.goodness.clear();
        for (l, stage) in stages.iter_mut().enumerate() {
            let width = moments.read(l, &bottom);
            let x = Inputs::plain(&moments.x, width, &[1.0; ROWS]);
            let y = &mut moments.answer;
            stage.layer.forward(&x, y);
            check_finite(y, l, *steps)?;
            let goodness = stage.measure.value(y.row(0), y.squares[0]);
            verdict.goodness.push(goodness);
            if l >= first {
                verdict.score += stage.measure.logit(goodness);
            }
            if learns {
                slope.climb(stage, &x, y, settings, *steps);
            }
            moments.take_in(l, stage, keep);
        }
        std::mem::swap(&mut moments.states, &mut moments.next);
        verdict.anomaly = recent.anomaly(verdict.score);
        *steps += u64::from(learns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StreamSettings, WrongWindows};
    use super::*;
    use crate::normalize::TINY;
    use crate::tensor::Tensors;
    use crate::train::stream::Task;

    /// Section 3.4 in plain loops: what every layer answers is a function of its neighbours' states a moment ago.
    #[test]
    fn every_layer_answers_to_what_was_around_it_a_moment_ago() {
        let widths = [17, 15, 16];
        let task = Task::Unsupervised { negatives: WrongWindows::Another };
        let recurrent = Some(0.3);
        let settings = StreamSettings { task, recurrent, layers: widths.to_vec(), ..StreamSettings::unsupervised() };
        let mut learner = Learner::new(settings, 3).unwrap();
        let record = |n: u32| [(n % 3) as f32, (n % 5) as f32 - 2.0, ((n * n) % 7) as f32];
        for n in 0..50 {
            learner.observe(&record(n)).unwrap();
        }
        learner.set_learning(false);
        for n in 50..60 {
            let seen = |v: &[f32]| -> Vec<f64> {
                let mean = v.iter().map(|x| f64::from(x * x)).sum::<f64>() / v.len() as f64;
                v.iter().map(|x| f64::from(*x) / (f64::from(TINY) + mean.sqrt())).collect()
            };
            let states: Vec<Vec<f32>> = learner.moments.states.iter().map(|state| state.row(0).to_vec()).collect();
            let tensors: Vec<_> = learner.stages.iter().map(|stage| stage.layer.tensors()).collect();
            let verdict = learner.observe(&record(n)).unwrap().clone();
            let mut bottom = vec![0.0; 3];
            learner.past.window(u64::from(n), &mut bottom);
            bottom.push(learner.code());
            for (l, width) in widths.into_iter().enumerate() {
                let mut x = seen(if l == 0 { &bottom } else { &states[l - 1] });
                x.extend(states.get(l + 1).map(|above| seen(above)).unwrap_or_default());
                let find = Tensors(&tensors[l]);
                let weights = find.f32("weight", &[width, x.len()]).unwrap();
                let bias = find.f32("bias", &[width]).unwrap();
                let y: Vec<f64> = (weights.chunks(x.len()).zip(bias))
                    .map(|(w, b)| w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*b))
                    .map(|z| z.max(0.0))
                    .collect();
                let goodness: f64 = y.iter().map(|y| y * y).sum();
                assert!((f64::from(verdict.goodness[l]) / goodness - 1.0).abs() < 1e-4, "layer {l}, record {n}");
                let state = learner.moments.states[l].row(0);
                for ((new, old), y) in state.iter().zip(&states[l]).zip(&y) {
                    let expected = 0.3 * f64::from(*old) + 0.7 * y;
                    assert!((f64::from(*new) - expected).abs() < 1e-4, "layer {l}: {new}, not {expected}");
                }
            }
        }
    }
}
