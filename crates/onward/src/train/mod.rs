//! Training: batches in, better layers out; or records in, one after another, and no end.

mod directions;
mod moments;
mod one_by_one;
mod one_step;
pub mod pipeline;
mod rest;
mod stage;
pub mod stream;
mod sweeps;
mod totals;
mod trainer;

pub use one_step::one_step;
pub(crate) use stage::{check_finite, check_head, drop_out};
pub(crate) use totals::Totals;
pub use trainer::{Position, Trainer};
