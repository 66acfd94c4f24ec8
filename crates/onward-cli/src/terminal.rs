//! Standard output: how wide it is, and what is written to it.

use anyhow::Result;
use std::io::{IsTerminal, Write};

/// Characters in a line: the terminal's, at most 100; 80 where there is none.
pub fn columns() -> usize {
    let width = || console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    if std::io::stdout().is_terminal() { width().unwrap_or(80).clamp(40, 100) } else { 80 }
}

/// Whether standard output is a terminal whose cursor can be moved.
pub fn has_cursor() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb" && !kind.is_empty())
}

/// Writes to standard output; a reader that has gone is an error, which `exit::code` takes for success.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
