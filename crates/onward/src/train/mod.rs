//! Training: batches in, better layers out.

mod rest;
mod trainer;

pub(crate) use trainer::Totals;
pub(crate) use trainer::drop_out;
pub use trainer::{Position, Trainer};
