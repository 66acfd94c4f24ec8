//! Pipelined training: blocks of layers, each on a thread or a machine of its own; every layer learns from one batch while
//! the one below works on the next. Nothing flows down, so no block ever waits for one above it.
//!
//! With negatives that are fixed in advance (uniform, hybrid, shuffled) it ends in the same bits as simultaneous training: a
//! layer sees the same rows in the same order, whoever carries them. Hard negatives are drawn from what the head predicted
//! `negatives.delay` steps ago, which is defined by steps alone, so that simultaneous training with the same delay ends in the
//! same bits too. The head is on the last block: it keeps what it reads of each layer, one batch.
//!
//! Observers see a trainer between two steps. So every half second or so the pipeline runs empty, whoever watches is told of
//! the steps since, and blocks are balanced anew by what their layers took.

mod balance;
mod block;
mod group;
pub mod plan;
mod share;
mod threads;
mod wire;

pub use balance::balance;
pub use block::{Block, Packet};
pub(crate) use group::Group;
pub use group::Sums;
pub use share::share;
pub use threads::Threads;

use block::Origin;

use crate::Dataset;
use crate::batch::Label;
use crate::error::Result;
use crate::events::{Event, Flow, Observer, StepReport};
use crate::negatives::Positive;
use crate::random::stream;
use crate::settings::Order;
use crate::train::Trainer;
use crate::train::sweeps::label_pairs;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where the blocks of a pipeline are: threads of this process ([`Threads`]), or other machines.
pub trait Line {
    /// How many blocks there can be.
    fn places(&self) -> usize;

    /// Puts the blocks in their places, from the bottom.
    ///
    /// # Errors
    /// Where a place cannot be reached; so for the other methods.
    fn begin(&mut self, blocks: Vec<Block>) -> Result<()>;

    /// Sends a packet to the lowest block. At most `2 · places` packets are ever under way.
    ///
    /// # Errors
    /// As [`Line::begin`].
    fn send(&mut self, packet: Packet) -> Result<()>;

    /// The next packet that has passed all blocks, in the order in which they were sent.
    ///
    /// # Errors
    /// As [`Line::begin`].
    fn receive(&mut self) -> Result<Packet>;

    /// Takes the blocks back, whatever is still under way.
    ///
    /// # Errors
    /// As [`Line::begin`].
    fn end(&mut self) -> Result<Vec<Block>>;
}

/// How busy the blocks were, over one stretch between two looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Occupancy {
    /// Seconds from the first packet to the last.
    pub seconds: f64,
    /// Steps in that time.
    pub steps: u64,
    /// The layers of each block, and the seconds that it worked. A last block without layers has the head alone.
    pub blocks: Vec<(Range<usize>, f64)>,
    /// Seconds that each layer worked, and the head at the end if there is one.
    pub items: Vec<f64>,
    /// Seconds of making packets.
    pub loading: f64,
}

/// Steps before observers look for the first time.
const FIRST: u64 = 8;

/// How long they wait for the next look at least, once training runs.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

impl Trainer {
    /// As [`Trainer::fit`] with `training.order = "pipelined"`, along a line of the caller's own.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and as the line's. Where the line itself fails, the trainer has lost what was away.
    pub fn fit_along(&mut self, line: &mut dyn Line, data: &Dataset, observer: &mut impl Observer) -> Result<()> {
        self.forget_what_lies_ahead();
        let (mut flow, mut most) = (Flow::Continue, FIRST);
        while flow == Flow::Continue && !self.is_done() {
            self.check(data)?;
            let left = self.steps_of_this_epoch(data).saturating_sub(self.position.step_of_epoch);
            if left == 0 {
                let epoch = self.end_epoch()?;
                flow = observer.observe(Event::Epoch(&epoch), self);
                continue;
            }
            let start = Instant::now();
            let steps = self.stretch(line, data, left.min(most))?;
            let working = Duration::from_secs_f64(self.occupancy.as_ref().map_or(0.0, |one| one.seconds));
            // Running empty and full again should cost little beside the work.
            if start.elapsed() < BETWEEN_LOOKS || (start.elapsed() - working) * 50 > working {
                most = most.saturating_mul(2);
            }
            for step in &steps {
                if observer.observe(Event::Step(step), self) == Flow::Stop {
                    flow = Flow::Stop;
                }
            }
        }
        Ok(())
    }

    /// How busy the blocks of the pipeline were lately, if there is one.
    pub fn occupancy(&self) -> Option<&Occupancy> {
        self.occupancy.as_ref()
    }

    /// The threads of this process as a line.
    pub(super) fn threads(&self) -> Result<Threads> {
        let threads = rayon::current_num_threads();
        let asked = self.recipe().training.blocks;
        let items = self.network.depth() + usize::from(self.network.head().is_some());
        Threads::new(if asked == 0 { threads } else { asked }.min(items), threads)
    }

    /// Takes `goal` steps of the current epoch.
    fn stretch(&mut self, line: &mut dyn Line, data: &Dataset, goal: u64) -> Result<Vec<StepReport>> {
        self.draw_order(data);
        let blocks = self.take_apart(line.places());
        line.begin(blocks)?;
        let start = Instant::now();
        let mut loading = Duration::ZERO;
        let outcome = self.drive(line, data, goal, &mut loading);
        let seconds = start.elapsed().as_secs_f64();
        let blocks = line.end()?;
        let busy = blocks.iter().map(|block| (block.layers.clone(), block.seconds.iter().sum())).collect();
        self.put_together(blocks);
        let (items, loading) = (self.costs.clone(), loading.as_secs_f64());
        self.occupancy = Some(Occupancy { seconds, steps: goal, blocks: busy, items, loading });
        outcome
    }

    /// Sends packets and receives them, until `goal` steps are done; adds the time that making them takes to `loading`.
    fn drive(
        &mut self,
        line: &mut dyn Line,
        data: &Dataset,
        goal: u64,
        loading: &mut Duration,
    ) -> Result<Vec<StepReport>> {
        let (delay, first) = (self.delay(), self.position.step);
        let most = 2 * line.places() as u64;
        let (mut free, mut reports) = (Vec::new(), Vec::new());
        let mut sent = 0;
        while (reports.len() as u64) < goal {
            let under_way = sent - reports.len() as u64;
            let waits = delay > 0 && first + sent >= delay && self.predictions.is_empty();
            if sent < goal && under_way < most && !waits {
                let mut packet = free.pop().unwrap_or_default();
                let start = Instant::now();
                self.load_packet(&mut packet, data, under_way);
                *loading += start.elapsed();
                line.send(packet)?;
                sent += 1;
            } else {
                let mut packet = line.receive()?;
                std::mem::replace(&mut packet.outcome, Ok(()))?;
                reports.push(self.arrived(&packet, data));
                free.push(packet);
            }
        }
        Ok(reports)
    }

    /// The batch of the step `under_way` after the next one to be done, with its negatives, and the neutral rows for the head.
    fn load_packet(&mut self, packet: &mut Packet, data: &Dataset, under_way: u64) {
        let (step, delay) = (self.position.step + under_way, self.delay());
        let Packet { bottom, kept, labels, solved, .. } = packet;
        self.load_batch(&mut bottom.batch, data, under_way);
        let batch = bottom.batch.len();
        solved.clear();
        solved.resize(batch, true);
        kept.resize_with(self.reads.len(), Default::default);
        if delay > 0 {
            self.load_batch(&mut bottom.ahead, data, under_way + delay);
        }
        let neutral = if delay > 0 { &bottom.ahead } else { &bottom.batch };
        labels.clone_from(&neutral.labels);
        if !self.reads.is_empty() && !self.watches() {
            bottom.neutral.fill(&self.network, neutral, (0..batch).map(|n| (n, Label::Neutral)));
        }
        let prediction = if delay > 0 && step >= delay { self.predictions.pop_front() } else { None };
        let predicted = (prediction.as_deref().unwrap_or_default(), &[][..]);
        let positive = Positive::new(&self.network, &bottom.batch, predicted);
        let negative = self.negatives.draw(&positive, &mut stream(self.recipe().seed.0, "negatives", step));
        label_pairs(&self.network, &mut bottom.batch, (batch, batch, 0), &negative, &mut bottom.pairs);
        (packet.taken, packet.gain, packet.first, packet.loss) = (step, self.gain(), 0, 0.0);
    }

    /// A packet has passed all blocks: its step is done.
    fn arrived(&mut self, packet: &Packet, data: &Dataset) -> StepReport {
        if self.delay() > 0 {
            self.predictions.push_back(packet.prediction.clone());
        }
        let loss = packet.loss / (packet.solved.len() * self.learners) as f64;
        self.took_step(data, &packet.solved, loss)
    }

    /// Whether the head reads the positive rows.
    fn watches(&self) -> bool {
        self.network.positives_are_neutral()
    }

    /// The network's layers and head in blocks, balanced by what they took lately or, at first, by their products.
    fn take_apart(&mut self, places: usize) -> Vec<Block> {
        let network = &self.network;
        let head = network.head.as_ref();
        self.reads = head.map_or(Arc::from([]), |head| head.reads.clone().into());
        self.learners = network.learners().count();
        let items = network.depth() + usize::from(head.is_some());
        if self.costs.len() != items {
            let neutral = if head.is_some() && !self.watches() { 1.0 } else { 0.0 };
            let of_layers = network.stages.iter().enumerate().map(|(l, stage)| {
                let rows = if l == 0 { 1.0 } else { 2.0 + neutral };
                stage.layer.multiply_adds() as f64 * (rows + 0.5)
            });
            self.costs = of_layers.chain(head.map(|head| 2.0 * head.parameters() as f64)).collect();
        }
        let recipe = Arc::new(self.recipe().clone());
        let origin = Arc::new(Origin {
            shape: network.shape(),
            classes: network.classes(),
            programs: network.programs_allowed(),
            own_parts: network.has_own_parts(),
        });
        let (depth, watches) = (network.depth(), self.watches());
        let mut stages = std::mem::take(&mut self.network.stages).into_iter();
        let mut totals = std::mem::take(&mut self.totals.layers).into_iter();
        let (mut head, mut below) = (self.network.head.take(), 0);
        let mut blocks = Vec::new();
        for run in balance(&self.costs, places) {
            let last = run.end == items;
            let layers = run.start.min(depth)..run.end.min(depth);
            let stages: Vec<_> = stages.by_ref().take(layers.len()).collect();
            let units = stages.iter().map(|stage| stage.layer.outputs()).sum::<usize>();
            let block = Block::new(recipe.clone(), origin.clone(), layers.clone(), below, self.reads.clone(), watches);
            blocks.push(Block {
                totals: totals.by_ref().take(layers.len()).collect(),
                head: if last { head.take() } else { None },
                head_loss: if last { self.totals.head_loss } else { 0.0 },
                stages,
                ..block
            });
            below += units;
        }
        blocks
    }

    /// The blocks as a network again.
    fn put_together(&mut self, blocks: Vec<Block>) {
        let depth = blocks.iter().map(|block| block.layers.len()).sum::<usize>();
        for block in blocks {
            for (at, seconds) in block.seconds.iter().enumerate() {
                let l = if at < block.layers.len() { block.layers.start + at } else { depth };
                if let Some(cost) = self.costs.get_mut(l).filter(|_| at < block.layers.len() || block.head.is_some()) {
                    *cost = *seconds;
                }
            }
            if block.head.is_some() {
                self.totals.head_loss = block.head_loss;
                self.network.head = block.head;
            }
            self.network.stages.extend(block.stages);
            self.totals.layers.extend(block.totals);
        }
    }

    /// Whether layers learn in a pipeline.
    pub(super) fn is_pipelined(&self) -> bool {
        self.recipe().training.order == Order::Pipelined
    }
}
