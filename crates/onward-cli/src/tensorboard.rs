//! TensorBoard's event files: TFRecords of protocol buffers, of which scalars need little.

use crate::scalars::Scalar;
use anyhow::{Context, Result};
use onward::checkpoint::write_atomically;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The event file of a run directory, which grows by one event an epoch.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// When training would have begun had it never paused, in seconds since 1970: events are dated by time of training.
    origin: f64,
}

/// What the names of our event files begin and end with; between them is the time at which they were begun.
const NAME: (&str, &str) = ("events.out.tfevents.", ".onward");

/// Numbers at an epoch, after so many seconds of training.
#[derive(Clone, Debug)]
pub struct Event {
    pub epoch: u32,
    pub seconds: f64,
    pub scalars: Vec<Scalar>,
}

impl EventFile {
    /// Begins the file anew with the epochs so far, in place of an earlier one: no point is there twice. The name is a new
    /// one and later in order, and its first event says that training starts over, so that a TensorBoard that reads along
    /// forgets what came before.
    pub fn begin(folder: &Path, so_far: &[Event]) -> Result<Self> {
        let earlier = earlier(folder);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = earlier.iter().map(|(begun, _)| begun + 1).fold(now.as_secs(), u64::max);
        let path = folder.join(format!("{}{begun:010}{}", NAME.0, NAME.1));
        let origin = now.as_secs_f64() - so_far.last().map_or(0.0, |last| last.seconds);
        let mut bytes = record(&[double(1, origin), text(3, "brain.Event:2")].concat());
        const START: u64 = 1;
        bytes.extend(record(&[double(1, origin), message(7, &whole(1, START))].concat()));
        so_far.iter().for_each(|event| bytes.extend(encoded(event, origin)));
        let failed = || format!("{}: it could not be written", path.display());
        write_atomically(&path, &bytes).with_context(failed)?;
        let file = File::options().append(true).open(&path).with_context(failed)?;
        for (_, path) in earlier {
            std::fs::remove_file(&path).with_context(|| format!("{}: it could not be removed", path.display()))?;
        }
        Ok(EventFile { path, file, origin })
    }

    /// Adds an event.
    pub fn add(&mut self, event: &Event) -> Result<()> {
        let written = self.file.write_all(&encoded(event, self.origin));
        written.with_context(|| format!("{}: it could not be written", self.path.display()))
    }
}

/// Our event files in a folder, and when they were begun.
fn earlier(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name.strip_prefix(NAME.0)?.strip_suffix(NAME.1)?.parse().ok()?, entry.path()))
    };
    entries.filter_map(ours).collect()
}

/// `Event { wall_time: 1, step: 2, summary: 5 { value: 1 { tag: 1, simple_value: 2 } } }`.
fn encoded(event: &Event, origin: f64) -> Vec<u8> {
    let value = |(tag, value): &Scalar| message(1, &[text(1, tag), float(2, *value as f32)].concat());
    let summary: Vec<u8> = event.scalars.iter().flat_map(value).collect();
    let step = whole(2, u64::from(event.epoch));
    record(&[double(1, origin + event.seconds), step, message(5, &summary)].concat())
}

/// A TFRecord: the length and its checksum, the data and its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()].concat()
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's checksum, reflected.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc: u32, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

// The wire format of protocol buffers: a field's number and type, then its value.

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn field(number: u64, wire_type: u64, value: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | wire_type), value].concat()
}

fn whole(number: u64, value: u64) -> Vec<u8> {
    field(number, 0, &varint(value))
}

fn double(number: u64, value: f64) -> Vec<u8> {
    field(number, 1, &value.to_le_bytes())
}

fn message(number: u64, inner: &[u8]) -> Vec<u8> {
    field(number, 2, &[&varint(inner.len() as u64), inner].concat())
}

fn text(number: u64, text: &str) -> Vec<u8> {
    message(number, text.as_bytes())
}

fn float(number: u64, value: f32) -> Vec<u8> {
    field(number, 5, &value.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of CRC-32C.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn numbers_are_encoded_as_the_wire_format_has_it() {
        assert_eq!(whole(1, 150), [0x08, 0x96, 0x01]);
        assert_eq!(text(2, "testing"), [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        assert_eq!(float(2, 1.0), [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(double(1, -2.0), [0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }

    #[test]
    fn an_earlier_file_is_replaced_by_one_that_comes_after_it() {
        let folder = tempfile::tempdir().unwrap();
        // Begun by a clock that was far ahead.
        std::fs::write(folder.path().join("events.out.tfevents.9999999998.onward"), "old").unwrap();
        std::fs::write(folder.path().join("events.out.tfevents.1.other"), "not ours").unwrap();
        let event = Event { epoch: 1, seconds: 2.0, scalars: vec![("loss".into(), 0.5)] };
        let mut file = EventFile::begin(folder.path(), std::slice::from_ref(&event)).unwrap();
        file.add(&event).unwrap();
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["events.out.tfevents.1.other", "events.out.tfevents.9999999999.onward"]);
        let bytes = std::fs::read(folder.path().join(&names[1])).unwrap();
        // Both ends of the file are the same event at the same time.
        let end = encoded(&event, file.origin);
        assert!(bytes.ends_with(&[&end[..], &end].concat()));
    }
}
