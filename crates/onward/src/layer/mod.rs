//! Layers: what turns a row of inputs into a row of activities, and learns from a direction for those activities.

use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::tensor::Tensor;
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

    /// `base = values · W` without scale, code and bias: `(N, I)` → `(N, O)`. Where several passes share their values,
    /// they are projected once and handed to `forward` as [`Inputs::base`]. Returns false where the layer has no such
    /// part.
    fn project(&self, values: &[f32], base: &mut [f32]) -> bool {
        let _ = (values, base);
        false
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
}

/// What a product's result goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(0, ·)`: hidden layers.
    Relu,
    /// Nothing: heads.
    Linear,
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
