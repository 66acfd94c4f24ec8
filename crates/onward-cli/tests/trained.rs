//! `eval`, `predict`, `inspect` and `data` on a network trained here.

mod common;

use assert_cmd::cargo::cargo_bin;
use common::onward;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    onward(folder, arguments).env("ONWARD_DATA", folder.join("cache")).output().unwrap()
}

fn out(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], expected: &str) {
    let output = run(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(expected), "{arguments:?}: {said}");
}

/// A folder with a run `a`, of a network that knows some digits.
fn trained() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["network.layers=[64,64]", "data.validation=200", "training.batch=20"];
    let mut arguments = vec!["train", "--limit=2000", "--epochs=4", "--out=a", "--progress=none", "--seed=5"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    out(folder.path(), &arguments);
    folder
}

/// Test digit `n` as an image file.
fn digit(folder: &Path, name: &str, n: usize) {
    let test = onward_mnist::test();
    let onward::Values::Bytes(pixels) = test.values() else { unreachable!() };
    let image = image::GrayImage::from_raw(28, 28, pixels[n * 784..(n + 1) * 784].to_vec()).unwrap();
    std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    image.save(folder.join(name)).unwrap();
}

#[test]
fn a_trained_network_is_evaluated_inspected_and_used() {
    let folder = trained();
    let folder = folder.path();
    let summary: Value = serde_json::from_slice(&std::fs::read(folder.join("a/summary.json")).unwrap()).unwrap();

    let eval: Value = serde_json::from_str(&out(folder, &["eval", "a", "--json"])).unwrap();
    for readout in ["every-label", "one-pass", "combined"] {
        assert_eq!(eval["readouts"][readout]["error"], summary["test_error"][readout], "{readout}");
        assert_eq!(eval["readouts"][readout]["confusion"], summary["test_confusion"][readout], "{readout}");
    }
    let text = out(folder, &["eval", "a/checkpoint/best.safetensors", "--readout=one-pass", "--split=train"]);
    assert!(text.contains("of 60,000") && !text.contains("every-label"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let text = out(folder, &["eval", "a", "--readout=combined"]);
    assert!(text.contains("\ncombined ") && !text.contains("every-label"), "{text}");
    // The best network is from before there were weights; it may also be the same as the last.
    refused(
        folder,
        &["eval", "a/checkpoint/best.safetensors", "--readout=combined"],
        "without weights of both readouts, which samples held",
    );
    refused(folder, &["export", "a", "--out=a.h", "--readout=combined"], "which is two, goes into .onnx alone");
    let text = out(folder, &["export", "a", "--out=a.onnx", "--readout=combined"]);
    assert!(text.starts_with("a.onnx: combined readout, "), "{text}");

    let text = out(folder, &["eval", "a", "--readout=one-pass", "--probe", "--data=mnist"]);
    let probed: Vec<f64> = ["input", "layer 0", "layer 1"]
        .iter()
        .map(|name| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().rev().nth(1).unwrap())
        .map(|error| error.parse().unwrap())
        .collect();
    // A linear softmax on the pixels, after five passes over 10,000 digits, is wrong on about a tenth.
    assert!((8.0..14.0).contains(&probed[0]) && probed[1..].iter().all(|error| *error < 20.0), "{text}");

    let text = out(folder, &["inspect", "a", "--tensors"]);
    for expected in ["default, seed 5", "after epoch 4 and 400 steps: finished", "784→64", "network.layers = [64, 64]"]
    {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(text.contains("layers.0.weight.smoothed") && text.contains("[64, 784]"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // The columns of the first layer: shape, parameters, weight rms, goodness, pairs in the wrong order, dead units.
    let layer = text.lines().find(|line| line.contains("784→64")).unwrap();
    assert_eq!(layer.split_whitespace().count(), 8, "{layer}");
    std::fs::copy(folder.join("a/checkpoint/last.safetensors"), folder.join("bare.safetensors")).unwrap();
    let text = out(folder, &["inspect", "bare.safetensors"]);
    assert!(text.contains("no run directory; seed 5") && text.contains("training.epochs = 4"), "{text}");
    assert!(!text.contains("finished") && !text.contains("goodness of"), "{text}");
    refused(folder, &["eval", "bare.safetensors"], "say which data with --data");
    let inspect: Value = serde_json::from_str(&out(folder, &["inspect", "a", "--json"])).unwrap();
    assert_eq!((&inspect["parameters"], inspect["metrics"].as_array().unwrap().len()), (&summary["parameters"], 4));

    for (n, name) in ["images/0.png", "images/1.png", "images/2.png"].iter().enumerate() {
        digit(folder, name, n);
    }
    let csv = out(folder, &["predict", "a", "images"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "file,label,probability,p_0,p_1,p_2,p_3,p_4,p_5,p_6,p_7,p_8,p_9");
    assert_eq!(lines.len(), 4);
    let fields: Vec<&str> = lines[1].split(',').collect();
    assert_eq!((fields[0], fields[1]), ("images/0.png", "7"), "the first test digit is an easy 7");
    let sum: f64 = fields[3..].iter().map(|p| p.parse::<f64>().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");

    let arguments =
        ["predict", "a", "images/0.png", "--format=json", "--top=2", "--output=out.json", "--readout=every-label"];
    assert_eq!(out(folder, &arguments), "");
    let line: Value = serde_json::from_slice(&std::fs::read(folder.join("out.json")).unwrap()).unwrap();
    assert_eq!(line["probabilities"].as_object().unwrap().len(), 2);

    // One bad file is named and left out; the others are answered all the same.
    std::fs::write(folder.join("images/bad.png"), "no image").unwrap();
    let output = run(folder, &["predict", "a", "images"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 4);
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.png: it is no whole PNG"));

    image::GrayImage::new(5, 6).save(folder.join("small.png")).unwrap();
    refused(folder, &["predict", "a", "small.png"], "it is 6×5 (height×width), the network expects 28×28");
    assert_eq!(out(folder, &["predict", "a", "small.png", "--resize"]).lines().count(), 2);
    refused(folder, &["predict", "a", "nothing.png"], "nothing.png");
}

#[test]
fn what_is_no_trained_network_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("damaged.safetensors"), [8; 100]).unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    for command in ["eval", "inspect"] {
        refused(folder, &[command, "none"], "none: cannot be opened");
        refused(folder, &[command, "empty"], "not a run directory");
        #[cfg(unix)]
        refused(folder, &[command, "/dev/zero"], "neither a file nor a directory");
        refused(folder, &[command, "damaged.safetensors"], "not a whole safetensors file");
    }
    refused(folder, &["predict", "empty", "x.png"], "not a run directory");
}

#[test]
fn the_run_of_a_checkpoint_is_found_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--limit=100", "--set=network.layers=[8]", "--set=training.batch=20", "--epochs=1", "--out=a"];
    out(folder.path(), &[&["train", "--progress=none"][..], &small].concat());
    std::fs::remove_file(folder.path().join("a/summary.json")).unwrap();
    for (at, checkpoint, run) in [
        (".", "a/checkpoint/last.safetensors", "a"),
        ("a", "checkpoint/last.safetensors", "."),
        ("a", "checkpoint", "."),
        ("a/checkpoint", "last.safetensors", ".."),
        ("a/checkpoint", "../checkpoint/last.safetensors", ".."),
    ] {
        let text = out(&folder.path().join(at), &["inspect", checkpoint]);
        assert!(text.contains(&format!("go on with onward train --resume {run}\n")), "{at}, {checkpoint}: {text}");
    }
}

#[test]
fn data_is_listed_shown_and_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let list = out(folder, &["data"]);
    assert!(list.contains("built in") && list.contains("fashion-mnist") && list.contains("cache"), "{list}");
    let show = out(folder, &["data", "show", "-n", "2", "--class", "3", "--split", "test"]);
    assert!(show.contains("3 #18") && show.contains("1,010"), "{show}");
    for text in [&list, &show] {
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
    refused(folder, &["data", "show", "nowhere"], "nowhere: it could not be read");
    for command in [&["train", "--data"][..], &["data", "show"]] {
        let expected = "expected a file, a folder or a data set that `onward data` lists; did you mean `mnist`?";
        refused(folder, &[command, &["emnist"]].concat(), expected);
    }
    refused(folder, &["data", "show", "--class", "eleven"], "no class `eleven`");
    refused(folder, &["data", "fetch", "mnst"], "no data set `mnst`");
    refused(folder, &["train", "--data", "fashion-mnist"], "onward data fetch fashion-mnist");

    // What an interrupted download leaves is no data set.
    std::fs::create_dir_all(folder.join("cache/fashion-mnist")).unwrap();
    std::fs::write(folder.join("cache/fashion-mnist/train-images-idx3-ubyte.gz.part"), "half").unwrap();
    let list = out(folder, &["data", "list"]);
    assert!(list.lines().any(|line| line.starts_with("fashion-mnist") && line.ends_with("to be fetched")), "{list}");
    refused(folder, &["data", "show", "fashion-mnist"], "onward data fetch fashion-mnist");

    std::fs::write(folder.join("few.csv"), "1,2,ant\n3,4,bumblebee\n5,6,ant\n").unwrap();
    let show = out(folder, &["data", "show", "few.csv"]);
    assert!(show.contains("3 training samples of 1×1×2, 2 classes"), "{show}");
    assert!(show.ends_with("\nant #0: 1 2\nbumblebee #1: 3 4\nant #2: 5 6\n"), "{show}");
    refused(folder, &["data", "show", "few.csv", "--split=test"], "no test samples apart");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = Command::new(cargo_bin!("onward"))
        .args(["data", "show", "-n", "60000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
