//! `onward completions`.

use crate::args::Args as Command;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

/// Flags of `onward completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell: the script goes where it looks for completions.
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Command::command(), "onward", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout(), &script)?)
}
