//! What a linear softmax can read out of each layer: how much a layer knows about the classes, whatever its goodness says.

use crate::batch::{Batch, Label, Labelled};
use crate::dataset::Dataset;
use crate::engine;
use crate::error::{Error, Result};
use crate::layer::{Activation, Dense, Layer};
use crate::network::Network;
use crate::objective::cross_entropy;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::stream;
use crate::readout::{ROWS, best, softmax};
use crate::settings::OptimizerSettings;
use rand::seq::SliceRandom;

/// Samples in a step of the probes.
const BATCH: usize = 100;

/// How the probes learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeSettings {
    /// Passes over the training samples; at least 1.
    pub epochs: u64,
    /// Their learning rate, which falls to 0 over the second half.
    pub rate: f32,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        ProbeSettings { epochs: 5, rate: 0.1 }
    }
}

impl Network {
    /// Trains a linear softmax on the normalised activities of each layer, with the neutral label where labels go in, and answers
    /// its error on `test` in per cent: first of the input itself, then of every layer from the bottom, black boxes too. The
    /// network stays as it is. The same network, samples and settings give the same errors.
    ///
    /// # Errors
    /// [`Error::Data`] where the samples have another shape or other classes than the network's, or no labels; also for recurrent
    /// networks, whose layers answer differently at each moment.
    pub fn linear_probe(&self, train: &Dataset, test: &Dataset, settings: ProbeSettings) -> Result<Vec<f64>> {
        for data in [train, test] {
            if data.labels().is_empty() {
                return Err(Error::Data(format!(
                    "found {} samples without labels, expected labelled ones",
                    data.len()
                )));
            }
            self.check_same_kind(data)?;
        }
        if self.is_recurrent() {
            return Err(Error::Data(
                "layers of a recurrent network answer differently at each moment: no linear probe".into(),
            ));
        }
        let widths: Vec<usize> = std::iter::once(self.sample_width())
            .chain(self.stages().iter().map(|stage| stage.layer.outputs()))
            .collect();
        let mut probes: Vec<Box<dyn Layer>> = widths.iter().map(|&inputs| self.probe_of(inputs)).collect();
        let mut order: Vec<usize> = (0..train.len()).collect();
        let (mut direction, mut answer, mut taken) = (Directions::default(), Activity::default(), 0);
        let steps = settings.epochs * train.len().div_ceil(BATCH) as u64;
        for epoch in 0..settings.epochs {
            order.shuffle(&mut stream(self.recipe().seed.0, "linear probe", epoch));
            for samples in order.chunks(BATCH) {
                let left = 1.0 - taken as f32 / steps as f32;
                let step = Step::new(&of_probes(settings), (2.0 * left).min(1.0), samples.len(), taken);
                taken += 1;
                self.layer_by_layer(train, samples, |l, y, labels| {
                    self.ask(&*probes[l], y, &mut answer);
                    direction.rows.clear();
                    direction.rows.extend(0..labels.len() as u32);
                    cross_entropy(&mut answer.values, labels, &mut direction.values);
                    probes[l].update(y, &direction, &step);
                })?;
            }
        }
        let (mut wrong, all) = (vec![0usize; probes.len()], (0..test.len()).collect::<Vec<_>>());
        for samples in all.chunks(ROWS) {
            self.layer_by_layer(test, samples, |l, y, labels| {
                self.ask(&*probes[l], y, &mut answer);
                answer.values.chunks_exact_mut(self.classes()).for_each(softmax);
                let rows = answer.values.chunks_exact(self.classes()).zip(labels);
                wrong[l] += rows.filter(|(row, label)| best(row) != **label).count();
            })?;
        }
        Ok(wrong.into_iter().map(|wrong| 100.0 * wrong as f64 / test.len() as f64).collect())
    }

    /// A softmax's weights, which start at 0.
    fn probe_of(&self, inputs: usize) -> Box<dyn Layer> {
        let outputs = self.classes();
        let (activation, weights) = (Activation::Linear, vec![0.0; inputs * outputs]);
        engine::dense(self.recipe().engine.precision, Dense { inputs, outputs, activation, bias: true, weights })
    }

    /// A probe's logits `(R, K)`.
    fn ask(&self, probe: &dyn Layer, y: &Inputs<'_>, answer: &mut Activity) {
        answer.resize(y.rows(), self.classes());
        probe.forward(y, answer);
    }

    /// Calls `each` with the input of these samples (0), and with what every layer hands up (1 on), and their labels.
    fn layer_by_layer(
        &self,
        data: &Dataset,
        samples: &[usize],
        mut each: impl FnMut(usize, &Inputs<'_>, &[u32]),
    ) -> Result<()> {
        let (mut batch, mut rows, mut buffers) = (Batch::default(), Labelled::default(), <[Activity; 2]>::default());
        batch.load(self, data, samples.iter().copied());
        rows.fill(self, &batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
        let first = rows.as_inputs(&batch, None);
        each(0, &first, &batch.labels);
        self.sweep(&first, self.depth(), &mut buffers, |l, y| each(l + 1, &y.as_inputs(), &batch.labels));
        self.check_faults()
    }
}

/// The optimiser of the probes.
fn of_probes(settings: ProbeSettings) -> OptimizerSettings {
    OptimizerSettings { rate: settings.rate, momentum: 0.9, weight_cost: 0.0, ..Default::default() }
}
