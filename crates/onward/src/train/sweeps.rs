//! Forward-Forward's step, all layers at hand.
//!
//! A step is two sweeps. The first carries the neutral rows up to the softmax head, which says what wrong labels are
//! plausible. The second carries positive and negative rows together; each layer answers, learns from its own answer, and
//! passes it on. Nothing is kept once the next layer has answered, so the memory for activities is two buffers whatever
//! the depth. (The head learns from every layer at once: it keeps one batch of each layer it reads, or, with
//! `head.memory = "recompute"`, has its rows travel along in the second sweep.)

use crate::batch::{Batch, Label, Labelled};
use crate::error::Result;
use crate::negatives::{Negative, Positive};
use crate::network::Network;
use crate::objective::cross_entropy;
use crate::optimizer::Step;
use crate::pass::{Activity, Inputs};
use crate::random::stream;
use crate::readout::softmax;
use crate::settings::{HeadMemory, OptimizerKind, OptimizerSettings, Recipe};
use crate::train::Trainer;
use crate::train::stage::{Layers, Lesson};
use crate::train::trainer::Workspace;

impl Trainer {
    /// Forward-Forward's step: the neutral sweep, and the one that layers learn from, beside which the head learns and
    /// `prepare` makes the next batch ready.
    pub(super) fn two_sweeps(&mut self, prepare: impl FnOnce() -> Option<(u64, Batch)> + Send) -> Result<f64> {
        let step = self.position.step;
        let (negative, prediction) = self.draw_negative(self.head_watches());
        if !prediction || self.head_travels() {
            let (loss, ready) = rayon::join(|| self.learning_sweep(&negative), prepare);
            self.work.ready = ready;
            return loss;
        }
        let head_step = head_step(self.recipe(), self.gain(), self.work.solved.len(), step);
        let awake = self.awake();
        let (mut head, kept) = (self.network.head.take(), std::mem::take(&mut self.work.kept));
        let (layers, d) = (self.learning().end, std::mem::take(&mut self.work.head_direction));
        let teach = || {
            let head = head.as_mut().expect("it has predicted");
            let read = kept.iter().take(if awake { layers } else { 0 }).enumerate();
            read.for_each(|(l, y)| head.update(l, &y.as_inputs(), &d, &head_step));
        };
        let (loss, (ready, ())) = rayon::join(|| self.learning_sweep(&negative), || rayon::join(prepare, teach));
        (self.network.head, self.work.kept, self.work.head_direction, self.work.ready) = (head, kept, d, ready);
        loss
    }

    /// The batch's negative samples, none where layers need no pairs, and whether the head has predicted for it; it does not where it `watches` what passes
    /// instead, unless the source of negatives asks for it.
    pub(super) fn draw_negative(&mut self, watches: bool) -> (Negative, bool) {
        let (seed, step, delay) = (self.recipe().seed.0, self.position.step, self.delay());
        self.work.base.clear();
        self.work.base_ahead.clear();
        let pairs = !self.recipe().objective.by_class();
        let positive = Positive::new(&self.network, &self.work.batch, (&[], &[]));
        let asked = if pairs { self.negatives.ask(&positive) } else { None };
        self.work.asked = asked.is_some();
        if let Some(inputs) = &asked {
            self.work.batch.extend(&self.network, inputs);
        }
        let prediction = (!watches || self.work.asked) && self.neutral_sweep();
        let earlier = if delay > 0 && step >= delay { self.predictions.pop_front() } else { None };
        let predicted = match (prediction, delay) {
            (true, 0) => self.work.logits.split_at(self.work.solved.len() * self.network.classes()),
            _ => (earlier.as_deref().unwrap_or_default(), &[][..]),
        };
        let positive = Positive::new(&self.network, &self.work.batch, predicted);
        let negative = match pairs {
            true => self.negatives.draw(&positive, &mut stream(seed, "negatives", step)),
            false => Negative::default(),
        };
        if delay > 0 {
            self.predictions.push_back(self.work.logits.clone());
        }
        (negative, prediction)
    }

    /// A step of the head alone, on layers that stay as they are. Returns its mean loss.
    pub(super) fn head_alone(&mut self) -> f64 {
        let before = self.totals.head_loss;
        self.work.base.clear();
        self.work.asked = false;
        self.neutral_sweep();
        let (recipe, gain, steps) = (self.network.recipe(), self.gain(), self.position.step);
        let work = &mut self.work;
        let step = head_step(recipe, gain, work.head_direction.rows.len(), steps);
        let head = self.network.head.as_mut().expect("check() has looked for the head");
        work.kept.iter().enumerate().for_each(|(l, y)| head.update(l, &y.as_inputs(), &work.head_direction, &step));
        (self.totals.head_loss - before) / self.work.solved.len() as f64
    }

    /// Whether this step learns from positive data; the head learns from no other.
    fn awake(&self) -> bool {
        self.recipe().training.learns_from(self.position.step).0
    }

    /// Whether the head learns from the positive rows as they pass: where they are the neutral ones, and no negatives wait for
    /// its prediction.
    fn head_watches(&self) -> bool {
        let keep = self.network.recipe().head.memory == HeadMemory::Keep;
        self.network.positives_are_neutral() && keep && self.head_learns() && !self.work.asked
    }

    /// Whether the neutral rows travel once more beside the others, for the head to learn from.
    fn head_travels(&self) -> bool {
        let recompute = self.network.recipe().head.memory == HeadMemory::Recompute;
        recompute && !self.work.head_direction.rows.is_empty() && self.awake()
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
        let (batch, base) = match self.network.recipe().negatives.delay {
            0 => (&work.batch, &mut work.base),
            _ => (&work.ahead, &mut work.base_ahead),
        };
        work.neutral.fill(&self.network, batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
        let base = self.network.project(batch, base);
        let Some(head) = self.network.head().filter(|_| learns) else { return false };
        let keep = self.network.recipe().head.memory == HeadMemory::Keep;
        work.logits.clear();
        work.logits.resize(batch.len() * self.network.classes(), 0.0);
        let (kept, answer, logits) = (&mut work.kept, &mut work.answer, &mut work.logits);
        kept.resize_with(if keep { layers.max(2) } else { 0 }, Activity::default);
        self.network.sweep(
            &work.neutral.as_inputs(batch, base),
            layers,
            if keep { kept } else { &mut work.buffers },
            |l, y| _ = head.add(l, &y.as_inputs(), answer, logits),
        );
        self.find_head_direction();
        true
    }

    /// Turns the head's logits into probabilities `(B, K)`, and finds where they should go.
    pub(super) fn find_head_direction(&mut self) {
        let work = &mut self.work;
        let (samples, classes) = (work.batch.labels.len(), self.network.classes());
        let (own, asked) = work.logits.split_at_mut(samples * classes);
        asked.chunks_exact_mut(classes).for_each(softmax);
        let d = &mut work.head_direction;
        d.rows.clear();
        d.rows.extend(0..samples as u32);
        let labels = if self.network.recipe().negatives.delay > 0 { &work.ahead.labels } else { &work.batch.labels };
        self.totals.head_loss += cross_entropy(own, labels, &mut d.values);
    }

    /// Has the head learn from the layers whose activities are kept.
    pub(super) fn teach_head(&mut self) {
        let (layers, gain, steps) = (self.learning().end, self.gain(), self.position.step);
        if !self.awake() {
            return;
        }
        let work = &mut self.work;
        let step = head_step(self.network.recipe(), gain, work.head_direction.rows.len(), steps);
        let head = self.network.head.as_mut().expect("only a head has logits");
        for (l, y) in work.kept.iter().take(layers).enumerate() {
            head.update(l, &y.as_inputs(), &work.head_direction, &step);
        }
    }

    /// Carries positive and negative rows up together, or positive ones alone where layers need no others; each learning layer
    /// learns as they pass. Returns the mean loss per sample and learning layer.
    fn learning_sweep(&mut self, negative: &Negative) -> Result<f64> {
        let (learning, gain, position) = (self.learning(), self.gain(), self.position);
        let taken = self.taken_in_turn();
        let (watches, head_travels) = (self.head_watches(), self.head_travels());
        let work = &mut self.work;
        let batch = work.solved.len();
        let taught = batch * self.network.recipe().objective.rows();
        let first_read = self.network.first_read();
        let counts = (batch, taught - batch, if head_travels { batch } else { 0 });
        label_pairs(&self.network, &mut work.batch, counts, negative, &mut work.pairs);
        let base = self.network.project(&work.batch, &mut work.base);
        if watches {
            work.logits.clear();
            work.logits.resize(batch * self.network.classes(), 0.0);
            work.kept.resize_with(learning.end, Activity::default);
        }

        let recipe = self.network.recipe().clone();
        let step = Step::new(&recipe.optimizer, gain, batch, taken);
        let lesson = Lesson {
            recipe: &recipe,
            step,
            taken: position.step,
            batch,
            first: 0,
            learning: learning.clone(),
            labels: &work.batch.labels,
        };
        let head_step = head_step(&recipe, gain, batch, position.step);
        let (mut loss, first) = (0.0, work.pairs.as_inputs(&work.batch, base));
        let Network { stages, head, .. } = &mut self.network;
        let (stages, totals) = (&mut stages[..learning.end], &mut self.totals.layers[..learning.end]);
        let mut layers = Layers { first: 0, below: 0, stages, totals, group: None };
        let Workspace { buffers, kept, answer, logits, head_direction, solved, direction, .. } = work;
        layers.learn(&first, buffers, &lesson, (solved, &mut loss), direction, |l, y| {
            if head_travels && let Some(head) = head {
                let rows = taught..taught + batch;
                let x = Inputs {
                    values: &y.values[rows.start * y.width()..rows.end * y.width()],
                    scale: &y.scale[rows],
                    ..y.as_inputs()
                };
                head.update(l, &x, head_direction, &head_step);
            }
            if watches
                && l >= first_read
                && let Some(head) = head
            {
                let kept = &mut kept[l];
                kept.copy_rows(y, batch);
                head.add(l, &kept.as_inputs(), answer, logits);
            }
        })?;
        if watches {
            self.find_head_direction();
            self.teach_head();
        }
        let learners = self.network.learners().filter(|l| learning.contains(l)).count();
        Ok(loss / (batch * learners) as f64)
    }
}

/// How far the head's weights move.
pub(super) fn head_step(recipe: &Recipe, gain: f32, batch: usize, taken: u64) -> Step {
    let head = &recipe.head;
    let (rate, momentum, weight_cost) = (head.rate, head.momentum, head.weight_cost);
    let kind = OptimizerKind::Smoothed;
    Step::new(&OptimizerSettings { kind, rate, momentum, weight_cost, ..recipe.optimizer }, gain, batch, taken)
}

/// The rows to learn from: so many positive ones of the batch, negative ones, and neutral ones. Negative inputs are added to
/// the batch.
pub(super) fn label_pairs(
    network: &Network,
    batch: &mut Batch,
    (positive, negative, neutral): (usize, usize, usize),
    drawn: &Negative,
    pairs: &mut Labelled,
) {
    let [positives, negatives] = drawn.rows(network, batch, positive);
    let neutral = (0..neutral).map(|n| (n, Label::Neutral));
    pairs.fill(network, batch, positives.into_iter().chain(negatives.into_iter().take(negative)).chain(neutral));
}
