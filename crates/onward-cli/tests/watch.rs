//! `onward watch` as its users meet it: runs that come later, go on, end, or leave half a line; and the status that it reads.

mod common;

use common::onward;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

fn train(folder: &Path, out: &str) {
    let tiny = ["train", "--limit=400", "--set=network.layers=[16,16]", "--set=data.validation=100", "--epochs=2"];
    let rest = ["--set=training.batch=20", "--threads=1", "--progress=none", "--out", out];
    assert!(onward(folder, &[&tiny[..], &rest].concat()).status().unwrap().success());
}

#[test]
fn a_run_that_comes_later_is_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = onward(folder.path(), &["watch", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "Waiting for a run in a");
    train(folder.path(), "a");
    let rest: Vec<String> = lines.filter(|line| line != "a: in training").collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest.len(), 5, "{rest:#?}");
    assert!(rest[0].starts_with("    1/2  loss ") && rest[0].ends_with(" left"), "{rest:#?}");
    assert!(rest[1].starts_with("         goodness +/- ") && rest[1].matches('/').count() == 3, "{rest:#?}");
    assert!(rest[2].starts_with("    2/2  loss ") && !rest[2].contains("left"), "{rest:#?}");
    assert!(rest[4].starts_with("Finished. Test error: every-label "), "{rest:#?}");
    assert!(rest.iter().all(|line| line.chars().count() <= 80), "{rest:#?}");
}

#[test]
fn a_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "").unwrap();
    let output = onward(folder.path(), &["watch", "a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: a: it is no directory; expected that of a run\n");
}

#[test]
fn however_a_run_ended_is_said() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a");
    let run = folder.path().join("a");
    let watch = || {
        let output = onward(folder.path(), &["watch", "a"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let status = || -> Value { serde_json::from_slice(&std::fs::read(run.join("status.json")).unwrap()).unwrap() };
    let tell = |phase: &str, written: f64| {
        let mut status = status();
        (status["phase"], status["written"]) = (phase.into(), written.into());
        std::fs::write(run.join("status.json"), status.to_string()).unwrap();
    };
    tell("stopped", 0.0);
    // Half a line, as a killed run leaves it.
    let mut lines = std::fs::File::options().append(true).open(run.join("metrics.jsonl")).unwrap();
    lines.write_all(b"{\"epoch\":3,\"los").unwrap();
    std::fs::remove_file(run.join("summary.json")).unwrap();
    let (code, out, _) = watch();
    assert_eq!(code, Some(0));
    assert!(out.ends_with("Stopped. Go on with: onward train --resume a\n") && out.contains("    2/2  loss "), "{out}");

    std::fs::write(run.join("failure.txt"), "layer 1 is not finite\n").unwrap();
    let (code, _, error) = watch();
    assert_eq!((code, &error[..]), (Some(1), "error: the run has failed: layer 1 is not finite\n"));

    // A status that was never taken back: the process was killed.
    std::fs::remove_file(run.join("failure.txt")).unwrap();
    tell("training", 1.6e9);
    let (code, out, error) = watch();
    assert_eq!(code, Some(1));
    assert!(!out.contains("Stopped") && error.contains("ended without a word"), "{out}{error}");
    assert!(error.ends_with("Go on with: onward train --resume a\n"), "{error}");
    // What is no status says nothing.
    std::fs::write(run.join("status.json"), "{\"phase\": 7}").unwrap();
    assert!(watch().1.ends_with("Stopped. Go on with: onward train --resume a\n"));

    lines.write_all(b"\n{}\n").unwrap();
    let (code, _, error) = watch();
    assert_eq!(code, Some(2));
    assert!(error.contains("a/metrics.jsonl:3: not a line of it"), "{error}");
}

#[test]
fn a_run_says_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a");
    let text = std::fs::read_to_string(folder.path().join("a/status.json")).unwrap();
    let status: Value = serde_json::from_str(&text).unwrap();
    // 400 samples: 20 steps an epoch.
    let place = ["epochs_done", "epochs", "step", "step_of_epoch", "steps_per_epoch"].map(|key| status[key].as_u64());
    assert_eq!(place, [2, 2, 40, 0, 20].map(Some), "{text}");
    assert_eq!(status["phase"], "finished");
    assert!(status["written"].as_f64().unwrap() > 1.7e9 && status["process"].as_u64().unwrap() > 0, "{text}");
    assert_eq!(status["thresholds"], serde_json::json!([16.0, 16.0]));
    assert!(status["loss"].as_f64().unwrap() > 0.0 && status["seconds"].as_f64().unwrap() > 0.0, "{text}");
    let mut keys: Vec<&String> = status.as_object().unwrap().keys().collect();
    keys.sort();
    let expected = "epochs epochs_done layers loss memory_bytes phase process samples_per_second seconds seconds_left \
                    step step_of_epoch steps_per_epoch thresholds written";
    assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn without_a_terminal_or_a_dashboard_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["train", "--limit=200", "--set=network.layers=[8]", "--set=data.validation=100", "--epochs=1"];
    let rest = ["--set=training.batch=20", "--threads=1", "--progress=tui", "--out=a"];
    let output = onward(folder.path(), &[&arguments[..], &rest].concat()).output().unwrap();
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if cfg!(feature = "tui") {
        assert!(output.status.success(), "{error}");
        assert!(out.contains("\n    1/1 ") && !out.contains('\x1b'), "{out:?}");
    } else {
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains("cargo build --release --features tui"), "{error}");
        assert!(!folder.path().join("a").exists());
        let watch = onward(folder.path(), &["watch", "a", "--progress=tui"]).output().unwrap();
        assert_eq!((watch.status.code(), watch.stdout), (Some(2), vec![]));
    }
}
