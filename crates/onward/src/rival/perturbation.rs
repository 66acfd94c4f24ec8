//! Weight perturbation: all weights are nudged at random, and step along the nudge as far as it helped. It uses forward
//! passes and one number of reward alone, and so works through anything; but that number is shared by all weights, and
//! the variance of what each learns from it grows with how many there are (paper, section 1).

use crate::batch::{Batch, Label, Labelled};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::objective::cross_entropy;
use crate::pass::Activity;
use crate::train::check_head;
use serde::{Deserialize, Serialize};

/// Memory of a step, used again by the next.
#[derive(Debug, Default)]
pub(crate) struct Perturbation {
    rows: Labelled,
    buffers: [Activity; 2],
    answer: Activity,
    logits: Vec<f32>,
    d: Vec<f32>,
}

/// What a run of perturbations measured: each estimate is the slope of the loss along a random direction, per unit of
/// weight change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimates {
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Estimates {
    /// The variance of the estimates.
    pub fn variance(&self) -> f64 {
        let n = self.count.max(1) as f64;
        (self.squares / n - (self.sum / n).powi(2)).max(0.0)
    }
}

/// Where the nudges of a step come from, and how far they and the step go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nudge {
    /// The seed of all random streams.
    pub seed: u64,
    /// Steps taken.
    pub taken: u64,
    /// How far each weight is nudged.
    pub size: f32,
    /// The learning rate, before it is divided by the number of parameters.
    pub rate: f32,
}

impl Perturbation {
    /// Bytes of activities held.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().map(Activity::bytes).sum::<usize>() + self.logits.capacity() * size_of::<f32>()
    }

    /// One step on a batch: the loss with all weights nudged one way and the other, and a step along the nudge. Returns the
    /// mean cross-entropy of the two.
    ///
    /// # Errors
    /// [`Error::HeadNotFinite`] where the loss overflows; [`Error::Setting`] where a layer cannot be nudged.
    pub fn step(
        &mut self,
        network: &mut Network,
        batch: &Batch,
        nudge: Nudge,
        estimates: &mut Estimates,
    ) -> Result<f64> {
        let size = nudge.size;
        perturb(network, nudge, size)?;
        let above = self.loss(network, batch);
        perturb(network, nudge, -2.0 * size)?;
        let below = self.loss(network, batch);
        let slope = (above - below) / f64::from(2.0 * size);
        check_head(slope, nudge.taken)?;
        estimates.count += 1;
        estimates.sum += slope;
        estimates.squares += slope * slope;
        let along = -f64::from(nudge.rate) * slope / network.parameters() as f64;
        perturb(network, nudge, size + along as f32)?;
        Ok(0.5 * (above + below))
    }

    /// The mean cross-entropy of a batch.
    fn loss(&mut self, network: &Network, batch: &Batch) -> f64 {
        let Perturbation { rows, buffers, answer, logits, d } = self;
        rows.fill(network, batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
        let head = network.head().expect("checked: the reward is the head's");
        logits.clear();
        logits.resize(batch.len() * network.classes(), 0.0);
        let x = rows.as_inputs(batch, None);
        let add = |l: usize, y: &Activity| _ = head.add(l, &y.as_inputs(), answer, logits);
        network.sweep(&x, network.depth(), buffers, add);
        cross_entropy(logits, &batch.labels, d) / batch.len() as f64
    }
}

/// Moves every weight by `amount`, up or down as the step's stream says: always the same way within a step.
fn perturb(network: &mut Network, nudge: Nudge, amount: f32) -> Result<()> {
    let head = network.head.iter_mut().flat_map(|head| head.layers.iter_mut());
    let layers = network.stages.iter_mut().map(|stage| &mut stage.layer).chain(head);
    for (l, layer) in layers.enumerate() {
        if !layer.perturb(nudge.seed, nudge.taken << 16 | l as u64, amount) {
            return Err(Error::setting("rule", format!("layer {l} has no weights that perturbation could nudge")));
        }
    }
    Ok(())
}
