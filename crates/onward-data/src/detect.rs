//! What kind of data a path holds.

use crate::cifar::{self, Cifar};
use crate::error::{Error, Result};
use crate::{folder, idx, npy, table, text};
use onward::{Dataset, Shape};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IDX files, raw or gzipped.
    Idx,
    /// CIFAR-10 or CIFAR-100, binary version.
    Cifar,
    /// Comma-separated values.
    Csv,
    /// A NumPy array.
    Npy,
    /// A NumPy archive.
    Npz,
    /// Folders of images by class.
    Folder,
    /// A text.
    Text,
}

impl Kind {
    /// Whether samples come in an order that is part of the data: sets that are published to be compared by, and texts.
    pub fn has_order(self) -> bool {
        !matches!(self, Kind::Csv | Kind::Npy | Kind::Npz | Kind::Folder)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Idx => "IDX",
            Kind::Cifar => "CIFAR binary",
            Kind::Csv => "CSV",
            Kind::Npy => "NPY",
            Kind::Npz => "NPZ",
            Kind::Folder => "images by class",
            Kind::Text => "text",
        })
    }
}

/// What was found at a path.
#[derive(Debug)]
pub struct Loaded {
    /// Samples to train on.
    pub train: Dataset,
    /// Samples to test on, where the data has a split of its own.
    pub test: Option<Dataset>,
    /// What kind of data it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// What the reader had to leave out, where that should be known.
    pub note: Option<String>,
}

/// Training and test samples.
pub(crate) struct Split {
    pub train: Dataset,
    pub test: Option<Dataset>,
    pub note: Option<String>,
}

impl Split {
    /// All that was there.
    pub fn whole(train: Dataset, test: Option<Dataset>) -> Self {
        Split { train, test, note: None }
    }
}

/// Reads the data at `path`, whatever its kind.
///
/// # Errors
/// [`Error`] saying what is there instead, or what is wrong with it.
pub fn open(path: &Path) -> Result<Loaded> {
    let found = std::fs::metadata(path).map_err(Error::unread(path))?;
    let (kind, split) = if found.is_dir() { open_folder(path)? } else { open_file(path, found.len(), None)? };
    let Split { train, test, note } = split;
    if let Some(test) = &test
        && (test.shape() != train.shape() || test.classes().len() > train.classes().len())
    {
        let problem = format!(
            "its training samples are {} in {} classes, its test samples {} in {}: expected the same",
            train.shape(),
            train.classes().len(),
            test.shape(),
            test.classes().len()
        );
        return Err(Error::new(path, problem));
    }
    Ok(Loaded { train, test, kind, path: path.to_owned(), note })
}

/// Reads samples of `shape`, labelled or not: a CSV file may hold nothing but features. Where the data has a test split,
/// its samples.
///
/// # Errors
/// As [`open`]; also where the samples have another shape.
pub fn open_samples(path: &Path, shape: Shape) -> Result<Dataset> {
    let found = std::fs::metadata(path).map_err(Error::unread(path))?;
    let (_, Split { train, test, .. }) =
        if found.is_dir() { open_folder(path)? } else { open_file(path, found.len(), Some(shape.len()))? };
    let data = test.unwrap_or(train);
    if data.shape() != shape {
        return Err(Error::new(path, format!("its samples are {}, expected {shape}", data.shape())));
    }
    Ok(data)
}

fn open_folder(path: &Path) -> Result<(Kind, Split)> {
    if let Some((images, labels)) = idx::find(path, &["train"]) {
        let test = idx::find(path, &["t10k", "test"]);
        let test = test.map(|(images, labels)| idx::read(&images, labels.as_deref())).transpose()?;
        return Ok((Kind::Idx, Split::whole(idx::read(&images, labels.as_deref())?, test)));
    }
    if let Some((kind, train, test)) = cifar::find(path) {
        let test = if test.is_empty() { None } else { Some(cifar::read(kind, &test)?) };
        return Ok((Kind::Cifar, Split::whole(cifar::read(kind, &train)?, test)));
    }
    if folder::is(path) {
        return Ok((Kind::Folder, folder::read(path)?));
    }
    let names: Vec<String> = folder::entries(path)?
        .iter()
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let listed = match names.len() {
        0 => "nothing".into(),
        1..=5 => names.join(", "),
        n => format!("{}, … ({n} entries)", names[..4].join(", ")),
    };
    Err(Error::new(
        path,
        format!(
            "found {listed}; expected IDX files (train-images-idx3-ubyte, …), CIFAR batches (data_batch_1.bin, …), \
             or a folder of PNG or JPEG images for each class"
        ),
    ))
}

/// `features`: of how many values a sample is, where that is known.
fn open_file(path: &Path, length: u64, features: Option<usize>) -> Result<(Kind, Split)> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::unread(path))?;
    file.take(1_000).read_to_end(&mut start).map_err(Error::unread(path))?;
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
    let alone = |train: Result<Dataset>| train.map(|train| Split::whole(train, None));
    let magic = &start[..start.len().min(8)];
    match magic {
        [] => Err(Error::new(path, "it is empty")),
        [0x1f, 0x8b, ..] | [0, 0, 8, 1..=4, ..] => {
            Ok((Kind::Idx, alone(idx::read(path, idx::labels_beside(path).as_deref()))?))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Ok((Kind::Npy, alone(npy::read(path))?)),
        [b'P', b'K', 3 | 5, ..] => Ok((Kind::Npz, npy::read_archive(path)?)),
        _ if end == "txt" && text::is(&start) => Ok((Kind::Text, text::read(path, length)?)),
        _ if matches!(&*end, "csv" | "txt" | "data") => Ok((Kind::Csv, alone(table::read(path, features))?)),
        _ => match Cifar::of_length(length) {
            Some(kind) if end == "bin" => Ok((Kind::Cifar, alone(cifar::read(kind, &[path.to_owned()]))?)),
            _ => Err(Error::new(
                path,
                format!(
                    "its first bytes are {magic:02x?} and its name ends in \"{end}\"; expected IDX (raw or gzipped), NPY, \
                     NPZ, CIFAR (.bin), CSV (.csv) or a text (.txt)"
                ),
            )),
        },
    }
}
