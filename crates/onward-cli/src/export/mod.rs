//! Networks as other programs can compute them: one description, and a writer for each format.

pub mod c;
pub mod onnx;
mod program;
mod protobuf;
pub mod rust;

use onward::goodness::Measure;
use onward::layer::Plan;
use onward::layer::fields::{field, padded_field};
use onward::network::plan;
use onward::settings::{
    ActivationKind, BlackBoxSettings, GoodnessKind, LabelPlace, LayerSettings, Normalization, RecurrentSettings,
};
use onward::tensor::{Numbers, Tensor};
use onward::{Network, Readout, Shape};

/// A network and one readout, as plain numbers.
#[derive(Debug)]
pub struct Described {
    pub shape: Shape,
    pub classes: Vec<String>,
    pub readout: Readout,
    pub label: LabelPlace,
    pub label_strength: f32,
    pub input_normalization: Normalization,
    pub normalization: Normalization,
    pub activation: Activation,
    /// From the bottom, up to the last that the readout needs.
    pub layers: Vec<Layer>,
    /// Where the every-label readout runs for some moments.
    pub moments: Option<RecurrentSettings>,
}

/// What a readout's scores are the weighted sum of: those of every label and of one pass, where it is the combined one, else
/// its own; or why it cannot be exported.
pub fn parts(network: &Network, readout: Readout) -> Result<Vec<(f32, Described)>, String> {
    let parts = match (readout, network.combined_weights()) {
        (Readout::Combined, Some([every_label, one_pass])) => {
            vec![(every_label, Readout::EveryLabel), (one_pass, Readout::OnePass)]
        }
        _ => vec![(1.0, readout)],
    };
    parts.into_iter().map(|(weight, readout)| Ok((weight, Described::new(network, readout)?))).collect()
}

/// A hidden layer.
#[derive(Debug)]
pub struct Layer {
    /// `I`.
    pub inputs: usize,
    /// `O`.
    pub outputs: usize,
    pub does: Does,
    /// What the readout reads of it, if anything.
    pub reading: Option<Reading>,
}

/// What a unit makes of its inputs' sum `a`.
#[derive(Clone, Copy, Debug)]
pub enum Activation {
    /// `max(0, a)`.
    Relu,
    /// `factor·ln(1 + inverse·a²)`: −log p under a t-distribution, less its value at 0.
    StudentT { factor: f32, inverse: f32 },
}

/// What a readout makes of a layer: `W z + b`, added up over the layers.
#[derive(Debug)]
pub struct Reading {
    /// `(S, O)`: a row for each class; a single one where every label is tried.
    pub weight: Vec<f32>,
    /// `(S)`.
    pub bias: Vec<f32>,
    /// What `z` is.
    pub of: Of,
}

/// What is read of a layer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Activity,
    Squares,
    /// What the next layer reads.
    Normalized,
}

/// What a layer does.
#[derive(Debug)]
pub enum Does {
    /// The activation of `x Wᵀ + b`, `weight: (O, I)`, `bias: (O)`.
    Dense { weight: Vec<f32>, bias: Vec<f32> },
    /// Each of `places` locations sees `length` of the inputs, `index: (places, length)`; −1 is a 0. `weight: (units, length)`
    /// and `bias: (units)`, where units are all outputs, location by location; or, where locations share them, the channels.
    Fields { weight: Vec<f32>, bias: Vec<f32>, index: Vec<i32>, places: usize, length: usize, shared: bool },
    /// Rounds to multiples of `step` up to `most`.
    Quantise { step: f32, most: f32 },
}

impl Described {
    /// Describes what `readout`, which is not the combined one, needs of a network; or says why it cannot.
    fn new(network: &Network, readout: Readout) -> Result<Self, String> {
        let recipe = network.recipe();
        if !recipe.hardware.is_precise() {
            return Err(
                "a network that learned on imprecise hardware is of use on that device alone (`hardware`)".into()
            );
        }
        let plans = plan(recipe, network.shape(), network.classes()).map_err(|error| error.to_string())?;
        let moments = (recipe.recurrent.iterations > 0 && readout == Readout::EveryLabel).then_some(recipe.recurrent);
        let first = network.first_read();
        let mut layers: Vec<Layer> = Vec::new();
        let mut below =
            network.shape().len() + if recipe.network.label == LabelPlace::Prepend { network.classes() } else { 0 };
        for (l, (plan, stage)) in plans.iter().zip(network.stages()).enumerate() {
            // Bottom-up passes hear nothing from above: what a layer would do with it is left out.
            let inputs = if moments.is_some() { plan.inputs() } else { below };
            let does = does(plan, inputs, &stage.layer.tensors()).map_err(|problem| format!("layer {l} {problem}"))?;
            let kind = recipe.goodness.kind;
            let matrix = |layer: &dyn onward::layer::Layer, of: Of| Reading {
                weight: tensor(&layer.tensors(), "weight"),
                bias: vec![0.0; network.classes()],
                of,
            };
            let reading = match readout {
                Readout::OnePass => {
                    let part = network.head().and_then(|head| head.parts().find(|(reads, _)| *reads == l));
                    part.map(|(_, layer)| matrix(layer, Of::Normalized))
                }
                _ if l < first || !stage.layer.learns() => None,
                Readout::EveryLabel => Some(logits(&stage.measure, kind, plan.shape.len(), false)),
                Readout::Combined => return Err("the combined readout is two (see `parts`)".into()),
                Readout::ClassScores => Some(match &stage.scores {
                    Some(layer) => matrix(&**layer, Of::Activity),
                    None => logits(&stage.measure, kind, plan.shape.len(), true),
                }),
            };
            let outputs = plan.shape.len();
            layers.push(Layer { inputs, outputs, does, reading });
            below = outputs;
        }
        let needed = layers.iter().rposition(|layer| layer.reading.is_some());
        if moments.is_none() {
            layers.truncate(needed.map_or(0, |last| last + 1));
        }
        Ok(Described {
            shape: network.shape(),
            classes: network.class_names().to_vec(),
            readout,
            label: recipe.network.label,
            label_strength: recipe.network.label_strength,
            input_normalization: recipe.network.input_normalization,
            normalization: recipe.network.normalization,
            activation: match recipe.network.activation {
                ActivationKind::Relu => Activation::Relu,
                ActivationKind::StudentT => {
                    let freedom = recipe.network.freedom;
                    Activation::StudentT { factor: 0.5 * (freedom + 1.0), inverse: 1.0 / freedom }
                }
            },
            layers,
            moments,
        })
    }

    /// `K`.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// How many inputs a label at the bottom takes.
    pub fn label_width(&self) -> usize {
        match self.label {
            LabelPlace::Replace | LabelPlace::Prepend => self.classes(),
            LabelPlace::Top | LabelPlace::None => 0,
        }
    }

    /// What the first layer reads of a sample, label included.
    pub fn sample_width(&self) -> usize {
        self.shape.len() + if self.label == LabelPlace::Prepend { self.classes() } else { 0 }
    }

    /// The inputs' code of one label `(label_width)`; `None`: of the neutral one.
    pub fn code(&self, label: Option<usize>) -> Vec<f32> {
        let width = self.label_width();
        match label {
            None => vec![self.label_strength / width as f32; width],
            Some(label) => (0..width).map(|k| if k == label { self.label_strength } else { 0.0 }).collect(),
        }
    }

    /// What the label's input at the top is set to, where the highest layer hears it.
    pub fn top_strength(&self) -> f32 {
        self.label_strength * (self.classes() as f32).sqrt()
    }

    /// What it wants of its inputs, in words.
    pub fn expects(&self) -> String {
        let Shape { channels, height, width } = self.shape;
        let values = match (channels, height) {
            (1, 1) => format!("{width} values"),
            _ => format!("{channels}×{height}×{width} values (channel by channel, row by row)"),
        };
        format!("{values} as in training: pixels divided by 255, other numbers as they were")
    }
}

/// A layer's logit, or that of each of its groups, of `O = units` activities. It is linear in them or in their squares, so its
/// slope where all are 1 says what each counts.
fn logits(measure: &Measure, kind: GoodnessKind, units: usize, each: bool) -> Reading {
    let groups = measure.groups();
    // `Measure::direction` is half of the slope, and a square's slope is 2.
    let (of, scale) = if kind == GoodnessKind::Sum { (Of::Activity, 2.0) } else { (Of::Squares, 1.0) };
    let row = |slopes: &[f32]| {
        let mut row = vec![0.0; units];
        measure.direction(&vec![1.0; units], slopes, &mut row);
        row.iter_mut().for_each(|weight| *weight *= scale);
        row
    };
    if !each {
        return Reading { weight: row(&vec![1.0; groups]), bias: vec![measure.logit(0.0)], of };
    }
    let alone = |k: usize| (0..groups).map(|other| if other == k { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    Reading {
        weight: (0..groups).flat_map(|k| row(&alone(k))).collect(),
        bias: (0..groups).map(|k| measure.group_logit(k, 0.0)).collect(),
        of,
    }
}

/// What a normalisation does, where it does anything: whether it subtracts the mean, and whether it divides by the root of
/// the mean of squares, not of their sum.
fn steps(kind: Normalization) -> Option<(bool, bool)> {
    match kind {
        Normalization::Rms => Some((false, true)),
        Normalization::Length => Some((false, false)),
        Normalization::Layer => Some((true, true)),
        Normalization::None => None,
    }
}

/// The numbers of a tensor.
fn tensor(tensors: &[Tensor], name: &str) -> Vec<f32> {
    let tensor = tensors.iter().find(|tensor| tensor.name == name);
    match tensor.map(|tensor| &tensor.numbers) {
        Some(Numbers::F32(numbers)) => numbers.clone(),
        Some(Numbers::F64(numbers)) => numbers.iter().map(|x| *x as f32).collect(),
        _ => Vec::new(),
    }
}

/// What a layer does with the first `inputs` of its inputs.
fn does(plan: &Plan, inputs: usize, tensors: &[Tensor]) -> Result<Does, String> {
    let (weight, bias) = (tensor(tensors, "weight"), tensor(tensors, "bias"));
    let columns = |weight: Vec<f32>, from: usize, to: usize| match from == to {
        true => weight,
        false => weight.chunks_exact(from).flat_map(|row| &row[..to]).copied().collect(),
    };
    Ok(match plan.settings() {
        LayerSettings::Dense(_) => Does::Dense { weight: columns(weight, plan.inputs(), inputs), bias },
        LayerSettings::Local(settings) | LayerSettings::Conv(settings) => {
            let shared = matches!(plan.settings(), LayerSettings::Conv(_));
            let see = if shared { padded_field } else { field };
            let (height, width) = (plan.shape.height, plan.shape.width);
            let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
            let fields: Vec<_> = places.map(|(y, x)| see(settings, &plan.sources, y, x)).collect();
            let length = fields.iter().map(|field| field.len).max().unwrap_or(0);
            let mut index = vec![-1; fields.len() * length];
            for (field, index) in fields.iter().zip(index.chunks_exact_mut(length)) {
                for run in &field.runs {
                    for i in (0..run.len).filter(|i| run.from + i < inputs) {
                        index[run.to + i] = (run.from + i) as i32;
                    }
                }
            }
            Does::Fields { weight, bias, index, places: fields.len(), length, shared }
        }
        LayerSettings::BlackBox(BlackBoxSettings::Quantiser { levels }) => {
            let most = onward::layer::QUANTISED;
            Does::Quantise { step: most / (levels - 1) as f32, most }
        }
        LayerSettings::BlackBox(BlackBoxSettings::Process(_)) => {
            return Err("is a program, which cannot be a part of an exported network".into());
        }
        LayerSettings::BlackBox(BlackBoxSettings::Random) => {
            return Err("is a random black box, whose matrix is drawn anew from the seed and in no checkpoint".into());
        }
        LayerSettings::BlackBox(BlackBoxSettings::Noise { .. } | BlackBoxSettings::Binary) => {
            return Err("draws random numbers, which an exported network could not draw alike".into());
        }
    })
}
