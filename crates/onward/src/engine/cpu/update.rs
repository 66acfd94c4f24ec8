//! `V ← βV + αx̂ᵀd`, `W ← W + ε(V − cW)` in one pass over `V` and `W`: the gradient product with the optimiser's step as
//! its epilogue. There is no gradient buffer, and rows without a direction are not there at all; what is left is bound by
//! reading and writing `V` and `W` once.

use super::aligned::Aligned;
use super::amx;
use super::bf16::{self, Pairs, round_rows};
use super::panels::{Panels, WIDTH};
use crate::engine::pool::Pool;
use crate::engine::vectorised;
use crate::optimizer::Step;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows of weights in a tile of sums.
pub(super) const TILE: usize = 8;

/// Rows of weights in a task.
const TASK: usize = 32 * TILE;

/// Numbers that learn, with the optimiser's averages, in panels.
#[derive(Clone, Debug)]
pub struct Learned {
    /// `W: (I, O)`.
    pub value: Panels,
    /// `V`: the smoothed gradient.
    pub smoothed: Panels,
    /// Adam's smoothed squared gradient; empty for other methods.
    pub squared: Panels,
    /// The weights rounded to bf16, where products are computed with those.
    pub pairs: Option<Pairs>,
}

impl Learned {
    /// With the averages at zero.
    pub fn new(value: Panels) -> Self {
        let (inputs, outputs) = (value.inputs(), value.outputs());
        Learned { value, smoothed: Panels::zeros(inputs, outputs), squared: Panels::zeros(0, outputs), pairs: None }
    }

    /// After weights have changed, where they are rounded too.
    pub fn renew_pairs(&mut self) {
        if let Some(pairs) = &mut self.pairs {
            pairs.renew(&self.value);
        }
    }

    /// Makes room for what `step` keeps.
    pub fn prepare(&mut self, step: &Step) {
        if matches!(step, Step::Adam { .. }) && self.squared.inputs() != self.value.inputs() {
            self.squared = Panels::zeros(self.value.inputs(), self.value.outputs());
        }
    }
}

/// The rows that a gradient is the sum of: `Σ_r x_r ⊗ d_r`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows<'a> {
    /// `x`, packed by [`pack_inputs`]; empty where there are pairs.
    pub x: &'a [f32],
    /// `x`, packed by [`pack_input_pairs`], where the gradient is a product of bf16 numbers; else empty.
    pub x_pairs: &'a [u32],
    /// `d: (R, O)`.
    pub d: &'a [f32],
    /// `R`.
    pub count: usize,
}

/// Blocks of inputs that a thread packs at a time.
const PACKED: usize = 16;

/// A panel's directions, and the same as pairs.
static PACKED_DIRECTIONS: Pool<(Vec<f32>, Aligned<u32>)> = Pool::new();

/// Packs rows of `x: (·, I)` so that `TILE` inputs of one row lie together: `(I/TILE, R, TILE)`, padded with zeros.
pub fn pack_inputs(rows: &[&[f32]], inputs: usize, to: &mut Aligned<f32>) {
    to.resize(inputs.div_ceil(TILE) * rows.len() * TILE);
    pack(
        rows,
        1,
        to,
        #[inline(always)]
        |rows, from, to| *to = numbers(rows[0], from, inputs),
    );
}

/// The same with neighbouring rows as pairs of bf16 numbers: `(I/TILE, ceil(R/2), TILE)`; for tiles
/// `(I/ROWS, pairs(R)/SIDE, ROWS, SIDE)`.
pub fn pack_input_pairs(rows: &[&[f32]], inputs: usize, to: &mut Aligned<u32>) {
    if amx::available() {
        return pack_input_tiles(rows, inputs, to);
    }
    to.resize(inputs.div_ceil(TILE) * rows.len().div_ceil(2) * TILE);
    pack(
        rows,
        2,
        to,
        #[inline(always)]
        |rows, from, to| pair_inputs(rows, from, inputs, to),
    );
}

/// Numbers of a row from `from` to `end`, `N` at most, 0 beyond.
#[inline(always)]
fn numbers<const N: usize>(row: &[f32], from: usize, end: usize) -> [f32; N] {
    // A number of them that the compiler knows is a load, and not a call.
    if let Some(numbers) = row[from..end].first_chunk() {
        return *numbers;
    }
    let mut numbers = [0.0; N];
    numbers[..end - from].copy_from_slice(&row[from..end]);
    numbers
}

/// Inputs of one or two neighbouring rows as pairs, from input `from` on; 0 beyond the last.
#[inline(always)]
fn pair_inputs<const N: usize>(rows: &[&[f32]], from: usize, inputs: usize, to: &mut [u32; N]) {
    let mut pair = [[0.0; N]; 2];
    pair.iter_mut().zip(rows).for_each(|(pair, row)| *pair = numbers(row, from, inputs));
    bf16::pair(&pair[0], &pair[1], to);
}

fn pack_input_tiles(rows: &[&[f32]], inputs: usize, to: &mut Aligned<u32>) {
    const HALF: usize = amx::ROWS * amx::SIDE;
    let block = bf16::pairs(rows.len()) * amx::ROWS;
    to.resize(inputs.div_ceil(amx::ROWS) * block);
    to.par_chunks_exact_mut(block.max(1)).enumerate().with_min_len(4).for_each(|(b, to)| {
        let from = b * amx::ROWS;
        vectorised!({
            for (rows, to) in rows.chunks(2 * amx::SIDE).zip(to.as_chunks_mut::<HALF>().0) {
                let mut pairs = [[0; amx::ROWS]; amx::SIDE];
                for (rows, pairs) in rows.chunks(2).zip(&mut pairs) {
                    pair_inputs(rows, from, inputs, pairs);
                }
                for (i, to) in to.as_chunks_mut::<{ amx::SIDE }>().0.iter_mut().enumerate() {
                    to.iter_mut().zip(&pairs).for_each(|(to, pair)| *to = pair[i]);
                }
            }
        });
    });
}

/// Packs `each` rows at a time, `TILE` inputs of them by one call of `write`, which is to be inlined always.
fn pack<T: Copy + Send>(
    rows: &[&[f32]],
    each: usize,
    to: &mut [T],
    write: impl Fn(&[&[f32]], usize, &mut [T; TILE]) + Sync,
) {
    let block = rows.len().div_ceil(each) * TILE;
    to.par_chunks_mut((PACKED * block).max(1)).enumerate().for_each(|(chunk, to)| {
        vectorised!({
            for (b, to) in to.chunks_exact_mut(block).enumerate() {
                let from = (chunk * PACKED + b) * TILE;
                // A loop and no `for_each`: that would be a function of its own, compiled for any processor.
                for (rows, to) in rows.chunks(each).zip(to.as_chunks_mut::<TILE>().0) {
                    write(rows, from, to);
                }
            }
        });
    });
}

/// One step of `learned` along the gradient of `rows`, plus `extra: (K, O)` for the first `K` rows of weights.
pub fn update(learned: &mut Learned, rows: Rows<'_>, extra: &[f32], step: &Step) {
    let (inputs, outputs) = (learned.value.inputs(), learned.value.outputs());
    let tile = if amx::available() { amx::ROWS } else { TILE };
    assert!(
        rows.x.len() == inputs.next_multiple_of(TILE) * rows.count
            || rows.x_pairs.len() == inputs.next_multiple_of(tile) * bf16::pairs(rows.count)
    );
    assert_eq!(rows.d.len(), rows.count * outputs);
    learned.prepare(step);
    let count = learned.value.count();
    let squares = or_empty(count, learned.squared.panels_mut().collect());
    let pairs = or_empty(count, learned.pairs.iter_mut().flat_map(Pairs::panels_mut).collect());
    let panels = learned.value.panels_mut().zip(learned.smoothed.panels_mut()).zip(squares).zip(pairs);
    let panels: Vec<_> = panels.enumerate().collect();
    panels.into_par_iter().for_each(|(j, (((value, smoothed), squared), pairs))| {
        PACKED_DIRECTIONS.with(|(d, d_pairs)| {
            pack_directions(rows, j, outputs, d);
            d_pairs.clear();
            if !rows.x_pairs.is_empty() {
                d_pairs.resize(bf16::pairs(rows.count) * WIDTH);
                vectorised!(round_rows(d, WIDTH, d_pairs));
            }
            let pieces = inputs.div_ceil(TASK);
            let squares = or_empty(pieces, squared.chunks_mut(TASK * WIDTH).collect());
            let pairs = or_empty(pieces, pairs.chunks_mut(TASK / 2 * WIDTH).collect());
            let weights = value.par_chunks_mut(TASK * WIDTH).zip(smoothed.par_chunks_mut(TASK * WIDTH));
            weights.zip(squares).zip(pairs).enumerate().for_each(|(piece, (((value, smoothed), squared), pairs))| {
                let first = piece * TASK;
                let x = rows.x.get(first * rows.count..).unwrap_or_default();
                let x_pairs = rows.x_pairs.get(first * bf16::pairs(rows.count)..).unwrap_or_default();
                let extra = Extra { values: extra, outputs, panel: j, first };
                let (d, d_pairs, count) = (&d[..], &d_pairs[..], rows.count);
                let columns = WIDTH.min(outputs - j * WIDTH);
                let piece =
                    Piece { x, d, x_pairs, d_pairs, count, columns, value, smoothed, squared, pairs, extra, step };
                Arch::new().dispatch(piece);
            });
        });
    });
}

/// The slices, or as many empty ones where there are none.
pub(super) fn or_empty<T>(count: usize, slices: Vec<&mut [T]>) -> Vec<&mut [T]> {
    if slices.is_empty() { (0..count).map(|_| &mut [][..]).collect() } else { slices }
}

/// Panel `j` of `d`, `(R, WIDTH)`, padded with zeros.
fn pack_directions(rows: Rows<'_>, j: usize, outputs: usize, packed: &mut Vec<f32>) {
    packed.resize(rows.count * WIDTH, 0.0);
    let packed = packed.as_chunks_mut::<WIDTH>().0.iter_mut();
    vectorised!(for (to, d) in packed.zip(rows.d.chunks_exact(outputs)) {
        *to = numbers(d, j * WIDTH, outputs);
    });
}

/// A gradient for the first rows of weights, computed elsewhere.
#[derive(Clone, Copy)]
struct Extra<'a> {
    /// `(K, O)`.
    values: &'a [f32],
    outputs: usize,
    panel: usize,
    /// The first row of weights of this piece.
    first: usize,
}

/// Some rows of one panel's weights.
struct Piece<'a> {
    x: &'a [f32],
    d: &'a [f32],
    x_pairs: &'a [u32],
    d_pairs: &'a [u32],
    count: usize,
    /// How many columns are no padding.
    columns: usize,
    value: &'a mut [f32],
    smoothed: &'a mut [f32],
    squared: &'a mut [f32],
    pairs: &'a mut [u32],
    extra: Extra<'a>,
    step: &'a Step,
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Piece { x, d, x_pairs, d_pairs, count, columns, .. } = self;
        let half = bf16::pairs(count);
        if x_pairs.is_empty() {
            self.step::<TILE>(|tile, _, sums| {
                let x = x[tile * count * TILE..(tile + 1) * count * TILE].as_chunks().0;
                outer(simd, x, d.as_chunks().0, columns, sums);
            });
        } else if amx::available() {
            self.step::<{ amx::ROWS }>(|tile, rows, sums| {
                let a = &x_pairs[tile * half * amx::ROWS..(tile + 1) * half * amx::ROWS];
                let step = amx::ROWS * amx::SIDE;
                amx::multiply(&amx::Operands { a, stride: amx::SIDE, step, b: d_pairs }, rows, sums);
            });
        } else {
            self.step::<TILE>(|tile, _, sums| {
                bf16::outer(&x_pairs[tile * half * TILE..(tile + 1) * half * TILE], d_pairs, columns, sums);
            });
        }
    }
}

impl Piece<'_> {
    /// The optimiser's step along gradients that `outer` computes, `T` rows of weights at a time: of tile `t`, so many rows.
    #[inline(always)]
    fn step<const T: usize>(self, mut outer: impl FnMut(usize, usize, &mut [[f32; WIDTH]; T])) {
        let Piece { value, smoothed, squared, pairs, extra, step, .. } = self;
        let mut sums = [[0.0f32; WIDTH]; T];
        let mut no_squares = [[0.0f32; WIDTH]; T];
        let tiles = value.chunks_mut(T * WIDTH).zip(smoothed.chunks_mut(T * WIDTH));
        for (tile, (value, smoothed)) in tiles.enumerate() {
            let rows = value.len() / WIDTH;
            outer(tile, rows, &mut sums);
            extra.add(tile * T, &mut sums[..rows]);
            let squared = match squared.is_empty() {
                true => &mut no_squares.as_flattened_mut()[..value.len()],
                false => &mut squared[tile * T * WIDTH..][..value.len()],
            };
            let sums = &sums.as_flattened()[..value.len()];
            apply(sums, value, smoothed, squared, step);
            if !pairs.is_empty() {
                round_rows(value, WIDTH, &mut pairs[tile * T / 2 * WIDTH..][..rows.div_ceil(2) * WIDTH]);
            }
        }
    }
}

impl Extra<'_> {
    /// Adds to the sums of weight rows from `at` on of the piece what is there for them.
    #[inline(always)]
    fn add(self, at: usize, sums: &mut [[f32; WIDTH]]) {
        let from = self.first + at;
        if from * self.outputs >= self.values.len() {
            return;
        }
        let columns = self.panel * WIDTH..self.outputs.min((self.panel + 1) * WIDTH);
        let extra = self.values.chunks_exact(self.outputs).skip(from);
        for (sums, extra) in sums.iter_mut().zip(extra) {
            sums.iter_mut().zip(&extra[columns.clone()]).for_each(|(sum, extra)| *sum += extra);
        }
    }
}

/// `sums[i] = Σ_r x[r][i] · d[r]`, for the first columns at least.
#[inline(always)]
fn outer<S: Simd>(simd: S, x: &[[f32; TILE]], d: &[[f32; WIDTH]], columns: usize, sums: &mut [[f32; WIDTH]; TILE]) {
    let lanes = S::F32_LANES;
    match lanes {
        16 if columns <= 16 => tile::<S, 8, 1>(simd, x, d, 0, 0, sums),
        16 if columns <= 32 => tile::<S, 8, 2>(simd, x, d, 0, 0, sums),
        16 | 4 => (0..columns).step_by(3 * lanes).for_each(|first| tile::<S, 8, 3>(simd, x, d, 0, first, sums)),
        8 => {
            // Of eight rows, no tile of 12 sums that leaves registers for what they are made of.
            (0..columns).step_by(2 * lanes).for_each(|first| tile::<S, 6, 2>(simd, x, d, 0, first, sums));
            tile::<S, 2, 6>(simd, x, d, 6, 0, sums);
        }
        _ => (0..TILE).step_by(2).for_each(|i| {
            (0..columns).step_by(4 * lanes).for_each(|first| tile::<S, 2, 4>(simd, x, d, i, first, sums));
        }),
    }
}

/// [`outer`] for `MR` inputs from `i` and `NV` vectors of columns from `first`.
#[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
#[inline(always)]
fn tile<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    x: &[[f32; TILE]],
    d: &[[f32; WIDTH]],
    i: usize,
    first: usize,
    sums: &mut [[f32; WIDTH]; TILE],
) {
    let mut acc = [[simd.splat_f32s(0.0); NV]; MR];
    for (x, d) in x.iter().zip(d) {
        let row = S::as_simd_f32s(d).0;
        let column = |v: usize| row[first / S::F32_LANES + v];
        // What there are fewer of waits in registers.
        if MR >= NV {
            let d: [_; NV] = std::array::from_fn(column);
            for m in 0..MR {
                let x = simd.splat_f32s(x[i + m]);
                for v in 0..NV {
                    acc[m][v] = simd.mul_add_e_f32s(x, d[v], acc[m][v]);
                }
            }
        } else {
            let x: [_; MR] = std::array::from_fn(|m| simd.splat_f32s(x[i + m]));
            for v in 0..NV {
                let d = column(v);
                for m in 0..MR {
                    acc[m][v] = simd.mul_add_e_f32s(x[m], d, acc[m][v]);
                }
            }
        }
    }
    for m in 0..MR {
        let to = S::as_mut_simd_f32s(&mut sums[i + m]).0;
        for v in 0..NV {
            to[first / S::F32_LANES + v] = acc[m][v];
        }
    }
}

/// The optimiser's step: see [`Step`].
#[inline(always)]
pub(crate) fn apply(gradient: &[f32], value: &mut [f32], smoothed: &mut [f32], squared: &mut [f32], step: &Step) {
    let all = gradient.iter().zip(value).zip(smoothed);
    match *step {
        Step::Smoothed { momentum, share, rate, cost } => {
            for ((g, w), v) in all {
                *v = momentum * *v + share * g;
                *w += rate * (*v - cost * *w);
            }
        }
        Step::Adam { momentum, share, second, per_row, m_scale, s_scale, rate, cost } => {
            for (((g, w), v), s) in all.zip(squared) {
                let mean = per_row * g;
                *v = momentum * *v + share * g;
                *s = second * *s + (1.0 - second) * mean * mean;
                let along = *v * m_scale / ((*s * s_scale).sqrt() + 1e-8);
                *w += rate * (along - cost * *w);
            }
        }
    }
}
