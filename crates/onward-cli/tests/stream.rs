//! `onward stream` as its users meet it: every format, broken input, late labels, interruption, killing, resuming.

mod common;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn onward(folder: &Path, arguments: &[&str]) -> Command {
    common::onward(folder, &[&["stream"], arguments].concat())
}

fn finished(folder: &Path, arguments: &[&str]) -> Output {
    onward(folder, arguments).output().unwrap()
}

/// Standard output and standard error of what must succeed.
#[track_caller]
fn out(folder: &Path, arguments: &[&str]) -> (Vec<Value>, String) {
    parsed(&finished(folder, arguments), arguments)
}

#[track_caller]
fn parsed(output: &Output, arguments: &[&str]) -> (Vec<Value>, String) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    (lines(&output.stdout), stderr)
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    onward(folder, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Row `n` of a stream that can be learned: three features and a class.
fn row(n: usize) -> ([f32; 3], &'static str) {
    let mut state = n as u64;
    let mut number = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15 + ((n as u64) << 32));
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z >> 40) as f32 / (1 << 24) as f32 * 200.0).round() / 100.0 - 1.0
    };
    let x = [number(), 10.0 * number(), number()];
    (x, if x[0] * 10.0 > x[1] { "up" } else { "down" })
}

fn csv(rows: std::ops::Range<usize>) -> String {
    let line = |n| {
        let ([a, b, c], class) = row(n);
        format!("{a},{b},{c},{class}\n")
    };
    format!("a,b,c,class\n{}", rows.map(line).collect::<String>())
}

fn put(folder: &Path, name: &str, contents: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), contents).unwrap();
}

/// A line without what takes its own time.
fn untimed(mut line: Value) -> Value {
    assert!(line.as_object_mut().unwrap().remove("latency_us").unwrap().as_f64().unwrap() > 0.0);
    line
}

#[test]
fn every_record_is_answered_and_learned() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "s.csv", csv(0..2000));
    let (lines, stderr) = out(folder.path(), &["s.csv"]);
    assert_eq!(lines.len(), 2000);
    let right = |lines: &[Value]| lines.iter().filter(|line| line["label"] == line["truth"]).count();
    assert!(right(&lines[1000..]) > 900, "{} of 1000", right(&lines[1000..]));
    assert!(right(&lines[..100]) < 95, "it cannot know from the start");
    let last = &lines[1999];
    assert_eq!((&last["record"], &last["line"]), (&1999.into(), &2001.into()));
    let sum: f64 = last["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    assert_eq!(last["goodness"].as_array().unwrap().len(), 2);
    assert!((0.0..1.0).contains(&last["anomaly"].as_f64().unwrap()));
    assert!(stderr.starts_with("2,000 records, ") && stderr.contains(" of 2,000 labels predicted right"), "{stderr}");
    assert!(stderr.lines().all(|line| line.chars().count() <= 80), "{stderr}");

    let (lines, stderr) = out(folder.path(), &["s.csv", "--output=summary", "--summary-every=500"]);
    assert!(lines.is_empty());
    assert!(stderr.contains("\n        2,000 records") && stderr.contains("(lately "), "{stderr}");
    assert!(stderr.lines().all(|line| line.chars().count() <= 80), "{stderr}");
}

#[test]
fn every_format_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = 0..300;
    put(folder, "s.csv", csv(rows.clone()).replace("up", "1").replace("down", "0"));
    let numbers = |n| {
        let ([a, b, c], class) = row(n);
        [a, b, c, f32::from(u8::from(class == "up"))]
    };
    let json: String = rows
        .clone()
        .map(numbers)
        .map(|[a, b, c, class]| format!("{{\"c\":{c},\"class\":{class},\"b\":{b},\"a\":{a}}}\n"))
        .collect();
    put(folder, "s.jsonl", json);
    let raw: Vec<u8> = rows.clone().flat_map(numbers).flat_map(f32::to_le_bytes).collect();
    put(folder, "s.f32", &raw);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (300, 4), }";
    put(
        folder,
        "s.npy",
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &raw].concat(),
    );
    let said = |arguments: &[&str]| -> Vec<(Value, Value)> {
        out(folder, arguments).0.into_iter().map(|line| (line["label"].clone(), line["goodness"].clone())).collect()
    };
    let expected = said(&["s.csv"]);
    assert_eq!(expected.len(), 300);
    assert!(said(&["s.jsonl", "--features=a,b,c"]) == expected);
    assert!(said(&["s.f32", "--columns=4"]) == expected);
    assert!(said(&["s.npy", "--label=4"]) == expected);
    let piped = onward(folder, &["--format=json", "--features=a,b,c"])
        .stdin(std::fs::File::open(folder.join("s.jsonl")).unwrap())
        .output()
        .unwrap();
    assert_eq!(parsed(&piped, &[]).0.len(), 300);
}

#[test]
fn broken_fields_are_counted_reported_and_imputed_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut text = csv(0..100);
    text.push_str("x,1,1,up\n,1,1,up\n1e99,1,1,up\n1,2\n,,,up\n99,1,1,up\n");
    text.push_str(&csv(100..110)); // its names again are no record
    put(folder, "s.csv", &text);
    let (lines, stderr) = out(folder, &["s.csv", "--range=a=-1:1"]);
    assert_eq!(lines.len(), 114);
    assert_eq!(lines.iter().filter(|line| line["imputed"] == 1).count(), 4);
    for expected in [
        "s.csv: line 102: a is \"x\", expected a number\n",
        "s.csv: line 105: found 2 fields, expected 4: \"1,2\"",
        "further problems are only counted",
        "2 records left out, 4 values missing, 1 no numbers, 2 out of range\n",
    ] {
        assert!(stderr.contains(expected), "no {expected:?} in {stderr}");
    }
    let (lines, stderr) = out(folder, &["s.csv", "--range=a=-1:1", "--missing=skip"]);
    assert_eq!(lines.len(), 110);
    assert!(stderr.contains("6 records left out"), "{stderr}");
}

#[test]
fn labels_come_late_or_never() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The label of each record three records later.
    let mut text = "a,b,c,class\n".to_owned();
    for n in 0..1500 {
        let [a, b, c] = row(n).0;
        let label = if n < 3 { "" } else { row(n - 3).1 };
        text.push_str(&format!("{a},{b},{c},{label}\n"));
        if n % 100 == 50 {
            text.push_str(&format!("broken,{label}\n"));
        }
    }
    put(folder, "late.csv", text);
    let (_, aligned) = out(folder, &["late.csv", "--delay=3", "--output=summary"]);
    let (_, wrong) = out(folder, &["late.csv", "--output=summary"]);
    let share = |stderr: &str| -> f64 {
        let line = stderr.lines().find(|line| line.contains("predicted right")).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(share(&aligned) > 85.0, "{aligned}");
    assert!(share(&wrong) < 65.0, "labels of other records were learned: {wrong}");

    // Labels by name, some far too late.
    let mut text = String::new();
    for n in 0..600 {
        let [a, b, c] = row(n).0;
        text.push_str(&format!("{{\"id\":\"r{n}\",\"a\":{a},\"b\":{b},\"c\":{c}}}\n"));
        if n >= 5 {
            text.push_str(&format!("{{\"label\":\"{}\",\"id\":\"r{}\"}}\n", row(n - 5).1, n - 5));
        }
    }
    text.push_str("{\"id\":\"r1\",\"label\":\"up\"}\n{\"id\":\"nobody\",\"label\":\"up\"}\n");
    put(folder, "named.jsonl", text);
    let (lines, stderr) = out(folder, &["named.jsonl", "--id=id", "--memory=20"]);
    assert_eq!(lines.len(), 600);
    assert_eq!(lines[7]["id"], "r7");
    assert!(stderr.contains(" of 595 labels") && share(&stderr) > 75.0, "{stderr}");
    assert!(stderr.contains("2 labels not used"), "{stderr}");
}

#[test]
fn what_is_usual_is_learned_without_labels() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut text = "a,b\n".to_owned();
    for n in 0..3000 {
        let [a, _, noise] = row(n).0;
        text.push_str(&format!("{a},{}\n", 2.0 * a + 0.1 * noise));
    }
    put(folder, "usual.csv", &text);
    put(folder, "odd.csv", "a,b\n0.5,1\n0.5,-1\n0.5,30\n");
    out(folder, &["usual.csv", "--mode=unsupervised", "--checkpoint=c", "--output=summary"]);
    let before = std::fs::read(folder.join("c")).unwrap();
    let (lines, _) = out(folder, &["odd.csv", "--resume=c", "--frozen"]);
    let anomalies: Vec<f64> = lines.iter().map(|line| line["anomaly"].as_f64().unwrap()).collect();
    assert!(anomalies[0] < 0.9 && anomalies[1] > 0.95 && anomalies[2] > 0.95, "{anomalies:?}");
    assert!(lines[0].get("label").is_none());
    assert!(std::fs::read(folder.join("c")).unwrap() == before, "it was frozen");
}

#[test]
fn stopped_anywhere_and_resumed_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..1000).replace("\n0.1", "\nx0.1"));
    let ways = [
        &["--mode=classify"][..],
        &["--mode=unsupervised", "--label=class", "--window=3"],
        &["--mode=unsupervised", "--label=class", "--recurrent", "--layers=20,10"],
        &["--delay=4", "--batch=3", "--rule=gradient"],
        &["--rule=one-step"],
    ];
    for (n, more) in ways.into_iter().enumerate() {
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{name}{n}"));
        let (expected, _) = out(folder, &[&["s.csv", "--checkpoint", &whole], more].concat());
        let mut found = Vec::new();
        for limit in ["1", "136", "1", "400", "9999"] {
            let resume = ["s.csv", "--resume", &parts, "--limit", limit];
            let start = [&["s.csv", "--checkpoint", &parts, "--limit", limit], more].concat();
            found.extend(out(folder, if found.is_empty() { &start } else { &resume }).0);
        }
        let untime = |lines: Vec<Value>| lines.into_iter().map(untimed).collect::<Vec<_>>();
        assert!(untime(expected) == untime(found), "{more:?}");
        assert!(std::fs::read(folder.join(whole)).unwrap() == std::fs::read(folder.join(parts)).unwrap(), "{more:?}");
    }
}

#[test]
fn killed_anywhere_and_resumed_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..60_000));
    out(folder, &["s.csv", "--checkpoint=whole", "--output=summary"]);
    put(folder, ".c.Xy12ab.partial", "half a checkpoint");
    let written = || std::fs::metadata(folder.join("c")).and_then(|file| file.modified()).ok();
    for n in 0..20u64 {
        let before = written();
        let from = if before.is_some() { "--resume=c" } else { "--checkpoint=c" };
        let mut child = spawn(folder, &["s.csv", from, "--every=300", "--output=summary"]);
        // At any moment after it has written one.
        while written() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(500));
        }
        std::thread::sleep(Duration::from_micros(7919 * n % 9000));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (_, stderr) = out(folder, &["s.csv", "--resume=c", "--output=summary"]);
    assert!(stderr.contains(" are passed over\n60,000 records"), "{stderr}");
    let mut left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    let expected = [".c.lock", ".whole.lock", "c", "c.previous", "s.csv", "whole"];
    assert_eq!(left, expected, "what the killed ones were writing");
    assert!(std::fs::read(folder.join("whole")).unwrap() == std::fs::read(folder.join("c")).unwrap());
}

#[test]
fn a_damaged_checkpoint_is_set_aside_for_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..1000));
    let (expected, _) = out(folder, &["s.csv", "--checkpoint=whole"]);
    out(folder, &["s.csv", "--checkpoint=c", "--every=100", "--limit=350"]);
    let mut bytes = std::fs::read(folder.join("c")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    put(folder, "c", &bytes);
    let (_, stderr) = out(folder, &["s.csv", "--resume=c", "--frozen", "--limit=5"]);
    assert!(stderr.contains("do not match its checksum") && !stderr.contains("now called"), "{stderr}");
    let (lines, stderr) = out(folder, &["s.csv", "--resume=c"]);
    let warning = "the checkpoint before it is c.previous. It is now called c.damaged. Going on after record 300.";
    assert!(stderr.starts_with("warning: c: ") && stderr.contains(warning), "{stderr}");
    let untime = |lines: &[Value]| lines.iter().cloned().map(untimed).collect::<Vec<_>>();
    assert!(untime(&expected[300..]) == untime(&lines));
    assert!(std::fs::read(folder.join("whole")).unwrap() == std::fs::read(folder.join("c")).unwrap());
    assert!(std::fs::read(folder.join("c.damaged")).unwrap() == bytes);
}

#[test]
fn a_checkpoint_is_written_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..50));
    let mut child = spawn(folder, &["--checkpoint=c"]);
    child.stdin.as_mut().unwrap().write_all(csv(0..50).as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.by_ref().take(50).for_each(|line| drop(line.unwrap()));
    let output = finished(folder, &["s.csv", "--checkpoint=c"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("c: another process is writing this checkpoint"), "{stderr}");
    assert!(!folder.join("c").exists());
    // The lock of a process that was killed is nobody's.
    child.kill().unwrap();
    child.wait().unwrap();
    out(folder, &["s.csv", "--checkpoint=c", "--output=summary"]);
}

#[test]
fn a_checkpoint_replaces_only_what_the_stream_goes_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..100));
    put(folder, "notes", "of somebody");
    put(folder, "gone.previous", "all that is left");
    std::fs::create_dir(folder.join("d")).unwrap();
    out(folder, &["s.csv", "--checkpoint=c", "--limit=10"]);
    let all = || {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap_or_default())).collect();
        all.sort();
        all
    };
    let before = all();
    let there = |file: &str, from: &str| {
        format!(
            "{file}: there is a file here already; give another --checkpoint, or go on from it with --resume {from}"
        )
    };
    let cases: [(&[&str], String); 8] = [
        (&["s.csv", "--checkpoint=c"], there("c", "c")),
        (&["s.csv", "--checkpoint=notes"], there("notes", "notes")),
        (&["s.csv", "--resume=c", "--checkpoint=notes"], there("notes", "notes")),
        (&["s.csv", "--checkpoint=gone"], there("gone.previous", "gone")),
        (&["s.csv", "--checkpoint=./s.csv"], "./s.csv: it is what is to be learned from".into()),
        (&["c", "--resume=./c"], "./c: it is what is to be learned from".into()),
        (&["s.csv", "--checkpoint=d"], "d: it is a directory; expected a file".into()),
        (&["s.csv", "--resume=c", "--checkpoint=d"], "d: it is a directory; expected a file".into()),
    ];
    for (arguments, expected) in cases {
        let output = finished(folder, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(&expected) && output.stdout.is_empty(), "{arguments:?}: no {expected:?} in {stderr}");
        assert!(all() == before, "{arguments:?}");
    }
    // The same one by another name, and another one.
    out(folder, &["s.csv", "--resume=c", "--checkpoint=./c", "--limit=5"]);
    out(folder, &["s.csv", "--resume=c", "--checkpoint=other"]);
    let (_, stderr) = out(folder, &["s.csv", "--resume=other", "--checkpoint=notes", "--frozen"]);
    assert!(stderr.contains("100 records"), "{stderr}");
}

#[test]
fn a_file_is_known_again_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    put(folder, "s.csv", csv(0..100));
    put(&elsewhere, "s.csv", csv(0..200));
    out(folder, &["s.csv", "--checkpoint=c", "--limit=60"]);
    let (lines, stderr) = out(folder, &["./s.csv", "--resume=c", "--limit=10"]);
    assert_eq!((lines.len(), &lines[0]["line"]), (10, &62.into()));
    assert!(stderr.starts_with("./s.csv: its first 60 records were learned before and are passed over\n"), "{stderr}");
    let (lines, stderr) = out(&elsewhere, &["../s.csv", "--resume=../c", "--checkpoint=c"]);
    assert_eq!((lines.len(), &lines[0]["line"]), (30, &72.into()), "{stderr}");
    // Another one of the same name.
    let (lines, stderr) = out(&elsewhere, &["s.csv", "--resume=c"]);
    assert_eq!((lines.len(), &lines[0]["line"]), (200, &2.into()));
    let from = folder.join("s.csv").canonicalize().unwrap();
    let said = format!("s.csv: read from its start; what was learned before came from {}\n", from.display());
    assert!(stderr.starts_with(&said), "{stderr}");
    // Moved together with its checkpoint.
    let moved = folder.join("moved");
    std::fs::create_dir(&moved).unwrap();
    out(folder, &["s.csv", "--checkpoint=d", "--limit=60"]);
    for name in ["s.csv", "d"] {
        std::fs::rename(folder.join(name), moved.join(name)).unwrap();
    }
    let (lines, stderr) = out(&moved, &["s.csv", "--resume=d"]);
    assert!(lines.len() == 40 && stderr.starts_with("s.csv: its first 60 records were learned before"), "{stderr}");
}

/// A link names the checkpoint that it leads to: the lock and the one before lie beside that.
#[cfg(unix)]
#[test]
fn a_link_to_a_checkpoint_is_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..60));
    std::fs::create_dir(folder.join("far")).unwrap();
    out(folder, &["s.csv", "--checkpoint=far/c", "--limit=20"]);
    std::os::unix::fs::symlink("far/c", folder.join("link")).unwrap();
    out(folder, &["s.csv", "--resume=link"]);
    assert!(folder.join("link").is_symlink() && folder.join("far/c.previous").exists());
    assert!(!folder.join("link.previous").exists());
}

/// What comes out of a pipe is gone; what comes next is new.
#[cfg(unix)]
#[test]
fn of_a_named_pipe_nothing_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    for (rows, from) in [(0..20, "--checkpoint=c"), (20..50, "--resume=c")] {
        let child = spawn(folder, &["pipe", from]);
        put(folder, "pipe", csv(rows.clone()));
        assert_eq!(parsed(&child.wait_with_output().unwrap(), &[from]).0.len(), rows.len());
    }
}

#[test]
fn signals_write_a_checkpoint_and_end_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["-INT", "-TERM"] {
        let file = &format!("c{name}");
        let mut child = spawn(folder, &["--checkpoint", file]);
        // The last record is whole, but for its end; whether it counts must not depend on it.
        write!(child.stdin.as_mut().unwrap(), "{}1,2,", csv(0..50)).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let answered: Vec<String> = lines.by_ref().take(50).map(Result::unwrap).collect();
        assert!(answered[49].contains("\"record\":49"), "answered while the stream is open: {}", answered[49]);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("50 records") && stderr.contains(&format!("--resume {file} ")), "{stderr}");
        assert_eq!(lines.count(), 0);
        let mut child = spawn(folder, &["--resume", file]);
        child.stdin.take().unwrap().write_all(csv(50..60).as_bytes()).unwrap();
        let (lines, stderr) = parsed(&child.wait_with_output().unwrap(), &[]);
        assert_eq!((lines.len(), &lines[0]["record"]), (10, &50.into()));
        assert!(stderr.starts_with("60 records, 10 of them now"), "{stderr}");
    }
    let mut child = spawn(folder, &[]);
    let stdin = child.stdin.take();
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Nothing is saved"));
    drop(stdin);
}

#[test]
fn a_stall_is_said_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = spawn(folder.path(), &["--checkpoint=c", "--stall=0.2"]);
    child.stdin.as_mut().unwrap().write_all(csv(0..20).as_bytes()).unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("nothing has come for a while") {
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{line}");
    }
    // Said before it was saved.
    while !folder.path().join("c").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.stdin.take().unwrap().write_all(b"1,2,3,up\n").unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(rest.contains("21 records"), "{rest}");
}

#[test]
fn senders_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = spawn(folder.path(), &["--listen=127.0.0.1:0", "--limit=30"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address = line.strip_prefix("Listening at ").and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    for rows in [0..10, 10..25] {
        let text = csv(rows);
        // The first sender leaves without ending its last line.
        TcpStream::connect(&address).unwrap().write_all(text.trim_end().as_bytes()).unwrap();
    }
    TcpStream::connect(&address).unwrap(); // says nothing
    TcpStream::connect(&address).unwrap().write_all(csv(25..40).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let records: Vec<Value> = lines(&output.stdout).iter().map(|line| line["record"].clone()).collect();
    assert_eq!(records, (0..30).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "s.csv", csv(0..50_000));
    let mut child = spawn(folder.path(), &["s.csv", "--checkpoint=c"]);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(folder.path().join("c").exists());
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "s.csv", csv(0..100));
    put(folder, "dates.csv", "date,a,class\n2015-02-04,1,0\n");
    put(folder, "no-label.csv", "a,b\n1,2\n");
    put(folder, "other.csv", "a,b,d,class\n1,2,3,up\n");
    put(folder, "short", "x");
    put(folder, "bad.npy", "no array");
    out(folder, &["s.csv", "--checkpoint=c", "--output=summary"]);
    let cases: [(&[&str], &str); 23] = [
        (&["none.csv"], "none.csv: it could not be read"),
        (&["."], "it is a directory"),
        (&["dates.csv"], "line 2: column `date` holds \"2015-02-04\", expected a number"),
        (&["no-label.csv"], "say which one holds the label"),
        (&["no-label.csv"], "--mode unsupervised learns without"),
        (&["s.csv", "--label=state"], "there is no column `state`; there are `a`, `b`, `c`, `class`"),
        (&["bad.npy"], "not in NPY format"),
        (&["s.csv", "--format=raw"], "say it with --columns N"),
        (&["s.csv", "--format=raw", "--columns=0"], "0 values"),
        (&["s.csv", "--delimiter=é"], "one ASCII character"),
        (&["s.csv", "--range=a=5"], "expected LOW:HIGH"),
        (&["s.csv", "--rate=0"], "optimizer.rate"),
        (&["s.csv", "--layers=0"], "layers"),
        (&["s.csv", "--delay=256"], "raise --memory above 256"),
        (&["s.csv", "--mode=unsupervised", "--label=class", "--negatives=shuffled"], "window"),
        (&["s.csv", "--recurrent"], "found labels, but recurrent networks learn from streams without labels"),
        (&["s.csv", "--negatives=noise"], "not with --mode classify"),
        (&["s.csv", "--resume=short"], "short: it is not a whole safetensors file"),
        (&["s.csv", "--resume=none"], "none: it could not be read"),
        (&["other.csv", "--resume=c"], "there is no column `c`"),
        (&["s.csv", "--resume=c", "--layers=3"], "cannot be used with"),
        (&["--listen=0.0.0.0:7000"], "only programs on this machine may send"),
        (&["s.csv", "--stall=0"], "--stall 0"),
    ];
    for (arguments, expected) in cases {
        let output = finished(folder, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: no {expected:?} in {stderr}");
    }
    // Another file of the same name, as logs are rotated.
    let before = std::fs::read(folder.join("c")).unwrap();
    put(folder, "s.csv", csv(0..10));
    let output = finished(folder, &["s.csv", "--resume=c"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("it has 10 records, but 100 were learned from it before"), "{stderr}");
    assert!(std::fs::read(folder.join("c")).unwrap() == before);
    put(folder, "s.csv", csv(0..100));
    // The checkpoint of a stream is no trained network, and says so.
    let output = common::finished(folder, &["inspect", "c"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("go on with `onward stream --resume`"));
    // Nowhere to save: said when it happens, not swallowed.
    let output = finished(folder, &["s.csv", "--checkpoint=none/c", "--output=summary"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("could not be written"));
}

#[test]
fn nothing_to_learn_from_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "\n\n", "a,class\n"] {
        put(folder.path(), "s.csv", text);
        let (lines, stderr) = out(folder.path(), &["s.csv", "--checkpoint=c"]);
        assert!(lines.is_empty() && stderr == "0 records\n", "{stderr}");
        assert!(!folder.path().join("c").exists());
    }
}
