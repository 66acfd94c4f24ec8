//! `onward doctor` as its users meet it.

mod common;

use common::finished;
use std::path::Path;
use std::process::Output;

/// Trains a small network on MNIST.
fn train(folder: &Path, out: &str, more: &[&str]) -> Output {
    let small = ["--limit=1500", "--set=network.layers=[32,32]", "--set=data.validation=200", "--epochs=4"];
    let rest = ["--set=training.batch=10", "--threads=1", "--progress=plain", "--out", out];
    finished(folder, &[&["train"][..], &small, &rest, more].concat())
}

fn doctor(folder: &Path, run: &str) -> (Option<i32>, String) {
    let output = finished(folder, &["doctor", run]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn a_run_that_is_well_passes() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a", &["--set=negatives.kind=uniform"]);
    let (code, text) = doctor(folder.path(), "a");
    assert_eq!(text, "a: finished after 4 epochs. Nothing is wrong that can be seen from what the run recorded.");
    assert_eq!(code, Some(0));
}

#[test]
fn a_diverging_run_is_warned_of_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), "a", &["--set=optimizer.kind=adam", "--set=optimizer.rate=1"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\nwarning: step 100: layer 0 explodes: its goodness is "), "{text}");
    assert_eq!(text.matches("layer 0 ").count(), 1, "one warning a layer: {text}");
    let (code, text) = doctor(folder.path(), "a");
    assert_eq!(code, Some(1));
    assert!(text.contains(" 4: layer 0 ") && text.contains("Lower optimizer.rate"), "{text}");
    let json = finished(folder.path(), &["doctor", "a", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(!value["findings"].as_array().unwrap().is_empty());
    assert_eq!(json.status.code(), Some(1));
}

#[test]
fn a_failed_run_says_why() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a", &[]);
    let (run, again) = (folder.path().join("a"), ["train", "--resume", "a"]);
    // The checkpoint is cut short.
    let checkpoint = run.join("checkpoint/last.safetensors");
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    let (code, text) = doctor(folder.path(), "a");
    assert_eq!(code, Some(1));
    assert!(text.contains("it is not a whole safetensors file"), "{text}");
    assert!(text.contains("checkpoint/best.safetensors is whole: use it in its place."), "{text}");

    // The file system fails while training: a directory is where a file should go.
    std::fs::remove_file(run.join("summary.json")).unwrap();
    std::fs::remove_dir_all(run.join("checkpoint")).unwrap();
    std::fs::create_dir_all(run.join("checkpoint/last.safetensors/x")).unwrap();
    std::fs::remove_file(run.join("report.html")).unwrap();
    std::fs::create_dir_all(run.join("report.html/x")).unwrap();
    std::fs::remove_dir_all(run.join("checkpoint/last.safetensors")).unwrap();
    let output = finished(folder.path(), &again);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, text) = doctor(folder.path(), "a");
    assert!(text.contains("Training failed: a/report.html: it could not be written"), "{text}");

    // Put right, it goes on, and the failure is forgotten.
    std::fs::remove_dir_all(run.join("report.html")).unwrap();
    assert!(finished(folder.path(), &again).status.success());
    let (_, text) = doctor(folder.path(), "a");
    assert!(text.starts_with("a: finished after 4 epochs.") && !text.contains("failed"), "{text}");
}

#[test]
fn a_run_without_a_checkpoint_yet_is_waited_for_or_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a", &[]);
    let run = folder.path().join("a");
    for name in ["checkpoint", "metrics.jsonl", "probes.jsonl", "summary.json"] {
        let path = run.join(name);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    std::fs::create_dir(run.join("checkpoint")).unwrap();
    let refused = |command: &str| {
        let output = finished(folder.path(), &[command, "a"]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let lock = std::fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    for command in ["inspect", "report"] {
        let said = refused(command);
        assert!(
            said.contains("a: in training, with no checkpoint yet") && said.ends_with("onward watch a\n"),
            "{said}"
        );
    }
    let (code, text) = doctor(folder.path(), "a");
    assert!(text.starts_with("a: in training, in its first epoch. Nothing is wrong"), "{text}");
    assert_eq!(code, Some(0));

    drop(lock);
    for command in ["inspect", "report"] {
        let said = refused(command);
        assert!(said.ends_with("stopped before its first checkpoint: go on with onward train --resume a\n"), "{said}");
    }
    let (code, text) = doctor(folder.path(), "a");
    assert!(text.contains("It stopped before its first checkpoint. Nothing is lost: onward train --resume"), "{text}");
    assert!(!text.contains("rain it again"), "{text}");
    assert_eq!(code, Some(1));
    assert!(finished(folder.path(), &["train", "--resume", "a"]).status.success());
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = finished(folder.path(), &["doctor", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a run directory"));
}

#[test]
fn a_rival_that_learns_nothing_is_warned_of_while_it_trains() {
    let folder = tempfile::tempdir().unwrap();
    // A step so small that nothing moves: the head keeps guessing.
    let still = ["--set=rule=perturbation", "--set=optimizer.rate=1e-9", "--set=head.rate=1e-9"];
    let output = train(folder.path(), "a", &still);
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("warning: epoch 2, step 300: the one-pass readout is no better than chance: 9"), "{text}");
    assert_eq!(text.matches("warning:").count(), 1, "{text}");

    // Weights that a cost drags to nothing.
    let costly = ["--set=rule=backprop", "--set=optimizer.weight_cost=10", "--set=optimizer.rate=0.09"];
    let output = train(folder.path(), "b", &costly);
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("warning: step 100: layer 0 ") && text.contains("layer 1 "), "{text}");
}
