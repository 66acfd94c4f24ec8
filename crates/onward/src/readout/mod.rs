//! Readouts: from activities to labels.

mod class_scores;
mod combined;
mod every_label;
mod exit;
mod one_pass;

pub use one_pass::Head;
pub(crate) use one_pass::scores as one_pass;

use crate::batch::Batch;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::pass::Activity;
use crate::recurrent;
use serde::{Deserialize, Serialize};

/// Rows that go through the network together when it is read out: enough for fast products, and bounded memory.
pub(crate) const ROWS: usize = 2_000;

/// How labels are read out of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// One pass per label; the label with the most goodness wins (paper, section 3.3; released code).
    EveryLabel,
    /// One pass with the neutral label; the softmax head decides (released code).
    OnePass,
    /// One pass; the class scores of layers that tell the label themselves, added up.
    ClassScores,
    /// Every label and one pass together, weighted as samples held out from training have it ([`Network::combine_readouts`]).
    Combined,
}

impl std::fmt::Display for Readout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Readout::EveryLabel => "every-label",
            Readout::OnePass => "one-pass",
            Readout::ClassScores => "class-scores",
            Readout::Combined => "combined",
        })
    }
}

/// What a readout says of `N` samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    classes: usize,
    /// The probability of each class for each sample `(N, K)`.
    pub probabilities: Vec<f32>,
}

impl Predictions {
    /// The probabilities of sample `n` `(K)`.
    pub fn row(&self, n: usize) -> &[f32] {
        &self.probabilities[n * self.classes..(n + 1) * self.classes]
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.probabilities.len() / self.classes
    }

    /// True where there are no samples.
    pub fn is_empty(&self) -> bool {
        self.probabilities.is_empty()
    }

    /// The likeliest class of sample `n`; of equals, the first.
    pub fn label(&self, n: usize) -> u32 {
        best(self.row(n))
    }
}

/// How often a readout is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples evaluated.
    pub samples: usize,
    /// Samples whose label was wrong.
    pub errors: usize,
    /// How many samples of class `i` (outer) were taken for class `j` (inner): `(K, K)`.
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Wrong labels in per cent.
    pub fn error(&self) -> f64 {
        100.0 * self.errors as f64 / self.samples as f64
    }
}

impl Network {
    /// Reads out the labels of every sample.
    ///
    /// # Errors
    /// [`Error::Data`] where the samples have another shape than the network's, the readout needs a head that the
    /// network does not have or weights that nothing has fitted yet, or a score overflows.
    pub fn predict(&self, data: &Dataset, readout: Readout) -> Result<Predictions> {
        self.check_shape(data)?;
        if readout == Readout::EveryLabel && !self.sees_labels() {
            return Err(Error::Data(
                "the every-label readout needs labels among the inputs, but no label goes in \
                 (`network.label` is \"none\"): use one-pass"
                    .into(),
            ));
        }
        if readout == Readout::OnePass && self.head().is_none() {
            return Err(Error::Data(
                "the one-pass readout needs a softmax head, which this network was trained without: \
                 use every-label, or train with `head.enabled = true`"
                    .into(),
            ));
        }
        if readout == Readout::ClassScores && !self.scores_classes() {
            return Err(Error::Data(
                "the class-scores readout needs layers that tell the label themselves (`objective.kind` \"per-class\" or \
                 \"mono-forward\"): use every-label or one-pass"
                    .into(),
            ));
        }
        if readout == Readout::Combined && self.combined.is_none() {
            return Err(Error::Data(
                "the combined readout needs weights, which samples held out from training give it: use every-label or \
                 one-pass, or train with `data.validation` above 0"
                    .into(),
            ));
        }
        let mut probabilities = self.scores(data, readout)?;
        probabilities.chunks_exact_mut(self.classes()).for_each(softmax);
        Ok(Predictions { classes: self.classes(), probabilities })
    }

    /// What a readout that is offered gives each class of each sample, before the softmax: `(N, K)`.
    fn scores(&self, data: &Dataset, readout: Readout) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(data.len() * self.classes());
        let rows_each = if matches!(readout, Readout::EveryLabel | Readout::Combined) { self.classes() } else { 1 };
        let chunk = (ROWS / rows_each).max(1);
        let (mut batch, mut buffers) = (Batch::default(), Default::default());
        for start in (0..data.len()).step_by(chunk) {
            batch.load(self, data, start..data.len().min(start + chunk));
            let scores = self.scores_of(&batch, readout, &mut buffers);
            self.check_faults()?;
            self.check_scores(&scores, start, readout)?;
            all.extend_from_slice(&scores);
        }
        Ok(all)
    }

    /// The same of a batch.
    fn scores_of(&self, batch: &Batch, readout: Readout, buffers: &mut [Activity; 2]) -> Vec<f32> {
        match readout {
            Readout::EveryLabel if self.is_recurrent() => recurrent::every_label(self, batch),
            Readout::OnePass if self.is_recurrent() => recurrent::one_pass(self, batch),
            Readout::EveryLabel => every_label::scores(self, batch, buffers),
            Readout::OnePass => one_pass::scores(self, batch, buffers),
            Readout::ClassScores => class_scores::scores(self, batch, buffers),
            Readout::Combined => {
                let each =
                    [Readout::EveryLabel, Readout::OnePass].map(|readout| self.scores_of(batch, readout, buffers));
                let weights = self.combined.expect("predict() has looked for them");
                combined::sum([&each[0], &each[1]], weights)
            }
        }
    }

    /// Refuses scores `(N, K)` that have overflowed; they are those of sample `first` and of those after it.
    fn check_scores(&self, scores: &[f32], first: usize, readout: Readout) -> Result<()> {
        let Some(at) = scores.iter().position(|score| !score.is_finite()) else { return Ok(()) };
        let (sample, class) = (first + at / self.classes(), &self.class_names()[at % self.classes()]);
        Err(Error::Data(format!(
            "sample {sample}: the {readout} readout gives class `{class}` a score of {}: the sample's values, or the network's \
             weights, are too large for single precision",
            scores[at]
        )))
    }

    /// Weights the every-label and the one-pass readout by what makes the labels of `data`, which training has not seen,
    /// likeliest; from then on the network offers [`Readout::Combined`]. Returns false, and changes nothing, where it does not
    /// offer both.
    ///
    /// # Errors
    /// As [`Network::evaluate`].
    pub fn combine_readouts(&mut self, data: &Dataset) -> Result<bool> {
        if !self.offers_both() {
            return Ok(false);
        }
        let labels = self.labels_of(data)?;
        self.check_shape(data)?;
        let [every_label, one_pass] = [Readout::EveryLabel, Readout::OnePass].map(|readout| self.scores(data, readout));
        self.combined = Some(combined::fit([&every_label?, &one_pass?], &labels, self.classes()));
        Ok(true)
    }

    /// What the scores of the every-label and of the one-pass readout count in the combined one, where it is offered.
    pub fn combined_weights(&self) -> Option<[f32; 2]> {
        self.combined
    }

    /// Reads out the labels of every sample, and compares them with the true ones, class by name.
    ///
    /// # Errors
    /// As [`Network::predict`]; also where the data has no labels or a class that the network does not know.
    pub fn evaluate(&self, data: &Dataset, readout: Readout) -> Result<Evaluation> {
        self.classes_of(data)?; // refused before the work, not after it
        self.compare(data, &self.predict(data, readout)?)
    }

    /// Compares predictions for these samples with their true labels, class by name.
    ///
    /// # Errors
    /// [`Error::Data`] where the data has no labels, or a class that the network does not know, or another number of samples
    /// than there are predictions.
    pub fn compare(&self, data: &Dataset, predictions: &Predictions) -> Result<Evaluation> {
        let labels = self.labels_of(data)?;
        if predictions.len() != data.len() {
            let (found, expected) = (predictions.len(), data.len());
            return Err(Error::Data(format!("found predictions for {found} samples, expected {expected}")));
        }
        let mut evaluation =
            Evaluation { samples: data.len(), errors: 0, confusion: vec![vec![0; self.classes()]; self.classes()] };
        for (n, label) in labels.into_iter().enumerate() {
            let found = predictions.label(n);
            evaluation.confusion[label as usize][found as usize] += 1;
            evaluation.errors += usize::from(found != label);
        }
        Ok(evaluation)
    }

    /// Which of the network's classes each sample is of.
    fn labels_of(&self, data: &Dataset) -> Result<Vec<u32>> {
        let known_as = self.classes_of(data)?;
        Ok(data.labels().iter().map(|&label| known_as[label as usize]).collect())
    }

    /// Which of the network's classes each of the data's is: the one of the same name, for another file may hold fewer
    /// classes or have them in another order. Where none is known by name and they are just numbered, they count from the network's
    /// first.
    fn classes_of(&self, data: &Dataset) -> Result<Vec<u32>> {
        if data.labels().is_empty() {
            return Err(Error::Data("the data has no labels to compare with".into()));
        }
        let known = self.class_names();
        let named = |name: &String| known.iter().position(|known| known == name);
        let numbered =
            data.classes().iter().enumerate().all(|(i, name)| *name == i.to_string() && named(name).is_none());
        let find = |(i, name): (usize, &String)| match named(name) {
            None if numbered && i < known.len() => Ok(i as u32),
            None => Err(Error::Data(format!("the data has a class `{name}`, the network knows {}", known.join(", ")))),
            Some(class) => Ok(class as u32),
        };
        data.classes().iter().enumerate().map(find).collect()
    }
}

/// The best of some scores `(K)`; of equals, the first.
pub(crate) fn best(scores: &[f32]) -> u32 {
    (1..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best }) as u32
}

/// Scores `(K)` to probabilities that sum to 1.
pub(crate) fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        total += *score;
    }
    scores.iter_mut().for_each(|score| *score /= total);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Recipe, Shape, Values};

    #[test]
    fn classes_are_known_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let mut recipe = Recipe::default();
        recipe.network.layers = vec![crate::settings::LayerSettings::Dense(4)];
        let network = Network::new(recipe, Shape::features(4), &names(&["ant", "bee", "cat"])).unwrap();
        let counts = |classes: &[&str]| {
            let values = Values::Floats(vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
            let data = Dataset::new(Shape::features(4), values, vec![0, 1], names(classes)).unwrap();
            let confusion = network.evaluate(&data, Readout::EveryLabel)?.confusion;
            Ok::<_, Error>(confusion.iter().map(|row| row.iter().sum()).collect::<Vec<u64>>())
        };
        assert_eq!(counts(&["bee", "cat"]).unwrap(), [0, 1, 1]);
        assert_eq!(counts(&["cat", "ant"]).unwrap(), [1, 0, 1]);
        assert_eq!(counts(&["0", "1"]).unwrap(), [1, 1, 0]);
        let refused = counts(&["bee", "dog"]).unwrap_err().to_string();
        assert_eq!(refused, "the data has a class `dog`, the network knows ant, bee, cat");
        // Some known by name: then all are.
        let network = Network::new(network.recipe().clone(), network.shape(), &names(&["1", "2", "3"])).unwrap();
        let data = |classes| {
            let values = Values::Floats(vec![1.0, 0.0, 1.0, 0.0]);
            Dataset::new(Shape::features(4), values, vec![1], names(classes)).unwrap()
        };
        let confusion = network.evaluate(&data(&["3", "2"]), Readout::EveryLabel).unwrap().confusion;
        assert_eq!(confusion[1].iter().sum::<u64>(), 1);
        let refused = network.evaluate(&data(&["0", "1"]), Readout::EveryLabel).unwrap_err().to_string();
        assert_eq!(refused, "the data has a class `0`, the network knows 1, 2, 3");
    }

    #[test]
    fn softmax_of_huge_scores() {
        let mut scores = [1e4, 1e4, 0.0];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
    }
}
