//! `predict` and `eval` on data that comes in every shape, and on whoever reads along.

mod common;

use common::{finished, onward, out};
use image::GrayImage;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use tempfile::TempDir;

/// A folder with a run `run`, of a network that tells three kinds apart by two numbers.
fn trained() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let line = |i: usize| {
        let (class, along) = (i % 3, (i % 7) as f32 / 10.0);
        let [x, y] = [[3.0, along], [-2.0, 2.0 + along], [-2.0, -2.0 - along]][class];
        format!("{x},{y},{}\n", ["ant", "bee", "cat"][class])
    };
    let lines: Vec<String> = (0..300).map(line).collect();
    std::fs::write(folder.path().join("train.csv"), format!("x,y,kind\n{}", lines.concat())).unwrap();
    // Another file: fewer classes, in another order.
    std::fs::write(folder.path().join("other.csv"), [&lines[2][..], &lines[1], &lines[5]].concat()).unwrap();
    std::fs::write(folder.path().join("plain.csv"), "x,y\n3,0.1\n-2,2.1\n-2,-2.1\n").unwrap();
    let settings = ["network.layers=[32]", "network.label=prepend", "data.validation=30", "training.batch=10"];
    let mut arguments = vec!["train", "--data=train.csv", "--out=run", "--epochs=20", "--progress=none"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    out(folder.path(), &arguments);
    folder
}

#[test]
fn data_files_are_labelled_and_evaluated_by_class_name() {
    let folder = trained();
    let folder = folder.path();

    let csv = out(folder, &["predict", "run", "plain.csv", "other.csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "file,label,probability,p_ant,p_bee,p_cat");
    let labels: Vec<String> = lines[1..].iter().map(|l| l.split(',').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        labels,
        [
            "plain.csv[0] ant",
            "plain.csv[1] bee",
            "plain.csv[2] cat",
            "other.csv[0] cat",
            "other.csv[1] bee",
            "other.csv[2] cat"
        ]
    );
    let top = out(folder, &["predict", "run", "plain.csv", "--top=9", "--readout=every-label"]);
    assert!(top.starts_with("file,label,probability,label_2,probability_2,label_3,probability_3\n"), "{top}");

    let eval: Value = serde_json::from_str(&out(folder, &["eval", "run", "--data=other.csv", "--json"])).unwrap();
    assert_eq!(eval["readouts"]["one-pass"]["confusion"], serde_json::json!([[0, 0, 0], [0, 1, 0], [0, 0, 2]]));

    std::fs::write(folder.join("strange.csv"), "1,2,dog\n").unwrap();
    let output = finished(folder, &["eval", "run", "--data=strange.csv"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("strange.csv: the data has a class `dog`, the network knows ant, bee, cat"), "{said}");
}

#[test]
fn files_that_do_not_fit_are_left_out_and_the_answer_is_whole_or_not_there() {
    let folder = trained();
    let folder = folder.path();
    std::fs::write(folder.join("wide.csv"), "1,2,3,a\n").unwrap();
    GrayImage::new(2, 1).save(folder.join("far.png")).unwrap();
    let output =
        finished(folder, &["predict", "run", "wide.csv", "none.csv", "plain.csv", "far.png", "--output=out.csv"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in ["wide.csv: its samples are 1×1×3, expected 1×1×2", "none.csv: ", "2 of the files"] {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
    let written = std::fs::read_to_string(folder.join("out.csv")).unwrap();
    assert_eq!(written.lines().filter(|line| line.starts_with("plain.csv[")).count(), 3, "{written}");
    assert!(written.contains("far.png,"), "an image of 1×2 pixels has two numbers: {written}");

    // A network that cannot be read leaves what was there, and no scratch file.
    let before = std::fs::read_dir(folder).unwrap().count();
    let bytes = std::fs::read(folder.join("run/checkpoint/last.safetensors")).unwrap();
    std::fs::write(folder.join("run/checkpoint/last.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    let output = finished(folder, &["predict", "run", "plain.csv", "--output=out.csv"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("last.safetensors: it is not a whole safetensors file"));
    assert_eq!(std::fs::read_to_string(folder.join("out.csv")).unwrap(), written);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), before);
}

#[test]
fn a_network_without_a_head_is_read_out_by_every_label() {
    let folder = trained();
    let folder = folder.path();
    let mut arguments = vec!["train", "--data=train.csv", "--out=headless", "--epochs=1", "--progress=none"];
    let settings = ["head.enabled=false", "negatives.kind=uniform", "network.layers=[8]", "network.label=prepend"];
    arguments.extend(settings.iter().chain(&["data.validation=0"]).flat_map(|setting| ["--set", setting]));
    out(folder, &arguments);
    assert_eq!(out(folder, &["predict", "headless", "plain.csv"]).lines().count(), 4);
    assert!(!out(folder, &["eval", "headless"]).contains("one-pass"));
    for arguments in [&["eval", "headless", "--readout=both"][..], &["predict", "headless", "x", "--readout=one-pass"]]
    {
        let output = finished(folder, arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("last.safetensors: it was trained without the softmax head"), "{said}");
        assert!(said.contains("use --readout every-label"), "{said}");
    }
}

#[test]
fn a_network_of_backpropagation_has_no_goodness_to_compare() {
    let folder = trained();
    let folder = folder.path();
    let mut arguments = vec!["train", "--data=train.csv", "--out=rival", "--epochs=1", "--progress=none"];
    let settings = ["rule=backprop", "network.layers=[8]", "network.label=none", "data.validation=0"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    out(folder, &arguments);
    assert_eq!(out(folder, &["predict", "rival", "plain.csv"]).lines().count(), 4);
    let output = finished(folder, &["predict", "rival", "plain.csv", "--readout=every-label"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("it was trained without goodness of layers that see the label"), "{said}");
    assert!(said.contains("use --readout one-pass"), "{said}");
}

#[cfg(unix)]
#[test]
fn the_answer_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = trained();
    let folder = folder.path();
    std::fs::write(folder.join("new"), "").unwrap();
    out(folder, &["predict", "run", "plain.csv", "--output=out.csv"]);
    let mode = |name: &str| folder.join(name).metadata().unwrap().permissions().mode();
    assert_eq!(mode("out.csv"), mode("new"));
}

#[test]
fn images_in_folders_below_are_found_and_named() {
    let folder = trained();
    let folder = folder.path();
    for name in ["images/b.png", "images/a/z.jpg", "images/a/deep/x.PNG"] {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        GrayImage::new(2, 1).save(folder.join(name)).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", folder.join("images/a/back")).unwrap();
    let csv = out(folder, &["predict", "run", "images", "--format=csv"]);
    let files: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(files, ["images/a/deep/x.PNG", "images/a/z.jpg", "images/b.png"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read_is_left_out() {
    use std::os::unix::fs::PermissionsExt;
    let folder = trained();
    let folder = folder.path();
    for name in ["images/a/x.png", "images/b.png", "shut/x.png"] {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        GrayImage::new(2, 1).save(folder.join(name)).unwrap();
    }
    let modes = |mode| {
        for name in ["images/a", "shut"] {
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    modes(0o000);
    if std::fs::read_dir(folder.join("shut")).is_ok() {
        return; // the administrator reads everything
    }
    let output = finished(folder, &["predict", "run", "shut", "images", "plain.csv"]);
    modes(0o700);
    let [csv, said] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in ["error: shut: it could not be read", "error: images/a: it could not be read", "2 of the files"] {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
    assert!(csv.contains("images/b.png,") && csv.contains("plain.csv[2],"), "{csv}");
}

#[cfg(unix)]
#[test]
fn pipes_and_links_stay_what_they_are() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::process::Command;
    let folder = trained();
    let folder = folder.path();
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    std::fs::create_dir(folder.join("far")).unwrap();
    for arguments in [
        &["predict", "run", "plain.csv", "--output"][..],
        &["report", "run", "--out"],
        &["export", "run", "--format=rust", "--out"],
    ] {
        let write = |to: &str| out(folder, &[arguments, &[to]].concat());
        write("plain");
        let expected = std::fs::read(folder.join("plain")).unwrap();

        let mut reader = Command::new("cat").arg(folder.join("pipe")).stdout(Stdio::piped()).spawn().unwrap();
        write("pipe");
        let is_pipe = folder.join("pipe").metadata().unwrap().file_type().is_fifo();
        if !is_pipe {
            reader.kill().unwrap();
        }
        assert!(reader.wait_with_output().unwrap().stdout == expected && is_pipe, "{arguments:?}");

        symlink("far/target", folder.join("link")).unwrap();
        for before in ["none", "older"] {
            write("link");
            assert!(std::fs::read(folder.join("far/target")).unwrap() == expected, "{arguments:?}, {before}");
            assert_eq!(folder.join("link").read_link().unwrap(), std::path::Path::new("far/target"));
            std::fs::write(folder.join("far/target"), "older").unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.join("far")).unwrap().count(), 1, "nothing else stays");
        ["link", "far/target"].into_iter().for_each(|name| std::fs::remove_file(folder.join(name)).unwrap());
    }
}

/// Only Linux has such names.
#[cfg(target_os = "linux")]
#[test]
fn a_run_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let folder = trained();
    let folder = folder.path();
    let name = std::ffi::OsStr::from_bytes(b"r\xffn");
    std::fs::rename(folder.join("run"), folder.join(name)).unwrap();
    for arguments in [
        &["inspect"][..],
        &["inspect", "--json"],
        &["doctor"],
        &["eval"],
        &["eval", "--json"],
        &["report"],
        &["verify"],
        &["watch"],
        &["train", "--resume"],
    ] {
        let output = onward(folder, arguments).arg(name).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_reader_that_leaves_in_the_middle_is_no_failure() {
    let folder = trained();
    let folder = folder.path();
    std::fs::write(folder.join("long.csv"), "1.5,-2\n".repeat(50_000)).unwrap();
    for format in ["csv", "json"] {
        let mut child = onward(folder, &["predict", "run", "long.csv", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("label"), "{first}");
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{format}");
        assert!(output.status.success(), "{format}");
    }
}
