//! Training: batches in, better layers out.

mod rest;
mod trainer;

pub(crate) use trainer::Totals;
pub use trainer::{Position, Trainer};
