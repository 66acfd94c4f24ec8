//! `onward watch` as its users meet it: runs that come later, go on, end, or leave half a line.

use assert_cmd::cargo::cargo_bin;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

fn onward(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("onward"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

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
fn however_a_run_ended_is_said() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a");
    let run = folder.path().join("a");
    let watch = || {
        let output = onward(folder.path(), &["watch", "a"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
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

    lines.write_all(b"\n{}\n").unwrap();
    let (code, _, error) = watch();
    assert_eq!(code, Some(2));
    assert!(error.contains("a/metrics.jsonl:3: not a line of it"), "{error}");
}
