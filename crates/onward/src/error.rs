//! What can go wrong, said so that the reader knows what was found, what was expected and what to do.

use std::path::PathBuf;

/// Everything that this crate refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that is out of range, or two that do not fit together.
    #[error("setting `{key}`: {problem}")]
    Setting {
        /// The setting's key, as in an experiment file (`network.widths`).
        key: String,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// Data that does not fit the network or itself.
    #[error("{0}")]
    Data(String),
    /// A checkpoint that cannot be read, or does not fit.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The checkpoint's path.
        path: PathBuf,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// NaN or infinity while training.
    #[error(
        "layer {layer} produced {found} at step {step}: training has diverged. Lower `optimizer.rate`, \
         check the inputs' scale, or resume from the last checkpoint"
    )]
    NotFinite {
        /// The layer, counted from 0.
        layer: usize,
        /// The step, counted from 0.
        step: u64,
        /// The value found.
        found: f32,
    },
    /// NaN or infinity in the softmax head while training.
    #[error(
        "the softmax head's loss is {found} at step {step}: training has diverged. Lower `head.rate` (and `optimizer.rate`, \
         where the layers learn from the head), or resume from the last checkpoint"
    )]
    HeadNotFinite {
        /// The step, counted from 0.
        step: u64,
        /// The value found.
        found: f64,
    },
    /// A file that the operating system refused to write; the source says why.
    #[error("{}: it could not be written", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl Error {
    /// A refused setting.
    pub fn setting(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Setting { key: key.into(), problem: problem.into() }
    }
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
