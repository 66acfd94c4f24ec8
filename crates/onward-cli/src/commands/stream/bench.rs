//! `onward bench stream`: records a second, latency, and whether memory grows.

use super::{Args, Clock, Stream};
use crate::memory::rss_bytes;
use crate::progress::grouped;
use anyhow::Result;
use clap::Parser;
use onward::train::stream::{Learner, StreamRule, StreamSettings};
use onward_data::records::{Columns, Format, LabelColumn, Records};
use rand::RngExt;
use serde_json::{Map, Value, json};
use std::io::{self, Read};
use std::time::{Duration, Instant};

const FEATURES: usize = 8;

/// Different records; they come again and again, and what the labels mean turns round each time.
const RECORDS: usize = 1 << 16;

/// Records between two looks at the memory.
const LOOK: u64 = 20_000;

/// Measures for so many seconds each: for programs, and for people.
pub fn measure(seconds: f64) -> Result<(Value, String)> {
    let time = Duration::from_secs_f64(seconds);
    let records = records();
    let mut text = format!("stream, {FEATURES} features, 2×64 units, one core\n");
    text.push_str(&format!("  {:34}{:>12}{:>11}{:>11}\n", "", "records/s", "half", "99 %"));
    let mut value = Map::new();
    let mut add = |name: &str, what: &str, clock: &Clock| {
        let (rate, half, most) = (clock.rate(), clock.quantile(0.5), clock.quantile(0.99));
        text.push_str(&format!(
            "  {what:34}{:>12}{:>11}{:>11}\n",
            grouped(rate as u64),
            format!("{half:.1} µs"),
            format!("{most:.1} µs")
        ));
        value.insert(name.into(), json!({ "records_per_second": rate, "p50_us": half, "p99_us": most }));
    };
    let mut one_step = StreamSettings::classify(2);
    one_step.rule = StreamRule::OneStep { margin: super::MARGIN };
    one_step.optimizer.rate = 0.5;
    let ways = [
        ("classify", "predict and learn labels", StreamSettings::classify(2)),
        ("one_step", "the same by the one-step rule", one_step),
        ("unsupervised", "learn without labels", StreamSettings::unsupervised()),
    ];
    let mut memory = Memory::default();
    for (name, what, settings) in ways {
        let clock = learn(settings, &records, time, (name == "classify").then_some(&mut memory))?;
        add(name, what, &clock);
    }
    let csv: String =
        records.iter().map(|(x, class)| format!("{},{class}\n", x.map(|x| x.to_string()).join(","))).collect();
    add("command_csv", "CSV in, JSON lines out", &command(csv, Format::Csv(b','), time)?);
    let fields = |(x, class): &([f32; FEATURES], usize)| {
        let fields: Vec<String> = x.iter().enumerate().map(|(i, x)| format!("\"f{i}\":{x}")).collect();
        format!("{{{},\"class\":\"{class}\"}}\n", fields.join(","))
    };
    let json: String = records.iter().map(fields).collect();
    add("command_json", "JSON lines in, JSON lines out", &command(json, Format::Json, time)?);
    if let Some((slope, error)) = slope(&memory.looks) {
        let seen = memory.looks.last().map_or(0.0, |last| last.0);
        text.push_str(&format!(
            "  memory over {} records: {slope:+.0} ± {error:.0} bytes a million\n",
            grouped(seen as u64)
        ));
        let line = json!({ "records": seen, "bytes_per_million_records": slope, "standard_error": error });
        value.insert("memory".into(), line);
    }
    Ok((Value::Object(value), text))
}

fn records() -> Vec<([f32; FEATURES], usize)> {
    let mut random = onward::random::stream(1, "records", 0);
    let mut record = |_| {
        let x: [f32; FEATURES] = std::array::from_fn(|_| f32::from(random.random_range(-1000i16..=1000)) / 1000.0);
        (x, usize::from(x[0] * x[1] + x[2] > 0.0))
    };
    (0..RECORDS).map(&mut record).collect()
}

/// `(records, bytes)` after every so many records.
struct Memory {
    looks: Vec<(f64, f64)>,
}

impl Default for Memory {
    fn default() -> Self {
        // Pages are counted when they are first written to: these must not be.
        let mut looks = vec![(1.0, 1.0); 1 << 16];
        looks.clear();
        Memory { looks }
    }
}

/// The learner alone.
fn learn(
    settings: StreamSettings,
    records: &[([f32; FEATURES], usize)],
    time: Duration,
    mut memory: Option<&mut Memory>,
) -> Result<Clock> {
    let labels = settings.classes() > 0;
    let mut learner = Learner::new(settings, FEATURES)?;
    let classes = ["0", "1"].map(|name| learner.class(name).unwrap_or(0));
    let mut clock = Clock::new();
    for n in 0u64.. {
        let (x, class) = &records[n as usize % RECORDS];
        let turned = (n as usize / RECORDS) % 2;
        let start = Instant::now();
        let number = learner.observe(x)?.number;
        if labels {
            learner.label(number, classes[class ^ turned])?;
        }
        clock.count(start.elapsed());
        if n % LOOK == LOOK - 1 {
            if let Some(memory) = memory.as_mut().filter(|memory| memory.looks.len() < memory.looks.capacity()) {
                memory.looks.extend(rss_bytes().map(|bytes| (n as f64, bytes as f64)));
            }
            if clock.start.elapsed() >= time {
                break;
            }
        }
    }
    Ok(clock)
}

/// The whole command but for its reading thread: text in, learning, text out.
fn command(text: String, format: Format, time: Duration) -> Result<Clock> {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }
    let mut stream = Stream::new(&Alone::try_parse_from(["stream", "--summary-every=1000000000000"])?.args)?;
    let columns = Columns { label: LabelColumn::Auto, ..Columns::default() };
    let again = Again { text: text.into_bytes(), at: 0, end: Instant::now() + time };
    stream.follow(&mut Records::new("bench", again, format, columns), 0, &mut io::sink())?;
    Ok(stream.clock)
}

/// The same text again and again, whole, until time is up.
struct Again {
    text: Vec<u8>,
    at: usize,
    end: Instant,
}

impl Read for Again {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.at == self.text.len() {
            if Instant::now() >= self.end {
                return Ok(0);
            }
            self.at = 0;
        }
        let take = to.len().min(self.text.len() - self.at);
        to[..take].copy_from_slice(&self.text[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}

/// Slope of a line through the points, for a million, with its standard error.
fn slope(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    // The first looks are before all memory is in use.
    let points = points.get(points.len() / 10..).filter(|points| points.len() > 2)?;
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let xx: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / xx;
    let rest: f64 = points.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2)).sum();
    Some((1e6 * slope, 1e6 * (rest / (n - 2.0) / xx).sqrt()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn slopes_are_found() {
        let points: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i) * 1e6, 7.0 + 3.0 * f64::from(i))).collect();
        let (slope, error) = super::slope(&points).unwrap();
        assert!((slope - 3.0).abs() < 1e-9 && error < 1e-6, "{slope} ± {error}");
    }
}
