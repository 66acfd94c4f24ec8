//! Every setting of training, as plain structs with the released recipe as default. An experiment file is these
//! structs in TOML; each field's document gives its meaning, and [`Recipe::check`] its range.

pub(crate) mod check;

use serde::{Deserialize, Serialize};

/// Everything that decides how a network is built and trained, save the data.
///
/// The default is Hinton's released code: 784-3×1000, hard negatives, peer normalisation, a softmax head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// How weights learn.
    pub rule: Rule,
    /// Decides every random draw; runs that differ in nothing else differ as much as luck makes them.
    pub seed: Seed,
    /// What computes.
    pub engine: EngineSettings,
    /// The layers and what lies between them.
    pub network: NetworkSettings,
    /// Top-down connections.
    pub recurrent: RecurrentSettings,
    /// What layers raise and lower.
    pub goodness: GoodnessSettings,
    /// What layers gain by it.
    pub objective: ObjectiveSettings,
    /// Peer normalisation.
    pub peer: PeerSettings,
    /// Where negative data comes from.
    pub negatives: NegativesSettings,
    /// Random changes to the training inputs.
    pub augment: AugmentSettings,
    /// How gradients become steps.
    pub optimizer: OptimizerSettings,
    /// The softmax head, for the one-pass readout and for hard negatives.
    pub head: HeadSettings,
    /// How labels are read out of the goodness.
    pub readout: ReadoutSettings,
    /// Epochs, batches, order.
    pub training: TrainingSettings,
    /// What only the rules that Forward-Forward is compared with need.
    pub rival: RivalSettings,
    /// How well the device that computes holds its weights.
    pub hardware: HardwareSettings,
}

/// Imprecise hardware: each weight is read through a gain and an offset of its own, fixed by the seed and known to no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardwareSettings {
    /// The standard deviation of the gains around 1, 0 to 10.
    pub gain: f32,
    /// The standard deviation of the offsets, in multiples of the initial weights' root mean square, 0 to 10.
    pub noise: f32,
}

impl HardwareSettings {
    /// Whether weights are read as they are.
    pub fn is_precise(&self) -> bool {
        self.gain == 0.0 && self.noise == 0.0
    }
}

/// What only backpropagation and perturbation need.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RivalSettings {
    /// Backpropagation: each batch goes through in so many parts and only their gradients add up, which saves memory;
    /// 1 to 65,536.
    pub parts: usize,
    /// Backpropagation: the gradient goes through black boxes as if they were not there (straight-through); else networks
    /// with black boxes are refused.
    pub straight_through: bool,
    /// Perturbation: how far each weight is nudged, above 0 to 1.
    pub nudge: f32,
}

impl Default for RivalSettings {
    fn default() -> Self {
        RivalSettings { parts: 1, straight_through: false, nudge: 0.001 }
    }
}

/// How weights learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Each layer for itself, from a positive and a negative pass.
    #[default]
    ForwardForward,
    /// The gradient of the head's cross-entropy, sent down through all layers: for comparison.
    Backprop,
    /// All weights are nudged at random, and step along the nudge as far as it helped: for comparison.
    Perturbation,
    /// Layers stay as random as they start, and only the head learns: for comparison.
    RandomLayers,
}

/// The seed of all random streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Default for Seed {
    fn default() -> Self {
        Seed(1)
    }
}

/// What computes, and how precisely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Where.
    pub device: Device,
    /// The arithmetic.
    pub precision: Precision,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// This machine's processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// The arithmetic of products and weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// Products of bf16 numbers, sums and master weights in single precision.
    Bf16,
    /// Double precision in plain loops: slow, and the oracle of every test.
    Reference,
}

/// The layers and what lies between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// The hidden layers, from the bottom. At least one.
    pub layers: Vec<LayerSettings>,
    /// Where the label goes in.
    pub label: LabelPlace,
    /// What a label's input is set to, 0.01 to 100.
    pub label_strength: f32,
    /// What is done to the input, label included.
    pub input_normalization: Normalization,
    /// What is done to each layer's activity before the next layer reads it.
    pub normalization: Normalization,
    /// What a unit makes of its inputs' sum.
    pub activation: ActivationKind,
    /// Degrees of freedom of the t-distribution (student-t alone), 0.1 to 1,000.
    pub freedom: f32,
    /// The share of each layer's activities that is silenced while training, 0 to below 1 (Forward-Forward and
    /// backpropagation alone).
    pub dropout: f32,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        NetworkSettings {
            layers: vec![LayerSettings::Dense(1000); 3],
            label: LabelPlace::Replace,
            label_strength: 1.0,
            input_normalization: Normalization::Rms,
            normalization: Normalization::Rms,
            activation: ActivationKind::Relu,
            freedom: 30.0,
            dropout: 0.0,
        }
    }
}

/// What a unit makes of its inputs' sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// `max(0, a)`.
    #[default]
    Relu,
    /// `−log p(a)` under Student's t-distribution, less its value at 0 (paper, section 2).
    StudentT,
}

/// Top-down connections: each layer is driven by the layers above and below as they were a moment earlier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecurrentSettings {
    /// Moments that a network runs for, and learns at, while training; 0 to 1,000. 0: no top-down connections.
    pub iterations: u32,
    /// How much of a state is kept from one moment to the next, 0 to below 1.
    pub keep: f32,
    /// The first moment (from 1) whose goodness the every-label readout averages.
    pub first: u32,
    /// The last one; at most 1,000.
    pub last: u32,
}

impl Default for RecurrentSettings {
    fn default() -> Self {
        RecurrentSettings { iterations: 0, keep: 0.3, first: 3, last: 5 }
    }
}

/// One hidden layer. In a file a number is a fully connected layer; other kinds are tables with a `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LayerText", into = "LayerText")]
pub enum LayerSettings {
    /// A fully connected layer of this many ReLU units, 1 to 65,536.
    Dense(usize),
    /// Receptive fields without weight sharing (paper, sections 3.2 and 4).
    Local(Fields),
    /// Receptive fields that share their weights.
    Conv(Fields),
    /// A fixed function between layers that learn: no derivative, no goodness.
    BlackBox(BlackBoxSettings),
}

/// What a black box does to the normalised activities that it gets.
#[derive(Clone, Debug, PartialEq)]
pub enum BlackBoxSettings {
    /// Rounds them to so many levels from 0 to 4, 2 to 65,536.
    Quantiser {
        /// How many.
        levels: u32,
    },
    /// Mixes them by a fixed random matrix and takes the sine.
    Random,
    /// Adds noise of this standard deviation, 0 to 100.
    Noise {
        /// Its standard deviation.
        deviation: f32,
    },
    /// Makes each 1 or 0, with a probability that rises with it.
    Binary,
    /// Has a program do whatever it does.
    Process(ProcessSettings),
}

/// A program between two layers; see `layer::process` for what it reads and writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How many numbers it answers for each row, 1 to 65,536.
    pub outputs: usize,
    /// The form of what it reads and writes.
    #[serde(default)]
    pub frames: Frames,
    /// Seconds after which an answer that has not come will not come, 0.01 to 86,400.
    #[serde(default = "ten")]
    pub timeout: f64,
}

fn ten() -> f64 {
    10.0
}

/// The form of what a program reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frames {
    /// Rows, width, and the numbers, little-endian.
    #[default]
    Binary,
    /// A line of text for each row.
    Lines,
}

impl LayerSettings {
    /// Layers in a few characters: `1000-1000`, `local 128-220`.
    pub fn brief(layers: &[LayerSettings]) -> String {
        let mut last = "";
        let parts = layers.iter().map(|layer| {
            let (kind, size) = match layer {
                LayerSettings::Dense(units) => ("", units.to_string()),
                LayerSettings::Local(fields) => ("local ", fields.channels.to_string()),
                LayerSettings::Conv(fields) => ("conv ", fields.channels.to_string()),
                LayerSettings::BlackBox(_) => (last, "[box]".into()),
            };
            let kind = if kind == std::mem::replace(&mut last, kind) { "" } else { kind };
            format!("{kind}{size}")
        });
        parts.collect::<Vec<_>>().join("-")
    }
}

/// Receptive fields over a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// Units at each location, 1 to 65,536.
    pub channels: usize,
    /// Each unit sees a square of `field × field` locations below, 1 to 1,024.
    pub field: usize,
    /// How far apart the fields are, 1 to 1,024.
    #[serde(default = "one")]
    pub stride: usize,
    /// How far fields reach beyond the edge of the map, 0 to below `field`.
    #[serde(default)]
    pub pad: usize,
}

fn one() -> usize {
    1
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LayerText {
    Width(usize),
    Kind(LayerKind),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum LayerKind {
    Dense { units: usize },
    Local(Fields),
    Conv(Fields),
    Quantiser { levels: u32 },
    Random {},
    Noise { deviation: f32 },
    Binary {},
    Process(ProcessSettings),
}

impl TryFrom<LayerText> for LayerSettings {
    type Error = String;
    fn try_from(text: LayerText) -> Result<Self, String> {
        Ok(match text {
            LayerText::Width(units) | LayerText::Kind(LayerKind::Dense { units }) => LayerSettings::Dense(units),
            LayerText::Kind(LayerKind::Local(fields)) => LayerSettings::Local(fields),
            LayerText::Kind(LayerKind::Conv(fields)) => LayerSettings::Conv(fields),
            LayerText::Kind(LayerKind::Quantiser { levels }) => {
                LayerSettings::BlackBox(BlackBoxSettings::Quantiser { levels })
            }
            LayerText::Kind(LayerKind::Random {}) => LayerSettings::BlackBox(BlackBoxSettings::Random),
            LayerText::Kind(LayerKind::Noise { deviation }) => {
                LayerSettings::BlackBox(BlackBoxSettings::Noise { deviation })
            }
            LayerText::Kind(LayerKind::Binary {}) => LayerSettings::BlackBox(BlackBoxSettings::Binary),
            LayerText::Kind(LayerKind::Process(process)) => LayerSettings::BlackBox(BlackBoxSettings::Process(process)),
        })
    }
}

impl From<LayerSettings> for LayerText {
    fn from(layer: LayerSettings) -> Self {
        match layer {
            LayerSettings::Dense(units) => LayerText::Width(units),
            LayerSettings::Local(fields) => LayerText::Kind(LayerKind::Local(fields)),
            LayerSettings::Conv(fields) => LayerText::Kind(LayerKind::Conv(fields)),
            LayerSettings::BlackBox(does) => LayerText::Kind(match does {
                BlackBoxSettings::Quantiser { levels } => LayerKind::Quantiser { levels },
                BlackBoxSettings::Random => LayerKind::Random {},
                BlackBoxSettings::Noise { deviation } => LayerKind::Noise { deviation },
                BlackBoxSettings::Binary => LayerKind::Binary {},
                BlackBoxSettings::Process(process) => LayerKind::Process(process),
            }),
        }
    }
}

impl From<usize> for LayerSettings {
    fn from(width: usize) -> Self {
        LayerSettings::Dense(width)
    }
}

/// Where the label goes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelPlace {
    /// It replaces the first `K` inputs (MNIST's are black border).
    #[default]
    Replace,
    /// It goes in front of the inputs, which are all kept.
    Prepend,
    /// At the top of a recurrent network, as if it were the layer above the last (paper, section 3.4).
    Top,
    /// It does not go in: layers learn from the inputs alone, and only a softmax head is told (paper, section 3.2).
    None,
}

/// What is passed on of a row of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Divided by its root mean square (released code).
    #[default]
    Rms,
    /// Divided by its length.
    Length,
    /// Less its mean, divided by its standard deviation.
    Layer,
    /// As it is: layers above can then read the goodness below. For comparison.
    None,
}

/// What layers raise and lower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GoodnessSettings {
    /// The measure.
    pub kind: GoodnessKind,
    /// Whether positive data should have high goodness (feature detectors) or low goodness (constraints that negative data
    /// violates), or the share of groups in which it should be high.
    pub raise: Raise,
    /// The units (of each location, in local and convolution layers) fall into so many equal groups, each with a goodness of
    /// its own; 1 to 65,536.
    pub groups: usize,
    /// Whether each location of a local or convolution layer has goodnesses of its own, or all of them together.
    pub by_location: bool,
    /// The goodness at which positive and negative are equally likely, of each group.
    pub threshold: Threshold,
    /// What the distance from the threshold is divided by, 0.0001 to 10,000.
    pub temperature: f32,
}

impl Default for GoodnessSettings {
    fn default() -> Self {
        GoodnessSettings {
            kind: GoodnessKind::SumOfSquares,
            raise: true.into(),
            groups: 1,
            by_location: false,
            threshold: Threshold::Auto,
            temperature: 1.0,
        }
    }
}

/// The share of a layer's groups that raise their goodness on positive data; the others lower it. In a file `true` and
/// `false` are all and none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "RaiseText", into = "RaiseText")]
pub struct Raise(pub f32);

impl Raise {
    /// How many of `groups` groups raise.
    pub fn of(self, groups: usize) -> usize {
        (f64::from(self.0) * groups as f64).round() as usize
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RaiseText {
    Flag(bool),
    Share(f32),
}

impl From<RaiseText> for Raise {
    fn from(text: RaiseText) -> Self {
        match text {
            RaiseText::Flag(all) => all.into(),
            RaiseText::Share(share) => Raise(share),
        }
    }
}

impl From<Raise> for RaiseText {
    fn from(raise: Raise) -> Self {
        match raise.0 {
            1.0 => RaiseText::Flag(true),
            0.0 => RaiseText::Flag(false),
            share => RaiseText::Share(share),
        }
    }
}

impl From<bool> for Raise {
    fn from(all: bool) -> Self {
        Raise(if all { 1.0 } else { 0.0 })
    }
}

/// The measure of a layer's activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoodnessKind {
    /// `Σ y²`.
    #[default]
    SumOfSquares,
    /// `Σ y² / O`.
    MeanOfSquares,
    /// `Σ y`.
    Sum,
}

/// `theta`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ThresholdText", into = "ThresholdText")]
pub enum Threshold {
    /// What suits the goodness: the width, for the sum of squares.
    #[default]
    Auto,
    /// This number.
    Value(f32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ThresholdText {
    Word(String),
    Number(f32),
}

impl TryFrom<ThresholdText> for Threshold {
    type Error = String;
    fn try_from(text: ThresholdText) -> Result<Self, String> {
        match text {
            ThresholdText::Number(theta) => Ok(Threshold::Value(theta)),
            ThresholdText::Word(word) if word == "auto" => Ok(Threshold::Auto),
            ThresholdText::Word(word) => Err(format!("found \"{word}\", expected a number or \"auto\"")),
        }
    }
}

impl From<Threshold> for ThresholdText {
    fn from(threshold: Threshold) -> Self {
        match threshold {
            Threshold::Auto => ThresholdText::Word("auto".into()),
            Threshold::Value(theta) => ThresholdText::Number(theta),
        }
    }
}

/// What a layer gains by moving its goodness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ObjectiveSettings {
    /// Log probability of being told apart by the threshold, each sample for itself.
    #[default]
    Logistic,
    /// Log probability that the positive sample has the higher goodness of the pair (SymBa).
    Symmetric,
    /// Log probability of the true label, where each layer's units fall into a group for each class and their goodness is the
    /// class's score (after CwComp, arXiv 2312.12668). One pass, no negatives.
    PerClass,
    /// Log probability of the true label, where each layer's activities times a matrix of its own are the class scores
    /// (Mono-Forward, arXiv 2501.09238). One pass, no negatives.
    MonoForward,
}

/// Peer normalisation: each unit is drawn towards the mean activity of its layer (of those that raise their goodness, or those
/// that lower it, where there are both), so that none stays silent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// `λ`, 0 to 10; 0 turns it off.
    pub strength: f32,
    /// How slowly the running means follow, 0 to below 1.
    pub momentum: f32,
    /// What the running means start from, 0 to 100.
    pub initial: f32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        PeerSettings { strength: 0.03, momentum: 0.9, initial: 0.5 }
    }
}

/// Where negative data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NegativesSettings {
    /// The source.
    pub kind: NegativesKind,
    /// How often a hybrid's mask is blurred, 0 to 1,000.
    pub blurs: u32,
    /// How many parts a shuffled image has along each side, 1 to 1,000; shuffled negatives need 2.
    pub tiles: usize,
    /// Hard negatives are drawn from what the head predicted so many steps earlier, 0 to 1,000: a pipeline does not wait for
    /// its own last layer. 0: from its prediction in the same step.
    pub delay: u32,
}

impl Default for NegativesSettings {
    fn default() -> Self {
        NegativesSettings { kind: NegativesKind::Hard, blurs: 10, tiles: 4, delay: 0 }
    }
}

/// The source of negative data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegativesKind {
    /// The same input with a wrong label, drawn as often as the softmax head believes in it (released code).
    #[default]
    Hard,
    /// The same input with any wrong label, all equally likely.
    Uniform,
    /// Two inputs patched together (paper, section 3.2).
    Hybrid,
    /// The same input with its parts in another order.
    Shuffled,
    /// Texts that the net writes itself, symbol by symbol (paper, section 5 and its draft).
    Generated,
    /// The same input with another one's context from the layers above (paper, section 3.5).
    Context,
}

impl NegativesKind {
    /// Whether negative samples differ in their label.
    pub fn changes_labels(self) -> bool {
        matches!(self, NegativesKind::Hard | NegativesKind::Uniform)
    }
}

/// Random changes to the training inputs, drawn anew at each visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSettings {
    /// Images are shifted by up to this many pixels each way; 0 to half the image.
    pub shift: usize,
    /// The share of a sample's values that are set to 0 (masking noise), 0 to below 1. The label stays.
    pub mask: f32,
}

impl AugmentSettings {
    /// Whether anything is changed.
    pub fn is_on(&self) -> bool {
        self.shift > 0 || self.mask > 0.0
    }
}

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSettings {
    /// The method.
    pub kind: OptimizerKind,
    /// `ε`, above 0 to 10.
    pub rate: f32,
    /// How much of the smoothed gradient is kept at each step, 0 to below 1.
    pub momentum: f32,
    /// How much of the squared gradient is kept at each step, 0 to below 1 (Adam alone).
    pub second_momentum: f32,
    /// `c`: how strongly weights are drawn to 0, 0 to 10; biases are not.
    pub weight_cost: f32,
    /// How far beyond the threshold a step takes a goodness, as a share of it, 0 to below 1 (one-step alone).
    pub margin: f32,
    /// Whether the incoming weight vectors of a layer's units are made equally long after each step (paper, section 4).
    #[serde(default)]
    pub equal_lengths: bool,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        OptimizerSettings {
            kind: OptimizerKind::Smoothed,
            rate: 0.01,
            momentum: 0.9,
            second_momentum: 0.999,
            weight_cost: 0.001,
            margin: 0.1,
            equal_lengths: false,
        }
    }
}

/// The method that turns gradients into steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// `V ← momentum·V + (1 − momentum)·G`, `W ← W + rate·(V − weight_cost·W)` (released code).
    #[default]
    Smoothed,
    /// Adam, with the weight cost decoupled.
    Adam,
    /// One sample at a time, in steps that take its goodness to where it should be in every layer at once; `rate` is how much
    /// of the way (paper, section 7).
    OneStep,
}

/// The softmax head: it reads the normalised activities of a pass with the neutral label. No gradient leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// Whether there is one. Hard negatives and the one-pass readout need it.
    pub enabled: bool,
    /// Its learning rate, above 0 to 10.
    pub rate: f32,
    /// As in `optimizer`.
    pub momentum: f32,
    /// As in `optimizer`.
    pub weight_cost: f32,
    /// What happens to the activities that it learns from between its prediction and its step.
    pub memory: HeadMemory,
}

impl Default for HeadSettings {
    fn default() -> Self {
        HeadSettings { enabled: true, rate: 0.1, momentum: 0.9, weight_cost: 0.003, memory: HeadMemory::Keep }
    }
}

/// What happens to the activities that the head learns from between its prediction and its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadMemory {
    /// They are kept: one batch of each layer. The fastest.
    #[default]
    Keep,
    /// They are computed again beside the positive and negative ones, so that memory does not grow with depth.
    Recompute,
}

/// How labels are read out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadoutSettings {
    /// Layers at the bottom that neither readout looks at; the last layer always counts.
    pub skip: usize,
    /// Early exit: a sample goes no further up once the likeliest label leads the next by so many nats, 0 to 1e9; 0: every
    /// sample goes all the way (LightFF, arXiv 2404.05241).
    pub margin: f32,
}

impl Default for ReadoutSettings {
    fn default() -> Self {
        ReadoutSettings { skip: 1, margin: 0.0 }
    }
}

/// Epochs, batches, order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// Visits to the whole training set, 1 to 1,000,000; with greedy order, for each layer.
    pub epochs: u32,
    /// `B`: samples in a step, 1 to 65,536. Samples that do not fill a last batch wait for the next epoch.
    pub batch: usize,
    /// Whether layers learn together or one after another.
    pub order: Order,
    /// In how many blocks of layers a pipeline works, 0 to 1,000; 0: one for each thread. The results are the same.
    pub blocks: usize,
    /// How the learning rates fall.
    pub schedule: Schedule,
    /// Steps that learn from positive data alone before as many learn from negative data alone (paper, section 5), up to
    /// 1,000,000,000; 0: every step learns from both.
    pub phase: u64,
    /// Samples that every layer has solved rest for 1, then 2, then 4 … epochs, up to this many; 0: none rests. Up to 1,000.
    pub rest: u32,
    /// A sample's step in a layer is left out where `1 − p` (or `p`, negative) is below this, 0 to 0.1. The default is
    /// the rounding of a probability in single precision: what such rows add is lost in rounding anyway.
    pub negligible: f32,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        TrainingSettings {
            epochs: 10,
            batch: 100,
            order: Order::Simultaneous,
            blocks: 0,
            schedule: Schedule::HalfThenLinear,
            phase: 0,
            rest: 0,
            negligible: 6e-8,
        }
    }
}

impl TrainingSettings {
    /// Whether positive and whether negative data is learned from in step `step` (from 0).
    pub fn learns_from(&self, step: u64) -> (bool, bool) {
        match step.checked_div(self.phase) {
            None => (true, true),
            Some(phases) => (phases.is_multiple_of(2), !phases.is_multiple_of(2)),
        }
    }
}

/// Whether layers learn together or one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Every layer learns from every batch.
    #[default]
    Simultaneous,
    /// Each layer learns for all epochs before the one above it starts.
    Greedy,
    /// Every layer learns from every batch, each from another one at a time: blocks of layers work side by side.
    Pipelined,
}

/// How the learning rates fall. Every rate is multiplied by the same number, once an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Not at all for the first half of the epochs, then on a line to about 0 (released code).
    #[default]
    HalfThenLinear,
    /// On half a cosine wave.
    Cosine,
    /// Not at all.
    Constant,
}

impl Schedule {
    /// What the rates are multiplied by in epoch `epoch` (from 0) of `epochs`.
    pub fn gain(self, epoch: u32, epochs: u32) -> f32 {
        let (epoch, epochs) = (f64::from(epoch) + 1.0, f64::from(epochs));
        (match self {
            Schedule::HalfThenLinear if epoch <= epochs / 2.0 => 1.0,
            Schedule::HalfThenLinear => (1.0 + 2.0 * (epochs - epoch)) / epochs,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (epoch - 0.5) / epochs).cos()),
            Schedule::Constant => 1.0,
        }) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_schedule() {
        let gains: Vec<f32> = (0..10).map(|epoch| Schedule::HalfThenLinear.gain(epoch, 10)).collect();
        assert_eq!(gains, [1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.7, 0.5, 0.3, 0.1]);
        assert_eq!(Schedule::HalfThenLinear.gain(0, 1), 1.0);
        assert_eq!(Schedule::Constant.gain(99, 100), 1.0);
        assert!(Schedule::Cosine.gain(0, 100) > 0.99 && Schedule::Cosine.gain(99, 100) < 0.01);
    }
}
