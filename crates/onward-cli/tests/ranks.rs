//! One run by many processes: the run of one, whoever dies on the way.

mod common;

use assert_cmd::cargo::cargo_bin;
use common::points;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SETTINGS: [&str; 7] = [
    "data.source=points.csv",
    "data.validation=60",
    "network.layers=[16,16,16]",
    "network.label=prepend",
    "training.batch=20",
    "negatives.kind=uniform",
    "training.order=pipelined",
];

/// The command as so many processes; 0: without a launcher.
fn onward(ranks: usize, folder: &Path, arguments: &[&str]) -> Command {
    let onward = cargo_bin!("onward");
    let mut command = Command::new(if ranks == 0 { onward.as_os_str() } else { "mpirun".as_ref() });
    if ranks > 0 {
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]);
        // There may be more ranks than cores.
        command.args(["--mca", "mpi_yield_when_idle", "1"]).arg(onward);
    }
    // Containers do not let processes read each other's memory.
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.arg("train").args(arguments).args(["--threads=1", "--checkpoint-minutes=0", "--progress=plain"]);
    command
}

fn start(ranks: usize, folder: &Path, out: &str, more: &[&str]) -> Command {
    let settings = SETTINGS.iter().chain(more).flat_map(|setting| ["--set", *setting]);
    onward(ranks, folder, &["--out", out].into_iter().chain(settings).collect::<Vec<_>>())
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

#[track_caller]
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

fn checkpoint(folder: &Path, run: &str) -> Vec<u8> {
    std::fs::read(folder.join(run).join("checkpoint/last.safetensors")).unwrap()
}

#[test]
fn many_processes_make_the_run_of_one() {
    let folder = points();
    let folder = folder.path();
    let epochs = "training.epochs=3";
    succeed(start(0, folder, "alone", &[epochs]));
    for ranks in [1, 3] {
        let run = ranks.to_string();
        let said = succeed(start(ranks, folder, &run, &[epochs]));
        assert_eq!(said.matches("Everything is in").count(), 1, "{said}");
        assert!(checkpoint(folder, &run) == checkpoint(folder, "alone"), "{ranks} ranks");
    }
    let runs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(runs.len(), 4, "the data and three runs, none of them by another rank: {runs:?}");
}

#[test]
fn what_many_processes_cannot_train_is_refused_before_anything_is_written() {
    let folder = points();
    let output = start(2, folder.path(), "run", &["training.order=simultaneous"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(
        said(&output).matches("2 processes train one network only as a pipeline").count(),
        1,
        "{}",
        said(&output)
    );
    assert!(!folder.path().join("run").exists());
    for (ranks, replicas, batch, expected) in [
        (3, "2", "training.batch=20", "--replicas 2 of each layer on 3 processes"),
        (0, "2", "training.batch=20", "--replicas 2 of each layer on 1 process"),
        (2, "0", "training.batch=20", "--replicas 0 of each layer"),
        (2, "2", "training.batch=1", "a batch of 1 samples has no share for each of them"),
    ] {
        let output = start(ranks, folder.path(), "run", &[batch]).args(["--replicas", replicas]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert_eq!(said(&output).matches(expected).count(), 1, "{}", said(&output));
        assert!(!folder.path().join("run").exists());
    }
}

/// The losses of a run's epochs.
fn losses(folder: &Path, run: &str) -> Vec<f64> {
    let metrics = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
    metrics.lines().map(loss).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn replicas_make_the_run_of_one_but_for_rounding_and_go_on_anywhere() {
    let folder = points();
    let folder = folder.path();
    let epochs = "training.epochs=3";
    succeed(start(0, folder, "alone", &[epochs]));
    let expected = losses(folder, "alone");
    for (ranks, replicas) in [(2, "2"), (4, "2")] {
        let run = format!("{ranks}-{replicas}");
        let mut command = start(ranks, folder, &run, &[epochs]);
        command.args(["--replicas", replicas]);
        succeed(command);
        let found = losses(folder, &run);
        assert_eq!(found.len(), 3);
        assert!(
            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs()),
            "{found:?}, not {expected:?}"
        );
    }
    // A replica that dies ends the job; the run goes on with another number of ranks and replicas, or with none.
    let epochs = "training.epochs=60";
    for (rank, elsewhere, replicas) in [(1, 3, "3"), (2, 0, "1")] {
        let run = format!("killed-{rank}");
        let mut command = start(4, folder, &run, &[epochs]);
        let said = killed(command.args(["--replicas", "2"]), folder, &run, rank);
        assert!(said.contains(&format!("onward train --resume {run}")), "{said}");
        let mut command = onward(elsewhere, folder, &["--resume", &run]);
        command.args(["--replicas", replicas]);
        succeed(command);
        assert_eq!(losses(folder, &run).len(), 60);
    }
}

/// The process that is this rank of the job that `mpirun` has started.
#[cfg(target_os = "linux")]
fn process_of(mpirun: u32, rank: usize) -> Option<u32> {
    let read = |id: u32, file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).ok();
    let of_job = |id: &u32| read(*id, "status").is_some_and(|status| status.contains(&format!("\nPPid:\t{mpirun}\n")));
    let is_rank = |id: &u32| {
        read(*id, "environ").is_some_and(|all| all.split('\0').any(|one| one == format!("OMPI_COMM_WORLD_RANK={rank}")))
    };
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(of_job).find(is_rank)
}

/// Starts a job, and kills one of its ranks once there is a checkpoint; what was said.
#[cfg(target_os = "linux")]
fn killed(command: &mut Command, folder: &Path, run: &str, rank: usize) -> String {
    let mpirun = command.spawn().unwrap();
    let begun = Instant::now();
    while !folder.join(run).join("checkpoint/last.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint was ever written");
        std::thread::sleep(Duration::from_millis(2));
    }
    let process = process_of(mpirun.id(), rank).expect("the rank runs");
    assert!(Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap().success());
    let output = mpirun.wait_with_output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("exited on signal 9"), "{}", said(&output));
    said(&output)
}

#[test]
#[cfg(target_os = "linux")]
fn a_rank_that_is_killed_ends_the_job_and_the_run_goes_on_elsewhere() {
    let folder = points();
    let folder = folder.path();
    let epochs = "training.epochs=60";
    succeed(start(0, folder, "alone", &[epochs]));
    for (rank, elsewhere) in [(1, 2), (2, 0), (0, 3)] {
        let run = format!("killed-{rank}");
        let said = killed(&mut start(3, folder, &run, &[epochs]), folder, &run, rank);
        if rank > 0 {
            assert!(said.contains("one of them has probably died"), "{said}");
            assert!(said.contains(&format!("onward train --resume {run}")), "{said}");
        }
        assert!(checkpoint(folder, &run) != checkpoint(folder, "alone"), "it was killed too late");
        succeed(onward(elsewhere, folder, &["--resume", &run]));
        assert!(checkpoint(folder, &run) == checkpoint(folder, "alone"), "{run}, resumed on {elsewhere}");
    }
}
