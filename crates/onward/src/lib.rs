//! Neural networks trained with forward passes only.
pub mod dataset;
pub mod error;

pub use dataset::{Dataset, Shape, Values};
pub use error::Error;
