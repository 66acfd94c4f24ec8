//! `onward bench` measures what it says it measures; how fast it is, is for people to judge.

mod common;

use common::{finished, out};
use serde_json::Value;
use std::path::Path;

fn bench(arguments: &[&str]) -> Value {
    let small = ["bench", "--layers=20,20", "--batch=50", "--seconds=0.05", "--threads=1", "--json"];
    serde_json::from_str(&out(Path::new("."), &[&small[..], arguments].concat())).unwrap()
}

/// A rate, or whatever else is more than nothing.
#[track_caller]
fn positive(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.filter(|x| *x > 0.0 && x.is_finite()).unwrap_or_else(|| panic!("{pointer} is {found:?} in {value}"))
}

#[test]
fn reading_out_is_measured_in_both_precisions() {
    let found = bench(&["evaluate"]);
    for precision in ["f32", "bf16"] {
        for what in ["every_label_seconds", "one_pass_seconds", "one_sample_seconds", "reading_weights_seconds"] {
            positive(&found, &format!("/evaluate/{precision}/{what}"));
        }
    }
}

#[test]
fn a_plan_never_promises_more_than_its_bound() {
    let found = bench(&["plan", "--replicas=2", "--latency=1", "--network=1000"]);
    for (network, least, most) in [("given", 2, 6), ("deep", 2, 1000), ("deep_head", 2, 1000)] {
        let lines = found["plan"][network]["ranks"].as_array().unwrap();
        assert_eq!(lines[0]["ranks"], least);
        assert_eq!(lines[0]["plan"]["blocks"], 1, "two replicas of one block");
        assert!(lines.iter().all(|line| line["ranks"].as_u64().unwrap() <= most));
        for line in lines {
            let (rate, bound) = (positive(line, "/plan/steps_per_second"), positive(line, "/plan/bound"));
            assert!(rate <= bound * 1.000_001, "{line}");
            assert_eq!(line["plan"]["blocks"].as_u64().unwrap() * 2, line["ranks"].as_u64().unwrap());
        }
    }
    let refused = finished(Path::new("."), &["bench", "plan", "--batch=3", "--replicas=4"]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("--replicas 4: a batch of 3 cannot be shared by so many"), "{stderr}");
}

#[test]
fn streams_are_measured_in_the_library_and_as_a_command() {
    let found = bench(&["stream"]);
    for what in ["classify", "one_step", "unsupervised", "command_csv", "command_json"] {
        let half = positive(&found, &format!("/stream/{what}/p50_us"));
        let most = positive(&found, &format!("/stream/{what}/p99_us"));
        assert!(half <= most, "{what}: half within {half} µs, 99 % within {most} µs");
        positive(&found, &format!("/stream/{what}/records_per_second"));
    }
}

#[test]
fn what_people_read_fits_in_80_columns() {
    let layers = "--layers=20,20,20,20,20,20,20,20";
    let text =
        out(Path::new("."), &["bench", "step", "pipeline", layers, "--batch=50", "--seconds=0.05", "--threads=9"]);
    assert!(text.contains("\n                                      ") && text.contains("bf16"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
