//! What a training run tells its observers.

use crate::train::Trainer;
use serde::{Deserialize, Serialize};

/// Something that happened while training.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// One step is done.
    Step(&'a StepReport),
    /// One epoch is done.
    Epoch(&'a EpochReport),
}

/// What an observer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop here; the trainer can be saved, and go on later to the same bits.
    Stop,
}

/// Whoever wants to know how training goes; closures `FnMut(Event, &Trainer) -> Flow` are observers.
pub trait Observer {
    /// Told of everything, in order, between two steps.
    fn observe(&mut self, event: Event<'_>, trainer: &Trainer) -> Flow;
}

impl<F: FnMut(Event<'_>, &Trainer) -> Flow> Observer for F {
    fn observe(&mut self, event: Event<'_>, trainer: &Trainer) -> Flow {
        self(event, trainer)
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps taken in all, this one included.
    pub step: u64,
    /// The epoch (from 0) that it belongs to; with greedy order, counted over all layers.
    pub epoch: u32,
    /// Which of the epoch's steps it is (from 0).
    pub step_of_epoch: u64,
    /// How many steps the epoch has.
    pub steps_per_epoch: u64,
    /// Positive samples in it.
    pub samples: usize,
    /// Mean loss per sample and learning layer, in nats.
    pub loss: f64,
}

/// One epoch: means over its samples, with the weights as they were at each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Epochs done, this one included.
    pub epoch: u32,
    /// Steps taken in all.
    pub step: u64,
    /// Mean loss per sample and learning layer, in nats; for rules other than Forward-Forward, per sample.
    pub loss: f64,
    /// The head's cross-entropy per sample, in nats.
    pub head_loss: Option<f64>,
    /// Of the slopes that weight perturbation estimated: their variance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_variance: Option<f64>,
    /// What the learning rates were multiplied by.
    pub gain: f32,
    /// Each layer that learned by its own goodness, from the bottom.
    pub layers: Vec<LayerReport>,
}

/// One layer over one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Which layer, from 0.
    pub layer: usize,
    /// Mean loss per sample, in nats.
    pub loss: f64,
    /// Mean goodness of positive samples.
    pub goodness_positive: f64,
    /// Mean goodness of negative samples.
    pub goodness_negative: f64,
    /// The share of pairs whose negative sample had the better goodness.
    pub wrong_order: f64,
    /// The share of rows, positive and negative, that had anything to learn from.
    pub active_rows: f64,
    /// Units that were off for every positive sample.
    pub dead_units: usize,
    /// The root mean square of the weights after the epoch.
    pub weight_rms: f32,
}
