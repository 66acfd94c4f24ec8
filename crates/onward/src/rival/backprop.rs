//! Backpropagation: softmax cross-entropy at the head, and its gradient sent down through every layer. It keeps all
//! activities until they are needed again, and needs the derivative of everything in between.

use crate::batch::{Batch, Label, Labelled};
use crate::engine::{sum_of_products, vectorised};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::objective::cross_entropy;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions};
use crate::random::Random;
use crate::settings::Normalization;
use crate::train::{check_finite, check_head, drop_out};
use rayon::prelude::*;

/// Memory of a step, used again by the next.
#[derive(Debug, Default)]
pub(crate) struct Backprop {
    rows: Labelled,
    layers: Vec<Kept>,
    logits: Vec<f32>,
    answer: Activity,
    head: Directions,
    /// `−∂loss/∂ŷ` of the layer at hand `(R, O)`, and of the one below.
    uphill: Vec<f32>,
    below: Vec<f32>,
}

/// What a layer leaves behind on the way up, for the way down.
#[derive(Debug, Default)]
struct Kept {
    /// As it answered; where it is also what goes up, that is all.
    answered: Activity,
    /// What went up, where that is more than a scale on the answer: dropout, or a mean subtracted.
    passed: Option<Activity>,
}

impl Kept {
    fn passed(&self) -> &Activity {
        self.passed.as_ref().unwrap_or(&self.answered)
    }
}

/// One step's settings.
pub(crate) struct Plan<'a> {
    /// The layers' step, and the head's.
    pub steps: (&'a Step, &'a Step),
    /// The share of activities silenced.
    pub dropout: f32,
    /// The batch goes through in so many parts, one after another; only the gradients add up.
    pub parts: usize,
    /// Whether the gradient goes through black boxes as if they were not there.
    pub straight_through: bool,
    /// Steps taken, for errors.
    pub taken: u64,
}

impl Backprop {
    /// Bytes of activities and gradients held.
    pub fn bytes(&self) -> usize {
        let kept = |kept: &Kept| kept.answered.bytes() + kept.passed.as_ref().map_or(0, Activity::bytes);
        let floats = [&self.logits, &self.uphill, &self.below, &self.head.values];
        self.layers.iter().map(kept).sum::<usize>()
            + floats.map(|v| v.capacity() * size_of::<f32>()).iter().sum::<usize>()
    }

    /// One step on a batch. Returns the mean cross-entropy.
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::HeadNotFinite`] where an activity or the loss overflows; [`Error::Setting`] where a layer has no derivative.
    pub fn step(&mut self, network: &mut Network, batch: &Batch, plan: &Plan<'_>, dropout: &mut Random) -> Result<f64> {
        let samples = batch.len();
        let size = samples.div_ceil(plan.parts);
        let parts: Vec<_> = (0..samples).step_by(size).map(|first| first..(first + size).min(samples)).collect();
        let mut loss = 0.0;
        for (i, part) in parts.iter().enumerate() {
            let (first, last) = (i == 0, i + 1 == parts.len());
            let steps = (plan.steps.0.part(first, last), plan.steps.1.part(first, last));
            self.rows.fill(network, batch, part.clone().map(|n| (n, Label::Neutral)));
            self.forward(network, batch, plan, dropout)?;
            loss += cross_entropy(&mut self.logits, &batch.labels[part.clone()], &mut self.head.values);
            check_head(loss, plan.taken)?;
            self.head.rows.clear();
            self.head.rows.extend(0..part.len() as u32);
            self.backward(network, batch, plan, steps)?;
        }
        Ok(loss / samples as f64)
    }

    fn forward(&mut self, network: &Network, batch: &Batch, plan: &Plan<'_>, dropout: &mut Random) -> Result<()> {
        let Backprop { rows, layers, logits, answer, .. } = self;
        let first = rows.as_inputs(batch, None);
        let head = network.head().expect("checked: backpropagation starts at a head");
        layers.resize_with(network.depth(), Kept::default);
        logits.clear();
        logits.resize(first.rows() * network.classes(), 0.0);
        for (l, stage) in network.stages().iter().enumerate() {
            let (below, at) = layers.split_at_mut(l);
            let Kept { answered, passed } = &mut at[0];
            answered.resize(first.rows(), stage.layer.outputs());
            match below.last() {
                None => stage.layer.forward(&first, answered),
                Some(below) => stage.layer.forward(&below.passed().as_inputs(), answered),
            }
            check_finite(answered, l, plan.taken)?;
            if plan.dropout > 0.0 || stage.normalization == Normalization::Layer {
                let passed = passed.get_or_insert_default();
                passed.clone_from(answered);
                stage.normalization.apply(passed);
                answered.scale.copy_from_slice(&passed.scale);
                drop_out(plan.dropout, 0..passed.rows(), passed, dropout);
            } else {
                stage.normalization.apply(answered);
            }
            head.add(l, &at[0].passed().as_inputs(), answer, logits);
        }
        Ok(())
    }

    fn backward(&mut self, network: &mut Network, batch: &Batch, plan: &Plan<'_>, steps: (Step, Step)) -> Result<()> {
        let Backprop { rows, layers, head: head_d, uphill, below, .. } = self;
        let count = head_d.rows.len();
        // Nothing comes from above the highest layer.
        below.clear();
        below.resize(count * network.stages.last().map_or(0, |top| top.layer.outputs()), 0.0);
        let mut d = Directions { rows: (0..count as u32).collect(), ..Default::default() };
        for l in (0..network.depth()).rev() {
            let stage = &mut network.stages[l];
            // −∂loss/∂(what went up): from the layer above, to which the head adds its own.
            std::mem::swap(uphill, below);
            let head = network.head.as_mut().expect("checked: backpropagation starts at a head");
            head.backward(l, &head_d.values, uphill);
            head.update(l, &layers[l].passed().as_inputs(), head_d, &steps.1);

            let gated = stage.layer.learns();
            through_normalization(stage.normalization, &layers[l], plan.dropout, gated, uphill);
            std::mem::swap(&mut d.values, uphill);
            if l > 0 {
                below.clear();
                below.resize(count * stage.layer.inputs(), 0.0);
                let same_width = below.len() == d.values.len();
                if !gated && plan.straight_through && same_width {
                    below.copy_from_slice(&d.values);
                } else if !stage.layer.backward(&d.values, below) {
                    return Err(no_derivative(l));
                }
            }
            let x = match l {
                0 => rows.as_inputs(batch, None),
                l => layers[l - 1].passed().as_inputs(),
            };
            stage.layer.update(&x, &d, &steps.0);
            std::mem::swap(&mut d.values, uphill);
        }
        Ok(())
    }
}

/// What refuses backpropagation through layer `l`.
pub(crate) fn no_derivative(l: usize) -> Error {
    Error::setting(
        "rule",
        format!(
            "layer {l} has no derivative that backpropagation could go through, nor as many outputs as inputs to pass it straight \
             through: use \"forward-forward\", which needs none, or \"perturbation\""
        ),
    )
}

/// From `−∂loss/∂(what went up)` to `−∂loss/∂(the product's result)`, in place: `(R, O)`; `gated`: there was an activation function.
fn through_normalization(kind: Normalization, kept: &Kept, dropout: f32, gated: bool, uphill: &mut [f32]) {
    let (y, width) = (&kept.answered, kept.answered.width());
    uphill.par_chunks_exact_mut(width).enumerate().with_min_len(16).for_each(|(r, g)| {
        let (row, scale) = (y.row(r), y.scale[r]);
        vectorised!({
            if dropout > 0.0 {
                let passed = kept.passed().row(r);
                g.iter_mut().zip(passed).for_each(|(g, p)| *g = if *p == 0.0 { 0.0 } else { *g / (1.0 - dropout) });
            }
            // ŷ = s·(y − mean): its derivative, times s; ŷ's own direction carries nothing, for its length is fixed.
            let n = width as f32;
            let (mean, total) = match kind {
                Normalization::Layer => (row.iter().sum::<f32>() / n, g.iter().sum::<f32>()),
                _ => (0.0, 0.0),
            };
            let along = scale * (sum_of_products(row, g) - mean * total);
            let (along, shift) = match kind {
                Normalization::None => (0.0, 0.0),
                Normalization::Length => (along, 0.0),
                Normalization::Rms => (along / n, 0.0),
                Normalization::Layer => (along / n, total / n),
            };
            for (g, y) in g.iter_mut().zip(row) {
                *g = (*g - shift - along * (y - mean) * scale) * scale;
            }
            if gated {
                y.gate(r, g);
            }
        });
    });
}
