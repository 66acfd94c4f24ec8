//! The rules that Forward-Forward is compared with, on the same network, data, seed and events.

mod backprop;
mod perturbation;

pub(crate) use backprop::{Backprop, Plan};
pub use perturbation::Estimates;
pub(crate) use perturbation::{Nudge, Perturbation};
