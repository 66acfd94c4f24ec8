//! Local layers: each location has weights of its own for what it sees (paper, sections 3.2 and 4).

use super::fields::{Field, Source, field};
use super::{Dense, Layer, Make};
use crate::Shape;
use crate::engine;
use crate::engine::cpu::sum_inputs;
use crate::engine::pool::Pool;
use crate::error::{Error, Result};
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs, Row};
use crate::random::Random;
use crate::settings::Fields;
use crate::tensor::{Tensor, transposed};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::ops::Range;

/// Rows that are gathered together: enough for fast products, and bounded memory.
const ROWS: usize = 256;

/// Receptive fields without weight sharing: each location is a small fully connected layer of its own.
#[derive(Debug)]
pub struct Local {
    inputs: usize,
    channels: usize,
    places: Vec<Place>,
    /// The most that a unit sees.
    longest: usize,
}

/// Memory of a call.
#[derive(Default)]
struct Work {
    /// Each location's answers.
    answers: Vec<Activity>,
    /// Inputs in full, where a label is written over them.
    full: Vec<f32>,
}

static WORK: Pool<Work> = Pool::new();

/// A location.
#[derive(Debug)]
struct Place {
    field: Field,
    layer: Box<dyn Layer>,
}

/// What a thread gathers for one location.
#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    d: Directions,
}

/// `N(0, 1)/sqrt(what a unit sees)` for every unit of a map, `(O, F)`: unit by unit what it sees in order, 0 where it sees
/// less than others, at the edges; and `F`.
pub(super) fn initial_units(
    fields: &Fields,
    sources: &[Source],
    shape: Shape,
    random: &mut Random,
) -> (Vec<f32>, usize) {
    let places = (0..shape.height).flat_map(|y| (0..shape.width).map(move |x| (y, x)));
    let seen: Vec<usize> = places.map(|(y, x)| field(fields, sources, y, x).len).collect();
    let longest = seen.iter().copied().max().unwrap_or(0);
    let mut units = vec![0.0; shape.len() * longest];
    for (&seen, units) in seen.iter().zip(units.chunks_exact_mut((shape.channels * longest).max(1))) {
        let gain = 1.0 / (seen as f64).sqrt();
        for i in 0..seen {
            for unit in units.chunks_exact_mut(longest) {
                unit[i] = (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32;
            }
        }
    }
    (units, longest)
}

impl Local {
    /// A layer with `N(0, 1)/sqrt(what a unit sees)` as weights; `shape` is the map of its activity.
    pub fn new(fields: &Fields, sources: &[Source], shape: Shape, make: Make, random: &mut Random) -> Self {
        let (units, longest) = initial_units(fields, sources, shape, random);
        let channels = shape.channels;
        let mut places = Vec::with_capacity(shape.height * shape.width);
        for (at, units) in units.chunks_exact((channels * longest).max(1)).enumerate() {
            let field = field(fields, sources, at / shape.width, at % shape.width);
            let seen: Vec<f32> = units.chunks_exact(longest).flat_map(|unit| &unit[..field.len]).copied().collect();
            let dense = Dense {
                inputs: field.len,
                outputs: channels,
                activation: make.activation,
                bias: true,
                weights: transposed(&seen, channels, field.len),
            };
            places.push(Place { field, layer: engine::dense(make.precision, dense) });
        }
        Local { inputs: sources.iter().map(Source::len).sum(), channels, places, longest }
    }

    fn answer(&self, x: &Inputs<'_>, y: &mut Activity, Work { answers, full }: &mut Work) {
        let outputs = self.outputs();
        answers.resize_with(answers.len().max(self.places.len()), Activity::default);
        for first in (0..x.rows()).step_by(ROWS) {
            let rows = first..(first + ROWS).min(x.rows());
            let read = x.rows_of(rows.clone(), full);
            let scale: Vec<f32> = read.iter().map(|row| row.1).collect();
            let parts = self.places.par_iter().zip(answers.par_iter_mut());
            parts.for_each_init(Scratch::default, |Scratch { x, .. }, (place, answer)| {
                place.gather(&read, x);
                answer.resize(rows.len(), self.channels);
                place.layer.forward(&Inputs::plain(x, place.field.len, &scale), answer);
            });
            let answers = &answers[..self.places.len()];
            if answers.iter().any(|answer| !answer.derivative.is_empty()) {
                y.derivative.resize(y.values.len(), 0.0);
                let derivative = y.derivative[rows.start * outputs..rows.end * outputs].par_chunks_exact_mut(outputs);
                derivative.enumerate().with_min_len(8).for_each(|(r, row)| {
                    for (to, answer) in row.chunks_exact_mut(self.channels).zip(answers) {
                        to.copy_from_slice(&answer.derivative[r * self.channels..][..self.channels]);
                    }
                });
            }
            let ys = y.values[rows.start * outputs..rows.end * outputs].par_chunks_exact_mut(outputs);
            ys.zip(&mut y.squares[rows.clone()]).enumerate().with_min_len(8).for_each(|(r, (y, squares))| {
                for (y, answer) in y.chunks_exact_mut(self.channels).zip(answers) {
                    y.copy_from_slice(answer.row(r));
                }
                *squares = engine::vectorised!(engine::sum_of_squares(y));
            });
        }
    }
}

impl Place {
    /// What the location sees of `rows`, row after row, without their scale.
    fn gather(&self, rows: &[Row<'_>], x: &mut Vec<f32>) {
        x.clear();
        for (row, _) in rows {
            for run in &self.field.runs {
                x.extend_from_slice(&row[run.from..][..run.len]);
            }
        }
    }

    /// What the location has to learn from: what it sees, and where its units should go.
    fn load(&self, Examples { rows, directions }: &Examples<'_>, units: Range<usize>, scratch: &mut Scratch) {
        self.gather(rows, &mut scratch.x);
        let Directions { values: d, rows: numbers, .. } = &mut scratch.d;
        d.clear();
        directions.iter().for_each(|row| d.extend_from_slice(&row[units.clone()]));
        numbers.clear();
        numbers.extend(0..rows.len() as u32);
    }
}

impl Layer for Local {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.places.len() * self.channels
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.outputs());
        WORK.with(|work| self.answer(x, y, work));
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let (channels, shared) = (self.channels, shared_row(x, d));
        WORK.with(|Work { full, .. }| {
            let examples = Examples::new(x, d, shared.as_ref(), full);
            let scale: Vec<f32> = examples.rows.iter().map(|row| row.1).collect();
            self.places.par_iter_mut().enumerate().for_each_init(Scratch::default, |scratch, (at, place)| {
                place.load(&examples, at * channels..(at + 1) * channels, scratch);
                place.layer.update(&Inputs::plain(&scratch.x, place.field.len, &scale), &scratch.d, step);
            });
        });
    }

    fn gradient_len(&self) -> usize {
        self.places.iter().map(|place| place.layer.gradient_len()).sum()
    }

    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        let (channels, shared) = (self.channels, shared_row(x, d));
        WORK.with(|Work { full, .. }| {
            let examples = Examples::new(x, d, shared.as_ref(), full);
            let scale: Vec<f32> = examples.rows.iter().map(|row| row.1).collect();
            let mut rest = gradient;
            let parts: Vec<_> =
                self.places.iter().map(|place| rest.split_off_mut(..place.layer.gradient_len())).collect();
            let places = self.places.par_iter().zip(parts).enumerate();
            places.for_each_init(Scratch::default, |scratch, (at, (place, part))| {
                let part = part.expect("it is as long as all of them");
                place.load(&examples, at * channels..(at + 1) * channels, scratch);
                place.layer.add_gradient(&Inputs::plain(&scratch.x, place.field.len, &scale), &scratch.d, part);
            });
        });
    }

    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        let mut rest = gradient;
        for place in &mut self.places {
            let (part, others) = rest.split_at(place.layer.gradient_len());
            place.layer.step_along(part, step);
            rest = others;
        }
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        let (rows, channels, outputs) = (dx.len() / self.inputs, self.channels, self.outputs());
        let part = |(at, place): (usize, &Place)| {
            let d: Vec<f32> = d.chunks_exact(outputs).flat_map(|d| &d[at * channels..][..channels]).copied().collect();
            let mut part = vec![0.0; rows * place.field.len];
            place.layer.backward(&d, &mut part);
            part
        };
        let parts: Vec<Vec<f32>> = self.places.par_iter().enumerate().map(part).collect();
        dx.par_chunks_exact_mut(self.inputs).enumerate().for_each(|(r, dx)| {
            for (place, part) in self.places.iter().zip(&parts) {
                place.field.scatter_add(&part[r * place.field.len..][..place.field.len], dx);
            }
        });
        true
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        let places = self.places.par_iter_mut().enumerate();
        places.all(|(at, place)| place.layer.perturb(seed ^ (at as u64 + 1) << 40, step, amount))
    }

    fn equalise(&mut self) -> bool {
        self.places.par_iter_mut().map(|place| place.layer.equalise()).reduce(|| true, |a, b| a && b)
    }

    fn tensors(&self) -> Vec<Tensor> {
        let places: Vec<Vec<Tensor>> = self.places.iter().map(|place| place.layer.tensors()).collect();
        (0..places[0].len())
            .map(|t| {
                let parts: Vec<&Tensor> = places.iter().map(|tensors| &tensors[t]).collect();
                Tensor::stacked(&parts, self.longest)
            })
            .collect()
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let (outputs, channels, longest) = (self.outputs(), self.channels, self.longest);
        for tensor in tensors {
            let expected = if tensor.shape.len() == 2 { vec![outputs, longest] } else { vec![outputs] };
            if tensor.shape != expected {
                let (name, shape) = (&tensor.name, &tensor.shape);
                return Err(Error::Data(format!("tensor `{name}` has shape {shape:?}, expected {expected:?}")));
            }
        }
        self.places.par_iter_mut().enumerate().try_for_each(|(at, place)| {
            let rows = at * channels..(at + 1) * channels;
            let part: Vec<Tensor> = tensors.iter().map(|t| t.rows(rows.clone(), place.field.len)).collect();
            place.layer.restore(&part)
        })
    }

    fn parameters(&self) -> usize {
        self.places.iter().map(|place| place.layer.parameters()).sum()
    }

    fn weight_rms(&self) -> f32 {
        let (mut squares, mut count) = (0.0, 0);
        for place in &self.places {
            squares += f64::from(place.layer.weight_rms()).powi(2) * place.layer.parameters() as f64;
            count += place.layer.parameters();
        }
        (squares / count as f64).sqrt() as f32
    }
}

/// The rows that a layer learns from, where they lie, and the direction `(O)` of each.
#[derive(Debug)]
pub(super) struct Examples<'a> {
    pub rows: Vec<Row<'a>>,
    pub directions: Vec<&'a [f32]>,
}

impl<'a> Examples<'a> {
    /// The rows of `x` that have a direction of their own, and then `shared`, which is [`shared_row`]'s. `full` has rows that a
    /// code is written over.
    pub fn new(
        x: &Inputs<'a>,
        d: &'a Directions,
        shared: Option<&'a (Vec<f32>, Vec<f32>)>,
        full: &'a mut Vec<f32>,
    ) -> Self {
        let mut rows = x.rows_of(d.rows.iter().map(|&r| r as usize), full);
        let outputs = d.values.len() / d.rows.len().max(1);
        let mut directions: Vec<&[f32]> = d.values.chunks_exact(outputs.max(1)).collect();
        if let Some((mean, along)) = shared {
            rows.push((mean, 1.0));
            directions.push(along);
        }
        Examples { rows, directions }
    }
}

/// The row `(I)` and the direction `(O)` that stand for the direction that many rows share: `Σ_r x̂_r ⊗ shared` is
/// `mean(x̂) ⊗ (count · shared)`, and so is what the bias learns.
pub(super) fn shared_row(x: &Inputs<'_>, d: &Directions) -> Option<(Vec<f32>, Vec<f32>)> {
    let count = d.shared_rows.len() as f32;
    (!d.shared.is_empty() && !d.shared_rows.is_empty()).then(|| {
        let mut mean = Vec::new();
        sum_inputs(x, d, &mut mean);
        mean.iter_mut().for_each(|sum| *sum /= count);
        (mean, d.shared.iter().map(|d| count * d).collect())
    })
}
