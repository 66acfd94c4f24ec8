//! `onward sweep` as its users meet it: ranking, going on, runs that fail, interruption.

mod common;

use common::onward;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn sweep(folder: &Path, more: &[&str]) -> Output {
    onward(folder, &[&["sweep", "my.toml", "--jobs=2", "--threads=1"][..], more].concat()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of networks that take no time.
fn write(folder: &Path, head: &str, grid: &str) {
    let set = "[set]\ndata.train = 400\ndata.validation = 100\ntraining.batch = 20\ntraining.epochs = 2\n";
    let layers = if grid.contains("network.layers") { "" } else { "network.layers = [16, 16]\n" };
    std::fs::write(folder.join("my.toml"), format!("{head}\n{set}{layers}{grid}\n")).unwrap();
}

fn json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("runs/sweep-my/sweep.json")).unwrap()).unwrap()
}

#[test]
fn combinations_are_ranked_by_their_validation_error() {
    let folder = tempfile::tempdir().unwrap();
    // A head whose rate is next to nothing learns nothing.
    write(folder.path(), "seeds = 2", "[grid]\nhead.rate = [0.00001, 0.1]\n");
    let output = sweep(folder.path(), &["--by=one-pass"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.starts_with("2 combinations, 2 seeds: 4 runs, 0 of them finished; results go to runs/sweep-my\n"),
        "{said}"
    );
    assert!(said.contains("Ranked by one-pass on the validation samples"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");

    let json = json(folder.path());
    let rates: Vec<f64> =
        json["trials"].as_array().unwrap().iter().map(|t| t["settings"]["head.rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [0.1, 0.00001]);
    let first = &json["trials"][0]["validation_error"]["one-pass"];
    // What is told is what the runs' own summaries say.
    let of = |seed| {
        let path = folder.path().join(format!("runs/sweep-my/head.rate=0.1,seed={seed}/summary.json"));
        let summary: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        summary["validation_error"]["one-pass"].as_f64().unwrap()
    };
    assert_eq!(first["mean"].as_f64().unwrap(), (of(1) + of(2)) / 2.0);
    assert_eq!(first["least"].as_f64().unwrap(), of(1).min(of(2)));
    assert_eq!(first["most"].as_f64().unwrap(), of(1).max(of(2)));
    assert!(!json.to_string().contains("test_error"), "ranked by, or told of, test samples");

    let csv = std::fs::read_to_string(folder.path().join("runs/sweep-my/sweep.csv")).unwrap();
    assert!(csv.starts_with("rank,run,seed,head.rate,validation_error/every-label,validation_error/one-pass,"));
    assert_eq!(csv.lines().count(), 5);
    let page = std::fs::read_to_string(folder.path().join("runs/sweep-my/sweep.html")).unwrap();
    assert!(page.contains("<h1>my: 2 combinations</h1>") && page.contains("<h2>Ranking</h2>"));
    assert!(page.contains("<h2>Epoch by epoch</h2>") && !page.contains("test error"));

    // Once more: nothing is trained again; with one more value, only that.
    let before = std::fs::metadata(folder.path().join("runs/sweep-my/head.rate=0.1,seed=1/summary.json")).unwrap();
    assert!(text(&sweep(folder.path(), &["--by=one-pass"]).stdout).contains("4 of them finished"));
    write(folder.path(), "seeds = 2", "[grid]\nhead.rate = [0.00001, 0.1, 0.2]\n");
    let listed = text(&sweep(folder.path(), &["--list"]).stdout);
    assert!(listed.contains("rate 0.1  (2 of 2 finished)\nrate 0.2  (0 of 2 finished)\n"), "{listed}");
    assert!(text(&sweep(folder.path(), &["--by=one-pass"]).stdout).contains("6 runs, 4 of them finished"));
    let after = std::fs::metadata(folder.path().join("runs/sweep-my/head.rate=0.1,seed=1/summary.json")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());

    // The same names for other settings are refused.
    write(folder.path(), "seeds = 2", "[grid]\nhead.rate = [0.00001, 0.1]\n[set.head]\nweight_cost = 0.2\n");
    let output = sweep(folder.path(), &["--by=one-pass"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("a run with other settings is here"), "{}", text(&output.stderr));
}

#[test]
fn a_run_that_fails_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "", "[grid]\ndata.source = [\"mnist\", \"nowhere.csv\"]\nhead.enabled = [true, false]\n");
    let output = sweep(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("\nfailed: source nowhere.csv, enabled true, seed 1: nowhere.csv: it"), "{said}");
    assert!(said.contains("\nrefused: source mnist, enabled false: "), "{said}");
    assert!(text(&output.stderr).contains("1 of 2 runs failed; the same command tries them again"));
    let json = json(folder.path());
    assert!(json["trials"][0]["validation_error"]["one-pass"]["mean"].is_number());
    assert!(json["trials"][1]["runs"][0]["failure"].as_str().unwrap().starts_with("nowhere.csv"));
    assert_eq!(json["refused"].as_array().unwrap().len(), 2);

    write(folder.path(), "", "[grid]\nhead.enabled = [false]\n");
    let output = sweep(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("none of these settings go together"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let grid = "[grid]\noptimizer.rate = [0.005, 0.01, 0.02]\n[set.training]\nepochs = 3\n";
    write(folder.path(), "", &grid.replace("[set.training]\nepochs = 3\n", ""));
    let whole = sweep(folder.path(), &["--out=whole"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    for signal in ["INT", "KILL"] {
        let out = format!("--out={signal}");
        let mut command = onward(folder.path(), &["sweep", "my.toml", "--jobs=2", "--threads=1", &out]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (run, start) = (folder.path().join(signal).join("optimizer.rate=0.005,seed=1"), Instant::now());
        while !run.join("metrics.jsonl").exists() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let status = child.wait().unwrap();
        assert!(signal == "KILL" || status.code() == Some(130) || status.success(), "{status}");
        // Runs whose sweep was killed go on to their end; until then they are somebody else's.
        let run = |rate: &str| folder.path().join(signal).join(format!("optimizer.rate={rate},seed=1"));
        let over = || run("0.005").join("summary.json").exists() && !common::in_use(&run("0.01"));
        common::until(|| signal != "KILL" || over());
        let mut output = sweep(folder.path(), &[&out]);
        if signal == "KILL" && !output.status.success() {
            output = sweep(folder.path(), &[&out]);
        }
        assert!(output.status.success(), "{signal}: {}{}", text(&output.stdout), text(&output.stderr));
        for rate in ["0.005", "0.01", "0.02"] {
            let name = format!("optimizer.rate={rate},seed=1/checkpoint/last.safetensors");
            let read = |out: &str| std::fs::read(folder.path().join(out).join(&name)).unwrap();
            assert!(read("whole") == read(signal), "{signal}, {rate}: other bits");
        }
    }
}

/// A sweep of one run that does not end by itself, once that has its first epoch; and the run's directory.
#[cfg(unix)]
fn endless(folder: &Path) -> (std::process::Child, std::path::PathBuf) {
    write(folder, "", "[grid]\ntraining.epochs = [100000]\n");
    let text = std::fs::read_to_string(folder.join("my.toml")).unwrap();
    std::fs::write(folder.join("my.toml"), text.replace("training.epochs = 2\n", "")).unwrap();
    let mut command = onward(folder, &["sweep", "my.toml", "--jobs=1", "--threads=1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let run = folder.join("runs/sweep-my/training.epochs=100000,seed=1");
    common::until(|| run.join("checkpoint/last.safetensors").exists());
    (child, run)
}

#[cfg(unix)]
#[test]
fn two_signals_at_once_are_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let (child, run) = endless(folder.path());
    common::signal("INT", child.id());
    std::thread::sleep(Duration::from_millis(10));
    common::signal("INT", child.id());
    let output = common::end(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Stopped. The same command goes on."), "{}", text(&output.stdout));
    assert!(!common::in_use(&run), "its run goes on without it");
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_signal_ends_the_runs_too() {
    let folder = tempfile::tempdir().unwrap();
    let (child, run) = endless(folder.path());
    // A run that does not do as it is asked.
    let runs = common::children(child.id());
    assert_eq!(runs.len(), 1);
    common::signal("STOP", runs[0]);
    // The second one at once would be the first one.
    let mut child = child;
    for _ in 0..20 {
        common::signal("INT", child.id());
        std::thread::sleep(Duration::from_millis(700));
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let output = common::end(child);
    let left = common::in_use(&run);
    if left {
        common::signal("KILL", runs[0]);
    }
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(!left, "its run is left behind");
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_stopped_from_elsewhere_is_not_ranked() {
    let folder = tempfile::tempdir().unwrap();
    let (child, _) = endless(folder.path());
    common::signal("TERM", common::children(child.id())[0]);
    let output = common::end(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("failed: epochs 100000, seed 1: it was stopped"), "{}", text(&output.stdout));
    assert_eq!(json(folder.path())["trials"][0]["validation_error"], serde_json::json!({}));
}
