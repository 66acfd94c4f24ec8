//! `onward bench`: how fast this machine trains, and how close that is to what it can do.

mod experiments;
mod plan;

use crate::commands::stream;
use crate::cost::{BUFFERS, Limits};
use crate::exit::Usage;
use crate::experiment::Experiment;
use crate::memory::peak_rss_bytes;
use crate::terminal;
use anyhow::{Context, Result};
use onward::engine::limits::{bandwidth, peak_flops};
use onward::settings::{
    Fields, HeadMemory, LayerSettings, NegativesKind, NegativesSettings, NetworkSettings, Order, Precision, Rule,
};
use onward::{Dataset, Event, Flow, Readout, Recipe, Shape, Trainer, Values};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Flags of `onward bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure; everything, if nothing is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// The hidden layers' widths.
    #[arg(long, value_delimiter = ',', default_values_t = [1000usize, 1000, 1000])]
    layers: Vec<usize>,
    /// Samples in a step.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Threads to compute with; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Of the kinds or experiments, only those whose name begins so.
    #[arg(long, value_name = "NAME")]
    kind: Option<String>,
    /// The network between the machines of a plan: gigabits a second.
    #[arg(long, value_name = "GBIT", default_value_t = 10.0)]
    network: f64,
    /// Microseconds that a message takes between the machines of a plan, however short it is.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50.0)]
    latency: f64,
    /// How many machines of a plan have the same layers, each for its share of every batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    replicas: u16,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Measure the memory of one network, in this process.
    #[arg(long, hide = true)]
    memory_of: Option<String>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The processor's multiply-add units and its memory.
    Limits,
    /// Training, in each precision.
    Step,
    /// Reading labels out: every-label, one-pass, and one sample alone.
    Evaluate,
    /// Peak memory against depth: Forward-Forward and backpropagation.
    Memory,
    /// Training against width, depth, batch and threads.
    Scaling,
    /// Training of every kind of layer and by every rule, as the experiments have them.
    Kinds,
    /// Training in a pipeline, beside all layers together: throughput, and how busy its blocks are.
    Pipeline,
    /// What a pipeline over 2 to 1,000 machines would come to: simulated, from what layers take here.
    Plan,
    /// Records a second, latency and memory of learning from a stream.
    Stream,
    /// Error and time of early exit, by the margin that is enough (trains a network first).
    Exit,
    /// How long each experiment would take here; only if named.
    Experiments,
}

/// Measures, and prints.
pub fn run(args: &Args) -> Result<()> {
    if let Some(of) = &args.memory_of {
        let of: MemoryOf = serde_json::from_str(of).map_err(|error| Usage(format!("--memory-of: {error}")))?;
        return of.measure();
    }
    if !(0.05..=3600.0).contains(&args.seconds) {
        return Err(Usage(format!("--seconds {}: expected 0.05 to 3600", args.seconds)).into());
    }
    for (flag, value) in [("--network", args.network), ("--latency", args.latency)] {
        if !(1e-3..=1e6).contains(&value) {
            return Err(Usage(format!("{flag} {value}: expected 0.001 to 1,000,000")).into());
        }
    }
    let threads = if args.threads > 0 { args.threads } else { std::thread::available_parallelism()?.get() };
    let bench = Bench { args, threads, data: onward_mnist::train() };
    bench.recipe(&args.layers, args.batch, Precision::F32).check()?;
    let wanted = |what| args.what.contains(&what) || (args.what.is_empty() && what != What::Experiments);
    let mut all = serde_json::Map::new();
    all.insert("threads".into(), threads.into());
    let parts: [(What, &str, Part<'_>); 11] = [
        (What::Limits, "limits", Bench::limits),
        (What::Step, "step", Bench::step),
        (What::Evaluate, "evaluate", Bench::evaluate),
        (What::Memory, "memory", Bench::memory),
        (What::Scaling, "scaling", Bench::scaling),
        (What::Kinds, "kinds", Bench::kinds),
        (What::Pipeline, "pipeline", Bench::pipeline),
        (What::Plan, "plan", Bench::plan),
        (What::Stream, "stream", |bench| stream::bench::measure(bench.args.seconds)),
        (What::Exit, "exit", Bench::exit),
        (What::Experiments, "experiments", Bench::experiments),
    ];
    for (what, name, measure) in parts {
        if wanted(what) {
            let (value, text) = measure(&bench)?;
            if !args.json {
                terminal::print(&format!("{text}\n"))?;
            }
            all.insert(name.into(), value);
        }
    }
    if args.json { terminal::print(&format!("{:#}\n", Value::Object(all))) } else { Ok(()) }
}

/// Networks whose memory is measured: a name, what they are, and how deep.
const NETS: &[(&str, &str, &[usize])] = &[
    ("narrow", "layers of 100 units, batch 1,000", &[4, 16, 64]),
    ("convolutions", "3×3 convolutions of 8 channels on 28×28, batch 100", &[2, 8, 32]),
    ("wide", "layers of 1,000 units, batch 100", &[2, 4, 8]),
];

/// Ways of training whose memory is measured: a name, and what they are.
const WAYS: &[(&str, &str)] = &[
    ("keep", "simultaneous, kept for head"),
    ("recompute", "simultaneous, recomputed"),
    ("greedy", "greedy"),
    ("backprop", "backprop"),
    ("parts", "backprop in 10 parts"),
];

/// One network trained in one way: measured in a process of its own, for a process's peak never falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MemoryOf {
    net: String,
    way: String,
    depth: usize,
}

impl MemoryOf {
    fn in_a_process_of_its_own(&self) -> Result<Value> {
        let output = std::process::Command::new(std::env::current_exe()?)
            .args(["bench", "--memory-of", &serde_json::to_string(self)?])
            .output()
            .context("the process to measure memory in could not be started")?;
        anyhow::ensure!(output.status.success(), "measuring memory: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Takes three steps, and prints the peak before and after.
    fn measure(&self) -> Result<()> {
        let mut recipe = Recipe {
            negatives: NegativesSettings { kind: NegativesKind::Uniform, ..Default::default() },
            ..Default::default()
        };
        let conv = LayerSettings::Conv(Fields { channels: 8, field: 3, stride: 1, pad: 1 });
        (recipe.network.layers, recipe.training.batch) = match &self.net[..] {
            "narrow" => (vec![100.into(); self.depth], 1_000),
            "convolutions" => (vec![conv; self.depth], 100),
            _ => (vec![1_000.into(); self.depth], 100),
        };
        recipe.training.epochs = 1;
        match &self.way[..] {
            "keep" => {}
            "recompute" => recipe.head.memory = HeadMemory::Recompute,
            "greedy" => (recipe.training.order, recipe.head.memory) = (Order::Greedy, HeadMemory::Recompute),
            way => {
                recipe.rule = Rule::Backprop;
                recipe.rival.parts = if way == "parts" { 10 } else { 1 };
            }
        }
        let (shape, samples) = (Shape::image(1, 28, 28), 3 * recipe.training.batch);
        let bytes = (0..samples * shape.len()).map(|i| (i * 7919 % 256) as u8).collect();
        let labels = (0..samples as u32).map(|n| n % 10).collect();
        let names = (0..10).map(|n| n.to_string()).collect();
        let data = Dataset::new(shape, Values::Bytes(bytes), labels, names)?;
        let mut trainer = Trainer::new(recipe, &data)?;
        let before = peak_rss_bytes();
        trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue)?;
        // Weight and smoothed gradient.
        let weights = trainer.network().parameters() * 8;
        let activities = trainer.activity_bytes();
        let line = json!({ "before": before, "peak": peak_rss_bytes(), "weights": weights, "activities": activities });
        terminal::print(&format!("{line}\n"))
    }
}

/// What a measurement answers: for programs, and for people.
type Part<'a> = fn(&Bench<'a>) -> Result<(Value, String)>;

struct Bench<'a> {
    args: &'a Args,
    threads: usize,
    data: Dataset,
}

impl Bench<'_> {
    fn recipe(&self, layers: &[usize], batch: usize, precision: Precision) -> Recipe {
        let mut recipe = Recipe::default();
        recipe.network.layers = layers.iter().map(|&width| LayerSettings::from(width)).collect();
        recipe.training.batch = batch;
        recipe.engine.precision = precision;
        recipe
    }

    /// Trains for some seconds; answers samples per second, and the trainer.
    fn train(&self, recipe: Recipe, data: &Dataset, threads: usize) -> Result<(f64, Trainer)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let slow = recipe.engine.precision == Precision::Reference;
        let batch = recipe.training.batch;
        let few;
        let data = match slow {
            true => {
                few = data.slice(0..batch.max(100))?;
                &few
            }
            false => data,
        };
        let mut trainer = Trainer::new(recipe, data)?;
        let limit = Duration::from_secs_f64(self.args.seconds);
        // The first steps warm caches and clocks up.
        let warm = if slow { 0 } else { 20 };
        let (mut start, mut first) = (Instant::now(), 0);
        let mut watch = |event: Event<'_>, trainer: &Trainer| {
            if let Event::Step(step) = event {
                if step.step == warm {
                    // In a pipeline, the trainer may be some steps further than the one that is told of.
                    (start, first) = (Instant::now(), trainer.position().step);
                }
                // Not into another epoch: the share of active rows is counted by epoch.
                let last = step.step_of_epoch + 1 == step.steps_per_epoch;
                if step.step > warm && (last || start.elapsed() >= limit) {
                    return Flow::Stop;
                }
            }
            Flow::Continue
        };
        pool.install(|| trainer.fit(data, &mut watch))?;
        let steps = trainer.position().step - first;
        let rate = (steps * batch as u64) as f64 / start.elapsed().as_secs_f64();
        Ok((rate, trainer))
    }

    fn limits(&self) -> Result<(Value, String)> {
        let mut text = format!("limits, {} threads\n", self.threads);
        let mut value = serde_json::Map::new();
        for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            let peak = peak_flops(precision, self.threads);
            value.insert(format!("{name}_flops"), json!(peak));
            let said = peak.map_or("no units for it".into(), |peak| format!("{:.0} GFLOP/s", peak / 1e9));
            text.push_str(&format!("  {name:22}{said:>18}\n"));
        }
        for (name, bytes) in BUFFERS {
            let rate = bandwidth(bytes, self.threads);
            value.insert(format!("{name}_bytes_per_second"), json!(rate));
            text.push_str(&format!("  {:22}{:>13.0} GB/s\n", format!("{name} ({} MiB)", bytes >> 20), rate / 1e9));
        }
        Ok((Value::Object(value), text))
    }

    fn step(&self) -> Result<(Value, String)> {
        let (layers, batch) = (&self.args.layers, self.args.batch);
        let limits = Limits::measure(self.threads);
        let mut text = format!("training 784-{layers:?}, batch {batch}, {} threads\n", self.threads);
        text.push_str(&format!("  {:12}{:>14}{:>14}{:>20}\n", "", "samples/s", "ms/step", "of the limit"));
        let mut value = serde_json::Map::new();
        for (name, precision) in
            [("reference", Precision::Reference), ("f32", Precision::F32), ("bf16", Precision::Bf16)]
        {
            let (rate, trainer) = self.train(self.recipe(layers, batch, precision), &self.data, self.threads)?;
            let (step, active) = (batch as f64 / rate, trainer.active_rows());
            let share = limits.step(&trainer).map(|least| least / step);
            let said = share.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
            text.push_str(&format!("  {name:12}{rate:>14.0}{:>14.2}{said:>20}\n", 1e3 * step));
            let line = json!({ "samples_per_second": rate, "seconds_per_step": step, "active_rows": active, "of_the_limit": share });
            value.insert(name.into(), line);
        }
        Ok((Value::Object(value), text))
    }

    fn evaluate(&self) -> Result<(Value, String)> {
        let (test, limits) = (onward_mnist::test(), Limits::measure(self.threads));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let mut text = format!("reading out 784-{:?}, {} threads\n", self.args.layers, self.threads);
        let mut value = serde_json::Map::new();
        for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            let recipe = self.recipe(&self.args.layers, self.args.batch, precision);
            let (_, trainer) = self.train(recipe, &self.data, self.threads)?;
            let network = trainer.into_network();
            let one = test.slice(0..1)?;
            let time = |data: &Dataset, readout| -> Result<f64> {
                pool.install(|| network.predict(data, readout))?;
                let (start, mut n) = (Instant::now(), 0u32);
                while start.elapsed().as_secs_f64() < self.args.seconds {
                    pool.install(|| network.predict(data, readout))?;
                    n += 1;
                }
                Ok(start.elapsed().as_secs_f64() / f64::from(n))
            };
            let (every, pass) = (time(&test, Readout::EveryLabel)?, time(&test, Readout::OnePass)?);
            let alone = time(&one, Readout::OnePass)?;
            let bytes = network.parameters() as f64 * if precision == Precision::Bf16 { 2.0 } else { 4.0 };
            let least = limits.reading(bytes);
            text.push_str(&format!("  {name}: every-label, {} samples: {:.0} ms\n", test.len(), 1e3 * every));
            text.push_str(&format!("  {name}: one-pass, {} samples: {:.0} ms\n", test.len(), 1e3 * pass));
            text.push_str(&format!(
                "  {name}: one-pass, one sample: {:.0} µs ({:.0} µs to read the weights)\n",
                1e6 * alone,
                1e6 * least
            ));
            let line = json!({ "every_label_seconds": every, "one_pass_seconds": pass, "samples": test.len(),
                               "one_sample_seconds": alone, "reading_weights_seconds": least });
            value.insert(name.into(), line);
        }
        Ok((Value::Object(value), text))
    }

    fn memory(&self) -> Result<(Value, String)> {
        let mut text = String::new();
        let mut all = serde_json::Map::new();
        for (net, title, depths) in NETS {
            text.push_str(&format!("peak memory of training, MB: {title}\n  {:>30}", "layers"));
            depths.iter().for_each(|depth| text.push_str(&format!("{depth:>12}")));
            text.push('\n');
            let mut lines = Vec::new();
            for (way, said) in WAYS {
                text.push_str(&format!("  {said:>30}"));
                for &depth in *depths {
                    let of = MemoryOf { net: (*net).into(), way: (*way).into(), depth };
                    let measured = of.in_a_process_of_its_own()?;
                    let at = |key: &str| measured[key].as_f64().unwrap_or(f64::NAN);
                    text.push_str(&format!("{:>12.1}", (at("peak") - at("before")) / 1e6));
                    lines.push(json!({ "way": said, "layers": depth, "measured": measured }));
                }
                text.push('\n');
            }
            let weights = depths.iter().map(|&depth| {
                let of = lines.iter().find(|line| line["layers"] == depth);
                of.and_then(|line| line["measured"]["weights"].as_f64()).unwrap_or(f64::NAN)
            });
            text.push_str(&format!("  {:>30}", "weights and their averages"));
            weights.for_each(|bytes| text.push_str(&format!("{:>12.1}", bytes / 1e6)));
            text.push('\n');
            all.insert((*net).into(), lines.into());
        }
        Ok((Value::Object(all), text))
    }

    fn scaling(&self) -> Result<(Value, String)> {
        let mut text = String::from("training by size, f32 (samples/s)\n");
        let mut value = serde_json::Map::new();
        let mut measure =
            |name: &str, sizes: &[usize], build: &dyn Fn(usize) -> (Vec<usize>, usize, usize)| -> Result<()> {
                let mut lines = Vec::new();
                text.push_str(&format!("  {name:8}"));
                for &size in sizes {
                    let (layers, batch, threads) = build(size);
                    let recipe = self.recipe(&layers, batch, Precision::F32);
                    let rate = self.train(recipe, &self.data, threads)?.0;
                    text.push_str(&format!("{:>14}", format!("{size}: {rate:.0}")));
                    lines.push(json!({ "size": size, "samples_per_second": rate }));
                }
                text.push('\n');
                value.insert(name.into(), lines.into());
                Ok(())
            };
        let (batch, threads) = (self.args.batch, self.threads);
        measure("width", &[250, 500, 1000, 2000], &|width| (vec![width; 3], batch, threads))?;
        measure("depth", &[1, 2, 4, 8], &|depth| (vec![500; depth], batch, threads))?;
        measure("batch", &[10, 50, 200, 1000], &|batch| (vec![1000; 3], batch, threads))?;
        let counts: Vec<usize> = (0..).map(|n| 1 << n).take_while(|&n| n <= threads).collect();
        measure("threads", &counts, &|threads| (vec![1000; 3], batch, threads))?;
        Ok((Value::Object(value), text))
    }

    /// What the names of kinds or experiments are to begin with.
    fn asked(&self) -> &str {
        self.args.kind.as_deref().unwrap_or_default()
    }

    fn kinds(&self) -> Result<(Value, String)> {
        let limits = Limits::measure(self.threads);
        let colour = colour_noise()?;
        let mut text = format!("training by kind, {} threads\n", self.threads);
        text.push_str(&format!("  {:26}{:6}{:>12}{:>16}\n", "", "", "samples/s", "of the limit"));
        let mut lines = Vec::new();
        let plain = |name: &str| Ok::<_, anyhow::Error>(Experiment::open(name)?.recipe);
        let with = |name: &str, change: fn(&mut Recipe)| {
            let mut recipe = plain(name)?;
            change(&mut recipe);
            Ok::<_, anyhow::Error>(recipe)
        };
        let conv = |channels, stride| LayerSettings::Conv(Fields { channels, field: 3, stride, pad: 1 });
        let convolutions = Recipe {
            network: NetworkSettings {
                layers: vec![conv(64, 1), conv(128, 2), conv(256, 2)],
                ..plain("unsupervised")?.network
            },
            ..plain("unsupervised")?
        };
        let kinds = [
            ("default", plain("default")?, &self.data),
            ("supervised", plain("supervised")?, &self.data),
            ("unsupervised", plain("unsupervised")?, &self.data),
            ("unsupervised-local", plain("unsupervised-local")?, &self.data),
            ("convolutions 64-128-256", convolutions, &self.data),
            ("recurrent", plain("recurrent")?, &self.data),
            ("cifar10", plain("cifar10")?, &colour),
            ("default, backprop", with("default", |r| r.rule = Rule::Backprop)?, &self.data),
            ("default, perturbation", with("default", |r| r.rule = Rule::Perturbation)?, &self.data),
            ("cifar10-backprop", plain("cifar10-backprop")?, &colour),
        ];
        let asked = self.asked();
        if !kinds.iter().any(|(name, ..)| name.starts_with(asked)) {
            let names = kinds.map(|(name, ..)| name).join("\", \"");
            return Err(Usage(format!("--kind {asked}: expected the beginning of one of \"{names}\"")).into());
        }
        for (name, recipe, data) in kinds.into_iter().filter(|(name, ..)| name.starts_with(asked)) {
            for (said, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
                let mut recipe = recipe.clone();
                recipe.engine.precision = precision;
                let batch = recipe.training.batch as f64;
                let (rate, trainer) = self.train(recipe, data, self.threads)?;
                let share = limits.step(&trainer).map(|least| least * rate / batch);
                let of = share.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
                text.push_str(&format!("  {name:26}{said:6}{rate:>12.0}{of:>16}\n"));
                lines.push(
                    json!({ "kind": name, "precision": said, "samples_per_second": rate, "of_the_limit": share }),
                );
            }
        }
        Ok((lines.into(), text))
    }

    fn pipeline(&self) -> Result<(Value, String)> {
        let mut text = format!(
            "training 784-{:?} in blocks, batch {}, {} threads\n",
            self.args.layers, self.args.batch, self.threads
        );
        text.push_str(&format!(
            "  {:14}{:>8}{:>11}   {}\n",
            "negatives", "blocks", "samples/s", "layers of each block: how busy it is"
        ));
        let mut lines = Vec::new();
        for (name, kind, delay) in [("uniform", NegativesKind::Uniform, 0), ("hard, delay 10", NegativesKind::Hard, 10)]
        {
            // 0 blocks: all layers together.
            for blocks in 0..=self.threads.min(self.args.layers.len() + 1) {
                let mut recipe = self.recipe(&self.args.layers, self.args.batch, Precision::F32);
                (recipe.negatives.kind, recipe.negatives.delay) = (kind, delay);
                if blocks > 0 {
                    (recipe.training.order, recipe.training.blocks) = (Order::Pipelined, blocks);
                }
                let (rate, trainer) = self.train(recipe, &self.data, self.threads)?;
                let together = if blocks == 0 { "-".into() } else { blocks.to_string() };
                let (mut line, mut busy) = (format!("  {name:14}{together:>8}{rate:>11.0} "), Vec::new());
                let indent = line.len();
                for (layers, seconds) in trainer.occupancy().iter().flat_map(|work| &work.blocks) {
                    let share = seconds / trainer.occupancy().map_or(1.0, |work| work.seconds);
                    let name = match layers.len() {
                        0 => "head".into(),
                        1 => layers.start.to_string(),
                        _ => format!("{}-{}", layers.start, layers.end - 1),
                    };
                    let said = format!("  {name}: {:.0} %", 100.0 * share);
                    if line.len() + said.len() > 80 {
                        text.push_str(&format!("{line}\n"));
                        line = " ".repeat(indent);
                    }
                    line.push_str(&said);
                    busy.push(json!({ "layers": [layers.start, layers.end], "busy": share }));
                }
                text.push_str(&format!("{}\n", line.trim_end()));
                lines.push(json!({ "negatives": name, "blocks": blocks, "samples_per_second": rate, "busy": busy }));
            }
        }
        Ok((lines.into(), text))
    }

    fn exit(&self) -> Result<(Value, String)> {
        let mut recipe = self.recipe(&self.args.layers, self.args.batch, Precision::F32);
        recipe.training.epochs = 3;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let mut trainer = Trainer::new(recipe, &self.data)?;
        pool.install(|| trainer.fit(&self.data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue))?;
        let (mut network, test) = (trainer.into_network(), onward_mnist::test());
        let mut text =
            String::from("early exit after 3 epochs, by margin (nats): error and time on the test samples\n");
        text.push_str(&format!("  {:>8}{:>26}{:>26}\n", "margin", "every-label", "one-pass"));
        let mut lines = Vec::new();
        let mut whole = [0.0; 2];
        for margin in [0.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 5.0, 3.0, 2.0, 1.0] {
            network.set_exit_margin(margin)?;
            let mut line = json!({ "margin": margin });
            text.push_str(&format!("  {:>8}", if margin == 0.0 { "never".into() } else { margin.to_string() }));
            for (whole, readout) in whole.iter_mut().zip([Readout::EveryLabel, Readout::OnePass]) {
                let (start, mut n, mut error) = (Instant::now(), 0u32, 0.0);
                while n < 2 || start.elapsed().as_secs_f64() < self.args.seconds.min(1.0) {
                    error = pool.install(|| network.evaluate(&test, readout))?.error();
                    n += 1;
                }
                let seconds = start.elapsed().as_secs_f64() / f64::from(n);
                if margin == 0.0 {
                    *whole = seconds;
                }
                let said = format!("{error:.2} % in {:.0} % of it", 100.0 * seconds / *whole);
                text.push_str(&format!("{said:>26}"));
                line[readout.to_string()] = json!({ "error": error, "seconds": seconds });
            }
            text.push('\n');
            lines.push(line);
        }
        Ok((lines.into(), text))
    }
}

/// Colour images of noise in ten classes: the shape of CIFAR-10, for timing alone.
fn colour_noise() -> Result<Dataset> {
    let (shape, samples) = (Shape::image(3, 32, 32), 2_000);
    let mut state = 1u32;
    let bytes = (0..samples * shape.len()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let labels = (0..samples as u32).map(|n| n % 10).collect();
    let names = (0..10).map(|n| n.to_string()).collect();
    Ok(Dataset::new(shape, Values::Bytes(bytes.collect()), labels, names)?)
}
