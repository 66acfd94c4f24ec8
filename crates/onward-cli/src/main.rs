//! The command `onward`.

mod args;
mod children;
mod commands;
mod confusion;
mod cost;
#[cfg_attr(not(feature = "tui"), path = "no_dashboard.rs")]
mod dashboard;
mod exit;
mod experiment;
mod export;
mod feed;
mod health;
mod interrupt;
mod lock;
mod memory;
mod picture;
mod progress;
mod provenance;
mod ranks;
mod report;
mod run_dir;
mod scalars;
mod settings;
mod source;
mod status;
mod tensorboard;
mod terminal;
mod trained;
mod watched;

use args::{Args, Command, TOUR};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    exit::code(match &args.command {
        None => std::io::stdout().write_all(TOUR.as_bytes()).map_err(Into::into),
        Some(Command::Train(args)) => commands::train::run(args),
        Some(Command::Eval(args)) => commands::eval::run(args),
        Some(Command::Predict(args)) => commands::predict::run(args),
        Some(Command::Watch(args)) => commands::watch::run(args),
        Some(Command::Inspect(args)) => commands::inspect::run(args),
        Some(Command::Doctor(args)) => commands::doctor::run(args),
        Some(Command::Verify(args)) => commands::verify::run(args),
        Some(Command::Export(args)) => commands::export::run(args),
        Some(Command::Report(args)) => commands::report::run(args),
        Some(Command::Data(args)) => commands::samples::run(args),
        Some(Command::Stream(args)) => commands::stream::run(args),
        Some(Command::Compare(args)) => commands::compare::run(args),
        Some(Command::Sweep(args)) => commands::sweep::run(args),
        Some(Command::Reproduce(args)) => commands::reproduce::run(args),
        Some(Command::Bench(args)) => commands::bench::run(args),
        Some(Command::Experiments(args)) => commands::experiments::run(args),
        Some(Command::Completions(args)) => commands::completions::run(args),
    })
}
