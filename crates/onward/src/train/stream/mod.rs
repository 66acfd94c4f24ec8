//! Learning from a stream: one record after another, nothing stored, no end.
//!
//! A [`Learner`] is shown a record, says what it makes of it, and learns: from the record's label when that comes
//! ([`Task::Classify`]), or from the record itself ([`Task::Unsupervised`]). Whatever the stream's length, it holds the same
//! memory: weights, running means, and the recent past.
//!
//! ```
//! use onward::train::stream::{Learner, StreamSettings};
//! # fn main() -> onward::Result<()> {
//! let mut learner = Learner::new(StreamSettings::classify(10), 2)?;
//! for n in 0..500 {
//!     let x = [(n % 7) as f32, (n % 3) as f32];
//!     let verdict = learner.observe(&x)?; // predict …
//!     let number = verdict.number;
//!     let class = learner.class(if x[0] > 3.0 { "high" } else { "low" }).expect("there is room for ten classes");
//!     learner.label(number, class)?; // … then learn
//! }
//! let verdict = learner.observe(&[6.0, 1.0])?;
//! let best = verdict.label.expect("labels have been seen");
//! assert_eq!(learner.classes()[best], "high");
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod moments;
mod negatives;
mod past;
mod recent;
mod scaler;
mod settings;

pub use settings::{StreamRule, StreamSettings, Task, WrongLabels, WrongWindows};

use crate::engine::cpu::RowDense;
use crate::error::{Error, Result};
use crate::goodness::Measure;
use crate::layer::{Activation, Dense};
use crate::negatives::wrong_label::{in_proportion, uniform};
use crate::network::{Stage, take_turns};
use crate::normalize::TINY;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::peer::Peer;
use crate::random::{Random, stream};
use crate::settings::Normalization;
use crate::train::one_step::step_beyond;
use crate::train::stage::check_finite;
use moments::Moments;
use past::Past;
use rand_distr::{Distribution, StandardNormal};
use recent::Recent;
use scaler::Scaler;

/// Windows that the net chooses from, where it predicts negatives itself.
const CANDIDATES: usize = 8;

/// Steps of the softmax's sharpness, which is fitted to the labels as they come.
const SHARPNESS_RATE: f32 = 0.01;

/// What a learner makes of a record, before it learns from it.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    /// The record's number, from 0.
    pub number: u64,
    /// The likeliest class; `None` where no label has been seen yet, or there are none.
    pub label: Option<usize>,
    /// Probabilities of the classes seen so far, in the order in which they came.
    pub probabilities: Vec<f32>,
    /// Goodness of each layer `(L)`, for the likeliest label where there are labels.
    pub goodness: Vec<f32>,
    /// The sum of the layers' logits that the anomaly is the rank of: the higher, the more normal.
    pub score: f32,
    /// How unusual the record is, 0 to 1: the share of recent records that were more normal. `1 − anomaly` is a p-value.
    pub anomaly: f32,
}

impl Clone for Verdict {
    fn clone(&self) -> Self {
        let mut verdict = Verdict::default();
        verdict.clone_from(self);
        verdict
    }

    /// Allocates nothing where there is room already.
    fn clone_from(&mut self, other: &Self) {
        self.probabilities.clone_from(&other.probabilities);
        self.goodness.clone_from(&other.goodness);
        (self.number, self.label, self.score, self.anomaly) = (other.number, other.label, other.score, other.anomaly);
    }
}

/// A network that learns from a stream.
#[derive(Debug)]
pub struct Learner {
    settings: StreamSettings,
    features: usize,
    classes: Vec<String>,
    scaler: Scaler,
    past: Past,
    recent: Recent,
    stages: Vec<Stage>,
    /// Rows that wait for their step: `B` positive ones, then `B` negative ones, `(2B, I)`.
    batch: Vec<f32>,
    /// How many of the `B` pairs there are.
    filled: usize,
    /// What recurrent layers remember; without a layer where they are not.
    moments: Moments,
    /// Steps taken.
    steps: u64,
    /// What scores are multiplied by to become logits of classes.
    sharpness: f32,
    learns: bool,
    verdict: Verdict,
    work: Work,
}

/// Memory that is used again for every record.
#[derive(Debug, Default)]
struct Work {
    rows: Rows,
    buffers: [Activity; 2],
    /// The score of each row, and the goodness of each layer and row `(L, R)`.
    scores: Vec<f32>,
    goodness: Vec<f32>,
    slope: Slope,
    /// A negative window on trial.
    candidate: Vec<f32>,
}

/// Which way a layer learns.
#[derive(Debug, Default)]
struct Slope {
    /// Of each row `(2B)`.
    slopes: Vec<f32>,
    alive: Vec<u8>,
    d: Directions,
}

/// Rows of inputs `(R, I)` with their scales.
#[derive(Debug, Default)]
struct Rows {
    values: Vec<f32>,
    scale: Vec<f32>,
}

impl Rows {
    /// Becomes these rows, normalised.
    fn take(&mut self, values: &[f32], inputs: usize) {
        self.values.clear();
        self.values.extend_from_slice(values);
        self.normalise(inputs);
    }

    /// Makes each row's mean square 1.
    fn normalise(&mut self, inputs: usize) {
        self.scale.clear();
        let squares = self.values.chunks_exact(inputs).map(crate::engine::sum_of_squares);
        self.scale.extend(squares.map(|squares| 1.0 / (TINY + (squares / inputs as f32).sqrt())));
    }

    fn as_inputs(&self, width: usize) -> Inputs<'_> {
        Inputs::plain(&self.values, width, &self.scale)
    }
}

impl Learner {
    /// A learner with initial weights, for records of `features` values.
    ///
    /// # Errors
    /// [`Error::Setting`] where a setting is out of range, or the whole would not fit in memory.
    pub fn new(settings: StreamSettings, features: usize) -> Result<Self> {
        let settings = settings.check()?;
        if features == 0 || features > 1 << 20 {
            return Err(Error::Data(format!("found records of {features} features, expected 1 to {}", 1 << 20)));
        }
        let inputs = settings.inputs(features);
        let shapes: Vec<(usize, usize)> = (0..settings.layers.len()).map(|l| settings.shape(l, inputs)).collect();
        let weights: u128 = shapes.iter().map(|&(inputs, outputs)| inputs as u128 * outputs as u128).sum();
        let rows = (2 * settings.batch) as u128 * inputs as u128;
        let kept = (settings.memory + settings.window) as u128 * features as u128;
        if weights + rows + kept > 1 << 30 {
            return Err(Error::setting(
                "layers",
                format!(
                    "{features} features, a window of {}, batches of {}, a memory of {} and layers {:?} take {} numbers, \
                     expected at most {}",
                    settings.window,
                    settings.batch,
                    settings.memory,
                    settings.layers,
                    weights + rows + kept,
                    1 << 30
                ),
            ));
        }
        let bias = settings.rule == StreamRule::Gradient;
        let stages = shapes.into_iter().enumerate().map(|(l, (inputs, outputs))| {
            let mut random = stream(settings.seed.0, "weights", l as u64);
            let gain = 1.0 / (inputs as f64).sqrt();
            let weights = (0..inputs * outputs)
                .map(|_| (gain * Distribution::<f64>::sample(&StandardNormal, &mut random)) as f32)
                .collect();
            let (activation, measure) = (Activation::Relu, Measure::new(&settings.goodness, 1, outputs));
            Stage {
                layer: Box::new(RowDense::new(Dense { inputs, outputs, activation, bias, weights })),
                peer: Peer::new(settings.peer, measure.raising(outputs)),
                measure,
                normalization: Normalization::Rms,
                scores: None,
            }
        });
        let stages: Vec<Stage> = stages.collect();
        let moments = Moments::new(if settings.recurrent.is_some() { &stages } else { &[] });
        Ok(Learner {
            features,
            classes: Vec::new(),
            scaler: Scaler::new(features, settings.forget, settings.clip),
            past: Past::new(features, settings.window, settings.memory),
            recent: Recent::new(settings.calibration),
            stages,
            batch: vec![0.0; 2 * settings.batch * inputs],
            filled: 0,
            moments,
            steps: 0,
            sharpness: 1.0,
            learns: true,
            verdict: Verdict::default(),
            work: Work::default(),
            settings,
        })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// `F`: values in a record.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Records observed so far.
    pub fn records(&self) -> u64 {
        self.past.count
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The classes' names, in the order in which they came.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The hidden layers, from the bottom.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// How many numbers are learned.
    pub fn parameters(&self) -> usize {
        self.stages.iter().map(|stage| stage.layer.parameters()).sum()
    }

    /// The class of this name, a new one where there is none yet; `None` where there is no room for more.
    pub fn class(&mut self, name: &str) -> Option<usize> {
        if let Some(class) = self.classes.iter().position(|class| class == name) {
            return Some(class);
        }
        let room = self.classes.len() < self.settings.classes();
        room.then(|| {
            self.classes.push(name.to_owned());
            self.classes.len() - 1
        })
    }

    /// Whether it learns at all: weights, means, and what anomalies are measured against. It does from the start.
    pub fn set_learning(&mut self, learns: bool) {
        self.learns = learns;
    }

    /// What it makes of a record `(F)`; NaN is a missing value, for which the feature's mean stands. Without labels, it learns
    /// from the record afterwards.
    ///
    /// # Errors
    /// [`Error::Data`] where the record has another length or an infinite value; [`Error::NotFinite`] where learning diverges.
    pub fn observe(&mut self, record: &[f32]) -> Result<&Verdict> {
        if record.len() != self.features {
            let (found, expected) = (record.len(), self.features);
            return Err(Error::Data(format!("found a record of {found} features, expected {expected}")));
        }
        if let Some(i) = record.iter().position(|x| x.is_infinite()) {
            return Err(Error::Data(format!("feature {i} of the record is infinite")));
        }
        let number = self.past.count;
        if self.learns {
            self.scaler.see(record);
        }
        self.scaler.apply(record, self.past.push());
        match self.settings.recurrent {
            Some(keep) => self.moment(number, keep)?,
            None => {
                self.judge(number)?;
                self.learn_window(number)?;
            }
        }
        if self.learns {
            self.recent.see(self.verdict.score);
        }
        Ok(&self.verdict)
    }

    /// The label of record `number` has come: learns from it. Answers false where nothing can be learned: the record is
    /// [forgotten](StreamSettings::memory), has had its label, or there are no labels in this task.
    ///
    /// # Errors
    /// [`Error::Data`] where there is no such class; [`Error::NotFinite`] where learning diverges.
    pub fn label(&mut self, number: u64, class: usize) -> Result<bool> {
        let Task::Classify { negatives, .. } = self.settings.task else { return Ok(false) };
        if class >= self.classes.len() {
            return Err(Error::Data(format!("found class {class}, expected one below {}", self.classes.len())));
        }
        if !self.past.has(number) || !self.past.mark(number) {
            return Ok(false);
        }
        if !self.learns || self.classes.len() < 2 {
            return Ok(true);
        }
        if self.verdict.number != number || self.verdict.probabilities.len() != self.classes.len() {
            self.judge(number)?;
        }
        self.sharpen(class);
        let mut random = self.random("wrong labels", number);
        let wrong = match negatives {
            WrongLabels::Uniform => uniform(class as u32, self.classes.len(), &mut random),
            WrongLabels::Hard => in_proportion(class as u32, &self.verdict.probabilities, &mut random),
        };
        let (positive, negative) = self.next_pair();
        let (window, strength) = (self.settings.window * self.features, self.code());
        let Self { past, batch, .. } = self;
        past.window(number, &mut batch[positive.start..][..window]);
        batch.copy_within(positive.start..positive.start + window, negative.start);
        code(&mut batch[positive][window..], Some(class), strength);
        code(&mut batch[negative][window..], Some(wrong as usize), strength);
        self.filled += 1;
        self.step_when_full()?;
        Ok(true)
    }

    fn random(&self, name: &str, number: u64) -> Random {
        stream(self.settings.seed.0, name, number)
    }

    /// What the first layer reads from below.
    fn inputs(&self) -> usize {
        self.settings.inputs(self.features)
    }

    /// What a label's input, and the constant, are set to.
    fn code(&self) -> f32 {
        self.settings.strength * ((self.settings.window * self.features) as f32).sqrt()
    }

    /// Fills in the verdict on the window that ends with record `number`.
    fn judge(&mut self, number: u64) -> Result<()> {
        let (inputs, window, strength) = (self.inputs(), self.settings.window * self.features, self.code());
        let choices = self.classes.len().max(1);
        let rows = &mut self.work.rows;
        rows.values.resize(choices * inputs, 0.0);
        self.past.window(number, &mut rows.values[..window]);
        for k in 0..choices {
            rows.values.copy_within(..window, k * inputs);
            let label = (!self.classes.is_empty()).then_some(k);
            code(&mut rows.values[k * inputs + window..(k + 1) * inputs], label, strength);
        }
        self.score()?;
        let (verdict, work) = (&mut self.verdict, &self.work);
        verdict.number = number;
        verdict.probabilities.clear();
        let best = (0..choices).max_by(|&a, &b| work.scores[a].total_cmp(&work.scores[b])).unwrap_or(0);
        verdict.label = (!self.classes.is_empty()).then_some(best);
        verdict.score = work.scores[best];
        verdict.goodness.clear();
        verdict.goodness.extend(work.goodness.chunks_exact(choices).map(|g| g[best]));
        if verdict.label.is_some() {
            let most = work.scores[best];
            verdict.probabilities.extend(work.scores.iter().map(|s| (self.sharpness * (s - most)).exp()));
            let sum: f32 = verdict.probabilities.iter().sum();
            verdict.probabilities.iter_mut().for_each(|p| *p /= sum);
        }
        verdict.anomaly = self.recent.anomaly(verdict.score);
        Ok(())
    }

    /// Scores the rows in `work.rows`.
    fn score(&mut self) -> Result<()> {
        let Self { stages, work, settings, steps, .. } = self;
        let inputs = stages[0].layer.inputs();
        let Work { rows, buffers, scores, goodness, .. } = work;
        rows.normalise(inputs);
        let count = rows.scale.len();
        scores.clear();
        scores.resize(count, 0.0);
        goodness.clear();
        let first = settings.skip.min(stages.len() - 1);
        ascend(stages, &rows.as_inputs(inputs), buffers, *steps, |l, stage, _, y| {
            for (r, score) in scores.iter_mut().enumerate() {
                let g = stage.measure.value(y.row(r), y.squares[r]);
                goodness.push(g);
                if l >= first {
                    *score += stage.measure.logit(g);
                }
            }
        })
    }

    /// Fits the sharpness of the softmax to one more label: a step down its cross-entropy.
    fn sharpen(&mut self, class: usize) {
        let probabilities = &self.verdict.probabilities;
        let scores = &self.work.scores[..probabilities.len()];
        let expected: f32 = probabilities.iter().zip(scores).map(|(p, s)| p * s).sum();
        let slope = (self.sharpness * (scores[class] - expected)).clamp(-1.0, 1.0);
        self.sharpness = (self.sharpness * (SHARPNESS_RATE * slope).exp()).clamp(1e-4, 1e4);
    }

    /// Where the next positive and its negative row go.
    fn next_pair(&self) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let inputs = self.inputs();
        let row = |r: usize| r * inputs..(r + 1) * inputs;
        (row(self.filled), row(self.settings.batch + self.filled))
    }

    /// Without labels: learns that the newest window is real, and another one is not.
    fn learn_window(&mut self, number: u64) -> Result<()> {
        if !self.learns || !self.pair_up(number)? {
            return Ok(());
        }
        self.filled += 1;
        self.step_when_full()
    }

    /// Without labels: puts the newest window, and one that is not real, where the next pair goes. Answers whether there is
    /// such a pair.
    fn pair_up(&mut self, number: u64) -> Result<bool> {
        let Task::Unsupervised { negatives: kind } = self.settings.task else { return Ok(false) };
        let (window, features, strength) = (self.settings.window * self.features, self.features, self.code());
        let mut random = self.random("wrong windows", number);
        let (positive, negative) = self.next_pair();
        self.past.window(number, &mut self.batch[positive.start..][..window]);
        self.batch.copy_within(positive.start..positive.start + window, negative.start);
        let place = negative.start..negative.start + window;
        let made = match kind {
            WrongWindows::Shuffled => negatives::shuffle(features, &mut self.batch[place], &mut random),
            WrongWindows::Mixed => negatives::mix(&self.past, features, &mut self.batch[place], &mut random),
            WrongWindows::Noise => negatives::noise(features, self.settings.clip, &mut self.batch[place], &mut random),
            WrongWindows::MixedOrNoise if number.is_multiple_of(2) => {
                negatives::mix(&self.past, features, &mut self.batch[place], &mut random)
            }
            WrongWindows::MixedOrNoise => {
                negatives::noise(features, self.settings.clip, &mut self.batch[place], &mut random)
            }
            WrongWindows::Another => negatives::another(&self.past, features, &mut self.batch[place], &mut random),
            WrongWindows::Predicted => self.predict_window(positive.start, place, &mut random)?,
        };
        code(&mut self.batch[positive][window..], None, strength);
        code(&mut self.batch[negative][window..], None, strength);
        Ok(made)
    }

    /// Of some windows that are real but for a part, the one that the net takes for real the most.
    fn predict_window(&mut self, real: usize, place: std::ops::Range<usize>, random: &mut Random) -> Result<bool> {
        let (inputs, features, strength) = (self.inputs(), self.features, self.code());
        let mut candidates = std::mem::take(&mut self.work.candidate);
        candidates.clear();
        for _ in 0..CANDIDATES {
            let first = candidates.len();
            candidates.extend_from_slice(&self.batch[real..real + place.len()]);
            if !negatives::continue_otherwise(&self.past, features, &mut candidates[first..], random) {
                self.work.candidate = candidates;
                return Ok(false);
            }
            candidates.resize(first + inputs, 0.0);
            code(&mut candidates[first + place.len()..], None, strength);
        }
        std::mem::swap(&mut self.work.rows.values, &mut candidates);
        self.work.candidate = candidates;
        self.score()?;
        let scores = &self.work.scores;
        let best = (0..CANDIDATES).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
        self.batch[place.clone()].copy_from_slice(&self.work.rows.values[best * inputs..][..place.len()]);
        Ok(true)
    }

    fn step_when_full(&mut self) -> Result<()> {
        if self.filled < self.settings.batch {
            return Ok(());
        }
        self.filled = 0;
        match self.settings.rule {
            StreamRule::Gradient => self.gradient_step()?,
            StreamRule::OneStep { margin } => {
                self.step_beyond(0, 1.0, margin)?;
                self.step_beyond(1, -1.0, margin)?;
            }
        }
        self.steps += 1;
        Ok(())
    }

    /// One step of every layer along the gradient of the objective.
    fn gradient_step(&mut self) -> Result<()> {
        let Self { stages, work, settings, batch, steps, .. } = self;
        let inputs = stages[0].layer.inputs();
        let Work { rows, buffers, slope, .. } = work;
        rows.take(batch, inputs);
        ascend(stages, &rows.as_inputs(inputs), buffers, *steps, |_, stage, x, y| {
            slope.climb(stage, x, y, settings, *steps);
        })
    }

    /// Takes the goodness of row `r` of the batch towards what lies beyond the threshold, up or down, in every layer.
    fn step_beyond(&mut self, r: usize, up: f32, margin: f32) -> Result<()> {
        let Self { stages, work, settings, batch, steps, .. } = self;
        let inputs = stages[0].layer.inputs();
        let Work { rows, buffers, slope, .. } = work;
        rows.take(&batch[r * inputs..(r + 1) * inputs], inputs);
        ascend(stages, &rows.as_inputs(inputs), buffers, *steps, |_, stage, x, y| {
            step_beyond(stage, (x, y), up, (margin, settings.optimizer.rate), &mut slope.d);
        })
    }
}

impl Slope {
    /// A layer's step along the gradient of the objective. `x: (2B, I)`, `y: (2B, O)` its answers: positive rows, then negative ones.
    fn climb(&mut self, stage: &mut Stage, x: &Inputs<'_>, y: &Activity, settings: &StreamSettings, taken: u64) {
        let Slope { slopes, alive, d } = self;
        let (pairs, width) = (settings.batch, y.width());
        slopes.resize(2 * pairs, 0.0);
        let logit = |r: usize| stage.measure.logit(stage.measure.value(y.row(r), y.squares[r]));
        for n in 0..pairs {
            let terms = settings.objective.terms(logit(n), logit(pairs + n));
            (slopes[n], slopes[pairs + n]) = (terms.positive, terms.negative);
        }
        alive.resize(width, 0);
        stage.peer.step(y, pairs, &mut d.shared, alive);
        d.shared_rows = 0..pairs;
        d.rows.clear();
        d.rows.extend((0..2 * pairs as u32).filter(|&r| slopes[r as usize].abs() > NEGLIGIBLE));
        d.values.resize(d.rows.len() * width, 0.0);
        for (&r, d) in d.rows.iter().zip(d.values.chunks_exact_mut(width)) {
            stage.measure.direction(y.row(r as usize), &slopes[r as usize..][..1], d);
        }
        stage.layer.update(x, d, &Step::new(&settings.optimizer, 1.0, pairs, taken));
    }
}

/// Slopes below this are lost in rounding.
const NEGLIGIBLE: f32 = 6e-8;

/// The constant, then the label's code, after a window. `to: (1 + K)`.
fn code(to: &mut [f32], label: Option<usize>, strength: f32) {
    to.fill(0.0);
    to[0] = strength;
    if let Some(label) = label {
        to[1 + label] = strength;
    }
}

/// Carries the rows `x` up; `each` is shown every layer, what it reads and what it answers, before that is normalised.
fn ascend(
    stages: &mut [Stage],
    x: &Inputs<'_>,
    buffers: &mut [Activity],
    step: u64,
    mut each: impl FnMut(usize, &mut Stage, &Inputs<'_>, &Activity),
) -> Result<()> {
    for (l, stage) in stages.iter_mut().enumerate() {
        let (below, y) = take_turns(buffers, l);
        let x = if l == 0 { x } else { &below };
        stage.layer.forward(x, y);
        check_finite(y, l, step)?;
        each(l, stage, x, y);
        stage.normalization.apply(y);
    }
    Ok(())
}
