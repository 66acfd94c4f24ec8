//! Experiments: a recipe, its data, and what the paper says of them.

use crate::exit::Usage;
use crate::settings;
use anyhow::Result;
use onward::settings::LabelPlace;
use onward::{Dataset, Recipe};
use onward_data::Kind;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// One experiment, every setting resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Experiment {
    /// What it is called.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// What it is trained on.
    pub data: Data,
    /// What the paper reports.
    pub paper: Paper,
    /// How it is trained.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// Settings that nobody gave and the data decides: see [`Experiment::fit`].
    #[serde(skip)]
    pub unset: Vec<&'static str>,
}

const VALIDATION: &str = "data.validation";
const LABEL: &str = "network.label";
const BATCH: &str = "training.batch";
const EPOCHS: &str = "training.epochs";

impl Default for Experiment {
    fn default() -> Self {
        Experiment {
            name: "default".into(),
            about: "The released recipe, short: ten epochs of MNIST.".into(),
            data: Data::default(),
            paper: Paper::default(),
            recipe: Recipe::default(),
            unset: vec![VALIDATION, LABEL, BATCH, EPOCHS],
        }
    }
}

/// What an experiment is trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// `mnist`, a data set's name, or a path.
    pub source: String,
    /// Training samples used; 0 for all that are not held out.
    pub train: usize,
    /// Samples held out of the training set.
    pub validation: usize,
}

impl Data {
    /// The most of so many samples that is held out unasked.
    pub fn most_held_out(samples: usize) -> usize {
        samples / 5
    }
}

impl Default for Data {
    fn default() -> Self {
        Data { source: "mnist".into(), train: 0, validation: 2_000 }
    }
}

/// What the paper reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paper {
    /// Its section.
    pub section: String,
    /// Its test error in per cent; 0 where it gives none.
    pub error: f64,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        /// The experiments that the command carries, as files.
        pub const EMBEDDED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../experiments/", $name, ".toml")))),*];
    };
}

embedded![
    "default",
    "default-small",
    "groups-small",
    "per-class-small",
    "mono-forward-small",
    "released-code",
    "released-code-small",
    "supervised",
    "supervised-fast",
    "supervised-jitter",
    "supervised-jitter-small",
    "supervised-masked",
    "supervised-masked-small",
    "fashion",
    "unsupervised",
    "unsupervised-small",
    "unsupervised-local",
    "unsupervised-local-small",
    "recurrent",
    "recurrent-small",
    "cifar10",
    "cifar10-small",
    "cifar10-max",
    "cifar10-backprop",
    "one-step",
    "one-step-small",
    "spatial-context",
    "spatial-context-small",
    "sleep",
    "sleep-small",
];

impl Experiment {
    /// The experiment of this name, or of this file.
    ///
    /// # Errors
    /// A [`Usage`] where there is none, or it has settings that are refused.
    pub fn open(name: &str) -> Result<Self> {
        if let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) {
            return Ok(Self::from_settings(settings::parse_file(text, name)?)?);
        }
        if !name.ends_with(".toml") {
            let near = settings::nearest(name, EMBEDDED.iter().map(|(known, _)| *known));
            let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            return Err(Usage(format!(
                "there is no experiment `{name}`; {hint}`onward experiments` lists them, and a name that ends in .toml is a file"
            ))
            .into());
        }
        Self::read(Path::new(name))
    }

    /// The experiment of this file.
    ///
    /// # Errors
    /// A [`Usage`] where it cannot be read, or has settings that are refused.
    pub fn read(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let text =
            std::fs::read_to_string(file).map_err(|error| Usage(format!("{name}: it could not be read: {error}")))?;
        let mut given = settings::parse_file(&text, &name)?;
        if !given.iter().any(|(key, _)| key == "name")
            && let Some(stem) = file.file_stem()
        {
            let stem = Value::String(stem.to_string_lossy().into_owned());
            settings::check("name", &stem, &name)?;
            given.push(("name".into(), stem));
        }
        Ok(Self::from_settings(given)?)
    }

    /// The default experiment with these settings in place of its own.
    ///
    /// # Errors
    /// A [`Usage`] where they do not fit.
    pub fn from_settings(given: impl IntoIterator<Item = (String, Value)>) -> Result<Self, Usage> {
        Experiment::default().with(given)
    }

    /// This experiment with these settings in place of its own.
    ///
    /// # Errors
    /// A [`Usage`] where they do not fit.
    pub fn with(&self, given: impl IntoIterator<Item = (String, Value)>) -> Result<Self, Usage> {
        let (mut table, mut unset) = (self.to_table(), self.unset.clone());
        for (key, value) in given {
            unset.retain(|unset| *unset != key);
            settings::put(&mut table, &key, value);
        }
        Ok(Experiment { unset, ..Self::from_table(table)? })
    }

    fn from_table(table: Table) -> Result<Self, Usage> {
        let experiment: Experiment =
            table.try_into().map_err(|error: toml::de::Error| Usage(error.message().into()))?;
        experiment.recipe.clone().check().map_err(|error| Usage(error.to_string()))?;
        Ok(experiment)
    }

    /// Fits to the training samples what nobody gave. Of few of them, few are held out; no label goes where a plain feature is,
    /// for each of those may count; and where they are somebody's own, there are ten steps in an epoch and a thousand in all, at
    /// least: with ten epochs of a step or two, a network learns nothing.
    pub fn fit(&mut self, samples: &Dataset, kind: Kind) {
        let unset = std::mem::take(&mut self.unset);
        if unset.contains(&VALIDATION) {
            self.data.validation = self.data.validation.min(Data::most_held_out(samples.len()));
        }
        let label = &mut self.recipe.network.label;
        if unset.contains(&LABEL) && *label == LabelPlace::Replace && samples.shape().is_plain() {
            *label = LabelPlace::Prepend;
        }
        if kind.has_order() {
            return;
        }
        let left = samples.len().saturating_sub(self.data.validation);
        let used = if self.data.train > 0 { left.min(self.data.train) } else { left };
        let training = &mut self.recipe.training;
        if unset.contains(&BATCH) {
            training.batch = training.batch.min(used / 10).max(2);
        }
        if unset.contains(&EPOCHS) {
            let steps = (used / training.batch).max(1);
            training.epochs = training.epochs.max(1_000_usize.div_ceil(steps) as u32);
        }
    }

    /// What the label takes the place of, where samples are plain features.
    pub fn overwritten(&self, samples: &Dataset) -> Option<String> {
        let (classes, features) = (samples.classes().len(), samples.shape().len());
        (self.recipe.network.label == LabelPlace::Replace && samples.shape().is_plain()).then(|| {
            format!(
                "`network.label` \"replace\" overwrites the first {classes} of {features} features with the label; \"prepend\" \
                 would keep them"
            )
        })
    }

    /// Whether `other` trains as this one does: has its settings, whatever data has decided of them and is told of it.
    pub fn is(&self, other: &Experiment) -> bool {
        let (mut own, other) = (self.to_table(), other.to_table());
        let told = settings::SETTINGS.iter().map(|setting| setting.key).filter(|key| settings::tells(key));
        for key in self.unset.iter().copied().chain(told) {
            settings::put(&mut own, key, settings::lookup(&other, key).expect("every setting has a value").clone());
        }
        own == other
    }

    /// As TOML values.
    pub fn to_table(&self) -> Table {
        let mut table = Table::try_from(self).expect("an experiment is a table of plain values");
        shorten(&mut table);
        table
    }

    /// As a file, every setting with its range and meaning; those that the data decides are left to it.
    pub fn document(&self) -> String {
        settings::document(&self.to_table(), &self.unset)
    }
}

/// Single precision numbers as people write them: 0.03, not 0.029999999329447746.
fn shorten(table: &mut Table) {
    for (_, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => shorten(inner),
            Value::Float(number) => {
                let text = (*number as f32).to_string();
                *number = text.parse().unwrap_or(*number);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onward::{Shape, Values};

    #[test]
    fn every_embedded_experiment_is_valid_and_named_as_its_file() {
        for (name, _) in EMBEDDED {
            let experiment = Experiment::open(name).unwrap();
            assert_eq!(experiment.name, *name);
            assert_ne!(experiment.about, "");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), EMBEDDED.len(), "a file is not embedded");
    }

    #[test]
    fn the_default_file_says_what_the_default_is() {
        assert_eq!(Experiment::open("default").unwrap(), Experiment::default());
    }

    #[test]
    fn a_file_without_a_name_is_called_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.toml");
        for (text, name) in [
            ("name=\"mine\"", "mine"),
            ("\"name\" = 'mine'", "mine"),
            ("# the name = what it is called\nseed = 3", "own"),
            ("about = \"name = x\"", "own"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Experiment::open(&file.to_string_lossy()).unwrap().name, name, "{text}");
        }
    }

    #[test]
    fn what_nobody_gave_fits_the_data() {
        let data = Dataset::new(Shape::features(2), Values::Floats(vec![0.0; 300]), vec![], vec![]).unwrap();
        let fitted_to = |experiment: &Experiment, kind| {
            let mut experiment = experiment.clone();
            experiment.fit(&data, kind);
            experiment
        };
        let fitted = |experiment: &Experiment| fitted_to(experiment, Kind::Csv);
        let open = Experiment::from_settings([("seed".into(), 3.into())]).unwrap();
        let given = open.with([(VALIDATION.into(), 100.into())]).unwrap();
        assert_eq!(fitted(&open).data.validation, 30);
        assert_eq!(fitted(&given).data.validation, 100);
        // Of 150 samples 120 or 50 are learned from, in batches of a tenth of them.
        let steps = |experiment: Experiment| (experiment.recipe.training.batch, experiment.recipe.training.epochs);
        let with = |key: &str, value: i64| open.with([(key.into(), value.into())]).unwrap();
        assert_eq!((steps(fitted(&open)), steps(fitted(&given))), ((12, 100), (5, 100)));
        assert_eq!(steps(fitted(&with("data.train", 50))), (5, 100));
        assert_eq!(steps(fitted(&with("training.batch", 90))), (90, 1_000));
        assert_eq!(steps(fitted(&with("training.epochs", 3))), (12, 3));
        assert_eq!(steps(fitted_to(&open, Kind::Idx)), (100, 10));
        assert_eq!(fitted(&open).recipe.network.label, LabelPlace::Prepend);
        let replace = open.with([(LABEL.into(), "replace".into())]).unwrap();
        assert_eq!(fitted(&replace).recipe.network.label, LabelPlace::Replace);
        let none = Experiment::open("unsupervised-small").unwrap();
        assert_eq!(fitted(&none).recipe.network.label, LabelPlace::None);
        assert_eq!(Experiment::open("released-code").map(|own| fitted(&own).data.validation).unwrap(), 10_000);
        // What a file leaves to the data, the file that it is written as does too; what was decided stays.
        let again = |experiment: &Experiment| {
            Experiment::from_settings(settings::parse_file(&experiment.document(), "a.toml").unwrap()).unwrap()
        };
        assert_eq!(again(&open), open);
        assert_eq!(again(&fitted(&open)), fitted(&open));
        assert!(open.is(&fitted(&open)) && !open.is(&fitted(&given).with([("seed".into(), 4.into())]).unwrap()));
        assert!(!given.is(&fitted(&open)));
        let told = open.with([("about".into(), "in other words".into()), ("paper.error".into(), 3.0.into())]).unwrap();
        assert!(open.is(&told) && told != open);
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let error = Experiment::open("superviced").unwrap_err().to_string();
        assert!(error.contains("did you mean `supervised`?"), "{error}");
    }
}
