//! A look at what each layer makes of some samples; nothing learns from them.

use crate::batch::{Batch, Label, Labelled};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::goodness::Measure;
use crate::negatives::{self, Negative, Negatives, Positive};
use crate::network::Network;
use crate::pass::Activity;
use crate::random::stream;
use crate::readout::{ROWS, best, softmax};
use crate::recurrent::{self, Held, States};
use crate::settings::Rule;

/// Rounds of negatives drawn where each depends on the one before: as many as make a text all the net's own.
const ROUNDS: usize = 10;

/// What the layers make of `N` samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// A negative sample for each, made as training makes them now.
    pub negative: Negative,
    /// What each layer makes of them, from the bottom.
    pub layers: Vec<LayerProbe>,
}

/// What one layer makes of `N` samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerProbe {
    /// The goodness of each sample, with its true label if labels go in `(N)`; of a layer that tells the label itself, the score
    /// of the true one.
    pub positive: Vec<f32>,
    /// The goodness of its negative sample `(N)`, or the best score of a wrong label.
    pub negative: Vec<f32>,
    /// The label that this layer's goodness alone finds, when every label is tried, or its class scores `(N)`; empty where there
    /// is neither.
    pub found: Vec<u32>,
    /// Whether each unit was on for some positive sample `(O)`.
    pub alive: Vec<bool>,
}

impl Network {
    /// Shows every layer these samples and negative ones made from them, and every label in turn, as the every-label
    /// readout does (not to recurrent networks, where that takes many moments). The same network and samples give the same
    /// probe. Rules other than Forward-Forward know no goodness: their probe is empty.
    ///
    /// # Errors
    /// [`Error::Data`] where the samples have another shape or other classes than the network's.
    pub fn probe(&self, data: &Dataset) -> Result<Probe> {
        let unlabelled = (self.sees_labels() || self.scores_classes()) && data.labels().is_empty();
        if unlabelled {
            return Err(Error::Data("found samples without labels, expected labelled ones".into()));
        }
        self.check_same_kind(data)?;
        if self.recipe().rule != Rule::ForwardForward {
            return Ok(Probe::default());
        }
        let mut probe = Probe { layers: vec![LayerProbe::default(); self.depth()], ..Default::default() };
        for (layer, stage) in probe.layers.iter_mut().zip(self.stages()) {
            layer.alive = vec![false; stage.layer.outputs()];
        }
        if self.scores_classes() {
            self.probe_classes(data, &mut probe.layers);
            return Ok(probe);
        }
        let mut negatives = negatives::from_recipe(self.recipe());
        let (mut batch, mut rows, mut buffers) = (Batch::default(), Labelled::default(), Default::default());
        let tried = self.label_width();
        let chunk = (ROWS / (2 + tried)).max(2);
        for start in (0..data.len()).step_by(chunk) {
            batch.load(self, data, start..data.len().min(start + chunk));
            let n = batch.len();
            if self.is_recurrent() {
                let negative = self.probe_moments(&mut batch, &mut *negatives, start as u64, &mut probe.layers);
                append(&mut probe.negative.labels, negative.labels);
                append(&mut probe.negative.inputs, negative.inputs);
                continue;
            }
            let mut predict = |batch: &Batch| {
                let mut scores = crate::readout::one_pass(self, batch, &mut buffers);
                scores.chunks_exact_mut(self.classes()).for_each(softmax);
                scores
            };
            let prediction = self.head().map(|_| predict(&batch));
            let mut random = stream(self.recipe().seed.0, "probe", start as u64);
            let (shape, classes, prediction) = (self.shape(), self.classes(), prediction.as_deref());
            let positive = Positive { batch: &batch, shape, classes, prediction, answers: None };
            let mut negative = None;
            for _ in 0..ROUNDS {
                let Some(inputs) = negatives.ask(&positive) else { break };
                let mut asked = batch.clone();
                asked.extend(self, &inputs);
                let answers = predict(&asked).split_off(n * classes);
                let answered = Positive { answers: Some(&answers), ..positive };
                negative = Some(negatives.draw(&answered, &mut random));
            }
            let negative = negative.unwrap_or_else(|| negatives.draw(&positive, &mut random));

            // Positive rows, negative rows, then every label for each sample.
            let pairs = negative.rows(self, &mut batch, n).concat();
            let all = (0..n).flat_map(|i| (0..tried as u32).map(move |label| (i, Label::Class(label))));
            rows.fill(self, &batch, pairs.into_iter().chain(all));
            let mut base = Vec::new();
            let base = self.project(&batch, &mut base);
            let first = rows.as_inputs(&batch, base);
            self.answers(&first, &mut buffers, |l, stage, y| {
                if stage.layer.learns() {
                    probe.layers[l].take(&stage.measure, y, n, tried);
                }
            });
            append(&mut probe.negative.labels, negative.labels);
            append(&mut probe.negative.inputs, negative.inputs);
        }
        Ok(probe)
    }
}

impl LayerProbe {
    /// Takes in what the layer answered: `n` positive rows, as many negative ones, then every label for each sample.
    fn take(&mut self, measure: &Measure, y: &Activity, n: usize, tried: usize) {
        let goodness = |row| measure.value(y.row(row), y.squares[row]);
        self.positive.extend((0..n).map(goodness));
        self.negative.extend((n..2 * n).map(goodness));
        self.note_alive(y, n);
        if tried > 0 {
            let scores: Vec<f32> = (2 * n..y.rows()).map(|row| measure.logit(goodness(row))).collect();
            self.found.extend(scores.chunks_exact(tried).map(best));
        }
    }

    fn note_alive(&mut self, y: &Activity, rows: usize) {
        for row in 0..rows {
            self.alive.iter_mut().zip(y.row(row)).for_each(|(alive, y)| *alive |= *y > 0.0);
        }
    }

    /// Takes in class scores `(N, K)` of samples with these true labels.
    fn take_scores(&mut self, scores: &[f32], labels: &[u32]) {
        for (scores, &label) in scores.chunks_exact(scores.len() / labels.len().max(1)).zip(labels) {
            let others = scores.iter().enumerate().filter(|(k, _)| *k != label as usize).map(|(_, score)| *score);
            self.positive.push(scores[label as usize]);
            self.negative.push(others.fold(f32::NEG_INFINITY, f32::max));
            self.found.push(best(scores));
        }
    }
}

impl Network {
    /// The same for layers that tell the label themselves.
    fn probe_classes(&self, data: &Dataset, layers: &mut [LayerProbe]) {
        let (mut batch, mut rows, mut buffers) = (Batch::default(), Labelled::default(), <[Activity; 2]>::default());
        let mut scores = Vec::new();
        for start in (0..data.len()).step_by(ROWS) {
            batch.load(self, data, start..data.len().min(start + ROWS));
            rows.fill(self, &batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
            let first = rows.as_inputs(&batch, None);
            self.answers(&first, &mut buffers, |l, stage, y| {
                if stage.layer.learns() {
                    stage.class_scores(y, 0..batch.len(), &mut scores);
                    layers[l].take_scores(&scores, &batch.labels);
                    layers[l].note_alive(y, batch.len());
                }
            });
        }
    }

    /// The same for a recurrent network: its goodness at the last moment that the readout averages.
    fn probe_moments(
        &self,
        batch: &mut Batch,
        negatives: &mut dyn Negatives,
        draw: u64,
        layers: &mut [LayerProbe],
    ) -> Negative {
        let (n, classes, settings) = (batch.len(), self.classes(), self.recipe().recurrent);
        let prediction = self.head().map(|_| {
            let mut scores = recurrent::one_pass(self, batch);
            scores.chunks_exact_mut(classes).for_each(softmax);
            scores
        });
        let prediction = prediction.as_deref();
        let positive = Positive { batch, shape: self.shape(), classes, prediction, answers: None };
        let negative = negatives.draw(&positive, &mut stream(self.recipe().seed.0, "probe", draw));
        let pairs = negative.rows(self, batch, n).concat().into_iter();
        let (source, labels): (Vec<u32>, Vec<Label>) = pairs.map(|(n, label)| (n as u32, label)).unzip();
        let labels = if self.sees_labels() { &labels[..] } else { &[] };
        let context = negative.heard(n);
        let held = Held { batch, source: &source, labels, context: &context };
        let mut states = States::default();
        states.start(self, held);
        for moment in 1..=settings.last {
            for (l, layer) in layers.iter_mut().enumerate() {
                let (_, y) = states.answer(self, held, l);
                if moment == settings.last {
                    layer.take(&self.stages()[l].measure, y, n, 0);
                }
                states.take_in(l, settings.keep);
            }
            states.turn(self);
        }
        negative
    }
}

fn append<T>(all: &mut Option<Vec<T>>, more: Option<Vec<T>>) {
    if let Some(more) = more {
        all.get_or_insert_default().extend(more);
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
        let wrong = probe.negative.labels.unwrap();
        assert!(wrong.iter().zip(data.labels()).all(|(wrong, label)| wrong != label));
        assert_eq!(wrong.len(), 1500);
    }

    #[test]
    fn goodness_is_of_the_label_that_was_shown() {
        let (network, data) = (network(&[16, 8]), data(30));
        let probe = network.probe(&data).unwrap();
        let wrong = probe.negative.labels.as_ref().unwrap();
        for layer in &probe.layers {
            for n in 0..data.len() {
                let (label, wrong) = (data.labels()[n], wrong[n]);
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
    fn without_labels_negatives_are_other_inputs() {
        let mut recipe = Recipe::default();
        recipe.network.layers = vec![8.into()];
        recipe.network.label = crate::settings::LabelPlace::None;
        recipe.negatives.kind = crate::settings::NegativesKind::Hybrid;
        let (data, shape) = (data(9), Shape::features(6));
        let network = Network::new(recipe, shape, data.classes()).unwrap();
        let probe = network.probe(&data).unwrap();
        assert_eq!(probe.negative.inputs.as_ref().unwrap().len(), 9 * 6);
        assert_eq!(probe.negative.labels, None);
        assert!(probe.layers[0].found.is_empty());
        // The negatives' goodness is theirs: as positive samples they have the same.
        let values = Values::Floats(probe.negative.inputs.unwrap());
        let as_data = Dataset::new(shape, values, data.labels().to_vec(), data.classes().to_vec()).unwrap();
        let expected = &network.probe(&as_data).unwrap().layers[0].positive;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5 * b.abs().max(1.0);
        assert!(probe.layers[0].negative.iter().zip(expected).all(near));
    }

    #[test]
    fn a_layer_that_tells_the_label_is_probed_by_its_scores() {
        let mut recipe = Recipe::default();
        recipe.network.layers = vec![9.into()];
        recipe.network.label = crate::settings::LabelPlace::None;
        recipe.objective = crate::settings::ObjectiveSettings::PerClass;
        let data = data(30);
        let network = Network::new(recipe, Shape::features(6), data.classes()).unwrap();
        let (probe, predictions) =
            (network.probe(&data).unwrap(), network.predict(&data, Readout::ClassScores).unwrap());
        let layer = &probe.layers[0];
        for (n, &label) in data.labels().iter().enumerate() {
            assert_eq!(layer.found[n], predictions.label(n));
            assert_eq!(layer.positive[n] > layer.negative[n], layer.found[n] == label);
        }
        let refused = network.predict(&data, Readout::EveryLabel).unwrap_err().to_string();
        assert!(refused.contains("no label goes in"), "{refused}");
        let refused = self::network(&[4]).predict(&data, Readout::ClassScores).unwrap_err().to_string();
        assert!(refused.contains("objective.kind"), "{refused}");
    }

    #[test]
    fn units_that_do_not_divide_are_refused() {
        let refused = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            recipe.network.layers = vec![8.into()];
            change(&mut recipe);
            Network::new(recipe, Shape::features(6), data(3).classes()).unwrap_err().to_string()
        };
        assert_eq!(
            refused(|r| r.goodness.groups = 3),
            "setting `goodness.groups`: the 8 units of `network.layers[0]` do not fall into 3 equal groups"
        );
        let per_class = refused(|r| {
            r.objective = crate::settings::ObjectiveSettings::PerClass;
            r.network.label = crate::settings::LabelPlace::None;
        });
        assert_eq!(
            per_class,
            "setting `objective.kind`: the 8 units of `network.layers[0]` do not fall into 3 equal groups, one for each class"
        );
    }

    #[test]
    fn refuses_other_data() {
        let values = Values::Floats(vec![0.0; 4]);
        let data = Dataset::new(Shape::features(4), values, vec![0], vec!["a".into(), "b".into()]).unwrap();
        let refused = network(&[8]).probe(&data).unwrap_err().to_string();
        assert_eq!(refused, "the data's samples are 1×1×4, the network expects 1×1×6");
    }
}
