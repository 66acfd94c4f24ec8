//! `onward predict`: labels and probabilities for files that the network has never seen.

use crate::exit::Usage;
use crate::trained::{Choice, Trained};
use anyhow::{Context, Result};
use clap::ValueEnum;
use onward::checkpoint::Draft;
use onward::{Dataset, Network, Readout, Values};
use serde::{Serialize, Serializer};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Samples that are read, predicted and written together.
const TOGETHER: usize = 500;

/// Predicts the labels of images and data files
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run directory, or a checkpoint file
    #[arg(value_name = "RUN|CHECKPOINT")]
    trained: PathBuf,
    /// Images (PNG, JPEG), folders of images, or data files (IDX, CIFAR, CSV, NPY, NPZ)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Run the programs that the network's black boxes name: only for networks that you trust
    #[arg(long)]
    allow_programs: bool,
    /// How labels are read out [default: by the layers' class scores where there are any, else in one pass where there is a
    /// head]
    #[arg(long, value_enum)]
    readout: Option<Choice>,
    /// How the predictions are written: CSV with a header, or a JSON object per line
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Write to FILE, which appears only when everything is done, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the N likeliest classes of each sample, the likeliest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    top: Option<u16>,
    /// Scale images of another size to the network's
    #[arg(long)]
    resize: bool,
    /// Swap dark and light first: MNIST's digits, for one, are white on black
    #[arg(long)]
    invert: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Csv,
    Json,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let trained = Trained::find(&args.trained)?;
    let network = trained.network(args.allow_programs)?;
    let readout = trained.readout(&network, args.readout)?;
    let sink = Sink::open(args.output.as_deref()).with_context(|| args.unwritten())?;
    let rows = Rows::start(args, network.class_names(), sink).with_context(|| args.unwritten())?;
    let mut predictor = Predictor { args, network: &network, readout, rows, left_out: 0 };
    for path in &args.files {
        predictor.path(path)?;
    }
    predictor.rows.finish().with_context(|| args.unwritten())?;
    match predictor.left_out {
        0 => Ok(()),
        n => Err(Usage(format!("{n} of the files could not be predicted; see above")).into()),
    }
}

impl Args {
    fn unwritten(&self) -> String {
        let output = self.output.as_deref().unwrap_or(Path::new("standard output"));
        format!("{}: it could not be written", output.display())
    }
}

struct Predictor<'a> {
    args: &'a Args,
    network: &'a Network,
    readout: Readout,
    rows: Rows<'a>,
    /// Files that could not be read: said at once, and no reason to stop.
    left_out: usize,
}

impl Predictor<'_> {
    fn path(&mut self, path: &Path) -> Result<()> {
        let mut unread = Vec::new();
        let images = match path.is_dir() {
            true => onward_data::images_below(path, &mut |error| {
                unread.push(error);
                Ok(())
            })?,
            false if onward_data::is_image(path) => vec![path.to_owned()],
            false => Vec::new(),
        };
        if images.is_empty() {
            return match onward_data::open_samples(path, self.network.shape()) {
                Ok(data) => self.data(path, &data),
                Err(error) if unread.is_empty() => self.leave_out(&error),
                Err(_) => unread.iter().try_for_each(|error| self.leave_out(error)),
            };
        }
        unread.iter().try_for_each(|error| self.leave_out(error))?;
        for images in images.chunks(TOGETHER) {
            match self.read(images) {
                Ok(data) => self.predict(data, |n| images[n].display().to_string())?,
                // One bad image is no reason to lose the others.
                Err(_) => images.iter().try_for_each(|image| match self.read(std::slice::from_ref(image)) {
                    Ok(data) => self.predict(data, |_| image.display().to_string()),
                    Err(error) => self.leave_out(&error),
                })?,
            }
        }
        Ok(())
    }

    fn data(&mut self, path: &Path, data: &Dataset) -> Result<()> {
        for start in (0..data.len()).step_by(TOGETHER) {
            let some = data.slice(start..data.len().min(start + TOGETHER))?;
            self.predict(some, |n| format!("{}[{}]", path.display(), start + n))?;
        }
        Ok(())
    }

    fn read(&self, images: &[PathBuf]) -> onward_data::Result<Dataset> {
        onward_data::read_images(images, self.network.shape(), self.args.resize)
    }

    fn predict(&mut self, data: Dataset, name: impl Fn(usize) -> String) -> Result<()> {
        let data = if self.args.invert { inverted(data)? } else { data };
        let predictions = self.network.predict(&data, self.readout)?;
        let mut write = || (0..data.len()).try_for_each(|n| self.rows.write(&name(n), predictions.row(n)));
        write().and_then(|()| self.rows.flush()).with_context(|| self.args.unwritten())
    }

    fn leave_out(&mut self, error: &onward_data::Error) -> Result<()> {
        eprintln!("error: {error}");
        self.left_out += 1;
        Ok(())
    }
}

/// Dark for light.
fn inverted(data: Dataset) -> onward::Result<Dataset> {
    let values = match data.values() {
        Values::Bytes(v) => Values::Bytes(v.iter().map(|x| 255 - x).collect()),
        Values::Floats(v) => Values::Floats(v.iter().map(|x| 1.0 - x).collect()),
    };
    Dataset::new(data.shape(), values, data.labels().to_vec(), data.classes().to_vec())
}

/// The rows of the answer, in the format asked for.
struct Rows<'a> {
    classes: &'a [String],
    top: Option<usize>,
    to: To,
}

enum To {
    Csv(Box<csv::Writer<Sink>>),
    Json(BufWriter<Sink>),
}

/// One sample as a JSON object.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    label: &'a str,
    probability: f64,
    #[serde(serialize_with = "in_order")]
    probabilities: Vec<(&'a str, f64)>,
}

fn in_order<S: Serializer>(pairs: &[(&str, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

impl<'a> Rows<'a> {
    fn start(args: &Args, classes: &'a [String], sink: Sink) -> io::Result<Self> {
        let top = args.top.map(|top| usize::from(top).min(classes.len()));
        let to = match args.format {
            Format::Json => To::Json(BufWriter::new(sink)),
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(sink);
                let mut header = ["file", "label", "probability"].map(String::from).to_vec();
                match top {
                    Some(top) => {
                        header.extend((2..=top).flat_map(|n| [format!("label_{n}"), format!("probability_{n}")]))
                    }
                    None => header.extend(classes.iter().map(|class| format!("p_{class}"))),
                }
                csv.write_record(header).map_err(io_error)?;
                To::Csv(Box::new(csv))
            }
        };
        Ok(Rows { classes, top, to })
    }

    /// One sample. `probabilities: (K)`.
    fn write(&mut self, file: &str, probabilities: &[f32]) -> io::Result<()> {
        let mut likeliest: Vec<usize> = (0..probabilities.len()).collect();
        likeliest.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let shown = match self.top {
            Some(top) => &likeliest[..top],
            None => &(0..probabilities.len()).collect::<Vec<_>>(),
        };
        let pair = |class: usize| (&self.classes[class][..], millionths(probabilities[class]));
        let (label, probability) = pair(likeliest[0]);
        match &mut self.to {
            To::Json(to) => {
                let probabilities = shown.iter().map(|&class| pair(class)).collect();
                serde_json::to_writer(&mut *to, &Line { file, label, probability, probabilities })?;
                writeln!(to)?;
            }
            To::Csv(csv) => {
                let mut record = vec![file.to_owned(), label.to_owned(), format!("{probability:.6}")];
                for &class in if self.top.is_some() { &shown[1..] } else { shown } {
                    let (label, probability) = pair(class);
                    record.extend(self.top.map(|_| label.to_owned()));
                    record.push(format!("{probability:.6}"));
                }
                csv.write_record(record).map_err(io_error)?;
            }
        }
        Ok(())
    }

    /// Passes on what is written so far: whoever reads along gets whole batches.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Csv(csv) => csv.flush(),
            To::Json(json) => json.flush(),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.to {
            To::Csv(csv) => csv.into_inner().map_err(|error| error.into_error())?.finish(),
            To::Json(json) => json.into_inner().map_err(|error| error.into_error())?.finish(),
        }
    }
}

/// What went wrong beneath: whether it is a reader that left, say.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A probability without the digits that single precision does not hold.
fn millionths(p: f32) -> f64 {
    (f64::from(p) * 1e6).round() / 1e6
}

/// Where the answer goes.
enum Sink {
    Stdout(io::Stdout),
    File(Draft),
}

impl Sink {
    fn open(output: Option<&Path>) -> io::Result<Self> {
        match output {
            None => Ok(Sink::Stdout(io::stdout())),
            Some(path) => Draft::at(path).map(Sink::File),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match self {
            Sink::Stdout(_) => Ok(()),
            Sink::File(draft) => draft.finish(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(to) => to.write(bytes),
            Sink::File(to) => to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(to) => to.flush(),
            Sink::File(to) => to.flush(),
        }
    }
}
