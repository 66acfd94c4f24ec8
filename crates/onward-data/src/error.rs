//! What can be wrong with data.

use std::path::{Path, PathBuf};

/// A path, and what is wrong there: what was found, what was expected, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Says what is wrong at `path`.
    pub fn new(path: &Path, problem: impl Into<String>) -> Self {
        Error { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn unread(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Error::new(path, format!("it could not be read: {error}"))
    }
}

/// A data set, or its refusal with the path.
pub(crate) fn dataset(
    path: &Path,
    shape: onward::Shape,
    values: onward::Values,
    labels: Vec<u32>,
    classes: Vec<String>,
) -> Result<onward::Dataset> {
    onward::Dataset::new(shape, values, labels, classes).map_err(|error| Error::new(path, error.to_string()))
}

/// The most bytes that a packed file of `length` bytes may unpack to: no real data packs so well, and a few kilobytes that
/// claim gigabytes are not read.
pub(crate) fn most_unpacked(length: u64) -> u64 {
    length.saturating_mul(256).max(64 << 20)
}

/// More classes than any data set has: a label above this is a damaged file.
const MOST_CLASSES: u64 = 65_536;

/// Labels that are numbers, as indices with the classes' names `0`, `1`, ….
pub(crate) fn numbered(path: &Path, labels: impl Iterator<Item = u64>) -> Result<(Vec<u32>, Vec<String>)> {
    let labels: Vec<u64> = labels.collect();
    let most = labels.iter().copied().max().unwrap_or(0);
    if most >= MOST_CLASSES {
        return Err(Error::new(path, format!("found label {most}, expected labels below {MOST_CLASSES}")));
    }
    let names = (0..=most).map(|class| class.to_string()).collect();
    Ok((labels.into_iter().map(|label| label as u32).collect(), names))
}
