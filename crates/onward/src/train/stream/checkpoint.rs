//! Everything that a learner needs to go on, in one safetensors file, written like any other [checkpoint](crate::checkpoint).
//!
//! Tensors are `layers.0.weight (O, I)` and the rest of each layer, as in other checkpoints; `scaler.mean`, `scaler.variance`
//! and `scaler.count (F)`; `past.records (S, F)` and `past.labelled (S)`, where record `n` is in slot `n mod S`;
//! `recent.scores`; of recurrent networks `layers.0.state (2, O)` and so on; and `batch (2B, I)`, the rows that wait for their step. The rest is under `onward.stream`, in JSON.

use super::settings::StreamSettings;
use super::{Learner, Verdict};
use crate::checkpoint::{Replaced, STREAM_KEY, at, in_part, read_file, write_file};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, Tensors};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata<'a> {
    version: u32,
    settings: Cow<'a, StreamSettings>,
    features: usize,
    classes: Cow<'a, [String]>,
    records: u64,
    steps: u64,
    /// Pairs of rows in `batch`.
    waiting: usize,
    sharpness: f32,
    /// Which of the recent scores is replaced next.
    recent_next: usize,
    notes: Cow<'a, BTreeMap<String, String>>,
}

impl Learner {
    /// Saves everything needed to go on, and some notes. What was at `path` before is kept: see
    /// [`newest`](crate::checkpoint::newest).
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; what was at `path` before is then still there.
    pub fn save(&self, path: impl AsRef<Path>, notes: &BTreeMap<String, String>) -> Result<()> {
        let metadata = Metadata {
            version: VERSION,
            settings: Cow::Borrowed(&self.settings),
            features: self.features,
            classes: Cow::Borrowed(&self.classes),
            records: self.past.count,
            steps: self.steps,
            waiting: self.filled,
            sharpness: self.sharpness,
            recent_next: self.recent.next,
            notes: Cow::Borrowed(notes),
        };
        let (f, slots) = (self.features, self.past.labelled.len());
        let counts = self.scaler.count.iter().map(|&n| n as f64).collect();
        let mut tensors = vec![
            Tensor::f64("scaler.count", &[f], counts),
            Tensor::f64("scaler.mean", &[f], self.scaler.mean.clone()),
            Tensor::f64("scaler.variance", &[f], self.scaler.variance.clone()),
            Tensor::f32("past.records", &[slots, f], self.past.records.clone()),
            Tensor::u8("past.labelled", &[slots], self.past.labelled.clone()),
            Tensor::f32("recent.scores", &[self.recent.values.len()], self.recent.values.clone()),
            Tensor::f32("batch", &[2 * self.settings.batch, self.inputs()], self.batch.clone()),
        ];
        for (l, stage) in self.stages.iter().enumerate() {
            tensors.extend(stage.layer.tensors().into_iter().map(|t| t.within(&format!("layers.{l}"))));
            let means = &stage.peer.means;
            tensors.push(Tensor::f32(format!("layers.{l}.peer.mean"), &[means.len()], means.clone()));
        }
        for (l, state) in self.moments.states.iter().enumerate() {
            tensors.push(Tensor::f32(
                format!("layers.{l}.state"),
                &[state.rows(), state.width()],
                state.values.clone(),
            ));
        }
        write_file(path.as_ref(), STREAM_KEY, &metadata, &tensors, Replaced::Kept)
    }

    /// Goes on where a learner was saved: with the same records it ends in the same bits as if it had never stopped. Also
    /// answers the notes.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the file cannot be read or is not the checkpoint of a stream.
    pub fn load(path: impl AsRef<Path>) -> Result<(Self, BTreeMap<String, String>)> {
        let path = path.as_ref();
        let (metadata, tensors) = read_file::<Metadata<'static>>(path, STREAM_KEY)?;
        restore(&metadata, &tensors)
            .map(|learner| (learner, metadata.notes.into_owned()))
            .map_err(|error| at(path, error))
    }
}

fn restore(metadata: &Metadata<'_>, tensors: &[Tensor]) -> Result<Learner> {
    let refuse = |problem: String| Err(Error::Data(problem));
    if metadata.version != VERSION {
        return refuse(format!("its format has version {}, this program reads version {VERSION}", metadata.version));
    }
    let settings = metadata.settings.clone().into_owned().check()?;
    // The settings may ask for anything; the tensors say what is really there, so nothing is allocated on their word.
    let find = Tensors(tensors);
    let f = metadata.features;
    let slots = settings.memory + settings.window - 1;
    let records = find.f32("past.records", &[slots, f])?;
    let inputs = settings.inputs(f);
    let batch = find.f32("batch", &[2 * settings.batch, inputs])?;
    for l in 0..settings.layers.len() {
        let (inputs, outputs) = settings.shape(l, inputs);
        find.f32(&format!("layers.{l}.weight"), &[outputs, inputs])?;
    }
    let scores = tensors.iter().find(|t| t.name == "recent.scores").map_or(0, |t| t.shape.iter().product());
    let known = metadata.classes.len() <= settings.classes();
    if !known
        || scores > settings.calibration
        || metadata.recent_next >= scores.max(1)
        || metadata.waiting >= settings.batch
        || metadata.records.max(metadata.steps) > 1 << 60
    {
        return refuse("its parts contradict each other: the file is damaged".into());
    }
    if !(metadata.sharpness > 0.0 && metadata.sharpness.is_finite()) {
        return refuse(format!("its sharpness is {}, expected a number above 0", metadata.sharpness));
    }

    let mut learner = Learner::new(settings, f)?;
    learner.classes = metadata.classes.to_vec();
    learner.steps = metadata.steps;
    learner.filled = metadata.waiting;
    learner.sharpness = metadata.sharpness;
    let count = find.f64("scaler.count", &[f])?;
    learner.scaler.count = count.iter().map(|&n| n as u64).collect();
    learner.scaler.mean = find.f64("scaler.mean", &[f])?.to_vec();
    learner.scaler.variance = find.f64("scaler.variance", &[f])?.to_vec();
    if learner.scaler.variance.iter().chain(count).any(|v| *v < 0.0)
        || count.iter().any(|&n| n > metadata.records as f64)
    {
        return refuse("its variances or counts cannot be: the file is damaged".into());
    }
    learner.past.count = metadata.records;
    learner.past.records = records.to_vec();
    learner.past.labelled = find.u8("past.labelled", &[slots])?.to_vec();
    learner.recent.values.extend_from_slice(find.f32("recent.scores", &[scores])?);
    learner.recent.next = metadata.recent_next;
    learner.batch = batch.to_vec();
    for (l, stage) in learner.stages.iter_mut().enumerate() {
        let part = format!("layers.{l}");
        let of_layer = Tensor::of(tensors, &part);
        stage.layer.restore(&of_layer).map_err(|error| in_part(&part, error))?;
        let mean = Tensors(&of_layer).f32("peer.mean", &[stage.peer.means.len()]);
        stage.peer.means = mean.map_err(|error| in_part(&part, error))?.to_vec();
        if let Some(state) = learner.moments.states.get(l) {
            let shape = [state.rows(), state.width()];
            let values = Tensors(&of_layer).f32("state", &shape).map_err(|error| in_part(&part, error))?;
            learner.moments.restore(l, stage, values);
        }
    }
    // No record has this number: the next label is judged afresh.
    learner.verdict = Verdict { number: u64::MAX, ..Verdict::default() };
    Ok(learner)
}
