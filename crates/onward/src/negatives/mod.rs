//! Where negative data comes from.

mod hybrid;
mod shuffled;
pub(crate) mod wrong_label;

pub use hybrid::Hybrid;
pub use shuffled::Shuffled;
pub use wrong_label::{Hard, Uniform};

use crate::Shape;
use crate::batch::Batch;
use crate::random::Random;
use crate::settings::{NegativesKind, NegativesSettings};
use std::fmt::Debug;

/// A source of negative data: for each positive sample one that should not occur.
///
/// Put in one of your own by implementing this trait and handing it to
/// [`Trainer::set_negatives`](crate::Trainer::set_negatives); `examples/own_negatives.rs` shows how.
pub trait Negatives: Debug + Send {
    /// A negative sample for each of the batch.
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative;
}

/// What negative samples are made from: a batch of `B` positive ones.
#[derive(Clone, Copy, Debug)]
pub struct Positive<'a> {
    /// Its samples and their true labels.
    pub batch: &'a Batch,
    /// What a sample looks like.
    pub shape: Shape,
    /// `K`.
    pub classes: usize,
    /// The softmax head's class probabilities `(B, K)` for the neutral pass, where they are there already: with greedy
    /// order, the layers that the head reads come later.
    pub prediction: Option<&'a [f32]>,
}

/// `B` negative samples: what differs from the positive ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Negative {
    /// Their labels `(B)`, never the true ones; `None`: the same labels, on other inputs.
    pub labels: Option<Vec<u32>>,
    /// Their inputs `(B, shape)`; `None`: the same inputs, with other labels.
    pub inputs: Option<Vec<f32>>,
}

impl Negative {
    /// The same inputs with these labels.
    pub fn labels(labels: Vec<u32>) -> Self {
        Negative { labels: Some(labels), inputs: None }
    }

    /// These inputs with the same labels, or with none.
    pub fn inputs(inputs: Vec<f32>) -> Self {
        Negative { labels: None, inputs: Some(inputs) }
    }
}

/// The source that the settings name.
pub fn from_settings(settings: NegativesSettings) -> Box<dyn Negatives> {
    match settings.kind {
        NegativesKind::Hard => Box::new(Hard),
        NegativesKind::Uniform => Box::new(Uniform),
        NegativesKind::Hybrid => Box::new(Hybrid { blurs: settings.blurs }),
        NegativesKind::Shuffled => Box::new(Shuffled { tiles: settings.tiles }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Network, Recipe, Values, settings::LabelPlace};

    /// `n` samples whose value `i` is `value(n, i)`.
    pub fn batch(shape: Shape, n: usize, value: impl Fn(usize, usize) -> f32) -> Batch {
        let values = (0..n * shape.len()).map(|at| value(at / shape.len(), at % shape.len())).collect();
        let names = ["a", "b"].map(String::from);
        let data = Dataset::new(shape, Values::Floats(values), vec![0; n], names.to_vec()).unwrap();
        let mut recipe = Recipe::default();
        recipe.network.label = LabelPlace::Prepend;
        recipe.network.layers = vec![1.into()];
        let network = Network::new(recipe, shape, &names).unwrap();
        let mut batch = Batch::default();
        batch.load(&network, &data, 0..n, None);
        batch
    }

    pub fn positive(batch: &Batch, shape: Shape) -> Positive<'_> {
        Positive { batch, shape, classes: 2, prediction: None }
    }
}
