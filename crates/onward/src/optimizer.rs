//! From gradients to steps. The state of the optimiser (smoothed gradients) lives beside each layer's weights.

use crate::settings::{OptimizerKind, OptimizerSettings};

/// One step of one layer: how its gradient `G`, summed over the batch's rows, moves its weights `W` uphill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// `V ← momentum·V + share·G`, `W ← W + rate·(V − cost·W)` (released code).
    Smoothed {
        /// The part of `V` that is kept.
        momentum: f32,
        /// `(1 − momentum)/B`.
        share: f32,
        /// `s·ε`: schedule times learning rate.
        rate: f32,
        /// Weight cost; 0 for biases.
        cost: f32,
    },
    /// `M ← momentum·M + share·G`, `S ← second·S + (1 − second)·(G/B)²`,
    /// `W ← W + rate·(M·m_scale/(sqrt(S·s_scale) + 1e-8) − cost·W)`.
    Adam {
        /// The part of `M` that is kept.
        momentum: f32,
        /// `(1 − momentum)/B`.
        share: f32,
        /// The part of `S` that is kept.
        second: f32,
        /// `1/B`.
        per_row: f32,
        /// Corrects `M` for its start at 0: `1/(1 − momentumᵗ)`.
        m_scale: f32,
        /// Corrects `S` for its start at 0: `1/(1 − secondᵗ)`.
        s_scale: f32,
        /// Schedule times learning rate.
        rate: f32,
        /// Weight cost; 0 for biases.
        cost: f32,
    },
}

/// From the squared lengths of units' incoming weight vectors to what makes them equally long: as long as they are in the root
/// mean square. Vectors of length 0 stay as they are.
pub(crate) fn equal_gains(squares: &mut [f32]) {
    let mean = squares.iter().map(|&s| f64::from(s)).sum::<f64>() / squares.len().max(1) as f64;
    squares.iter_mut().for_each(|s| *s = if *s > 0.0 { (mean / f64::from(*s)).sqrt() as f32 } else { 1.0 });
}

impl Step {
    /// The step after `taken` earlier ones, for a batch of `batch` positive samples, at `gain` times the learning rate.
    pub fn new(settings: &OptimizerSettings, gain: f32, batch: usize, taken: u64) -> Self {
        let per_row = 1.0 / batch as f32;
        let (momentum, rate, cost) = (settings.momentum, gain * settings.rate, settings.weight_cost);
        let share = (1.0 - momentum) * per_row;
        match settings.kind {
            OptimizerKind::Smoothed | OptimizerKind::OneStep => Step::Smoothed { momentum, share, rate, cost },
            OptimizerKind::Adam => {
                let t = (taken + 1) as f64;
                let correction = |kept: f32| (1.0 / (1.0 - f64::from(kept).powf(t))) as f32;
                let second = settings.second_momentum;
                let (m_scale, s_scale) = (correction(momentum), correction(second));
                Step::Adam { momentum, share, second, per_row, m_scale, s_scale, rate, cost }
            }
        }
    }

    /// The same step taken in parts, each with the gradient of a part of the batch: the first one smooths, the last one
    /// moves. Only smoothed gradients add up so; Adam's squares do not, and its parts are the whole step.
    pub fn part(self, first: bool, last: bool) -> Self {
        match self {
            Step::Smoothed { momentum, share, rate, cost } => Step::Smoothed {
                momentum: if first { momentum } else { 1.0 },
                share,
                rate: if last { rate } else { 0.0 },
                cost,
            },
            adam => adam,
        }
    }

    /// The same step without weight cost: for biases.
    pub fn without_cost(mut self) -> Self {
        match &mut self {
            Step::Smoothed { cost, .. } | Step::Adam { cost, .. } => *cost = 0.0,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_the_schedules_rate_and_the_batchs_share() {
        let settings = OptimizerSettings {
            kind: OptimizerKind::Smoothed,
            rate: 0.25,
            momentum: 0.75,
            weight_cost: 0.125,
            second_momentum: 0.5,
            ..Default::default()
        };
        let smoothed = Step::Smoothed { momentum: 0.75, share: 0.0625, rate: 0.125, cost: 0.125 };
        assert_eq!(Step::new(&settings, 0.5, 4, 7), smoothed);
        let adam = OptimizerSettings { kind: OptimizerKind::Adam, ..settings };
        let (momentum, share, second, per_row, rate, cost) = (0.75, 0.0625, 0.5, 0.25, 0.125, 0.125);
        let step = |m_scale, s_scale| Step::Adam { momentum, share, second, per_row, m_scale, s_scale, rate, cost };
        assert_eq!(Step::new(&adam, 0.5, 4, 0), step(4.0, 2.0), "the first step undoes all smoothing");
        assert_eq!(Step::new(&adam, 0.5, 4, 1), step(1.0 / (1.0 - 0.5625), 1.0 / 0.75));
        assert_eq!(smoothed.without_cost(), Step::Smoothed { momentum: 0.75, share: 0.0625, rate: 0.125, cost: 0.0 });
        let Step::Adam { cost, .. } = step(1.0, 1.0).without_cost() else { unreachable!() };
        assert_eq!(cost, 0.0);
        assert_eq!(step(1.0, 1.0).part(true, false), step(1.0, 1.0));
    }

    #[test]
    fn the_first_part_smooths_and_the_last_one_moves() {
        let whole = Step::Smoothed { momentum: 0.75, share: 0.5, rate: 0.25, cost: 0.125 };
        let part = |momentum, rate| Step::Smoothed { momentum, share: 0.5, rate, cost: 0.125 };
        assert_eq!(whole.part(true, true), whole);
        assert_eq!(whole.part(true, false), part(0.75, 0.0));
        assert_eq!(whole.part(false, false), part(1.0, 0.0));
        assert_eq!(whole.part(false, true), part(1.0, 0.25));
    }

    #[test]
    fn equal_lengths_are_the_root_mean_square() {
        let mut squares = [4.0, 0.0, 8.0, 36.0];
        equal_gains(&mut squares);
        assert_eq!(squares, [3f32.sqrt(), 1.0, 1.5f32.sqrt(), (1.0f32 / 3.0).sqrt()]);
        equal_gains(&mut []);
    }
}
