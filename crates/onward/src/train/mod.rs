//! Training: batches in, better layers out.

mod trainer;

pub use trainer::Trainer;
