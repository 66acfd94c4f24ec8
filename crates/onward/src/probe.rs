//! A look at what each layer makes of some samples; nothing learns from them.

use crate::batch::{Batch, Label, Labelled};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::negatives;
use crate::network::Network;
use crate::pass::Inputs;
use crate::random::stream;
use crate::readout::{ROWS, softmax};

/// What the layers make of `N` samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// A wrong label for each sample, drawn as training draws them now `(N)`.
    pub wrong: Vec<u32>,
    /// What each layer makes of them, from the bottom.
    pub layers: Vec<LayerProbe>,
}

/// What one layer makes of `N` samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerProbe {
    /// The goodness of each sample with its true label `(N)`.
    pub positive: Vec<f32>,
    /// The goodness of each sample with its wrong label `(N)`.
    pub negative: Vec<f32>,
    /// The label that this layer's goodness alone finds, when every label is tried `(N)`.
    pub found: Vec<u32>,
    /// Whether each unit was on for some sample with its true label `(O)`.
    pub alive: Vec<bool>,
}

impl Network {
    /// Shows every layer these samples with every label, as the every-label readout does, and tells what each layer made
    /// of the true and of a wrong one. The same network and samples give the same probe.
    ///
    /// # Errors
    /// [`Error::Data`] where the samples have another shape or other classes than the network's.
    pub fn probe(&self, data: &Dataset) -> Result<Probe> {
        if data.shape() != self.shape() || data.labels().is_empty() || data.classes().len() != self.classes() {
            let (shape, classes) = (data.shape(), data.classes().len());
            return Err(Error::Data(format!(
                "found samples of {shape} in {classes} classes, expected labelled ones of {} in {}",
                self.shape(),
                self.classes()
            )));
        }
        let classes = self.classes();
        let mut probe = Probe { wrong: Vec::new(), layers: vec![LayerProbe::default(); self.depth()] };
        for (layer, stage) in probe.layers.iter_mut().zip(self.stages()) {
            layer.alive = vec![false; stage.layer.outputs()];
        }
        let mut negatives = negatives::from_settings(self.recipe().negatives);
        let (mut batch, mut rows, mut buffers) = (Batch::default(), Labelled::default(), Default::default());
        let chunk = (ROWS / classes).max(1);
        for start in (0..data.len()).step_by(chunk) {
            batch.load(self, data, start..data.len().min(start + chunk), None);
            let prediction = self.head().filter(|_| negatives.needs_prediction()).map(|_| {
                let mut scores = crate::readout::one_pass(self, &batch, &mut buffers);
                scores.chunks_exact_mut(classes).for_each(softmax);
                scores
            });
            let mut random = stream(self.recipe().seed.0, "probe", start as u64);
            let wrong = negatives.draw(&batch, classes, prediction.as_deref(), &mut random);

            let labels = (0..classes as u32).map(Label::Class);
            rows.fill(self, &batch, (0..batch.len()).flat_map(|n| labels.clone().map(move |label| (n, label))));
            let mut base = Vec::new();
            let base = self.project(&batch, &mut base);
            let inputs: Inputs<'_> = rows.as_inputs(&batch, base);
            self.sweep(
                &inputs,
                self.depth(),
                &mut buffers,
                |l, stage, y| {
                    let layer = &mut probe.layers[l];
                    for (n, (&label, &wrong)) in batch.labels.iter().zip(&wrong).enumerate() {
                        let at = |label: u32| n * classes + label as usize;
                        let goodness = |label| stage.measure.value(y.row(at(label)), y.squares[at(label)]);
                        let score = |label| stage.measure.logit(goodness(label));
                        layer.positive.push(goodness(label));
                        layer.negative.push(goodness(wrong));
                        let best = |best, label| if score(label) > score(best) { label } else { best };
                        layer.found.push((1..classes as u32).fold(0, best));
                        layer.alive.iter_mut().zip(y.row(at(label))).for_each(|(alive, y)| *alive |= *y > 0.0);
                    }
                },
                |_, _| (),
            );
            probe.wrong.extend(wrong);
        }
        Ok(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Readout, Recipe, Shape, Values};

    fn data(samples: usize) -> Dataset {
        let values = (0..samples * 6).map(|i| (i * 37 % 11) as f32 / 11.0).collect();
        let labels = (0..samples as u32).map(|n| n % 3).collect();
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        Dataset::new(Shape::features(6), Values::Floats(values), labels, classes).unwrap()
    }

    fn network(widths: &[usize]) -> Network {
        let mut recipe = Recipe::default();
        recipe.network.layers = widths.iter().map(|&width| width.into()).collect();
        Network::new(recipe, Shape::features(6), data(3).classes()).unwrap()
    }

    #[test]
    fn a_single_layer_finds_what_the_readout_finds() {
        // More samples than go through together, so that chunks are joined too.
        let (network, data) = (network(&[16]), data(1500));
        let probe = network.probe(&data).unwrap();
        let predictions = network.predict(&data, Readout::EveryLabel).unwrap();
        let found: Vec<u32> = (0..data.len()).map(|n| predictions.label(n)).collect();
        assert_eq!(probe.layers[0].found, found);
        assert!(probe.wrong.iter().zip(data.labels()).all(|(wrong, label)| wrong != label));
        assert_eq!(probe.wrong.len(), 1500);
    }

    #[test]
    fn goodness_is_of_the_label_that_was_shown() {
        let (network, data) = (network(&[16, 8]), data(30));
        let probe = network.probe(&data).unwrap();
        for layer in &probe.layers {
            for n in 0..data.len() {
                let (label, wrong) = (data.labels()[n], probe.wrong[n]);
                // With its own label the best, a sample is found; with its wrong label better, it is not.
                let (positive, negative) = (layer.positive[n], layer.negative[n]);
                assert!(layer.found[n] != label || positive >= negative);
                assert!(layer.found[n] != wrong || negative >= positive);
            }
            let mean = layer.positive.iter().sum::<f32>() / 30.0;
            assert!(mean > 0.0 && layer.alive.iter().any(|alive| *alive));
        }
    }

    #[test]
    fn refuses_other_data() {
        let values = Values::Floats(vec![0.0; 4]);
        let data = Dataset::new(Shape::features(4), values, vec![0], vec!["a".into(), "b".into()]).unwrap();
        let refused = network(&[8]).probe(&data).unwrap_err().to_string();
        assert_eq!(refused, "found samples of 1×1×4 in 2 classes, expected labelled ones of 1×1×6 in 3");
    }
}
