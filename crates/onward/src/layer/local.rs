//! Local layers: each location has weights of its own for what it sees (paper, sections 3.2 and 4).

use super::fields::{Field, Source, field};
use super::{Activation, Dense, Layer, Make};
use crate::Shape;
use crate::engine;
use crate::engine::cpu::sum_inputs;
use crate::engine::pool::Pool;
use crate::error::{Error, Result};
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
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
    /// Whether answers come with their derivatives.
    sloped: bool,
}

/// The locations' answers, one after another.
static ANSWERS: Pool<Vec<f32>> = Pool::new();

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
    y: Activity,
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
        Local {
            inputs: sources.iter().map(Source::len).sum(),
            channels,
            places,
            longest,
            sloped: make.activation != Activation::Relu,
        }
    }

    fn answer(&self, x: &Inputs<'_>, y: &mut Activity, answers: &mut Vec<f32>) {
        let outputs = self.outputs();
        for first in (0..x.rows()).step_by(ROWS) {
            let rows = first..(first + ROWS).min(x.rows());
            let (full, ones);
            let (values, scale) = if x.source.is_none() && x.codes.is_none() {
                (&x.values[rows.start * x.width..rows.end * x.width], &x.scale[rows.clone()])
            } else {
                full = x.dense_rows(rows.clone());
                ones = vec![1.0; rows.len()];
                (&full[..], &ones[..])
            };
            let size = rows.len() * self.channels;
            // Each location's answers, and then their derivatives.
            let both = if self.sloped { 2 * size } else { size };
            answers.resize(self.places.len() * both, 0.0);
            let parts = self.places.par_iter().zip(answers.par_chunks_exact_mut(both));
            parts.for_each_init(Scratch::default, |Scratch { x, y, .. }, (place, part)| {
                place.gather(values.chunks_exact(self.inputs), x);
                y.resize(rows.len(), self.channels);
                place.layer.forward(&plain(x, place.field.len, scale), y);
                part[..size].copy_from_slice(&y.values);
                part[size..].copy_from_slice(&y.derivative);
            });
            if self.sloped {
                y.derivative.resize(y.values.len(), 0.0);
                let rows = y.derivative[rows.start * outputs..rows.end * outputs].par_chunks_exact_mut(outputs);
                rows.enumerate().with_min_len(8).for_each(|(r, row)| {
                    for (to, from) in row.chunks_exact_mut(self.channels).zip(answers.chunks_exact(both)) {
                        to.copy_from_slice(&from[size + r * self.channels..][..self.channels]);
                    }
                });
            }
            let ys = y.values[rows.start * outputs..rows.end * outputs].par_chunks_exact_mut(outputs);
            ys.zip(&mut y.squares[rows.clone()]).enumerate().with_min_len(8).for_each(|(r, (y, squares))| {
                for (y, from) in y.chunks_exact_mut(self.channels).zip(answers.chunks_exact(both)) {
                    y.copy_from_slice(&from[r * self.channels..][..self.channels]);
                }
                *squares = engine::vectorised!(engine::sum_of_squares(y));
            });
        }
    }
}

impl Place {
    /// What the location sees of `rows`, row after row.
    fn gather<'r>(&self, rows: impl Iterator<Item = &'r [f32]>, x: &mut Vec<f32>) {
        x.clear();
        for row in rows {
            for run in &self.field.runs {
                x.extend_from_slice(&row[run.from..][..run.len]);
            }
        }
    }

    /// What the location has to learn from, of rows of so many inputs and outputs: what it sees, and where its units should go.
    fn load(
        &self,
        Gathered { values, directions, rows }: &Gathered,
        (inputs, outputs): (usize, usize),
        units: Range<usize>,
        scratch: &mut Scratch,
    ) {
        self.gather(values.chunks_exact(inputs), &mut scratch.x);
        let Directions { values: d, rows: numbers, .. } = &mut scratch.d;
        d.clear();
        directions.chunks_exact(outputs).for_each(|row| d.extend_from_slice(&row[units.clone()]));
        numbers.clear();
        numbers.extend(0..*rows as u32);
    }
}

/// Plain rows: `width` values each, every one of them scaled.
pub(super) fn plain<'a>(values: &'a [f32], width: usize, scale: &'a [f32]) -> Inputs<'a> {
    Inputs { values, width, source: None, codes: None, base: None, scale }
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
        ANSWERS.with(|answers| self.answer(x, y, answers));
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let (channels, outputs) = (self.channels, self.outputs());
        GATHERED.with(|gathered| {
            gather_rows(x, d, outputs, gathered);
            let scale = vec![1.0; gathered.rows];
            self.places.par_iter_mut().enumerate().for_each_init(Scratch::default, |scratch, (at, place)| {
                place.load(gathered, (x.width, outputs), at * channels..(at + 1) * channels, scratch);
                place.layer.update(&plain(&scratch.x, place.field.len, &scale), &scratch.d, step);
            });
        });
    }

    fn gradient_len(&self) -> usize {
        self.places.iter().map(|place| place.layer.gradient_len()).sum()
    }

    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        let (channels, outputs) = (self.channels, self.outputs());
        GATHERED.with(|gathered| {
            gather_rows(x, d, outputs, gathered);
            let scale = vec![1.0; gathered.rows];
            let mut rest = gradient;
            let parts: Vec<_> =
                self.places.iter().map(|place| rest.split_off_mut(..place.layer.gradient_len())).collect();
            let places = self.places.par_iter().zip(parts).enumerate();
            places.for_each_init(Scratch::default, |scratch, (at, (place, part))| {
                let part = part.expect("it is as long as all of them");
                place.load(gathered, (x.width, outputs), at * channels..(at + 1) * channels, scratch);
                place.layer.add_gradient(&plain(&scratch.x, place.field.len, &scale), &scratch.d, part);
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

/// The rows that a layer learns from, written out.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// `x̂: (rows, I)`.
    pub values: Vec<f32>,
    /// `d: (rows, O)`.
    pub directions: Vec<f32>,
    /// How many they are.
    pub rows: usize,
}

/// Memory for [`gather_rows`].
pub(super) static GATHERED: Pool<Gathered> = Pool::new();

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

/// The rows of `x` that have a direction of their own, and then the one that stands for a shared direction.
pub(super) fn gather_rows(x: &Inputs<'_>, d: &Directions, outputs: usize, to: &mut Gathered) {
    let Gathered { values, directions, rows } = to;
    let (shared, given) = (shared_row(x, d), d.rows.len());
    *rows = given + usize::from(shared.is_some());
    values.resize(*rows * x.width, 0.0);
    let read = values.par_chunks_exact_mut(x.width).zip(&d.rows);
    read.for_each(|(to, &r)| engine::vectorised!(x.read(r as usize, to)));
    directions.resize(*rows * outputs, 0.0);
    let copied = directions.par_chunks_exact_mut(outputs).zip(d.values.par_chunks_exact(outputs));
    copied.for_each(|(to, d)| to.copy_from_slice(d));
    if let Some((mean, along)) = shared {
        values[given * x.width..].copy_from_slice(&mean);
        directions[given * outputs..].copy_from_slice(&along);
    }
}
