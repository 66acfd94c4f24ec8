//! Records in binary: NPY arrays one after another, or nothing but numbers.

use super::columns::{Layout, Role};
use super::{Format, Item, LONGEST, Next, Record, Records, take_number};
use crate::error::Result;
use crate::npy;
use std::io::Read;

/// Raw numbers in a record.
const MOST_RAW: usize = LONGEST / 4;

/// Where the reader is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The array under way.
    array: Option<Array>,
}

impl Frames {
    /// Whether records of an array are still to come.
    pub(super) fn is_within(&self) -> bool {
        self.array.as_ref().is_some_and(|array| array.left > 0)
    }

    /// Bytes of the next record, or those of a header at least.
    pub(super) fn frame_length(&self) -> usize {
        self.array.as_ref().filter(|array| array.left > 0).map_or(10, |array| array.width * array.element.size())
    }
}

#[derive(Debug)]
struct Array {
    element: npy::Element,
    /// Values in a frame.
    width: usize,
    /// Frames to come.
    left: u64,
}

impl<R: Read> Records<R> {
    pub(super) fn next_frame(&mut self, record: &mut Record) -> Result<Next> {
        let (element, width) = match self.format {
            Format::Raw(width @ 1..=MOST_RAW) => (npy::Element::F4, width),
            Format::Raw(width) => {
                return self.refuse(format!("its records have {width} values, expected 1 to {MOST_RAW}"));
            }
            _ => loop {
                if let Some(array) = self.frames.array.as_ref().filter(|array| array.left > 0) {
                    break (array.element, array.width);
                }
                match self.read_header()? {
                    Item::Whole => {}
                    Item::Stalled => return Ok(Next::Stalled),
                    Item::End => return Ok(Next::End),
                    Item::Cut | Item::TooLong => {
                        self.item.clear();
                        return Ok(Next::Skipped("an array is cut short in its header".into()));
                    }
                }
            },
        };
        match self.read_bytes(width * element.size())? {
            Item::Whole => {}
            Item::Stalled => return Ok(Next::Stalled),
            Item::End if self.format == Format::Npy => {
                let left = self.frames.array.take().map_or(0, |array| array.left);
                return Ok(Next::Skipped(format!("an array is cut short: {left} of its records are not there")));
            }
            Item::End => return Ok(Next::End),
            Item::Cut | Item::TooLong => {
                let (found, expected) = (self.item.len(), width * element.size());
                self.item.clear();
                let array = self.frames.array.take();
                return match (found, array) {
                    (0, Some(array)) => {
                        Ok(Next::Skipped(format!("an array is cut short: {} of its records are not there", array.left)))
                    }
                    _ => Ok(Next::Skipped(format!("a record is cut short: found {found} of its {expected} bytes"))),
                };
            }
        }
        self.line += 1;
        self.frames.array = self.frames.array.take().map(|array| Array { left: array.left - 1, ..array });
        let layout = match self.layout.take() {
            Some(layout) if layout.roles.len() == width => layout,
            Some(layout) => {
                let expected = layout.roles.len();
                self.layout = Some(layout);
                self.item.clear();
                return Ok(Next::Skipped(format!("frame {}: found {width} values, expected {expected}", self.line)));
            }
            None => {
                let names = (1..=width).map(|n| n.to_string()).collect();
                self.columns.layout(names, false).or_else(|problem| self.refuse(problem))?
            }
        };
        record.clear(self.line, layout.features.len());
        for (role, bytes) in layout.roles.iter().zip(self.item.chunks_exact(element.size())) {
            place(record, &layout, *role, element.read(bytes));
        }
        self.item.clear();
        self.layout = Some(layout);
        Ok(Next::Record)
    }

    /// Reads the header of the next array, in steps that may stall between bytes.
    fn read_header(&mut self) -> Result<Item> {
        // 8 bytes say how long the length is, the length says how long the rest is.
        let mut length = 8;
        loop {
            match self.read_bytes(length)? {
                Item::Whole => {}
                other => return Ok(other),
            }
            match npy::header_length(&self.item) {
                Ok(more) if more <= self.item.len() => break,
                Ok(more) => length = more,
                Err(problem) => return self.refuse(format!("after record {}: {problem}", self.line)),
            }
        }
        let header = npy::Header::parse(&self.item).or_else(|problem| self.refuse(problem))?;
        self.item.clear();
        let dims = &header.dims;
        let (left, frame) = match dims.len() {
            0 | 1 => (1, &dims[..]),
            _ => (dims[0] as u64, &dims[1..]),
        };
        let width = frame.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        let Some(width) = width else {
            return self.refuse(format!("its header claims frames of {frame:?}: too large"));
        };
        let most = LONGEST / header.element.size();
        if width == 0 || width > most {
            return self.refuse(format!("its records have {width} values, expected 1 to {most}"));
        }
        self.frames.array = Some(Array { element: header.element, width, left });
        Ok(Item::Whole)
    }
}

fn place(record: &mut Record, layout: &Layout, role: Role, x: f64) {
    use std::fmt::Write;
    match role {
        Role::Feature(feature) => take_number(record, layout, feature, x),
        Role::Label if !x.is_nan() => {
            record.has_label = true;
            let _ = write!(record.label, "{x}");
        }
        Role::Id => {
            let _ = write!(record.id, "{x}");
        }
        Role::Label | Role::Ignored => {}
    }
}
