//! Dependencies are what `deny.toml` allows: licences, sources, versions. `cargo deny check` does the same for every platform,
//! and knows advisories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::{Table, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(name: &str) -> Table {
    std::fs::read_to_string(root().join(name)).unwrap().parse().unwrap()
}

/// The words of a list in `deny.toml`.
fn rules(section: &str, list: &str) -> BTreeSet<String> {
    let words = file("deny.toml")[section][list].as_array().unwrap().clone();
    words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Whether one of the choices that a licence expression leaves is allowed in full. Nested choices are not known; the
/// expressions of today have none but at one end.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let one = |licence: &str| match licence.trim().strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner, allow),
        None => allow.contains(licence.trim()),
    };
    // AND binds tighter than OR, but a choice in brackets stands as a whole.
    let parts = split(expression, &[" OR ", "/"]);
    if parts.len() > 1 {
        return parts.iter().any(|part| allowed(part, allow));
    }
    split(expression, &[" AND "]).iter().all(|part| one(part))
}

/// The parts of an expression between separators that are not in brackets.
fn split<'a>(expression: &'a str, separators: &[&str]) -> Vec<&'a str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, letter) in expression.char_indices() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        let found = separators.iter().find(|separator| depth == 0 && expression[at..].starts_with(**separator));
        if let Some(separator) = found {
            parts.push(&expression[from..at]);
            from = at + separator.len();
        }
    }
    parts.push(&expression[from..]);
    parts
}

#[test]
fn licences_are_on_the_list() {
    let allow = rules("licenses", "allow");
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--filter-platform",
        host,
    ]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "{} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("no licence");
        assert!(allowed(licence, &allow), "{}: {licence}", package["name"]);
    }
}

#[test]
fn every_crate_is_from_one_registry_and_there_once() {
    let lock = file("Cargo.lock");
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut sources = BTreeSet::new();
    for package in lock["package"].as_array().unwrap() {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        versions.entry(text("name").unwrap()).or_default().insert(text("version").unwrap());
        // What has no source is in this workspace; the rest has a checksum too.
        if let Some(source) = text("source") {
            assert!(source.starts_with("registry+") && text("checksum").is_some(), "{package:?}");
            sources.insert(source);
        }
    }
    assert_eq!(sources.len(), 1, "{sources:?}");
    let twice: BTreeMap<_, _> = versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect();
    let skipped = rules("bans", "skip");
    let mut known = BTreeSet::new();
    for (name, versions) in &twice {
        let of: Vec<String> = versions.iter().map(|version| format!("{name}@{version}")).collect();
        let left = of.iter().filter(|one| !skipped.contains(*one)).count();
        assert_eq!(left, 1, "{of:?}: bring them together, or say in deny.toml which is to be passed over");
        known.extend(of);
    }
    let stale: Vec<_> = skipped.difference(&known).collect();
    assert!(stale.is_empty(), "deny.toml passes over what is not there twice: {stale:?}");
}

#[test]
fn choices_and_requirements_of_licences() {
    let allow = BTreeSet::from(["MIT", "Zlib"].map(String::from));
    for licence in
        ["MIT", "GPL-3.0 OR MIT", "Apache-2.0/MIT", "(MIT OR GPL-2.0) AND Zlib", "MIT AND Zlib", "A WITH B OR MIT"]
    {
        assert!(allowed(licence, &allow), "{licence}");
    }
    for licence in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Zlib) AND GPL-2.0", "no licence", "MITX", "MIT WITH B"] {
        assert!(!allowed(licence, &allow), "{licence}");
    }
}
