//! Checkpoints: one safetensors file with everything needed to go on.
//!
//! Tensors are `layers.0.weight (O, I)`, `layers.0.bias (O)`, … as PyTorch's `Linear` has them, then each layer's
//! optimiser state (`layers.0.weight.smoothed`, …), running means (`layers.0.peer.mean (O)`) and the head
//! (`head.1.weight (K, O)`: the part that reads layer 1); once known, how much the every-label and the one-pass readout count in
//! the combined one (`readout.combined (2)`). The file's metadata has one key, `onward`: a JSON object of the
//! recipe, the data's shape and classes, the position, and the notes of whoever saved it. Random streams need no state of
//! their own: they are a function of seed and position (see [`random`](crate::random)). The JSON object ends with a checksum
//! over all the rest, by which damage is known; a file without one, rewritten by another tool, is taken at its word.
//!
//! A file is written beside its place, synced, and moved there: whatever happens, the path holds either the old checkpoint
//! or the new one, whole. What a trainer or a stream replaces so is kept as `PATH.previous`, for the case that a disk damages the
//! new one: [`newest`] finds it.

use crate::dataset::Shape;
use crate::error::{Error, Result};
use crate::network::{Network, first_read, has_scores, plan};
use crate::settings::Recipe;
use crate::tensor::{Numbers, Tensor, Tensors};
use crate::train::{Position, Totals, Trainer};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

const KEY: &str = "onward";

/// What the checkpoints of streams are known by.
pub(crate) const STREAM_KEY: &str = "onward.stream";
const VERSION: u32 = 1;

/// Which samples rest until when (`training.rest`).
const REST: &str = "training.rest";

/// What the source of negative data remembers.
const NEGATIVES: &str = "training.negatives";

/// What the head predicted of the batches to come (`negatives.delay`).
const PREDICTIONS: &str = "training.predictions";

/// How much both readouts count in the combined one `(2)`: there once they have been combined.
pub const COMBINED: &str = "readout.combined";

/// What a checkpoint says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The recipe that the network was made by.
    pub recipe: Recipe,
    /// What its samples look like.
    pub shape: Shape,
    /// Its classes' names.
    pub classes: Vec<String>,
    /// Where training stands; `None` where only the network was saved.
    pub position: Option<Position>,
    /// The notes of whoever saved it.
    pub notes: BTreeMap<String, String>,
    /// Each tensor's name, type and shape, by name.
    pub tensors: Vec<(String, String, Vec<usize>)>,
    /// The file's size.
    pub bytes: u64,
}

// Else a checksum with a damaged name would be something unknown to pass over.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata<'a> {
    version: u32,
    recipe: Cow<'a, Recipe>,
    shape: [usize; 3],
    classes: Cow<'a, [String]>,
    #[serde(default)]
    training: Option<(Position, Totals)>,
    #[serde(default)]
    notes: Cow<'a, BTreeMap<String, String>>,
}

impl Network {
    /// Saves the network, without what only training needs to know of its position.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; what was at `path` before is then still there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write(self, None, Vec::new(), &BTreeMap::new(), path.as_ref(), Replaced::Dropped)
    }

    /// The network of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the file cannot be read or is not a checkpoint; other errors where its recipe is refused.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        File::read(path)?.network().map_err(|error| at(path, error))
    }
}

impl Trainer {
    /// Saves everything needed to go on, and some notes. What was at `path` before is kept: see [`newest`].
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; what was at `path` before is then still there.
    pub fn save(&self, path: impl AsRef<Path>, notes: &BTreeMap<String, String>) -> Result<()> {
        let rest = self.rest().map(|rest| Tensor::u8(REST, &[rest.len(), 6], rest.to_bytes()));
        let (batch, classes) = (self.recipe().training.batch, self.network().classes());
        let predictions = self.predictions();
        let numbers = predictions.iter().flatten().copied().collect();
        let shape = [predictions.len(), batch, classes];
        let predictions = (!predictions.is_empty()).then(|| Tensor::f32(PREDICTIONS, &shape, numbers));
        let training = Some((self.position(), self.totals().clone()));
        let negatives = self.negatives().tensors().into_iter().map(|tensor| tensor.within(NEGATIVES));
        let tensors = rest.into_iter().chain(predictions).chain(negatives).collect();
        write(self.network(), training, tensors, notes, path.as_ref(), Replaced::Kept)
    }

    /// Goes on where a checkpoint was saved: training ends in the same bits as if it had never stopped.
    ///
    /// # Errors
    /// As [`Network::load`]; also where the checkpoint holds a network only.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::read(path)?;
        let network = file.network().map_err(|error| at(path, error))?;
        let mut trainer = Trainer::with_network(network);
        trainer.go_on(&file).map_err(|error| at(path, error))?;
        Ok(trainer)
    }

    /// As [`Trainer::load`], into this trainer: for networks with layers, goodness or negatives of the caller's own, which
    /// no recipe can name.
    ///
    /// # Errors
    /// As [`Trainer::load`]; also where the checkpoint's tensors do not fit this network. The trainer may then hold a part
    /// of them.
    pub fn restore(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let file = File::read(path)?;
        file.fill(self.network_mut()).map_err(|error| at(path, error))?;
        self.go_on(&file).map_err(|error| at(path, error))
    }

    fn go_on(&mut self, file: &File) -> Result<()> {
        let Some((position, totals)) = &file.metadata.training else {
            return Err(Error::Data("it holds a network only, without the position to train on from".into()));
        };
        let rest = file.tensors.iter().find(|t| t.name == REST);
        let rest = rest.map(|t| Tensors(&file.tensors).u8(REST, &t.shape)).transpose()?;
        let predictions = match file.tensors.iter().find(|t| t.name == PREDICTIONS) {
            Some(t) => {
                let (batch, classes) = (self.recipe().training.batch, self.network().classes());
                let count = t.shape.first().copied().unwrap_or(0);
                let numbers = Tensors(&file.tensors).f32(PREDICTIONS, &[count, batch, classes])?;
                numbers.chunks_exact((batch * classes).max(1)).map(<[f32]>::to_vec).collect()
            }
            None => Default::default(),
        };
        self.go_on_from(*position, totals.clone(), rest, predictions).map_err(Error::Data)?;
        let remembered = Tensor::of(&file.tensors, NEGATIVES);
        if remembered.is_empty() { Ok(()) } else { self.negatives_mut().restore(&remembered) }
    }
}

impl Info {
    /// Reads what a checkpoint says of itself.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the file cannot be read or is not a checkpoint.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path)?;
        let (tensors, metadata) = parse(path, &bytes)?;
        let mut tensors: Vec<_> = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), view.dtype().to_string(), view.shape().to_vec()))
            .collect();
        tensors.sort();
        let [channels, height, width] = metadata.shape;
        Ok(Info {
            recipe: metadata.recipe.into_owned(),
            shape: Shape { channels, height, width },
            classes: metadata.classes.into_owned(),
            position: metadata.training.map(|(position, _)| position),
            notes: metadata.notes.into_owned(),
            tensors,
            bytes: bytes.len() as u64,
        })
    }
}

/// The tensors that two checkpoints differ in, by name: in type, shape or any bit, or because one has none of that name.
///
/// # Errors
/// [`Error::Checkpoint`] where a file cannot be read or is not a checkpoint.
pub fn different_tensors(one: impl AsRef<Path>, other: impl AsRef<Path>) -> Result<Vec<String>> {
    let read = |path: &Path| -> Result<BTreeMap<String, Tensor>> {
        Ok(File::read(path)?.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect())
    };
    let (one, other) = (read(one.as_ref())?, read(other.as_ref())?);
    let same = |a: &Tensor, b: &Tensor| a.shape == b.shape && bytes(&a.numbers) == bytes(&b.numbers);
    let differs = |name: &&String| !matches!((one.get(*name), other.get(*name)), (Some(a), Some(b)) if same(a, b));
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    Ok(names.into_iter().filter(differs).cloned().collect())
}

/// A checkpoint's contents.
struct File {
    metadata: Metadata<'static>,
    tensors: Vec<Tensor>,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        let (views, metadata) = parse(path, &bytes)?;
        let tensors = views.iter().map(|(name, view)| tensor(name, &view)).collect::<Result<_>>();
        Ok(File { metadata, tensors: tensors.map_err(|error| at(path, error))? })
    }

    fn network(&self) -> Result<Network> {
        let [channels, height, width] = self.metadata.shape;
        let values = channels.checked_mul(height).and_then(|n| n.checked_mul(width));
        if values.is_none_or(|values| values > u32::MAX as usize) {
            return Err(Error::Data(format!("samples of {channels}×{height}×{width} values are too large")));
        }
        let shape = Shape { channels, height, width };
        let recipe = self.metadata.recipe.clone().into_owned().check()?;
        self.check_sizes(&recipe, shape)?;
        let mut network = Network::new(recipe, shape, &self.metadata.classes)?;
        self.fill(&mut network)?;
        network.allow_programs(false);
        Ok(network)
    }

    /// A recipe may ask for anything, for any number of classes; the tensors say what is really there, so nothing is allocated on
    /// its word alone.
    fn check_sizes(&self, recipe: &Recipe, shape: Shape) -> Result<()> {
        let (classes, plans) = (self.metadata.classes.len(), plan(recipe, shape, self.metadata.classes.len())?);
        let size = |tensor: &Tensor| tensor.shape.iter().product::<usize>();
        let holds = |part: String, what: String, expected: usize| {
            let found = self.tensors.iter().filter(|t| t.name.starts_with(&part)).map(size).sum::<usize>();
            if found >= expected {
                return Ok(());
            }
            Err(Error::Data(format!("{what} has {expected} parameters, but the file holds {found} numbers for it")))
        };
        let learners = (0..plans.len()).filter(|l| plans[*l].learns());
        let first = first_read(recipe, learners);
        for (l, plan) in plans.iter().enumerate() {
            let units = plan.shape.len();
            Tensors(&self.tensors).f32(&format!("layers.{l}.peer.mean"), &[units])?;
            holds(format!("layers.{l}."), format!("layer {l}, with samples of {shape},"), plan.parameters())?;
            if has_scores(recipe, plan) {
                holds(format!("scores.{l}."), format!("layer {l}'s scores of {classes} classes"), units * classes)?;
            }
            if recipe.head.enabled && plan.learns() && l >= first {
                let what = format!("the head's part for layer {l} and {classes} classes");
                holds(format!("head.{l}."), what, units * classes)?;
            }
        }
        Ok(())
    }

    fn fill(&self, network: &mut Network) -> Result<()> {
        for (l, stage) in network.stages.iter_mut().enumerate() {
            let of_layer = Tensor::of(&self.tensors, &format!("layers.{l}"));
            stage.layer.restore(&of_layer).map_err(|error| in_part(&format!("layers.{l}"), error))?;
            let mean = Tensors(&of_layer).f32("peer.mean", &[stage.peer.means.len()]);
            stage.peer.means = mean.map_err(|error| in_part(&format!("layers.{l}"), error))?.to_vec();
            if let Some(scores) = &mut stage.scores {
                let part = format!("scores.{l}");
                scores.restore(&Tensor::of(&self.tensors, &part)).map_err(|error| in_part(&part, error))?;
            }
        }
        for (l, layer) in network.head.iter_mut().flat_map(|head| head.reads.iter().zip(&mut head.layers)) {
            let part = format!("head.{l}");
            layer.restore(&Tensor::of(&self.tensors, &part)).map_err(|error| in_part(&part, error))?;
        }
        network.combined = None;
        if self.tensors.iter().any(|tensor| tensor.name == COMBINED) {
            let weights = Tensors(&self.tensors).f32(COMBINED, &[2])?;
            if !network.offers_both() {
                return Err(Error::Data(format!(
                    "tensor `{COMBINED}` weights two readouts, but the network does not offer both"
                )));
            }
            network.combined = Some([weights[0], weights[1]]);
        }
        Ok(())
    }
}

fn write(
    network: &Network,
    training: Option<(Position, Totals)>,
    mut tensors: Vec<Tensor>,
    notes: &BTreeMap<String, String>,
    path: &Path,
    replaced: Replaced,
) -> Result<()> {
    let mut add = |part: String, all: Vec<Tensor>| {
        tensors.extend(all.into_iter().map(|t| t.within(&part)));
    };
    for (l, stage) in network.stages().iter().enumerate() {
        add(format!("layers.{l}"), stage.layer.tensors());
        add(format!("layers.{l}.peer"), vec![Tensor::f32("mean", &[stage.peer.means.len()], stage.peer.means.clone())]);
        stage.scores.iter().for_each(|scores| add(format!("scores.{l}"), scores.tensors()));
    }
    for (l, layer) in network.head().iter().flat_map(|head| head.reads.iter().zip(&head.layers)) {
        add(format!("head.{l}"), layer.tensors());
    }
    tensors.extend(network.combined.map(|weights| Tensor::f32(COMBINED, &[2], weights.to_vec())));

    let shape = network.shape();
    let metadata = Metadata {
        version: VERSION,
        recipe: Cow::Borrowed(network.recipe()),
        shape: [shape.channels, shape.height, shape.width],
        classes: Cow::Borrowed(network.class_names()),
        training,
        notes: Cow::Borrowed(notes),
    };
    write_file(path, KEY, &metadata, &tensors, replaced)
}

/// What becomes of the file that a checkpoint replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It stays as `PATH.previous`.
    Kept,
    Dropped,
}

/// Writes tensors, and under `key` what they belong to.
pub(crate) fn write_file(
    path: &Path,
    key: &str,
    metadata: &impl Serialize,
    tensors: &[Tensor],
    replaced: Replaced,
) -> Result<()> {
    let failed = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
    let metadata = serde_json::to_string(metadata).map_err(|error| failed(error.to_string()))?;
    let bytes: Vec<(Dtype, Vec<u8>)> = tensors.iter().map(|t| bytes(&t.numbers)).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(t, (dtype, bytes))| Ok((t.name.as_str(), TensorView::new(*dtype, t.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let contents = views
        .and_then(|views| {
            let metadata = sealed(&metadata, &views);
            safetensors::serialize(views, Some(HashMap::from([(key.to_owned(), metadata)])))
        })
        .map_err(|error| failed(error.to_string()))?;
    put(path, &contents, replaced).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// What `load` makes of the checkpoint at `path`; or of the one before it, where that one is whole and the one at `path` is
/// damaged or gone: then also what is wrong with it.
///
/// # Errors
/// What `load` says of the checkpoint at `path`.
pub fn newest<T>(path: &Path, load: impl Fn(&Path) -> Result<T>) -> Result<(T, Option<Error>)> {
    match load(path) {
        Ok(loaded) => Ok((loaded, None)),
        Err(error) => match load(&previous(path)) {
            Ok(loaded) => Ok((loaded, Some(error))),
            Err(_) => Err(error),
        },
    }
}

/// Where the checkpoint before the one at `path` is kept.
pub fn previous(path: &Path) -> PathBuf {
    beside(path, ".previous")
}

/// Moves a damaged checkpoint out of the way, so that the next one does not replace the one before it; answers where to.
///
/// # Errors
/// What the operating system says.
pub fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = beside(path, ".damaged");
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A file under way, which takes its place when it is whole; until then, and where it never is, the place is as it was.
///
/// A pipe or a device cannot be replaced by a file: what is written goes there at once. A symbolic link stays one, and what it
/// leads to is replaced.
#[derive(Debug)]
pub struct Draft(To);

#[derive(Debug)]
enum To {
    Scratch(tempfile::NamedTempFile, PathBuf),
    Open(std::fs::File),
}

impl Draft {
    /// An empty one that is to be at `path`.
    ///
    /// # Errors
    /// What the operating system says; where `path` is a directory, too.
    pub fn at(path: &Path) -> std::io::Result<Self> {
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Ok(Draft(To::Open(std::fs::File::create(path)?)));
        }
        let place = followed(path);
        let (prefix, mut scratch) = (scratch_prefix(&place), tempfile::Builder::new());
        scratch.prefix(&prefix).suffix(PARTIAL);
        // Scratch files are private by default; what stays is for whoever the user's mask lets in.
        #[cfg(unix)]
        scratch.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Draft(To::Scratch(scratch.tempfile_in(folder(&place))?, place)))
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn finish(self) -> std::io::Result<()> {
        self.finish_after(|| Ok(()))
    }

    /// As [`Draft::finish`]; `last`: what is to be done just before it replaces another file.
    fn finish_after(self, last: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
        let To::Scratch(scratch, place) = self.0 else { return Ok(()) };
        scratch.as_file().sync_all()?;
        last()?;
        scratch.persist(&place)?;
        // The move itself must survive a power cut; folders can be synced only where they can be opened.
        std::fs::File::open(folder(&place)).and_then(|folder| folder.sync_all()).or_else(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied if cfg!(windows) => Ok(()),
            _ => Err(error),
        })
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.0 {
            To::Scratch(to, _) => to.write(bytes),
            To::Open(to) => to.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.0 {
            To::Scratch(to, _) => to.flush(),
            To::Open(to) => to.flush(),
        }
    }
}

/// Puts `contents` at `path` as a [`Draft`] that is whole, or leaves what is there as it is.
///
/// # Errors
/// What the operating system says.
pub fn write_atomically(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    put(path, contents, Replaced::Dropped)
}

fn put(path: &Path, contents: &[u8], replaced: Replaced) -> std::io::Result<()> {
    let mut draft = Draft::at(path)?;
    draft.write_all(contents)?;
    draft.finish_after(|| if replaced == Replaced::Kept && path.exists() { keep(path) } else { Ok(()) })
}

/// Where a file at `path` lies: a symbolic link stands for what it leads to, be that there or not.
fn followed(path: &Path) -> PathBuf {
    match path.read_link() {
        Ok(to) => path.canonicalize().unwrap_or_else(|_| folder(path).join(to)),
        Err(_) => path.to_owned(),
    }
}

/// Has [`previous`] name the same file as `path` does, whatever happens: it is there under both names, or as it was before.
fn keep(path: &Path) -> std::io::Result<()> {
    let link = folder(path).join(format!("{}previous{PARTIAL}", scratch_prefix(path)));
    let remove = || std::fs::remove_file(&link);
    let _ = remove(); // a killed process may have left it
    // Not every file system has two names for a file.
    std::fs::hard_link(followed(path), &link).or_else(|_| std::fs::copy(path, &link).map(drop))?;
    let moved = std::fs::rename(&link, previous(path));
    let _ = remove(); // where both named the same file already, it was not moved
    moved
}

/// Removes what a process that was killed while it wrote to `path` has left beside it. Whoever else may be writing there right
/// now fails, and leaves what is at `path` as it is.
pub fn remove_leftovers(path: &Path) {
    for path in [path, &followed(path)] {
        remove_partial(folder(path), &scratch_prefix(path));
    }
}

/// As [`remove_leftovers`], of every file in a folder.
pub fn remove_leftovers_in(folder: &Path) {
    remove_partial(folder, ".");
}

fn remove_partial(folder: &Path, prefix: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(PARTIAL) {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What unfinished files are called at the end.
const PARTIAL: &str = ".partial";

fn scratch_prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| {
        let hint = if path.is_dir() { "; expected a checkpoint file, such as checkpoint/last.safetensors" } else { "" };
        Error::Checkpoint { path: path.to_owned(), problem: format!("it could not be read: {source}{hint}") }
    })
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<(SafeTensors<'a>, Metadata<'static>)> {
    let (views, metadata): (_, Metadata<'static>) = open(path, bytes, KEY)?;
    let found = metadata.version;
    if found != VERSION {
        let problem = format!("its format has version {found}, this program reads version {VERSION}");
        return Err(Error::Checkpoint { path: path.to_owned(), problem });
    }
    Ok((views, metadata))
}

/// The tensors of a file, and what it says under `key`.
pub(crate) fn read_file<M: DeserializeOwned>(path: &Path, key: &str) -> Result<(M, Vec<Tensor>)> {
    let bytes = read(path)?;
    let (views, metadata) = open(path, &bytes, key)?;
    let tensors = views.iter().map(|(name, view)| tensor(name, &view)).collect::<Result<_>>();
    Ok((metadata, tensors.map_err(|error| at(path, error))?))
}

/// A file's tensors, and what it says under `key`, if both are as they were written.
fn open<'a, M: DeserializeOwned>(path: &Path, bytes: &'a [u8], key: &str) -> Result<(SafeTensors<'a>, M)> {
    let refuse = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
    let broken = |problem: String| {
        let (before, start) = (previous(path), "it may be cut short or damaged");
        refuse(match before.exists() {
            true => format!("{problem}: {start}; the checkpoint before it is {}", before.display()),
            false => format!("{problem}: {start}; use another checkpoint"),
        })
    };
    let unsafe_tensors = |error| broken(format!("it is not a whole safetensors file ({error})"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unsafe_tensors)?;
    let views = SafeTensors::deserialize(bytes).map_err(unsafe_tensors)?;
    let all = header.metadata().as_ref();
    let Some(text) = all.and_then(|metadata| metadata.get(key)) else {
        let has = |key| all.is_some_and(|metadata| metadata.contains_key(key));
        return Err(refuse(match () {
            () if has(STREAM_KEY) => "it is the checkpoint of a stream: go on with `onward stream --resume`".into(),
            () if has(KEY) => "it is a trained network, not the checkpoint of a stream".into(),
            () => format!("it is a safetensors file, but not one of ours: its metadata has no `{key}`"),
        }));
    };
    let unsealed = text.rsplit_once(SEAL).map_or(text.clone(), |(unsealed, _)| format!("{unsealed}}}"));
    if *text != unsealed && *text != sealed(&unsealed, &views.iter().collect::<Vec<_>>()) {
        return Err(broken("its contents do not match its checksum".into()));
    }
    let metadata = serde_json::from_str(&unsealed);
    Ok((views, metadata.map_err(|error| refuse(format!("its `{key}` metadata cannot be understood: {error}")))?))
}

/// How the checksum stands in the metadata.
const SEAL: &str = ",\"checksum\":\"";

/// A JSON object with the checksum of itself and of all tensors at its end.
fn sealed<'t>(object: &str, views: &[(&'t str, TensorView<'t>)]) -> String {
    let mut views: Vec<_> = views.iter().collect();
    views.sort_by_key(|(name, _)| *name);
    let mut sum = Checksum(0);
    sum.add(object.as_bytes());
    for (name, view) in views {
        sum.add(format!("{name} {} {:?}", view.dtype(), view.shape()).as_bytes());
        sum.add(view.data());
    }
    format!("{}{SEAL}{:016x}\"}}", object.strip_suffix('}').unwrap_or(object), sum.0)
}

/// Changes with every change within eight bytes, and with others but for one in 2⁶⁴.
pub(crate) struct Checksum(u64);

impl Checksum {
    /// Of bytes alone.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut sum = Checksum(0);
        sum.add(bytes);
        sum.0
    }

    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.add_word(u64::from_le_bytes(*word)));
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        self.add_word(u64::from_le_bytes(word));
        self.add_word(bytes.len() as u64);
    }

    /// No two words lead from one state to the same next one: each operation can be undone.
    fn add_word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

fn bytes(numbers: &Numbers) -> (Dtype, Vec<u8>) {
    match numbers {
        Numbers::F32(v) => (Dtype::F32, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Numbers::F64(v) => (Dtype::F64, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Numbers::U8(v) => (Dtype::U8, v.clone()),
    }
}

fn tensor(name: &str, view: &TensorView<'_>) -> Result<Tensor> {
    let data = view.data();
    let numbers = match view.dtype() {
        Dtype::F32 => Numbers::F32(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F64 => Numbers::F64(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        Dtype::U8 => Numbers::U8(data.to_vec()),
        other => return Err(Error::Data(format!("tensor `{name}` is of type {other}, expected F32, F64 or U8"))),
    };
    let finite = match &numbers {
        Numbers::F32(v) => v.iter().all(|x| x.is_finite()),
        Numbers::F64(v) => v.iter().all(|x| x.is_finite()),
        Numbers::U8(_) => true,
    };
    if !finite {
        return Err(Error::Data(format!("tensor `{name}` holds NaN or infinity: the file is damaged")));
    }
    Ok(Tensor { name: name.to_owned(), shape: view.shape().to_vec(), numbers })
}

pub(crate) fn at(path: &Path, error: Error) -> Error {
    match error {
        Error::Checkpoint { .. } => error,
        other => Error::Checkpoint { path: path.to_owned(), problem: other.to_string() },
    }
}

pub(crate) fn in_part(part: &str, error: Error) -> Error {
    Error::Data(format!("{part}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_all_files_so_far() {
        for (bytes, expected) in [("onward", 0x08fe_9989_8003_7089), ("forward only", 0xa120_da90_d16e_9bad)] {
            assert_eq!(Checksum::of(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}
