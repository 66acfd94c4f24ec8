//! Readers of data sets: whatever the file, the answer is an [`onward::Dataset`]; and of [records] that never end.
//!
//! [`open`] finds out what kind of data a path holds. Every reader takes its input for hostile: it refuses wrong magic,
//! short and long files, absurd sizes and numbers that are not finite, says what it found and what it expected, never
//! panics, and allocates nothing that the file could not fill.

mod cifar;
mod detect;
mod error;
mod fetch;
mod folder;
mod idx;
mod npy;
pub mod records;
mod table;
mod text;

pub use detect::{Kind, Loaded, open, open_samples};
pub use error::{Error, Result};
pub use fetch::{Fetching, KNOWN, Known, cache_dir, fetch, known};
pub use folder::{images_below, is_image, read_images};
