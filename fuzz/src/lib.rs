//! Fuzz targets: one for each driver, in `fuzz_targets/`. `README.md` beside this folder says how to run them.
#![allow(dead_code)]

pub mod drivers;
#[path = "../../crates/onward-cli/src/exit.rs"]
mod exit;
#[path = "../../crates/onward-cli/src/experiment.rs"]
mod experiment;
#[path = "../../crates/onward-cli/src/settings.rs"]
mod settings;
