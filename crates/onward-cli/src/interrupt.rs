//! Ctrl-C and requests to end: a first one asks, a second one does not wait for the answer.

use anyhow::{Context, Result};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

/// What must be put right before the process ends at once.
static BEFORE_EXIT: OnceLock<fn()> = OnceLock::new();

static CAUGHT: Once = Once::new();

/// When the user first asked to stop.
static ASKED: OnceLock<Instant> = OnceLock::new();

/// Requests so soon after the first are the same one: `timeout` and others signal a process, and then its group.
const SAME: Duration = Duration::from_millis(500);

/// Has them counted instead of ending the process.
pub fn catch() -> Result<()> {
    let mut outcome = Ok(());
    CAUGHT.call_once(|| outcome = ctrlc::set_handler(ask));
    outcome.context("Ctrl-C could not be prepared for")
}

/// Has them ignored: another process decides when this one ends.
pub fn ignore() -> Result<()> {
    let mut outcome = Ok(());
    CAUGHT.call_once(|| outcome = ctrlc::set_handler(|| {}));
    outcome.context("Ctrl-C could not be prepared for")
}

/// Has this done before a second Ctrl-C ends the process.
pub fn before_exit(put_right: fn()) {
    let _ = BEFORE_EXIT.set(put_right);
}

/// Asks to stop, as Ctrl-C does.
pub fn ask() {
    if ASKED.get_or_init(Instant::now).elapsed() >= SAME {
        if let Some(put_right) = BEFORE_EXIT.get() {
            put_right();
        }
        std::process::exit(130);
    }
}

/// Whether the user asked to stop.
pub fn asked() -> bool {
    ASKED.get().is_some()
}
