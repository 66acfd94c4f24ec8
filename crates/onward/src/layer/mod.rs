//! Layers: what turns a row of inputs into a row of activities, and learns from a direction for those activities.

mod black_box;
mod conv;
mod few_channels;
pub mod fields;
mod imprecise;
mod local;
pub mod process;

pub use black_box::{BlackBox, QUANTISED};
pub use conv::Conv;
pub use few_channels::FewChannels;
pub use imprecise::Imprecise;
pub use local::Local;

use crate::Shape;
use crate::engine;
use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::Random;
use crate::settings::{BlackBoxSettings, LayerSettings, Precision};
use crate::tensor::Tensor;
use fields::Source;
use rand_distr::{Distribution, StandardNormal};
use std::fmt::Debug;

/// A layer with its parameters and the state of its optimiser.
///
/// It knows nothing of goodness, labels or other layers. Put in one of your own by implementing this trait and handing
/// it to [`Network::set_layer`](crate::Network::set_layer); `examples/own_layer.rs` shows how.
pub trait Layer: Debug + Send + Sync {
    /// `I`.
    fn inputs(&self) -> usize;

    /// `O`.
    fn outputs(&self) -> usize;

    /// `y = max(0, x̂ W + b)` or whatever this layer does: `x: (R, I)` → `y: (R, O)`, with `y.squares` filled
    /// ([`Activity::measure`] does so). `y` must be resized first.
    fn forward(&self, x: &Inputs<'_>, y: &mut Activity);

    /// One optimiser step along `x̂ᵀ d`, the sum over the rows: `x: (R, I)`, `d: (R, O)`.
    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step);

    /// How many numbers its gradient has, where it can be told apart from a step along it: else 0, and the layer cannot be
    /// trained in replicas.
    fn gradient_len(&self) -> usize {
        0
    }

    /// `gradient += x̂ᵀ d`, as [`Layer::update`] would step along it; the numbers are in an order of the layer's own.
    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        let _ = (x, d, gradient);
    }

    /// One optimiser step along what [`Layer::add_gradient`] has added up, here and perhaps elsewhere.
    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        let _ = (gradient, step);
    }

    /// Appends `values · W` to `base`, without scale, code and bias: `(N, I)` → `(N, O)`. Where several passes share their
    /// values, they are projected once and handed to `forward` as [`Inputs::base`]. Returns false, and leaves `base` alone,
    /// where the layer has no such part.
    fn project(&self, values: &[f32], base: &mut Vec<f32>) -> bool {
        let _ = (values, base);
        false
    }

    /// `dx += d Wᵀ`: what the layer's inputs would have to do for its activities to move along `d: (R, O)`, gated already;
    /// `dx: (R, I)`. Forward-Forward never asks; backpropagation does. Returns false where there is no derivative.
    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        let _ = (d, dx);
        false
    }

    /// Adds `amount` to every weight and bias, or subtracts it, as random bits say that depend on `seed` and `step` alone:
    /// for weight perturbation. Returns false where there is nothing to nudge.
    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        let _ = (seed, step, amount);
        false
    }

    /// Makes the units' incoming weight vectors (at each location, where they have their own) equally long: as long as they are
    /// in the root mean square. Returns false where there are no weights that it could change.
    fn equalise(&mut self) -> bool {
        false
    }

    /// False for a fixed function between layers: it has no goodness, and readouts do not look at it.
    fn learns(&self) -> bool {
        true
    }

    /// What has gone wrong in `forward`, where that can be: training and readouts stop and say so.
    fn fault(&self) -> Option<String> {
        None
    }

    /// Whether it may run programs: not in a network that comes from a file, which somebody else may have written, until
    /// whoever loads it allows it.
    fn allow_programs(&mut self, allowed: bool) {
        let _ = allowed;
    }

    /// Everything needed to go on: parameters first, then the optimiser's state.
    fn tensors(&self) -> Vec<Tensor>;

    /// Takes over tensors as [`Layer::tensors`] gave them.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) naming the tensor that is missing or has another shape.
    fn restore(&mut self, tensors: &[Tensor]) -> Result<()>;

    /// How many numbers are learned.
    fn parameters(&self) -> usize;

    /// The root mean square of the weights.
    fn weight_rms(&self) -> f32;

    /// Multiply-adds that one row's product takes: one for each parameter, unless weights are used many times.
    fn multiply_adds(&self) -> usize {
        self.parameters()
    }
}

/// What a product's result goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `max(0, ·)`: hidden layers.
    Relu,
    /// `−log p` under a t-distribution with these degrees of freedom, 0 at 0.
    StudentT(f32),
    /// Nothing: heads.
    Linear,
}

/// How a network's layers are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Make {
    /// The arithmetic.
    pub precision: Precision,
    /// What products' results go through.
    pub activation: Activation,
}

/// A fully connected layer to be made by an engine.
#[derive(Clone, Debug)]
pub struct Dense {
    /// `I`.
    pub inputs: usize,
    /// `O`.
    pub outputs: usize,
    /// What the product's result goes through.
    pub activation: Activation,
    /// Whether there is a bias `(O)`, which starts at 0.
    pub bias: bool,
    /// Initial weights `W: (I, O)`, row-major.
    pub weights: Vec<f32>,
}

/// A hidden layer before it is built: what it sees, and what its activity looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    settings: LayerSettings,
    /// Its key, for errors.
    key: String,
    /// What its inputs are made of, in order.
    pub sources: Vec<Source>,
    /// The map of its activity.
    pub shape: Shape,
    /// Whether a fully connected layer has biases.
    pub bias: bool,
}

impl Plan {
    /// The layer of the setting `key`, above these sources.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) where it does not fit what is below it.
    pub fn new(settings: &LayerSettings, sources: Vec<Source>, key: String) -> Result<Self> {
        let shape = match settings {
            LayerSettings::Dense(width) => Shape::features(*width),
            LayerSettings::Local(fields) | LayerSettings::Conv(fields) => fields::map(fields, &sources, &key)?,
            LayerSettings::BlackBox(BlackBoxSettings::Process(process)) => Shape::features(process.outputs),
            LayerSettings::BlackBox(_) => match sources[..] {
                [Source::Planes(shape) | Source::Locations(shape)] => shape,
                _ => Shape::features(sources.iter().map(Source::len).sum()),
            },
        };
        Ok(Plan { settings: settings.clone(), key, sources, shape, bias: true })
    }

    /// Its settings.
    pub fn settings(&self) -> &LayerSettings {
        &self.settings
    }

    /// How the layer above sees it.
    pub fn from_above(&self) -> Source {
        match self.settings {
            LayerSettings::Dense(width) => Source::Whole(width),
            LayerSettings::Local(_) | LayerSettings::Conv(_) => Source::Locations(self.shape),
            LayerSettings::BlackBox(BlackBoxSettings::Process(_)) => Source::Whole(self.shape.len()),
            LayerSettings::BlackBox(_) => match self.sources[..] {
                [below] => below,
                _ => Source::Whole(self.shape.len()),
            },
        }
    }

    /// How the layer below hears from it, in a recurrent network.
    pub fn from_below(&self) -> Source {
        match self.settings {
            LayerSettings::Dense(_) | LayerSettings::BlackBox(_) => Source::Whole(self.shape.len()),
            LayerSettings::Local(fields) | LayerSettings::Conv(fields) => Source::Above(self.shape, fields),
        }
    }

    /// `I`.
    pub fn inputs(&self) -> usize {
        self.sources.iter().map(Source::len).sum()
    }

    /// False for a black box.
    pub fn learns(&self) -> bool {
        !matches!(self.settings, LayerSettings::BlackBox(_))
    }

    /// Its locations, 1 where it has no map, and the units at each.
    pub fn units(&self) -> (usize, usize) {
        match &self.settings {
            LayerSettings::Local(fields) | LayerSettings::Conv(fields) => {
                (self.shape.height * self.shape.width, fields.channels)
            }
            _ => (1, self.shape.len()),
        }
    }

    /// How many numbers it will learn.
    pub fn parameters(&self) -> usize {
        match &self.settings {
            LayerSettings::Dense(width) => (self.inputs() + usize::from(self.bias)) * width,
            LayerSettings::Conv(fields) => {
                (fields::padded_field(fields, &self.sources, 0, 0).len + 1) * fields.channels
            }
            LayerSettings::Local(fields) => {
                let places = (0..self.shape.height).flat_map(|y| (0..self.shape.width).map(move |x| (y, x)));
                let seen = |(y, x)| fields::field(fields, &self.sources, y, x).len;
                places.map(|place| (seen(place) + 1) * fields.channels).sum()
            }
            LayerSettings::BlackBox(_) => 0,
        }
    }

    /// About how many numbers it will take in memory besides its parameters: the weights of a random box, where each location
    /// finds what it sees, and what lies beyond the edges where locations are computed side by side.
    pub(crate) fn besides(&self) -> usize {
        let product = |factors: &[usize]| factors.iter().fold(1, |product: usize, n| product.saturating_mul(*n));
        let sum = |of: &dyn Fn(&Source) -> usize| self.sources.iter().map(of).fold(0, usize::saturating_add);
        match &self.settings {
            LayerSettings::BlackBox(BlackBoxSettings::Random) => product(&[self.inputs(); 2]),
            LayerSettings::Local(fields) if FewChannels::suits(fields, &self.sources, self.shape) => {
                FewChannels::numbers(fields, &self.sources, self.shape)
            }
            LayerSettings::Local(fields) | LayerSettings::Conv(fields) => {
                let runs = sum(&|source| match source {
                    Source::Whole(_) => 1,
                    Source::Planes(shape) => product(&[fields.field.min(shape.height), shape.channels]),
                    Source::Locations(shape) | Source::Above(shape, _) => fields.field.min(shape.height),
                });
                product(&[self.units().0, runs, size_of::<fields::Run>() / size_of::<f32>()])
            }
            _ => 0,
        }
    }

    /// The layer with its initial weights: `N(0, 1)/sqrt(what a unit sees)`, biases 0 (released code).
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn build(&self, make: Make, random: &mut Random) -> Result<Box<dyn Layer>> {
        Ok(match &self.settings {
            LayerSettings::Dense(outputs) => {
                let (inputs, outputs) = (self.inputs(), *outputs);
                let gain = 1.0 / (inputs as f64).sqrt();
                let weights = (0..inputs * outputs)
                    .map(|_| (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32)
                    .collect();
                let activation = make.activation;
                engine::dense(make.precision, Dense { inputs, outputs, activation, bias: self.bias, weights })
            }
            LayerSettings::Local(fields) => {
                let few = make.precision != Precision::Reference
                    && make.activation == Activation::Relu
                    && FewChannels::suits(fields, &self.sources, self.shape);
                match few {
                    true => {
                        let bf16 = make.precision == Precision::Bf16;
                        Box::new(FewChannels::new(fields, &self.sources, self.shape, bf16, random))
                    }
                    false => Box::new(Local::new(fields, &self.sources, self.shape, make, random)),
                }
            }
            LayerSettings::Conv(fields) => Box::new(Conv::new(fields, &self.sources, self.shape, make, random)),
            LayerSettings::BlackBox(settings) => Box::new(BlackBox::new(settings, self.inputs(), random)),
        })
    }
}
