//! Records that come one after another, for as long as they come: lines of CSV or JSON, NPY arrays, raw numbers.
//!
//! Whatever comes, a reader goes on: fields that are missing, no numbers or out of range are NaN and counted; what is no record
//! at all is skipped and said. Memory is bounded: a line that never ends is not kept.

mod columns;
mod frames;
mod json;
mod text;

pub use columns::{Columns, LabelColumn, NO_LABEL};
pub(crate) use text::is_missing;

use crate::error::{Error, Result};
use columns::{Layout, Range};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Longer lines, headers and records than this are none.
const LONGEST: usize = 1 << 20;

/// How records are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Fields between these bytes, with or without a line of names first.
    Csv(u8),
    /// An object, or an array, on each line.
    Json,
    /// NPY arrays one after another: of one dimension, a record each; of more, records along the first.
    Npy,
    /// Little-endian `f32`, so many in a record.
    Raw(usize),
}

/// One record. Its memory is used again.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The line or frame it was, from 1.
    pub line: u64,
    /// The features `(F)`; NaN where there is no good value.
    pub values: Vec<f32>,
    /// Its label, where `has_label`.
    pub label: String,
    /// Whether it has one.
    pub has_label: bool,
    /// What names it; empty where nothing does.
    pub id: String,
    /// How many features have no good value, and why.
    pub faults: Faults,
    /// The first of them in words; empty where there is none.
    pub problem: String,
}

/// How many fields are not what they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Empty, `?`, `NA`, `null`, `NaN`, or not there.
    pub missing: u32,
    /// No numbers.
    pub malformed: u32,
    /// Infinite, or outside of the column's range.
    pub out_of_range: u32,
}

impl Faults {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.missing + self.malformed + self.out_of_range
    }
}

impl Record {
    fn clear(&mut self, line: u64, features: usize) {
        self.line = line;
        self.values.clear();
        self.values.resize(features, f32::NAN);
        self.label.clear();
        self.has_label = false;
        self.id.clear();
        self.faults = Faults::default();
        self.problem.clear();
    }
}

/// What came next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A record.
    Record,
    /// Something that is none: what was found, and what was expected.
    Skipped(String),
    /// Nothing yet: the input says that it has waited long enough ([`ErrorKind::TimedOut`]). Ask again.
    Stalled,
    /// Nothing will come any more.
    End,
}

/// A reader of records.
///
/// Two errors of the input are no errors: [`ErrorKind::TimedOut`] where nothing has come for a while, and
/// [`ErrorKind::UnexpectedEof`] where one sender has left and another may come.
#[derive(Debug)]
pub struct Records<R> {
    name: PathBuf,
    input: BufReader<R>,
    format: Format,
    columns: Columns,
    /// Which column is what; known from the first record on, or from the line of names.
    layout: Option<Layout>,
    /// The line of names, as it came, and how many names there are.
    header: Option<(Vec<u8>, usize)>,
    /// The item under way, and whether what belongs to it is being thrown away.
    item: Vec<u8>,
    too_long: bool,
    /// Lines or frames seen.
    line: u64,
    text: text::Text,
    frames: frames::Frames,
}

/// How far an item has come.
enum Item {
    Whole,
    TooLong,
    /// The input ended, or a sender left, in the midst of it.
    Cut,
    Stalled,
    End,
}

impl<R: Read> Records<R> {
    /// Reads records from `input`, which errors call `name`.
    pub fn new(name: impl AsRef<Path>, input: R, format: Format, columns: Columns) -> Self {
        Records {
            name: name.as_ref().to_owned(),
            input: BufReader::with_capacity(1 << 16, input),
            text: text::Text::new(if let Format::Csv(delimiter) = format { delimiter } else { b',' }),
            format,
            columns,
            layout: None,
            header: None,
            item: Vec::new(),
            too_long: false,
            line: 0,
            frames: frames::Frames::default(),
        }
    }

    /// The features' names, or their numbers from 1; empty before the first record.
    pub fn features(&self) -> &[String] {
        self.layout.as_ref().map_or(&[], |layout| &layout.features)
    }

    /// Whether the next record has yet to arrive: a good moment to hand on what is done.
    pub fn is_idle(&self) -> bool {
        let buffer = self.input.buffer();
        match self.format {
            Format::Csv(_) | Format::Json => !buffer.contains(&b'\n'),
            Format::Raw(width) => buffer.len() + self.item.len() < width.saturating_mul(4),
            Format::Npy => buffer.len() + self.item.len() < self.frames.frame_length(),
        }
    }

    /// Reads the next record into `record`.
    ///
    /// # Errors
    /// Where the input cannot be read, or the columns asked for are not there.
    pub fn next(&mut self, record: &mut Record) -> Result<Next> {
        match self.format {
            Format::Csv(_) | Format::Json => self.next_line(record),
            Format::Npy | Format::Raw(_) => self.next_frame(record),
        }
    }

    fn refuse<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(Error::new(&self.name, problem))
    }

    /// Adds to the item up to the end of its line.
    fn read_line(&mut self) -> Result<Item> {
        loop {
            let available = match self.input.fill_buf() {
                Ok([]) if self.item.is_empty() && !self.too_long => return Ok(Item::End),
                Ok([]) => return Ok(self.end_of_item()),
                Ok(available) => available,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::TimedOut => return Ok(Item::Stalled),
                    ErrorKind::UnexpectedEof if self.item.is_empty() && !self.too_long => continue,
                    ErrorKind::UnexpectedEof => return Ok(self.end_of_item()),
                    _ => return Err(Error::unread(&self.name)(error)),
                },
            };
            let end = available.iter().position(|&byte| byte == b'\n');
            let take = end.map_or(available.len(), |end| end + 1);
            self.too_long |= self.item.len() + take > LONGEST;
            match self.too_long {
                true => self.item.clear(),
                false => self.item.extend_from_slice(&available[..take]),
            }
            self.input.consume(take);
            if end.is_some() {
                return Ok(self.end_of_item());
            }
        }
    }

    fn end_of_item(&mut self) -> Item {
        if std::mem::take(&mut self.too_long) { Item::TooLong } else { Item::Whole }
    }

    /// Adds to the item up to `length` bytes.
    fn read_bytes(&mut self, length: usize) -> Result<Item> {
        while self.item.len() < length {
            let available = match self.input.fill_buf() {
                Ok([]) if self.item.is_empty() => return Ok(Item::End),
                Ok([]) => return Ok(Item::Cut),
                Ok(available) => available,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::TimedOut => return Ok(Item::Stalled),
                    ErrorKind::UnexpectedEof if self.item.is_empty() && !self.frames.is_within() => continue,
                    ErrorKind::UnexpectedEof => return Ok(Item::Cut),
                    _ => return Err(Error::unread(&self.name)(error)),
                },
            };
            let take = available.len().min(length - self.item.len());
            self.item.extend_from_slice(&available[..take]);
            self.input.consume(take);
        }
        Ok(Item::Whole)
    }
}

/// Puts a number where it belongs, and counts it where it is none or out of range.
fn take_number(record: &mut Record, layout: &Layout, feature: usize, x: f64) {
    let Range { low, high } = layout.ranges[feature];
    if x.is_nan() {
        record.faults.missing += 1;
        note(record, layout, feature, || "is missing".into());
    } else if !(x as f32).is_finite() || x < low || x > high {
        record.faults.out_of_range += 1;
        note(record, layout, feature, || {
            if low.is_finite() || high.is_finite() {
                format!("is {x}, expected {low} to {high}")
            } else {
                format!("is {x}, expected a finite number")
            }
        });
    } else {
        record.values[feature] = x as f32;
    }
}

/// Puts in words what is wrong with a feature, if it is the first.
fn note(record: &mut Record, layout: &Layout, feature: usize, problem: impl FnOnce() -> String) {
    if record.problem.is_empty() {
        record.problem = format!("line {}: {} {}", record.line, layout.features[feature], problem());
    }
}

/// Some of a text that may be anything, fit to be printed.
fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).trim_end().chars().take(40).collect();
    text.escape_debug().to_string()
}
