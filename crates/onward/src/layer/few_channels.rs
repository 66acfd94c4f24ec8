//! Local layers of few channels: a location's own product would be narrower than a vector, so neighbouring locations are
//! computed side by side. The same layer as [`Local`](super::Local), only faster.

use super::Layer;
use super::fields::Source;
use super::local::{Examples, initial_units, shared_row};
use crate::Shape;
use crate::engine;
use crate::engine::cpu::aligned::Aligned;
use crate::engine::cpu::bf16::{Pairs, round_rows};
use crate::engine::cpu::gradient;
use crate::engine::cpu::panels::{Panels, nudge};
use crate::engine::cpu::taps::{self, CHANNELS, Counts, LOCATIONS, Place, Taps, Target};
use crate::engine::cpu::update::Learned;
use crate::engine::pool::Pool;
use crate::error::Result;
use crate::optimizer::{Step, equal_gains};
use crate::pass::{Activity, Directions, Inputs, Row};
use crate::random::{Random, bits};
use crate::settings::Fields;
use crate::tensor::{Tensor, Tensors};
use rayon::prelude::*;

/// Numbers of a panel's row: of each channel, the neighbouring locations.
const WIDTH: usize = CHANNELS * LOCATIONS;

/// Rows that are learned from together: bounded memory.
const ROWS: usize = 256;

/// How many times as large as its map a window is at most.
const BEYOND: usize = 4;

/// Lines that a thread spreads at least.
const LINES_EACH: usize = 16;

/// Rows that a thread answers at a time, at most: spread out, what a panel sees of them stays in its cache, and all weights
/// pass once for each group.
const GROUP: usize = 48;

/// Receptive fields without weight sharing, of few channels.
#[derive(Debug)]
pub struct FewChannels {
    fields: Fields,
    sources: Vec<Source>,
    shape: Shape,
    inputs: usize,
    /// Whether its products are of bf16 numbers, in pairs.
    bf16: bool,
    /// What each line of a spread row holds, if anything.
    lines: Vec<Option<Segment>>,
    /// Of these, and of the taps, how many are the first source's, where it is a map: what rows may have in common.
    lowest: (usize, usize),
    taps: Taps,
    /// The way back through the taps.
    targets: Vec<Target>,
    weight: Learned,
    /// `b`, as a matrix of one row.
    bias: Learned,
}

/// `len` inputs, every `step`-th from `from`, that lie together in a line from `column`.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: usize,
    step: usize,
    column: usize,
    len: usize,
}

impl Segment {
    /// Fills a line of each row, `(R, pitch)`, with what it holds of them.
    #[inline(always)]
    fn spread(&self, rows: &[Row<'_>], pitch: usize, lines: &mut [f32]) {
        let Segment { from, step, column, len } = *self;
        // All of them at once, for what lies beside the numbers is short.
        lines.fill(0.0);
        for (line, &(row, scale)) in lines.chunks_exact_mut(pitch).zip(rows) {
            let to = &mut line[column..column + len];
            let row = &row[from..];
            match step {
                0 => to.fill(scale * row[0]),
                1 => to.iter_mut().zip(row).for_each(|(to, x)| *to = scale * x),
                _ => {
                    let mut done = 0;
                    // As colours are: a step that the compiler knows.
                    if step == CHANNELS {
                        for (to, x) in to.as_chunks_mut::<LOCATIONS>().0.iter_mut().zip(row.as_chunks::<WIDTH>().0) {
                            (0..LOCATIONS).for_each(|i| to[i] = scale * x[CHANNELS * i]);
                            done += LOCATIONS;
                        }
                    }
                    let rest = to[done..].iter_mut().zip(row[step * done..].iter().step_by(step));
                    rest.for_each(|(to, x)| *to = scale * x);
                }
            }
        }
    }
}

/// Rows to be spread out, those that show the same sample one after another.
struct Shown<'a> {
    rows: Vec<Row<'a>>,
    /// The first row of each sample, where they have anything in common.
    first: Vec<Row<'a>>,
    /// The sample of each row `(R)`, from 0 on.
    sample: Vec<u32>,
    counts: Counts,
}

/// What a call gathers.
#[derive(Debug, Default)]
struct Work {
    /// Inputs of some rows in full, where a label is written over them.
    full: Vec<f32>,
    /// Inputs of some rows, spread out.
    spread: Aligned<f32>,
    /// The same in pairs of bf16 numbers.
    pairs: Aligned<u32>,
    /// Directions by panel.
    panels: Aligned<f32>,
}

static WORK: Pool<Work> = Pool::new();

/// The taps of a window in order, `(y, x)`: those that read the same line lie side by side. In pairs, an odd one of a line is
/// followed by one beyond the window, which nobody sees anything through.
fn window_taps(side: usize, stride: usize, in_pairs: bool) -> impl Iterator<Item = (usize, usize)> {
    let line = move |(y, first): (usize, usize)| {
        let taps = (side - first).div_ceil(stride);
        let taps = if in_pairs { taps.next_multiple_of(2) } else { taps };
        (0..taps).map(move |i| (y, first + i * stride))
    };
    (0..side).flat_map(move |y| (0..stride.min(side)).map(move |first| (y, first))).flat_map(line)
}

/// One source's windows: `(side, stride, pad)` of what a location sees of it.
fn window(source: &Source, fields: &Fields) -> (usize, usize, usize) {
    match source {
        // Unit u above sees u·1 − pad .. + field: at a location, the units from at + pad + 1 − field on.
        Source::Above(_, above) => (above.field, 1, above.field - 1 - above.pad),
        _ => (fields.field, fields.stride, fields.pad),
    }
}

/// How many of so many rows a thread takes at a time: groups of about the same size, as many for each thread.
fn group(rows: usize) -> usize {
    let groups = rows.div_ceil(GROUP).max(1).next_multiple_of(rayon::current_num_threads());
    rows.div_ceil(groups).max(1)
}

/// How a source lies in a row: `(channels, height, width, step from column to column, from row to row, channel to channel)`.
fn strides(source: &Source) -> Option<(Shape, [usize; 3])> {
    match *source {
        Source::Whole(_) => None,
        Source::Planes(shape) => Some((shape, [1, shape.width, shape.width * shape.height])),
        Source::Locations(shape) | Source::Above(shape, _) => {
            Some((shape, [shape.channels, shape.channels * shape.width, 1]))
        }
    }
}

impl FewChannels {
    /// Whether such a layer of this map wastes less of the vectors than a product for each location.
    pub fn suits(fields: &Fields, sources: &[Source], shape: Shape) -> bool {
        let regular = |source: &Source| match source {
            Source::Above(_, above) => above.stride == 1 && above.pad < above.field,
            _ => true,
        };
        // Of a window that is much larger than its map, most taps would lie beyond the edges.
        let fits = |source: &Source| {
            strides(source).is_none_or(|(map, _)| window(source, fields).0 <= BEYOND * map.height.min(map.width))
        };
        let used = |size: usize, each: usize| size as f64 / (size.div_ceil(each) * each) as f64;
        let here = used(shape.width, LOCATIONS) * used(shape.channels, CHANNELS);
        sources.iter().all(|source| regular(source) && fits(source))
            && fields.pad < fields.field
            && here > used(shape.channels, WIDTH)
    }

    /// Numbers that such a layer's weights take, those beyond the edges too.
    pub(super) fn numbers(fields: &Fields, sources: &[Source], shape: Shape) -> usize {
        let taps = |source: &Source| match strides(source) {
            Some((map, _)) => window(source, fields).0.pow(2).saturating_mul(map.channels),
            None => source.len(),
        };
        let taps = sources.iter().map(taps).fold(0, usize::saturating_add);
        let panels = [shape.height, shape.width.div_ceil(LOCATIONS), shape.channels.div_ceil(CHANNELS), WIDTH];
        panels.into_iter().fold(taps, usize::saturating_mul)
    }

    /// A layer with `N(0, 1)/sqrt(what a unit sees)` as weights; `shape` is the map of its activity, `bf16` whether its
    /// products are of bf16 numbers, where the processor has instructions for them.
    pub fn new(fields: &Fields, sources: &[Source], shape: Shape, bf16: bool, random: &mut Random) -> Self {
        let bf16 = bf16 && engine::cpu::has_bf16();
        let maps = || sources.iter().filter(|source| strides(source).is_some());
        // Places of a window's first corner, and those that the rest of the window adds: the pitch of every line.
        let beyond = |(side, stride, _): (usize, usize, usize)| (side - 1) / stride;
        let pitch = shape.width + maps().map(|source| beyond(window(source, fields))).max().unwrap_or(0);
        let pitch = pitch.max(LOCATIONS);
        let (mut lines, mut offsets, mut lowest) = (Vec::new(), Vec::new(), (0, 0));
        let mut start = 0;
        for source in sources {
            if let Some((map, [right, down, deeper])) = strides(source) {
                let (side, stride, pad) = window(source, fields);
                let (rows, columns) =
                    (shape.height + beyond((side, stride, pad)), shape.width + beyond((side, stride, pad)));
                let first = lines.len();
                lines.resize(first + map.channels * stride * stride * rows, None);
                // Where the padded map's (y, x) is: places that are a stride apart lie side by side.
                let at = |c: usize, y: usize, x: usize| {
                    let plane = (c * stride + y % stride) * stride + x % stride;
                    (first + plane * rows + y / stride, x / stride)
                };
                for c in 0..map.channels {
                    for y in (0..map.height).filter(|y| (y + pad) / stride < rows) {
                        for x in 0..stride.min(map.width) {
                            let from = start + c * deeper + y * down + x * right;
                            let len = (map.width - x).div_ceil(stride).min(columns.saturating_sub((x + pad) / stride));
                            let (line, column) = at(c, y + pad, x + pad);
                            lines[line] = Some(Segment { from, step: right * stride, column, len });
                        }
                    }
                    for (y, x) in window_taps(side, stride, bf16) {
                        let (line, column) = at(c, y, x);
                        offsets.push(Place { line: line as u32, column: column as u32 });
                    }
                }
                if start == 0 {
                    lowest = (lines.len(), offsets.len());
                }
            }
            start += source.len();
        }
        let (inputs, moving) = (start, offsets.len());
        let mut start = 0;
        for source in sources {
            if let Source::Whole(n) = source {
                for from in start..start + n {
                    let taps = if bf16 { 0..2 } else { 0..1 };
                    offsets.extend(taps.map(|column| Place { line: lines.len() as u32, column }));
                    lines.push(Some(Segment { from, step: 0, column: 0, len: LOCATIONS }));
                }
            }
            start += source.len();
        }
        let (across, groups) = (shape.width.div_ceil(LOCATIONS), shape.channels.div_ceil(CHANNELS));
        let place =
            |y: usize, x: usize| std::iter::repeat_n(Place { line: y as u32, column: (x * LOCATIONS) as u32 }, groups);
        let places: Vec<Place> = (0..shape.height).flat_map(|y| (0..across).flat_map(move |x| place(y, x))).collect();
        let outputs = places.len() * WIDTH;
        let mut layer = FewChannels {
            fields: *fields,
            sources: sources.to_vec(),
            shape,
            inputs,
            bf16,
            weight: Learned::new(Panels::zeros(offsets.len(), outputs)),
            bias: Learned::new(Panels::zeros(1, outputs)),
            taps: Taps {
                live: vec![0; places.len() * offsets.len()],
                offsets,
                moving,
                places,
                lines: lines.len(),
                pitch,
            },
            targets: Vec::new(),
            lines,
            lowest,
        };
        for location in 0..shape.height * shape.width {
            let seen = layer.seen(location);
            for channel in 0..shape.channels {
                let (panel, place) = layer.panel(location, channel);
                let live = &mut layer.taps.live[panel * layer.taps.offsets.len()..];
                seen.iter().for_each(|&tap| live[tap] |= 1 << place);
            }
        }
        layer.targets = layer.taps.targets();
        let (units, longest) = initial_units(fields, sources, shape, random);
        layer.weight = layer.learned(layer.in_panels(&units, longest));
        layer
    }

    /// Weights that have not learned yet.
    fn learned(&self, weights: Panels) -> Learned {
        let pairs = self.bf16.then(|| Pairs::new(&weights));
        Learned { pairs, ..Learned::new(weights) }
    }

    /// The panel of a unit, and its place there.
    fn panel(&self, location: usize, channel: usize) -> (usize, usize) {
        let (y, x) = (location / self.shape.width, location % self.shape.width);
        let (across, groups) = (self.shape.width.div_ceil(LOCATIONS), self.shape.channels.div_ceil(CHANNELS));
        let panel = (y * across + x / LOCATIONS) * groups + channel / CHANNELS;
        (panel, channel % CHANNELS * LOCATIONS + x % LOCATIONS)
    }

    /// The taps through which a location sees something, in the order of what they see.
    fn seen(&self, location: usize) -> Vec<usize> {
        let (row, column) = (location / self.shape.width, location % self.shape.width);
        let mut seen = Vec::new();
        let (mut start, mut moving, mut fixed) = (0, 0, self.taps.moving);
        for source in &self.sources {
            match (source, strides(source)) {
                (Source::Whole(n), _) => {
                    let taps = if self.bf16 { 2 } else { 1 };
                    seen.extend((0..*n).map(|i| (start + i, fixed + i * taps)));
                    fixed += n * taps;
                }
                (_, Some((map, [right, down, deeper]))) => {
                    let (side, stride, pad) = window(source, &self.fields);
                    for c in 0..map.channels {
                        for (y, x) in window_taps(side, stride, self.bf16) {
                            let on = |at: usize, size: usize| at.checked_sub(pad).filter(|at| *at < size);
                            let in_window = on(column * stride + x, map.width).filter(|_| x < side);
                            if let (Some(y), Some(x)) = (on(row * stride + y, map.height), in_window) {
                                seen.push((start + c * deeper + y * down + x * right, moving));
                            }
                            moving += 1;
                        }
                    }
                }
                _ => unreachable!("every source but a whole one is a map"),
            }
            start += source.len();
        }
        seen.sort_unstable();
        seen.into_iter().map(|(_, tap)| tap).collect()
    }

    /// Weights by unit, `(O, F)`: what each unit sees in order, 0 where it sees less than others.
    fn by_unit(&self, panels: &Panels, longest: usize) -> Vec<f32> {
        let channels = self.shape.channels;
        let mut units = vec![0.0; self.shape.len() * longest];
        for (location, units) in units.chunks_exact_mut(channels * longest).enumerate() {
            let seen = self.seen(location);
            for (channel, unit) in units.chunks_exact_mut(longest).enumerate() {
                let (panel, place) = self.panel(location, channel);
                let panel = panels.panel(panel);
                unit.iter_mut().zip(&seen).for_each(|(w, tap)| *w = panel[tap * WIDTH + place]);
            }
        }
        units
    }

    /// The inverse of [`FewChannels::by_unit`].
    fn in_panels(&self, units: &[f32], longest: usize) -> Panels {
        let channels = self.shape.channels;
        let mut panels = Panels::zeros(self.taps.offsets.len(), self.taps.places.len() * WIDTH);
        let size = self.taps.offsets.len() * WIDTH;
        for (location, units) in units.chunks_exact(channels * longest).enumerate() {
            let seen = self.seen(location);
            for (channel, unit) in units.chunks_exact(longest).enumerate() {
                let (panel, place) = self.panel(location, channel);
                let panel = &mut panels.values_mut()[panel * size..(panel + 1) * size];
                unit.iter().zip(&seen).for_each(|(w, tap)| panel[tap * WIDTH + place] = *w);
            }
        }
        panels
    }

    /// A number of each unit, as a matrix of one row in panels, and back.
    fn bias_panels(&self, units: &[f32]) -> Panels {
        let mut panels = Panels::zeros(1, self.taps.places.len() * WIDTH);
        let mut values = Aligned::default();
        self.scatter(&[units], &mut values);
        panels.values_mut().copy_from_slice(&values);
        panels
    }

    fn weights(&self) -> usize {
        self.taps.live.iter().map(|live| live.count_ones() as usize).sum()
    }

    fn longest(&self) -> usize {
        (0..self.shape.height * self.shape.width).map(|at| self.seen(at).len()).max().unwrap_or(0)
    }

    /// Which sample each row shows, where this layer can make use of it.
    fn samples<'a>(&self, x: &Inputs<'a>) -> Option<&'a [u32]> {
        let common = x.common.filter(|common| self.lowest.0 > 0 && common.inputs == self.sources[0].len());
        common.map(|common| common.sample)
    }

    /// `rows`, of which neighbouring ones of the same `sample` have the lowest lines in common.
    fn shown<'a>(&self, rows: Vec<Row<'a>>, sample: Option<impl Iterator<Item = u32>>) -> Shown<'a> {
        let Some(of) = sample else {
            let (counts, sample) = (Counts::apart(rows.len()), vec![0; rows.len()]);
            return Shown { rows, first: Vec::new(), sample, counts };
        };
        let (mut first, mut sample, mut last) = (Vec::new(), Vec::with_capacity(rows.len()), None);
        for (row, of) in rows.iter().zip(of) {
            if last != Some(of) {
                first.push(*row);
                last = Some(of);
            }
            sample.push(first.len() as u32 - 1);
        }
        let (lines, taps) = self.lowest;
        let counts = Counts { rows: rows.len(), samples: first.len(), lines, taps };
        Shown { rows, first, sample, counts }
    }

    /// Spreads rows out.
    fn spread(&self, shown: &Shown<'_>, to: &mut Aligned<f32>) {
        let pitch = self.taps.pitch;
        self.spread_lines(shown, shown.counts, to, |segment, rows, _, to| {
            engine::vectorised!(segment.spread(rows, pitch, to));
        });
    }

    /// Spreads rows out in pairs of neighbouring columns.
    fn spread_columns(&self, shown: &Shown<'_>, to: &mut Aligned<u32>) {
        let pitch = self.taps.pitch;
        self.spread_lines(shown, shown.counts, to, |segment, rows, line, to| {
            engine::vectorised!({
                line.resize(rows.len() * pitch, 0.0);
                segment.spread(rows, pitch, line);
                taps::pair_columns(line, pitch, to);
            });
        });
    }

    /// Spreads rows out in pairs of neighbouring rows.
    fn spread_pairs(&self, shown: &Shown<'_>, to: &mut Aligned<u32>) {
        let pitch = self.taps.pitch;
        self.spread_lines(shown, shown.counts.in_pairs(), to, |segment, rows, line, to| {
            engine::vectorised!({
                line.resize(rows.len() * pitch, 0.0);
                segment.spread(rows, pitch, line);
                round_rows(line, pitch, to);
            });
        });
    }

    /// Fills the lines of as many rows as `counts` says by `fill(what a line holds, of these rows, memory, the line)`.
    fn spread_lines<T: Copy + Default + Send>(
        &self,
        shown: &Shown<'_>,
        counts: Counts,
        to: &mut Aligned<T>,
        fill: impl Fn(&Segment, &[Row<'_>], &mut Vec<f32>, &mut [T]) + Sync,
    ) {
        let pitch = self.taps.pitch;
        to.resize(self.taps.length(counts));
        let (common, own) = self.lines.split_at(counts.lines);
        let (to_common, rest) = to.split_at_mut(common.len() * counts.samples * pitch);
        // What lies beyond the last line is read where a panel ends beyond the map.
        let (to_own, beyond) = rest.split_at_mut(own.len() * counts.rows * pitch);
        beyond.fill(T::default());
        for (lines, rows, count, to) in
            [(common, &shown.first, counts.samples, to_common), (own, &shown.rows, counts.rows, to_own)]
        {
            let lines = to.par_chunks_exact_mut((count * pitch).max(1)).zip(lines);
            // A thread that waits takes other work: what one spreads for itself it does alone.
            let each = if rows.len() > GROUP { LINES_EACH } else { self.lines.len() };
            lines.with_min_len(each).for_each_init(Vec::new, |memory, (to, segment)| match segment {
                Some(segment) => fill(segment, rows, memory, to),
                None => to.fill(T::default()),
            });
        }
    }

    /// Adds to rows of inputs `(R, I)` what spread rows hold for them: the transpose of [`FewChannels::spread`].
    fn unspread_add(&self, from: &[f32], rows: &mut [f32]) {
        let (count, pitch) = (rows.len() / self.inputs, self.taps.pitch);
        for (line, segment) in from.chunks_exact(count * pitch).zip(&self.lines) {
            let Some(Segment { from, step, column, len }) = *segment else { continue };
            for (line, row) in line.chunks_exact(pitch).zip(rows.chunks_exact_mut(self.inputs)) {
                line[column..column + len].iter().enumerate().for_each(|(i, x)| row[from + i * step] += x);
            }
        }
    }

    /// The units of panel `j`: the first one, how many locations they are at, and how many channels each has there.
    fn strip(&self, j: usize) -> (usize, usize, usize) {
        let Shape { channels, width, .. } = self.shape;
        let (across, groups) = (width.div_ceil(LOCATIONS), channels.div_ceil(CHANNELS));
        let (group, first, y) = (j % groups * CHANNELS, j / groups % across * LOCATIONS, j / groups / across);
        let (locations, deep) = ((width - first).min(LOCATIONS), (channels - group).min(CHANNELS));
        ((y * width + first) * channels + group, locations, deep)
    }

    /// From rows `(O)` to panels `(panels, R, WIDTH)`, 0 where there is no unit.
    fn scatter(&self, rows: &[&[f32]], panels: &mut Aligned<f32>) {
        let channels = self.shape.channels;
        panels.resize(self.taps.places.len() * rows.len() * WIDTH);
        panels.par_chunks_exact_mut((rows.len() * WIDTH).max(1)).enumerate().for_each(|(j, panel)| {
            let (unit, locations, deep) = self.strip(j);
            for (to, row) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(rows) {
                let from = &row[unit..];
                let planes = to.as_chunks_mut::<LOCATIONS>().0;
                match (channels, locations) {
                    (CHANNELS, LOCATIONS) => {
                        for (x, from) in from.as_chunks::<CHANNELS>().0[..LOCATIONS].iter().enumerate() {
                            (0..CHANNELS).for_each(|c| planes[c][x] = from[c]);
                        }
                    }
                    _ => {
                        planes.as_flattened_mut().fill(0.0);
                        for (x, from) in from.chunks(channels).take(locations).enumerate() {
                            (0..deep).for_each(|c| planes[c][x] = from[c]);
                        }
                    }
                }
            }
        });
    }

    /// From a row of a panel to what it is of a row `to: (O)`.
    #[inline(always)]
    fn collect(&self, j: usize, from: &[f32; WIDTH], to: &mut [f32]) {
        let (unit, locations, deep) = self.strip(j);
        let (planes, to) = (from.as_chunks::<LOCATIONS>().0, &mut to[unit..]);
        match (self.shape.channels, locations) {
            (CHANNELS, LOCATIONS) => {
                for (x, to) in to.as_chunks_mut::<CHANNELS>().0[..LOCATIONS].iter_mut().enumerate() {
                    (0..CHANNELS).for_each(|c| to[c] = planes[c][x]);
                }
            }
            (channels, _) => {
                for (x, to) in to.chunks_mut(channels).take(locations).enumerate() {
                    (0..deep).for_each(|c| to[c] = planes[c][x]);
                }
            }
        }
    }

    /// Answers to some rows, at most [`GROUP`] of them: which, and for each its `y: (O)` and its `Σ y²`.
    fn answer(&self, x: &Inputs<'_>, to: &mut [(usize, (&mut [f32], &mut f32))]) {
        WORK.with(|Work { full, spread, pairs, .. }| {
            let rows = x.rows_of(to.iter().map(|(r, _)| *r), full);
            let shown = self.shown(rows, self.samples(x).map(|sample| to.iter().map(|(r, _)| sample[*r])));
            let (show, bias) = ((shown.counts, &shown.sample[..]), &self.bias.value);
            let collect = |j: usize, answers: &[[f32; WIDTH]]| {
                engine::vectorised!(for (from, (_, (y, _))) in answers.iter().zip(to.iter_mut()) {
                    self.collect(j, from, y);
                });
            };
            match &self.weight.pairs {
                None => {
                    self.spread(&shown, spread);
                    taps::forward(&self.taps, spread, show, &self.weight.value, bias, collect);
                }
                Some(weight) => {
                    self.spread_columns(&shown, pairs);
                    taps::forward_pairs(&self.taps, pairs, show, weight, bias, collect);
                }
            }
        });
        for (_, (y, squares)) in to {
            **squares = engine::vectorised!(engine::sum_of_squares(y));
        }
    }

    /// One step of `weight` and `bias`, which are the layer's own or stand for them.
    fn learn(
        &self,
        x: &Inputs<'_>,
        d: &Directions,
        step: &Step,
        work: &mut Work,
        (weight, bias): (&mut Learned, &mut Learned),
    ) {
        let Work { full, spread, pairs, panels } = work;
        let (shared, samples) = (shared_row(x, d), self.samples(x));
        let Examples { rows, directions } = Examples::new(x, d, shared.as_ref(), full);
        // The row that stands for many shows no sample.
        let of = d
            .rows
            .iter()
            .map(|&r| samples.map_or(r, |sample| sample[r as usize]))
            .chain(shared.iter().map(|_| u32::MAX));
        let mut examples: Vec<_> = of.zip(rows).zip(directions).collect();
        examples.sort_by_key(|((of, _), _)| *of);
        // In parts, as many rows as fit: the smoothed gradients of the parts add up. Adam's squares would not.
        let each = if matches!(step, Step::Smoothed { .. }) { ROWS } else { examples.len().max(1) };
        let parts = examples.len().div_ceil(each).max(1);
        for part in 0..parts {
            let examples = &examples[part * each..examples.len().min((part + 1) * each)];
            let count = examples.len();
            let (rows, directions): (Vec<_>, Vec<_>) = examples.iter().map(|((_, row), d)| (*row, *d)).unzip();
            let shown = self.shown(rows, samples.map(|_| examples.iter().map(|((of, _), _)| *of)));
            let show = (shown.counts, &shown.sample[..]);
            self.scatter(&directions, panels);
            let step = step.part(part == 0, part + 1 == parts);
            if self.bf16 {
                self.spread_pairs(&shown, pairs);
                taps::update_pairs(&self.taps, pairs, show, panels, weight, &step);
            } else {
                self.spread(&shown, spread);
                taps::update(&self.taps, spread, show, panels, weight, &step);
            }
            let mut gradient = vec![0.0; self.taps.places.len() * WIDTH];
            let panels = panels.par_chunks_exact((count * WIDTH).max(1));
            gradient.par_chunks_exact_mut(WIDTH).zip(panels).for_each(|(g, d)| {
                engine::vectorised!({
                    d.chunks_exact(WIDTH).for_each(|d| g.iter_mut().zip(d).for_each(|(g, d)| *g += d))
                });
            });
            gradient::step_along(bias, &gradient, &step.without_cost());
        }
    }
}

impl Layer for FewChannels {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.shape.len()
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.shape.len());
        let rows = y.values.chunks_exact_mut(self.shape.len()).zip(&mut y.squares);
        let mut rows: Vec<_> = rows.enumerate().collect();
        if let Some(sample) = self.samples(x) {
            rows.sort_by_key(|(r, _)| sample[*r]);
        }
        rows.par_chunks_mut(group(x.rows())).for_each(|rows| self.answer(x, rows));
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let (mut weight, mut bias) = (std::mem::take(&mut self.weight), std::mem::take(&mut self.bias));
        WORK.with(|work| self.learn(x, d, step, work, (&mut weight, &mut bias)));
        (self.weight, self.bias) = (weight, bias);
    }

    fn gradient_len(&self) -> usize {
        self.weight.value.values().len() + self.bias.value.values().len()
    }

    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        let (taps, outputs) = (self.weight.value.inputs(), self.weight.value.outputs());
        let (of_weight, of_bias) = gradient.split_at_mut(self.weight.value.values().len());
        gradient::add(of_weight, (taps, outputs), |weight| {
            gradient::add(of_bias, (1, outputs), |bias| {
                WORK.with(|work| self.learn(x, d, &gradient::GRADIENT, work, (weight, bias)));
            });
        });
    }

    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        let (of_weight, of_bias) = gradient.split_at(self.weight.value.values().len());
        gradient::step_along(&mut self.weight, of_weight, step);
        gradient::step_along(&mut self.bias, of_bias, &step.without_cost());
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        let outputs = self.shape.len();
        let each = group(d.len() / outputs);
        let groups = d.par_chunks(each * outputs).zip(dx.par_chunks_mut(each * self.inputs));
        groups.for_each(|(d, dx)| {
            WORK.with(|Work { spread, panels, .. }| {
                let rows = d.len() / outputs;
                self.scatter(&d.chunks_exact(outputs).collect::<Vec<_>>(), panels);
                spread.resize(self.taps.length(Counts::apart(rows)));
                spread.fill(0.0);
                taps::backward(&self.taps, &self.targets, panels, rows, &self.weight.value, spread);
                self.unspread_add(spread, dx);
            });
        });
        true
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        let taps = self.taps.offsets.len();
        let amounts = |live: u64| std::array::from_fn(|c| if live >> c & 1 == 1 { amount } else { 0.0 });
        let live = self.taps.live.par_chunks_exact(taps);
        let panels = self.weight.value.values_mut().par_chunks_exact_mut(taps * WIDTH).zip(live);
        panels.enumerate().for_each(|(j, (panel, live))| {
            let rows = panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(live).enumerate();
            engine::vectorised!(for (tap, (row, live)) in rows {
                nudge(row, &amounts(*live), 64 * j, |_, word| bits(seed, step, tap, word));
            });
        });
        let biases = self.bias.value.values_mut().as_chunks_mut::<WIDTH>().0.iter_mut();
        // A unit has a bias where it sees anything.
        let live = self.taps.live.chunks_exact(taps).map(|live| live.iter().fold(0, |all, live| all | live));
        biases.zip(live).enumerate().for_each(|(j, (row, live))| {
            nudge(row, &amounts(live), 64 * j, |_, word| bits(seed, step, taps, word));
        });
        self.weight.renew_pairs();
        true
    }

    fn equalise(&mut self) -> bool {
        let (taps, channels) = (self.taps.offsets.len(), self.shape.channels);
        let squares = |j: usize| {
            let mut sums = [0.0f32; WIDTH];
            for row in self.weight.value.panel(j).as_chunks::<WIDTH>().0 {
                sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w * w);
            }
            sums
        };
        let panels: Vec<_> = (0..self.taps.places.len()).into_par_iter().map(squares).collect();
        let mut gains = vec![0.0; self.shape.len()];
        panels.iter().enumerate().for_each(|(j, panel)| self.collect(j, panel, &mut gains));
        gains.chunks_exact_mut(channels).for_each(equal_gains);
        let gains = self.bias_panels(&gains);
        let panels = self.weight.value.values_mut().par_chunks_exact_mut((taps * WIDTH).max(1));
        panels.zip(gains.values().par_chunks_exact(WIDTH)).for_each(|(panel, gains)| {
            for row in panel.as_chunks_mut::<WIDTH>().0 {
                row.iter_mut().zip(gains).for_each(|(w, gain)| *w *= gain);
            }
        });
        self.weight.renew_pairs();
        true
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (outputs, longest) = (self.shape.len(), self.longest());
        let has_squares = self.weight.squared.inputs() > 0;
        let parts = |learned: &Learned| {
            let parts = [("", learned.value.clone()), (".smoothed", learned.smoothed.clone())];
            parts.into_iter().chain(has_squares.then(|| (".squared", learned.squared.clone())))
        };
        let weights = parts(&self.weight).map(|(part, panels)| {
            Tensor::f32(format!("weight{part}"), &[outputs, longest], self.by_unit(&panels, longest))
        });
        let biases = parts(&self.bias).map(|(part, panels)| {
            let mut units = vec![0.0; outputs];
            let rows = panels.values().as_chunks().0.iter().enumerate();
            rows.for_each(|(j, row)| self.collect(j, row, &mut units));
            Tensor::f32(format!("bias{part}"), &[outputs], units)
        });
        weights.chain(biases).collect()
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let (outputs, longest) = (self.shape.len(), self.longest());
        let find = Tensors(tensors);
        let has_squares = tensors.iter().any(|t| t.name == "weight.squared");
        let weight = |part: &str| Ok(self.in_panels(find.f32(&format!("weight{part}"), &[outputs, longest])?, longest));
        let bias = |part: &str| Ok(self.bias_panels(find.f32(&format!("bias{part}"), &[outputs])?));
        let read = |from: &dyn Fn(&str) -> Result<Panels>, learned: &dyn Fn(Panels) -> Learned| -> Result<Learned> {
            let mut learned = learned(from("")?);
            learned.smoothed = from(".smoothed")?;
            if has_squares {
                learned.squared = from(".squared")?;
            }
            Ok(learned)
        };
        (self.weight, self.bias) = (read(&weight, &|weights| self.learned(weights))?, read(&bias, &Learned::new)?);
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.weights() + self.shape.len()
    }

    fn weight_rms(&self) -> f32 {
        let squares = self.weight.value.values().iter().map(|w| f64::from(w * w)).sum::<f64>();
        (squares / self.weights().max(1) as f64).sqrt() as f32
    }
}
