//! `onward report` and `report.html` as their users meet them.

mod common;

use common::{finished, out};
use std::path::Path;

/// Trains a network that takes no time.
fn train(folder: &Path, to: &str, more: &[&str]) {
    let tiny = ["--limit=400", "--set=network.layers=[16,16]", "--set=data.validation=100", "--epochs=2"];
    let rest = ["--set=training.batch=20", "--threads=1", "--progress=none", "--out", to];
    out(folder, &[&["train"][..], &tiny, &rest, more].concat());
}

/// A page's visible text and markup, without pictures and settings of other sections.
fn count(page: &str, part: &str) -> usize {
    page.matches(part).count()
}

#[cfg(target_os = "linux")]
#[test]
fn there_is_a_page_while_a_run_trains() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--set=network.layers=[16,16]", "--set=data.validation=100", "--set=training.batch=20"];
    let arguments =
        [&["train", "--limit=400", "--epochs=100000", "--progress=none", "--out=a"], &settings[..]].concat();
    let mut child = common::onward(folder.path(), &arguments).spawn().unwrap();
    let start = std::time::Instant::now();
    let page = loop {
        match std::fs::read_to_string(folder.path().join("a/report.html")) {
            Ok(page) => break page,
            Err(_) => assert!(start.elapsed().as_secs() < 60, "no page within a minute"),
        }
    };
    let again = finished(folder.path(), &["report", "a", "--out=b.html"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    for page in [page, std::fs::read_to_string(folder.path().join("b.html")).unwrap()] {
        assert!(page.contains(" of 100000 epochs.") && page.contains("of memory now"));
    }
}

#[test]
fn a_run_leaves_a_page_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a", &[]);
    let page = std::fs::read_to_string(folder.path().join("a/report.html")).unwrap();
    for heading in [
        "Error and loss",
        "Goodness of positives and negatives",
        "The same, sample by sample",
        "How each layer does",
        "What the first layer looks for",
        "Pairs it learns from",
        "What it confuses",
        "Settings",
    ] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "no {heading:?}");
    }
    assert!(page.contains("Finished after 2 epochs. Data: mnist.") && page.contains("test error, one-pass"));
    // Three of error and loss, one a layer, two epochs of one a layer, five on how the layers do.
    assert_eq!(count(&page, "<svg"), 3 + 2 + 2 * 2 + 5);
    assert_eq!(count(&page, "class=\"frame\""), 2);
    assert_eq!(count(&page, "class=\"frame\" data-name=\"epoch 1\" hidden"), 1);
    // Eight negatives, each named in its caption and for those who cannot see it.
    assert_eq!(count(&page, "<figcaption>negative: "), 8);
    assert_eq!(count(&page, "alt=\"negative: "), 8);
    // Nothing is fetched: the only addresses are the name spaces of figures.
    assert_eq!(count(&page, "http"), count(&page, "http://www.w3.org/2000/svg") + count(&page, "http-equiv"));
    assert!(!page.contains("NaN"));

    // The same page again, from what lies on disk.
    assert_eq!(out(folder.path(), &["report", "a"]), "a/report.html\n");
    let again = std::fs::read_to_string(folder.path().join("a/report.html")).unwrap();
    assert!(page == again, "the page that training wrote differs from the one that `onward report` writes");
    let probes = std::fs::read_to_string(folder.path().join("a/probes.jsonl")).unwrap();
    assert_eq!(probes.lines().count(), 2);
}

#[test]
fn runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    for (out, seed, width) in [("a", "1", "[16,16]"), ("b", "2", "[16,16]"), ("c", "1", "[8,8]")] {
        train(folder.path(), out, &["--seed", seed, "--set", &format!("network.layers={width}")]);
    }
    let text = out(folder.path(), &["report", "a", "b", "c"]);
    assert!(text.starts_with("Mean test error in per cent ± standard deviation over the seeds\n"), "{text}");
    assert!(text.contains("\nlayers [16, 16]     2 ") && text.contains("\nlayers [8, 8]       1 "), "{text}");
    assert!(
        text.replace("\n", " ").contains("only two seeds or more of each can tell")
            && text.ends_with("\ncomparison.html\n"),
        "{text}"
    );
    let page = std::fs::read_to_string(folder.path().join("comparison.html")).unwrap();
    assert!(page.contains("<h1>3 runs compared</h1>") && page.contains("<code>network.layers</code>"));
    // Error by two readouts, and loss.
    assert_eq!(count(&page, "<svg"), 4);

    let text = out(folder.path(), &["report", "a", "a/", "a/checkpoint/last.safetensors", "c"]);
    assert!(text.contains("\nlayers [16, 16]     1 ") && text.matches("left out").count() == 2, "{text}");

    let output = finished(folder.path(), &["report", "a", "b", "--out", "none/there.html"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none/there.html: it could not be written"));
}

#[test]
fn names_from_data_are_only_text() {
    let folder = tempfile::tempdir().unwrap();
    let row = |n: usize| {
        format!("{},{},{},{}\n", n % 2, n % 5, 0.1 * (n % 7) as f64, ["<script>alert(1)</script>", "b&b"][n % 2])
    };
    std::fs::write(folder.path().join("own.csv"), (0..200).map(row).collect::<String>()).unwrap();
    train(folder.path(), "a", &["--data=own.csv", "--set=network.label=prepend"]);
    let page = std::fs::read_to_string(folder.path().join("a/report.html")).unwrap();
    assert_eq!(count(&page, "<script>"), 1);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("b&amp;b"));
    assert!(!page.contains("What the first layer looks for"), "three features are no image");
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a", &[]);
    std::fs::copy(folder.path().join("a/checkpoint/last.safetensors"), folder.path().join("alone.safetensors"))
        .unwrap();
    for (path, expected) in [
        ("alone.safetensors", "alone.safetensors: it lies in no run directory"),
        ("none", "none: cannot be opened"),
        (".", ".: not a run directory"),
    ] {
        let output = finished(folder.path(), &["report", path]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_run_with_black_boxes_has_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "a", &["--set", "network.layers=[20, { kind = \"binary\" }, 20]"]);
    let page = std::fs::read_to_string(folder.path().join("a/report.html")).unwrap();
    assert!(page.contains("Finished after 2 epochs."));
    assert!(page.contains("<h2>Goodness of positives and negatives</h2>"));
}
