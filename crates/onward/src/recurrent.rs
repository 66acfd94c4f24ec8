//! Recurrent networks: each layer is driven by the layer above and the layer below as they were one moment earlier, the
//! input at the bottom and the label at the top (paper, section 3.4). A still image is a boring video.
//!
//! All layers answer at once; a layer's new state is a part of the old one and a part of its answer, and what its
//! neighbours see of a state is normalised. States start from one bottom-up pass without a label.

use crate::batch::{Batch, Label, Labelled};
use crate::network::Network;
use crate::pass::{Activity, Common, Inputs};
use rayon::prelude::*;

/// The states of all layers for `R` rows, and the memory to move them on.
#[derive(Debug, Default)]
pub(crate) struct States {
    /// `(R, O)` of each layer, with the scale that its neighbours see it at.
    pub layers: Vec<Activity>,
    next: Vec<Activity>,
    /// What the layer at hand reads: below, then above `(R, I)`.
    x: Vec<f32>,
    ones: Vec<f32>,
    answer: Activity,
    /// The batch's samples as the lowest layer reads them, the same at every moment.
    samples: Labelled,
}

/// What stays as it is while states move: the input at the bottom, the label at the top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// The samples.
    pub batch: &'a Batch,
    /// Which sample each row shows `(R)`.
    pub source: &'a [u32],
    /// The label at the top of each row `(R)`; empty where there is none.
    pub labels: &'a [Label],
    /// Which row's states each row hears from above `(R)`; empty where each hears its own.
    pub context: &'a [u32],
}

impl States {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let activities = self.layers.iter().chain(&self.next).chain([&self.answer]);
        activities.map(Activity::bytes).sum::<usize>() + (self.x.capacity() + self.ones.capacity()) * size_of::<f32>()
    }

    /// One bottom-up pass, with nothing above any layer: where states start.
    pub fn start(&mut self, network: &Network, held: Held<'_>) {
        let States { layers, next, x, ones, samples, .. } = self;
        samples.fill(network, held.batch, (0..held.batch.len()).map(|n| (n, Label::Neutral)));
        layers.resize_with(network.depth(), Activity::default);
        next.resize_with(network.depth(), Activity::default);
        for (l, stage) in network.stages().iter().enumerate() {
            let (below, at) = layers.split_at_mut(l);
            let parts = Neighbours { network, held, samples, below: below.last(), above: None, label: false };
            let input = parts.read(l, x, ones);
            at[0].resize(input.rows(), stage.layer.outputs());
            stage.layer.forward(&input, &mut at[0]);
            stage.normalization.apply(&mut at[0]);
        }
    }

    /// Every row `each` times over: `(R, O)` → `(R·each, O)`.
    pub fn repeat(&mut self, each: usize) {
        for y in &mut self.layers {
            let (values, squares, scale) = (&y.values, &y.squares, &y.scale);
            let width = y.width();
            let values = values.chunks_exact(width).flat_map(|row| row.repeat(each)).collect();
            let of_rows = |v: &[f32]| v.iter().flat_map(|x| std::iter::repeat_n(*x, each)).collect();
            let (squares, scale) = (of_rows(squares), of_rows(scale));
            (y.values, y.squares, y.scale) = (values, squares, scale);
        }
    }

    /// All rows once more, after themselves: `(R, O)` → `(2R, O)`.
    pub fn double(&mut self) {
        for y in &mut self.layers {
            y.values.extend_from_within(..);
            y.squares.extend_from_within(..);
            y.scale.extend_from_within(..);
        }
    }

    /// What layer `l` answers to its neighbours' states: what it read `(R, I)`, and its activity `(R, O)`. The batch is the one
    /// that states started from.
    pub fn answer<'a>(&'a mut self, network: &Network, held: Held<'a>, l: usize) -> (Inputs<'a>, &'a Activity) {
        let States { layers, x, ones, samples, answer, .. } = self;
        let below = l.checked_sub(1).map(|below| &layers[below]);
        let parts = Neighbours { network, held, samples, below, above: layers.get(l + 1), label: true };
        let common = (l == 0).then_some(Common { inputs: held.batch.width, sample: held.source });
        let input = Inputs { common, ..parts.read(l, x, ones) };
        let stage = &network.stages()[l];
        answer.resize(input.rows(), stage.layer.outputs());
        stage.layer.forward(&input, answer);
        (input, answer)
    }

    /// Once every layer has answered and taken its answer in: the next states are the present ones.
    pub fn turn(&mut self, network: &Network) {
        for (l, stage) in network.stages().iter().enumerate() {
            std::mem::swap(&mut self.layers[l], &mut self.next[l]);
            stage.normalization.apply(&mut self.layers[l]);
        }
    }

    /// Layer `l`'s next state: `keep·state + (1 − keep)·answer`.
    pub fn take_in(&mut self, l: usize, keep: f32) {
        let States { layers, next, answer, .. } = self;
        let (state, next) = (&layers[l], &mut next[l]);
        let width = answer.width();
        next.resize(answer.rows(), width);
        let rows = next.values.par_chunks_exact_mut(width).zip(&mut next.squares).enumerate().with_min_len(16);
        rows.for_each(|(r, (next, squares))| {
            crate::engine::vectorised!(*squares = blend(keep, state.row(r), answer.row(r), next));
        });
    }
}

/// A state that has taken an answer in: `next = keep·old + (1 − keep)·new`, all `(O)`. Answers `Σ next²`.
#[inline(always)]
pub(crate) fn blend(keep: f32, old: &[f32], new: &[f32], next: &mut [f32]) -> f32 {
    for ((next, old), new) in next.iter_mut().zip(old).zip(new) {
        *next = keep * old + (1.0 - keep) * new;
    }
    crate::engine::sum_of_squares(next)
}

/// What a layer reads `(I)`: a row from below, then one from above, each normalised; nothing where there is nothing above.
/// Answers the part from above.
pub(crate) fn join<'x>(
    (below, row): (&Inputs<'_>, usize),
    above: Option<(Inputs<'_>, usize)>,
    x: &'x mut [f32],
) -> &'x mut [f32] {
    let (from_below, from_above) = x.split_at_mut(below.width);
    below.read(row, from_below);
    match above {
        Some((above, row)) => above.read(row, from_above),
        None => from_above.fill(0.0),
    }
    from_above
}

/// What drives a layer.
struct Neighbours<'a> {
    network: &'a Network,
    held: Held<'a>,
    samples: &'a Labelled,
    below: Option<&'a Activity>,
    above: Option<&'a Activity>,
    /// Whether the label is at the top already.
    label: bool,
}

impl Neighbours<'_> {
    /// Writes what layer `l` reads to `x`: below, then above, each normalised; nothing where there is nothing yet.
    fn read<'x>(&self, l: usize, x: &'x mut Vec<f32>, ones: &'x mut Vec<f32>) -> Inputs<'x> {
        let Neighbours { network, held, samples, below, above, .. } = *self;
        let width = network.stages()[l].layer.inputs();
        let count = held.source.len();
        let driver = below.map_or_else(|| samples.as_inputs(held.batch, None), Activity::as_inputs);
        let classes = network.classes();
        let strength = network.label_strength() * (classes as f32).sqrt();
        let label = self.label && l + 1 == network.depth() && !held.labels.is_empty();
        x.resize(count * width, 0.0);
        ones.resize(count, 1.0);
        x.par_chunks_exact_mut(width).enumerate().with_min_len(16).for_each(|(r, x)| {
            let heard = held.context.get(r).map_or(r, |&row| row as usize);
            let from = if below.is_some() { r } else { held.source[r] as usize };
            let from_above = join((&driver, from), above.map(|above| (above.as_inputs(), heard)), x);
            if label && let Label::Class(class) = held.labels[r] {
                from_above[class as usize] = strength;
            }
        });
        Inputs::plain(x, width, ones)
    }
}

/// Scores `(N, K)` of each label: run with it at the top, the goodness of the layers read, averaged over the moments that
/// count (paper, section 3.4).
pub(crate) fn every_label(network: &Network, batch: &Batch) -> Vec<f32> {
    let (classes, first) = (network.classes(), network.first_read());
    let settings = network.recipe().recurrent;
    let mut states = States::default();
    let samples: Vec<u32> = (0..batch.len() as u32).collect();
    states.start(network, Held { batch, source: &samples, labels: &[], context: &[] });
    states.repeat(classes);
    let source: Vec<u32> = samples.iter().flat_map(|&n| std::iter::repeat_n(n, classes)).collect();
    let labels: Vec<Label> = samples.iter().flat_map(|_| (0..classes as u32).map(Label::Class)).collect();
    let held = Held { batch, source: &source, labels: &labels, context: &[] };
    let mut scores = vec![0.0; source.len()];
    for moment in 1..=settings.last {
        for l in 0..network.depth() {
            let (_, y) = states.answer(network, held, l);
            if moment >= settings.first && l >= first {
                let measure = &network.stages()[l].measure;
                for (r, score) in scores.iter_mut().enumerate() {
                    *score += measure.logit(measure.value(y.row(r), y.squares[r]));
                }
            }
            states.take_in(l, settings.keep);
        }
        states.turn(network);
    }
    let moments = (settings.last - settings.first + 1) as f32;
    scores.iter_mut().for_each(|score| *score /= moments);
    scores
}

/// Logits `(N, K)` of the softmax head, which reads the states that a bottom-up pass starts from.
pub(crate) fn one_pass(network: &Network, batch: &Batch) -> Vec<f32> {
    let head = network.head().expect("predict() has looked for the head");
    let (mut states, mut answer) = (States::default(), Activity::default());
    let source: Vec<u32> = (0..batch.len() as u32).collect();
    states.start(network, Held { batch, source: &source, labels: &[], context: &[] });
    let mut logits = vec![0.0; batch.len() * network.classes()];
    states.layers.iter().enumerate().for_each(|(l, y)| _ = head.add(l, &y.as_inputs(), &mut answer, &mut logits));
    logits
}
