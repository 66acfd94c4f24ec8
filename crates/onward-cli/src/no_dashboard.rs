//! What stands in for the dashboard in a build without the feature `tui`: nothing that can be opened.

use crate::exit::Usage;
use crate::progress::Start;
use crate::run_dir::Metrics;
use crate::status::{Controls, Status};
use crate::watched::State;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

/// Whether this build has a dashboard.
pub const BUILT_IN: bool = false;

/// What to do about that.
pub const HOW_TO_GET: &str = "this build has no dashboard, which is an optional part: build it with \
     `cargo build --release --features tui`, or take --progress bar";

/// What a dashboard says of a run at its top.
#[derive(Debug)]
pub struct Heading;

impl Heading {
    /// Of a run that is about to train.
    pub fn of(_: &Start<'_>) -> Self {
        Heading
    }
}

/// A dashboard on the terminal.
#[derive(Debug)]
pub enum Screen {}

impl Screen {
    /// Never.
    pub fn open(_: Heading, _: Arc<Controls>) -> Option<Self> {
        None
    }

    /// Where training is now.
    pub fn status(&self, _: &Status) {
        match *self {}
    }

    /// One epoch is done.
    pub fn epoch(&self, _: &Metrics) {
        match *self {}
    }

    /// A sentence for people.
    pub fn message(&self, _: &str) {
        match *self {}
    }
}

/// Shows a run that trains elsewhere, until the user leaves.
///
/// # Errors
/// Always: there is nothing to show it with.
pub fn watch(_: &Path) -> Result<Option<State>> {
    Err(Usage(HOW_TO_GET.into()).into())
}
