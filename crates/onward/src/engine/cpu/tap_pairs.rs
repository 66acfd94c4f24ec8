//! The kernels of `taps.rs` on pairs of bf16 numbers, where the processor has instructions for them: a vector of locations, of
//! each of which two taps, or two rows, are multiplied and added at once.

use super::panels::WIDTH;
use super::taps::Read;

/// Adds to the sums of every row what some pairs of taps see: `x` spread rows in pairs of neighbouring columns, `panel` the
/// weights of the pairs.
///
/// # Panics
/// Without the instructions: see `has_bf16`.
pub fn add(x: &[u32], pitch: usize, reads: &[Read], panel: &[[u32; WIDTH]], sums: &mut [[f32; WIDTH]]) {
    #[cfg(target_arch = "x86_64")]
    if super::bf16::has_outer() {
        // SAFETY: `has_outer` has found every feature that `add` is compiled for.
        return unsafe { x86::add(x, pitch, reads, panel, sums) };
    }
    let _ = (x, pitch, reads, panel, sums);
    unreachable!("inputs are paired only where there is an instruction for them");
}

/// `sums[tap] += Σ_r x[start + r·pitch..] · d[r]` over pairs of rows, for a vector of locations of every channel.
///
/// # Panics
/// Without the instructions: see `has_bf16`.
pub fn add_outer(x: &[u32], pitch: usize, reads: &[Read], d: &[[u32; WIDTH]], sums: &mut [[f32; WIDTH]]) {
    #[cfg(target_arch = "x86_64")]
    if super::bf16::has_outer() {
        // SAFETY: `has_outer` has found every feature that `add_outer` is compiled for.
        return unsafe { x86::add_outer(x, pitch, reads, d, sums) };
    }
    let _ = (x, pitch, reads, d, sums);
    unreachable!("inputs are paired only where there is an instruction for them");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Read, WIDTH};
    use crate::engine::cpu::bf16::x86::bf16;
    use crate::engine::cpu::panels::prefetch;
    use crate::engine::cpu::taps::{BLOCK, BLOCK_ROWS, CHANNELS, LOCATIONS, TAPS, ahead};
    use std::arch::x86_64::{
        __m512, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_setzero_ps,
        _mm512_setzero_si512, _mm512_storeu_ps,
    };

    /// Rows in a tile of sums, at most.
    const ROWS: usize = 8;

    /// See `super::add`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn add(x: &[u32], pitch: usize, reads: &[Read], panel: &[[u32; WIDTH]], sums: &mut [[f32; WIDTH]]) {
        let (rows, tiles) = (sums.len(), sums.len().div_ceil(ROWS));
        for reads in reads.chunks(BLOCK) {
            for tile in 0..tiles {
                let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                let (x, sums) = (&x[first * pitch..], &mut sums[first..end]);
                let ahead = ahead(BLOCK, tile);
                match end - first {
                    8 => add_to::<8>(x, pitch, reads, panel, ahead, sums),
                    7 => add_to::<7>(x, pitch, reads, panel, ahead, sums),
                    6 => add_to::<6>(x, pitch, reads, panel, ahead, sums),
                    5 => add_to::<5>(x, pitch, reads, panel, ahead, sums),
                    4 => add_to::<4>(x, pitch, reads, panel, ahead, sums),
                    3 => add_to::<3>(x, pitch, reads, panel, ahead, sums),
                    2 => add_to::<2>(x, pitch, reads, panel, ahead, sums),
                    _ => add_to::<1>(x, pitch, reads, panel, ahead, sums),
                }
            }
        }
    }

    /// To `MR` rows.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
    fn add_to<const MR: usize>(
        x: &[u32],
        pitch: usize,
        reads: &[Read],
        panel: &[[u32; WIDTH]],
        ahead: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        let sums: &mut [[f32; WIDTH]; MR] = sums.try_into().expect("as many rows");
        let mut acc = [[_mm512_setzero_ps(); CHANNELS]; MR];
        for i in 0..MR {
            acc[i] = read_sums(&sums[i]);
        }
        for &Read { tap, start } in reads {
            prefetch(panel[tap].as_ptr().wrapping_add(ahead));
            let w = vectors(&panel[tap]);
            for i in 0..MR {
                let x = inputs(x, start + i * pitch);
                for c in 0..CHANNELS {
                    acc[i][c] = _mm512_dpbf16_ps(acc[i][c], bf16(x), bf16(w[c]));
                }
            }
        }
        for i in 0..MR {
            write_sums(&acc[i], &mut sums[i]);
        }
    }

    /// See `super::add_outer`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn add_outer(x: &[u32], pitch: usize, reads: &[Read], d: &[[u32; WIDTH]], sums: &mut [[f32; WIDTH]]) {
        let (rows, blocks) = (d.len(), d.len().div_ceil(BLOCK_ROWS));
        for block in 0..blocks {
            let (first, end) = (rows * block / blocks, rows * (block + 1) / blocks);
            reads.chunks(TAPS).for_each(|reads| outer(&x[first * pitch..], pitch, &d[first..end], reads, sums));
        }
    }

    /// For at most [`TAPS`] taps.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn outer(x: &[u32], pitch: usize, d: &[[u32; WIDTH]], reads: &[Read], sums: &mut [[f32; WIDTH]]) {
        // Of a smaller tile the last tap again: it comes to the same.
        let reads: [Read; TAPS] = std::array::from_fn(|t| reads[t.min(reads.len() - 1)]);
        let mut acc = [[_mm512_setzero_ps(); CHANNELS]; TAPS];
        for t in 0..TAPS {
            acc[t] = read_sums(&sums[reads[t].tap]);
        }
        for (r, d) in d.iter().enumerate() {
            let d = vectors(d);
            for t in 0..TAPS {
                let x = inputs(x, reads[t].start + r * pitch);
                for c in 0..CHANNELS {
                    acc[t][c] = _mm512_dpbf16_ps(acc[t][c], bf16(x), bf16(d[c]));
                }
            }
        }
        for t in 0..TAPS {
            write_sums(&acc[t], &mut sums[reads[t].tap]);
        }
    }

    /// What a tap reads of a row for a vector of locations.
    #[target_feature(enable = "avx512f")]
    fn inputs(x: &[u32], from: usize) -> __m512i {
        // SAFETY: `Taps::reads` has found what each tap reads of each row within `x`.
        unsafe { _mm512_loadu_si512(x.get_unchecked(from..from + LOCATIONS).as_ptr().cast()) }
    }

    /// A vector of locations for each channel.
    #[target_feature(enable = "avx512f")]
    fn vectors(pairs: &[u32; WIDTH]) -> [__m512i; CHANNELS] {
        let mut vectors = [_mm512_setzero_si512(); CHANNELS];
        for (vector, pairs) in vectors.iter_mut().zip(pairs.as_chunks::<LOCATIONS>().0) {
            // SAFETY: there are 16 numbers.
            *vector = unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) };
        }
        vectors
    }

    #[target_feature(enable = "avx512f")]
    fn read_sums(sums: &[f32; WIDTH]) -> [__m512; CHANNELS] {
        let mut vectors = [_mm512_setzero_ps(); CHANNELS];
        for (vector, sums) in vectors.iter_mut().zip(sums.as_chunks::<LOCATIONS>().0) {
            // SAFETY: there are 16 numbers.
            *vector = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        vectors
    }

    #[target_feature(enable = "avx512f")]
    fn write_sums(vectors: &[__m512; CHANNELS], sums: &mut [f32; WIDTH]) {
        for (vector, sums) in vectors.iter().zip(sums.as_chunks_mut::<LOCATIONS>().0) {
            // SAFETY: there is room for 16 numbers.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *vector) };
        }
    }
}
