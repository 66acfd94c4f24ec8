//! `onward data`: what data there is, what it looks like, and how to get more.

use crate::exit::Usage;
use crate::picture::{Ink, gallery};
use crate::settings::wrapped;
use crate::{source, terminal};
use anyhow::Result;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use onward::Dataset;
use onward_data::{Fetching, Loaded};
use std::fmt::Write;
use std::path::PathBuf;

/// Lists the known data sets, draws samples, fetches data
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// List the known data sets: where they are, their size and licence
    List,
    /// Draw a few samples, and count the classes
    Show(Show),
    /// Fetch a data set from its public mirrors, and check it
    Fetch(Fetch),
}

#[derive(clap::Args, Debug)]
struct Show {
    /// A data set's name, a file or a folder
    #[arg(value_name = "NAME|PATH", default_value = "mnist")]
    source: String,
    /// How many samples
    #[arg(short, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    n: u16,
    /// Only samples of this class: its name or its number
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Which samples of the data
    #[arg(long, value_enum, default_value_t = Split::Train)]
    split: Split,
}

#[derive(clap::Args, Debug)]
struct Fetch {
    /// The data set's name, as `onward data` lists it
    name: String,
    /// Where to, instead of the cache
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Split {
    Train,
    Test,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        None | Some(What::List) => list(),
        Some(What::Show(args)) => show(args),
        Some(What::Fetch(args)) => fetch(args),
    }
}

fn show(args: &Show) -> Result<()> {
    let Loaded { train, test, .. } = source::open(&args.source)?;
    let data = match (args.split, &test) {
        (Split::Train, _) => &train,
        (Split::Test, Some(test)) => test,
        (Split::Test, None) => {
            return Err(Usage(format!("{}: it has no test samples apart; leave out --split", args.source)).into());
        }
    };
    let class = args.class.as_ref().map(|class| class_named(data, class)).transpose()?;
    let which: Vec<usize> = match class {
        None => (0..data.len()).take(args.n.into()).collect(),
        Some(class) => {
            let of_class = data.labels().iter().enumerate().filter(|(_, label)| **label == class);
            of_class.map(|(n, _)| n).take(args.n.into()).collect()
        }
    };
    let caption = |&n: &usize| match data.labels().get(n) {
        Some(&label) => format!("{} #{n}", data.classes()[label as usize]),
        None => format!("#{n}"),
    };
    let captions: Vec<String> = which.iter().map(caption).collect();
    let mut text = summary(&args.source, &train, test.as_ref());
    text.push('\n');
    text.push_str(&match data.shape().is_plain() && data.shape().len() <= MOST_NUMBERS {
        true => numbers(data, &which, &captions, terminal::columns()),
        false => gallery(data, &which, &captions, Ink::of_stdout(), terminal::columns()),
    });
    terminal::print(&text)
}

/// Plain features of more are drawn.
const MOST_NUMBERS: usize = 100;

/// The samples `which` of plain features, each after its caption.
fn numbers(data: &Dataset, which: &[usize], captions: &[String], columns: usize) -> String {
    let mut x = vec![0.0; data.shape().len()];
    let mut text = String::new();
    for (&n, caption) in which.iter().zip(captions) {
        data.read(n, &mut x);
        let numbers: Vec<String> = x.iter().map(f32::to_string).collect();
        let lines = wrapped(&format!("{caption}: {}", numbers.join(" ")), columns - 2);
        let _ = writeln!(text, "{}", lines.join("\n  "));
    }
    text
}

/// The class that is called `name`, or has this number.
fn class_named(data: &Dataset, name: &str) -> Result<u32> {
    let classes = data.classes();
    let named = classes.iter().position(|class| class == name);
    let numbered = || name.parse().ok().filter(|&n: &usize| n < classes.len());
    match named.or_else(numbered) {
        Some(class) if !data.labels().is_empty() => Ok(class as u32),
        Some(_) => Err(Usage("the data has no labels to choose a class by".into()).into()),
        None => Err(Usage(format!("found no class `{name}`; there are {}", classes.join(", "))).into()),
    }
}

/// What the data is, and how many samples each class has.
fn summary(source: &str, train: &Dataset, test: Option<&Dataset>) -> String {
    let splits: Vec<(&str, &Dataset)> =
        [("training", train)].into_iter().chain(test.map(|test| ("test", test))).collect();
    let sizes: Vec<String> =
        splits.iter().map(|(name, data)| format!("{} {name}", HumanCount(data.len() as u64))).collect();
    let mut text = format!("{source}: {} samples of {}", sizes.join(" and "), train.shape());
    let classes = train.classes();
    if train.labels().is_empty() {
        text.push_str(", without labels\n");
        return text;
    }
    let _ = writeln!(text, ", {} classes\n", classes.len());
    let counts: Vec<Vec<u64>> = splits.iter().map(|(_, data)| class_counts(data)).collect();
    let width =
        classes.iter().take(MOST_CLASSES).map(|class| class.chars().count()).max().unwrap_or(0).max("class".len());
    let _ = write!(text, "{:width$}", "class");
    splits.iter().for_each(|(name, _)| text.push_str(&format!("{name:>10}")));
    text.push('\n');
    for (i, class) in classes.iter().enumerate().take(MOST_CLASSES) {
        let _ = write!(text, "{class:width$}");
        for counts in &counts {
            let _ = write!(text, "{:>10}", HumanCount(counts.get(i).copied().unwrap_or(0)).to_string());
        }
        text.push('\n');
    }
    if classes.len() > MOST_CLASSES {
        let _ = writeln!(text, "… and {} more", classes.len() - MOST_CLASSES);
    }
    text
}

/// Classes that are listed one by one.
const MOST_CLASSES: usize = 20;

/// How many samples each class has `(K)`.
fn class_counts(data: &Dataset) -> Vec<u64> {
    let mut counts = vec![0; data.classes().len()];
    data.labels().iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

/// The known data sets, and whether they are here.
fn list() -> Result<()> {
    let cache = onward_data::cache_dir();
    let mut text = String::from("DATA SET              SIZE  LICENCE                 WHERE\n");
    let mut row = |name: &str, size: &str, licence: &str, place: &str, about: &str| {
        let _ = writeln!(text, "{name:16}{size:>10}  {licence:24}{place}\n    {about}");
    };
    row("mnist", "9.4 MB", "CC BY-SA 3.0", "built in", "MNIST: 70,000 handwritten digits, 28×28 grey");
    for known in onward_data::KNOWN {
        let bytes: u64 = known.files.iter().map(|file| file.bytes).sum();
        let here = if known.is_in(&cache) { "fetched" } else { "to be fetched" };
        row(known.name, &DecimalBytes(bytes).to_string(), known.licence, here, known.about);
    }
    let _ = writeln!(text, "\nFetched data is kept in {}", cache.display());
    text.push_str("Fetch one: onward data fetch NAME. Look at some: onward data show NAME|PATH\n");
    text.push_str("Train on one: onward train --data NAME|PATH\n");
    terminal::print(&text)
}

/// Fetches a data set.
fn fetch(args: &Fetch) -> Result<()> {
    let Some(known) = onward_data::known(&args.name) else {
        let names: Vec<&str> = onward_data::KNOWN.iter().map(|known| known.name).collect();
        let hint = if args.name == "mnist" { "; mnist is built in" } else { "" };
        return Err(Usage(format!("no data set `{}` to fetch; there are {}{hint}", args.name, names.join(", "))).into());
    };
    let into = args.into.clone().unwrap_or_else(onward_data::cache_dir);
    let style = ProgressStyle::with_template("  {bar:30} {decimal_bytes}/{decimal_total_bytes}, {eta} left")?;
    // It draws itself on terminals alone.
    let mut bar = ProgressBar::hidden();
    let folder = onward_data::fetch(known, &into, |what| match what {
        Fetching::Here(name) => eprintln!("{name} is here already"),
        Fetching::Start(url, bytes) => {
            eprintln!("{url} ({})", DecimalBytes(bytes));
            bar = ProgressBar::new(bytes).with_style(style.clone());
        }
        Fetching::Bytes(bytes) => bar.set_position(bytes),
        Fetching::Checked => bar.finish_and_clear(),
        Fetching::Failed(problem) => {
            bar.finish_and_clear();
            eprintln!("  {problem}");
        }
    })?;
    terminal::print(&format!("{} is in {}, checked. Its licence: {}\n", known.name, folder.display(), known.licence))
}
