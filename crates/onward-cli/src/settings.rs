//! Every setting of an experiment file: its key, its range, what it means. The one table that files are checked against and
//! documented from.

use crate::exit::Usage;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key, as `--set` takes it.
    pub key: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it means, in a sentence or two.
    pub help: &'static str,
}

/// What a setting may be.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Whole(i64, i64),
    /// A number.
    Number(f64, f64),
    /// A number in a range, or this word.
    NumberOr(f64, f64, &'static str),
    /// `true` or `false`.
    Flag,
    /// `true`, `false`, or a number.
    FlagOr(f64, f64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// Text that is part of a directory's name.
    Name,
    /// A list of texts.
    Words,
    /// A list of layers.
    Layers,
}

use Kind::{Flag, FlagOr, Layers, Name, Number, NumberOr, Text, Whole, Word, Words};

const fn setting(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, kind, help }
}

/// All settings, in the order of a file.
pub const SETTINGS: &[Setting] = &[
    setting("name", Name, "What the experiment is called."),
    setting("about", Text, "What it shows, in a sentence."),
    setting(
        "rule",
        Word(&["forward-forward", "backprop", "perturbation", "random-layers"]),
        "How weights learn: each layer for itself, from a positive and a negative pass; or, to compare with, by the head's gradient sent down through all layers, by random nudges of all weights, or not at all (the head alone learns).",
    ),
    setting(
        "seed",
        Whole(0, i64::MAX),
        "Decides every random draw: initial weights, order, negatives, augmentation, dropout.",
    ),
    setting(
        "paper.section",
        Text,
        "The section of the paper that the experiment is from; empty where it is from none.",
    ),
    setting(
        "paper.error",
        Number(0.0, 100.0),
        "The test error that the paper reports, in per cent; 0 where it reports none.",
    ),
    setting("data.source", Text, "\"mnist\" (embedded), the name of a data set that `onward data` lists, or a path."),
    setting("data.train", Whole(0, i64::MAX), "How many training samples to use; 0 for all that are not held out."),
    setting(
        "data.validation",
        Whole(0, i64::MAX),
        "How many samples of the training set are held out to validate on: the last ones of IDX, CIFAR and texts; of other data, which may be sorted by class, some of every class, the same for every seed. Where it is not set, a fifth of the samples at most.",
    ),
    setting(
        "engine.device",
        Word(&["cpu", "cuda"]),
        "Where to compute: the processor. \"cuda\" is reserved, and this version refuses it.",
    ),
    setting(
        "engine.precision",
        Word(&["f32", "bf16", "reference"]),
        "Arithmetic: single precision; products of bf16 numbers (faster where the processor has them); or plain loops in double precision (slow, for checking).",
    ),
    setting(
        "network.layers",
        Layers,
        "The hidden layers from the bottom. A number is a fully connected layer of so many units; { kind = \"local\", channels = 128, field = 10, stride = 6, pad = 0 } has receptive fields, each with weights of its own; kind \"conv\" shares them. Black boxes between layers: quantiser (levels), random, noise (deviation), binary, process (command, outputs, frames, timeout).",
    ),
    setting(
        "network.label",
        Word(&["replace", "prepend", "top", "none"]),
        "Where the label goes in: in place of the first inputs, in front of them all, at the top (of a recurrent network), or nowhere (learning without labels; the softmax head alone is told). Where it is not set, in front of plain features: \"replace\" would overwrite some.",
    ),
    setting("network.label_strength", Number(0.01, 100.0), "What a label's input is set to."),
    setting(
        "network.input_normalization",
        NORMALIZATIONS,
        "What is done to each input, label included: divide by its root mean square, by its length, subtract its mean and divide by its deviation, or nothing.",
    ),
    setting(
        "network.normalization",
        NORMALIZATIONS,
        "What is done to a layer's activities before the next layer reads them.",
    ),
    setting(
        "network.activation",
        Word(&["relu", "student-t"]),
        "What a unit makes of its inputs' sum: nothing below zero, or the negative log probability under a t-distribution, which is 0 at 0 and rises on both sides.",
    ),
    setting("network.freedom", Number(0.1, 1_000.0), "Degrees of freedom of the t-distribution (student-t alone)."),
    setting(
        "network.dropout",
        Number(0.0, 0.99),
        "The share of each layer's activities that is silenced while training (forward-forward and backprop alone).",
    ),
    setting(
        "recurrent.iterations",
        Whole(0, 1_000),
        "Top-down connections: moments that the network runs for, and learns at, while training; 0: there are none.",
    ),
    setting("recurrent.keep", Number(0.0, 0.999), "How much of a layer's state is kept from one moment to the next."),
    setting("recurrent.first", Whole(1, 1_000), "The first moment whose goodness the every-label readout averages."),
    setting("recurrent.last", Whole(1, 1_000), "The last moment whose goodness the every-label readout averages."),
    setting(
        "goodness.kind",
        Word(&["sum-of-squares", "mean-of-squares", "sum"]),
        "What a layer's goodness is, of its activities.",
    ),
    setting(
        "goodness.raise",
        FlagOr(0.0, 1.0),
        "Whether positive data should have high goodness (true: feature detectors) or low goodness (false: constraints that negative data violates), or the share of the groups in which it should be high.",
    ),
    setting(
        "goodness.groups",
        Whole(1, 65_536),
        "Into how many equal groups a layer's units fall (each location's, in local and convolution layers); each group has a goodness of its own.",
    ),
    setting(
        "goodness.by_location",
        Flag,
        "Whether each location of a local or convolution layer has goodnesses of its own, or all of them together.",
    ),
    setting(
        "goodness.threshold",
        NumberOr(-1e9, 1e9, "auto"),
        "The goodness at which a sample is as likely positive as negative, in each group; \"auto\" is what suits the kind (the units in the group, for sum-of-squares).",
    ),
    setting(
        "goodness.temperature",
        Number(1e-4, 1e4),
        "What the distance from the threshold is divided by: the higher, the softer the decision.",
    ),
    setting(
        "objective.kind",
        Word(&["logistic", "symmetric", "per-class", "mono-forward"]),
        "What layers gain: each sample told apart by the threshold, or each pair by its difference in goodness; or, in one pass without negatives or a label that goes in, the label told by the layer itself: from the goodness of a group of units for each class, or from a matrix of its own.",
    ),
    setting(
        "peer.strength",
        Number(0.0, 10.0),
        "Peer normalisation: how strongly each unit is drawn to the mean activity of its layer; 0 turns it off.",
    ),
    setting("peer.momentum", Number(0.0, 0.999_999), "How slowly the units' mean activities are followed."),
    setting("peer.initial", Number(0.0, 100.0), "What the mean activities start from."),
    setting(
        "negatives.kind",
        Word(&["hard", "uniform", "hybrid", "shuffled", "generated", "context"]),
        "Wrong labels, as often as the softmax head believes in them or all equally often; or wrong inputs: two samples patched together, one with its parts in another order, texts that the net writes itself; or, in recurrent networks, another sample's context from above.",
    ),
    setting(
        "negatives.blurs",
        Whole(0, 1_000),
        "How often the random mask of a hybrid is blurred: the more, the larger its blots.",
    ),
    setting(
        "negatives.tiles",
        Whole(1, 1_000),
        "How many parts a shuffled image has along each side; shuffled negatives need 2 at least.",
    ),
    setting(
        "negatives.delay",
        Whole(0, 1_000),
        "Hard negatives are drawn from what the head predicted so many steps earlier; 0: in the same step, which a pipeline cannot.",
    ),
    setting(
        "augment.shift",
        Whole(0, 1000),
        "Images are shifted by up to this many pixels each way, anew at each visit.",
    ),
    setting(
        "augment.mask",
        Number(0.0, 0.99),
        "The share of each sample's values that are set to 0, others at each visit, so that no layer relies on a few of them.",
    ),
    setting(
        "optimizer.kind",
        Word(&["smoothed", "adam", "one-step"]),
        "How gradients become steps: smoothed (momentum), or Adam; or one sample at a time, in steps that take its goodness to where it should be in every layer at once.",
    ),
    setting(
        "optimizer.rate",
        Number(1e-9, 10.0),
        "The layers' learning rate; one-step: which share of the way a step goes, up to 1.",
    ),
    setting("optimizer.momentum", Number(0.0, 0.999_999), "How much of the smoothed gradient is kept at each step."),
    setting(
        "optimizer.second_momentum",
        Number(0.0, 0.999_999_9),
        "How much of the smoothed squared gradient is kept at each step (adam alone).",
    ),
    setting("optimizer.weight_cost", Number(0.0, 10.0), "How strongly weights are drawn to zero; biases are not."),
    setting(
        "optimizer.margin",
        Number(0.0, 0.999),
        "How far beyond the threshold a step takes a goodness, as a share of it (one-step alone).",
    ),
    setting(
        "optimizer.equal_lengths",
        Flag,
        "Whether the incoming weight vectors of a layer's units are made equally long after each step.",
    ),
    setting("head.enabled", Flag, "Whether there is a softmax head; hard negatives and the one-pass readout need it."),
    setting("head.rate", Number(1e-9, 10.0), "The head's learning rate."),
    setting("head.momentum", Number(0.0, 0.999_999), "As in [optimizer], for the head."),
    setting("head.weight_cost", Number(0.0, 10.0), "As in [optimizer], for the head."),
    setting(
        "head.memory",
        Word(&["keep", "recompute"]),
        "Keep a batch of each layer for the head to learn from (faster), or compute it again (memory does not grow with depth).",
    ),
    setting(
        "readout.skip",
        Whole(0, 1000),
        "Layers at the bottom that neither readout looks at; the last layer always counts.",
    ),
    setting(
        "readout.margin",
        Number(0.0, 1e9),
        "Early exit: a sample goes no further up once its likeliest label leads the next by so many nats; 0: never.",
    ),
    setting(
        "training.epochs",
        Whole(1, 1_000_000),
        "Visits to the whole training set; with greedy order, for each layer. Where it is not set, tables, arrays and folders have as many as make a thousand steps.",
    ),
    setting(
        "training.batch",
        Whole(1, 65_536),
        "Samples in a step. Where it is not set, a tenth of those of a table, an array or a folder at most.",
    ),
    setting(
        "training.order",
        Word(&["simultaneous", "greedy", "pipelined"]),
        "Whether all layers learn from every batch, each for all epochs before the next starts, or all from every batch side by side: blocks of layers, a thread each (docs/pipeline.md).",
    ),
    setting(
        "training.blocks",
        Whole(0, 1_000),
        "In how many blocks of layers a pipeline works; 0: one for each thread. The results are the same.",
    ),
    setting(
        "training.schedule",
        Word(&["half-then-linear", "cosine", "constant"]),
        "How the learning rates fall: not at all for the first half, then on a line to zero; on a cosine wave; or not at all.",
    ),
    setting(
        "training.phase",
        Whole(0, 1_000_000_000),
        "Steps that learn from positive data alone, before as many learn from negative data alone; 0: every step learns from both.",
    ),
    setting(
        "training.rest",
        Whole(0, 1_000),
        "Samples that every layer has solved rest for 1, 2, 4 … epochs, up to this many; 0 lets none rest.",
    ),
    setting(
        "training.negligible",
        Number(0.0, 0.1),
        "A sample's step in a layer is left out where its probability of being told wrong is below this.",
    ),
    setting(
        "rival.parts",
        Whole(1, 65_536),
        "Backpropagation: each batch goes through in so many parts and only their gradients add up, which saves memory.",
    ),
    setting(
        "rival.straight_through",
        Flag,
        "Backpropagation: the gradient goes through black boxes as if they were not there; else such networks are refused.",
    ),
    setting("rival.nudge", Number(1e-9, 1.0), "Perturbation: how far each weight is nudged."),
    setting(
        "hardware.gain",
        Number(0.0, 10.0),
        "Imprecise hardware: each weight is read through a gain of its own, 1 give or take this standard deviation, that no rule knows.",
    ),
    setting(
        "hardware.noise",
        Number(0.0, 10.0),
        "Imprecise hardware: each weight is read with an offset of its own, of this standard deviation in multiples of the initial weights.",
    ),
];

/// The kinds of layers that are written as tables, with their settings; those with a default may be left out.
const LAYERS: &[(&str, &[LayerKey])] = &[
    ("dense", &[("units", Whole(1, 65_536), false)]),
    ("local", FIELDS),
    ("conv", FIELDS),
    ("quantiser", &[("levels", Whole(2, 65_536), false)]),
    ("random", &[]),
    ("noise", &[("deviation", Number(0.0, 100.0), false)]),
    ("binary", &[]),
    (
        "process",
        &[
            ("command", Words, false),
            ("outputs", Whole(1, 65_536), false),
            ("frames", Word(&["binary", "lines"]), true),
            ("timeout", Number(0.01, 86_400.0), true),
        ],
    ),
];

/// A layer's setting: its name, what it may be, and whether it may be left out.
type LayerKey = (&'static str, Kind, bool);

const FIELDS: &[LayerKey] = &[
    ("channels", Whole(1, 65_536), false),
    ("field", Whole(1, 1_024), false),
    ("stride", Whole(1, 1_024), true),
    ("pad", Whole(0, 1_023), true),
];

const NORMALIZATIONS: Kind = Word(&["rms", "length", "layer", "none"]);

impl Kind {
    /// What is expected, in words.
    pub fn expected(&self) -> String {
        match self {
            Whole(low, i64::MAX) => format!("a whole number from {low}"),
            Whole(low, high) => format!("a whole number, {low} to {high}"),
            Number(low, high) => format!("a number, {low} to {high}"),
            NumberOr(low, high, word) => format!("a number, {low} to {high}, or \"{word}\""),
            Flag => "true or false".into(),
            FlagOr(low, high) => format!("true, false or a number, {low} to {high}"),
            Word(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Text => "text in quotes".into(),
            Name => "text in quotes, without / and \\, since directories are named after it".into(),
            Words => "a list of texts, such as [\"python3\", \"box.py\"]".into(),
            Layers => "a list of widths, such as [1000, 1000, 1000], or of tables with a kind".into(),
        }
    }

    /// The value, if it is as expected; where a word is only misspelt, the nearest one.
    fn check(&self, value: &Value) -> Result<(), Option<&'static str>> {
        let in_range = |low, high| {
            let number = value.as_float().or(value.as_integer().map(|n| n as f64));
            number.is_some_and(|n| n >= low && n <= high)
        };
        let fits = match self {
            Whole(low, high) => value.as_integer().is_some_and(|n| n >= *low && n <= *high),
            Number(low, high) => in_range(*low, *high),
            NumberOr(low, high, word) => in_range(*low, *high) || value.as_str() == Some(word),
            Flag => value.is_bool(),
            FlagOr(low, high) => value.is_bool() || in_range(*low, *high),
            Word(words) => match value.as_str() {
                Some(found) if words.contains(&found) => true,
                Some(found) => return Err(nearest(found, words.iter().copied())),
                None => false,
            },
            Text => value.is_str(),
            Name => value.as_str().is_some_and(|name| {
                !name.is_empty() && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
            }),
            Words => value.as_array().is_some_and(|words| !words.is_empty() && words.iter().all(Value::is_str)),
            Layers => value.as_array().is_some_and(|layers| {
                let is_layer = |l: &Value| l.is_table() || l.as_integer().is_some_and(|n| (1..=65_536).contains(&n));
                !layers.is_empty() && layers.iter().all(is_layer)
            }),
        };
        if fits { Ok(()) } else { Err(None) }
    }
}

/// A longer file is no experiment.
const LONGEST_FILE: usize = 1 << 20;

/// A setting with its value, and where it was given.
type Given = (String, Value);

/// The settings of an experiment file, checked: keys as `--set` takes them.
///
/// # Errors
/// A [`Usage`] that names the file, the line, the key, what was found and what was expected.
pub fn parse_file(text: &str, file: &str) -> Result<Vec<Given>, Usage> {
    let leaves = leaves(text, file, None)?;
    leaves.iter().try_for_each(|(key, value, place)| check(key, value, place))?;
    Ok(leaves.into_iter().map(|(key, value, _)| (key, value)).collect())
}

/// A file as plain values.
///
/// # Errors
/// A [`Usage`] that names the line where it is not TOML.
pub fn plain(text: &str, file: &str) -> Result<Table, Usage> {
    if text.len() > LONGEST_FILE {
        let found = text.len();
        return Err(Usage(format!(
            "{file}: it has {found} bytes, expected an experiment file of at most {LONGEST_FILE}"
        )));
    }
    text.parse().map_err(|error| broken(text, file, &error))
}

/// Every key and value of a file, or of one table of it, as `file:line` has it, not yet checked.
///
/// # Errors
/// As [`plain`]; also where `section` is no table.
pub fn leaves(text: &str, file: &str, section: Option<&str>) -> Result<Vec<(String, Value, String)>, Usage> {
    let plain = Value::Table(plain(text, file)?);
    // The same text once more; `found` knows where each value was.
    let table = DeTable::parse(text).map_err(|error| broken(text, file, &error))?;
    let (mut found, mut values) = (Vec::new(), &plain);
    match section {
        None => collect(table.get_ref(), "", &mut found),
        Some(section) => match table.get_ref().get(section).map(|value| value.get_ref()) {
            None => return Ok(Vec::new()),
            Some(DeValue::Table(inner)) => {
                collect(inner, "", &mut found);
                values = &values[section];
            }
            Some(_) => return Err(Usage(format!("{file}: `{section}` is {}, expected a table", plain[section]))),
        },
    }
    let leaf = |(key, at): (String, usize)| {
        let place = format!("{file}:{}", line(text, at));
        let value = key.split('.').try_fold(values, |table, part| table.get(part)).cloned();
        let value = value.ok_or_else(|| Usage(format!("{place}: key `{key}` holds a dot or is empty")))?;
        Ok((key, value, place))
    };
    found.into_iter().map(leaf).collect()
}

fn line(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

fn broken(text: &str, file: &str, error: &toml::de::Error) -> Usage {
    let at = error.span().map_or(String::new(), |span| format!(":{}", line(text, span.start)));
    Usage(format!("{file}{at}: not valid TOML: {}", error.message()))
}

fn collect(table: &DeTable<'_>, prefix: &str, leaves: &mut Vec<(String, usize)>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) if is_table(&path) => collect(inner, &path, leaves),
            _ => leaves.push((path, key.span().start)),
        }
    }
}

fn is_table(path: &str) -> bool {
    SETTINGS.iter().any(|s| s.key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// A setting given as `key=value`.
///
/// # Errors
/// As [`parse_file`].
pub fn parse_flag(flag: &str) -> Result<Given, Usage> {
    let place = format!("--set {flag}");
    let Some((key, text)) = flag.split_once('=') else {
        return Err(Usage(format!("{place}: expected key=value, such as training.epochs=20")));
    };
    let (key, text) = (key.trim(), text.trim());
    // A bare word is the text itself: no shell needs to be told about quotes within quotes.
    let value = match format!("value = {text}").parse::<Table>() {
        Ok(mut table) => table.remove("value").expect("it was just put there"),
        Err(_) => Value::String(text.into()),
    };
    check(key, &value, &place)?;
    Ok((key.into(), value))
}

/// Refuses a value that a setting cannot have; `place` says where it was given.
pub fn check(key: &str, value: &Value, place: &str) -> Result<(), Usage> {
    let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
        let hint = match nearest(key, SETTINGS.iter().map(|s| s.key)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`onward experiments --settings` lists them all".into(),
        };
        return Err(Usage(format!("{place}: there is no setting `{key}`; {hint}")));
    };
    setting.kind.check(value).map_err(|near| {
        let hint = near.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
        Usage(format!("{place}: `{key}` is {value}, expected {}{hint}", setting.kind.expected()))
    })?;
    match (&setting.kind, value) {
        (Layers, Value::Array(layers)) => {
            layers.iter().enumerate().try_for_each(|(l, layer)| check_layer(&format!("{key}[{l}]"), layer, place))
        }
        _ => Ok(()),
    }
}

/// A layer that is written as a table: its kind, and the settings of that kind.
fn check_layer(key: &str, layer: &Value, place: &str) -> Result<(), Usage> {
    let Some(table) = layer.as_table() else { return Ok(()) };
    let kinds = LAYERS.iter().map(|(kind, _)| *kind);
    let hint = |near: Option<&str>| near.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
    let found = table.get("kind").and_then(Value::as_str).unwrap_or("no kind");
    let Some((_, settings)) = LAYERS.iter().find(|(kind, _)| *kind == found) else {
        let all = kinds.clone().collect::<Vec<_>>().join(", ");
        return Err(Usage(format!(
            "{place}: `{key}.kind` is {found}, expected one of {all}{}",
            hint(nearest(found, kinds))
        )));
    };
    let names = || settings.iter().map(|(name, ..)| *name);
    if let Some(unknown) = table.keys().find(|name| *name != "kind" && !names().any(|known| known == *name)) {
        let hint = hint(nearest(unknown, names()));
        return Err(Usage(format!("{place}: a {found} layer has no setting `{unknown}` ({key}){hint}")));
    }
    for (name, kind, optional) in *settings {
        match table.get(*name) {
            Some(value) if kind.check(value).is_ok() => (),
            None if *optional => (),
            value => {
                let value = value.map_or("missing".into(), Value::to_string);
                return Err(Usage(format!("{place}: `{key}.{name}` is {value}, expected {}", kind.expected())));
            }
        }
    }
    Ok(())
}

/// The word that `found` is most likely a misspelling of.
pub fn nearest<'a>(found: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let scored = words.map(|word| {
        let whole = strsim::normalized_damerau_levenshtein(found, word);
        let end = 0.95 * strsim::normalized_damerau_levenshtein(&last(found), &last(word));
        (whole.max(end), word)
    });
    scored.filter(|(score, _)| *score > 0.5).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// Whether a setting only tells of an experiment, and changes nothing in it.
pub fn tells(key: &str) -> bool {
    key == "about" || key.starts_with("paper.")
}

/// An experiment's values as a file, every setting with its range and meaning; those in `unset` as comments.
pub fn document(values: &Table, unset: &[&str]) -> String {
    let mut text = String::new();
    let mut table = "";
    for setting in SETTINGS {
        let (in_table, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if in_table != table {
            text.push_str(&format!("\n[{in_table}]\n"));
            table = in_table;
        }
        let value = lookup(values, setting.key).expect("every setting has a value");
        for line in wrapped(&format!("{} ({})", setting.help, setting.kind.expected()), 78) {
            text.push_str(&format!("# {line}\n"));
        }
        let comment = if unset.contains(&setting.key) { "# " } else { "" };
        text.push_str(&format!("{comment}{name} = {value}\n"));
    }
    text
}

/// `text` in lines of at most `width` characters, where its words allow.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.into());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The value of a dotted key.
pub fn lookup<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

/// Puts a value at a dotted key, replacing what was there.
pub fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => _ = table.insert(key.into(), value),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Some(inner) = inner.as_table_mut() {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;

    #[test]
    fn the_table_and_the_structs_have_the_same_keys() {
        fn keys(table: &Table, prefix: &str, all: &mut Vec<String>) {
            for (key, value) in table {
                match value {
                    Value::Table(inner) => keys(inner, &format!("{prefix}{key}."), all),
                    _ => all.push(format!("{prefix}{key}")),
                }
            }
        }
        let mut found = Vec::new();
        keys(&Experiment::default().to_table(), "", &mut found);
        let mut listed: Vec<_> = SETTINGS.iter().map(|s| s.key.to_owned()).collect();
        found.sort();
        listed.sort();
        assert_eq!(found, listed);
    }

    #[test]
    fn the_default_document_is_a_valid_file_of_the_defaults() {
        let text = Experiment::default().document();
        let given = parse_file(&text, "default.toml").unwrap();
        assert_eq!(given.len() + Experiment::default().unset.len(), SETTINGS.len());
        assert_eq!(Experiment::from_settings(given).unwrap(), Experiment::default());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn refusals_name_the_line_the_key_and_the_nearest() {
        let refused = |text: &str| parse_file(text, "my.toml").unwrap_err().0;
        assert_eq!(
            refused("[training]\nepochs = 3\nbach = 10\n"),
            "my.toml:3: there is no setting `training.bach`; did you mean `training.batch`?"
        );
        assert_eq!(refused("epochs = 3"), "my.toml:1: there is no setting `epochs`; did you mean `training.epochs`?");
        assert_eq!(
            refused("\n[negatives]\nkind = \"hart\""),
            "my.toml:3: `negatives.kind` is \"hart\", expected \"hard\" or \"uniform\" or \"hybrid\" or \"shuffled\" or \"generated\" or \"context\"; did you mean \"hard\"?"
        );
        assert_eq!(
            refused("[training]\nbatch = 0"),
            "my.toml:2: `training.batch` is 0, expected a whole number, 1 to 65536"
        );
        assert!(refused("[network]\nlayers = [10, \"x\"]").contains("expected a list of widths"));
        let layer = |text: &str| refused(&format!("[network]\nlayers = [{{ {text} }}]"));
        assert_eq!(
            layer("kind = \"locl\""),
            "my.toml:2: `network.layers[0].kind` is locl, expected one of dense, local, conv, quantiser, random, noise, binary, process; did you mean \"local\"?"
        );
        assert!(
            layer("kind = \"conv\", feild = 3")
                .contains("no setting `feild` (network.layers[0]); did you mean \"field\"?")
        );
        assert!(layer("kind = \"conv\", channels = 3").contains("`network.layers[0].field` is missing"));
        assert!(layer("kind = \"dense\", units = 0").contains("expected a whole number, 1 to 65536"));
        assert!(layer("units = 5").contains("no kind"));
        for name in ["../../x", "/x", "a\\\\b", "a\\nb", ""] {
            let found = refused(&format!("name = \"{name}\""));
            assert!(found.starts_with("my.toml:1: `name` is ") && found.contains("without / and \\"), "{found}");
        }
        assert!(refused("training = 5").contains("there is no setting `training`"));
        assert!(refused("[training\nbatch = 1").starts_with("my.toml:1: not valid TOML"));
        assert!(refused("\"a.b\" = 1").contains("`a.b`"));
        assert!(refused("[optimizer]\nrate = nan").contains("optimizer.rate"));
        assert!(refused("zzzzqqq = 1").contains("lists them all"));
    }

    #[test]
    fn flags_take_bare_words() {
        assert_eq!(parse_flag("negatives.kind=uniform").unwrap().1, Value::String("uniform".into()));
        assert_eq!(parse_flag("data.source=/tmp/a b").unwrap().1, Value::String("/tmp/a b".into()));
        assert_eq!(parse_flag(" training.batch = 7").unwrap(), ("training.batch".into(), Value::Integer(7)));
        assert!(parse_flag("training.batch").unwrap_err().0.contains("expected key=value"));
        assert!(parse_flag("training.batch=x").unwrap_err().0.contains("expected a whole number"));
    }
}
