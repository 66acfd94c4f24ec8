//! Products for receptive fields of few channels: neighbouring locations lie side by side in a vector, each with weights of
//! its own, so that a tap (one input of a field) is one load of inputs, shared by all channels, and one of weights for each.
//!
//! Inputs come spread out, line by line of their maps: what the neighbour to the right sees through a tap lies one number
//! further on, and what the next row has there a line further on.

use super::panels::{Panels, WIDTH};
use super::product::finish;
use super::update::{Learned, apply, or_empty};
use crate::engine::pool::Pool;
use crate::optimizer::Step;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Neighbouring locations of a panel.
pub const LOCATIONS: usize = 16;

/// Channels of a panel.
pub const CHANNELS: usize = WIDTH / LOCATIONS;

/// Rows in a tile of sums, at most: with more, sums would not stay in registers.
const ROWS: usize = 6;

/// Taps whose weights stay in the first cache while all rows pass.
const BLOCK: usize = 64;

/// Taps in a tile of gradients.
const TAPS: usize = 8;

/// Rows whose directions and lines of inputs stay in the first cache while all taps pass.
const BLOCK_ROWS: usize = 64;

/// A place in a spread row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Which line.
    pub line: u32,
    /// Which number of it.
    pub column: u32,
}

/// Where the locations of each panel find their inputs. Spread rows lie line by line, `(lines, R, pitch)`, and some numbers
/// after the last: what a tap reads of one row after another lies together.
#[derive(Clone, Debug)]
pub struct Taps {
    /// Of each tap, for the location at 0. The first `moving` taps move along with the location, the others see the same
    /// numbers everywhere, written [`LOCATIONS`] times.
    pub offsets: Vec<Place>,
    /// How many taps move.
    pub moving: usize,
    /// Where the first location of each panel is.
    pub places: Vec<Place>,
    /// Which places of a panel's row are real weights, and not beyond an edge: a bit each, `(panels, taps)`.
    pub live: Vec<u64>,
    /// Lines of a spread row.
    pub lines: usize,
    /// Numbers of a line, at least [`LOCATIONS`].
    pub pitch: usize,
}

impl Taps {
    /// Numbers of so many spread rows, and of those that a vector of locations may read beyond the last.
    pub fn length(&self, rows: usize) -> usize {
        self.lines * rows * self.pitch + LOCATIONS
    }

    /// Where number `column` of a line of the first of `rows` rows is; the next row's is `pitch` further on.
    #[inline(always)]
    fn at(&self, Place { line, column }: Place, rows: usize) -> usize {
        line as usize * rows * self.pitch + column as usize
    }

    /// What the taps of panel `j` read of the first of `rows` rows, but those that lie beyond an edge for all its locations.
    /// None reads beyond the end of any row in `x`.
    fn reads(&self, x: &[f32], rows: usize, j: usize, reads: &mut Vec<Read>) {
        let place = self.at(self.places[j], rows);
        let mut last = 0;
        reads.clear();
        for (tap, (offset, live)) in self.offsets.iter().zip(self.live_taps(j)).enumerate() {
            if *live != 0 {
                let start = self.at(*offset, rows) + if tap < self.moving { place } else { 0 };
                last = last.max(start);
                reads.push(Read { tap, start });
            }
        }
        assert!(rows == 0 || last + (rows - 1) * self.pitch + LOCATIONS <= x.len());
    }

    /// Of each tap of panel `j`, which places of its row are real weights.
    fn live_taps(&self, j: usize) -> &[u64] {
        &self.live[j * self.offsets.len()..][..self.offsets.len()]
    }
}

/// A tap, and where the first of some rows has what it reads.
#[derive(Clone, Copy, Debug)]
struct Read {
    tap: usize,
    start: usize,
}

/// `max(0, x W + b)` of so many spread rows, panel by panel: `each(j, answers)` gets panel `j`'s, `(R, WIDTH)`.
pub fn forward(
    taps: &Taps,
    x: &[f32],
    rows: usize,
    weight: &Panels,
    bias: &Panels,
    mut each: impl FnMut(usize, &[[f32; WIDTH]]),
) {
    assert_eq!((weight.inputs(), weight.count()), (taps.offsets.len(), taps.places.len()));
    let (mut reads, mut answers) = (Vec::new(), vec![[0.0; WIDTH]; rows]);
    for j in 0..taps.places.len() {
        taps.reads(x, rows, j, &mut reads);
        let (reads, panel, bias) = (&reads[..], weight.panel(j).as_chunks().0, bias.panel(j));
        Arch::new().dispatch(Forward { x, pitch: taps.pitch, reads, panel, bias, answers: &mut answers });
        each(j, &answers);
    }
}

struct Forward<'a> {
    x: &'a [f32],
    pitch: usize,
    reads: &'a [Read],
    panel: &'a [[f32; WIDTH]],
    bias: &'a [f32],
    answers: &'a mut [[f32; WIDTH]],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { x, pitch, reads, panel, bias, answers } = self;
        // As many rows as the registers hold, in tiles of about the same size.
        let most = if S::F32_LANES == 8 { 4 } else { ROWS };
        let (rows, tiles) = (answers.len(), answers.len().div_ceil(most));
        answers.as_flattened_mut().fill(0.0);
        for reads in reads.chunks(BLOCK) {
            for tile in 0..tiles {
                let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                let (x, sums) = (&x[first * pitch..], &mut answers[first..end]);
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match end - first {
                        6 => add::<S, 6>(simd, x, pitch, reads, panel, shift, sums),
                        5 => add::<S, 5>(simd, x, pitch, reads, panel, shift, sums),
                        4 => add::<S, 4>(simd, x, pitch, reads, panel, shift, sums),
                        3 => add::<S, 3>(simd, x, pitch, reads, panel, shift, sums),
                        2 => add::<S, 2>(simd, x, pitch, reads, panel, shift, sums),
                        _ => add::<S, 1>(simd, x, pitch, reads, panel, shift, sums),
                    }
                }
            }
        }
        answers.iter_mut().for_each(|sums| finish(sums, 1.0, Some(bias), true));
    }
}

/// Adds to the sums of `MR` rows, for a vector of locations of every channel, what some taps see.
#[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
#[inline(always)]
fn add<S: Simd, const MR: usize>(
    simd: S,
    x: &[f32],
    pitch: usize,
    reads: &[Read],
    panel: &[[f32; WIDTH]],
    shift: usize,
    sums: &mut [[f32; WIDTH]],
) {
    let mut acc = [[simd.splat_f32s(0.0); CHANNELS]; MR];
    for i in 0..MR {
        for c in 0..CHANNELS {
            acc[i][c] = S::as_simd_f32s(&sums[i][c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
    }
    for &Read { tap, start } in reads {
        let w = &panel[tap];
        let mut weights = [simd.splat_f32s(0.0); CHANNELS];
        for c in 0..CHANNELS {
            weights[c] = S::as_simd_f32s(&w[c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
        for i in 0..MR {
            let from = start + i * pitch + shift;
            // SAFETY: `Taps::reads` has found what each tap reads of each row within `x`.
            let x = unsafe { x.get_unchecked(from..from + S::F32_LANES) };
            let x = S::as_simd_f32s(x).0[0];
            for c in 0..CHANNELS {
                acc[i][c] = simd.mul_add_e_f32s(x, weights[c], acc[i][c]);
            }
        }
    }
    for i in 0..MR {
        for c in 0..CHANNELS {
            S::as_mut_simd_f32s(&mut sums[i][c * LOCATIONS + shift..][..S::F32_LANES]).0[0] = acc[i][c];
        }
    }
}

/// One step of `weight` along `Σ_r x_r ⊗ d_r`: `x` spread rows, `d: (panels, R, WIDTH)`, 0 where there is no location.
pub fn update(taps: &Taps, x: &[f32], rows: usize, d: &[f32], weight: &mut Learned, step: &Step) {
    assert_eq!(d.len(), taps.places.len() * rows * WIDTH);
    weight.prepare(step);
    let count = weight.value.count();
    assert_eq!((weight.value.inputs(), count), (taps.offsets.len(), taps.places.len()));
    let squares = or_empty(count, weight.squared.panels_mut().collect());
    let panels: Vec<_> = weight.value.panels_mut().zip(weight.smoothed.panels_mut()).zip(squares).enumerate().collect();
    panels.into_par_iter().for_each(|(j, ((value, smoothed), squared))| {
        GRADIENTS.with(|(reads, sums)| {
            taps.reads(x, rows, j, reads);
            sums.clear();
            sums.resize(taps.offsets.len(), [0.0; WIDTH]);
            let d = d[j * rows * WIDTH..(j + 1) * rows * WIDTH].as_chunks().0;
            Arch::new().dispatch(Update { x, pitch: taps.pitch, reads, d, sums, value, smoothed, squared, step });
        });
    });
}

/// What a panel's taps read, and its gradient `(taps, WIDTH)`.
static GRADIENTS: Pool<(Vec<Read>, Vec<[f32; WIDTH]>)> = Pool::new();

struct Update<'a> {
    x: &'a [f32],
    pitch: usize,
    reads: &'a [Read],
    d: &'a [[f32; WIDTH]],
    sums: &'a mut [[f32; WIDTH]],
    value: &'a mut [f32],
    smoothed: &'a mut [f32],
    squared: &'a mut [f32],
    step: &'a Step,
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Update { x, pitch, reads, d, sums, value, smoothed, squared, step } = self;
        let each = if S::F32_LANES == 8 { 4 } else { TAPS };
        let (rows, blocks) = (d.len(), d.len().div_ceil(BLOCK_ROWS));
        for block in 0..blocks {
            let (first, end) = (rows * block / blocks, rows * (block + 1) / blocks);
            let (x, d) = (&x[first * pitch..], &d[first..end]);
            for reads in reads.chunks(each) {
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match each {
                        4 => outer::<S, 4>(simd, x, pitch, d, reads, shift, sums),
                        _ => outer::<S, TAPS>(simd, x, pitch, d, reads, shift, sums),
                    }
                }
            }
        }
        apply(sums.as_flattened(), value, smoothed, squared, step);
    }
}

/// `sums[tap] += Σ_r x[start + r·pitch..] · d[r]` for at most `MT` taps and a vector of locations of every channel.
#[inline(always)]
fn outer<S: Simd, const MT: usize>(
    simd: S,
    x: &[f32],
    pitch: usize,
    d: &[[f32; WIDTH]],
    reads: &[Read],
    shift: usize,
    sums: &mut [[f32; WIDTH]],
) {
    // Of a smaller tile the last tap again: it comes to the same.
    let reads: [Read; MT] = std::array::from_fn(|t| reads[t.min(reads.len() - 1)]);
    let mut acc = [[simd.splat_f32s(0.0); CHANNELS]; MT];
    for t in 0..MT {
        for c in 0..CHANNELS {
            acc[t][c] = S::as_simd_f32s(&sums[reads[t].tap][c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
    }
    for (r, d) in d.iter().enumerate() {
        let mut along = [simd.splat_f32s(0.0); CHANNELS];
        for c in 0..CHANNELS {
            along[c] = S::as_simd_f32s(&d[c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
        for t in 0..MT {
            let from = reads[t].start + r * pitch + shift;
            // SAFETY: `Taps::reads` has found what each tap reads of each row within `x`.
            let x = unsafe { x.get_unchecked(from..from + S::F32_LANES) };
            let x = S::as_simd_f32s(x).0[0];
            for c in 0..CHANNELS {
                acc[t][c] = simd.mul_add_e_f32s(x, along[c], acc[t][c]);
            }
        }
    }
    for t in 0..MT {
        for c in 0..CHANNELS {
            S::as_mut_simd_f32s(&mut sums[reads[t].tap][c * LOCATIONS + shift..][..S::F32_LANES]).0[0] = acc[t][c];
        }
    }
}

/// `dx[taps] += Σ W d`: the transpose of the product, for `dx` spread rows and `d: (panels, R, WIDTH)`.
/// `apart`: taps that follow one another at this distance do not overlap.
pub fn backward(taps: &Taps, d: &[f32], rows: usize, weight: &Panels, apart: usize, dx: &mut [f32]) {
    assert_eq!(d.len(), taps.places.len() * rows * WIDTH);
    Arch::new().dispatch(Backward { taps, d, rows, weight, apart, dx });
}

struct Backward<'a> {
    taps: &'a Taps,
    d: &'a [f32],
    rows: usize,
    weight: &'a Panels,
    apart: usize,
    dx: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { taps, d, rows, weight, apart, dx } = self;
        for (j, &place) in taps.places.iter().enumerate() {
            let (d, weights) = (d[j * rows * WIDTH..].as_chunks::<WIDTH>().0, weight.panel(j).as_chunks::<WIDTH>().0);
            let live = taps.live_taps(j);
            // A sum that has just been written is slow to read again at another offset: neighbours come later.
            for first in 0..apart {
                for t in (first..taps.offsets.len()).step_by(apart).filter(|&t| live[t] != 0) {
                    let place = if t < taps.moving { place } else { Place::default() };
                    let from = taps.at(taps.offsets[t], rows) + taps.at(place, rows);
                    let weights = S::as_simd_f32s(&weights[t]).0;
                    for (r, d) in d.iter().enumerate().take(rows) {
                        let d = S::as_simd_f32s(d).0;
                        let to = S::as_mut_simd_f32s(&mut dx[from + r * taps.pitch..][..LOCATIONS]).0;
                        for (v, to) in to.iter_mut().enumerate() {
                            for c in 0..CHANNELS {
                                let at = c * (LOCATIONS / S::F32_LANES) + v;
                                *to = simd.mul_add_e_f32s(weights[at], d[at], *to);
                            }
                        }
                    }
                }
            }
        }
    }
}
