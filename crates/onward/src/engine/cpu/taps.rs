//! Products for receptive fields of few channels: neighbouring locations lie side by side in a vector, each with weights of
//! its own, so that a tap (one input of a field) is one load of inputs, shared by all channels, and one of weights for each.
//!
//! Inputs come spread out, line by line of their maps: what the neighbour to the right sees through a tap lies one number
//! further on, and what the next row has there a line further on.

use super::panels::{Panels, WIDTH};
use super::product::finish;
use super::update::{Learned, apply, or_empty};
use crate::optimizer::Step;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Neighbouring locations of a panel.
pub const LOCATIONS: usize = 16;

/// Channels of a panel.
pub const CHANNELS: usize = WIDTH / LOCATIONS;

/// Rows in a tile of sums: with more, sums would not stay in registers.
pub const ROWS: usize = 6;

/// Taps in a tile of gradients.
const TAPS: usize = 8;

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
    /// Lines of a spread row.
    pub lines: usize,
    /// Numbers of a line, at least [`LOCATIONS`].
    pub pitch: usize,
}

impl Taps {
    /// Numbers of so many spread rows, and of those that a last, smaller tile reads beyond them.
    pub fn length(&self, rows: usize) -> usize {
        (self.lines * rows + ROWS) * self.pitch + LOCATIONS
    }

    /// Where tap `t` of the panel at `place` reads the first of `rows` rows; the next one is `pitch` further on.
    #[inline(always)]
    fn from(&self, t: usize, place: Place, rows: usize) -> usize {
        let place = if t < self.moving { place } else { Place::default() };
        let Place { line, column } = self.offsets[t];
        (line + place.line) as usize * rows * self.pitch + (column + place.column) as usize
    }

    /// No tap of any panel reads beyond the end of spread rows.
    fn check(&self, x: &[f32], rows: usize) {
        assert!(x.len() == self.length(rows) && self.pitch >= LOCATIONS);
        let (moving, fixed) = self.offsets.split_at(self.moving);
        let last = |of: &[Place], what: fn(&Place) -> u32| of.iter().map(what).max().map_or(0, |last| last as usize);
        let within = |what: fn(&Place) -> u32, size: usize| {
            last(moving, what) + last(&self.places, what) < size && last(fixed, what) < size
        };
        // The last number of the last line is followed by as many as a vector of locations may read beyond it.
        assert!(within(|place| place.line, self.lines.max(1)) && within(|place| place.column, self.pitch + 1));
    }
}

/// `answers = max(0, x W + b)` of panel `j`: `x` spread rows, `answers: (R, WIDTH)`.
pub fn forward(taps: &Taps, x: &[f32], j: usize, weight: &Panels, bias: &Panels, answers: &mut [[f32; WIDTH]]) {
    taps.check(x, answers.len());
    assert_eq!((weight.inputs(), weight.count()), (taps.offsets.len(), taps.places.len()));
    Arch::new().dispatch(Forward {
        taps,
        x,
        place: taps.places[j],
        panel: weight.panel(j),
        bias: bias.panel(j),
        answers,
    });
}

struct Forward<'a> {
    taps: &'a Taps,
    x: &'a [f32],
    place: Place,
    panel: &'a [f32],
    bias: &'a [f32],
    answers: &'a mut [[f32; WIDTH]],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { taps, x, place, panel, bias, answers } = self;
        let rows = answers.len();
        // As many rows as the registers hold; sums of a last, smaller part's other rows are not used.
        let each = if S::F32_LANES == 8 { ROWS / 2 } else { ROWS };
        for (part, answers) in answers.chunks_mut(each).enumerate() {
            let mut sums = [[0.0f32; WIDTH]; ROWS];
            for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                let at = (rows, part * each * taps.pitch + shift);
                match each {
                    ROWS => tile::<S, ROWS>(simd, taps, x, at, place, panel, &mut sums, shift),
                    _ => tile::<S, { ROWS / 2 }>(simd, taps, x, at, place, panel, &mut sums, shift),
                }
            }
            for (sums, answers) in sums.iter_mut().zip(answers) {
                finish(sums, 1.0, Some(bias), true);
                *answers = *sums;
            }
        }
    }
}

/// `MR` rows against a vector of locations of every channel of the panel.
#[expect(clippy::too_many_arguments, reason = "a kernel's registers and what they are loaded from")]
#[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
#[inline(always)]
fn tile<S: Simd, const MR: usize>(
    simd: S,
    taps: &Taps,
    x: &[f32],
    (rows, start): (usize, usize),
    place: Place,
    panel: &[f32],
    sums: &mut [[f32; WIDTH]; ROWS],
    shift: usize,
) {
    let mut acc = [[simd.splat_f32s(0.0); CHANNELS]; MR];
    // One loop over both kinds of taps: a closure called twice would not be inlined, and every vector operation in it a call.
    for (t, w) in panel.as_chunks::<WIDTH>().0.iter().enumerate() {
        let from = taps.from(t, place, rows) + start;
        let mut weights = [simd.splat_f32s(0.0); CHANNELS];
        for c in 0..CHANNELS {
            weights[c] = S::as_simd_f32s(&w[c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
        for i in 0..MR {
            let from = from + i * taps.pitch;
            // SAFETY: `Taps::check` has found what each tap reads of each row, and of a tile more, within `x`.
            let x = unsafe { x.get_unchecked(from..from + S::F32_LANES) };
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

/// One step of `weight` along `Σ_r x_r ⊗ d_r`: `x` spread rows, `d: (panels, R, WIDTH)`, 0 where there is no location.
pub fn update(taps: &Taps, x: &[f32], rows: usize, d: &[f32], weight: &mut Learned, step: &Step) {
    taps.check(x, rows);
    assert_eq!(d.len(), taps.places.len() * rows * WIDTH);
    weight.prepare(step);
    let count = weight.value.count();
    assert_eq!((weight.value.inputs(), count), (taps.offsets.len(), taps.places.len()));
    let squares = or_empty(count, weight.squared.panels_mut().collect());
    let panels: Vec<_> = weight.value.panels_mut().zip(weight.smoothed.panels_mut()).zip(squares).enumerate().collect();
    panels.into_par_iter().for_each(|(j, ((value, smoothed), squared))| {
        let (place, d) = (taps.places[j], &d[j * rows * WIDTH..(j + 1) * rows * WIDTH]);
        Arch::new().dispatch(Update { taps, x, place, rows, d, value, smoothed, squared, step });
    });
}

struct Update<'a> {
    taps: &'a Taps,
    x: &'a [f32],
    place: Place,
    rows: usize,
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
        let Update { taps, x, place, rows, d, value, smoothed, squared, step } = self;
        let mut no_squares = [0.0f32; TAPS * WIDTH];
        let tiles = value.chunks_mut(TAPS * WIDTH).zip(smoothed.chunks_mut(TAPS * WIDTH));
        for (tile, (value, smoothed)) in tiles.enumerate() {
            // Of a last, smaller part the last tap again.
            let mut from = [0; TAPS];
            for (i, from) in from.iter_mut().enumerate() {
                *from = taps.from((tile * TAPS + i).min(taps.offsets.len() - 1), place, rows);
            }
            let mut sums = [[0.0f32; WIDTH]; TAPS];
            let each = if S::F32_LANES == 8 { 4 } else { TAPS };
            for first in (0..TAPS).step_by(each) {
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match each {
                        4 => outer::<S, 4>(simd, x, taps.pitch, d, &from[first..], shift, &mut sums[first..]),
                        _ => outer::<S, 8>(simd, x, taps.pitch, d, &from[first..], shift, &mut sums[first..]),
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

/// `sums[t] = Σ_r x[from[t] + r·pitch..] · d[r]` for `MT` taps and a vector of locations of every channel.
#[inline(always)]
fn outer<S: Simd, const MT: usize>(
    simd: S,
    x: &[f32],
    pitch: usize,
    d: &[f32],
    from: &[usize],
    shift: usize,
    sums: &mut [[f32; WIDTH]],
) {
    let mut acc = [[simd.splat_f32s(0.0); CHANNELS]; MT];
    for (r, d) in d.as_chunks::<WIDTH>().0.iter().enumerate() {
        let mut along = [simd.splat_f32s(0.0); CHANNELS];
        for c in 0..CHANNELS {
            along[c] = S::as_simd_f32s(&d[c * LOCATIONS + shift..][..S::F32_LANES]).0[0];
        }
        for t in 0..MT {
            let from = from[t] + r * pitch + shift;
            // SAFETY: `Taps::check` has found what each tap reads of each row within `x`.
            let x = unsafe { x.get_unchecked(from..from + S::F32_LANES) };
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

/// `dx[taps] += Σ W d`: the transpose of the product, for `dx` spread rows and `d: (panels, R, WIDTH)`.
/// `apart`: taps that follow one another at this distance do not overlap.
pub fn backward(taps: &Taps, d: &[f32], rows: usize, weight: &Panels, apart: usize, dx: &mut [f32]) {
    taps.check(dx, rows);
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
            // A sum that has just been written is slow to read again at another offset: neighbours come later.
            for first in 0..apart {
                for t in (first..taps.offsets.len()).step_by(apart) {
                    let from = taps.from(t, place, rows);
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
