//! Goodness: the one number that a layer raises on positive data and lowers on negative data.

use crate::settings::{GoodnessKind, GoodnessSettings, Threshold};
use std::fmt::Debug;
use std::sync::Arc;

/// A measure of one sample's activity `y: (O)` in one layer.
///
/// Put in one of your own by implementing this trait and handing it to
/// [`Network::set_goodness`](crate::Network::set_goodness); `examples/own_goodness.rs` shows how.
pub trait Goodness: Debug + Send + Sync {
    /// `g`, of the activity before normalisation. `y: (O)`; `squares` is `Σ y²`, which every layer computes anyway.
    fn value(&self, y: &[f32], squares: f32) -> f32;

    /// `d = factor · ∂g/∂y`, both `(O)`. A unit that is off (`y = 0`) must get 0: the ReLU lets nothing through.
    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]);

    /// The threshold `theta` that suits a layer of `width` units, where the settings leave it to the goodness.
    fn threshold(&self, width: usize) -> f32;
}

/// `g = Σ y²`, `theta = O` (paper, section 2; released code).
#[derive(Clone, Copy, Debug)]
pub struct SumOfSquares;

impl Goodness for SumOfSquares {
    fn value(&self, _: &[f32], squares: f32) -> f32 {
        squares
    }

    #[inline]
    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]) {
        crate::engine::vectorised(|| {
            for (d, y) in d.iter_mut().zip(y) {
                *d = 2.0 * factor * y;
            }
        });
    }

    fn threshold(&self, width: usize) -> f32 {
        width as f32
    }
}

/// `g = Σ y² / O`, `theta = 2`: the choice of the popular PyTorch port; its logit is `O` times less sharp.
#[derive(Clone, Copy, Debug)]
pub struct MeanOfSquares;

impl Goodness for MeanOfSquares {
    fn value(&self, y: &[f32], squares: f32) -> f32 {
        squares / y.len() as f32
    }

    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]) {
        SumOfSquares.direction(y, factor / y.len() as f32, d);
    }

    fn threshold(&self, _: usize) -> f32 {
        2.0
    }
}

/// `g = Σ y`, unsquared (paper, section 3), `theta = O/2`: at the initial weights the mean activity is 0.4.
#[derive(Clone, Copy, Debug)]
pub struct Sum;

impl Goodness for Sum {
    fn value(&self, y: &[f32], _: f32) -> f32 {
        y.iter().sum()
    }

    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]) {
        for (d, y) in d.iter_mut().zip(y) {
            *d = if *y > 0.0 { factor } else { 0.0 };
        }
    }

    fn threshold(&self, width: usize) -> f32 {
        width as f32 / 2.0
    }
}

/// A layer's goodness with what turns it into a probability: `p = σ(±(g − theta)/temperature)`.
#[derive(Clone, Debug)]
pub struct Measure {
    goodness: Arc<dyn Goodness>,
    /// `theta`.
    pub threshold: f32,
    /// `temp`: the higher, the less sharp the decision.
    pub temperature: f32,
    /// 1 where positive data should have high goodness, −1 where it should have low goodness.
    pub sign: f32,
}

impl Measure {
    /// The measure that the settings describe, for a layer of `width` units.
    pub fn new(settings: &GoodnessSettings, width: usize) -> Self {
        let goodness: Arc<dyn Goodness> = match settings.kind {
            GoodnessKind::SumOfSquares => Arc::new(SumOfSquares),
            GoodnessKind::MeanOfSquares => Arc::new(MeanOfSquares),
            GoodnessKind::Sum => Arc::new(Sum),
        };
        Self::custom(goodness, settings, width)
    }

    /// The same, with a goodness of the caller's own.
    pub fn custom(goodness: Arc<dyn Goodness>, settings: &GoodnessSettings, width: usize) -> Self {
        let threshold = match settings.threshold {
            Threshold::Auto => goodness.threshold(width),
            Threshold::Value(theta) => theta,
        };
        let sign = if settings.raise { 1.0 } else { -1.0 };
        Measure { goodness, threshold, temperature: settings.temperature, sign }
    }

    /// `g`; see [`Goodness::value`].
    pub fn value(&self, y: &[f32], squares: f32) -> f32 {
        self.goodness.value(y, squares)
    }

    /// `±(g − theta)/temperature`: the logit of P(positive).
    pub fn logit(&self, g: f32) -> f32 {
        self.sign * (g - self.threshold) / self.temperature
    }

    /// `d = ½ · slope · ∂logit/∂y`, where `slope` is how much the objective gains per unit of logit.
    ///
    /// The ½ is the released code's: with it, `d = (1 − p)·y` for the sum of squares.
    pub fn direction(&self, y: &[f32], slope: f32, d: &mut [f32]) {
        self.goodness.direction(y, 0.5 * slope * self.sign / self.temperature, d);
    }
}
