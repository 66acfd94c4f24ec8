//! Convolution layers: all locations share their weights.

use super::fields::{Field, Source, map, padded_field};
use super::local::{Gathered, gather_rows};
use super::{Activation, Dense, Layer};
use crate::Shape;
use crate::engine;
use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::Random;
use crate::settings::{Fields, Precision};
use crate::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

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
    /// The rows' fields, and what they answer.
    work: Mutex<(Vec<f32>, Activity)>,
}

impl Conv {
    /// A layer with `N(0, 1)/sqrt(a field's size)` as weights, and the map of its activity.
    ///
    /// # Errors
    /// As [`map`]; `key` names the setting.
    pub fn new(
        fields: &Fields,
        sources: &[Source],
        precision: Precision,
        random: &mut Random,
        key: &str,
    ) -> Result<(Self, Shape)> {
        let shape = map(fields, sources, key)?;
        let locations = (0..shape.height).flat_map(|y| (0..shape.width).map(move |x| (y, x)));
        let all: Vec<Field> = locations.map(|(y, x)| padded_field(fields, sources, y, x)).collect();
        let (inputs, outputs) = (all[0].len, fields.channels);
        let gain = 1.0 / (inputs as f64).sqrt();
        let weights = (0..inputs * outputs)
            .map(|_| (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32)
            .collect();
        let dense = Dense { inputs, outputs, activation: Activation::Relu, bias: true, weights, mask: None };
        let layer = engine::dense(precision, dense);
        let inputs = sources.iter().map(Source::len).sum();
        Ok((Conv { inputs, channels: outputs, fields: all, layer, work: Mutex::default() }, shape))
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
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let (gathered, answer) = &mut *work;
        for first in (0..x.rows()).step_by(self.rows_each()) {
            let rows = first..(first + self.rows_each()).min(x.rows());
            self.gather(&x.dense_rows(rows.clone()), gathered);
            let scale = vec![1.0; rows.len() * locations];
            answer.resize(scale.len(), self.channels);
            let (width, scale) = (self.layer.inputs(), &scale[..]);
            let fields = Inputs { values: gathered, width, source: None, codes: None, base: None, scale };
            self.layer.forward(&fields, answer);
            y.values[rows.start * outputs..rows.end * outputs].copy_from_slice(&answer.values);
            for (squares, parts) in y.squares[rows].iter_mut().zip(answer.squares.chunks_exact(locations)) {
                *squares = parts.iter().sum();
            }
        }
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let Gathered { values, directions, rows } = gather_rows(x, d, self.outputs());
        let mut fields = Vec::new();
        self.gather(&values, &mut fields);
        let count = rows * self.fields.len();
        let scale = vec![1.0; count];
        let x = Inputs {
            values: &fields,
            width: self.layer.inputs(),
            source: None,
            codes: None,
            base: None,
            scale: &scale,
        };
        let d = Directions { rows: (0..count as u32).collect(), values: directions, ..Default::default() };
        self.layer.update(&x, &d, step);
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
}
