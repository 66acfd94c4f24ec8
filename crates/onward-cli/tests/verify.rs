//! `onward verify` as its users meet it.

mod common;

use common::finished;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images of 4×4 pixels with one bright column and a lot of noise, as IDX files.
fn write_data(folder: &Path) {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    std::fs::create_dir(folder).unwrap();
    for (name, count) in [("train", 500u32), ("t10k", 200)] {
        let (mut images, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1]);
        [count, 4, 4].iter().for_each(|size| images.extend(size.to_be_bytes()));
        labels.extend(count.to_be_bytes());
        for _ in 0..count {
            let label = random() % 3;
            labels.push(label as u8);
            images.extend((0..16).map(|at| if at % 4 == label + 1 { random() / 2 + 100 } else { random() } as u8));
        }
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// A small run `a` in a folder of its own, on the data beside it.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_data(&folder.path().join("data"));
    let small = ["--data=data", "--set=network.layers=[24,24]", "--set=data.validation=100", "--epochs=3"];
    let rest = ["--set=training.batch=20", "--progress=none", "--out=a"];
    let output = finished(folder.path(), &[&["train"][..], &small, &rest].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// Exit code, and what is said on both streams, in one line.
fn verify(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = finished(folder, &[&["verify", "a", "--progress=none"], more].concat());
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().filter(|line| !line.starts_with("error")).all(|line| line.chars().count() <= 80), "{text}");
    (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn files(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries(run)
        .chain(entries(&run.join("checkpoint")))
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// Changes one JSON file of the run.
fn edit(folder: &Path, name: &str, change: impl Fn(&mut Value)) {
    let path = folder.join("a").join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
}

/// Changes the loss of the second epoch.
fn edit_loss(folder: &Path) {
    let path = folder.join("a/metrics.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines[1]["loss"] = 0.25.into();
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_run_comes_to_the_same_bits_and_stays_as_it_was() {
    let folder = trained();
    let before = files(&folder.path().join("a"));
    let (code, text) = verify(folder.path(), &["--threads=1"]);
    assert_eq!(code, Some(0), "{text}");
    let expected = "Verified: a comes to the same bits: the metrics of 3 epochs, all 13 tensors of its last checkpoint \
                    and its test errors; onward 0.1.0 ";
    assert!(text.starts_with(expected) && text.ends_with(" both times."), "{text}");
    assert_eq!(files(&folder.path().join("a")), before);

    let (code, text) = verify(folder.path(), &["--epochs=1"]);
    let expected = "Verified: a (its first epoch) comes to the same bits: the metrics of one epoch; ";
    assert!(code == Some(0) && text.starts_with(expected), "{text}");

    let output = finished(folder.path(), &["verify", "a/checkpoint/last.safetensors", "--progress=json", "--epochs=2"]);
    let lines: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["start", "epoch", "epoch", "verdict"]);
    assert_eq!((&lines[3]["verified"], &lines[3]["bits"]), (&Value::Bool(true), &Value::Bool(true)));
}

#[test]
fn what_was_tampered_with_is_named() {
    let folder = trained();
    let metrics = std::fs::read(folder.path().join("a/metrics.jsonl")).unwrap();
    edit_loss(folder.path());
    let (code, text) = verify(folder.path(), &[]);
    assert_eq!(code, Some(1));
    let expected = "Not verified: a comes to other bits, and should not: epoch 2: loss was 0.25, is ";
    assert!(text.starts_with(expected) && text.ends_with("error: a was not verified"), "{text}");
    // The first epoch is as it was.
    assert_eq!(verify(folder.path(), &["--epochs=1"]).0, Some(0));
    std::fs::write(folder.path().join("a/metrics.jsonl"), metrics).unwrap();

    // The checkpoint of another run.
    let checkpoint = folder.path().join("a/checkpoint/last.safetensors");
    let original = std::fs::read(&checkpoint).unwrap();
    let output = finished(folder.path(), &["train", "a/experiment.toml", "--seed=2", "--progress=none", "--out=b"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::copy(folder.path().join("b/checkpoint/last.safetensors"), &checkpoint).unwrap();
    let (code, text) = verify(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("should not: the last checkpoint: tensor `") && text.contains("` is another, and "),
        "{text}"
    );

    // One bit of the last weight.
    let mut bytes = original;
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    std::fs::write(&checkpoint, &bytes).unwrap();
    let (code, text) = verify(folder.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("error: a/checkpoint/last.safetensors: "), "{text}");
}

#[test]
fn another_machine_is_held_to_the_errors() {
    let folder = trained();
    edit(folder.path(), "provenance.json", |all| all[0]["vectors"] = "neon".into());
    let (code, text) = verify(folder.path(), &[]);
    assert!(code == Some(0) && text.starts_with("Verified: a comes to the same bits"), "{text}");
    assert!(text.contains(" with neon then, onward 0.1.0 "), "{text}");

    edit_loss(folder.path());
    let (code, text) = verify(folder.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("Verified within tolerance: a: test error, every-label "), "{text}");
    assert!(text.contains("Not to the bit (epoch 2: loss was 0.25, is "), "{text}");

    edit(folder.path(), "summary.json", |summary| summary["test_error"]["one-pass"] = 99.5.into());
    let (code, text) = verify(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("Not verified: a is out of tolerance: ") && text.contains("one-pass 99.50 % then,"),
        "{text}"
    );
    assert_eq!(verify(folder.path(), &["--tolerance=100"]).0, Some(0));
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let folder = trained();
    let refused = |more: &[&str], expected: i32, says: &str| {
        let (code, text) = verify(folder.path(), more);
        assert_eq!(code, Some(expected), "{text}");
        assert!(text.contains(says), "{text}");
    };
    refused(&["--epochs=4"], 2, "--epochs 4: a has 3 epochs");
    refused(&["--epochs=0"], 2, "--epochs");
    refused(&["--tolerance=-1"], 2, "expected 0 to 100");
    let pixels = folder.path().join("data/train-images-idx3-ubyte");
    let original = std::fs::read(&pixels).unwrap();
    let mut changed = original.clone();
    changed[100] ^= 1;
    std::fs::write(&pixels, changed).unwrap();
    refused(&[], 1, "the data at `data` is not what the run was trained on (SHA-256 of the samples then ");
    std::fs::write(&pixels, original).unwrap();
    std::fs::write(folder.path().join("a/provenance.json"), "[{}]").unwrap();
    refused(&[], 2, "provenance.json: not a run's provenance: missing field");
    std::fs::remove_file(folder.path().join("a/provenance.json")).unwrap();
    refused(&["--epochs=1"], 0, "it does not say what trained it; onward 0.1.0");
    std::fs::write(folder.path().join("a/metrics.jsonl"), "").unwrap();
    refused(&[], 2, "metrics.jsonl is damaged: found 0 epochs of 3");
    std::fs::remove_file(folder.path().join("a/summary.json")).unwrap();
    refused(&[], 2, "not finished (it has 0 epochs): verify its first N with --epochs N");
}
