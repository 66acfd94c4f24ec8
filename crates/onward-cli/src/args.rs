//! The command line: what can be asked for, and the help that says so.

use crate::commands::{
    bench, compare, completions, doctor, eval, experiments, export, inspect, predict, report, reproduce, samples,
    stream, sweep, train, verify, watch,
};
use clap::{Parser, Subcommand};

/// Train neural networks with forward passes only (Hinton's Forward-Forward algorithm).
#[derive(Debug, Parser)]
#[command(name = "onward", version, max_term_width = 100)]
pub struct Args {
    /// What to do; without it, a short tour.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network: the default experiment, one that `onward experiments` lists, or a file of your own.
    Train(train::Args),
    /// Measure the error of a trained network, and show which classes it confuses.
    Eval(eval::Args),
    /// Label images or data with a trained network.
    Predict(predict::Args),
    /// Learn from records as they come, and say at once what each is taken for and how unusual it is.
    Stream(Box<stream::Args>),
    /// Follow a run that trains elsewhere, by the files in its directory.
    Watch(watch::Args),
    /// Say what a run or a checkpoint is, and how it went.
    Inspect(inspect::Args),
    /// Say what is wrong with a run, and what helps.
    Doctor(doctor::Args),
    /// Train a finished run again, and say whether it comes to the same bits.
    Verify(verify::Args),
    /// Write a trained network as ONNX, a C header or Rust source, to be used without Onward.
    Export(export::Args),
    /// Write a run as a page to look at, or compare several runs on one page.
    Report(report::Args),
    /// Train one experiment by several rules: Forward-Forward beside backpropagation and random perturbation.
    Compare(compare::Args),
    /// Train many combinations of settings side by side, and rank them on validation samples.
    Sweep(sweep::Args),
    /// Train the paper's experiments and compare its errors with ours, or print what our runs came to.
    Reproduce(reproduce::Args),
    /// Measure how fast this machine trains and reads out, beside what its processor and memory can do.
    Bench(bench::Args),
    /// List the experiments, print one as a file, or explain every setting.
    Experiments(experiments::Args),
    /// List the data sets at hand, draw samples, or fetch data from its public mirrors.
    Data(samples::Args),
    /// Print a completion script for your shell.
    Completions(completions::Args),
}

/// What `onward` says when asked for nothing.
pub const TOUR: &str = "\
Onward trains neural networks with forward passes only: each layer learns for
itself, to be more active on real data and less on data that should not occur.

  onward train                 train on MNIST (built in), in a minute or two
  onward inspect RUN           how that went
  onward watch RUN             how it goes, from another terminal
  onward doctor RUN            what is wrong with it, if anything
  onward verify RUN            train it again: does it come to the same bits?
  onward report RUN RUN        runs compared: errors and curves, as a page
  onward compare default       Forward-Forward beside backpropagation
  onward sweep FILE            many settings tried, the best first
  onward predict RUN a.png     what the network makes of images of your own
  onward train --data PATH     the same on your data: images, CSV, NPY, IDX
  onward stream sensor.csv     learn from records as they come, without end
  onward experiments           what else there is to train
  onward COMMAND --help        every flag of a command
";
