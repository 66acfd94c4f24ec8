//! The cost model: what a training step takes at least on this machine, its products at the processor's measured peak and its
//! weights at the memory's measured rate, nothing else counted. See docs/performance.md.

use onward::Trainer;
use onward::engine::limits::{bandwidth, peak_flops};
use onward::settings::{LabelPlace, LayerSettings, Precision, Rule};

/// Bytes that a step of the optimiser moves for each weight: weight and smoothed gradient, read and written.
const BYTES_PER_WEIGHT: f64 = 16.0;

/// Bytes of a buffer that the last cache holds, and of one that it does not.
pub const BUFFERS: [(&str, usize); 2] = [("cache", 8 << 20), ("memory", 256 << 20)];

/// What this machine can do with so many threads.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    f32_flops: Option<f64>,
    bf16_flops: Option<f64>,
    /// Bytes a second, of [`BUFFERS`].
    bandwidth: [f64; 2],
}

impl Limits {
    /// Measures them: a second or two.
    pub fn measure(threads: usize) -> Self {
        Limits {
            f32_flops: peak_flops(Precision::F32, threads),
            bf16_flops: peak_flops(Precision::Bf16, threads),
            bandwidth: BUFFERS.map(|(_, bytes)| bandwidth(bytes, threads)),
        }
    }

    /// Seconds that reading `bytes` takes at least.
    pub fn reading(&self, bytes: f64) -> f64 {
        // `bandwidth` counts a byte read and written as two; here every byte is read once.
        bytes / self.bandwidth[usize::from(bytes > 24e6)]
    }

    /// Seconds that a step of this training takes at least, with as many active rows as it had so far.
    pub fn step(&self, trainer: &Trainer) -> Option<f64> {
        let recipe = trainer.recipe();
        let peak = match recipe.engine.precision {
            Precision::F32 => self.f32_flops?,
            Precision::Bf16 => self.bf16_flops?,
            Precision::Reference => return None,
        };
        let (mut multiply_adds, mut weights) = (0.0, 0.0);
        let batch = recipe.training.batch as f64;
        for (l, stage) in trainer.network().stages().iter().enumerate() {
            multiply_adds += stage.layer.multiply_adds() as f64 * batch * rows(trainer, l);
            weights += stage.layer.parameters() as f64;
        }
        let moments = f64::from(recipe.recurrent.iterations.max(1));
        let bytes = match recipe.rule {
            Rule::ForwardForward | Rule::Backprop => weights * BYTES_PER_WEIGHT * moments,
            Rule::Perturbation => weights * 3.0 * 8.0,
            Rule::RandomLayers => weights * 4.0,
        };
        let fits = weights * 8.0 < 24e6;
        Some(2.0 * multiply_adds / peak + bytes / self.bandwidth[usize::from(!fits)])
    }
}

/// Rows of layer `l`'s products in a step, forward and for the gradient, for each sample of the batch.
fn rows(trainer: &Trainer, l: usize) -> f64 {
    let recipe = trainer.recipe();
    match recipe.rule {
        Rule::Backprop => return if l == 0 { 2.0 } else { 3.0 },
        Rule::Perturbation => return 2.0,
        Rule::RandomLayers => return 1.0,
        Rule::ForwardForward => {}
    }
    let active = trainer.active_rows();
    let other_inputs = !recipe.negatives.kind.changes_labels();
    if recipe.recurrent.iterations > 0 {
        let start = if other_inputs { 3.0 } else { 1.0 };
        return start + f64::from(recipe.recurrent.iterations) * 2.0 * (1.0 + active);
    }
    let label = recipe.network.label != LabelPlace::None;
    let shared = label && matches!(recipe.network.layers[0], LayerSettings::Dense(_));
    match l {
        // The image's product serves the neutral, the positive and the negative row; so does its gradient.
        0 if shared && !other_inputs => 1.0 + active,
        0 if shared => 2.0 * (1.0 + active),
        _ if !label || trainer.network().head().is_none() => 2.0 * (1.0 + active),
        _ => 3.0 + 2.0 * active,
    }
}
