//! The event file of a run: read by a decoder that shares no code with what writes it, and by TensorBoard's own where it is.

mod common;

use common::onward;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn train(folder: &Path, out: &str, more: &[&str]) -> Command {
    let tiny = ["--limit=400", "--set=network.layers=[16,16]", "--set=data.validation=100", "--epochs=4"];
    let rest = ["--set=training.batch=20", "--threads=1", "--progress=none", "--out", out];
    onward(folder, &[&["train"][..], &tiny, &rest, more].concat())
}

/// The one event file of a run.
fn event_file(run: &Path) -> PathBuf {
    let entries = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let mut files = entries.filter(|path| path.to_string_lossy().contains("tfevents"));
    let file = files.next().expect("there is an event file");
    assert_eq!(files.next(), None, "more than one event file");
    file
}

/// CRC-32C a bit at a time, masked as TFRecords have it.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for bit in data.iter().flat_map(|byte| (0..8).map(move |i| u32::from(byte >> i & 1))) {
        crc = if (crc ^ bit) & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes.split_at(N);
    *bytes = rest;
    head.try_into().unwrap()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let [byte] = take(bytes);
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// A message's fields: number, and the value's bytes (of a varint: eight, little endian).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => varint(&mut bytes).to_le_bytes().to_vec(),
            1 => take::<8>(&mut bytes).to_vec(),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                value.to_vec()
            }
            5 => take::<4>(&mut bytes).to_vec(),
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, value));
    }
    all
}

fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
    fields(message).into_iter().find(|(found, _)| *found == number).map(|(_, value)| value)
}

/// Every point of a file by tag and step, checksums and the order of time checked; none may be there twice.
fn points(file: &Path) -> BTreeMap<(String, u64), f32> {
    let bytes = std::fs::read(file).unwrap();
    let mut rest = &bytes[..];
    let (mut points, mut last, mut records) = (BTreeMap::new(), 0.0, 0);
    while !rest.is_empty() {
        let length = take::<8>(&mut rest);
        assert_eq!(u32::from_le_bytes(take(&mut rest)), masked_crc(&length));
        let (event, after) = rest.split_at(u64::from_le_bytes(length) as usize);
        rest = after;
        assert_eq!(u32::from_le_bytes(take(&mut rest)), masked_crc(event));
        let time = f64::from_le_bytes(field(event, 1).unwrap().try_into().unwrap());
        assert!(time >= last, "an event before the one before it");
        last = time;
        match records {
            0 => assert_eq!(field(event, 3).unwrap(), b"brain.Event:2"),
            1 => assert_eq!(field(event, 7).unwrap(), [0x08, 1], "no start of a session"),
            _ => {
                let step = u64::from_le_bytes(field(event, 2).unwrap().try_into().unwrap());
                for (_, value) in fields(&field(event, 5).unwrap()) {
                    let tag = String::from_utf8(field(&value, 1).unwrap()).unwrap();
                    let number = f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap());
                    assert_eq!(points.insert((tag.clone(), step), number), None, "{tag} twice at {step}");
                }
            }
        }
        records += 1;
    }
    points
}

/// The same numbers from the run's own lines and summary.
fn expected(run: &Path) -> BTreeMap<(String, u64), f32> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut all = BTreeMap::new();
    let mut put = |tag: String, step, value: &serde_json::Value| {
        all.insert((tag, step), value.as_f64().unwrap() as f32);
    };
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    for line in lines {
        let step = line["epoch"].as_u64().unwrap();
        ["loss", "head_loss"].into_iter().for_each(|name| put(name.into(), step, &line[name]));
        for readout in ["every-label", "one-pass"] {
            put(format!("validation_error/{readout}"), step, &line["validation_error"][readout]);
        }
        for (l, layer) in line["layers"].as_array().unwrap().iter().enumerate() {
            for family in
                ["goodness_positive", "goodness_negative", "wrong_order", "dead_units", "active_rows", "weight_rms"]
            {
                put(format!("{family}/layer_{l}"), step, &layer[family]);
            }
            put(format!("layer_loss/layer_{l}"), step, &layer["loss"]);
        }
    }
    let summary = std::fs::read(run.join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    for readout in ["every-label", "one-pass", "combined"] {
        put(format!("test_error/{readout}"), 4, &summary["test_error"][readout]);
    }
    all
}

/// What TensorBoard's own reader makes of the file; `None` where there is none. ONWARD_PYTHON names a Python that has it.
fn read_by_tensorboard(run: &Path) -> Option<BTreeMap<(String, u64), f32>> {
    let script = "import sys\n\
        try:\n    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n\
        except ImportError:\n    sys.exit(3)\n\
        events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0}).Reload()\n\
        for tag in events.Tags()['scalars']:\n    for event in events.Scalars(tag):\n        \
        print(tag, event.step, repr(event.value), sep='\\t')\n";
    let python = std::env::var("ONWARD_PYTHON").unwrap_or("python3".into());
    let output = Command::new(python).args(["-c", script]).arg(run).stderr(Stdio::inherit()).output().ok()?;
    if output.status.code() == Some(3) {
        eprintln!("skipped: this Python has no tensorboard; set ONWARD_PYTHON to one that has");
        return None;
    }
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let point = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        ((parts[0].to_owned(), parts[1].parse().unwrap()), parts[2].parse::<f64>().unwrap() as f32)
    };
    Some(text.lines().map(point).collect())
}

#[test]
fn every_number_is_there_once_after_kills_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = train(folder.path(), "a", &[]).spawn().unwrap();
    let (run, start) = (folder.path().join("a"), Instant::now());
    let lines = || std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count();
    while lines() < 2 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What the kill may have left: half an event.
    let file = event_file(&run);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
    // Resumed, and once more when there is nothing left to do.
    for _ in 0..2 {
        assert!(onward(folder.path(), &["train", "--resume", "a", "--threads=1"]).status().unwrap().success());
        let mut found = points(&event_file(&run));
        let by_tensorboard = read_by_tensorboard(&run);
        assert!(by_tensorboard.is_none_or(|theirs| theirs == found), "TensorBoard reads something else");
        let made: Vec<_> =
            found.extract_if(.., |(tag, _), _| ["learning_rate", "samples_per_second"].contains(&&tag[..])).collect();
        assert_eq!(made.len(), 2 * 4);
        assert_eq!(made[0], (("learning_rate".into(), 1), 0.01));
        assert!(made.iter().all(|(_, value)| *value > 0.0));
        assert_eq!(found, expected(&run));
    }
}

#[test]
fn the_same_numbers_as_a_spreadsheet() {
    let folder = tempfile::tempdir().unwrap();
    for out in ["a", "b"] {
        assert!(train(folder.path(), out, &[]).status().unwrap().success());
    }
    let output = onward(folder.path(), &["report", "--csv", "a", "b"]).stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * 4);
    assert!(
        lines[0].starts_with("run,seed,epoch,step,seconds,validation_error/every-label,validation_error/one-pass,")
    );
    assert!(lines[1].starts_with("a,1,1,20,") && lines[8].starts_with("b,1,4,80,"), "{text}");
    let refused = onward(folder.path(), &["report", "--csv", "none"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
