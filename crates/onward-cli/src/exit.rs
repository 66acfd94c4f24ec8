//! How the command ends: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted after a checkpoint.

use std::process::ExitCode;

/// The user asked for something that cannot be, or gave input that cannot be used.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The user interrupted, and everything is saved.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The exit code of an outcome, its error said on stderr.
pub fn code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if error.is::<Interrupted>() {
        return ExitCode::from(130);
    }
    // Whoever reads our output has seen enough: `onward data show | head` is no failure.
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    let is_input = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Usage>()
            || matches!(
                cause.downcast_ref::<onward::Error>(),
                Some(onward::Error::Setting { .. } | onward::Error::Data(_) | onward::Error::Checkpoint { .. })
            )
    };
    ExitCode::from(if error.is::<Usage>() || error.chain().any(is_input) { 2 } else { 1 })
}
