//! Batches: samples as the first layer reads them, with room for a label.

use crate::Dataset;
use crate::engine::vectorised;
use crate::network::Network;
use crate::pass::{Codes, Inputs};
use crate::random::Random;
use crate::settings::{AugmentSettings, LabelPlace, Normalization};
use std::ops::Range;

/// `N` samples, laid out as the first layer's inputs `(N, I)` with zeros where the label goes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) width: usize,
    /// Where each sample's own values start.
    pub(crate) first: usize,
    /// `(N, I)`.
    pub values: Vec<f32>,
    /// `Σ x²` of each sample, without label `(N)`.
    pub(crate) squares: Vec<f32>,
    /// The true labels `(N)`; empty where the data has none.
    pub labels: Vec<u32>,
}

impl Batch {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.squares.len()
    }

    /// True before the first [`Batch::load`].
    pub fn is_empty(&self) -> bool {
        self.squares.is_empty()
    }

    /// The values `(shape)` of sample `n`, with zeros where a label replaces some of them.
    pub fn sample(&self, n: usize) -> &[f32] {
        &self.values[n * self.width + self.first..(n + 1) * self.width]
    }

    /// Adds samples that are not from the data, without labels: `samples: (n, shape)`.
    pub(crate) fn extend(&mut self, network: &Network, samples: &[f32]) {
        let (from, length) = (self.values.len(), self.width - self.first);
        assert_eq!(samples.len() % length, 0, "samples must have the shape that the network was made for");
        for sample in samples.chunks_exact(length) {
            self.values.resize(self.values.len() + self.first, 0.0);
            let at = self.values.len();
            self.values.extend_from_slice(sample);
            self.values[at - self.first..][..network.label_width()].fill(0.0);
        }
        self.measure(from / self.width);
    }

    /// Makes `to` a batch of some of the samples; of samples that are not from the data, there are no labels.
    pub(crate) fn share(&self, which: &[Range<usize>], to: &mut Batch) {
        (to.width, to.first) = (self.width, self.first);
        to.values.clear();
        to.squares.clear();
        to.labels.clear();
        for which in which {
            to.values.extend_from_slice(&self.values[which.start * self.width..which.end * self.width]);
            to.squares.extend_from_slice(&self.squares[which.clone()]);
            to.labels.extend_from_slice(self.labels.get(which.clone()).unwrap_or_default());
        }
    }

    /// `Σ x²` of the samples from `first` on.
    fn measure(&mut self, first: usize) {
        self.squares.resize(self.values.len() / self.width, 0.0);
        vectorised!({
            let rows = self.values.chunks_exact(self.width).skip(first);
            for (squares, row) in self.squares[first..].iter_mut().zip(rows) {
                *squares = row.iter().map(|x| x * x).sum();
            }
        });
    }

    /// Reads the samples `which` of `data`.
    ///
    /// # Panics
    /// Where the data does not have the shape that the network was made for.
    pub fn load(&mut self, network: &Network, data: &Dataset, which: impl ExactSizeIterator<Item = usize>) {
        self.load_as(Layout::of(network), data, which, None);
    }

    /// As [`Batch::load`], each sample changed at random as the settings say.
    pub(crate) fn load_as(
        &mut self,
        layout: Layout,
        data: &Dataset,
        which: impl ExactSizeIterator<Item = usize>,
        mut augment: Option<(AugmentSettings, &mut Random)>,
    ) {
        let Layout { shape, width, first, code } = layout;
        assert_eq!(data.shape(), shape, "the data must have the shape that the network was made for");
        (self.width, self.first) = (width, first);
        self.values.resize(which.len() * width, 0.0);
        self.labels.clear();
        let mut scratch = vec![0.0; if augment.is_some() { shape.len() } else { 0 }];
        for (sample, row) in which.zip(self.values.chunks_exact_mut(width)) {
            let pixels = &mut row[self.first..];
            data.read(sample, pixels);
            if let Some((settings, random)) = &mut augment {
                settings.change(shape, pixels, random, &mut scratch);
            }
            row[..code].fill(0.0);
            self.labels.extend(data.labels().get(sample));
        }
        self.measure(0);
    }
}

/// How samples are laid out as a network's first inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    shape: crate::Shape,
    /// Numbers of a sample, label included.
    width: usize,
    /// Where its own values start.
    first: usize,
    /// How many inputs the label takes.
    code: usize,
}

impl Layout {
    pub fn of(network: &Network) -> Self {
        let code = network.label_width();
        let first = if network.label_place() == LabelPlace::Prepend { code } else { 0 };
        Layout { shape: network.shape(), width: network.sample_width(), first, code }
    }
}

/// What a label's inputs are set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// One of the classes: its input is the label strength, the others 0.
    Class(u32),
    /// No class preferred: all inputs are the label strength / `K`.
    Neutral,
}

/// Rows of a batch with labels put in: the first layer's input.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    pub(crate) source: Vec<u32>,
    pub(crate) codes: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    /// The rows in full `(R, I)`, where the input normalisation is not just a scale.
    pub(crate) full: Vec<f32>,
}

impl Labelled {
    /// Row `r` is sample `rows[r].0` of the batch with the label `rows[r].1`, if labels go in.
    pub fn fill(&mut self, network: &Network, batch: &Batch, rows: impl Iterator<Item = (usize, Label)>) {
        let (classes, strength) = (network.label_width(), network.label_strength());
        self.source.clear();
        self.codes.clear();
        self.scale.clear();
        self.full.clear();
        for (sample, label) in rows {
            self.source.push(sample as u32);
            let at = self.codes.len();
            let squares = match label {
                _ if classes == 0 => 0.0,
                Label::Class(class) => {
                    self.codes.resize(at + classes, 0.0);
                    self.codes[at + class as usize] = strength;
                    strength * strength
                }
                Label::Neutral => {
                    let each = strength / classes as f32;
                    self.codes.resize(at + classes, each);
                    each * each * classes as f32
                }
            };
            let normalization = network.input_normalization();
            self.scale.push(normalization.scale(batch.squares[sample] + squares, batch.width));
        }
        if network.input_normalization() == Normalization::Layer {
            self.write_in_full(batch, classes);
        }
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Makes `to` some of the rows, of a batch that has sample `n` at `source(n)`.
    pub(crate) fn share(&self, which: &[Range<usize>], source: impl Fn(usize) -> usize, to: &mut Labelled) {
        let rows = self.source.len().max(1);
        let (code, width) = (self.codes.len() / rows, self.full.len() / rows);
        to.source.clear();
        to.codes.clear();
        to.scale.clear();
        to.full.clear();
        for which in which {
            to.source.extend(self.source[which.clone()].iter().map(|&n| source(n as usize) as u32));
            to.codes.extend_from_slice(&self.codes[which.start * code..which.end * code]);
            to.scale.extend_from_slice(&self.scale[which.clone()]);
            to.full.extend_from_slice(&self.full[which.start * width..which.end * width]);
        }
    }

    /// Subtracting the mean cannot be put off until after the product: rows are written out.
    fn write_in_full(&mut self, batch: &Batch, classes: usize) {
        let width = batch.width;
        for (r, &sample) in self.source.iter().enumerate() {
            let at = self.full.len();
            self.full.extend_from_slice(&batch.values[sample as usize * width..][..width]);
            let row = &mut self.full[at..];
            row[..classes].copy_from_slice(&self.codes[r * classes..][..classes]);
            let mean = row.iter().sum::<f32>() / width as f32;
            row.iter_mut().for_each(|x| *x -= mean);
            let squares = row.iter().map(|x| x * x).sum::<f32>();
            self.scale[r] = Normalization::Layer.scale(squares, width);
        }
    }

    /// These rows of `batch`, with `base` as in [`Inputs::base`].
    pub fn as_inputs<'a>(&'a self, batch: &'a Batch, base: Option<&'a [f32]>) -> Inputs<'a> {
        if !self.full.is_empty() {
            return Inputs::plain(&self.full, batch.width, &self.scale);
        }
        let classes = self.codes.len() / self.source.len().max(1);
        Inputs {
            values: &batch.values,
            width: batch.width,
            source: Some(&self.source),
            codes: (classes > 0).then_some(Codes { values: &self.codes, classes }),
            base,
            scale: &self.scale,
            common: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Shape, Values};
    use crate::random::stream;

    #[test]
    fn samples_change_anew_at_each_step_and_alike_at_the_same_one() {
        let shape = Shape::image(1, 6, 6);
        let names = vec!["a".into(), "b".into()];
        let data = Dataset::new(shape, Values::Floats(vec![0.5; 4 * 36]), vec![0, 1, 0, 1], names).unwrap();
        let layout = Layout { shape, width: 36, first: 0, code: 2 };
        let load = |settings: AugmentSettings, step: u64| {
            let (mut batch, mut random) = (Batch::default(), stream(1, "augmentation", step));
            batch.load_as(layout, &data, [3, 0].into_iter(), Some((settings, &mut random)));
            assert_eq!(batch.labels, [1, 0]);
            assert!((0..2).all(|n| batch.sample(n)[..2] == [0.0; 2])); // the label's place
            batch
        };
        let gone = |batch: &Batch| batch.values.iter().filter(|value| **value == 0.0).count() - 4;
        assert_eq!(gone(&load(AugmentSettings { shift: 0, mask: 0.0 }, 0)), 0);
        for settings in [AugmentSettings { shift: 0, mask: 0.4 }, AugmentSettings { shift: 2, mask: 0.2 }] {
            let batch = load(settings, 0);
            assert!((8..60).contains(&gone(&batch)), "{}", gone(&batch));
            assert_ne!(batch.sample(0), batch.sample(1));
            assert_eq!(batch.values, load(settings, 0).values);
            assert_ne!(batch.values, load(settings, 1).values);
            let squares: Vec<f32> = (0..2).map(|n| batch.sample(n).iter().map(|x| x * x).sum()).collect();
            assert_eq!(batch.squares, squares);
        }
    }
}
