//! Local layers: each location has weights of its own for what it sees (paper, sections 3.2 and 4).

use super::fields::{Field, Run, Source, field, map};
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
use std::ops::Range;

/// Rows that are gathered together: enough for fast products, and bounded memory.
const ROWS: usize = 256;

/// Units that a product computes at once; blocks of locations are made about this wide.
const BLOCK: usize = 48;

/// Receptive fields without weight sharing.
///
/// Each block of neighbouring locations is one product: of a single location where it has many channels, of several where
/// it has few. What one location of a block sees and another does not has weights that stay 0.
#[derive(Debug)]
pub struct Local {
    inputs: usize,
    outputs: usize,
    blocks: Vec<Block>,
}

/// The blocks' answers, block by block.
static ANSWERS: Pool<Vec<f32>> = Pool::new();

/// Some neighbouring locations.
#[derive(Debug)]
struct Block {
    field: Field,
    /// Where its units are among the layer's.
    units: Vec<Run>,
    layer: Box<dyn Layer>,
}

/// What a thread gathers for one block.
#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    y: Activity,
    d: Directions,
}

impl Local {
    /// A layer with `N(0, 1)/sqrt(what a unit sees)` as weights, and the map of its activity.
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
        let side = (BLOCK as f64 / fields.channels as f64).sqrt().max(1.0) as usize;
        let cuts = |size: usize| (0..size).step_by(side).map(move |at| at..(at + side).min(size));
        let mut blocks = Vec::new();
        for rows in cuts(shape.height) {
            for columns in cuts(shape.width) {
                blocks.push(Block::new(fields, sources, shape, rows.clone(), columns, precision, random));
            }
        }
        let inputs = sources.iter().map(Source::len).sum();
        Ok((Local { inputs, outputs: shape.len(), blocks }, shape))
    }
}

impl Local {
    fn answer(&self, x: &Inputs<'_>, y: &mut Activity, answers: &mut Vec<f32>) {
        for first in (0..x.rows()).step_by(ROWS) {
            let rows = first..(first + ROWS).min(x.rows());
            let (full, scale);
            let plain_rows = x.source.is_none() && x.codes.is_none();
            let (values, scale) = if plain_rows {
                (&x.values[rows.start * x.width..rows.end * x.width], &x.scale[rows.clone()])
            } else {
                full = x.dense_rows(rows.clone());
                scale = vec![1.0; rows.len()];
                (&full[..], &scale[..])
            };
            answers.resize(rows.len() * self.outputs, 0.0);
            let mut rest = &mut answers[..];
            let mut parts = Vec::with_capacity(self.blocks.len());
            for block in &self.blocks {
                let (part, after) = rest.split_at_mut(rows.len() * block.layer.outputs());
                parts.push(part);
                rest = after;
            }
            self.blocks.par_iter().zip(parts).for_each_init(Scratch::default, |Scratch { x, y, .. }, (block, part)| {
                block.gather(values.chunks_exact(self.inputs), x);
                y.resize(rows.len(), block.layer.outputs());
                block.layer.forward(&plain(x, block.field.len, scale), y);
                part.copy_from_slice(&y.values);
            });
            let ys = y.values[rows.start * self.outputs..rows.end * self.outputs].par_chunks_exact_mut(self.outputs);
            ys.zip(&mut y.squares[rows.clone()]).enumerate().with_min_len(8).for_each(|(r, (y, squares))| {
                let mut at = 0;
                for block in &self.blocks {
                    let outputs = block.layer.outputs();
                    let from = &answers[at + r * outputs..][..outputs];
                    block.units.iter().for_each(|u| y[u.from..][..u.len].copy_from_slice(&from[u.to..][..u.len]));
                    at += rows.len() * outputs;
                }
                *squares = engine::sum_of_squares(y);
            });
        }
    }
}

impl Block {
    fn new(
        fields: &Fields,
        sources: &[Source],
        map: Shape,
        rows: Range<usize>,
        columns: Range<usize>,
        precision: Precision,
        random: &mut Random,
    ) -> Self {
        let seen = field(fields, sources, rows.clone(), columns.clone());
        let locations = rows.len() * columns.len();
        let (inputs, outputs) = (seen.len, locations * map.channels);
        let width = columns.len() * map.channels;
        let units = rows.clone().enumerate().map(|(i, row)| {
            let from = (row * map.width + columns.start) * map.channels;
            Run { from, to: i * width, len: width }
        });
        let units = units.collect();
        // Which of the block's inputs each location sees: by index in the layer's inputs.
        let place: Vec<usize> = seen.runs.iter().flat_map(|run| run.from..run.from + run.len).collect();
        debug_assert!(place.is_sorted());
        let mut mask = vec![false; inputs * outputs];
        let mut weights = vec![0.0; inputs * outputs];
        let places = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
        for (at, (row, column)) in places.enumerate() {
            let own = field(fields, sources, row..row + 1, column..column + 1);
            let gain = 1.0 / (own.len as f64).sqrt();
            for index in own.runs.iter().flat_map(|run| run.from..run.from + run.len) {
                let i = place.binary_search(&index).expect("a block sees what its locations see");
                for o in at * map.channels..(at + 1) * map.channels {
                    mask[i * outputs + o] = true;
                    weights[i * outputs + o] = (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32;
                }
            }
        }
        let mask = (locations > 1).then_some(mask);
        let dense = Dense { inputs, outputs, activation: Activation::Relu, bias: true, weights, mask };
        Block { field: seen, units, layer: engine::dense(precision, dense) }
    }

    /// What the block sees of `rows`, row after row.
    fn gather<'r>(&self, rows: impl Iterator<Item = &'r [f32]>, x: &mut Vec<f32>) {
        x.clear();
        for row in rows {
            for run in &self.field.runs {
                x.extend_from_slice(&row[run.from..][..run.len]);
            }
        }
    }

    /// The block's columns of rows of `d: (O)`, row after row.
    fn columns<'r>(&self, rows: impl Iterator<Item = &'r [f32]>, d: &mut Vec<f32>) {
        d.clear();
        for row in rows {
            for run in &self.units {
                d.extend_from_slice(&row[run.from..][..run.len]);
            }
        }
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
        self.outputs
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.outputs);
        ANSWERS.with(|answers| self.answer(x, y, answers));
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let Gathered { values, directions, rows } = gather_rows(x, d, self.outputs);
        let scale = vec![1.0; rows];
        self.blocks.par_iter_mut().for_each_init(Scratch::default, |scratch, block| {
            block.gather(values.chunks_exact(x.width), &mut scratch.x);
            block.columns(directions.chunks_exact(self.outputs), &mut scratch.d.values);
            scratch.d.rows.clear();
            scratch.d.rows.extend(0..rows as u32);
            block.layer.update(&plain(&scratch.x, block.field.len, &scale), &scratch.d, step);
        });
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        let rows = dx.len() / self.inputs;
        let parts: Vec<Vec<f32>> = self
            .blocks
            .par_iter()
            .map(|block| {
                let (mut columns, mut part) = (Vec::new(), vec![0.0; rows * block.field.len]);
                block.columns(d.chunks_exact(self.outputs), &mut columns);
                block.layer.backward(&columns, &mut part);
                part
            })
            .collect();
        dx.par_chunks_exact_mut(self.inputs).enumerate().for_each(|(r, dx)| {
            for (block, part) in self.blocks.iter().zip(&parts) {
                block.field.scatter_add(&part[r * block.field.len..][..block.field.len], dx);
            }
        });
        true
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        let blocks = self.blocks.par_iter_mut().enumerate();
        blocks.all(|(b, block)| block.layer.perturb(seed ^ (b as u64 + 1) << 40, step, amount))
    }

    fn tensors(&self) -> Vec<Tensor> {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .flat_map(|(b, block)| block.layer.tensors().into_iter().map(move |t| t.within(&format!("blocks.{b}"))))
            .collect()
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        for (b, block) in self.blocks.iter_mut().enumerate() {
            block.layer.restore(&Tensor::of(tensors, &format!("blocks.{b}")))?;
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.blocks.iter().map(|block| block.layer.parameters()).sum()
    }

    fn weight_rms(&self) -> f32 {
        let (mut squares, mut count) = (0.0, 0);
        for block in &self.blocks {
            squares += f64::from(block.layer.weight_rms()).powi(2) * block.layer.parameters() as f64;
            count += block.layer.parameters();
        }
        (squares / count as f64).sqrt() as f32
    }
}

/// The rows that a layer learns from, written out.
pub(super) struct Gathered {
    /// `x̂: (rows, I)`.
    pub values: Vec<f32>,
    /// `d: (rows, O)`.
    pub directions: Vec<f32>,
    /// How many they are.
    pub rows: usize,
}

/// The rows of `x` that have a direction. The direction that many rows share is one row more: `Σ_r x̂_r ⊗ shared` is
/// `mean(x̂) ⊗ (count · shared)`, and so is what the bias learns.
pub(super) fn gather_rows(x: &Inputs<'_>, d: &Directions, outputs: usize) -> Gathered {
    let shared = !d.shared.is_empty() && !d.shared_rows.is_empty();
    let rows = d.rows.len() + usize::from(shared);
    let mut values = vec![0.0; rows * x.width];
    for (&r, to) in d.rows.iter().zip(values.chunks_exact_mut(x.width)) {
        x.read(r as usize, to);
    }
    let mut directions = Vec::with_capacity(rows * outputs);
    directions.extend_from_slice(&d.values[..d.rows.len() * outputs]);
    if shared {
        let count = d.shared_rows.len() as f32;
        let mean = values.chunks_exact_mut(x.width).next_back().expect("there is a row for it");
        let mut row = vec![0.0; x.width];
        for r in d.shared_rows.clone() {
            x.read(r, &mut row);
            engine::vectorised(|| mean.iter_mut().zip(&row).for_each(|(mean, x)| *mean += x / count));
        }
        directions.extend(d.shared.iter().map(|d| count * d));
    }
    Gathered { values, directions, rows }
}
