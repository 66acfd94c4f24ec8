//! From a data source's name to samples.

use crate::exit::Usage;
use crate::experiment::{Data, Experiment};
use crate::provenance::Provenance;
use crate::run_dir::RunDir;
use crate::settings::nearest;
use anyhow::Result;
use onward::Dataset;
use onward::random::stream;
use onward_data::{Kind, Loaded};
use rand::seq::SliceRandom;
use std::collections::BTreeSet;
use std::path::Path;

/// The samples of an experiment.
#[derive(Debug)]
pub struct Samples {
    /// To train on.
    pub train: Dataset,
    /// Held out of the training set.
    pub validation: Option<Dataset>,
    /// For the final number.
    pub test: Option<Dataset>,
}

impl Samples {
    /// What the layers are probed with after each epoch.
    pub fn probed_on(&self) -> &'static str {
        if self.validation.is_some() { "validation" } else { "training" }
    }
}

/// Everything at a source: training samples, and test samples where it has any.
///
/// # Errors
/// A [`Usage`] where there is no such data, or it cannot be read.
pub fn open(source: &str) -> Result<Loaded> {
    if source == "mnist" {
        let (train, test) = (onward_mnist::train(), Some(onward_mnist::test()));
        return Ok(Loaded { train, test, kind: Kind::Idx, path: source.into(), note: None });
    }
    let known = onward_data::known(source).filter(|_| !Path::new(source).exists());
    let cache = onward_data::cache_dir();
    let path = known.map_or(Path::new(source).to_owned(), |known| cache.join(known.name));
    let text = Path::new(source).extension().is_some_and(|end| end == "txt");
    let loaded = onward_data::open(&path).map_err(|error| match known {
        None if text && !Path::new(source).exists() => Usage(format!(
            "{source} is not here: give a text with --data PATH, such as Aesop's fables, which are in the public domain"
        )),
        Some(known) if !known.is_in(&cache) => {
            Usage(format!("{source} is not here, or not all of it: fetch it with `onward data fetch {source}`"))
        }
        None if !Path::new(source).exists() => {
            let names = onward_data::KNOWN.iter().map(|known| known.name).chain(["mnist"]);
            let hint = nearest(source, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            Usage(format!("{error}: expected a file, a folder or a data set that `onward data` lists{hint}"))
        }
        _ => Usage(error.to_string()),
    })?;
    if let Some(note) = &loaded.note {
        eprintln!("{source}: {note}");
    }
    Ok(loaded)
}

/// Refuses the data of an earlier run where it is not here. A path is stored as it was typed, so that a run can be moved
/// together with its data; seen from another folder it leads nowhere.
///
/// # Errors
/// A [`Usage`] that says from where it counts.
pub fn check_of_run(run: &Path, experiment: &Experiment) -> Result<()> {
    let source = &experiment.data.source;
    let path = Path::new(source);
    if source == "mnist" || onward_data::known(source).is_some() || path.exists() {
        return Ok(());
    }
    let file = run.join("experiment.toml");
    let (place, way) = match path.is_relative() {
        true => (
            format!(" in {}", std::env::current_dir().unwrap_or_default().display()),
            "a path counts from the folder in which the run was trained: go there, or",
        ),
        false => (String::new(), "put it back, or"),
    };
    let file = file.display();
    Err(Usage(format!("{file}: its data.source is `{source}`, which is not there{place}: {way} change data.source"))
        .into())
}

/// The samples of an earlier run.
///
/// # Errors
/// As [`check_of_run`] and [`samples`].
pub fn samples_of_run(run: &Path, experiment: &Experiment) -> Result<Samples> {
    check_of_run(run, experiment)?;
    let (all, asked) = (open(&experiment.data.source)?, &experiment.data);
    // Older runs have samples as they lie in the file.
    if let Some(then) = RunDir::provenance(run)?.last().filter(|_| !all.kind.has_order()) {
        let older = cut(all.train.clone(), all.test.clone(), asked)?;
        if Provenance::here(&older).data == then.data {
            return Ok(older);
        }
    }
    split(all, asked)
}

/// The samples that an experiment asks for.
///
/// # Errors
/// As [`open`]; also where there are too few.
pub fn samples(experiment: &Experiment) -> Result<Samples> {
    split(open(&experiment.data.source)?, &experiment.data)
}

/// The samples that are asked for of all at a source.
///
/// # Errors
/// A [`Usage`] where there are too few.
pub fn split(all: Loaded, asked: &Data) -> Result<Samples> {
    let Loaded { train: all, test, kind, .. } = all;
    let classes = classes_of(&all);
    let samples = cut(mixed(all, kind)?, test, asked)?;
    // What follows a symbol is no class that each part should have.
    if kind != Kind::Text {
        for (which, part) in [("training", Some(&samples.train)), ("validation", samples.validation.as_ref())] {
            part.iter().for_each(|part| warn_of_missing(&asked.source, which, &classes, part));
        }
    }
    Ok(samples)
}

/// The last samples to validate on, and the first ones to train on.
fn cut(all: Dataset, test: Option<Dataset>, asked: &Data) -> Result<Samples> {
    let Data { source, train: limit, validation: held_out } = asked;
    let Some(rest) = all.len().checked_sub(*held_out).filter(|rest| *rest > 0) else {
        let have = all.len();
        return Err(Usage(format!(
            "{source} has {have} training samples, of which `data.validation` would hold out {held_out}: lower it with \
             --set data.validation={}",
            Data::most_held_out(have)
        ))
        .into());
    };
    let take = if *limit == 0 { rest } else { rest.min(*limit) };
    let validation = if *held_out > 0 { Some(all.slice(rest..all.len())?) } else { None };
    Ok(Samples { train: if take == all.len() { all } else { all.slice(0..take)? }, validation, test })
}

/// Tables, arrays and folders in an order of which every part has its share of every class: they are often sorted by class,
/// and parts are cut from both ends. It is the same for all seeds, so that they compare on the same samples. Sets that are
/// published in an order, and texts, keep theirs.
pub fn mixed(data: Dataset, kind: Kind) -> Result<Dataset> {
    if kind.has_order() {
        return Ok(data);
    }
    let class = |n: usize| data.labels().get(n).map_or(0, |label| *label as usize);
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.shuffle(&mut stream(0, "samples", 0));
    let mut counts = vec![0; data.classes().len().max(1)];
    order.iter().for_each(|n| counts[class(*n)] += 1);
    // The k-th of a class's n samples stands (k + ½) / n of the way.
    let mut seen = vec![0; counts.len()];
    let place = |n| {
        let class = class(n);
        seen[class] += 1;
        ((f64::from(seen[class]) - 0.5) / f64::from(counts[class]), n)
    };
    let mut places: Vec<(f64, usize)> = order.into_iter().map(place).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(data.select(&places.into_iter().map(|(_, n)| n).collect::<Vec<_>>())?)
}

/// The classes that there are samples of.
fn classes_of(data: &Dataset) -> BTreeSet<u32> {
    data.labels().iter().copied().collect()
}

/// Says which of these classes a part of the data has no sample of.
fn warn_of_missing(source: &str, which: &str, classes: &BTreeSet<u32>, part: &Dataset) {
    let missing =
        classes.difference(&classes_of(part)).map(|class| &*part.classes()[*class as usize]).collect::<Vec<_>>();
    let named = missing[..missing.len().min(MOST_NAMED)].join(", ");
    match missing.len() {
        0 => {}
        1 => eprintln!("warning: {source}: no {which} sample is of class {named}"),
        n if n <= MOST_NAMED => eprintln!("warning: {source}: no {which} sample is of the classes {named}"),
        n => eprintln!("warning: {source}: no {which} sample is of the classes {named} and {} more", n - MOST_NAMED),
    }
}

/// Classes that a warning names at most.
const MOST_NAMED: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use onward::{Shape, Values};

    /// Samples of these classes in a row, each with its number as its value.
    fn sorted(counts: &[usize]) -> Dataset {
        let labels: Vec<u32> = (0u32..).zip(counts).flat_map(|(class, n)| vec![class; *n]).collect();
        let values = (0..labels.len()).map(|n| n as f32).collect();
        let names = (0..counts.len()).map(|class| class.to_string()).collect();
        Dataset::new(Shape::features(1), Values::Floats(values), labels, names).unwrap()
    }

    fn loaded(counts: &[usize], kind: Kind) -> Loaded {
        Loaded { train: sorted(counts), test: None, kind, path: "x".into(), note: None }
    }

    fn counts(data: &Dataset) -> Vec<usize> {
        (0..data.classes().len() as u32).map(|class| data.labels().iter().filter(|l| **l == class).count()).collect()
    }

    #[test]
    fn every_part_of_sorted_data_has_its_share_of_every_class() {
        for kind in [Kind::Csv, Kind::Npy, Kind::Npz, Kind::Folder] {
            let asked = Data { source: "x".into(), train: 30, validation: 25 };
            let Samples { train, validation, .. } = split(loaded(&[50, 100, 10], kind), &asked).unwrap();
            let shares = (counts(&train), counts(&validation.unwrap()));
            assert!(matches!(shares.0[..], [9 | 10, 18..=20, 1 | 2]), "{shares:?}");
            assert!(matches!(shares.1[..], [7 | 8, 15 | 16, 1 | 2]), "{shares:?}");
        }
        // Each sample once, its label with it.
        let all = mixed(sorted(&[3, 7]), Kind::Csv).unwrap();
        let Values::Floats(values) = all.values() else { unreachable!() };
        assert!(values.iter().zip(all.labels()).all(|(value, label)| (*value >= 3.0) == (*label == 1)));
        let mut values = values.clone();
        values.sort_by(f32::total_cmp);
        assert_eq!(Values::Floats(values), *sorted(&[3, 7]).values());
    }

    #[test]
    fn older_runs_have_their_samples_as_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("t.csv");
        let rows: String = (0..30).map(|n| format!("{n},{}\n", ["a", "b", "c"][n / 10])).collect();
        std::fs::write(&table, rows).unwrap();
        let given = [("data.source", (*table.to_string_lossy()).into()), ("data.validation", 5.into())];
        let experiment = Experiment::from_settings(given.map(|(key, value)| (key.to_owned(), value))).unwrap();
        let labels = |samples: Samples| samples.validation.unwrap().labels().to_vec();
        let now = samples(&experiment).unwrap();
        let older = cut(open(&experiment.data.source).unwrap().train, None, &experiment.data).unwrap();
        for (samples, expected) in [(&now, None), (&older, Some(vec![2; 5]))] {
            let provenance = serde_json::to_string(&[Provenance::here(samples)]).unwrap();
            std::fs::write(folder.path().join(Provenance::FILE), provenance).unwrap();
            let found = labels(samples_of_run(folder.path(), &experiment).unwrap());
            assert_eq!(found == [2; 5], expected.is_some(), "{found:?}");
        }
    }

    #[test]
    fn data_with_an_order_of_its_own_keeps_it() {
        for kind in [Kind::Idx, Kind::Cifar, Kind::Text] {
            let asked = Data { source: "x".into(), train: 0, validation: 2 };
            let Samples { train, validation, .. } = split(loaded(&[3, 2], kind), &asked).unwrap();
            assert_eq!((train.labels(), validation.unwrap().labels()), (&[0; 3][..], &[1; 2][..]));
        }
    }

    #[test]
    fn the_order_is_what_it_always_was() {
        // Literals: a change here changes what every run on a table or a folder was validated on.
        let Values::Floats(values) = mixed(sorted(&[4, 4]), Kind::Csv).unwrap().values().clone() else {
            unreachable!()
        };
        assert_eq!(values, [2.0, 5.0, 0.0, 7.0, 4.0, 3.0, 6.0, 1.0]);
    }
}
