//! Notes the commit that the command is built from, where there is one, and the recorded runs that are built in.

use std::path::Path;
use std::process::Command;

fn main() {
    commit();
    recorded();
}

/// Lists the files of `results/`, by name.
fn recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let mut list = String::from("&[");
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        list.push_str(&format!("({name:?}, include_str!({:?})),", path.to_string_lossy()));
    }
    list.push(']');
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("recorded.rs"), list).expect("the output folder can be written to");
}

fn commit() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    println!("cargo::rerun-if-changed=build.rs");
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    println!("cargo::rustc-env=ONWARD_COMMIT={commit}");
    // HEAD names a branch; the branch's file moves with each commit.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
