//! `onward export`: a trained network for programs that know nothing of Onward.

use crate::exit::Usage;
use crate::export::{self, c, onnx, rust};
use crate::progress::grouped;
use crate::terminal;
use crate::trained::{Choice, Trained};
use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::DecimalBytes;
use onward::checkpoint::write_atomically;
use std::path::{Path, PathBuf};

/// Flags of `onward export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run directory, or a checkpoint file
    #[arg(value_name = "RUN|CHECKPOINT")]
    trained: PathBuf,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What to write [default: what FILE ends in says: .onnx, .h or .rs]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// How labels are read out [default: by the layers' class scores where there are any, else in one pass where there is a
    /// head]
    #[arg(long, value_enum)]
    readout: Option<Choice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A graph of ONNX, operator set 11
    Onnx,
    /// A C99 header that needs math.h and stdint.h alone
    C,
    /// A Rust module without dependencies, for no_std too
    Rust,
}

/// Writes it.
pub fn run(args: &Args) -> Result<()> {
    let format = format(args)?;
    let trained = Trained::find(&args.trained)?;
    let network = trained.network(false)?;
    let readout = trained.readout(&network, args.readout)?;
    let refused = |problem: String| Usage(format!("{}: {problem}", trained.checkpoint.display()));
    let parts = export::parts(&network, readout).map_err(refused)?;
    let contents = match (format, &parts[..]) {
        (Format::Onnx, parts) => onnx::model(readout, parts).map_err(refused)?,
        (Format::C, [(_, network)]) => c::header(network, &identifier(&args.out)).into_bytes(),
        (Format::Rust, [(_, network)]) => rust::module(network).into_bytes(),
        _ => {
            let problem =
                "the combined readout, which is two, goes into .onnx alone: use --readout every-label or one-pass";
            return Err(refused(problem.into()).into());
        }
    };
    write_atomically(&args.out, &contents)
        .with_context(|| format!("{}: it could not be written", args.out.display()))?;
    let margin = network.recipe().readout.margin;
    let mut text = format!(
        "{}: {readout} readout, {} parameters, {}\nIt expects {}.\n",
        args.out.display(),
        grouped(network.parameters() as u64),
        DecimalBytes(contents.len() as u64),
        parts[0].1.expects()
    );
    if margin > 0.0 {
        text.push_str(&format!(
            "It sends every sample all the way up; here, readout.margin = {margin} lets clear ones leave early,\n\
             so probabilities may differ.\n"
        ));
    }
    terminal::print(&text)
}

fn format(args: &Args) -> Result<Format> {
    let end = args.out.extension().map(|end| end.to_string_lossy().to_lowercase());
    match (args.format, end.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, Some("onnx")) => Ok(Format::Onnx),
        (None, Some("h")) => Ok(Format::C),
        (None, Some("rs")) => Ok(Format::Rust),
        _ => {
            Err(Usage(format!("{}: it ends in none of .onnx, .h and .rs: give a --format", args.out.display())).into())
        }
    }
}

/// What names in C begin with: the file's name without its end, as far as it can be a name.
fn identifier(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("network_{name}") }
}
