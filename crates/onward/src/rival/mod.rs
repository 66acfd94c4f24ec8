//! The rules that Forward-Forward is compared with, on the same network, data, seed and events.

mod backprop;
mod perturbation;

pub(crate) use backprop::{Backprop, Plan};
pub use perturbation::Estimates;
pub(crate) use perturbation::{Nudge, Perturbation};

use crate::readout::softmax;

/// Turns logits `(R, K)` into probabilities and `d = target − p: (R, K)`, uphill in log likelihood. Returns the summed
/// cross-entropy.
pub(crate) fn cross_entropy(logits: &mut [f32], labels: &[u32], d: &mut Vec<f32>) -> f64 {
    let classes = logits.len() / labels.len().max(1);
    d.resize(logits.len(), 0.0);
    let mut loss = 0.0;
    for ((p, d), &label) in logits.chunks_exact_mut(classes).zip(d.chunks_exact_mut(classes)).zip(labels) {
        softmax(p);
        d.iter_mut().zip(p.iter()).for_each(|(d, p)| *d = -p);
        d[label as usize] += 1.0;
        loss -= f64::from(p[label as usize].max(f32::MIN_POSITIVE).ln());
    }
    loss
}
