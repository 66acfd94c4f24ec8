//! `onward reproduce` as its users meet it.

mod common;

use common::{finished, out};

#[test]
fn only_runs_of_the_experiment_itself_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "name = \"tiny\"\n[network]\nlayers = [16, 16]\n[training]\nepochs = 2\nbatch = 20\n[data]\ntrain = 400\n\
                validation = 100\n";
    std::fs::write(folder.join("tiny.toml"), text).unwrap();
    let reproduce = ["reproduce", "tiny.toml", "--threads=1"];

    out(folder, &["train", "tiny.toml", "--epochs=1", "--out=runs/tiny-1", "--threads=1"]);
    let output = finished(folder, &reproduce);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("runs/tiny-1: a run with other settings is here; give another --out"), "{error}");

    // One run is one seed, however often it is named; and is read once it is there.
    for again in [false, true] {
        let said = out(folder, &[&reproduce[..], &["tiny.toml", "--out=new"]].concat());
        let line = said.lines().find(|line| line.starts_with("tiny ") && line.ends_with(" 1 -"));
        assert!(line.is_some_and(|line| !line.contains('±')), "{said}");
        assert_eq!(said.contains("Trained for"), !again, "{said}");
    }
    // What it is told in is none of its settings.
    std::fs::write(folder.join("tiny.toml"), format!("about = \"anew\"\n{text}")).unwrap();
    assert!(!out(folder, &[&reproduce[..], &["--out=new"]].concat()).contains("Trained for"));
    // Another one of the same name is not a second seed.
    std::fs::write(folder.join("other.toml"), text.replace("16, 16", "8, 8")).unwrap();
    let output = finished(folder, &[&reproduce[..], &["other.toml", "--out=both"]].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("both/tiny-1: a run with other settings is here"), "{error}");
}
