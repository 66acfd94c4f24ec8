//! The trainer: where training stands, one step after another, and what observers are told.

use crate::batch::{Batch, Labelled, Layout};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::events::{EpochReport, Event, Flow, LayerReport, Observer, StepReport};
use crate::negatives::{self, Negatives};
use crate::network::Network;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions};
use crate::random::stream;
use crate::recurrent::States;
use crate::rival;
use crate::settings::{OptimizerKind, Order, Recipe, Rule};
use crate::train::pipeline::Occupancy;
use crate::train::rest::Rest;
use crate::train::stage::check_head;
use crate::train::sweeps::head_step;
use crate::train::totals::Totals;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A network in training.
#[derive(Debug)]
pub struct Trainer {
    pub(super) network: Network,
    pub(super) negatives: Box<dyn Negatives>,
    pub(super) position: Position,
    pub(super) totals: Totals,
    /// The current epoch's samples, in the order of their visits; empty before its first step.
    pub(super) order: Vec<u32>,
    pub(super) rest: Option<Rest>,
    pub(super) work: Workspace,
    pub(super) backprop: rival::Backprop,
    pub(super) perturbation: rival::Perturbation,
    /// What the head predicted of the batches to come, the next one first `(B, K)`: as many as `negatives.delay`.
    pub(super) predictions: VecDeque<Vec<f32>>,
    /// A later epoch's order, and its number.
    pub(super) later: Option<(u32, Vec<u32>)>,
    pub(super) occupancy: Option<Occupancy>,
    /// What each layer took lately in a pipeline, and the head.
    pub(super) costs: Vec<f64>,
    /// The layers that the head reads, while a pipeline has it.
    pub(super) reads: Arc<[usize]>,
    /// How many layers learn, while a pipeline has them.
    pub(super) learners: usize,
}

/// Where training stands: with the seed, all that random draws depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs done; with greedy order, counted over all layers.
    pub epoch: u32,
    /// Steps of the current epoch done.
    pub step_of_epoch: u64,
    /// Steps done in all.
    pub step: u64,
}

/// Memory that a step uses and the next one uses again.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub batch: Batch,
    /// Whether the batch's second half is what the source of negatives asked about.
    pub asked: bool,
    /// A batch that was made ready for the step of this number.
    pub ready: Option<(u64, Batch)>,
    /// Memory for the next one.
    pub spare: Batch,
    /// The batch that the head predicts for hard negatives to come (`negatives.delay`).
    pub ahead: Batch,
    pub neutral: Labelled,
    pub pairs: Labelled,
    pub base: Vec<f32>,
    pub base_ahead: Vec<f32>,
    pub buffers: [Activity; 2],
    /// The neutral pass's activities that the head learns from, where they are kept.
    pub kept: Vec<Activity>,
    pub answer: Activity,
    pub logits: Vec<f32>,
    pub head_direction: Directions,
    /// Which way the layer at hand should move.
    pub direction: Directions,
    /// Of a recurrent network.
    pub states: States,
    /// Whether every layer has told each sample of the batch apart with certainty `(B)`.
    pub solved: Vec<bool>,
}

impl Trainer {
    /// A new network for data like `data`, before its first step.
    ///
    /// # Errors
    /// [`Error::Setting`] and [`Error::Data`] where the recipe is out of range, or recipe and data do not fit.
    pub fn new(recipe: Recipe, data: &Dataset) -> Result<Self> {
        Ok(Self::with_network(Network::new(recipe, data.shape(), data.classes())?))
    }

    /// Trains a network that is there already: with layers or goodness of the caller's own, say.
    pub fn with_network(network: Network) -> Self {
        Trainer {
            negatives: negatives::from_recipe(network.recipe()),
            position: Position::default(),
            totals: Totals::none(&network),
            network,
            order: Vec::new(),
            rest: None,
            work: Workspace::default(),
            backprop: rival::Backprop::default(),
            perturbation: rival::Perturbation::default(),
            predictions: VecDeque::new(),
            later: None,
            occupancy: None,
            costs: Vec::new(),
            reads: Arc::from([]),
            learners: 0,
        }
    }

    /// Draws negative data from a source of the caller's own.
    pub fn set_negatives(&mut self, negatives: Box<dyn Negatives>) {
        self.negatives = negatives;
    }

    /// The network as it is now.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// As [`Network::allow_programs`], for training that goes on from a checkpoint.
    pub fn allow_programs(&mut self, allowed: bool) {
        self.network.allow_programs(allowed);
    }

    /// The network, trained as far as it is.
    pub fn into_network(self) -> Network {
        self.network
    }

    /// The recipe that it is trained by.
    pub fn recipe(&self) -> &Recipe {
        self.network.recipe()
    }

    /// Where training stands.
    pub fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What the head has predicted of the batches to come `(B, K)`.
    pub(crate) fn predictions(&self) -> &VecDeque<Vec<f32>> {
        &self.predictions
    }

    pub(crate) fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }

    pub(crate) fn negatives(&self) -> &dyn Negatives {
        &*self.negatives
    }

    pub(crate) fn negatives_mut(&mut self) -> &mut dyn Negatives {
        &mut *self.negatives
    }

    /// As [`Network::combine_readouts`], of the network in training.
    ///
    /// # Errors
    /// As there.
    pub fn combine_readouts(&mut self, data: &Dataset) -> Result<bool> {
        self.network.combine_readouts(data)
    }

    pub(crate) fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    pub(crate) fn go_on_from(
        &mut self,
        position: Position,
        totals: Totals,
        rest: Option<&[u8]>,
        predictions: VecDeque<Vec<f32>>,
    ) -> Result<(), String> {
        let expected = Totals::none(&self.network);
        if !totals.fits(&expected) {
            return Err("its sums over the current epoch belong to other layers".into());
        }
        if position.step_of_epoch > position.step {
            return Err(format!("it is at step {} of an epoch, of {} in all", position.step_of_epoch, position.step));
        }
        if position.epoch > self.epochs() {
            return Err(format!("it is at epoch {} of {}", position.epoch, self.epochs()));
        }
        let most = self.recipe().training.rest;
        self.rest = match rest {
            Some(bytes) => Some(Rest::from_bytes(most, bytes).ok_or("its record of resting samples is damaged")?),
            None => None,
        };
        let expected = self.delay().min(position.step);
        if predictions.len() as u64 != expected {
            let found = predictions.len();
            return Err(format!(
                "it has predictions for {found} batches to come, expected {expected}: the file is damaged"
            ));
        }
        self.predictions = predictions;
        self.position = position;
        self.totals = totals;
        self.order.clear();
        self.later = None;
        Ok(())
    }

    /// Epochs in all; with greedy order, over all layers.
    pub fn epochs(&self) -> u32 {
        let training = &self.recipe().training;
        match training.order {
            Order::Simultaneous | Order::Pipelined => training.epochs,
            Order::Greedy => training.epochs.saturating_mul(self.network.learners().count() as u32),
        }
    }

    /// True once every epoch is done.
    pub fn is_done(&self) -> bool {
        self.position.epoch >= self.epochs()
    }

    /// Steps in an epoch over `samples` samples; fewer where samples rest.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        (samples / self.recipe().training.batch) as u64
    }

    /// The layers that learn at present.
    pub fn learning(&self) -> Range<usize> {
        match self.recipe().training.order {
            Order::Simultaneous | Order::Pipelined => 0..self.network.depth(),
            Order::Greedy => {
                let l = (self.position.epoch / self.recipe().training.epochs) as usize;
                let learners: Vec<usize> = self.network.learners().collect();
                let l = learners[l.min(learners.len() - 1)];
                l..l + 1
            }
        }
    }

    /// What the learning rates are multiplied by at present.
    pub fn gain(&self) -> f32 {
        let training = &self.recipe().training;
        training.schedule.gain(self.position.epoch % training.epochs, training.epochs)
    }

    /// The share of rows, positive and negative, that had anything to learn from so far in this epoch: the mean over
    /// the layers.
    pub fn active_rows(&self) -> f64 {
        let moments = u64::from(self.recipe().recurrent.iterations.max(1));
        let each = self.recipe().objective.rows() as u64;
        let rows = each * self.totals.samples.max(1) * self.network.learners().count() as u64 * moments;
        self.totals.layers.iter().map(|layer| layer.active).sum::<u64>() as f64 / rows as f64
    }

    /// Bytes of activities and batches that steps have needed so far, all layers together.
    pub fn activity_bytes(&self) -> usize {
        let work = &self.work;
        let activities =
            work.buffers.iter().chain(&work.kept).chain([&work.answer]).map(Activity::bytes).sum::<usize>();
        let floats = [
            &work.base,
            &work.base_ahead,
            &work.ahead.values,
            &work.logits,
            &work.batch.values,
            &work.direction.values,
            &work.head_direction.values,
        ];
        let rivals = self.backprop.bytes() + self.perturbation.bytes() + work.states.bytes();
        rivals + activities + floats.map(|v| v.capacity() * size_of::<f32>()).iter().sum::<usize>()
    }

    /// Trains until every epoch is done or the observer says stop.
    ///
    /// # Errors
    /// As [`Trainer::check`]; also [`Error::NotFinite`] and [`Error::HeadNotFinite`] where an activity, a loss or a weight
    /// overflows.
    pub fn fit(&mut self, data: &Dataset, observer: &mut impl Observer) -> Result<()> {
        if self.is_pipelined() {
            return self.fit_along(&mut self.threads()?, data, observer);
        }
        self.forget_what_lies_ahead();
        let mut flow = Flow::Continue;
        while flow == Flow::Continue && !self.is_done() {
            self.check(data)?;
            flow = if self.position.step_of_epoch < self.steps_of_this_epoch(data) {
                let step = self.step(data)?;
                observer.observe(Event::Step(&step), self)
            } else {
                let epoch = self.end_epoch()?;
                observer.observe(Event::Epoch(&epoch), self)
            };
        }
        Ok(())
    }

    /// Drops what was made ready for steps to come, which may be of other data.
    pub(super) fn forget_what_lies_ahead(&mut self) {
        self.work.ready = None;
        self.order.clear();
        self.later = None;
    }

    /// Steps that the layers which learn at present have taken: with greedy order, since their turn came.
    pub(super) fn taken_in_turn(&self) -> u64 {
        let Position { epoch, step_of_epoch, step } = self.position;
        let training = &self.recipe().training;
        match training.order {
            Order::Greedy if epoch > 0 => {
                let steps_per_epoch = (step - step_of_epoch) / u64::from(epoch);
                u64::from(epoch % training.epochs) * steps_per_epoch + step_of_epoch
            }
            _ => step,
        }
    }

    /// Takes one step, on the next batch of the current epoch.
    fn step(&mut self, data: &Dataset) -> Result<StepReport> {
        // Once into the thread pool for the whole step: a product from outside would wake it up anew.
        rayon::scope(|_| self.step_in_pool(data))
    }

    fn step_in_pool(&mut self, data: &Dataset) -> Result<StepReport> {
        let (recipe, position) = (self.recipe().clone(), self.position);
        let (batch, seed) = (recipe.training.batch, recipe.seed.0);
        self.draw_order(data);
        let at = position.step_of_epoch as usize * batch;
        self.work.solved.clear();
        self.work.solved.resize(batch, true);
        if self.delay() > 0 {
            let mut ahead = std::mem::take(&mut self.work.ahead);
            self.load_batch(&mut ahead, data, self.delay());
            self.work.ahead = ahead;
        }
        let layout = Layout::of(&self.network);
        let load = |to: &mut Batch, step: u64, which: &[u32]| load(&recipe, layout, to, data, step, which);
        match self.work.ready.take_if(|(step, _)| *step == position.step) {
            Some((_, batch)) => self.work.spare = std::mem::replace(&mut self.work.batch, batch),
            None => load(&mut self.work.batch, position.step, &self.order[at..at + batch]),
        }
        // While this batch trains, whoever is idle prepares the next one of the epoch.
        let next = self.order.get(at + batch..at + 2 * batch).map(<[u32]>::to_vec);
        let mut spare = std::mem::take(&mut self.work.spare);
        let prepare = move || {
            let next = next?;
            load(&mut spare, position.step + 1, &next);
            Some((position.step + 1, spare))
        };

        let loss = match recipe.rule {
            Rule::ForwardForward if self.network.is_recurrent() => self.moments()?,
            Rule::ForwardForward if recipe.optimizer.kind == OptimizerKind::OneStep => self.one_by_one()?,
            Rule::ForwardForward => self.two_sweeps(prepare)?,
            Rule::RandomLayers => self.head_alone(),
            Rule::Backprop => {
                let head_step = head_step(&recipe, self.gain(), batch, position.step);
                let plan = rival::Plan {
                    steps: (&Step::new(&recipe.optimizer, self.gain(), batch, position.step), &head_step),
                    dropout: recipe.network.dropout,
                    parts: recipe.rival.parts,
                    straight_through: recipe.rival.straight_through,
                    taken: position.step,
                };
                let mut dropout = stream(seed, "dropout", position.step);
                self.backprop.step(&mut self.network, &self.work.batch, &plan, &mut dropout)?
            }
            Rule::Perturbation => {
                let rate = recipe.optimizer.rate * self.gain();
                let nudge = rival::Nudge { seed, taken: position.step, size: recipe.rival.nudge, rate };
                let estimates = &mut self.totals.estimates;
                self.perturbation.step(&mut self.network, &self.work.batch, nudge, estimates)?
            }
        };
        self.network.check_faults()?;
        check_head(self.totals.head_loss, position.step)?;
        if recipe.optimizer.equal_lengths {
            for l in self.learning() {
                let layer = &mut self.network.stages[l].layer;
                if layer.learns() && !layer.equalise() {
                    let why = format!("layer {l} has no weights that could be made equally long: leave it off");
                    return Err(Error::setting("optimizer.equal_lengths", why));
                }
            }
        }
        if matches!(recipe.rule, Rule::Backprop | Rule::Perturbation) {
            self.totals.head_loss += loss * batch as f64;
        }
        let solved = std::mem::take(&mut self.work.solved);
        let report = self.took_step(data, &solved, loss);
        self.work.solved = solved;
        Ok(report)
    }

    /// Counts a step: whether every layer has told each of its samples apart with certainty `(B)`, and its loss.
    pub(super) fn took_step(&mut self, data: &Dataset, solved: &[bool], loss: f64) -> StepReport {
        let (position, batch, most) = (self.position, solved.len(), self.recipe().training.rest);
        let steps_per_epoch = self.steps_of_this_epoch(data);
        let at = position.step_of_epoch as usize * batch;
        if most > 0 {
            let rest = self.rest.get_or_insert_with(|| Rest::new(most, data.len()));
            let visited = &self.order[at..at + batch];
            visited.iter().zip(solved).for_each(|(&n, &solved)| rest.note(n, solved));
        }

        self.totals.samples += batch as u64;
        self.position.step += 1;
        self.position.step_of_epoch += 1;
        StepReport {
            step: self.position.step,
            epoch: position.epoch,
            step_of_epoch: position.step_of_epoch,
            steps_per_epoch,
            samples: batch,
            loss,
        }
    }

    /// The samples of the current epoch in the order of their visits.
    pub(super) fn draw_order(&mut self, data: &Dataset) {
        if self.order.is_empty() {
            self.order = self.order_of(self.position.epoch, data);
        }
    }

    fn order_of(&self, epoch: u32, data: &Dataset) -> Vec<u32> {
        let mut order = match &self.rest {
            Some(rest) => rest.due(epoch),
            None => (0..data.len() as u32).collect(),
        };
        order.shuffle(&mut stream(self.recipe().seed.0, "order", epoch.into()));
        order
    }

    /// Steps between a prediction of the head and the hard negatives drawn from it.
    pub(super) fn delay(&self) -> u64 {
        u64::from(self.recipe().negatives.delay)
    }

    /// The batch of the step `later` than the next one, which may be of a later epoch (where no samples rest).
    pub(super) fn load_batch(&mut self, to: &mut Batch, data: &Dataset, later: u64) {
        let (batch, step) = (self.recipe().training.batch, self.position.step + later);
        let (mut at, mut epoch) = (self.position.step_of_epoch + later, self.position.epoch);
        let steps = self.steps_of_this_epoch(data);
        if at >= steps {
            (epoch, at) = (epoch + (at / steps) as u32, at % steps);
            if self.later.as_ref().is_none_or(|(known, _)| *known != epoch) {
                self.later = Some((epoch, self.order_of(epoch, data)));
            }
        }
        let order = match &self.later {
            Some((known, order)) if *known == epoch => order,
            _ => &self.order,
        };
        let which = &order[at as usize * batch..][..batch];
        load(self.network.recipe(), Layout::of(&self.network), to, data, step, which);
    }

    /// Steps in the current epoch, which some samples may rest in.
    pub(super) fn steps_of_this_epoch(&self, data: &Dataset) -> u64 {
        self.steps_per_epoch(self.rest.as_ref().map_or(data.len(), |rest| rest.count_due(self.position.epoch)))
    }

    /// Steps in an epoch over this data, if it can be learned from.
    ///
    /// # Errors
    /// [`Error::Data`] where the data does not fit the network or fills no batch.
    pub fn check(&self, data: &Dataset) -> Result<u64> {
        self.network.check_shape(data)?;
        let classes = self.network.classes();
        let needs_labels = self.network.needs_labels();
        if needs_labels && data.labels().is_empty() {
            return Err(Error::Data(format!("the data has no labels, the network expects {classes} classes")));
        }
        if needs_labels && data.classes() != self.network.class_names() {
            let (found, expected) = (data.classes().join(", "), self.network.class_names().join(", "));
            return Err(Error::Data(format!("the data's classes are {found}, the network expects {expected}")));
        }
        if let Some(rest) = &self.rest
            && rest.len() != data.len()
        {
            let (found, expected) = (data.len(), rest.len());
            return Err(Error::Data(format!(
                "found {found} training samples, expected the {expected} that training began with"
            )));
        }
        match self.steps_per_epoch(data.len()) {
            0 => Err(Error::Data(format!(
                "{} training samples do not fill one batch of {}: lower `training.batch`",
                data.len(),
                self.recipe().training.batch
            ))),
            steps => Ok(steps),
        }
    }

    /// Closes the current epoch: what it was like, and on to the next.
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::HeadNotFinite`] where weights have overflowed: units that are off would hide it.
    pub(super) fn end_epoch(&mut self) -> Result<EpochReport> {
        self.network.check_weights(self.position.step)?;
        let report = self.so_far();
        self.totals = Totals::none(&self.network);
        if let Some(rest) = &mut self.rest {
            rest.end_epoch(self.position.epoch);
        }
        self.position.epoch += 1;
        self.position.step_of_epoch = 0;
        self.order.clear();
        Ok(report)
    }

    /// What the current epoch has been like so far, as [`Event::Epoch`] will tell it at its end.
    pub fn so_far(&self) -> EpochReport {
        let totals = &self.totals;
        let moments = self.recipe().recurrent.iterations.max(1);
        let heads = totals.samples.max(1) as f64; // where every sample rests, there is nothing to report
        let samples = heads * f64::from(moments);
        let forward_forward = self.recipe().rule == Rule::ForwardForward;
        let layers: Vec<LayerReport> = self
            .learning()
            .filter(|&l| forward_forward && self.network.stages()[l].layer.learns())
            .map(|l| {
                let of = &totals.layers[l];
                LayerReport {
                    layer: l,
                    loss: of.loss / samples,
                    goodness_positive: of.positive / samples,
                    goodness_negative: of.negative / samples,
                    wrong_order: of.wrong as f64 / samples,
                    active_rows: of.active as f64 / (self.recipe().objective.rows() as f64 * samples),
                    dead_units: of.alive.iter().filter(|alive| **alive == 0).count(),
                    weight_rms: self.network.stages()[l].layer.weight_rms(),
                }
            })
            .collect();
        EpochReport {
            epoch: self.position.epoch + 1,
            step: self.position.step,
            loss: match forward_forward {
                true => layers.iter().map(|layer| layer.loss).sum::<f64>() / layers.len() as f64,
                false => totals.head_loss / heads,
            },
            estimate_variance: (totals.estimates.count > 0).then(|| totals.estimates.variance()),
            head_loss: self.network.head().map(|_| totals.head_loss / heads),
            gain: self.gain(),
            layers,
        }
    }
}

/// Loads samples as the lowest layer reads them, changed at random as the recipe says.
fn load(recipe: &Recipe, layout: Layout, to: &mut Batch, data: &Dataset, step: u64, which: &[u32]) {
    let mut random = stream(recipe.seed.0, "augmentation", step);
    let augment = recipe.augment.is_on().then_some((recipe.augment, &mut random));
    to.load_as(layout, data, which.iter().map(|&n| n as usize), augment);
}
