//! The command as its users start it.
#![allow(dead_code)] // no test needs all of it

use assert_cmd::cargo::cargo_bin;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

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

/// Sends a signal to a process.
#[cfg(unix)]
#[track_caller]
pub fn signal(name: &str, process: u32) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

/// Waits until something holds, a minute at most.
#[track_caller]
pub fn until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The end of a process, which must come within a minute.
#[track_caller]
pub fn end(mut process: Child) -> Output {
    let start = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            process.kill().unwrap();
            panic!("it went on for a minute");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    process.wait_with_output().unwrap()
}

/// Whether some process trains in a run directory.
pub fn in_use(run: &Path) -> bool {
    let lock = std::fs::File::open(run.join(".lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// The processes that the main thread of a process has started.
#[cfg(target_os = "linux")]
pub fn children(process: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
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
