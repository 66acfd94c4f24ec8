//! Where negative data comes from.

mod context;
mod generated;
mod hybrid;
mod shuffled;
pub(crate) mod wrong_label;

pub use context::Context;
pub use generated::Generated;
pub use hybrid::Hybrid;
pub use shuffled::Shuffled;
pub use wrong_label::{Hard, Uniform};

use crate::Shape;
use crate::batch::{Batch, Label};
use crate::error::Result;
use crate::network::Network;
use crate::random::Random;
use crate::settings::{LabelPlace, NegativesKind, Recipe};
use crate::tensor::Tensor;
use std::fmt::Debug;

/// A source of negative data: for each positive sample one that should not occur.
///
/// Put in one of your own by implementing this trait and handing it to
/// [`Trainer::set_negatives`](crate::Trainer::set_negatives); `examples/own_negatives.rs` shows how.
pub trait Negatives: Debug + Send {
    /// A negative sample for each of the batch.
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative;

    /// Inputs `(B, shape)` that the net shall predict a class for before [`Negatives::draw`], which then finds its
    /// [`Positive::answers`]. In recurrent networks and in pipelines nobody asks, and with `negatives.delay` there is
    /// no answer in time: `draw` then finds none.
    fn ask(&mut self, positive: &Positive<'_>) -> Option<Vec<f32>> {
        let _ = positive;
        None
    }

    /// What it remembers from step to step, for checkpoints.
    fn tensors(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// Takes over tensors as [`Negatives::tensors`] gave them.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) naming the tensor that is missing or has another shape.
    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let _ = tensors;
        Ok(())
    }
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
    /// The head's class probabilities `(B, K)` for the inputs that [`Negatives::ask`] asked about, where there is a head that
    /// has started to learn.
    pub answers: Option<&'a [f32]>,
}

impl<'a> Positive<'a> {
    /// A batch, and what the head has predicted, of its samples and of what was asked about; empty where it has not.
    pub(crate) fn new(network: &Network, batch: &'a Batch, (own, asked): (&'a [f32], &'a [f32])) -> Self {
        let given = |p: &'a [f32]| (!p.is_empty()).then_some(p);
        let (shape, classes) = (network.shape(), network.classes());
        Positive { batch, shape, classes, prediction: given(own), answers: given(asked) }
    }
}

/// `B` negative samples: what differs from the positive ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Negative {
    /// Their labels `(B)`, never the true ones; `None`: the same labels, on other inputs.
    pub labels: Option<Vec<u32>>,
    /// Their inputs `(B, shape)`; `None`: the same inputs, with other labels.
    pub inputs: Option<Vec<f32>>,
    /// Of a recurrent network: which positive sample's states they hear from the layers above `(B)`; `None`: their own.
    pub context: Option<Vec<u32>>,
}

impl Negative {
    /// The same inputs with these labels.
    pub fn labels(labels: Vec<u32>) -> Self {
        Negative { labels: Some(labels), ..Negative::default() }
    }

    /// For `B` positive rows and then as many negative ones: which row's states each hears from above `(2B)`; empty where each
    /// hears its own.
    pub(crate) fn heard(&self, batch: usize) -> Vec<u32> {
        let others = self.context.iter().flatten().copied();
        if self.context.is_some() { (0..batch as u32).chain(others).collect() } else { Vec::new() }
    }

    /// Adds negative inputs, where they are others, to the batch; answers the sample and the label of each of the first `n` positive
    /// rows, and of as many negative ones.
    pub(crate) fn rows(&self, network: &Network, batch: &mut Batch, n: usize) -> [Vec<(usize, Label)>; 2] {
        let first = if self.inputs.is_some() { batch.len() } else { 0 };
        self.inputs.iter().for_each(|inputs| batch.extend(network, inputs));
        let rows = |first: usize, labels: &[u32]| {
            let label = |n: usize| labels.get(n).map_or(Label::Neutral, |&label| Label::Class(label));
            (0..n).map(|n| (first + n, label(n))).collect()
        };
        [rows(0, &batch.labels), rows(first, self.labels.as_ref().unwrap_or(&batch.labels))]
    }

    /// These inputs with the same labels, or with none.
    pub fn inputs(inputs: Vec<f32>) -> Self {
        Negative { inputs: Some(inputs), ..Negative::default() }
    }
}

/// The source that the recipe names.
pub fn from_recipe(recipe: &Recipe) -> Box<dyn Negatives> {
    let settings = recipe.negatives;
    match settings.kind {
        NegativesKind::Hard => Box::new(Hard),
        NegativesKind::Uniform => Box::new(Uniform),
        NegativesKind::Hybrid => Box::new(Hybrid { blurs: settings.blurs }),
        NegativesKind::Shuffled => Box::new(Shuffled { tiles: settings.tiles }),
        NegativesKind::Context => Box::new(Context),
        NegativesKind::Generated => Box::new(Generated::new(recipe.network.label != LabelPlace::None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Network, Recipe, Values, random::stream, settings::LabelPlace};

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
        batch.load(&network, &data, 0..n);
        batch
    }

    pub fn positive(batch: &Batch, shape: Shape) -> Positive<'_> {
        Positive { batch, shape, classes: 2, prediction: None, answers: None }
    }

    #[test]
    fn each_kind_changes_what_it_says() {
        // Windows of two symbols, of which there are two.
        let shape = Shape::image(1, 2, 2);
        let batch = batch(shape, 3, |_, i| (i % 2) as f32);
        for (kind, label, expected) in [
            (NegativesKind::Hard, LabelPlace::Prepend, [true, false, false]),
            (NegativesKind::Uniform, LabelPlace::Prepend, [true, false, false]),
            (NegativesKind::Hybrid, LabelPlace::None, [false, true, false]),
            (NegativesKind::Shuffled, LabelPlace::None, [false, true, false]),
            (NegativesKind::Context, LabelPlace::None, [false, false, true]),
            (NegativesKind::Generated, LabelPlace::Prepend, [true, true, false]),
            (NegativesKind::Generated, LabelPlace::None, [false, true, false]),
        ] {
            let mut recipe = Recipe::default();
            (recipe.negatives.kind, recipe.network.label) = (kind, label);
            let mut source = from_recipe(&recipe);
            let positive = positive(&batch, shape);
            assert_eq!(source.ask(&positive).is_some(), kind == NegativesKind::Generated, "{kind:?}");
            let Negative { labels, inputs, context } = source.draw(&positive, &mut stream(1, "negatives", 0));
            assert_eq!([labels.is_some(), inputs.is_some(), context.is_some()], expected, "{kind:?}, {label:?}");
        }
    }
}
