//! What decides how a stream is learned.

use crate::error::{Error, Result};
use crate::settings::check::{ALWAYS, BELOW_1, When, range};
use crate::settings::{
    GoodnessKind, GoodnessSettings, ObjectiveSettings, OptimizerKind, OptimizerSettings, PeerSettings, Raise, Seed,
    Threshold,
};
use serde::{Deserialize, Serialize};

/// What is learned from a stream, and how. The defaults ([`StreamSettings::classify`], [`StreamSettings::unsupervised`])
/// were chosen on other data than the results in `docs/streaming.md` are reported for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSettings {
    /// What for.
    pub task: Task,
    /// The hidden layers' widths, from the bottom: 1 to 64 layers of 1 to 65,536 units.
    pub layers: Vec<usize>,
    /// Records that are seen together, the newest last, 1 to 10,000.
    pub window: usize,
    /// Makes the network a recurrent one (paper, section 3.4), for which each record is a moment: a layer reads the layers
    /// below and above it as they were a record before, so activities rise by a layer a record, and what has been seen
    /// stays. The number is the share of its state that a layer keeps, 0 to below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrent: Option<f32>,
    /// How weights learn.
    pub rule: StreamRule,
    /// `B`: records in a step, 1 to 65,536.
    pub batch: usize,
    /// Decides every random draw.
    pub seed: Seed,
    /// How gradients become steps (with the one-step rule: its `rate` alone counts).
    pub optimizer: OptimizerSettings,
    /// What layers raise and lower: each has one goodness, which it raises or lowers.
    pub goodness: GoodnessSettings,
    /// What layers gain by it.
    pub objective: ObjectiveSettings,
    /// Keeps units from falling silent.
    pub peer: PeerSettings,
    /// Layers at the bottom that neither the labels' scores nor the anomaly score look at; the last one always counts.
    pub skip: usize,
    /// A label's input, and that of the constant that keeps a record's length visible, as a multiple of the length that
    /// all standardised features together have on average; 0.01 to 100.
    pub strength: f32,
    /// How fast the running means and variances of the features forget: the least weight of a new record, 0 (they never
    /// forget) to below 1.
    pub forget: f64,
    /// Standardised features are cut off at this many deviations, 1 to 1,000.
    pub clip: f32,
    /// Recent windows that are kept: how late a label may come, and what negatives are mixed from; 1 to 1,000,000.
    pub memory: usize,
    /// Recent goodnesses that an anomaly is measured against, 10 to 1,000,000.
    pub calibration: usize,
}

/// What a stream is learned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    /// Labels are predicted, and learned when they come.
    Classify {
        /// `K`: room for so many classes, 2 to 1,000.
        classes: usize,
        /// Which wrong labels are practised.
        negatives: WrongLabels,
    },
    /// There are no labels: what usually occurs is told from what does not.
    Unsupervised {
        /// Where data that should not occur comes from.
        negatives: WrongWindows,
    },
}

/// Which wrong labels are practised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongLabels {
    /// Each as often as the net believes in it.
    #[default]
    Hard,
    /// All equally often.
    Uniform,
}

/// Where windows that should not occur come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongWindows {
    /// The window's records in another order (it must have two at least).
    Shuffled,
    /// Some features of the window from another recent one; of a single feature, some records. What does not fit together.
    Mixed,
    /// Some features of the window are anything within [`StreamSettings::clip`] deviations of their means. What is far from
    /// all that was seen.
    Noise,
    /// The two above in turn.
    #[default]
    MixedOrNoise,
    /// Another recent record in the place of the newest: what does not follow from those before. The window must have two
    /// records at least, or the network be recurrent.
    Another,
    /// What the net takes for real: of a few windows that are real but for parts of others, the one with the highest
    /// goodness.
    Predicted,
}

/// How weights learn from a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StreamRule {
    /// As in training from a data set: along the gradient of the objective, smoothed over steps.
    #[default]
    Gradient,
    /// The on-line rule (paper, section 7): one step takes a sample's goodness from `g` to `g + rate·(g* − g)`, where
    /// `g* = (1 ± margin)·theta`, and leaves the layer's normalised answer to it as it was, so that all layers can step at
    /// once. Samples that are beyond `g*` already are left alone. The layers have no biases.
    OneStep {
        /// How far from the threshold goodness is moved, as a share of the threshold, 0 to below 1.
        margin: f32,
    },
}

impl StreamSettings {
    /// The defaults for telling up to `classes` classes apart: the positive and the negative row are compared with each
    /// other, which needs no threshold, and steps are not smoothed, so that the latest record counts at once.
    pub fn classify(classes: usize) -> Self {
        StreamSettings {
            task: Task::Classify { classes, negatives: WrongLabels::Hard },
            layers: vec![64, 64],
            window: 1,
            recurrent: None,
            rule: StreamRule::Gradient,
            batch: 1,
            seed: Seed::default(),
            optimizer: OptimizerSettings { rate: 0.01, momentum: 0.0, ..Default::default() },
            goodness: GoodnessSettings::default(),
            objective: ObjectiveSettings::Symmetric,
            peer: PeerSettings { strength: 0.0, momentum: 0.99, ..Default::default() },
            skip: 0,
            strength: 0.5,
            forget: 0.0,
            clip: 5.0,
            memory: 256,
            calibration: 1000,
        }
    }

    /// The defaults for telling what usually occurs from what does not.
    pub fn unsupervised() -> Self {
        let mut settings = Self::classify(2);
        settings.task = Task::Unsupervised { negatives: WrongWindows::default() };
        settings.objective = ObjectiveSettings::Logistic;
        settings.goodness.temperature = 10.0;
        settings.peer.strength = 0.03;
        settings.strength = 2.0;
        settings
    }

    /// With a learning rate for wide records: a step changes goodness in proportion to the numbers in a window, so above 64 of
    /// them the rate is lowered as they grow.
    pub fn for_features(mut self, features: usize) -> Self {
        let numbers = self.window.saturating_mul(features);
        self.optimizer.rate *= (64.0 / numbers.max(1) as f32).min(1.0);
        self
    }

    /// The settings, if every value is in its range and they fit together.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting, what was found and what was expected.
    pub fn check(self) -> Result<Self> {
        let (optimizer, goodness, peer) = (&self.optimizer, &self.goodness, &self.peer);
        range("layers", self.layers.len(), 1, 64)?;
        self.layers.iter().try_for_each(|width| range("layers", *width, 1, 65_536))?;
        range("window", self.window, 1, 10_000)?;
        range("batch", self.batch, 1, 65_536)?;
        range("optimizer.rate", optimizer.rate, f32::MIN_POSITIVE, 10.0)?;
        range("optimizer.momentum", optimizer.momentum, 0.0, BELOW_1)?;
        range("optimizer.second_momentum", optimizer.second_momentum, 0.0, BELOW_1)?;
        range("optimizer.weight_cost", optimizer.weight_cost, 0.0, 10.0)?;
        range("goodness.temperature", goodness.temperature, 1e-4, 1e4)?;
        if let Threshold::Value(theta) = goodness.threshold {
            range("goodness.threshold", theta, -1e9, 1e9)?;
        }
        let Raise(share) = goodness.raise;
        if share != 0.0 && share != 1.0 {
            let problem = format!("found {share}, expected true or false: streams know one goodness for each layer");
            return Err(Error::setting("goodness.raise", problem));
        }
        range("peer.strength", peer.strength, 0.0, 10.0)?;
        range("peer.momentum", peer.momentum, 0.0, BELOW_1)?;
        range("peer.initial", peer.initial, 0.0, 100.0)?;
        range("strength", self.strength, 0.01, 100.0)?;
        range("forget", self.forget, 0.0, f64::from(BELOW_1))?;
        range("clip", self.clip, 1.0, 1_000.0)?;
        range("memory", self.memory, 1, 1_000_000)?;
        range("calibration", self.calibration, 10, 1_000_000)?;
        let negatives = match self.task {
            Task::Classify { classes, .. } => range("classes", classes, 2, 1_000).map(|()| None)?,
            Task::Unsupervised { negatives } => Some(negatives),
        };
        let one = "streams know one goodness for each layer: leave it as it is";
        ALWAYS.refuse(&[
            (
                "objective",
                self.objective.by_class(),
                "streams learn from pairs, of a record and a negative one: use \"logistic\" or \"symmetric\"",
            ),
            (
                "optimizer.kind",
                optimizer.kind == OptimizerKind::OneStep,
                "found \"one-step\", expected \"smoothed\" or \"adam\": streams choose the one-step rule by `rule`",
            ),
            (
                "optimizer.equal_lengths",
                optimizer.equal_lengths,
                "streams do not make weights equally long: leave it off",
            ),
            ("goodness.groups", goodness.groups > 1, one),
            ("goodness.by_location", goodness.by_location, one),
            (
                "window",
                negatives == Some(WrongWindows::Shuffled) && self.window < 2,
                "found 1, but a window is shuffled by its records: it must have 2 at least, or use \"mixed\" negatives",
            ),
            (
                "window",
                negatives == Some(WrongWindows::Another) && self.window < 2 && self.recurrent.is_none(),
                "found 1, but whether a record follows is seen beside those before: the window must have 2 at least, \
                 or the network be recurrent",
            ),
            ("memory", negatives.is_some() && self.memory < 2, "found 1, expected 2 at least to mix negatives from"),
        ])?;
        if let Some(keep) = self.recurrent {
            range("recurrent", keep, 0.0, BELOW_1)?;
            range("batch", self.batch, 1, 1)?;
            let says = "found {why}, but recurrent networks learn from streams without labels, along the gradient, and \
                        from negatives that are not their own";
            When(true, says).refuse(&[
                ("recurrent", negatives.is_none(), "labels"),
                ("recurrent", negatives == Some(WrongWindows::Predicted), "predicted negatives"),
                ("recurrent", self.rule != StreamRule::Gradient, "the one-step rule"),
            ])?;
        }
        if let StreamRule::OneStep { margin } = self.rule {
            range("rule.margin", margin, 0.0, BELOW_1)?;
            range("optimizer.rate", optimizer.rate, f32::MIN_POSITIVE, 1.0)?;
            range("batch", self.batch, 1, 1)?;
            ALWAYS.refuse(&[
                (
                    "goodness",
                    goodness.kind != GoodnessKind::SumOfSquares || goodness.raise != true.into(),
                    "the one-step rule sets a sum of squares that is high for what is real: leave `kind` and \
                     `raise` as they are",
                ),
                (
                    "goodness.threshold",
                    matches!(goodness.threshold, Threshold::Value(theta) if theta <= 0.0),
                    "the one-step rule takes a sum of squares to about the threshold, and none is at or below 0: use \
                     \"auto\", or a number above 0",
                ),
            ])?;
        }
        Ok(self)
    }

    /// What the first layer reads from below: a window, the constant, and a label's code.
    pub(super) fn inputs(&self, features: usize) -> usize {
        self.window.saturating_mul(features).saturating_add(1 + self.classes())
    }

    /// `(I, O)` of layer `l`, where the first one reads `inputs` numbers from below.
    pub(super) fn shape(&self, l: usize, inputs: usize) -> (usize, usize) {
        let below = if l == 0 { inputs } else { self.layers[l - 1] };
        let above = self.recurrent.and(self.layers.get(l + 1)).copied().unwrap_or(0);
        (below.saturating_add(above), self.layers[l])
    }

    /// `K`: room for so many classes; 0 where there are no labels.
    pub fn classes(&self) -> usize {
        match self.task {
            Task::Classify { classes, .. } => classes,
            Task::Unsupervised { .. } => 0,
        }
    }
}
