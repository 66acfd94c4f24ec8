//! `onward train` as its users meet it: exit codes, the run directory, interruption and resumption.

mod common;

use common::{finished, onward};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Settings of a network that trains in no time.
const TINY: [&str; 6] = [
    "--limit=1000",
    "--set=network.layers=[32,32]",
    "--set=data.validation=200",
    "--epochs=3",
    "--set=training.batch=20",
    "--threads=1",
];

/// Runs what must succeed.
fn run_out(folder: &Path, arguments: &[&str]) -> Output {
    let output = finished(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    output
}

fn train(folder: &Path, out: &str, more: &[&str]) -> Output {
    onward(folder, &["train", "--out", out]).args(TINY).args(more).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bytes(run: &Path) -> [Vec<u8>; 2] {
    ["last", "best"].map(|name| std::fs::read(run.join(format!("checkpoint/{name}.safetensors"))).unwrap())
}

fn summary(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap()
}

/// The metrics without their times.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        assert!(value.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() > 0.0);
        value
    };
    text.lines().map(line).collect()
}

#[test]
fn a_run_leaves_what_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), "a", &["--progress=plain", "--seed=3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for expected in
        ["1,000 training samples, 200 to validate on", "3/3", "Test error on 10,000: every-label", "onward inspect a"]
    {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(stderr(&output).is_empty());

    let run = folder.path().join("a");
    let summary = summary(&run);
    assert_eq!(summary["experiment"], "default");
    assert_eq!(summary["rule"], "forward-forward");
    assert_eq!((&summary["seed"], &summary["threads"], &summary["epochs"]), (&3.into(), &1.into(), &3.into()));
    assert_eq!(summary["train_samples"], 1000);
    assert_eq!(summary["parameters"], 784 * 32 + 32 + 32 * 32 + 32 + 32 * 10);
    assert!(summary["test_error"]["every-label"].is_number());
    let error = summary["test_error"]["one-pass"].as_f64().unwrap();
    assert!((5.0..60.0).contains(&error), "{error} % after three epochs of 1000 samples");
    assert!(summary["samples_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(summary["settings"]["training"]["batch"], 20);
    assert_eq!(summary["settings"]["network"]["label"], "replace");

    let metrics = metrics(&run);
    assert_eq!(metrics.len(), 3);
    for key in
        ["goodness_positive", "goodness_negative", "wrong_order", "dead_units", "weight_rms", "active_rows", "loss"]
    {
        assert!(metrics[2]["layers"][1][key].is_number(), "{key}");
    }
    assert!(metrics[2]["validation_error"]["one-pass"].is_number());
    // The resolved file is an experiment that trains the same.
    let again = run_out(folder.path(), &["train", "a/experiment.toml", "--out=b", "--progress=none", "--threads=1"]);
    assert_eq!(stdout(&again), "");
    assert!(bytes(&run) == bytes(&folder.path().join("b")), "the same settings, other bits");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), "[training]\nbatch = 10\nepoch = 3\n").unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&["train", "--set", "training.bach=3"], "did you mean `training.batch`?"),
        (&["train", "--set", "training.batch=0"], "expected a whole number, 1 to 65536"),
        (&["train", "--set", "negatives.kind=heart"], "did you mean \"hard\"?"),
        (&["train", "--set", "head.enabled=false"], "negatives.kind"),
        (&["train", "mine.toml"], "mine.toml:3: there is no setting `training.epoch`; did you mean `training.epochs`?"),
        (&["train", "none.toml"], "none.toml: it could not be read"),
        (&["train", "superviced"], "did you mean `supervised`?"),
        (&["train", "--device", "cuda"], "no GPU engine"),
        (&["train", "--data", "nowhere"], "nowhere: it could not be read"),
        (&["train", "--set", "data.validation=60000"], "lower it with --set data.validation=12000"),
        (&["train", "--limit", "50"], "do not fill one batch of 100"),
        (&["train", "--resume", "."], "not a run directory"),
    ];
    for (arguments, expected) in cases {
        let output = finished(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
    assert_eq!(finished(folder.path(), &["train", "--bogus"]).status.code(), Some(2));
}

#[test]
fn a_run_directory_is_used_once_and_by_one() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), "a", &[]).status.success());
    let output = train(folder.path(), "a", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is a run here already"), "{}", stderr(&output));
    // A finished run has nothing left to do, and says the same again.
    let before = bytes(&folder.path().join("a"));
    run_out(folder.path(), &["train", "--resume", "a"]);
    assert!(before == bytes(&folder.path().join("a")));

    let lock = std::fs::File::create(folder.path().join("a/.lock")).unwrap();
    lock.lock().unwrap();
    let output = finished(folder.path(), &["train", "--resume", "a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("another process"), "{}", stderr(&output));
}

/// Starts a run that saves after every step, and waits until it has saved so many times.
fn started(folder: &Path, out: &str, saves: u32) -> (Child, PathBuf) {
    let mut command = onward(folder, &[]);
    command.args(["train", "--progress=plain", "--checkpoint-minutes=0", "--out", out]).args(TINY);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = folder.join(out).join("checkpoint/last.safetensors");
    let (mut seen, mut last, start) = (0, None, Instant::now());
    while seen < saves {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint within a minute");
        let modified = std::fs::metadata(&checkpoint).and_then(|file| file.modified()).ok();
        if modified != last {
            (seen, last) = (seen + 1, modified);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (child, folder.join(out))
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), "whole", &[]).status.success());
    let whole = folder.path().join("whole");
    for saves in [1, 4, 9] {
        let name = format!("killed-{saves}");
        let (mut child, run_dir) = started(folder.path(), &name, saves);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!run_dir.join("summary.json").exists(), "it was over before it was killed");
        run_out(folder.path(), &["train", "--resume", &name, "--threads=1"]);
        assert!(bytes(&run_dir) == bytes(&whole), "killed after {saves} checkpoints: other bits");
        assert_eq!(metrics(&run_dir), metrics(&whole));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_says_how_to_go_on_and_does() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), "whole", &[]).status.success());
    for signal in ["-INT", "-TERM"] {
        let name = format!("interrupted{signal}");
        let (child, run_dir) = started(folder.path(), &name, 2);
        // As `timeout` asks: the process, and at once its group.
        for _ in 0..2 {
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert!(stdout(&output).contains(&format!("onward train --resume {name}")), "{}", stdout(&output));
        run_out(folder.path(), &["train", "--resume", &name, "--threads=1"]);
        assert!(bytes(&run_dir) == bytes(&folder.path().join("whole")), "{signal}: other bits");
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), "a", &[]).status.success());
    let last = folder.path().join("a/checkpoint/last.safetensors");
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(folder.path().join("a/checkpoint/last.safetensors.previous")).unwrap();
    let output = finished(folder.path(), &["train", "--resume", "a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("last.safetensors: it is not a whole safetensors file"), "{}", stderr(&output));
    assert_eq!(std::fs::read(&last).unwrap().len(), whole.len() / 2);
}

#[test]
fn json_progress_is_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), "a", &["--progress=json"]);
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let told: Vec<&str> = events.iter().copied().filter(|event| *event != "warning").collect();
    assert_eq!(told, ["start", "epoch", "epoch", "epoch", "end"]);
    assert_eq!(lines.last().unwrap()["summary"]["experiment"], "default");
    // Not every network of 32 units learns in 150 steps: whoever reads this is told so in the same form.
    let warnings = lines.iter().filter(|line| line["event"] == "warning");
    assert!(warnings.clone().all(|line| line["text"].is_string() && line["hint"].is_string()), "{events:?}");
}

#[test]
fn whoever_stops_reading_does_not_stop_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = onward(folder.path(), &[]);
    command.args(["train", "--progress=plain", "--out=a"]).args(TINY);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(folder.path().join("a/summary.json").exists());
}

#[test]
fn it_trains_on_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = String::from("a,b,c,kind\n");
    for n in 0..400 {
        let (x, y) = ((n * 37 % 100) as f32 / 100.0, (n * 53 % 100) as f32 / 100.0);
        csv.push_str(&format!("{x},{y},1,{}\n", if x > y { "over" } else { "under" }));
    }
    std::fs::write(folder.path().join("points.csv"), csv).unwrap();
    // Nobody says where the label goes: not in place of the features that decide.
    let settings = ["network.layers=[64,64]", "data.validation=100", "training.batch=20"];
    let mut arguments = vec!["train", "--data=points.csv", "--out=a", "--epochs=60", "--progress=plain"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let output = run_out(folder.path(), &arguments);
    let summary = summary(&folder.path().join("a"));
    assert!(summary["validation_error"]["every-label"].as_f64().unwrap() < 10.0, "{}", stdout(&output));
    assert_eq!(summary["test_error"], serde_json::json!({}));
    assert_eq!(summary["settings"]["network"]["label"], "prepend");
    let text = std::fs::read_to_string(folder.path().join("a/experiment.toml")).unwrap();
    assert!(text.contains("\nlabel = \"prepend\"\n"), "{text}");
    assert_eq!(stderr(&output), "");

    arguments.extend(["--set=network.label=replace", "--out=b", "--epochs=1"]);
    arguments.retain(|argument| *argument != "--out=a" && *argument != "--epochs=60");
    let output = run_out(folder.path(), &arguments);
    let said = "points.csv: `network.label` \"replace\" overwrites the first 2 of 3 features with the label; \
                \"prepend\" would keep them\n";
    assert_eq!(stderr(&output), said);
}

/// A table sorted by class, `few` samples of the last one.
fn sorted(folder: &Path, few: usize) {
    let rows = |class: &str, at: usize, n: usize| -> String {
        let row = |i: usize| format!("{},{},0.5,1,{class}\n", at as f64 + (i * 37 % 50) as f64 / 50.0, i * 53 % 7);
        (0..n).map(row).collect()
    };
    let table = ["a,b,c,d,class\n".into(), rows("ant", 0, 50), rows("bee", 2, 50), rows("cat", 4, few)].concat();
    std::fs::write(folder.join("sorted.csv"), table).unwrap();
}

#[test]
fn a_table_sorted_by_class_is_split_fairly_and_the_same_by_all() {
    let folder = tempfile::tempdir().unwrap();
    sorted(folder.path(), 50);
    let train = ["train", "--data=sorted.csv", "--set=network.layers=[16]", "--set=training.batch=20", "--epochs=2"];
    let train = |more: &[&str]| run_out(folder.path(), &[&train[..], more].concat());
    let output = train(&["--out=a", "--progress=plain"]);
    assert!(stdout(&output).contains("120 training samples, 30 to validate on"), "{}", stdout(&output));
    assert_eq!(stderr(&output), "");
    // Whoever cuts the samples again finds the same.
    let text = std::fs::read_to_string(folder.path().join("a/experiment.toml")).unwrap();
    assert!(text.contains("\nvalidation = 30\n"), "{text}");
    run_out(folder.path(), &["verify", "a"]);
    run_out(folder.path(), &["report", "a"]);
    train(&["--out=few", "--limit=60", "--progress=none"]);
    run_out(folder.path(), &["verify", "few"]);
    let provenance = || std::fs::read(folder.path().join("few/provenance.json")).unwrap();
    let before = provenance();
    std::fs::remove_file(folder.path().join("few/summary.json")).unwrap();
    std::fs::remove_dir_all(folder.path().join("few/checkpoint")).unwrap();
    std::fs::create_dir(folder.path().join("few/checkpoint")).unwrap();
    run_out(folder.path(), &["train", "--resume=few"]);
    assert!(before == provenance(), "resumed with another split");

    sorted(folder.path(), 1);
    let output = train(&["--out=one", "--progress=none"]);
    assert_eq!(stderr(&output), "warning: sorted.csv: no validation sample is of class cat\n");
    let refused = finished(folder.path(), &["train", "--data=sorted.csv", "--set=data.validation=2000"]);
    assert!(stderr(&refused).contains("sorted.csv has 101 training samples"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--set data.validation=20"), "{}", stderr(&refused));
}

/// A folder with `points.csv`, and a run `a` that has learned it.
fn trained_on_points() -> tempfile::TempDir {
    let folder = common::points();
    let settings = ["--set=network.layers=[8]", "--set=network.label=prepend", "--set=data.validation=60"];
    let arguments = ["train", "--data=points.csv", "--out=a", "--epochs=2", "--set=training.batch=20"];
    run_out(folder.path(), &[&arguments[..], &settings].concat());
    folder
}

#[test]
fn it_goes_on_only_with_the_data_that_it_began_with() {
    let folder = trained_on_points();
    let folder = folder.path();
    let original = std::fs::read_to_string(folder.join("points.csv")).unwrap();
    let before = bytes(&folder.join("a"));
    let swapped = original.replace("over", "other").replace("under", "over").replace("other", "under");
    std::fs::write(folder.join("points.csv"), swapped).unwrap();
    let output = finished(folder, &["train", "--resume=a"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in [
        "a: the data at `points.csv` is not what the run was trained on (SHA-256 of the samples then ",
        "put that data back, or train a new run on what is there now",
    ] {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
    assert!(bytes(&folder.join("a")) == before);
    std::fs::write(folder.join("points.csv"), original).unwrap();
    run_out(folder, &["train", "--resume=a"]);
}

#[test]
fn a_path_counts_from_where_the_run_was_trained() {
    let folder = trained_on_points();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let expected = format!(
        "../a/experiment.toml: its data.source is `points.csv`, which is not there in {}: a path counts from the folder in \
         which the run was trained: go there, or change data.source",
        elsewhere.canonicalize().unwrap().display()
    );
    for arguments in [&["eval", "../a"][..], &["report", "../a"], &["verify", "../a"], &["train", "--resume=../a"]] {
        let output = finished(&elsewhere, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(&expected), "{arguments:?}: {}", stderr(&output));
    }
    run_out(&elsewhere, &["eval", "../a", "--data=../points.csv"]);
    // A run and its data can be moved together.
    for name in ["a", "points.csv"] {
        std::fs::rename(folder.path().join(name), elsewhere.join(name)).unwrap();
    }
    run_out(&elsewhere, &["verify", "a"]);
}

#[test]
fn the_tour_fits_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["experiments"]] {
        let output = run_out(folder.path(), arguments);
        assert!(stdout(&output).lines().all(|line| line.chars().count() <= 80), "{}", stdout(&output));
    }
    assert!(stdout(&run_out(folder.path(), &["completions", "bash"])).contains("_onward"));
    assert!(stdout(&run_out(folder.path(), &["experiments", "--settings"])).contains("weight_cost = 0.001\n"));
}
