//! Products for receptive fields of few channels: neighbouring locations lie side by side in a vector, each with weights of
//! its own, so that a tap (one input of a field) is one load of inputs, shared by all channels, and one of weights for each.
//!
//! Inputs come spread out: what the neighbour to the right sees through a tap lies one number further on.

use super::panels::{Panels, WIDTH};
use super::product::finish;
use super::update::{Learned, apply, or_empty};
use crate::engine::vectorised;
use crate::optimizer::Step;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Neighbouring locations of a panel.
pub const LOCATIONS: usize = 16;

/// Channels of a panel.
pub const CHANNELS: usize = WIDTH / LOCATIONS;

/// Rows in a tile of sums.
const ROWS: usize = 8;

/// Taps in a tile of gradients.
const TAPS: usize = 8;

/// Where the locations of each panel find their inputs in a spread row.
#[derive(Clone, Debug)]
pub struct Taps {
    /// Of each tap, for the location at 0. The first `moving` taps move along with the location, the others see the same
    /// numbers everywhere, written [`LOCATIONS`] times.
    pub offsets: Vec<u32>,
    /// How many taps move.
    pub moving: usize,
    /// Where the first location of each panel is.
    pub places: Vec<u32>,
    /// Numbers of a spread row.
    pub length: usize,
}

impl Taps {
    /// No tap of any panel reads beyond the end of a spread row.
    fn check(&self, x: &[f32], rows: usize) {
        assert_eq!(x.len(), rows * self.length);
        let (moving, fixed) = self.offsets.split_at(self.moving);
        let last = |of: &[u32]| of.iter().max().map_or(0, |&last| last as usize + LOCATIONS);
        let place = self.places.iter().max().map_or(0, |&place| place as usize);
        assert!(last(moving) + place <= self.length && last(fixed) <= self.length);
    }
}

/// `answers[panel] = max(0, x W + b)`: `x: (R, length)` spread rows, `answers: (panels, R, WIDTH)`.
pub fn forward(taps: &Taps, x: &[f32], rows: usize, weight: &Panels, bias: &Panels, answers: &mut [f32]) {
    taps.check(x, rows);
    assert_eq!((weight.inputs(), weight.count()), (taps.offsets.len(), taps.places.len()));
    assert_eq!(answers.len(), taps.places.len() * rows * WIDTH);
    answers.par_chunks_exact_mut((rows * WIDTH).max(1)).enumerate().for_each(|(j, answers)| {
        let task =
            Forward { taps, x, place: taps.places[j] as usize, panel: weight.panel(j), bias: bias.panel(j), answers };
        Arch::new().dispatch(task);
    });
}

struct Forward<'a> {
    taps: &'a Taps,
    x: &'a [f32],
    place: usize,
    panel: &'a [f32],
    bias: &'a [f32],
    answers: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = self.taps.length;
        let rows = self.x.chunks(ROWS * length).zip(self.answers.chunks_mut(ROWS * WIDTH));
        for (x, answers) in rows {
            let mut sums = [[0.0f32; WIDTH]; ROWS];
            let count = x.len() / length;
            // As many rows as the registers hold; of a last, smaller part the last row again.
            let each = if S::F32_LANES == 8 { 4 } else { ROWS };
            for first in (0..count).step_by(each) {
                let mut starts = [0; ROWS];
                starts.iter_mut().enumerate().for_each(|(i, start)| *start = (first + i).min(count - 1) * length);
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match each {
                        4 => {
                            tile::<S, 4>(simd, self.taps, x, &starts, self.place, shift, self.panel, &mut sums[first..])
                        }
                        _ => {
                            tile::<S, 8>(simd, self.taps, x, &starts, self.place, shift, self.panel, &mut sums[first..])
                        }
                    }
                }
            }
            for (sums, answers) in sums.iter_mut().zip(answers.as_chunks_mut::<WIDTH>().0) {
                finish(sums, 1.0, Some(self.bias), true);
                *answers = *sums;
            }
        }
    }
}

/// `MR` rows against a vector of locations of every channel of the panel.
#[expect(clippy::too_many_arguments, reason = "a kernel's registers and what they are loaded from")]
#[inline(always)]
fn tile<S: Simd, const MR: usize>(
    simd: S,
    taps: &Taps,
    x: &[f32],
    starts: &[usize; ROWS],
    place: usize,
    shift: usize,
    panel: &[f32],
    sums: &mut [[f32; WIDTH]],
) {
    let mut acc = [[simd.splat_f32s(0.0); CHANNELS]; MR];
    // One loop over both kinds: a closure called twice would not be inlined, and every vector operation in it a call.
    for (t, (&offset, w)) in taps.offsets.iter().zip(panel.as_chunks::<WIDTH>().0).enumerate() {
        let from = offset as usize + if t < taps.moving { place } else { 0 } + shift;
        let mut weights = [simd.splat_f32s(0.0); CHANNELS];
        for c in 0..CHANNELS {
            weights[c] = S::as_simd_f32s(&w[c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
        for i in 0..MR {
            // SAFETY: `Taps::check` has found `offset + place + LOCATIONS` within a spread row, and `starts` are starts
            // of whole rows of `x`.
            let x = unsafe { x.get_unchecked(starts[i] + from..starts[i] + from + S::F32_LANES) };
            let x = S::as_simd_f32s(x).0[0];
            for c in 0..CHANNELS {
                acc[i][c] = simd.mul_add_e_f32s(x, weights[c], acc[i][c]);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for c in 0..CHANNELS {
            S::as_mut_simd_f32s(&mut sums[c * LOCATIONS + shift..][..S::F32_LANES]).0[0] = acc[c];
        }
    }
}

/// One step of `weight` along `Σ_r x_r ⊗ d_r`: `x: (R, length)` spread rows, `d: (panels, R, WIDTH)`, 0 where there is no
/// location.
pub fn update(taps: &Taps, x: &[f32], rows: usize, d: &[f32], weight: &mut Learned, step: &Step) {
    taps.check(x, rows);
    assert_eq!(d.len(), taps.places.len() * rows * WIDTH);
    weight.prepare(step);
    let count = weight.value.count();
    assert_eq!((weight.value.inputs(), count), (taps.offsets.len(), taps.places.len()));
    let squares = or_empty(count, weight.squared.panels_mut().collect());
    let panels: Vec<_> = weight.value.panels_mut().zip(weight.smoothed.panels_mut()).zip(squares).enumerate().collect();
    panels.into_par_iter().for_each(|(j, ((value, smoothed), squared))| {
        let (place, d) = (taps.places[j] as usize, &d[j * rows * WIDTH..(j + 1) * rows * WIDTH]);
        Arch::new().dispatch(Update { taps, x, place, d, value, smoothed, squared, step });
    });
}

struct Update<'a> {
    taps: &'a Taps,
    x: &'a [f32],
    place: usize,
    d: &'a [f32],
    value: &'a mut [f32],
    smoothed: &'a mut [f32],
    squared: &'a mut [f32],
    step: &'a Step,
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Update { taps, x, place, d, value, smoothed, squared, step } = self;
        let mut no_squares = [0.0f32; TAPS * WIDTH];
        let tiles =
            taps.offsets.chunks(TAPS).zip(value.chunks_mut(TAPS * WIDTH)).zip(smoothed.chunks_mut(TAPS * WIDTH));
        for (tile, ((offsets, value), smoothed)) in tiles.enumerate() {
            // Of a last, smaller part the last tap again.
            let mut from = [0; TAPS];
            for (i, from) in from.iter_mut().enumerate() {
                let i = i.min(offsets.len() - 1);
                *from = offsets[i] as usize + if tile * TAPS + i < taps.moving { place } else { 0 };
            }
            let mut sums = [[0.0f32; WIDTH]; TAPS];
            let each = if S::F32_LANES == 8 { 4 } else { TAPS };
            for first in (0..TAPS).step_by(each) {
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match each {
                        4 => outer::<S, 4>(simd, x, taps.length, d, &from[first..], shift, &mut sums[first..]),
                        _ => outer::<S, 8>(simd, x, taps.length, d, &from[first..], shift, &mut sums[first..]),
                    }
                }
            }
            let squared = match squared.is_empty() {
                true => &mut no_squares[..value.len()],
                false => &mut squared[tile * TAPS * WIDTH..][..value.len()],
            };
            apply(&sums.as_flattened()[..value.len()], value, smoothed, squared, step);
        }
    }
}

/// `sums[t] = Σ_r x[r][from[t]..] · d[r]` for `MT` taps and a vector of locations of every channel.
#[inline(always)]
fn outer<S: Simd, const MT: usize>(
    simd: S,
    x: &[f32],
    length: usize,
    d: &[f32],
    from: &[usize],
    shift: usize,
    sums: &mut [[f32; WIDTH]],
) {
    let mut acc = [[simd.splat_f32s(0.0); CHANNELS]; MT];
    for (x, d) in x.chunks_exact(length).zip(d.as_chunks::<WIDTH>().0) {
        let mut along = [simd.splat_f32s(0.0); CHANNELS];
        for c in 0..CHANNELS {
            along[c] = S::as_simd_f32s(&d[c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
        for t in 0..MT {
            // SAFETY: `Taps::check` has found what each tap reads within a spread row.
            let x = unsafe { x.get_unchecked(from[t] + shift..from[t] + shift + S::F32_LANES) };
            let x = S::as_simd_f32s(x).0[0];
            for c in 0..CHANNELS {
                acc[t][c] = simd.mul_add_e_f32s(x, along[c], acc[t][c]);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for c in 0..CHANNELS {
            S::as_mut_simd_f32s(&mut sums[c * LOCATIONS + shift..][..S::F32_LANES]).0[0] = acc[c];
        }
    }
}

/// `dx[r][taps] += Σ W d`: the transpose of the product, for spread rows `dx: (R, length)` and `d: (panels, R, WIDTH)`.
/// `apart`: taps that follow one another at this distance do not overlap.
pub fn backward(taps: &Taps, d: &[f32], rows: usize, weight: &Panels, apart: usize, dx: &mut [f32]) {
    taps.check(dx, rows);
    assert_eq!(d.len(), taps.places.len() * rows * WIDTH);
    dx.par_chunks_mut(ROWS * taps.length).enumerate().for_each(|(part, dx)| {
        vectorised(|| {
            for (j, &place) in taps.places.iter().enumerate() {
                let d = d[(j * rows + part * ROWS) * WIDTH..].as_chunks::<WIDTH>().0;
                let weights = weight.panel(j).as_chunks::<WIDTH>().0;
                // A sum that has just been written is slow to read again at another offset: neighbours come later.
                let order = (0..apart).flat_map(|first| (first..taps.offsets.len()).step_by(apart));
                for t in order {
                    let from = taps.offsets[t] as usize + if t < taps.moving { place as usize } else { 0 };
                    let [first, second, third] = channels(&weights[t]);
                    for (dx, d) in dx.chunks_exact_mut(taps.length).zip(d) {
                        let to = dx[from..].first_chunk_mut::<LOCATIONS>().expect("`Taps::check` has found it");
                        let [a, b, c] = channels(d);
                        for i in 0..LOCATIONS {
                            to[i] += first[i] * a[i] + second[i] * b[i] + third[i] * c[i];
                        }
                    }
                }
            }
        });
    });
}

/// The channels of a row of a panel.
#[inline(always)]
fn channels(row: &[f32; WIDTH]) -> &[[f32; LOCATIONS]; CHANNELS] {
    row.as_chunks::<LOCATIONS>().0.try_into().expect("a panel is whole channels")
}
