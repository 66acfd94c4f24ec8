//! Convolution layers: all locations share their weights.

use super::fields::{Field, Source, padded_field};
use super::local::{Gathered, gather_rows, plain};
use super::{Activation, Dense, Layer};
use crate::Shape;
use crate::engine;
use crate::engine::pool::Pool;
use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::Random;
use crate::settings::{Fields, Precision};
use crate::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Numbers that are gathered together, about: bounded memory.
const GATHERED: usize = 1 << 21;

/// Receptive fields that share their weights: one product of every field of every row.
#[derive(Debug)]
pub struct Conv {
    inputs: usize,
    channels: usize,
    /// What each location sees, row by row.
    fields: Vec<Field>,
    layer: Box<dyn Layer>,
}

/// Some rows' fields, and what they answer.
static WORK: Pool<(Vec<f32>, Activity)> = Pool::new();

impl Conv {
    /// A layer with `N(0, 1)/sqrt(a field's size)` as weights; `shape` is the map of its activity.
    pub fn new(fields: &Fields, sources: &[Source], shape: Shape, precision: Precision, random: &mut Random) -> Self {
        let locations = (0..shape.height).flat_map(|y| (0..shape.width).map(move |x| (y, x)));
        let all: Vec<Field> = locations.map(|(y, x)| padded_field(fields, sources, y, x)).collect();
        let (inputs, outputs) = (all[0].len, fields.channels);
        let gain = 1.0 / (inputs as f64).sqrt();
        let weights = (0..inputs * outputs)
            .map(|_| (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32)
            .collect();
        let dense = Dense { inputs, outputs, activation: Activation::Relu, bias: true, weights };
        let layer = engine::dense(precision, dense);
        let inputs = sources.iter().map(Source::len).sum();
        Conv { inputs, channels: outputs, fields: all, layer }
    }

    /// The fields of rows `(rows, I)`: `(rows · locations, field)`.
    fn gather(&self, values: &[f32], to: &mut Vec<f32>) {
        let length = self.layer.inputs();
        to.clear();
        to.resize(values.len() / self.inputs * self.fields.len() * length, 0.0);
        let rows = to.par_chunks_exact_mut(self.fields.len() * length).zip(values.par_chunks_exact(self.inputs));
        rows.for_each(|(to, row)| {
            self.fields.iter().zip(to.chunks_exact_mut(length)).for_each(|(field, to)| field.gather(row, to));
        });
    }

    fn rows_each(&self) -> usize {
        (GATHERED / (self.fields.len() * self.layer.inputs())).max(1)
    }
}

impl Layer for Conv {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.fields.len() * self.channels
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        let (outputs, locations) = (self.outputs(), self.fields.len());
        y.resize(x.rows(), outputs);
        WORK.with(|(gathered, answer)| {
            for first in (0..x.rows()).step_by(self.rows_each()) {
                let rows = first..(first + self.rows_each()).min(x.rows());
                self.gather(&x.dense_rows(rows.clone()), gathered);
                let scale = vec![1.0; rows.len() * locations];
                answer.resize(scale.len(), self.channels);
                self.layer.forward(&plain(gathered, self.layer.inputs(), &scale), answer);
                y.values[rows.start * outputs..rows.end * outputs].copy_from_slice(&answer.values);
                for (squares, parts) in y.squares[rows].iter_mut().zip(answer.squares.chunks_exact(locations)) {
                    *squares = parts.iter().sum();
                }
            }
        });
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let Gathered { values, directions, rows } = gather_rows(x, d, self.outputs());
        // In parts, as many rows as fit: the smoothed gradients of the parts add up. Adam's squares would not.
        let each = if matches!(step, Step::Smoothed { .. }) { self.rows_each() } else { rows.max(1) };
        let parts = rows.div_ceil(each).max(1);
        WORK.with(|(fields, _)| {
            for part in 0..parts {
                let rows = part * each..((part + 1) * each).min(rows);
                self.gather(&values[rows.start * self.inputs..rows.end * self.inputs], fields);
                let count = rows.len() * self.fields.len();
                let scale = vec![1.0; count];
                let (from, to) = (rows.start * self.outputs(), rows.end * self.outputs());
                let d = Directions {
                    rows: (0..count as u32).collect(),
                    values: directions[from..to].to_vec(),
                    ..Default::default()
                };
                let step = step.part(part == 0, part + 1 == parts);
                self.layer.update(&plain(fields, self.layer.inputs(), &scale), &d, &step);
            }
        });
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        let (inputs, length, locations) = (self.inputs, self.layer.inputs(), self.fields.len());
        let mut fields = Vec::new();
        let parts = d.chunks(self.rows_each() * self.outputs()).zip(dx.chunks_mut(self.rows_each() * inputs));
        for (d, dx) in parts {
            fields.clear();
            fields.resize(dx.len() / inputs * locations * length, 0.0);
            self.layer.backward(d, &mut fields);
            dx.par_chunks_exact_mut(inputs).zip(fields.par_chunks_exact(locations * length)).for_each(|(dx, parts)| {
                self.fields
                    .iter()
                    .zip(parts.chunks_exact(length))
                    .for_each(|(field, part)| field.scatter_add(part, dx));
            });
        }
        true
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        self.layer.perturb(seed, step, amount)
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.layer.tensors()
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        self.layer.restore(tensors)
    }

    fn parameters(&self) -> usize {
        self.layer.parameters()
    }

    fn weight_rms(&self) -> f32 {
        self.layer.weight_rms()
    }

    fn multiply_adds(&self) -> usize {
        self.layer.parameters() * self.fields.len()
    }
}
