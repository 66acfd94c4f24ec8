//! A block of a pipeline: layers above each other, on the last block the softmax head besides. Packets of rows come in
//! from below, every layer learns from them, and they go up.

use super::group::{Group, Sums};
use crate::batch::{Batch, Labelled};
use crate::dataset::Shape;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::network::{Stage, project, take_turns};
use crate::objective::cross_entropy;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions};
use crate::peer::Peer;
use crate::readout::Head;
use crate::settings::Recipe;
use crate::train::stage::{Layers, Lesson, check_head};
use crate::train::sweeps::head_step;
use crate::train::totals::LayerTotals;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The rows of one step on their way up.
#[derive(Debug)]
pub struct Packet {
    /// Steps taken before this one.
    pub(super) taken: u64,
    /// What the learning rates are multiplied by.
    pub(super) gain: f32,
    /// Which of the batch's samples the first one here is: a replica has a share of them.
    pub(super) first: usize,
    /// What the lowest layer reads.
    pub(super) bottom: Bottom,
    /// The neutral rows that the head is to read `(B, O)`; empty where it watches the positive ones.
    pub(super) neutral: Activity,
    /// The positive rows, then the negative ones `(2B, O)`.
    pub(super) pairs: Activity,
    /// What the head will read of each layer that it reads `(B, O)`.
    pub(super) kept: Vec<Activity>,
    /// The true labels of what the head will read `(B)`.
    pub(super) labels: Vec<u32>,
    /// Whether every layer so far has told each sample apart with certainty `(B)`.
    pub(super) solved: Vec<bool>,
    /// The summed loss of the layers so far.
    pub(super) loss: f64,
    /// The head's probabilities `(B, K)`, once it has been there.
    pub(super) prediction: Vec<f32>,
    /// What went wrong on the way.
    pub(super) outcome: Result<()>,
}

/// What the lowest layer reads.
#[derive(Debug, Default)]
pub(super) struct Bottom {
    pub batch: Batch,
    pub pairs: Labelled,
    /// The batch whose neutral rows these are; empty where it is the same one.
    pub ahead: Batch,
    pub neutral: Labelled,
}

impl Default for Packet {
    fn default() -> Self {
        let (bottom, neutral, pairs, kept) = Default::default();
        let (labels, solved, prediction) = Default::default();
        let (taken, gain, first, loss, outcome) = (0, 1.0, 0, 0.0, Ok(()));
        Packet { taken, gain, first, bottom, neutral, pairs, kept, labels, solved, loss, prediction, outcome }
    }
}

/// Layers above each other, with everything that they need to learn.
#[derive(Debug)]
pub struct Block {
    pub(super) recipe: Arc<Recipe>,
    pub(super) origin: Arc<Origin>,
    /// Which of the network's layers they are.
    pub(super) layers: Range<usize>,
    /// Units of all layers below.
    pub(super) below: usize,
    pub(super) stages: Vec<Stage>,
    pub(super) totals: Vec<LayerTotals>,
    /// The head: on the last block.
    pub(super) head: Option<Head>,
    pub(super) head_loss: f64,
    /// The layers that the head reads, wherever it is.
    pub(super) reads: Arc<[usize]>,
    /// Whether it reads the positive rows, for want of neutral ones.
    pub(super) watches: bool,
    /// Seconds that each layer has worked, and the head.
    pub(super) seconds: Vec<f64>,
    /// The replicas that learn the same, if there are any.
    pub(super) group: Option<Group>,
    pub(super) work: Work,
}

/// What a network's layers are made from, besides its recipe.
#[derive(Debug)]
pub(super) struct Origin {
    pub shape: Shape,
    /// `K`.
    pub classes: usize,
    /// Whether black boxes may run programs.
    pub programs: bool,
    /// Whether some layer or goodness is the caller's own.
    pub own_parts: bool,
}

/// Memory of a block.
#[derive(Debug, Default)]
pub(super) struct Work {
    base: Vec<f32>,
    base_ahead: Vec<f32>,
    buffers: [Activity; 2],
    answer: Activity,
    head_direction: Directions,
    direction: Directions,
}

impl Block {
    /// A block without layers and head yet.
    pub(super) fn new(
        recipe: Arc<Recipe>,
        origin: Arc<Origin>,
        layers: Range<usize>,
        below: usize,
        reads: Arc<[usize]>,
        watches: bool,
    ) -> Self {
        let (stages, totals, head, group, work) = Default::default();
        let (seconds, head_loss) = (vec![0.0; layers.len() + 1], 0.0);
        Block { recipe, origin, layers, below, stages, totals, head, head_loss, reads, watches, seconds, group, work }
    }

    /// Which of the network's layers these are; empty where there is only the head.
    pub fn layers(&self) -> Range<usize> {
        self.layers.clone()
    }

    /// Has every layer learn from the packet, and readies it for the next block. Where something has gone wrong on the way, it
    /// goes past.
    pub fn run(&mut self, packet: &mut Packet) {
        if packet.outcome.is_ok() {
            packet.outcome = self.learn(packet);
        }
        if self.group.is_some()
            && let Err(error) = self.keep_in_step(packet)
            && packet.outcome.is_ok()
        {
            packet.outcome = Err(error);
        }
    }

    /// Joins others that are to learn the same layers from the rest of each batch. `first`: whether this is the replica whose
    /// sums over the epoch go on; the others' begin at 0, and are added to its own in the end ([`Block::write_report`]).
    ///
    /// # Errors
    /// [`Error::Data`] where a layer's gradient cannot be told apart from its step.
    pub fn join_group(&mut self, sums: Box<dyn Sums>, first: bool) -> Result<()> {
        let alone = |stage: &Stage| stage.layer.learns() && stage.layer.gradient_len() == 0;
        if let Some(at) = self.stages.iter().position(alone) {
            return Err(Error::Data(format!(
                "layer {} cannot be trained in replicas: its gradient cannot be told apart from its step",
                self.layers.start + at
            )));
        }
        if !first {
            let nothing =
                |totals: &LayerTotals| LayerTotals { alive: vec![0; totals.alive.len()], ..Default::default() };
            self.totals.iter_mut().for_each(|totals| *totals = nothing(totals));
            self.head_loss = 0.0;
        }
        self.group = Some(Group::new(sums, self.recipe.training.batch));
        Ok(())
    }

    /// Leaves the others, once all have had the same packets: takes the steps that are still to be taken.
    ///
    /// # Errors
    /// As [`Sums::finish`].
    pub fn leave_group(&mut self) -> Result<()> {
        let Some(mut group) = self.group.take() else { return Ok(()) };
        for (at, layer, peer) in learners(&mut self.stages, &mut self.head) {
            group.catch_up(at, layer, peer)?;
        }
        Ok(())
    }

    /// What the other replicas expect of layers that have learned nothing from the packet.
    fn keep_in_step(&mut self, packet: &Packet) -> Result<()> {
        let step = Step::new(&self.recipe.optimizer, packet.gain, self.recipe.training.batch, packet.taken);
        let Some(group) = &mut self.group else { return Ok(()) };
        let begun = group.end_batch();
        for (at, layer, mut peer) in learners(&mut self.stages, &mut self.head).filter(|(at, ..)| *at >= begun) {
            group.catch_up(at, layer, peer.as_deref_mut())?;
            group.abstain(at, layer, peer.is_some(), step);
        }
        group.end_batch();
        Ok(())
    }

    fn learn(&mut self, packet: &mut Packet) -> Result<()> {
        let recipe = self.recipe.clone();
        let Block { layers, stages, totals, reads, watches, seconds, group, work, .. } = self;
        let Work { base, base_ahead, buffers, direction, .. } = work;
        let Packet { bottom, neutral, pairs, kept, solved, loss, .. } = packet;
        let (batch, count, lowest) = (solved.len(), stages.len(), layers.start == 0);
        let place = |l: usize| reads.iter().position(|&read| read == l);
        let mut clock = Clock(Instant::now());
        if lowest {
            base.clear();
            base_ahead.clear();
            // Its product with what rows share comes before them.
            if let (Some(group), Some(stage)) = (&mut *group, stages.first_mut()) {
                group.catch_up(0, &mut *stage.layer, Some(&mut stage.peer))?;
            }
        }
        if count > 0 && !reads.is_empty() && !*watches {
            let x = match lowest {
                true if bottom.ahead.is_empty() => {
                    let base = project(&stages[0], recipe.network.input_normalization, &bottom.batch, base);
                    bottom.neutral.as_inputs(&bottom.batch, base)
                }
                true => {
                    let base = project(&stages[0], recipe.network.input_normalization, &bottom.ahead, base_ahead);
                    bottom.neutral.as_inputs(&bottom.ahead, base)
                }
                false => neutral.as_inputs(),
            };
            for (at, stage) in stages.iter_mut().enumerate() {
                if let Some(group) = group {
                    group.catch_up(at, &mut *stage.layer, Some(&mut stage.peer))?;
                }
                let (input, y) = take_turns(buffers, at);
                let x = if at == 0 { &x } else { &input };
                y.resize(x.rows(), stage.layer.outputs());
                stage.layer.forward(x, y);
                stage.normalization.apply(y);
                if let Some(i) = place(layers.start + at) {
                    kept[i].copy_rows(y, batch);
                }
                seconds[at] += clock.lap();
            }
            std::mem::swap(neutral, &mut buffers[(count - 1) % 2]);
        }
        if count > 0 {
            let x = match lowest {
                true => {
                    let base = project(&stages[0], recipe.network.input_normalization, &bottom.batch, base);
                    bottom.pairs.as_inputs(&bottom.batch, base)
                }
                false => pairs.as_inputs(),
            };
            let step = Step::new(&recipe.optimizer, packet.gain, recipe.training.batch, packet.taken);
            // Layers that tell the label themselves are not in a pipeline: `Recipe::check` sees to it.
            let lesson = Lesson {
                recipe: &recipe,
                step,
                taken: packet.taken,
                batch: recipe.training.batch,
                first: packet.first,
                learning: layers.clone(),
                labels: &[],
            };
            let first = layers.start;
            let mut all = Layers { first, below: self.below, stages: &mut *stages, totals, group: group.as_mut() };
            all.learn(&x, buffers, &lesson, (solved, loss), direction, |l, y| {
                if *watches && let Some(i) = place(l) {
                    kept[i].copy_rows(y, batch);
                }
                seconds[l - first] += clock.lap();
            })?;
            std::mem::swap(pairs, &mut buffers[(count - 1) % 2]);
            let fault = stages.iter().enumerate().find_map(|(at, stage)| Some((first + at, stage.layer.fault()?)));
            if let Some((l, why)) = fault {
                return Err(Error::Data(format!("layer {l}: {why}")));
            }
        }
        let taught = self.teach_head(packet);
        self.seconds[count] += clock.lap();
        taught
    }

    /// The head predicts, and learns.
    fn teach_head(&mut self, packet: &mut Packet) -> Result<()> {
        let Some(head) = &mut self.head else { return Ok(()) };
        let Packet { kept, labels, prediction, .. } = packet;
        let Work { answer, head_direction: d, .. } = &mut self.work;
        let lowest = self.stages.len();
        if let Some(group) = &mut self.group {
            for (i, part) in head.layers.iter_mut().enumerate() {
                group.catch_up(lowest + i, &mut **part, None)?;
            }
        }
        let classes = head.layers[0].outputs();
        prediction.clear();
        prediction.resize(labels.len() * classes, 0.0);
        for (&l, y) in self.reads.iter().zip(kept.iter()) {
            head.add(l, &y.as_inputs(), answer, prediction);
        }
        d.rows.clear();
        d.rows.extend(0..labels.len() as u32);
        self.head_loss += cross_entropy(prediction, labels, &mut d.values);
        check_head(self.head_loss, packet.taken)?;
        let step = head_step(&self.recipe, packet.gain, self.recipe.training.batch, packet.taken);
        for (i, (part, y)) in head.layers.iter_mut().zip(kept.iter()).enumerate() {
            match &mut self.group {
                None => part.update(&y.as_inputs(), d, &step),
                Some(group) => group.learn(lowest + i, &**part, &y.as_inputs(), d, step),
            }
        }
        Ok(())
    }
}

/// What learns in a block, as [`Group`] numbers it: layers, and then the parts of the head.
fn learners<'a>(
    stages: &'a mut [Stage],
    head: &'a mut Option<Head>,
) -> impl Iterator<Item = (usize, &'a mut (dyn Layer + 'static), Option<&'a mut Peer>)> {
    let count = stages.len();
    let layers = stages.iter_mut().enumerate().filter(|(_, stage)| stage.layer.learns());
    let layers = layers.map(|(at, stage)| (at, &mut *stage.layer, Some(&mut stage.peer)));
    let parts = head.iter_mut().flat_map(|head| &mut head.layers).enumerate();
    layers.chain(parts.map(move |(i, part)| (count + i, &mut **part, None)))
}

/// Seconds since it was last asked.
struct Clock(Instant);

impl Clock {
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = (now - self.0).as_secs_f64();
        self.0 = now;
        seconds
    }
}
