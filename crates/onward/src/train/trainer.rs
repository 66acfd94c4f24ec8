//! Simultaneous and greedy training.
//!
//! A step is two sweeps. The first carries the neutral rows up to the softmax head, which says what wrong labels are
//! plausible. The second carries positive and negative rows together; each layer answers, learns from its own answer, and
//! passes it on. Nothing is kept once the next layer has answered, so the memory for activities is two buffers whatever
//! the depth. (The head learns from every layer at once: it keeps one batch of each layer it reads, or, with
//! `head.memory = "recompute"`, has its rows travel along in the second sweep.)

use crate::batch::{Batch, Label, Labelled, Layout};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::events::{EpochReport, Event, Flow, LayerReport, Observer, StepReport};
use crate::negatives::{self, Negative, Negatives, Positive};
use crate::network::{Network, take_turns};
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::stream;
use crate::recurrent::{Held, States};
use crate::rival;
use crate::settings::{HeadMemory, OptimizerKind, OptimizerSettings, Order, Recipe, Rule};
use crate::train::rest::{Rest, SOLVED};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A network in training.
#[derive(Debug)]
pub struct Trainer {
    network: Network,
    negatives: Box<dyn Negatives>,
    position: Position,
    totals: Totals,
    /// The current epoch's samples, in the order of their visits; empty before its first step.
    order: Vec<u32>,
    rest: Option<Rest>,
    work: Workspace,
    backprop: rival::Backprop,
    perturbation: rival::Perturbation,
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

/// Sums over the steps of the current epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    samples: u64,
    head_loss: f64,
    #[serde(default)]
    estimates: rival::Estimates,
    layers: Vec<LayerTotals>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LayerTotals {
    loss: f64,
    positive: f64,
    negative: f64,
    wrong: u64,
    active: u64,
    /// 1 for each unit that was on for some positive sample.
    alive: Vec<u8>,
}

/// Memory that a step uses and the next one uses again.
#[derive(Debug, Default)]
struct Workspace {
    batch: Batch,
    /// A batch that was made ready for the step of this number.
    ready: Option<(u64, Batch)>,
    /// Memory for the next one.
    spare: Batch,
    neutral: Labelled,
    pairs: Labelled,
    base: Vec<f32>,
    buffers: [Activity; 2],
    /// The neutral pass's activities that the head learns from, where they are kept.
    kept: Vec<Activity>,
    answer: Activity,
    logits: Vec<f32>,
    head_direction: Directions,
    direction: Directions,
    /// Of a recurrent network.
    states: States,
    /// Whether every layer has told each sample of the batch apart with certainty `(B)`.
    solved: Vec<bool>,
}

impl Trainer {
    /// A new network for data like `data`, before its first step.
    ///
    /// # Errors
    /// [`Error::Setting`] and [`Error::Data`] where the recipe is out of range, or recipe and data do not fit.
    pub fn new(recipe: Recipe, data: &Dataset) -> Result<Self> {
        Self::with_network(Network::new(recipe, data.shape(), data.classes())?)
    }

    /// Trains a network that is there already: with layers or goodness of the caller's own, say.
    ///
    /// # Errors
    /// None today; a network that cannot be trained would be refused here.
    pub fn with_network(network: Network) -> Result<Self> {
        let negatives = negatives::from_settings(network.recipe().negatives);
        let (position, totals) = Default::default();
        let (order, rest, work) = Default::default();
        let (backprop, perturbation) = Default::default();
        let mut trainer = Trainer { network, negatives, position, totals, order, rest, work, backprop, perturbation };
        trainer.totals = trainer.no_totals();
        Ok(trainer)
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

    pub(crate) fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }

    pub(crate) fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    pub(crate) fn go_on_from(&mut self, position: Position, totals: Totals, rest: Option<&[u8]>) -> Result<(), String> {
        let expected = self.no_totals();
        let fits = |a: &LayerTotals, b: &LayerTotals| a.alive.len() == b.alive.len();
        let same_layers = totals.layers.len() == expected.layers.len();
        if !same_layers || !totals.layers.iter().zip(&expected.layers).all(|(a, b)| fits(a, b)) {
            return Err("its sums over the current epoch belong to other layers".into());
        }
        if position.epoch > self.epochs() {
            return Err(format!("it is at epoch {} of {}", position.epoch, self.epochs()));
        }
        let most = self.recipe().training.rest;
        self.rest = match rest {
            Some(bytes) => Some(Rest::from_bytes(most, bytes).ok_or("its record of resting samples is damaged")?),
            None => None,
        };
        self.position = position;
        self.totals = totals;
        self.order.clear();
        Ok(())
    }

    /// Epochs in all; with greedy order, over all layers.
    pub fn epochs(&self) -> u32 {
        let training = &self.recipe().training;
        match training.order {
            Order::Simultaneous => training.epochs,
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
            Order::Simultaneous => 0..self.network.depth(),
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
        let rows = 2 * self.totals.samples.max(1) * self.network.learners().count() as u64 * moments;
        self.totals.layers.iter().map(|layer| layer.active).sum::<u64>() as f64 / rows as f64
    }

    /// Bytes of activities and batches that steps have needed so far, all layers together.
    pub fn activity_bytes(&self) -> usize {
        let work = &self.work;
        let activities =
            work.buffers.iter().chain(&work.kept).chain([&work.answer]).map(Activity::bytes).sum::<usize>();
        let floats =
            [&work.base, &work.logits, &work.batch.values, &work.direction.values, &work.head_direction.values];
        let rivals = self.backprop.bytes() + self.perturbation.bytes() + work.states.bytes();
        rivals + activities + floats.map(|v| v.capacity() * size_of::<f32>()).iter().sum::<usize>()
    }

    /// Trains until every epoch is done or the observer says stop.
    ///
    /// # Errors
    /// As [`Trainer::check`]; also [`Error::NotFinite`] where a layer's activity overflows.
    pub fn fit(&mut self, data: &Dataset, observer: &mut impl Observer) -> Result<()> {
        self.work.ready = None; // it may be of other data
        let mut flow = Flow::Continue;
        while flow == Flow::Continue && !self.is_done() {
            self.check(data)?;
            flow = if self.position.step_of_epoch < self.steps_of_this_epoch(data) {
                let step = self.step(data)?;
                observer.observe(Event::Step(&step), self)
            } else {
                let epoch = self.end_epoch();
                observer.observe(Event::Epoch(&epoch), self)
            };
        }
        Ok(())
    }

    /// Takes one step, on the next batch of the current epoch.
    fn step(&mut self, data: &Dataset) -> Result<StepReport> {
        // Once into the thread pool for the whole step: a product from outside would wake it up anew.
        rayon::scope(|_| self.step_in_pool(data))
    }

    fn step_in_pool(&mut self, data: &Dataset) -> Result<StepReport> {
        let steps_per_epoch = self.steps_of_this_epoch(data);
        let (recipe, position) = (self.recipe().clone(), self.position);
        let (batch, seed) = (recipe.training.batch, recipe.seed.0);
        if self.order.is_empty() {
            self.order = match &self.rest {
                Some(rest) => rest.due(position.epoch),
                None => (0..data.len() as u32).collect(),
            };
            self.order.shuffle(&mut stream(seed, "order", position.epoch.into()));
        }
        let at = position.step_of_epoch as usize * batch;
        self.work.solved.clear();
        self.work.solved.resize(batch, true);
        let layout = Layout::of(&self.network);
        let load = |to: &mut Batch, step: u64, which: &[u32]| {
            let mut shifts = stream(seed, "augmentation", step);
            let shift = (recipe.augment.shift > 0).then_some((recipe.augment.shift, &mut shifts));
            to.load_as(layout, data, which.iter().map(|&n| n as usize), shift);
        };
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
            Rule::ForwardForward => self.two_sweeps(prepare)?,
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
        if recipe.rule != Rule::ForwardForward {
            self.totals.head_loss += loss * batch as f64;
        }
        if recipe.training.rest > 0 {
            let rest = self.rest.get_or_insert_with(|| Rest::new(recipe.training.rest, data.len()));
            let visited = &self.order[at..at + batch];
            visited.iter().zip(&self.work.solved).for_each(|(&n, &solved)| rest.note(n, solved));
        }

        self.totals.samples += batch as u64;
        self.position.step += 1;
        self.position.step_of_epoch += 1;
        Ok(StepReport {
            step: self.position.step,
            epoch: position.epoch,
            step_of_epoch: position.step_of_epoch,
            steps_per_epoch,
            samples: batch,
            loss,
        })
    }

    /// Forward-Forward's step: the neutral sweep, and the one that layers learn from, beside which the head learns and
    /// `prepare` makes the next batch ready.
    fn two_sweeps(&mut self, prepare: impl FnOnce() -> Option<(u64, Batch)> + Send) -> Result<f64> {
        let (seed, step) = (self.recipe().seed.0, self.position.step);
        self.work.base.clear();
        let prediction = !self.head_watches() && self.neutral_sweep();
        let positive = Positive {
            batch: &self.work.batch,
            shape: self.network.shape(),
            classes: self.network.classes(),
            prediction: prediction.then_some(&self.work.logits[..]),
        };
        let negative = self.negatives.draw(&positive, &mut stream(seed, "negatives", step));
        if !prediction || self.head_travels() {
            let (loss, ready) = rayon::join(|| self.learning_sweep(&negative), prepare);
            self.work.ready = ready;
            return loss;
        }
        let head_step = head_step(self.recipe(), self.gain(), self.work.batch.len(), step);
        let (mut head, kept) = (self.network.head.take(), std::mem::take(&mut self.work.kept));
        let (layers, d) = (self.learning().end, std::mem::take(&mut self.work.head_direction));
        let teach = || {
            let head = head.as_mut().expect("it has predicted");
            let read = kept.iter().take(layers).enumerate();
            read.for_each(|(l, y)| head.update(l, &y.as_inputs(), &d, &head_step));
        };
        let (loss, (ready, ())) = rayon::join(|| self.learning_sweep(&negative), || rayon::join(prepare, teach));
        (self.network.head, self.work.kept, self.work.head_direction, self.work.ready) = (head, kept, d, ready);
        loss
    }

    /// A recurrent network's step: states start from a bottom-up pass, which the head reads, and run on with the true label
    /// and with a wrong one; every layer learns at every moment. Returns the mean loss per sample, layer and moment.
    fn moments(&mut self) -> Result<f64> {
        let (seed, gain, position) = (self.recipe().seed.0, self.gain(), self.position);
        let recipe = self.recipe().clone();
        let batch = self.work.batch.len();
        let samples: Vec<u32> = (0..batch as u32).collect();
        let bottom_up = Held { batch: &self.work.batch, source: &samples, labels: &[] };
        self.work.states.start(&self.network, bottom_up);
        if let Some(head) = self.network.head() {
            let work = &mut self.work;
            work.logits.clear();
            work.logits.resize(batch * self.network.classes(), 0.0);
            for (l, y) in work.states.layers.iter().enumerate() {
                head.add(l, &y.as_inputs(), &mut work.answer, &mut work.logits);
            }
            std::mem::swap(&mut work.kept, &mut work.states.layers);
            self.teach_head();
            std::mem::swap(&mut self.work.kept, &mut self.work.states.layers);
        }
        let positive = Positive {
            batch: &self.work.batch,
            shape: self.network.shape(),
            classes: self.network.classes(),
            prediction: self.network.head().is_some().then_some(&self.work.logits[..]),
        };
        let negative = self.negatives.draw(&positive, &mut stream(seed, "negatives", position.step));

        let work = &mut self.work;
        let mut source = [&samples[..], &samples[..]].concat();
        match &negative.inputs {
            Some(inputs) => {
                work.batch.extend(&self.network, inputs);
                source[batch..].iter_mut().for_each(|n| *n += batch as u32);
                work.states.start(&self.network, Held { batch: &work.batch, source: &source, labels: &[] });
            }
            None => work.states.double(),
        }
        let wrong = negative.labels.as_ref().unwrap_or(&work.batch.labels);
        let labels: Vec<Label> = work.batch.labels.iter().chain(wrong).map(|&label| Label::Class(label)).collect();
        let labels = if self.network.sees_labels() { &labels[..] } else { &[] };
        let mut loss = 0.0;
        let moments = recipe.recurrent.iterations;
        for moment in 0..moments {
            let taken = position.step * u64::from(moments) + u64::from(moment);
            let step = Step::new(&recipe.optimizer, gain, batch, taken);
            for l in 0..self.network.depth() {
                let held = Held { batch: &work.batch, source: &source, labels };
                let (x, y) = work.states.answer(&self.network, held, l);
                if let Some(found) = y.squares.iter().copied().find(|squares| !squares.is_finite()) {
                    return Err(Error::NotFinite { layer: l, step: position.step, found });
                }
                let (stage, totals) = (&mut self.network.stages[l], &mut self.totals.layers[l]);
                loss += find_directions(stage, &recipe, y, totals, &mut work.solved, &mut work.direction);
                stage.layer.update(&x, &work.direction, &step);
                work.states.take_in(l, recipe.recurrent.keep);
            }
            work.states.turn(&self.network);
        }
        Ok(loss / (batch * self.network.depth() * moments as usize) as f64)
    }

    /// Steps in the current epoch, which some samples may rest in.
    fn steps_of_this_epoch(&self, data: &Dataset) -> u64 {
        self.steps_per_epoch(self.rest.as_ref().map_or(data.len(), |rest| rest.count_due(self.position.epoch)))
    }

    /// Steps in an epoch over this data, if it can be learned from.
    ///
    /// # Errors
    /// [`Error::Data`] where the data does not fit the network or fills no batch.
    pub fn check(&self, data: &Dataset) -> Result<u64> {
        let (shape, classes) = (self.network.shape(), self.network.classes());
        if data.shape() != shape {
            return Err(Error::Data(format!("the data's samples are {}, the network expects {shape}", data.shape())));
        }
        let needs_labels = self.network.sees_labels() || self.network.head().is_some();
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

    /// Whether the head learns from the positive rows as they pass: where no label goes in, they are the neutral ones, and
    /// no negatives wait for its prediction.
    fn head_watches(&self) -> bool {
        let keep = self.network.recipe().head.memory == HeadMemory::Keep;
        self.network.label_width() == 0 && keep && self.head_learns()
    }

    /// Whether the neutral rows travel once more beside the others, for the head to learn from.
    fn head_travels(&self) -> bool {
        let recompute = self.network.recipe().head.memory == HeadMemory::Recompute;
        recompute && !self.work.head_direction.rows.is_empty()
    }

    /// Whether there is a head, and some layer that it reads has started to learn.
    fn head_learns(&self) -> bool {
        self.network.head().is_some() && self.learning().end > self.network.first_read()
    }

    /// Carries the neutral rows up, teaches the head, and leaves its class probabilities `(B, K)` in `work.logits`.
    /// Returns false where the head does not learn.
    fn neutral_sweep(&mut self) -> bool {
        let (layers, learns) = (self.learning().end, self.head_learns());
        let work = &mut self.work;
        work.head_direction.rows.clear();
        work.neutral.fill(&self.network, &work.batch, (0..work.batch.len()).map(|n| (n, Label::Neutral)));
        let base = self.network.project(&work.batch, &mut work.base);
        let Some(head) = self.network.head().filter(|_| learns) else { return false };
        let keep = self.network.recipe().head.memory == HeadMemory::Keep;
        work.logits.clear();
        work.logits.resize(work.batch.len() * self.network.classes(), 0.0);
        let (kept, answer, logits) = (&mut work.kept, &mut work.answer, &mut work.logits);
        kept.resize_with(if keep { layers.max(2) } else { 0 }, Activity::default);
        self.network.sweep(
            &work.neutral.as_inputs(&work.batch, base),
            layers,
            if keep { kept } else { &mut work.buffers },
            |l, y| _ = head.add(l, &y.as_inputs(), answer, logits),
        );
        self.find_head_direction();
        true
    }

    /// Turns the head's logits into probabilities `(B, K)`, and finds where they should go.
    fn find_head_direction(&mut self) {
        let work = &mut self.work;
        let samples = work.logits.len() / self.network.classes();
        let d = &mut work.head_direction;
        d.rows.clear();
        d.rows.extend(0..samples as u32);
        self.totals.head_loss += rival::cross_entropy(&mut work.logits, &work.batch.labels, &mut d.values);
    }

    /// Has the head learn from the layers whose activities are kept.
    fn teach_head(&mut self) {
        let (layers, gain, steps) = (self.learning().end, self.gain(), self.position.step);
        self.find_head_direction();
        let work = &mut self.work;
        let step = head_step(self.network.recipe(), gain, work.head_direction.rows.len(), steps);
        let head = self.network.head.as_mut().expect("only a head has logits");
        for (l, y) in work.kept.iter().take(layers).enumerate() {
            head.update(l, &y.as_inputs(), &work.head_direction, &step);
        }
    }

    /// Carries positive and negative rows up together; each learning layer learns as they pass. Returns the mean loss
    /// per sample and learning layer.
    fn learning_sweep(&mut self, negative: &Negative) -> Result<f64> {
        let (learning, gain, position) = (self.learning(), self.gain(), self.position);
        let (watches, head_travels) = (self.head_watches(), self.head_travels());
        let work = &mut self.work;
        let batch = work.batch.len();
        if let Some(inputs) = &negative.inputs {
            work.batch.extend(&self.network, inputs);
        }
        let first_read = self.network.first_read();
        let first_negative = if negative.inputs.is_some() { batch } else { 0 };
        let label = |labels: &[u32], n: usize| labels.get(n).map_or(Label::Neutral, |&label| Label::Class(label));
        let wrong = negative.labels.as_ref().unwrap_or(&work.batch.labels);
        let positives = (0..batch).map(|n| (n, label(&work.batch.labels, n)));
        let negatives = (0..batch).map(|n| (first_negative + n, label(wrong, n)));
        let neutral = (0..if head_travels { batch } else { 0 }).map(|n| (n, Label::Neutral));
        work.pairs.fill(&self.network, &work.batch, positives.chain(negatives).chain(neutral));
        let base = self.network.project(&work.batch, &mut work.base);
        if watches {
            work.logits.clear();
            work.logits.resize(batch * self.network.classes(), 0.0);
            work.kept.resize_with(learning.end, Activity::default);
        }

        let recipe = self.network.recipe().clone();
        let step = Step::new(&recipe.optimizer, gain, batch, position.step);
        let mut dropout = stream(recipe.seed.0, "dropout", position.step);
        let mut loss = 0.0;
        let first = work.pairs.as_inputs(&work.batch, base);
        for (l, stage) in self.network.stages[..learning.end].iter_mut().enumerate() {
            let (below, y) = take_turns(&mut work.buffers, l);
            let x = if l == 0 { &first } else { &below };
            y.resize(x.rows(), stage.layer.outputs());
            stage.layer.forward(x, y);
            if let Some(found) = y.squares.iter().copied().find(|squares| !squares.is_finite()) {
                return Err(Error::NotFinite { layer: l, step: position.step, found });
            }
            if learning.contains(&l) && stage.layer.learns() {
                let totals = &mut self.totals.layers[l];
                loss += find_directions(stage, &recipe, y, totals, &mut work.solved, &mut work.direction);
                stage.layer.update(x, &work.direction, &step);
            }
            stage.normalization.apply(y);
            if head_travels && let Some(head) = &mut self.network.head {
                let rows = 2 * batch..3 * batch;
                let x = Inputs {
                    values: &y.values[rows.start * y.width()..rows.end * y.width()],
                    scale: &y.scale[rows],
                    ..y.as_inputs()
                };
                head.update(l, &x, &work.head_direction, &head_step(&recipe, gain, batch, position.step));
            }
            if watches
                && l >= first_read
                && let Some(head) = &self.network.head
            {
                let kept = &mut work.kept[l];
                kept.resize(batch, y.width());
                kept.values.copy_from_slice(&y.values[..batch * y.width()]);
                kept.scale.copy_from_slice(&y.scale[..batch]);
                head.add(l, &kept.as_inputs(), &mut work.answer, &mut work.logits);
            }
            drop_out(recipe.network.dropout, 2 * batch, y, &mut dropout);
        }
        if watches {
            self.teach_head();
        }
        let learners = self.network.learners().filter(|l| learning.contains(l)).count();
        Ok(loss / (batch * learners) as f64)
    }

    /// Closes the current epoch: what it was like, and on to the next.
    fn end_epoch(&mut self) -> EpochReport {
        let report = self.so_far();
        self.totals = self.no_totals();
        if let Some(rest) = &mut self.rest {
            rest.end_epoch(self.position.epoch);
        }
        self.position.epoch += 1;
        self.position.step_of_epoch = 0;
        self.order.clear();
        report
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
                    active_rows: of.active as f64 / (2.0 * samples),
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

    fn no_totals(&self) -> Totals {
        let widths = self.network.stages().iter().map(|stage| stage.layer.outputs());
        let layers = widths.map(|width| LayerTotals { alive: vec![0; width], ..Default::default() }).collect();
        Totals { layers, ..Default::default() }
    }
}

fn head_step(recipe: &Recipe, gain: f32, batch: usize, taken: u64) -> Step {
    let head = &recipe.head;
    let (rate, momentum, weight_cost) = (head.rate, head.momentum, head.weight_cost);
    let kind = OptimizerKind::Smoothed;
    Step::new(&OptimizerSettings { kind, rate, momentum, weight_cost, ..recipe.optimizer }, gain, batch, taken)
}

/// The directions of a layer's rows: the batch's positive ones, then as many negative ones. Clears the `solved` mark of
/// samples that the layer has anything to learn from. Returns the summed loss.
fn find_directions(
    stage: &mut crate::network::Stage,
    recipe: &Recipe,
    y: &Activity,
    totals: &mut LayerTotals,
    solved: &mut [bool],
    d: &mut Directions,
) -> f64 {
    let (measure, batch) = (&stage.measure, solved.len());
    let goodness: Vec<f32> = (0..2 * batch).map(|r| measure.value(y.row(r), y.squares[r])).collect();
    let (positive, negative) = goodness.split_at(batch);
    let mut slopes = vec![0.0; 2 * batch];
    let mut loss = 0.0;
    for n in 0..batch {
        let (a, b) = (measure.logit(positive[n]), measure.logit(negative[n]));
        let terms = recipe.objective.terms(a, b);
        (slopes[n], slopes[batch + n]) = (terms.positive, terms.negative);
        solved[n] &= terms.positive.abs() < SOLVED && terms.negative.abs() < SOLVED;
        loss += f64::from(terms.loss);
        totals.wrong += u64::from(a <= b);
    }
    totals.loss += loss;
    totals.positive += positive.iter().map(|&g| f64::from(g)).sum::<f64>();
    totals.negative += negative.iter().map(|&g| f64::from(g)).sum::<f64>();

    stage.peer.step(y, batch, &mut d.shared, &mut totals.alive);
    d.shared_rows = 0..batch;
    d.rows.clear();
    d.rows.extend((0..2 * batch as u32).filter(|&r| slopes[r as usize].abs() > recipe.training.negligible));
    totals.active += d.rows.len() as u64;
    let width = y.width();
    d.values.resize(d.rows.len() * width, 0.0);
    for (&r, d) in d.rows.iter().zip(d.values.chunks_exact_mut(width)) {
        measure.direction(y.row(r as usize), slopes[r as usize], d);
    }
    loss
}

/// Silences a share of the first `rows` rows' activities, and raises the others in turn.
pub(crate) fn drop_out(share: f32, rows: usize, y: &mut Activity, random: &mut crate::random::Random) {
    use rand::RngExt;
    if share == 0.0 {
        return;
    }
    let width = y.width();
    for y in &mut y.values[..rows * width] {
        *y = if random.random::<f32>() < share { 0.0 } else { *y / (1.0 - share) };
    }
}
