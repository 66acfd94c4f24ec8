//! The command as its users start it.
#![allow(dead_code)] // no test needs all of it

use assert_cmd::cargo::cargo_bin;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `onward` in `folder`, with nothing on its standard input.
pub fn onward(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("onward"));
    command.current_dir(folder).stdin(Stdio::null()).args(arguments);
    command
}

/// What it leaves.
pub fn finished(folder: &Path, arguments: &[&str]) -> Output {
    onward(folder, arguments).output().unwrap()
}

/// What it prints, where it must succeed.
#[track_caller]
pub fn out(folder: &Path, arguments: &[&str]) -> String {
    let output = finished(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with `points.csv`, which can be learned.
pub fn points() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = String::from("a,b,c,d,class\n");
    for n in 0..300 {
        let [a, b] = [37, 53].map(|step| f64::from(n * step % 100) / 100.0);
        csv.push_str(&format!("{a},{b},{},1,{}\n", a * b, if a > b { "over" } else { "under" }));
    }
    std::fs::write(folder.path().join("points.csv"), csv).unwrap();
    folder
}
