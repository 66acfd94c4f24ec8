//! The rows that travel through a network: what a layer reads, what it answers, and what it should learn from them.
//!
//! Rows are row-major `f32`. A row's normalisation is kept beside it as one number, its `scale`, because a product
//! can apply it for free: `(scale · x) W = scale · (x W)`.

use crate::engine::vectorised;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that a thread writes out at least: more than layers ask for that share rows out among threads themselves.
const READ_EACH: usize = 64;

/// A layer's answers `y: (R, O)`, with what everybody asks of them next.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    width: usize,
    /// `y: (R, O)`, after the activation function, before normalisation.
    pub values: Vec<f32>,
    /// `Σ y²` of each row `(R)`.
    pub squares: Vec<f32>,
    /// What normalisation multiplies each row by `(R)`.
    pub scale: Vec<f32>,
    /// `∂y/∂(the product's result)` `(R, O)`; empty for the ReLU, whose answers tell.
    pub derivative: Vec<f32>,
}

impl Activity {
    /// Makes room for `rows × width` values, keeping the memory; what the values are afterwards is unspecified.
    pub fn resize(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.values.resize(rows * width, 0.0);
        self.squares.resize(rows, 0.0);
        self.scale.resize(rows, 1.0);
        self.derivative.clear();
    }

    /// Keeps the blocks of `each` rows that `stays` says, and closes the gaps.
    pub(crate) fn retain(&mut self, each: usize, stays: &[bool]) {
        let (mut to, width) = (0, self.width);
        for block in (0..stays.len()).filter(|&block| stays[block]) {
            let from = block * each;
            self.values.copy_within(from * width..(from + each) * width, to * width);
            self.squares.copy_within(from..from + each, to);
            self.scale.copy_within(from..from + each, to);
            to += each;
        }
        self.resize(to, width);
    }

    /// Becomes the first `rows` rows of `other`, as the next layer reads them.
    pub(crate) fn copy_rows(&mut self, other: &Activity, rows: usize) {
        self.resize(rows, other.width);
        self.values.copy_from_slice(&other.values[..rows * other.width]);
        self.scale.copy_from_slice(&other.scale[..rows]);
    }

    /// `R`.
    pub fn rows(&self) -> usize {
        self.squares.len()
    }

    /// `O`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `r` `(O)`.
    pub fn row(&self, r: usize) -> &[f32] {
        &self.values[r * self.width..(r + 1) * self.width]
    }

    /// Row `r` `(O)`.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        &mut self.values[r * self.width..(r + 1) * self.width]
    }

    /// Fills `squares` from `values`: for layers whose product does not do so on the way.
    pub fn measure(&mut self) {
        for (squares, row) in self.squares.iter_mut().zip(self.values.chunks_exact(self.width.max(1))) {
            *squares = row.iter().map(|y| y * y).sum();
        }
    }

    /// This activity as the next layer's input.
    pub fn as_inputs(&self) -> Inputs<'_> {
        Inputs::plain(&self.values, self.width, &self.scale)
    }

    /// These rows as they were answered, before normalisation; `ones: (rows)`.
    pub fn raw<'a>(&'a self, rows: Range<usize>, ones: &'a [f32]) -> Inputs<'a> {
        let values = &self.values[rows.start * self.width..rows.end * self.width];
        Inputs::plain(values, self.width, ones)
    }

    /// From `∂loss/∂y` of row `r` to that of the product's result, in place: `d: (O)`.
    #[inline(always)]
    pub fn gate(&self, r: usize, d: &mut [f32]) {
        match self.derivative.is_empty() {
            true => d.iter_mut().zip(self.row(r)).for_each(|(d, y)| *d = if *y > 0.0 { *d } else { 0.0 }),
            false => d.iter_mut().zip(&self.derivative[r * self.width..]).for_each(|(d, slope)| *d *= slope),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let floats = [&self.values, &self.squares, &self.scale, &self.derivative];
        floats.map(Vec::capacity).iter().sum::<usize>() * size_of::<f32>()
    }
}

/// What a layer reads: `R` rows, each `scale · (values[source] + code)`.
///
/// Rows may share values: the positive, the negative and the neutral row of an image differ only in their label
/// codes, so the image is stored, and multiplied by the weights, once.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `(N, I)`.
    pub values: &'a [f32],
    /// `I`.
    pub width: usize,
    /// Which of the `N` rows of values each row reads `(R)`; `None`: row `r` reads row `r`.
    pub source: Option<&'a [u32]>,
    /// Label codes `(R, K)`, the first `K` inputs of each row; `values` has zeros there.
    pub codes: Option<Codes<'a>>,
    /// `values · W: (N, O)`, where the layer has computed it already (see [`Layer::project`](crate::Layer::project)).
    pub base: Option<&'a [f32]>,
    /// What each row is multiplied by `(R)`.
    pub scale: &'a [f32],
    /// What rows of the same sample have in common, where that is known.
    pub common: Option<Common<'a>>,
}

/// The first inputs of rows that show the same sample: in a recurrent network what drives the lowest layer from below, which a
/// positive and a negative row have in common, and the rows of all labels when reading out. Every row has them in full all the
/// same; a layer may multiply them once for each sample.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// How many of the first inputs.
    pub inputs: usize,
    /// Which sample each row shows `(R)`.
    pub sample: &'a [u32],
}

/// A row's inputs `(I)`, and what they are multiplied by.
pub(crate) type Row<'a> = (&'a [f32], f32);

/// Label codes `(R, K)`.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// `(R, K)`.
    pub values: &'a [f32],
    /// `K`.
    pub classes: usize,
}

impl<'a> Codes<'a> {
    /// Row `r` `(K)`.
    pub fn row(&self, r: usize) -> &'a [f32] {
        &self.values[r * self.classes..(r + 1) * self.classes]
    }
}

impl<'a> Inputs<'a> {
    /// Rows that share nothing: `values: (R, I)`, `scale: (R)`.
    pub fn plain(values: &'a [f32], width: usize, scale: &'a [f32]) -> Self {
        Inputs { values, width, source: None, codes: None, base: None, scale, common: None }
    }

    /// `R`.
    pub fn rows(&self) -> usize {
        self.scale.len()
    }

    /// Which row of `values` row `r` reads.
    pub fn source(&self, r: usize) -> usize {
        self.source.map_or(r, |source| source[r] as usize)
    }

    /// The values `(I)` that row `r` reads, without code and scale.
    pub fn shared(&self, r: usize) -> &'a [f32] {
        let n = self.source(r);
        &self.values[n * self.width..(n + 1) * self.width]
    }

    /// Writes row `r` in full, code and scale applied. `to: (I)`.
    pub fn read(&self, r: usize, to: &mut [f32]) {
        to.copy_from_slice(self.shared(r));
        if let Some(codes) = self.codes {
            to[..codes.classes].copy_from_slice(codes.row(r));
        }
        to.iter_mut().for_each(|x| *x *= self.scale[r]);
    }

    /// The rows `which` where they lie; where a code is written over their first inputs, `full` has them.
    pub(crate) fn rows_of<'f>(
        &self,
        which: impl ExactSizeIterator<Item = usize>,
        full: &'f mut Vec<f32>,
    ) -> Vec<Row<'f>>
    where
        'a: 'f,
    {
        if self.codes.is_none() {
            return which.map(|r| (self.shared(r), self.scale[r])).collect();
        }
        let which: Vec<usize> = which.collect();
        full.resize(which.len() * self.width, 0.0);
        let read = full.par_chunks_exact_mut(self.width).zip(&which).with_min_len(READ_EACH);
        read.for_each(|(to, &r)| vectorised!(self.read(r, to)));
        full.chunks_exact(self.width).map(|row| (row, 1.0)).collect()
    }

    /// Every row in full `(R, I)`: for layers that need no savings.
    pub fn dense(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.rows() * self.width];
        for (r, to) in all.chunks_exact_mut(self.width.max(1)).enumerate() {
            self.read(r, to);
        }
        all
    }
}

/// Which way a layer's activities should move: the rows of `d: (R, O)` that are not zero.
///
/// With the released recipe most rows are exactly zero, because `p` is exactly 0 or 1: only the others are here.
#[derive(Clone, Debug, Default)]
pub struct Directions {
    /// The rows of the pass that have a direction, in ascending order.
    pub rows: Vec<u32>,
    /// Their `d`, `(rows.len(), O)`.
    pub values: Vec<f32>,
    /// A direction `(O)` that every row of `shared_rows` has besides, not gated by the ReLU (peer normalisation);
    /// empty where there is none.
    pub shared: Vec<f32>,
    /// The rows of the pass that have the shared direction.
    pub shared_rows: Range<usize>,
}

impl Directions {
    /// Every row in full, `(rows, O)`: for layers that need no savings.
    pub fn dense(&self, rows: usize, width: usize) -> Vec<f32> {
        let mut all = vec![0.0; rows * width];
        for (&r, d) in self.rows.iter().zip(self.values.chunks_exact(width.max(1))) {
            all[r as usize * width..][..width].copy_from_slice(d);
        }
        if !self.shared.is_empty() {
            for row in all.chunks_exact_mut(width).take(self.shared_rows.end).skip(self.shared_rows.start) {
                row.iter_mut().zip(&self.shared).for_each(|(d, shared)| *d += shared);
            }
        }
        all
    }
}
