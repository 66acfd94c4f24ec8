//! What a sweep tries: a file of values and ranges, and the experiments that come of it.

use crate::exit::Usage;
use crate::experiment::Experiment;
use crate::settings::{self, Kind, SETTINGS};
use anyhow::Result;
use onward::random::stream;
use rand::RngExt;
use std::path::Path;
use toml::{Table, Value};

/// A sweep, every experiment resolved.
#[derive(Clone, Debug)]
pub struct Space {
    /// What it is called: the file's name.
    pub name: String,
    /// Combinations of settings, in order of the keys: the last one changes fastest, draws faster still.
    pub trials: Vec<Trial>,
    /// Each trial is trained once with each.
    pub seeds: Vec<u64>,
}

/// One combination of settings.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The settings that vary between trials.
    pub values: Vec<(String, Value)>,
    /// The experiment with the first seed, or why these settings do not go together.
    pub experiment: Result<Experiment, String>,
}

/// Runs that a sweep may have at most: a misprint should not train for years.
const MOST: usize = 10_000;

/// What a file may hold.
const KEYS: [&str; 7] = ["experiment", "seeds", "draws", "draw_seed", "set", "grid", "random"];

/// Where a random value comes from.
#[derive(Clone, Debug)]
enum Source {
    OneOf(Vec<Value>),
    Range { from: f64, to: f64, log: bool, whole: bool },
}

impl Space {
    /// Reads a file.
    ///
    /// # Errors
    /// A [`Usage`] that says where in the file, what was found and what was expected.
    pub fn open(file: &Path) -> Result<Self> {
        let shown = file.display().to_string();
        let text =
            std::fs::read_to_string(file).map_err(|error| Usage(format!("{shown}: it could not be read: {error}")))?;
        let name = file.file_stem().map_or("sweep".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self::parse(&text, &shown, name)?)
    }

    fn parse(text: &str, file: &str, name: String) -> Result<Self, Usage> {
        let plain: Table = settings::plain(text, file)?;
        if let Some(unknown) = plain.keys().find(|key| !KEYS.contains(&&key[..])) {
            let near = settings::nearest(unknown, KEYS.into_iter());
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let all = KEYS.join(", ");
            return Err(Usage(format!("{file}: a sweep has no `{unknown}`{hint} It may have {all}")));
        }
        let base = match plain.get("experiment") {
            None => Experiment::default(),
            Some(Value::String(name)) => Experiment::open(name).map_err(|error| Usage(error.to_string()))?,
            Some(other) => return Err(Usage(format!("{file}: `experiment` is {other}, expected a name or a file"))),
        };
        let fixed = settings::leaves(text, file, Some("set"))?;
        for (key, value, place) in &fixed {
            refuse_seed(key, place)?;
            settings::check(key, value, place)?;
        }
        let base = base.with(fixed.into_iter().map(|(key, value, _)| (key, value)))?;

        let grid = settings::leaves(text, file, Some("grid"))?.into_iter().map(grid).collect::<Result<Vec<_>, _>>()?;
        let random = settings::leaves(text, file, Some("random"))?;
        let random = random.into_iter().map(source).collect::<Result<Vec<_>, _>>()?;
        if let Some((key, _)) = random.iter().find(|(key, _)| grid.iter().any(|(other, _)| other == key)) {
            return Err(Usage(format!("{file}: `{key}` is in [grid] and in [random]; expected it in one of them")));
        }
        if grid.is_empty() && random.is_empty() {
            let example = "[grid]\noptimizer.rate = [0.003, 0.01, 0.03]";
            return Err(Usage(format!("{file}: nothing varies; expected [grid] or [random], such as\n{example}")));
        }
        let draws = number(&plain, "draws", file)?;
        let draws = match (draws, random.is_empty()) {
            (Some(draws @ 1..), false) => draws as usize,
            (None, true) => 1,
            (Some(_), true) => {
                return Err(Usage(format!("{file}: `draws` without [random]; give ranges to draw from")));
            }
            (_, false) => return Err(Usage(format!("{file}: [random] needs `draws`, 1 or more: how many to draw"))),
        };
        let draw_seed = number(&plain, "draw_seed", file)?.unwrap_or(1);
        let seeds = seeds(&plain, file, base.recipe.seed.0)?;

        let combinations = grid.iter().map(|(_, values)| values.len()).try_fold(draws, usize::checked_mul);
        let runs = combinations.and_then(|trials| trials.checked_mul(seeds.len()));
        if runs.is_none_or(|runs| runs > MOST) {
            let runs = runs.map_or("too many".into(), |runs| runs.to_string());
            return Err(Usage(format!("{file}: that makes {runs} runs, expected {MOST} at most")));
        }
        let mut trials: Vec<Trial> = Vec::new();
        for values in product(&grid) {
            for draw in 0..draws {
                let drawn = random.iter().map(|(key, source)| (key.clone(), source.draw(draw_seed, key, draw as u64)));
                let values: Vec<_> = values.iter().cloned().chain(drawn).collect();
                if !trials.iter().any(|trial| trial.values == values) {
                    let seed = ("seed".into(), Value::Integer(seeds[0] as i64));
                    let experiment = base.with(values.iter().cloned().chain([seed]));
                    trials.push(Trial { values, experiment: experiment.map_err(|error| error.0) });
                }
            }
        }
        let without = |trial: &Trial| trial.experiment.as_ref().is_ok_and(|own| own.data.validation == 0);
        if trials.iter().any(without) {
            return Err(Usage(format!(
                "{file}: `data.validation` is 0, but a sweep ranks on validation samples, never on test samples: set it to some thousands"
            )));
        }
        Ok(Space { name, trials, seeds })
    }
}

impl Trial {
    /// The name of a run's directory: what varies, and the seed.
    pub fn directory(&self, seed: u64) -> String {
        let mut name = String::new();
        for (key, _) in &self.values {
            name.push_str(&format!("{key}={},", self.value(key).unwrap_or_default().replace(' ', "")));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "=.,-_[]".contains(c);
        let safe: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(120).collect();
        // Names that had to be changed are told apart by a checksum.
        let checksum = if safe == name { String::new() } else { format!("{:08x},", fnv1a(&name)) };
        format!("{safe}{checksum}seed={seed}")
    }

    /// What one of the varied settings is, as people write it.
    pub fn value(&self, key: &str) -> Option<String> {
        let (_, value) = self.values.iter().find(|(known, _)| known == key)?;
        Some(value.as_str().map_or(value.to_string(), String::from))
    }

    /// `rate 0.01, kind hard`, by the last part of each key where that is enough.
    pub fn text(&self) -> String {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let name = |key: &String| {
            let alike = self.values.iter().filter(|(other, _)| last(other) == last(key)).count();
            if alike > 1 { key.clone() } else { last(key) }
        };
        let one = |(key, _): &(String, Value)| format!("{} {}", name(key), self.value(key).unwrap_or_default());
        self.values.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

impl Source {
    /// The `n`th value, a function of seed and key: more draws, or another key, leave it as it is.
    fn draw(&self, seed: u64, key: &str, n: u64) -> Value {
        let mut random = stream(seed, &format!("sweep {key}"), n);
        match self {
            Source::OneOf(values) => values[random.random_range(0..values.len())].clone(),
            Source::Range { from, to, log, whole } => {
                let share: f64 = random.random();
                let (low, high) = if *whole { (*from, to + 1.0) } else { (*from, *to) };
                let drawn = if *log { low * (high / low).powf(share) } else { low + (high - low) * share };
                match whole {
                    true => Value::Integer(drawn.floor().clamp(*from, *to) as i64),
                    false => Value::Float(rounded(drawn).clamp(*from, *to)),
                }
            }
        }
    }
}

/// To three digits, as people write numbers.
fn rounded(x: f64) -> f64 {
    format!("{x:.2e}").parse().expect("a number that was just printed")
}

/// A number of the grid: the values of a key, each checked.
fn grid((key, value, place): (String, Value, String)) -> Result<(String, Vec<Value>), Usage> {
    refuse_seed(&key, &place)?;
    match value {
        Value::Array(values) if !values.is_empty() => {
            values.iter().try_for_each(|value| settings::check(&key, value, &place))?;
            Ok((key, values))
        }
        other => Err(Usage(format!("{place}: `{key}` is {other}, expected a list of values to try"))),
    }
}

/// Where the values of a key come from, both ends checked.
fn source((key, value, place): (String, Value, String)) -> Result<(String, Source), Usage> {
    refuse_seed(&key, &place)?;
    let Value::Table(range) = value else {
        return grid((key, value, place)).map(|(key, values)| (key, Source::OneOf(values)));
    };
    let expected = "{ from = 0.001, to = 0.1, log = true } or a list of values to draw from";
    let wrong = |what: String| Usage(format!("{place}: `{key}` {what}, expected {expected}"));
    if let Some(unknown) = range.keys().find(|name| !["from", "to", "log"].contains(&&name[..])) {
        return Err(wrong(format!("has `{unknown}`")));
    }
    let end = |name: &str| {
        let value = range.get(name).ok_or_else(|| wrong(format!("has no `{name}`")))?;
        settings::check(&key, value, &place)?;
        let number = value.as_float().or(value.as_integer().map(|number| number as f64));
        number.ok_or_else(|| wrong(format!("goes {name} {value}")))
    };
    let (from, to) = (end("from")?, end("to")?);
    let log = match range.get("log") {
        None => false,
        Some(Value::Boolean(log)) => *log,
        Some(other) => return Err(wrong(format!("has `log` = {other}"))),
    };
    if from >= to || (log && from <= 0.0) {
        let above = if log { "; a logarithmic range begins above 0" } else { "" };
        return Err(wrong(format!("goes from {from} to {to}{above}")));
    }
    let whole = SETTINGS.iter().any(|setting| setting.key == key && matches!(setting.kind, Kind::Whole(..)));
    Ok((key, Source::Range { from, to, log, whole }))
}

fn refuse_seed(key: &str, place: &str) -> Result<(), Usage> {
    match key {
        "seed" => Err(Usage(format!("{place}: give the seeds as `seeds = [1, 2, 3]` at the top of the file"))),
        _ => Ok(()),
    }
}

/// A whole number at the top of the file.
fn number(plain: &Table, key: &str, file: &str) -> Result<Option<u64>, Usage> {
    let fits = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let wrong = |value: &Value| Usage(format!("{file}: `{key}` is {value}, expected a whole number, 0 or more"));
    plain.get(key).map(|value| fits(value).ok_or_else(|| wrong(value))).transpose()
}

/// `seeds = 3` means 1, 2 and 3; `seeds = [7, 9]` those; without it, there is the experiment's `own` alone.
fn seeds(plain: &Table, file: &str, own: u64) -> Result<Vec<u64>, Usage> {
    let seeds: Option<Vec<u64>> = match plain.get("seeds") {
        None => Some(vec![own]),
        Some(Value::Integer(count)) => Some((1..=u64::try_from(*count).unwrap_or(0).min(MOST as u64 + 1)).collect()),
        Some(Value::Array(seeds)) => {
            seeds.iter().map(|seed| seed.as_integer().and_then(|seed| u64::try_from(seed).ok())).collect()
        }
        Some(_) => None,
    };
    let different = |seeds: &Vec<u64>| (1..seeds.len()).all(|i| !seeds[..i].contains(&seeds[i]));
    seeds.filter(|seeds| !seeds.is_empty() && different(seeds)).ok_or_else(|| {
        let found = plain.get("seeds").map_or(String::new(), Value::to_string);
        Usage(format!("{file}: `seeds` is {found}, expected how many, or a list of different ones such as [1, 2, 3]"))
    })
}

/// Every combination, the last key fastest.
fn product(grid: &[(String, Vec<Value>)]) -> Vec<Vec<(String, Value)>> {
    grid.iter().fold(vec![Vec::new()], |all, (key, values)| {
        let with = |one: &Vec<(String, Value)>, value: &Value| {
            one.iter().cloned().chain([(key.clone(), value.clone())]).collect()
        };
        all.iter().flat_map(|one| values.iter().map(move |value| with(one, value))).collect()
    })
}

fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Space, Usage> {
        Space::parse(text, "my.toml", "my".into())
    }

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().0
    }

    #[test]
    fn a_grid_is_every_combination() {
        let space = parse(
            "experiment = \"default-small\"\nseeds = 2\n[set]\ntraining.epochs = 3\n[grid]\n\
             optimizer.rate = [0.003, 0.01]\n[grid.negatives]\nkind = [\"hard\", \"uniform\"]\n",
        )
        .unwrap();
        assert_eq!(space.seeds, [1, 2]);
        let directories: Vec<String> = space.trials.iter().map(|trial| trial.directory(2)).collect();
        assert_eq!(
            directories,
            [
                "negatives.kind=hard,optimizer.rate=0.003,seed=2",
                "negatives.kind=hard,optimizer.rate=0.01,seed=2",
                "negatives.kind=uniform,optimizer.rate=0.003,seed=2",
                "negatives.kind=uniform,optimizer.rate=0.01,seed=2",
            ]
        );
        let experiment = space.trials[1].experiment.as_ref().unwrap();
        assert_eq!((experiment.recipe.training.epochs, experiment.recipe.optimizer.rate), (3, 0.01));
        assert_eq!(space.trials[3].text(), "kind uniform, rate 0.01");
    }

    #[test]
    fn draws_are_within_their_range_and_stay_when_there_are_more() {
        let text = |draws: usize| {
            format!(
                "draws = {draws}\n[random]\noptimizer.rate = {{ from = 0.001, to = 0.1, log = true }}\n\
                 training.batch = {{ from = 10, to = 12 }}\nnetwork.dropout = {{ from = 0.0, to = 0.5 }}\n\
                 negatives.kind = [\"hard\", \"uniform\"]\n"
            )
        };
        let (few, many) = (parse(&text(5)).unwrap(), parse(&text(200)).unwrap());
        let values = |space: &Space| space.trials.iter().map(|trial| trial.values.clone()).collect::<Vec<_>>();
        assert_eq!(values(&many)[..5], values(&few));
        let of = |key: &str| -> Vec<Value> {
            many.trials.iter().map(|t| t.values.iter().find(|(known, _)| known == key).unwrap().1.clone()).collect()
        };
        let rates: Vec<f64> = of("optimizer.rate").iter().map(|rate| rate.as_float().unwrap()).collect();
        assert!(rates.iter().all(|rate| (0.001..=0.1).contains(rate) && rate.to_string().len() <= 7), "{rates:?}");
        let below = rates.iter().filter(|rate| **rate < 0.01).count();
        assert!((70..130).contains(&below), "half of them in the lower decade: {below}");
        let batches = of("training.batch");
        assert!([10, 11, 12].iter().all(|n| batches.iter().filter(|b| b.as_integer() == Some(*n)).count() > 40));
        let dropout: Vec<f64> = of("network.dropout").iter().map(|share| share.as_float().unwrap()).collect();
        assert!((80..120).contains(&dropout.iter().filter(|share| **share < 0.25).count()));
        assert!(of("negatives.kind").iter().filter(|kind| kind.as_str() == Some("hard")).count() > 70);
    }

    #[test]
    fn without_seeds_the_experiment_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("base.toml");
        std::fs::write(&file, "seed = 9").unwrap();
        let text = |seeds: &str| format!("experiment = '{}'\n{seeds}[grid]\noptimizer.rate = [0.1]\n", file.display());
        let own = parse(&text("")).unwrap();
        assert_eq!((own.seeds[..].to_vec(), own.trials[0].experiment.as_ref().unwrap().recipe.seed.0), (vec![9], 9));
        assert_eq!(parse(&text("seeds = 2\n")).unwrap().seeds, [1, 2]);
    }

    #[test]
    fn settings_that_do_not_go_together_are_a_trial_that_is_refused() {
        let space = parse("[grid]\nhead.enabled = [true, false]\n").unwrap();
        assert!(space.trials[0].experiment.is_ok());
        let refused = space.trials[1].experiment.as_ref().unwrap_err();
        assert!(refused.contains("negatives.kind"), "{refused}");
    }

    #[test]
    fn names_of_directories_are_safe_and_different() {
        let space =
            parse("[grid]\ndata.source = [\"../a b/c\", \"../a b_c\"]\nnetwork.layers = [[100, 50]]\n").unwrap();
        let names: Vec<String> = space.trials.iter().map(|trial| trial.directory(1)).collect();
        assert!(names[0].starts_with("data.source=.._ab_c,network.layers=[100,50],"), "{names:?}");
        assert!(names[0] != names[1] && names.iter().all(|name| !name.contains('/')));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, expected) in [
            ("", "my.toml: nothing varies; expected [grid] or [random]"),
            ("gird = 3", "a sweep has no `gird`; did you mean `grid`?"),
            ("[grid\n", "my.toml:1: not valid TOML"),
            ("[grid]\noptimizer.rate = 0.1", "my.toml:2: `optimizer.rate` is 0.1, expected a list of values to try"),
            (
                "[grid]\noptimizer.rat = [0.1]",
                "my.toml:2: there is no setting `optimizer.rat`; did you mean `optimizer.rate`?",
            ),
            ("[grid]\noptimizer.rate = [0.1, -3.0]", "my.toml:2: `optimizer.rate` is -3.0, expected a number"),
            ("[set]\nseed = 77\n[grid]\noptimizer.rate = [0.1]", "my.toml:2: give the seeds as `seeds = [1, 2, 3]`"),
            ("[grid]\nseed = [1, 2]", "give the seeds as `seeds = [1, 2, 3]`"),
            (
                "[set]\ndata.validation = 0\n[grid]\noptimizer.rate = [0.1]",
                "ranks on validation samples, never on test",
            ),
            ("[random]\noptimizer.rate = [0.1]", "[random] needs `draws`"),
            ("draws = 3\n[grid]\noptimizer.rate = [0.1]", "`draws` without [random]"),
            ("draws = -3\n[random]\noptimizer.rate = [0.1]", "`draws` is -3, expected a whole number"),
            ("draws = 3\n[random]\noptimizer.rate = { from = 0.1 }", "`optimizer.rate` has no `to`, expected {"),
            ("draws = 3\n[random]\noptimizer.rate = { from = 0.1, to = 0.01 }", "goes from 0.1 to 0.01"),
            ("draws = 3\n[random]\nnetwork.dropout = { from = 0.0, to = 0.1, log = true }", "begins above 0"),
            ("draws = 3\n[random]\noptimizer.rate = { from = 0.1, to = 0.2, step = 3 }", "has `step`"),
            ("seeds = [1, 1]\n[grid]\noptimizer.rate = [0.1]", "`seeds` is [1, 1], expected how many"),
            ("seeds = 0\n[grid]\noptimizer.rate = [0.1]", "`seeds` is 0"),
            ("seeds = 1000000000\n[grid]\noptimizer.rate = [0.1, 0.2]", "runs, expected 10000 at most"),
            ("draws = 9\n[grid]\ntraining.batch = [10]\n[random]\ntraining.batch = [10]", "in [grid] and in [random]"),
            ("experiment = \"superviced\"\n[grid]\noptimizer.rate = [0.1]", "did you mean `supervised`?"),
            ("experiment = 3\n[grid]\noptimizer.rate = [0.1]", "`experiment` is 3"),
            ("grid = 3", "`grid` is 3, expected a table"),
        ] {
            let found = refused(text);
            assert!(found.contains(expected), "{text:?}: {found}");
        }
    }
}
