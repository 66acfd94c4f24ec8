//! A layer's gradient apart from its step: for replicas, which add theirs up before each of them steps along the sum.
//!
//! Whoever trains alone has no gradient buffer: see `update.rs`.

use super::panels::Panels;
use super::update::{Learned, Rows, apply, or_empty, update};
use super::{COLUMNS_EACH, CpuDense, WORK, sum_directions};
use crate::engine::pool::Pool;
use crate::engine::vectorised;
use crate::optimizer::Step;
use crate::pass::{Directions, Inputs};
use rayon::prelude::*;

/// A step that adds the gradient to the smoothed one and changes nothing else.
pub const GRADIENT: Step = Step::Smoothed { momentum: 1.0, share: 1.0, rate: 0.0, cost: 0.0 };

/// Numbers that stand for a layer's while its gradient is computed; nobody reads their values.
static SUMS: Pool<Learned> = Pool::new();

impl Default for Learned {
    fn default() -> Self {
        Learned::new(Panels::zeros(0, 0))
    }
}

/// `gradient += G`, where `learn` takes the step [`GRADIENT`] along `G: (I, O)`; `gradient` is in panels.
pub fn add(gradient: &mut [f32], (inputs, outputs): (usize, usize), learn: impl FnOnce(&mut Learned)) {
    SUMS.with(|sums| {
        sums.value.resize(inputs, outputs);
        sums.smoothed.resize(inputs, outputs);
        sums.smoothed.values_mut().par_chunks_mut(COLUMNS_EACH).for_each(|sums| sums.fill(0.0));
        learn(sums);
        let parts = gradient.par_chunks_mut(COLUMNS_EACH).zip(sums.smoothed.values().par_chunks(COLUMNS_EACH));
        parts.for_each(|(to, from)| vectorised!(to.iter_mut().zip(from).for_each(|(to, from)| *to += from)));
    });
}

/// One step of `learned` along a gradient in panels.
pub fn step_along(learned: &mut Learned, gradient: &[f32], step: &Step) {
    learned.prepare(step);
    let Learned { value, smoothed, squared, .. } = &mut *learned;
    assert_eq!(gradient.len(), value.values().len());
    let count = gradient.len().div_ceil(COLUMNS_EACH);
    let squared = or_empty(count, squared.values_mut().chunks_mut(COLUMNS_EACH).collect());
    let weights = value.values_mut().par_chunks_mut(COLUMNS_EACH);
    let weights = weights.zip(smoothed.values_mut().par_chunks_mut(COLUMNS_EACH)).zip(squared);
    weights.zip(gradient.par_chunks(COLUMNS_EACH)).for_each(|(((value, smoothed), squared), gradient)| {
        vectorised!(apply(gradient, value, smoothed, squared, step));
    });
    learned.renew_pairs();
}

impl CpuDense {
    /// How many numbers its weights' gradient has, in panels; the bias's come after it.
    fn weight_numbers(&self) -> usize {
        self.weight.value.values().len()
    }

    /// See [`Layer::gradient_len`](crate::Layer::gradient_len).
    pub(super) fn numbers(&self) -> usize {
        self.weight_numbers() + if self.has_bias { self.bias.value.values().len() } else { 0 }
    }

    /// See [`Layer::add_gradient`](crate::Layer::add_gradient).
    pub(super) fn add_to(&self, gradient: &mut [f32], x: &Inputs<'_>, d: &Directions) {
        let (inputs, outputs) = (self.weight.value.inputs(), self.weight.value.outputs());
        let (weight, bias) = gradient.split_at_mut(self.weight_numbers());
        WORK.with(|work| {
            let count = self.gather(x, d, work);
            let rows = Rows { x: &work.x, x_pairs: &work.x_pairs, d: &work.d, count };
            add(weight, (inputs, outputs), |sums| update(sums, rows, &work.labels, &GRADIENT));
        });
        if self.has_bias {
            let mut sums = vec![0.0; outputs];
            sum_directions(d, &mut sums);
            bias.iter_mut().zip(&sums).for_each(|(to, sum)| *to += sum);
        }
    }

    /// See [`Layer::step_along`](crate::Layer::step_along).
    pub(super) fn step(&mut self, gradient: &[f32], step: &Step) {
        let (weight, bias) = gradient.split_at(self.weight_numbers());
        step_along(&mut self.weight, weight, step);
        if self.has_bias {
            step_along(&mut self.bias, bias, &step.without_cost());
        }
    }
}
