//! `y = max(0, scale · x W + b)` and `Σ y²`, in one pass: the forward product with everything that follows it.
//!
//! A tile of `ROWS × LANES·VECTORS` sums stays in registers while the panel streams by; what comes after the product is
//! done while the sums are still there. Tasks are pieces of one panel; each adds its squares to a place of its own, and
//! they are summed in panel order, so that the bits do not depend on how many threads there are.

use super::panels::{Panels, WIDTH, prefetch};
use crate::engine::rectify;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows of one task: few enough to share the work evenly, many enough to make the panel's way to the cache pay.
const TASK_ROWS: usize = 64;

/// Multiplications below which threads cost more than they save.
const SMALL: usize = 200_000;

/// What follows the product of a row.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// What each row of the product is multiplied by `(R)`.
    pub scale: Option<&'a [f32]>,
    /// What is added to each row then, padded to whole panels.
    pub bias: Option<&'a [f32]>,
    /// Whether negative sums become 0.
    pub relu: bool,
}

/// Where the answers go.
#[derive(Debug)]
pub struct Answers<'a> {
    /// `(R, O)`, row-major.
    pub values: &'a mut [f32],
    /// `Σ y²` of each row `(R)`, where wanted.
    pub squares: Option<&'a mut [f32]>,
}

/// Computes a tile of sums: `MR` rows of `x`, `NV` vectors of columns of a panel.
pub(super) trait Kernel: Copy + Sync {
    /// What a panel of weights is made of.
    type Weight: Sync;

    /// Runs one task: rows `rows` of panel `j`.
    fn run(self, task: Task<'_, Self::Weight>);
}

/// One piece of a product: some rows against one panel.
pub(super) struct Task<'a, W> {
    /// `(R, I)` for all rows of the product.
    pub x: &'a [W],
    pub inputs: usize,
    pub panel: &'a [W],
    pub rows: std::ops::Range<usize>,
    pub scale: Option<&'a [f32]>,
    /// The panel's part.
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    /// The panel's columns of `y`, and how many of them are real.
    pub y: Columns,
    /// The panel's part of the squares `(R)`.
    pub squares: Columns,
}

/// A place in a row-major matrix that several tasks write to, each its own rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    start: *mut f32,
    stride: usize,
    pub count: usize,
}

// SAFETY: tasks write to disjoint rows and columns; see `product`.
unsafe impl Send for Columns {}
// SAFETY: as above.
unsafe impl Sync for Columns {}

impl Columns {
    /// Writes the first columns of row `r`.
    ///
    /// # Safety
    /// Row `r` must lie in the matrix, and no other task may touch these columns of it meanwhile.
    #[inline(always)]
    pub unsafe fn write(self, r: usize, values: &[f32]) {
        let n = self.count.min(values.len());
        // SAFETY: promised by the caller; `count` columns from `start` lie in every row.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(r * self.stride), n) }
    }
}

/// The product of `x: (R, I)` with weights in panels, by the kernel given.
pub(super) fn product<K: Kernel>(
    kernel: K,
    x: &[K::Weight],
    panels: &[K::Weight],
    (rows, inputs, outputs): (usize, usize, usize),
    then: Epilogue<'_>,
    answers: Answers<'_>,
) {
    let (count, size) = (outputs.div_ceil(WIDTH), panels.len() / outputs.div_ceil(WIDTH).max(1));
    assert_eq!(answers.values.len(), rows * outputs);
    let mut squares = vec![0.0; count * rows];
    let y = answers.values.as_mut_ptr();
    let at = squares.as_mut_ptr();
    let (y, at) = (Columns { start: y, stride: outputs, count: 0 }, Columns { start: at, stride: 1, count: 1 });
    let pieces = rows.div_ceil(TASK_ROWS).max(1);
    let per_piece = rows.div_ceil(pieces).div_ceil(8) * 8;
    let run = |task: usize| {
        let (j, piece) = (task / pieces, task % pieces);
        let columns = WIDTH.min(outputs - j * WIDTH);
        // Whole, so that the closure shares `Columns` (which may be shared) and not the pointers in it.
        let (y, at) = (&y, &at);
        kernel.run(Task {
            x,
            inputs,
            panel: &panels[j * size..(j + 1) * size],
            rows: (piece * per_piece).min(rows)..((piece + 1) * per_piece).min(rows),
            scale: then.scale,
            bias: then.bias.map(|bias| &bias[j * WIDTH..(j + 1) * WIDTH]),
            relu: then.relu,
            // The panel's first column is in every row, and the square's place is in `squares`.
            y: Columns { start: y.start.wrapping_add(j * WIDTH), count: columns, ..*y },
            squares: Columns { start: at.start.wrapping_add(j * rows), ..*at },
        });
    };
    if rows * inputs * outputs < SMALL {
        (0..count * pieces).for_each(run);
    } else {
        (0..count * pieces).into_par_iter().for_each(run);
    }
    if let Some(total) = answers.squares {
        total.fill(0.0);
        for part in squares.chunks_exact(rows.max(1)) {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
    }
}

/// Single precision, on whatever vectors the processor has.
#[derive(Clone, Copy, Debug)]
pub(super) struct F32;

impl Kernel for F32 {
    type Weight = f32;

    fn run(self, task: Task<'_, f32>) {
        Arch::new().dispatch(task);
    }
}

/// The product in single precision: `x: (R, I)`, `w: (I, O)`.
pub fn product_f32(x: &[f32], w: &Panels, rows: usize, then: Epilogue<'_>, answers: Answers<'_>) {
    assert_eq!(x.len(), rows * w.inputs());
    product(F32, x, w.values(), (rows, w.inputs(), w.outputs()), then, answers);
}

impl WithSimd for Task<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as the registers hold, with room for a row of weights and one input.
        match S::F32_LANES {
            16 if self.y.count <= 16 => self.tiles::<S, 1>(simd, 8),
            16 if self.y.count <= 32 => self.tiles::<S, 2>(simd, 8),
            16 => self.tiles::<S, 3>(simd, 8),
            8 => self.tiles::<S, 2>(simd, 6),
            4 => self.tiles::<S, 3>(simd, 8),
            _ => self.tiles::<S, 4>(simd, 2),
        }
    }
}

impl Task<'_, f32> {
    #[inline(always)]
    fn tiles<S: Simd, const NV: usize>(self, simd: S, most: usize) {
        let mut r = self.rows.start;
        while r < self.rows.end {
            let n = most.min(self.rows.end - r);
            match n {
                8 => self.tile_row::<S, 8, NV>(simd, r),
                7 => self.tile_row::<S, 7, NV>(simd, r),
                6 => self.tile_row::<S, 6, NV>(simd, r),
                5 => self.tile_row::<S, 5, NV>(simd, r),
                4 => self.tile_row::<S, 4, NV>(simd, r),
                3 => self.tile_row::<S, 3, NV>(simd, r),
                2 => self.tile_row::<S, 2, NV>(simd, r),
                _ => self.tile_row::<S, 1, NV>(simd, r),
            }
            r += n;
        }
    }

    /// `MR` rows against the panel, as many columns at a time as the registers hold; none where all are padding.
    #[inline(always)]
    fn tile_row<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, r: usize) {
        let mut sums = [[0.0; WIDTH]; MR];
        let step = NV * S::F32_LANES;
        for first in (0..self.y.count).step_by(step) {
            self.tile::<S, MR, NV>(simd, r, first, &mut sums);
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            finish(sums, self.scale.map_or(1.0, |scale| scale[r + i]), self.bias, self.relu);
            let squares = sum_of_squares(simd, sums);
            // SAFETY: row `r + i` is one of this task's rows, and the panel's columns are this task's.
            unsafe {
                self.y.write(r + i, sums);
                self.squares.write(r + i, &[squares]);
            }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        r: usize,
        first: usize,
        sums: &mut [[f32; WIDTH]; MR],
    ) {
        let (inputs, x) = (self.inputs, self.x);
        assert!(x.len() >= (r + MR) * inputs);
        let mut acc = [[simd.splat_f32s(0.0); NV]; MR];
        for (k, row) in self.panel.chunks_exact(WIDTH).enumerate().take(inputs) {
            if NV * S::F32_LANES < WIDTH {
                prefetch(row[first..].as_ptr().wrapping_add(AHEAD * WIDTH));
            }
            let row = S::as_simd_f32s(row).0;
            let mut w = [simd.splat_f32s(0.0); NV];
            for v in 0..NV {
                w[v] = row[first / S::F32_LANES + v];
            }
            for i in 0..MR {
                // SAFETY: `k < inputs`, and the rows up to `r + MR` were found to be there.
                let x = simd.splat_f32s(unsafe { *x.get_unchecked((r + i) * inputs + k) });
                for v in 0..NV {
                    acc[i][v] = simd.mul_add_e_f32s(x, w[v], acc[i][v]);
                }
            }
        }
        for i in 0..MR {
            let to = S::as_mut_simd_f32s(&mut sums[i]).0;
            for v in 0..NV {
                to[first / S::F32_LANES + v] = acc[i][v];
            }
        }
    }
}

/// How many rows of weights ahead [`prefetch`] looks.
const AHEAD: usize = 16;

/// From a row's sums to its activities.
#[inline(always)]
pub(super) fn finish(sums: &mut [f32; WIDTH], scale: f32, bias: Option<&[f32]>, relu: bool) {
    if let Some(bias) = bias {
        sums.iter_mut().zip(bias).for_each(|(y, b)| *y = *y * scale + b);
    } else {
        sums.iter_mut().for_each(|y| *y *= scale);
    }
    if relu {
        sums.iter_mut().for_each(|y| *y = rectify(*y));
    }
}

/// `Σ y²` of one panel's part of a row; padding is 0.
#[inline(always)]
pub(super) fn sum_of_squares<S: Simd>(simd: S, y: &[f32; WIDTH]) -> f32 {
    let mut total = simd.splat_f32s(0.0);
    for y in S::as_simd_f32s(y).0 {
        total = simd.mul_add_e_f32s(*y, *y, total);
    }
    simd.reduce_sum_f32s(total)
}
