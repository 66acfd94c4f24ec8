//! Convolution layers: all locations share their weights.

use super::fields::{Field, Source, padded_field};
use super::local::{Examples, shared_row};
use super::{Dense, Layer, Make};
use crate::Shape;
use crate::engine;
use crate::engine::cpu::aligned::Aligned;
use crate::engine::pool::Pool;
use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs, Row};
use crate::random::Random;
use crate::settings::Fields;
use crate::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers of fields and answers that are at work together on the way up, about: what the caches hold.
const FORWARD: usize = 1 << 19;

/// The same where each part is a pass over the weights too: bounded memory.
const PART: usize = 1 << 21;

/// Fields that a thread gathers at a time.
const FIELDS_EACH: usize = 16;

/// Numbers that a thread copies at a time.
const COPIED: usize = 1 << 14;

/// Receptive fields that share their weights: one product of every field of every row.
#[derive(Debug)]
pub struct Conv {
    inputs: usize,
    channels: usize,
    /// What each location sees, row by row.
    fields: Vec<Field>,
    layer: Box<dyn Layer>,
}

/// Some rows' fields, and what they answer or learn.
#[derive(Default)]
struct Work {
    full: Vec<f32>,
    fields: Aligned<f32>,
    answer: Activity,
    d: Directions,
}

static WORK: Pool<Work> = Pool::new();

impl Conv {
    /// A layer with `N(0, 1)/sqrt(a field's size)` as weights; `shape` is the map of its activity.
    pub fn new(fields: &Fields, sources: &[Source], shape: Shape, make: Make, random: &mut Random) -> Self {
        let locations = (0..shape.height).flat_map(|y| (0..shape.width).map(move |x| (y, x)));
        let all: Vec<Field> = locations.map(|(y, x)| padded_field(fields, sources, y, x)).collect();
        let (inputs, outputs) = (all[0].len, fields.channels);
        let gain = 1.0 / (inputs as f64).sqrt();
        let weights = (0..inputs * outputs)
            .map(|_| (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32)
            .collect();
        let dense = Dense { inputs, outputs, activation: make.activation, bias: true, weights };
        let layer = engine::dense(make.precision, dense);
        let inputs = sources.iter().map(Source::len).sum();
        Conv { inputs, channels: outputs, fields: all, layer }
    }

    /// The fields of some rows, `(rows · locations, field)`, without their scale.
    fn gather(&self, rows: &[Row<'_>], to: &mut Aligned<f32>) {
        let (length, locations) = (self.layer.inputs(), self.fields.len());
        to.resize(rows.len() * locations * length);
        to.par_chunks_mut(FIELDS_EACH * length).enumerate().for_each(|(chunk, to)| {
            for (i, to) in to.chunks_exact_mut(length).enumerate() {
                let at = chunk * FIELDS_EACH + i;
                self.fields[at % locations].gather(rows[at / locations].0, to);
            }
        });
    }

    /// The scale of every field of some rows.
    fn scale(&self, rows: &[Row<'_>]) -> Vec<f32> {
        rows.iter().flat_map(|row| std::iter::repeat_n(row.1, self.fields.len())).collect()
    }

    /// Some of what there is to learn from, as fields with their directions, and the fields' scale.
    fn load(
        &self,
        examples: &Examples<'_>,
        which: Range<usize>,
        fields: &mut Aligned<f32>,
        d: &mut Directions,
    ) -> Vec<f32> {
        let (rows, directions) = (&examples.rows[which.clone()], &examples.directions[which]);
        self.gather(rows, fields);
        d.rows.clear();
        d.rows.extend(0..(rows.len() * self.fields.len()) as u32);
        d.values.resize(rows.len() * self.outputs(), 0.0);
        let copied = d.values.par_chunks_exact_mut(self.outputs()).zip(directions);
        copied.for_each(|(to, from)| to.copy_from_slice(from));
        self.scale(rows)
    }

    /// As many rows as make about so many numbers.
    fn rows_each(&self, numbers: usize) -> usize {
        (numbers / (self.fields.len() * (self.layer.inputs() + self.channels))).max(1)
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
        let (outputs, locations, each) = (self.outputs(), self.fields.len(), self.rows_each(FORWARD));
        y.resize(x.rows(), outputs);
        WORK.with(|Work { full, fields, answer, .. }| {
            for first in (0..x.rows()).step_by(each) {
                let rows = first..(first + each).min(x.rows());
                let read = x.rows_of(rows.clone(), full);
                self.gather(&read, fields);
                let scale = self.scale(&read);
                answer.resize(scale.len(), self.channels);
                self.layer.forward(&Inputs::plain(fields, self.layer.inputs(), &scale), answer);
                let to = y.values[rows.start * outputs..rows.end * outputs].par_chunks_mut(COPIED);
                to.zip(answer.values.par_chunks(COPIED)).for_each(|(to, from)| to.copy_from_slice(from));
                y.derivative.extend_from_slice(&answer.derivative);
                for (squares, parts) in y.squares[rows].iter_mut().zip(answer.squares.chunks_exact(locations)) {
                    *squares = parts.iter().sum();
                }
            }
        });
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let shared = shared_row(x, d);
        WORK.with(|Work { full, fields, d: directions, .. }| {
            let examples = Examples::new(x, d, shared.as_ref(), full);
            let count = examples.rows.len();
            // In parts, as many rows as fit: the smoothed gradients of the parts add up. Adam's squares would not.
            let each = if matches!(step, Step::Smoothed { .. }) { self.rows_each(PART) } else { count.max(1) };
            let parts = count.div_ceil(each).max(1);
            for part in 0..parts {
                let scale = self.load(&examples, part * each..((part + 1) * each).min(count), fields, directions);
                let step = step.part(part == 0, part + 1 == parts);
                self.layer.update(&Inputs::plain(fields, self.layer.inputs(), &scale), directions, &step);
            }
        });
    }

    fn gradient_len(&self) -> usize {
        self.layer.gradient_len()
    }

    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        let shared = shared_row(x, d);
        WORK.with(|Work { full, fields, d: directions, .. }| {
            let examples = Examples::new(x, d, shared.as_ref(), full);
            let (count, each) = (examples.rows.len(), self.rows_each(PART));
            for first in (0..count).step_by(each) {
                let scale = self.load(&examples, first..(first + each).min(count), fields, directions);
                let fields = Inputs::plain(fields, self.layer.inputs(), &scale);
                self.layer.add_gradient(&fields, directions, gradient);
            }
        });
    }

    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        self.layer.step_along(gradient, step);
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        let (inputs, length, locations) = (self.inputs, self.layer.inputs(), self.fields.len());
        let mut fields = Vec::new();
        let each = self.rows_each(PART);
        let parts = d.chunks(each * self.outputs()).zip(dx.chunks_mut(each * inputs));
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

    fn equalise(&mut self) -> bool {
        self.layer.equalise()
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
