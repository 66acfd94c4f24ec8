//! Ctrl-C and requests to end: a first one asks, a second one does not wait for the answer.

use anyhow::{Context, Result};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static CAUGHT: Once = Once::new();

/// How often the user asked to stop.
static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);

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

/// Asks to stop, as Ctrl-C does.
pub fn ask() {
    if INTERRUPTS.fetch_add(1, Ordering::SeqCst) > 0 {
        std::process::exit(130);
    }
}

/// Whether the user asked to stop.
pub fn asked() -> bool {
    INTERRUPTS.load(Ordering::SeqCst) > 0
}
