//! CIFAR-10 and CIFAR-100, binary version: records of one label byte (two in CIFAR-100: coarse, fine) and 3×32×32 pixels.

use crate::error::{Error, Result, dataset};
use onward::{Dataset, Shape, Values};
use std::path::{Path, PathBuf};

const PIXELS: usize = 3 * 32 * 32;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cifar {
    /// Ten classes.
    Ten,
    /// A hundred classes.
    Hundred,
}

impl Cifar {
    fn label_bytes(self) -> usize {
        if self == Cifar::Ten { 1 } else { 2 }
    }

    fn classes(self) -> usize {
        if self == Cifar::Ten { 10 } else { 100 }
    }

    /// Which a file can be, by its length.
    pub fn of_length(length: u64) -> Option<Self> {
        let records = |kind: Cifar| length > 0 && length.is_multiple_of((PIXELS + kind.label_bytes()) as u64);
        [Cifar::Ten, Cifar::Hundred].into_iter().find(|kind| records(*kind))
    }
}

/// The files of a folder as published: training and test.
pub fn find(folder: &Path) -> Option<(Cifar, Vec<PathBuf>, Vec<PathBuf>)> {
    let there = |names: &[&str]| names.iter().map(|name| folder.join(name)).filter(|p| p.is_file()).collect::<Vec<_>>();
    let batches = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
    match (there(&batches), there(&["train.bin"])) {
        (batches, _) if !batches.is_empty() => Some((Cifar::Ten, batches, there(&["test_batch.bin"]))),
        (_, train) if !train.is_empty() => Some((Cifar::Hundred, train, there(&["test.bin"]))),
        _ => None,
    }
}

/// The records of one or more files.
pub fn read(kind: Cifar, files: &[PathBuf]) -> Result<Dataset> {
    let record = PIXELS + kind.label_bytes();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in files {
        let bytes = std::fs::read(path).map_err(Error::unread(path))?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            let problem = format!("it has {} bytes, expected a multiple of {record}: it may be cut short", bytes.len());
            return Err(Error::new(path, problem));
        }
        for (n, bytes) in bytes.chunks_exact(record).enumerate() {
            let label = bytes[kind.label_bytes() - 1];
            if usize::from(label) >= kind.classes() {
                let problem = format!("record {n} has label {label}, expected 0 to {}", kind.classes() - 1);
                return Err(Error::new(path, problem));
            }
            labels.push(u32::from(label));
            pixels.extend_from_slice(&bytes[kind.label_bytes()..]);
        }
    }
    let Some(path) = files.first() else { return Err(Error::new(Path::new("."), "found no CIFAR files")) };
    let names = class_names(path, kind);
    dataset(path, Shape::image(3, 32, 32), Values::Bytes(pixels), labels, names)
}

/// From the text file beside the records, if it is there and complete.
fn class_names(beside: &Path, kind: Cifar) -> Vec<String> {
    let file = if kind == Cifar::Ten { "batches.meta.txt" } else { "fine_label_names.txt" };
    let text = std::fs::read_to_string(beside.with_file_name(file)).unwrap_or_default();
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.len() == kind.classes() { names } else { (0..kind.classes()).map(|class| class.to_string()).collect() }
}
