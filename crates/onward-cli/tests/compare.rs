//! `onward compare` and `onward bench experiments`.
#![cfg(unix)]

mod common;

use common::finished;
use std::path::Path;
use std::process::{Output, Stdio};

/// A comparison of networks that train in no time.
fn compare(folder: &Path, more: &[&str]) -> Output {
    let tiny =
        ["--limit=400", "--epochs=1", "--progress=none", "--set=network.layers=[24,20]", "--set=data.validation=100"];
    finished(folder, &[&["compare", "default-small", "--out=c"][..], &tiny, more].concat())
}

#[test]
fn a_program_between_layers() {
    let folder = tempfile::tempdir().unwrap();
    // `cat` answers each frame with itself: as if nothing were there.
    let output = compare(folder.path(), &["--black-box=process", "--program=cat"]);
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}");
    assert!(text.contains("backprop: refused.") && text.contains("straight_through"), "{text}");
    let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("rule")).collect();
    assert!(table.len() > 1 && table[0].contains("every-label one-pass combined"), "{text}");
    assert!(table.iter().all(|line| line.chars().count() <= 80), "{text}");
    let settings = std::fs::read_to_string(folder.path().join("c/forward-forward/experiment.toml")).unwrap();
    assert!(settings.contains("command = [\"cat\"]") && settings.contains("outputs = 24"), "{settings}");

    for more in [&["--program=cat"][..], &["--program=cat", "--black-box=noise"]] {
        let output = compare(folder.path(), more);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--program cat: there is no place for it; give --black-box process too"), "{said}");
    }
    let output = compare(folder.path(), &["--black-box=process"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--program <COMMAND>"));
    let fields = "network.layers=[{ kind = \"local\", channels = 4, field = 14, stride = 14 }, 20]";
    let output = compare(folder.path(), &["--black-box=process", "--program=cat", "--set", fields]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("fully connected"));
}

#[test]
fn dropout_is_left_out_where_a_rule_silences_no_units() {
    let folder = tempfile::tempdir().unwrap();
    let dropout = ["--set=network.dropout=0.1", "--rules=backprop,perturbation,random-layers"];
    let output = compare(folder.path(), &dropout);
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}");
    for (rule, share) in [("backprop", "0.1"), ("perturbation", "0.0"), ("random-layers", "0.0")] {
        let note = format!("\n{rule}: without `network.dropout`, as it silences no units.\n");
        assert_eq!(text.contains(&note), share == "0.0", "{text}");
        let settings = std::fs::read_to_string(folder.path().join(format!("c/{rule}/experiment.toml"))).unwrap();
        assert!(settings.contains(&format!("\ndropout = {share}\n")), "{settings}");
    }
    // What is asked for outright is not passed over.
    let output = compare(folder.path(), &["--rules=random-layers", "--set-for=random-layers:network.dropout=0.1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("random-layers: refused. setting `network.dropout`"));
}

#[test]
fn settings_without_effect_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for flag in ["--set=rule=backprop", "--set-for=backprop:rule=random-layers"] {
        let output = compare(folder.path(), &[flag]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("the rules are what is compared; give them as --rules "), "{said}");
    }
    let output = finished(folder.path(), &["compare", "--out=c", "--progress=foo"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("[possible values: auto, "));
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("c").exists());
    // What only the run itself finds out is wrong usage all the same.
    let output = compare(folder.path(), &["--data=nowhere.csv"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("nowhere.csv: ") && said.contains("the run by forward-forward was refused"), "{said}");
}

#[test]
fn without_test_samples_validation_errors_are_compared() {
    let folder = common::points();
    let data = ["--data=points.csv", "--limit=0", "--set=data.validation=60", "--set=network.label=prepend"];
    let rest = ["--out=c", "--epochs=1", "--progress=none", "--set=network.layers=[24,20]"];
    let output = finished(folder.path(), &[&["compare"][..], &data, &rest].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table: Vec<&str> = text.lines().skip_while(|line| line.trim() != "validation error").collect();
    assert!(table.len() > 3 && table[1].contains(" one-pass ") && table[2].contains(" % "), "{text}");
    let said = common::out(folder.path(), &["report", "c/forward-forward", "c/backprop"]);
    assert!(said.starts_with("Mean last validation error ") && said.contains(" one-pass"), "{said}");
}

#[test]
fn asked_to_stop_it_asks_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["compare", "default-small", "--out=c", "--limit=400", "--epochs=100000", "--progress=none"];
    let settings = ["--set=network.layers=[24,20]", "--set=data.validation=100"];
    let mut command = common::onward(folder.path(), &[&arguments[..], &settings].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run = folder.path().join("c/forward-forward");
    common::until(|| run.join("checkpoint/last.safetensors").exists());
    common::signal("TERM", child.id());
    assert_eq!(common::end(child).status.code(), Some(130));
    assert!(!common::in_use(&run) && !folder.path().join("c/backprop").exists());
}

#[test]
fn what_an_experiment_takes() {
    let folder = tempfile::tempdir().unwrap();
    let output = finished(
        folder.path(),
        &["bench", "experiments", "--kind=default-small", "--seconds=0.05", "--json", "--threads=1"],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let line = &found["experiments"][0];
    assert_eq!(line["experiment"], "default-small");
    assert_eq!(line["epochs"], 10);
    let (rate, minutes) = (line["samples_per_second"].as_f64().unwrap(), line["minutes"].as_f64().unwrap());
    assert!((minutes * 60.0 * rate - 10.0 * 10_000.0).abs() < 1.0, "{line}");
}
