//! How alive layers are, whatever rule they learn by: what a bottom-up pass without a label makes of some samples.

use crate::batch::{Batch, Label, Labelled};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::network::Network;
use crate::pass::Activity;
use crate::readout::ROWS;

/// A layer's activity on some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerActivity {
    /// The mean of `y²` over samples and units, before normalisation.
    pub mean_square: f64,
    /// Units that were off for every sample.
    pub silent_units: usize,
}

impl Network {
    /// Each layer's activity on these samples, from the bottom `(L)`. Of a recurrent network nothing is told, for its layers
    /// answer to each other over many moments: the answer is empty.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) where the samples have another shape than the network's.
    pub fn activity(&self, data: &Dataset) -> Result<Vec<LayerActivity>> {
        self.check_shape(data)?;
        if self.is_recurrent() {
            return Ok(Vec::new());
        }
        let mut on: Vec<_> = self.stages().iter().map(|stage| vec![false; stage.layer.outputs()]).collect();
        let mut squares = vec![0.0; self.depth()];
        let (mut batch, mut rows) = (Batch::default(), Labelled::default());
        let mut buffers = <[Activity; 2]>::default();
        for start in (0..data.len()).step_by(ROWS) {
            batch.load(self, data, start..data.len().min(start + ROWS));
            rows.fill(self, &batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
            self.answers(&rows.as_inputs(&batch, None), &mut buffers, |l, _, y| {
                squares[l] += y.squares.iter().map(|&squares| f64::from(squares)).sum::<f64>();
                for row in y.values.chunks_exact(y.width()) {
                    on[l].iter_mut().zip(row).for_each(|(on, y)| *on |= *y != 0.0);
                }
            });
        }
        let of_layer = |(on, squares): (Vec<bool>, f64)| LayerActivity {
            mean_square: squares / (data.len() * on.len()) as f64,
            silent_units: on.iter().filter(|on| !**on).count(),
        };
        Ok(on.into_iter().zip(squares).map(of_layer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{LabelPlace, NegativesKind, Normalization, Precision};
    use crate::tensor::{Numbers, Tensor};
    use crate::{Recipe, Shape, Values};

    #[test]
    fn silent_units_and_squares_are_counted() {
        let mut recipe = Recipe::default();
        (recipe.network.layers, recipe.network.label) = (vec![3.into()], LabelPlace::None);
        (recipe.engine.precision, recipe.negatives.kind) = (Precision::Reference, NegativesKind::Hybrid);
        recipe.network.normalization = Normalization::Layer; // what is passed on is nowhere 0
        recipe.network.input_normalization = Normalization::None;
        let mut network = Network::new(recipe, Shape::features(2), &["a", "b"].map(String::from)).unwrap();
        let layer = &mut network.stages[0].layer;
        let mut tensors: Vec<Tensor> = layer.tensors();
        let weight = tensors.iter_mut().find(|t| t.name == "weight").unwrap();
        weight.numbers = Numbers::F64(vec![1.0, 0.0, 0.0, 2.0, -1.0, -1.0]);
        layer.restore(&tensors).unwrap();
        // Units: x₀, 2·x₁, −x₀ − x₁. One sample turns the first on, the other the second.
        let values = Values::Floats(vec![3.0, 0.0, 0.0, 1.0]);
        let data = Dataset::new(Shape::features(2), values, vec![], vec![]).unwrap();
        let expected = LayerActivity { mean_square: (9.0 + 4.0) / 6.0, silent_units: 1 };
        assert_eq!(network.activity(&data).unwrap(), [expected]);
        let other = Dataset::new(Shape::features(1), Values::Floats(vec![1.0]), vec![], vec![]).unwrap();
        assert!(network.activity(&other).is_err());
    }
}
