//! From a data source's name to samples.

use crate::exit::Usage;
use crate::experiment::{Data, Experiment};
use anyhow::Result;
use onward::Dataset;
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
pub fn open(source: &str) -> Result<(Dataset, Option<Dataset>)> {
    if source == "mnist" {
        return Ok((onward_mnist::train(), Some(onward_mnist::test())));
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
        _ => Usage(error.to_string()),
    })?;
    if let Some(note) = &loaded.note {
        eprintln!("{source}: {note}");
    }
    Ok((loaded.train, loaded.test))
}

/// The samples that an experiment asks for.
///
/// # Errors
/// As [`open`]; also where there are too few.
pub fn samples(experiment: &Experiment) -> Result<Samples> {
    let Data { source, train: limit, validation: held_out } = &experiment.data;
    let (all, test) = open(source)?;
    let Some(rest) = all.len().checked_sub(*held_out).filter(|rest| *rest > 0) else {
        let have = all.len();
        return Err(Usage(format!(
            "{source} has {have} training samples, of which `data.validation` would hold out {held_out}: lower it"
        ))
        .into());
    };
    let take = if *limit == 0 { rest } else { rest.min(*limit) };
    let validation = if *held_out > 0 { Some(all.slice(rest..all.len())?) } else { None };
    Ok(Samples { train: if take == all.len() { all } else { all.slice(0..take)? }, validation, test })
}
