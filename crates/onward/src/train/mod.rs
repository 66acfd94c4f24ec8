//! Training: batches in, better layers out; or records in, one after another, and no end.

mod rest;
pub mod stream;
mod trainer;

pub(crate) use trainer::Totals;
pub(crate) use trainer::drop_out;
pub use trainer::{Position, Trainer};
