//! Products for receptive fields of few channels: neighbouring locations lie side by side in a vector, each with weights of
//! its own, so that a tap (one input of a field) is one load of inputs, shared by all channels, and one of weights for each.
//!
//! Inputs come spread out, line by line of their maps: what the neighbour to the right sees through a tap lies one number
//! further on, and what the next row has there a line further on.

use super::aligned::Aligned;
use super::bf16::{Pairs, round, round_rows};
use super::panels::{Panels, WIDTH, prefetch};
use super::product::finish;
use super::tap_pairs;
use super::update::{Learned, apply, or_empty};
use crate::engine::pool::Pool;
use crate::optimizer::Step;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Neighbouring locations of a panel.
pub const LOCATIONS: usize = 16;

/// Channels of a panel.
pub const CHANNELS: usize = WIDTH / LOCATIONS;

/// Rows in a tile of sums, at most: with more, sums would not stay in registers.
const ROWS: usize = 8;

/// Taps whose weights stay in the first cache while all rows pass.
pub(super) const BLOCK: usize = 64;

/// How far behind a weight lies one that is needed so many taps later. To [`prefetch`] it costs time: each tile of rows asks for
/// one channel's.
#[inline(always)]
pub(super) fn ahead(taps: usize, tile: usize) -> usize {
    taps * WIDTH + tile % CHANNELS * LOCATIONS
}

/// Taps in a tile of gradients.
pub(super) const TAPS: usize = 8;

/// The half of a pair that the second number is in.
const HIGH: u32 = 0xffff_0000;

/// Rows whose directions and lines of inputs stay in the first cache while all taps pass.
pub(super) const BLOCK_ROWS: usize = 64;

/// Lines of spread rows `(R, pitch)` in pairs: each number and its neighbour to the right, or nothing at the end of a row.
#[inline(always)]
pub fn pair_columns(x: &[f32], pitch: usize, pairs: &mut [u32]) {
    pairs.iter_mut().zip(x).for_each(|(to, x)| *to = round(*x));
    for n in 1..pairs.len() {
        pairs[n - 1] = pairs[n - 1] >> 16 | pairs[n] & HIGH;
    }
    pairs.last_mut().into_iter().for_each(|last| *last >>= 16);
    // The next row's numbers are none of this one's.
    pairs.chunks_exact_mut(pitch).for_each(|row| row[pitch - 1] &= !HIGH);
}

/// A place in a spread row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Which line.
    pub line: u32,
    /// Which number of it.
    pub column: u32,
}

/// How many rows are spread out, and what those that show the same sample have in common: the first lines, of which there is one
/// for each sample, and what the first taps see.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Rows in all.
    pub rows: usize,
    /// Samples that they show.
    pub samples: usize,
    /// Lines that they have in common.
    pub lines: usize,
    /// Taps that read those.
    pub taps: usize,
}

impl Counts {
    /// Rows that have nothing in common.
    pub fn apart(rows: usize) -> Self {
        Counts { rows, samples: 1, lines: 0, taps: 0 }
    }

    /// Pairs of neighbouring rows, and of samples; the last one is alone where their number is odd.
    pub fn in_pairs(self) -> Self {
        Counts { rows: self.rows.div_ceil(2), samples: self.samples.div_ceil(2), ..self }
    }
}

/// Where the locations of each panel find their inputs. Spread rows lie line by line, `(lines, R, pitch)`, and some numbers
/// after the last: what a tap reads of one row after another lies together. See [`Counts`] for the first lines.
#[derive(Clone, Debug)]
pub struct Taps {
    /// Of each tap, for the location at 0. The first `moving` taps move along with the location, the others see the same
    /// numbers everywhere, written [`LOCATIONS`] times. For products of pairs, of two taps the second reads what the first
    /// one's neighbour to the right does, or has no live place.
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
    pub fn length(&self, counts: Counts) -> usize {
        self.at(Place { line: self.lines as u32, column: 0 }, counts) + LOCATIONS
    }

    /// Where number `column` of a line of the first row is; the next row's is `pitch` further on.
    #[inline(always)]
    fn at(&self, Place { line, column }: Place, counts: Counts) -> usize {
        let (line, common) = (line as usize, counts.lines.min(line as usize));
        (common * counts.samples + (line - common) * counts.rows) * self.pitch + column as usize
    }

    /// What the taps of panel `j`, or `EACH` of them at a time, read of the first row, but those that lie beyond an edge for all
    /// its locations. None reads beyond the end of any row in `x`. Answers how many of them read what rows have in common.
    fn reads<const EACH: usize, T>(&self, x: &[T], counts: Counts, j: usize, reads: &mut Vec<Read>) -> usize {
        let (mut common, mut end) = (0, 0);
        reads.clear();
        for (tap, (offset, live)) in self.offsets.iter().step_by(EACH).zip(self.live_taps(j).chunks(EACH)).enumerate() {
            if live.iter().any(|live| *live != 0) {
                let place = if tap * EACH < self.moving { self.places[j] } else { Place::default() };
                let place = Place { line: offset.line + place.line, column: offset.column + place.column };
                let (start, is_common) = (self.at(place, counts), tap * EACH < counts.taps);
                let rows = if is_common { counts.samples } else { counts.rows };
                end = end.max(start + (rows.max(1) - 1) * self.pitch + LOCATIONS);
                common += usize::from(is_common);
                reads.push(Read { tap, start });
            }
        }
        assert!(counts.rows == 0 || end <= x.len());
        common
    }

    /// Of each tap of panel `j`, which places of its row are real weights.
    fn live_taps(&self, j: usize) -> &[u64] {
        &self.live[j * self.offsets.len()..][..self.offsets.len()]
    }
}

/// A tap or a pair of them, and where the first of some rows has what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub tap: usize,
    pub start: usize,
}

/// `max(0, x W + b)` of spread rows, which show these samples `(R)`, panel by panel: `each(j, answers)` gets panel `j`'s,
/// `(R, WIDTH)`.
pub fn forward(
    taps: &Taps,
    x: &[f32],
    (counts, sample): (Counts, &[u32]),
    weight: &Panels,
    bias: &Panels,
    each: impl FnMut(usize, &[[f32; WIDTH]]),
) {
    assert_eq!((weight.inputs(), weight.count()), (taps.offsets.len(), taps.places.len()));
    let reads = |j: usize, reads: &mut Vec<Read>| taps.reads::<1, _>(x, counts, j, reads);
    let add = |j: usize, reads: &[Read], sums: &mut [[f32; WIDTH]]| {
        Arch::new().dispatch(Add { x, pitch: taps.pitch, reads, panel: weight.panel(j).as_chunks().0, sums });
    };
    answer(bias, (counts, sample), reads, add, each);
}

/// The same of rows in pairs of neighbouring columns, where [`has_bf16`](super::has_bf16) says so: two taps at a time.
pub fn forward_pairs(
    taps: &Taps,
    x: &[u32],
    (counts, sample): (Counts, &[u32]),
    weight: &Pairs,
    bias: &Panels,
    each: impl FnMut(usize, &[[f32; WIDTH]]),
) {
    let reads = |j: usize, reads: &mut Vec<Read>| taps.reads::<2, _>(x, counts, j, reads);
    let add = |j: usize, reads: &[Read], sums: &mut [[f32; WIDTH]]| {
        tap_pairs::add(x, taps.pitch, reads, weight.panel(j).as_chunks().0, sums);
    };
    answer(bias, (counts, sample), reads, add, each);
}

/// Answers of every panel, from `reads(j, …)` what panel `j`'s taps read, those first that rows of a sample have in common, and
/// `add(j, reads, sums)` what they see.
fn answer(
    bias: &Panels,
    (counts, sample): (Counts, &[u32]),
    reads_of: impl Fn(usize, &mut Vec<Read>) -> usize,
    add: impl Fn(usize, &[Read], &mut [[f32; WIDTH]]),
    mut each: impl FnMut(usize, &[[f32; WIDTH]]),
) {
    assert_eq!(sample.len(), counts.rows);
    let (mut reads, mut memory) = (Vec::new(), Aligned::zeros((counts.samples + counts.rows) * WIDTH));
    let (common, sums) = memory.as_chunks_mut().0.split_at_mut(counts.samples);
    for j in 0..bias.count() {
        let split = reads_of(j, &mut reads);
        common.as_flattened_mut().fill(0.0);
        add(j, &reads[..split], common);
        sums.iter_mut().zip(sample).for_each(|(sums, &sample)| *sums = common[sample as usize]);
        add(j, &reads[split..], sums);
        let bias = Some(bias.panel(j));
        crate::engine::vectorised!(sums.iter_mut().for_each(|sums| finish(sums, 1.0, bias, true)));
        each(j, sums);
    }
}

/// Adds to the sums of every row what some taps see.
struct Add<'a> {
    x: &'a [f32],
    pitch: usize,
    reads: &'a [Read],
    panel: &'a [[f32; WIDTH]],
    sums: &'a mut [[f32; WIDTH]],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Add { x, pitch, reads, panel, sums } = self;
        // As many rows as the registers hold, in tiles of about the same size.
        let most = if S::F32_LANES == 8 { 4 } else { ROWS };
        let (rows, tiles) = (sums.len(), sums.len().div_ceil(most));
        for reads in reads.chunks(BLOCK) {
            for tile in 0..tiles {
                let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                let (x, sums) = (&x[first * pitch..], &mut sums[first..end]);
                let ahead = ahead(BLOCK, tile);
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match end - first {
                        8 => add::<S, 8>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        7 => add::<S, 7>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        6 => add::<S, 6>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        5 => add::<S, 5>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        4 => add::<S, 4>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        3 => add::<S, 3>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        2 => add::<S, 2>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                        _ => add::<S, 1>(simd, x, pitch, (reads, panel, ahead), shift, sums),
                    }
                }
            }
        }
    }
}

/// Adds to the sums of `MR` rows, for a vector of locations of every channel, what some taps see.
#[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
#[inline(always)]
fn add<S: Simd, const MR: usize>(
    simd: S,
    x: &[f32],
    pitch: usize,
    (reads, panel, ahead): (&[Read], &[[f32; WIDTH]], usize),
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
        if shift == 0 {
            prefetch(w.as_ptr().wrapping_add(ahead));
        }
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

/// One step of `weight` along `Σ_r x_r ⊗ d_r`: `x` spread rows, which show these samples `(R)`, `d: (panels, R, WIDTH)`, 0 where
/// there is no location.
pub fn update(
    taps: &Taps,
    x: &[f32],
    (counts, sample): (Counts, &[u32]),
    d: &[f32],
    weight: &mut Learned,
    step: &Step,
) {
    step_by_panel(taps, sample, d, weight, step, |j, d, Gradient { reads, sums, common, .. }| {
        let split = taps.reads::<1, _>(x, counts, j, reads);
        by_sample(d, (counts, sample), common);
        for (reads, d) in parts(reads, split, common, d) {
            Arch::new().dispatch(Outer { x, pitch: taps.pitch, reads, d, sums: sums.as_chunks_mut().0 });
        }
    });
}

/// The same where [`has_bf16`](super::has_bf16) says so, from `x` in pairs of neighbouring rows, the last one alone where their number is odd.
pub fn update_pairs(
    taps: &Taps,
    x: &[u32],
    (counts, sample): (Counts, &[u32]),
    d: &[f32],
    weight: &mut Learned,
    step: &Step,
) {
    step_by_panel(taps, sample, d, weight, step, |j, d, Gradient { reads, sums, common, pairs }| {
        let split = taps.reads::<1, _>(x, counts.in_pairs(), j, reads);
        by_sample(d, (counts, sample), common);
        for (reads, d) in parts(reads, split, common, d) {
            pairs.resize(d.len().div_ceil(2) * WIDTH);
            crate::engine::vectorised!(round_rows(d.as_flattened(), WIDTH, pairs));
            tap_pairs::add_outer(x, taps.pitch, reads, pairs.as_chunks().0, sums.as_chunks_mut().0);
        }
    });
}

/// The sum of the directions of each sample's rows `(S, WIDTH)`, nothing where rows have nothing in common.
fn by_sample(d: &[[f32; WIDTH]], (counts, sample): (Counts, &[u32]), sums: &mut Aligned<f32>) {
    sums.resize(if counts.taps > 0 { counts.samples * WIDTH } else { 0 });
    sums.fill(0.0);
    let sums = sums.as_chunks_mut::<WIDTH>().0;
    if !sums.is_empty() {
        crate::engine::vectorised!(for (d, &sample) in d.iter().zip(sample) {
            sums[sample as usize].iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        });
    }
}

/// What taps read and the directions that go with it: first what rows of a sample have in common, then the rest.
fn parts<'a>(
    reads: &'a [Read],
    split: usize,
    common: &'a [f32],
    d: &'a [[f32; WIDTH]],
) -> impl Iterator<Item = (&'a [Read], &'a [[f32; WIDTH]])> {
    let parts = [(&reads[..split], common.as_chunks().0), (&reads[split..], d)];
    parts.into_iter().filter(|(reads, _)| !reads.is_empty())
}

/// The optimiser's step of every panel along the gradient that `gradient(j, d, …)` adds up, with `d: (R, WIDTH)` of panel `j`.
fn step_by_panel(
    taps: &Taps,
    sample: &[u32],
    d: &[f32],
    weight: &mut Learned,
    step: &Step,
    gradient: impl Fn(usize, &[[f32; WIDTH]], &mut Gradient) + Sync,
) {
    let rows = sample.len();
    assert_eq!(d.len(), taps.places.len() * rows * WIDTH);
    weight.prepare(step);
    let count = weight.value.count();
    assert_eq!((weight.value.inputs(), count), (taps.offsets.len(), taps.places.len()));
    let squares = or_empty(count, weight.squared.panels_mut().collect());
    let pairs = or_empty(count, weight.pairs.iter_mut().flat_map(Pairs::panels_mut).collect());
    let panels = weight.value.panels_mut().zip(weight.smoothed.panels_mut()).zip(squares).zip(pairs);
    let panels: Vec<_> = panels.enumerate().collect();
    panels.into_par_iter().for_each(|(j, (((value, smoothed), squared), pairs))| {
        GRADIENTS.with(|work| {
            work.sums.resize(taps.offsets.len() * WIDTH);
            work.sums.fill(0.0);
            gradient(j, d[j * rows * WIDTH..(j + 1) * rows * WIDTH].as_chunks().0, work);
            crate::engine::vectorised!({
                apply(&work.sums, value, smoothed, squared, step);
                if !pairs.is_empty() {
                    round_rows(value, WIDTH, pairs);
                }
            });
        });
    });
}

/// What a thread needs for the gradient of a panel.
#[derive(Debug, Default)]
struct Gradient {
    reads: Vec<Read>,
    /// The sums of the directions of rows that have something in common.
    common: Aligned<f32>,
    /// Directions of two rows.
    pairs: Aligned<u32>,
    /// `(taps, WIDTH)`.
    sums: Aligned<f32>,
}

static GRADIENTS: Pool<Gradient> = Pool::new();

/// The gradient of a panel: see [`outer`].
struct Outer<'a> {
    x: &'a [f32],
    pitch: usize,
    reads: &'a [Read],
    d: &'a [[f32; WIDTH]],
    sums: &'a mut [[f32; WIDTH]],
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outer { x, pitch, reads, d, sums } = self;
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

/// A line of spread rows, and what the locations of neighbouring panels give back to it: numbers that lie one further on for
/// each of `taps` taps. Weights are summed over everything that they give to the line before it is written to, which is slow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    line: usize,
    /// Where the first tap's numbers start.
    column: usize,
    /// How many taps, and how far apart they are among all taps.
    taps: usize,
    step: usize,
    /// Panels, and the first of their taps that reads the line.
    terms: Vec<(usize, usize)>,
}

impl Taps {
    /// All lines that get something back.
    pub fn targets(&self) -> Vec<Target> {
        let seen = |tap: &usize| (0..self.places.len()).any(|j| self.live_taps(j)[*tap] != 0);
        // Taps that read the same line, from left to right.
        let mut order: Vec<usize> = (0..self.offsets.len()).filter(seen).collect();
        order.sort_by_key(|&tap| (self.offsets[tap].line, self.offsets[tap].column));
        let read = order.chunk_by(|&a, &b| self.offsets[a].line == self.offsets[b].line);
        let mut targets = BTreeMap::new();
        for (taps, (j, place)) in read.flat_map(|taps| self.places.iter().enumerate().map(move |panel| (taps, panel))) {
            let (tap, live) = (taps[0], self.live_taps(j));
            if taps.iter().all(|&tap| live[tap] == 0) {
                continue;
            }
            let place = if tap < self.moving { *place } else { Place::default() };
            let line = (self.offsets[tap].line + place.line) as usize;
            let column = (self.offsets[tap].column + place.column) as usize;
            let step = taps.get(1).map_or(1, |next| next - tap);
            let regular = |(i, &t): (usize, &usize)| {
                t == tap + i * step && self.offsets[t].column == self.offsets[tap].column + i as u32
            };
            assert!(taps.iter().enumerate().all(regular), "a window's taps lie side by side");
            let new = || Target { line, column, taps: taps.len(), step, terms: Vec::new() };
            let target: &mut Target = targets.entry((line, column)).or_insert_with(new);
            assert_eq!((target.taps, target.step), (taps.len(), step));
            target.terms.push((j, tap));
        }
        targets.into_values().collect()
    }
}

/// `dx[taps] += Σ W d`: the transpose of the product, for `dx` spread rows and `d: (panels, R, WIDTH)`, 0 where there is no
/// location.
pub fn backward(taps: &Taps, targets: &[Target], d: &[f32], rows: usize, weight: &Panels, dx: &mut [f32]) {
    assert_eq!((d.len(), dx.len()), (taps.places.len() * rows * WIDTH, taps.length(Counts::apart(rows))));
    assert_eq!((weight.inputs(), weight.count()), (taps.offsets.len(), taps.places.len()));
    Arch::new().dispatch(Backward { targets, d, rows, weight, pitch: taps.pitch, dx });
}

struct Backward<'a> {
    targets: &'a [Target],
    d: &'a [f32],
    rows: usize,
    weight: &'a Panels,
    pitch: usize,
    dx: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for target in self.targets {
            match S::F32_LANES {
                8 => self.give_back::<S, 4, 3>(simd, target),
                _ => self.give_back::<S, 6, 4>(simd, target),
            }
        }
    }
}

impl Backward<'_> {
    /// To one line of all rows, at most `MR` rows and `MT` taps at a time.
    #[inline(always)]
    fn give_back<S: Simd, const MR: usize, const MT: usize>(&mut self, simd: S, target: &Target) {
        let (rows, tiles) = (self.rows, self.rows.div_ceil(MR));
        for tile in 0..tiles {
            let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
            // The next line is mostly seen by the same panels, through the taps that follow.
            let ahead = ahead(target.taps * target.step, tile);
            for tap in (0..target.taps).step_by(MT) {
                for shift in (0..LOCATIONS).step_by(S::F32_LANES) {
                    match end - first {
                        6 => self.sum::<S, 6, MT>(simd, target, (tap, ahead), first, shift),
                        5 => self.sum::<S, 5, MT>(simd, target, (tap, ahead), first, shift),
                        4 => self.sum::<S, 4, MT>(simd, target, (tap, ahead), first, shift),
                        3 => self.sum::<S, 3, MT>(simd, target, (tap, ahead), first, shift),
                        2 => self.sum::<S, 2, MT>(simd, target, (tap, ahead), first, shift),
                        _ => self.sum::<S, 1, MT>(simd, target, (tap, ahead), first, shift),
                    }
                }
            }
        }
    }

    /// To `MR` rows from `first` on, through at most `MT` taps, from a vector of locations of every channel.
    #[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
    #[inline(always)]
    fn sum<S: Simd, const MR: usize, const MT: usize>(
        &mut self,
        simd: S,
        target: &Target,
        (tap, ahead): (usize, usize),
        first: usize,
        shift: usize,
    ) {
        let &Target { line, column, taps, step, ref terms } = target;
        let count = MT.min(taps - tap);
        let mut acc = [[simd.splat_f32s(0.0); MT]; MR];
        for &(panel, own) in terms {
            let d = &self.d.as_chunks::<WIDTH>().0[panel * self.rows + first..][..MR];
            let weights = self.weight.panel(panel).as_chunks::<WIDTH>().0;
            // Of a smaller tile the last tap again, which is not written.
            let weights: [_; MT] = std::array::from_fn(|t| &weights[own + (tap + t.min(count - 1)) * step]);
            if shift == 0 {
                weights.iter().for_each(|w| prefetch(w.as_ptr().wrapping_add(ahead)));
            }
            for c in 0..CHANNELS {
                let at = c * LOCATIONS + shift;
                let mut w = [simd.splat_f32s(0.0); MT];
                for t in 0..MT {
                    w[t] = S::as_simd_f32s(&weights[t][at..at + S::F32_LANES]).0[0];
                }
                for i in 0..MR {
                    let d = S::as_simd_f32s(&d[i][at..at + S::F32_LANES]).0[0];
                    for t in 0..MT {
                        acc[i][t] = simd.mul_add_e_f32s(w[t], d, acc[i][t]);
                    }
                }
            }
        }
        // A number that has just been written is slow to read at another offset: the same tap of all rows first.
        for t in 0..count {
            for i in 0..MR {
                let from = (line * self.rows + first + i) * self.pitch + column + tap + t + shift;
                let to = &mut S::as_mut_simd_f32s(&mut self.dx[from..from + S::F32_LANES]).0[0];
                *to = simd.add_f32s(*to, acc[i][t]);
            }
        }
    }
}
