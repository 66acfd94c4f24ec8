//! Products of bf16 numbers with sums in single precision: half the bytes, and a higher rate where the processor has
//! instructions for them: tiles (AMX) or vectors (AVX-512 BF16). Elsewhere the same products are computed in single precision.
//!
//! Two numbers of neighbouring inputs share a `u32`, the first in its lower half, because the instruction multiplies and adds
//! pairs.

use super::aligned::Aligned;
use super::amx;
use super::panels::{Panels, WIDTH};
use super::product::{Answers, Epilogue, Kernel, Task, finish, product, sum_of_squares};
use super::update::TILE;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// How many pairs hold `n` numbers here: tiles take them in blocks, the last one filled up with zeros.
pub(super) fn pairs(n: usize) -> usize {
    if amx::available() { n.div_ceil(2).next_multiple_of(amx::SIDE) } else { n.div_ceil(2) }
}

/// Weights in pairs: panel after panel, `(pairs(I), WIDTH)` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    inputs: usize,
    outputs: usize,
    values: Aligned<u32>,
}

impl Pairs {
    /// Of no weights.
    pub fn none() -> Self {
        Pairs { inputs: 0, outputs: 0, values: Aligned::zeros(0) }
    }

    /// The weights rounded.
    pub fn new(weights: &Panels) -> Self {
        let mut pairs = Self::none();
        pairs.renew(weights);
        pairs
    }

    /// The weights rounded, in the memory that is there.
    pub fn renew(&mut self, weights: &Panels) {
        (self.inputs, self.outputs) = (weights.inputs(), weights.outputs());
        let size = pairs(self.inputs) * WIDTH;
        self.values.resize(weights.count() * size);
        let panels = self.values.par_chunks_exact_mut(size.max(1)).enumerate();
        panels.for_each(|(j, pairs)| crate::engine::vectorised!(round_rows(weights.panel(j), WIDTH, pairs)));
    }

    /// Panel `j`, `(pairs(I), WIDTH)`.
    pub fn panel(&self, j: usize) -> &[u32] {
        let size = pairs(self.inputs) * WIDTH;
        &self.values[j * size..(j + 1) * size]
    }

    /// Every panel, `(pairs(I), WIDTH)` each.
    pub fn panels_mut(&mut self) -> std::slice::ChunksExactMut<'_, u32> {
        let size = pairs(self.inputs) * WIDTH;
        self.values.chunks_exact_mut(size.max(1))
    }
}

/// The nearest bf16, of two equally near ones the even one, in the upper half.
#[inline(always)]
pub(super) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if x.is_nan() { bits | 0x0040_0000 } else { rounded }
}

/// Rows, `(R, width)`, as pairs of neighbouring ones, `(ceil(R/2), width)`, the last one alone where their number is odd; and
/// zeros in what is left.
#[inline(always)]
pub(crate) fn round_rows(rows: &[f32], width: usize, pairs: &mut [u32]) {
    let (here, beyond) = pairs.split_at_mut(rows.len().div_ceil(2 * width) * width);
    beyond.fill(0);
    for (rows, pairs) in rows.chunks(2 * width).zip(here.chunks_exact_mut(width)) {
        let (first, second) = rows.split_at(width);
        if second.is_empty() {
            pairs.iter_mut().zip(first).for_each(|(pair, a)| *pair = round(*a) >> 16);
        }
        for ((pair, a), b) in pairs.iter_mut().zip(first).zip(second) {
            *pair = (round(*a) >> 16) | (round(*b) & 0xffff_0000);
        }
    }
}

/// Two rows as pairs, the first in the lower halves.
#[inline(always)]
pub(super) fn pair<const N: usize>(first: &[f32; N], second: &[f32; N], to: &mut [u32; N]) {
    for (to, (a, b)) in to.iter_mut().zip(first.iter().zip(second)) {
        *to = (round(*a) >> 16) | (round(*b) & 0xffff_0000);
    }
}

/// Whether gradients are computed from pairs here.
pub(super) fn has_outer() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// See `limits::peak_flops`.
pub(super) fn multiply_add(rounds: u64) -> f64 {
    if amx::available() {
        return amx::multiply_add(rounds);
    }
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        // SAFETY: `available` has found every feature that it is compiled for.
        return unsafe { x86::multiply_add(rounds) };
    }
    let _ = rounds;
    0.0
}

/// `sums[i] = Σ_r x[r][i] · d[r]` over pairs of rows, where [`has_outer`] says so, for the first columns at least.
#[inline(always)]
pub(super) fn outer(x: &[u32], d: &[u32], columns: usize, sums: &mut [[f32; WIDTH]; TILE]) {
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        // SAFETY: `available` has found every feature that `outer` is compiled for.
        return unsafe {
            match columns.div_ceil(16) {
                0 | 1 => x86::outer::<1>(x, d, sums),
                2 => x86::outer::<2>(x, d, sums),
                _ => x86::outer::<{ WIDTH / 16 }>(x, d, sums),
            }
        };
    }
    let _ = (x, d, columns, sums);
    unreachable!("pairs are packed only where there is an instruction for them");
}

/// Rows of inputs `x: (R, I)` as pairs, `(R, pairs(I))`.
fn round_inputs(x: &[f32], inputs: usize, to: &mut Aligned<u32>) {
    let pairs = pairs(inputs);
    to.resize(x.len() / inputs.max(1) * pairs);
    let rows = x.par_chunks_exact(inputs.max(1)).zip(to.par_chunks_exact_mut(pairs.max(1))).with_min_len(16);
    rows.for_each(|(x, to)| {
        crate::engine::vectorised!({
            let (both, last) = x.as_chunks::<2>();
            for (to, [a, b]) in to.iter_mut().zip(both) {
                *to = (round(*a) >> 16) | (round(*b) & 0xffff_0000);
            }
            let (to, beyond) = to[both.len()..].split_at_mut(last.len());
            to.iter_mut().zip(last).for_each(|(to, last)| *to = round(*last) >> 16);
            beyond.fill(0);
        });
    });
}

/// The product of bf16 numbers: `x: (R, I)`, `w: (I, O)`; `scratch` holds the rounded inputs.
pub fn product_bf16(
    x: &[f32],
    w: &Pairs,
    rows: usize,
    scratch: &mut Aligned<u32>,
    then: Epilogue<'_>,
    answers: Answers<'_>,
) {
    assert_eq!(x.len(), rows * w.inputs);
    round_inputs(x, w.inputs, scratch);
    let sizes = (rows, pairs(w.inputs), w.outputs);
    #[cfg(target_arch = "x86_64")]
    if amx::available() {
        return product(x86::Tiles, scratch, &w.values, sizes, then, answers);
    }
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        return product(x86::Native, scratch, &w.values, sizes, then, answers);
    }
    product(Widened, scratch, &w.values, sizes, then, answers);
}

/// Products in single precision of numbers rounded to bf16: for processors without the instruction.
#[derive(Clone, Copy, Debug)]
struct Widened;

impl Kernel for Widened {
    type Weight = u32;

    fn run(self, task: Task<'_, u32>) {
        Arch::new().dispatch(task);
    }
}

impl WithSimd for Task<'_, u32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for r in self.rows.clone() {
            let mut sums = [0.0f32; WIDTH];
            let x = &self.x[r * self.inputs..(r + 1) * self.inputs];
            for (x, w) in x.iter().zip(self.panel.as_chunks::<WIDTH>().0) {
                let (a, b) = (f32::from_bits(x << 16), f32::from_bits(x & 0xffff_0000));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum += a * f32::from_bits(w << 16) + b * f32::from_bits(w & 0xffff_0000);
                }
            }
            self.finish_row(simd, r, &mut sums);
        }
    }
}

impl Task<'_, u32> {
    /// From the sums of row `r` to its answers.
    #[inline(always)]
    fn finish_row<S: Simd>(&self, simd: S, r: usize, sums: &mut [f32; WIDTH]) {
        finish(sums, self.scale.map_or(1.0, |scale| scale[r]), self.bias, self.relu);
        let squares = sum_of_squares(simd, sums);
        // SAFETY: row `r` is one of this task's rows, and the panel's columns are this task's.
        unsafe {
            self.y.write(r, sums);
            self.squares.write(r, &[squares]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Kernel, TILE, Task, WIDTH, amx};
    use crate::engine::cpu::amx::Operands;
    use pulp::x86::V4;
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };
    use std::sync::OnceLock;

    /// Registers of a panel's width.
    const NV: usize = WIDTH / 16;

    /// Whether this processor multiplies pairs of bf16 numbers.
    pub fn available() -> bool {
        std::is_x86_feature_detected!("avx512bf16") && V4::try_new().is_some()
    }

    /// What pulp needs for what follows a product, where `available` says so.
    fn vectors() -> V4 {
        static V4: OnceLock<V4> = OnceLock::new();
        *V4.get_or_init(|| pulp::x86::V4::try_new().expect("`available` has looked"))
    }

    /// Tiles, on processors that have them.
    #[derive(Clone, Copy, Debug)]
    pub struct Tiles;

    impl Kernel for Tiles {
        type Weight = u32;

        fn run(self, task: Task<'_, u32>) {
            let (inputs, rows) = (task.inputs, task.rows.len());
            // As many rows in each group, for two small groups take as long as two large ones.
            let each = rows.div_ceil(rows.div_ceil(amx::ROWS).max(1)).max(1);
            let mut sums = [[0.0; WIDTH]; amx::ROWS];
            for first in task.rows.clone().step_by(each) {
                let n = each.min(task.rows.end - first);
                let a = &task.x[first * inputs..(first + n) * inputs];
                amx::multiply(&Operands { a, stride: inputs, step: amx::SIDE, b: task.panel }, n, &mut sums);
                // SAFETY: processors with tiles have the vectors too.
                unsafe { finish_rows(vectors(), &task, first, &mut sums[..n]) };
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,fma,avx2")]
    fn finish_rows(simd: V4, task: &Task<'_, u32>, first: usize, sums: &mut [[f32; WIDTH]]) {
        sums.iter_mut().enumerate().for_each(|(i, sums)| task.finish_row(simd, first + i, sums));
    }

    /// The instruction, on the tile of the single precision kernel.
    #[derive(Clone, Copy, Debug)]
    pub struct Native;

    impl Kernel for Native {
        type Weight = u32;

        fn run(self, task: Task<'_, u32>) {
            // SAFETY: `available` has found every feature that `tiles` is compiled for.
            unsafe {
                match task.y.count.div_ceil(16) {
                    0 | 1 => tiles::<1>(vectors(), &task),
                    2 => tiles::<2>(vectors(), &task),
                    _ => tiles::<NV>(vectors(), &task),
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,fma,avx2")]
    fn tiles<const NV: usize>(simd: V4, task: &Task<'_, u32>) {
        let mut r = task.rows.start;
        while r < task.rows.end {
            let n = 8.min(task.rows.end - r);
            match n {
                8 => tile::<8, NV>(simd, task, r),
                7 => tile::<7, NV>(simd, task, r),
                6 => tile::<6, NV>(simd, task, r),
                5 => tile::<5, NV>(simd, task, r),
                4 => tile::<4, NV>(simd, task, r),
                3 => tile::<3, NV>(simd, task, r),
                2 => tile::<2, NV>(simd, task, r),
                _ => tile::<1, NV>(simd, task, r),
            }
            r += n;
        }
    }

    /// `MR` rows against the first `NV` vectors of a panel's columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,fma,avx2")]
    #[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
    fn tile<const MR: usize, const NV: usize>(simd: V4, task: &Task<'_, u32>, r: usize) {
        let (pairs, x) = (task.inputs, task.x);
        assert!(x.len() >= (r + MR) * pairs);
        let mut acc: [[__m512; NV]; MR] = [[_mm512_setzero_ps(); NV]; MR];
        for (k, row) in task.panel.as_chunks::<WIDTH>().0.iter().enumerate().take(pairs) {
            let mut w = [_mm512_set1_epi32(0); NV];
            for v in 0..NV {
                // SAFETY: 16 numbers from `16·v` on lie in the row of `WIDTH`.
                w[v] = unsafe { _mm512_loadu_si512(row.as_ptr().add(16 * v).cast()) };
            }
            for i in 0..MR {
                // SAFETY: `k < pairs`, and the rows up to `r + MR` were found to be there.
                let x = _mm512_set1_epi32(unsafe { *x.get_unchecked((r + i) * pairs + k) }.cast_signed());
                for v in 0..NV {
                    acc[i][v] = _mm512_dpbf16_ps(acc[i][v], bf16(x), bf16(w[v]));
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            let mut sums = [0.0f32; WIDTH];
            for (sums, acc) in sums.as_chunks_mut::<16>().0.iter_mut().zip(acc) {
                // SAFETY: the place holds 16 numbers.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *acc) };
            }
            task.finish_row(simd, r + i, &mut sums);
        }
    }

    /// See `super::outer`.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,fma,avx2")]
    #[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
    pub fn outer<const NV: usize>(x: &[u32], d: &[u32], sums: &mut [[f32; WIDTH]; TILE]) {
        let mut acc: [[__m512; NV]; TILE] = [[_mm512_setzero_ps(); NV]; TILE];
        for (x, d) in x.as_chunks::<TILE>().0.iter().zip(d.as_chunks::<WIDTH>().0) {
            let mut row = [_mm512_set1_epi32(0); NV];
            for v in 0..NV {
                // SAFETY: 16 numbers from `16·v` on lie in the row of `WIDTH`.
                row[v] = unsafe { _mm512_loadu_si512(d.as_ptr().add(16 * v).cast()) };
            }
            for i in 0..TILE {
                let x = _mm512_set1_epi32(x[i].cast_signed());
                for v in 0..NV {
                    acc[i][v] = _mm512_dpbf16_ps(acc[i][v], bf16(x), bf16(row[v]));
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(&acc) {
            for (sums, acc) in sums.as_chunks_mut::<16>().0.iter_mut().zip(acc) {
                // SAFETY: the place holds 16 numbers.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *acc) };
            }
        }
    }

    /// See `limits::peak_flops`.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,fma,avx2")]
    pub fn multiply_add(rounds: u64) -> f64 {
        let mut acc = [_mm512_setzero_ps(); 12];
        let x = bf16(_mm512_set1_epi32(std::hint::black_box(0x3c00_3c00)));
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm512_dpbf16_ps(*acc, x, x);
            }
        }
        let flops = rounds as f64 * (acc.len() * 64) as f64;
        std::hint::black_box(acc);
        flops
    }

    /// The same bits, seen as pairs of bf16 numbers.
    #[target_feature(enable = "avx512f")]
    pub fn bf16(bits: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits without any invalid pattern.
        unsafe { std::mem::transmute(bits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_even() {
        let bf16 = |x: f32| f32::from_bits(round(x));
        assert_eq!(bf16(1.0), 1.0);
        assert_eq!(bf16(-3.140_625), -3.140_625);
        assert_eq!(bf16(1.0 + 1.0 / 256.0), 1.0, "half way goes to the even one below");
        assert_eq!(bf16(1.0 + 3.0 / 256.0), 1.015_625, "half way goes to the even one above");
        assert_eq!(bf16(1.004), 1.007_812_5);
        assert_eq!(bf16(f32::MAX), f32::INFINITY);
        assert!(bf16(f32::NAN).is_nan() && bf16(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
