//! Runs that are killed, run out of disk, lose their directory or their checkpoint: nothing is lost, and what goes on ends in
//! the same bits.
//!
//! `ONWARD_KILLS=100` kills so often; by default it is once a kind of training.

mod common;

use common::{finished, onward, points};
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Each order and rule of training, and whatever else keeps a state of its own.
const KINDS: [(&str, &[&str]); 8] = [
    ("simultaneous", &[]),
    ("greedy", &["training.order=greedy"]),
    ("backprop", &["rule=backprop"]),
    ("perturbation", &["rule=perturbation"]),
    ("recurrent", &["network.label=top", "recurrent.iterations=3", "optimizer.rate=0.003"]),
    ("rest", &["training.rest=4", "goodness.temperature=0.1"]),
    ("adam", &["optimizer.kind=adam", "optimizer.rate=0.003", "network.dropout=0.1"]),
    ("unlabelled", &["network.label=none", "negatives.kind=shuffled"]),
];

fn train(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = onward(folder, &[&["train"], arguments].concat());
    command.args(["--threads=1", "--checkpoint-minutes=0", "--progress=plain"]);
    command
}

fn start(folder: &Path, out: &str, settings: &[&str]) -> Command {
    let common = [
        "data.source=points.csv",
        "data.validation=60",
        "network.layers=[16,16]",
        "network.label=prepend",
        "training.batch=20",
        "training.epochs=4",
    ];
    let settings: Vec<&str> = common.iter().chain(settings).flat_map(|setting| ["--set", *setting]).collect();
    train(folder, &[&["--out", out], &settings[..]].concat())
}

fn resume(folder: &Path, run: &str) -> Command {
    train(folder, &["--resume", run])
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    output
}

/// What must be the same however often a run was stopped: its checkpoints, and its metrics but for their times.
fn result(run: &Path) -> ([Vec<u8>; 2], Vec<Value>) {
    let checkpoints = ["last", "best"].map(|name| read(&run.join(format!("checkpoint/{name}.safetensors"))));
    let timeless = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("seconds").unwrap();
        line
    };
    let metrics = String::from_utf8(read(&run.join("metrics.jsonl"))).unwrap();
    (checkpoints, metrics.lines().map(timeless).collect())
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn leftovers(run: &Path) -> Vec<PathBuf> {
    let entries = [run.to_owned(), run.join("checkpoint")].into_iter().flat_map(|f| std::fs::read_dir(f).unwrap());
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().ends_with(".partial")).collect()
}

#[test]
fn killed_at_random_points_it_ends_in_the_same_bits() {
    let wanted = std::env::var("ONWARD_KILLS").map_or(KINDS.len(), |kills| kills.parse().unwrap());
    let mut random = rand::rngs::SmallRng::seed_from_u64(wanted as u64);
    let folder = points();
    let folder = folder.path();
    let mut kills = 0;
    for (n, (kind, settings)) in KINDS.iter().enumerate() {
        let whole = format!("{kind}-whole");
        let clock = Instant::now();
        succeed(start(folder, &whole, settings));
        let whole_run = clock.elapsed();
        let due = wanted * (n + 1) / KINDS.len();
        let mut attempt = 0;
        while kills < due {
            attempt += 1;
            let name = format!("{kind}-{attempt}");
            // Killed again and again at any moment, or until it is over.
            while kills < due && !folder.join(&name).join("summary.json").exists() {
                let begun = folder.join(&name).join("experiment.toml").exists();
                let mut command = if begun { resume(folder, &name) } else { start(folder, &name, settings) };
                let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
                std::thread::sleep(random.random_range(Duration::ZERO..whole_run));
                let over = child.try_wait().unwrap();
                child.kill().unwrap();
                let output = child.wait_with_output().unwrap();
                match over {
                    Some(status) => assert!(status.success(), "{kind}: {}", stderr(&output)),
                    None => kills += 1,
                }
            }
            let begun = folder.join(&name).join("experiment.toml").exists();
            succeed(if begun { resume(folder, &name) } else { start(folder, &name, settings) });
            assert!(
                result(&folder.join(&name)) == result(&folder.join(&whole)),
                "{kind}: other bits after {kills} kills"
            );
            assert_eq!(leftovers(&folder.join(&name)), [] as [PathBuf; 0]);
        }
    }
    println!("killed {kills} times");
}

#[test]
fn a_damaged_checkpoint_is_set_aside_for_the_one_before() {
    let folder = points();
    let folder = folder.path();
    succeed(start(folder, "whole", &[]));
    for (name, damage) in [("cut", 0), ("flipped", 1), ("gone", 2)] {
        succeed(start(folder, name, &[]));
        let run = folder.join(name);
        // As if it had been stopped in its last steps.
        std::fs::remove_file(run.join("summary.json")).unwrap();
        let last = run.join("checkpoint/last.safetensors");
        let mut bytes = read(&last);
        match damage {
            0 => bytes.truncate(bytes.len() / 2),
            _ => *bytes.last_mut().unwrap() ^= 1,
        }
        if damage == 2 { std::fs::remove_file(&last) } else { std::fs::write(&last, &bytes) }.unwrap();
        let output = succeed(resume(folder, name));
        let warning = stderr(&output);
        let expected: &[&str] = match damage {
            0 => &["is not a whole safetensors file", "now called cut/checkpoint/last.safetensors.damaged"],
            1 => &["do not match its checksum", "now called flipped/checkpoint/last.safetensors.damaged"],
            _ => &["could not be read"],
        };
        for expected in expected.iter().chain(&["Going on from step "]) {
            assert!(warning.contains(expected), "no {expected:?} in {warning}");
        }
        assert!(result(&run) == result(&folder.join("whole")), "{name}: other bits");
    }
    assert!(!folder.join("gone/checkpoint/last.safetensors.damaged").exists());
}

/// The system refuses to let files grow beyond some size, as it would where the disk is full.
#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_run_and_leaves_the_checkpoint() {
    let folder = points();
    let folder = folder.path();
    succeed(start(folder, "whole", &[]));
    let command = start(folder, "a", &[]);
    // Blocks are of 512 bytes, or of 1024: more than the settings take, less than what the report grows to.
    let mut limited = Command::new("sh");
    limited.current_dir(folder).args(["-c", "trap '' XFSZ; ulimit -f 24; exec \"$0\" \"$@\""]);
    let output = limited.arg(command.get_program()).args(command.get_args()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = stderr(&output);
    assert!(error.contains("error: a/") && error.contains("could not be written: File too large"), "{error}");
    assert_eq!(leftovers(&folder.join("a")), [] as [PathBuf; 0]);
    succeed(resume(folder, "a"));
    assert!(result(&folder.join("a")) == result(&folder.join("whole")), "other bits");
}

#[test]
fn a_run_directory_that_vanishes_is_missed() {
    let folder = points();
    let folder = folder.path();
    let mut command = start(folder, "a", &["training.epochs=1000000"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !folder.join("a/checkpoint/last.safetensors").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::rename(folder.join("a"), folder.join("b")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("error: a/") && error.contains("could not be written: No such file"), "{error}");
    // It is whole where it is now.
    let inspected = finished(folder, &["inspect", "b"]);
    assert!(inspected.status.success(), "{}", stderr(&inspected));
}

/// Needs the right to mount: `cargo test -p onward-cli --test crash -- --ignored`.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "mounts file systems"]
fn full_and_read_only_file_systems() {
    let folder = points();
    let folder = folder.path();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).current_dir(folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", stderr(&output));
    };
    succeed(start(folder, "whole", &[]));
    std::fs::create_dir(folder.join("disk")).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=48k", "tmpfs", "disk"]);
    let full = start(folder, "disk/a", &[]).output().unwrap();
    run("mount", &["-o", "remount,size=64m", "disk"]);
    let resumed = resume(folder, "disk/a").output().unwrap();
    let found = result(&folder.join("disk/a"));
    run("mount", &["-o", "remount,ro", "disk"]);
    let read_only = [resume(folder, "disk/a"), start(folder, "disk/b", &[])].map(|mut c| c.output().unwrap());
    run("umount", &["disk"]);

    assert_eq!(full.status.code(), Some(1));
    assert!(stderr(&full).contains("No space left on device"), "{}", stderr(&full));
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(found == result(&folder.join("whole")), "other bits");
    for output in read_only {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("disk/") && stderr(&output).contains("Read-only file system"));
    }
}
