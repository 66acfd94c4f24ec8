//! Checkpoints that disks or people have damaged: they are refused, or they are what was written, bit for bit; and the one
//! before is there.

mod common;

use common::{patterns, recipe, without_checksum};
use onward::checkpoint::{Info, newest, previous, remove_leftovers, remove_leftovers_in, set_aside, write_atomically};
use onward::settings::{BlackBoxSettings, Fields, LayerSettings, OptimizerKind, Precision};
use onward::train::stream::{Learner, StreamSettings};
use onward::{Dataset, Error, Event, Flow, Network, Shape, Trainer, Values};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

/// A trainer after some steps.
fn trainer(steps: u64) -> Trainer {
    let data = patterns(120);
    let mut recipe = recipe(Precision::F32, &[8, 8]);
    recipe.optimizer.kind = OptimizerKind::Adam;
    recipe.training.rest = 2;
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    let mut until = |_: Event<'_>, trainer: &Trainer| match trainer.position().step < steps {
        true => Flow::Continue,
        false => Flow::Stop,
    };
    trainer.fit(&data, &mut until).unwrap();
    trainer
}

fn saved(trainer: &Trainer) -> Vec<u8> {
    written(|path| trainer.save(path, &BTreeMap::from([("checksum".into(), "a note".into())])))
}

fn written(save: impl FnOnce(&Path) -> onward::Result<()>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    save(&path).unwrap();
    std::fs::read(path).unwrap()
}

static TRAINER: LazyLock<Vec<u8>> = LazyLock::new(|| saved(&trainer(6)));

static LEARNER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut learner = Learner::new(StreamSettings { layers: vec![8, 8], ..StreamSettings::classify(2) }, 3).unwrap();
    for n in 0..40u8 {
        let x = [f32::from(n % 7), f32::from(n % 5), 1.0];
        let number = learner.observe(&x).unwrap().number;
        let class = learner.class(if n % 2 == 0 { "even" } else { "odd" }).unwrap();
        learner.label(number, class).unwrap();
    }
    written(|path| learner.save(path, &BTreeMap::new()))
});

/// A file with something else in its header and without its checksum, as another tool may have written it.
fn edited(whole: &[u8], from: &str, to: &str) -> Vec<u8> {
    let whole = without_checksum(whole.to_vec());
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(whole[8..][..length].to_vec()).unwrap();
    assert_eq!(header.matches(from).count(), 1, "{from} in {header}");
    header = header.replace(from, to);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &whole[8 + length..]].concat()
}

/// Loads what a file holds and saves it again: `None` where it is refused.
fn again(bytes: &[u8], stream: bool) -> Option<Vec<u8>> {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    let path = FOLDER.with(|folder| folder.path().join("damaged"));
    std::fs::write(&path, bytes).unwrap();
    let refused = |error: Error| {
        assert!(matches!(error, Error::Checkpoint { .. }), "{error:?}");
        assert!(error.to_string().contains("damaged: "), "it does not name the file: {error}");
    };
    match stream {
        true => {
            let (learner, notes) = Learner::load(&path).map_err(refused).ok()?;
            Some(written(|path| learner.save(path, &notes)))
        }
        false => {
            let trainer = Trainer::load(&path).map_err(refused).ok()?;
            let notes = Info::read(&path).unwrap().notes;
            Some(written(|path| trainer.save(path, &notes)))
        }
    }
}

#[test]
fn what_is_whole_is_loaded() {
    assert!(again(&TRAINER, false).unwrap() == *TRAINER);
    assert!(again(&LEARNER, true).unwrap() == *LEARNER);
}

/// One bit of every third byte of the header, and of some of the numbers, a different one each time.
#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    for (whole, stream) in [(&*TRAINER, false), (&*LEARNER, true)] {
        let header = 8 + whole[0] as usize + 256 * whole[1] as usize;
        for at in (0..header).step_by(3).chain((header..whole.len()).step_by(41)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << ((5 * at + at / 8) % 8);
            if let Some(found) = again(&damaged, stream) {
                assert!(found == *whole, "bit flipped in byte {at}: loaded, and other than it was");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happened_to_it_it_is_refused_or_as_it_was(
        stream in any::<bool>(),
        change in 0usize..5,
        at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..20),
    ) {
        let whole = if stream { &*LEARNER } else { &*TRAINER };
        let (at, to) = (at.index(whole.len()), to.index(whole.len()));
        let mut damaged = whole.clone();
        match change {
            0 => damaged.truncate(at),
            1 => damaged.extend(&bytes),
            // A block of a disk that was never written.
            2 => damaged[at..(at + 512).min(whole.len())].fill(0),
            3 => damaged.iter_mut().skip(at).zip(&bytes).for_each(|(old, new)| *old = *new),
            _ => damaged.swap(at, to),
        }
        let found = again(&damaged, stream);
        prop_assert!(found.is_none_or(|found| found == *whole));
    }
}

#[test]
fn the_one_before_is_kept_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let load = |path: &Path| Trainer::load(path);
    let error = newest(&path, load).unwrap_err().to_string();
    assert!(error.contains("last: it could not be read"), "{error}");

    let (first, second) = (trainer(1), trainer(2));
    first.save(&path, &BTreeMap::new()).unwrap();
    assert_eq!(names(), ["last"]);
    // What a process left that was killed in the midst of it.
    std::fs::write(folder.path().join(".last.previous.partial"), "x").unwrap();
    second.save(&path, &BTreeMap::new()).unwrap();
    assert_eq!(names(), ["last", "last.previous"]);
    let (found, damage) = newest(&path, load).unwrap();
    assert!(found.position().step == 2 && damage.is_none());
    assert_eq!(Trainer::load(previous(&path)).unwrap().position().step, 1);

    // A damaged one names the one before, which stands in for it, and is not pushed out by the next.
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[1..]).unwrap();
    let (found, damage) = newest(&path, load).unwrap();
    assert_eq!(found.position().step, 1);
    let damage = damage.unwrap().to_string();
    assert!(damage.contains("damaged; the checkpoint before it is ") && damage.ends_with("last.previous"), "{damage}");
    assert_eq!(set_aside(&path).unwrap(), folder.path().join("last.damaged"));
    let (found, damage) = newest(&path, load).unwrap();
    assert!(found.position().step == 1 && damage.unwrap().to_string().contains("could not be read"));
    second.save(&path, &BTreeMap::new()).unwrap();
    assert_eq!(names(), ["last", "last.damaged", "last.previous"]);
    assert_eq!(Trainer::load(previous(&path)).unwrap().position().step, 1);
    assert!(std::fs::read(&path).unwrap() == whole);

    // Both damaged: the error is about the newest.
    std::fs::write(&path, "").unwrap();
    std::fs::write(previous(&path), "").unwrap();
    assert!(newest(&path, load).unwrap_err().to_string().contains("last: it is not a whole safetensors file"));
}

#[test]
fn the_one_before_may_be_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    trainer(1).save(&path, &BTreeMap::new()).unwrap();
    std::fs::hard_link(&path, previous(&path)).unwrap();
    trainer(2).save(&path, &BTreeMap::new()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(Trainer::load(previous(&path)).unwrap().position().step, 1);
    assert_eq!(Trainer::load(&path).unwrap().position().step, 2);
}

#[test]
fn a_network_alone_replaces_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best");
    for steps in [1, 2] {
        trainer(steps).network().save(&path).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(Network::load(&path).is_ok());
}

#[test]
fn only_what_was_left_half_written_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".last.Xy.partial", ".report.html.a.partial", ".partial.toml", "last.partial", ".lock"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    remove_leftovers(&folder.path().join("last"));
    assert_eq!(names(), [".lock", ".partial.toml", ".report.html.a.partial", "last.partial"]);
    remove_leftovers_in(folder.path());
    assert_eq!(names(), [".lock", ".partial.toml", "last.partial"]);
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status");
    for contents in ["a first one", "another", ""] {
        write_atomically(&path, contents.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), contents);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays");
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_a_checkpoint_stays_and_so_does_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    std::fs::create_dir(folder.path().join("far")).unwrap();
    std::os::unix::fs::symlink("far/last", &path).unwrap();
    let contents = [1, 2, 3].map(|steps| {
        trainer(steps).save(&path, &BTreeMap::new()).unwrap();
        std::fs::read(folder.path().join("far/last")).unwrap()
    });
    assert!(path.is_symlink());
    assert!(std::fs::read(previous(&path)).unwrap() == contents[1] && contents[1] != contents[2]);
    let left = |name: &str| std::fs::write(folder.path().join(name), "x").unwrap();
    [".last.Xy.partial", "far/.last.Xy.partial"].into_iter().for_each(left);
    remove_leftovers(&path);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    assert_eq!(std::fs::read_dir(folder.path().join("far")).unwrap().count(), 1);
}

#[test]
fn a_file_of_another_kind_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    let as_trainer = |contents: &[u8]| {
        std::fs::write(&path, contents).unwrap();
        Trainer::load(&path).unwrap_err().to_string()
    };
    let as_learner = |contents: &[u8]| {
        std::fs::write(&path, contents).unwrap();
        Learner::load(&path).unwrap_err().to_string()
    };
    assert!(as_trainer(&LEARNER).contains("it is the checkpoint of a stream"));
    assert!(as_learner(&TRAINER).contains("it is a trained network"));
    let empty = [&2u64.to_le_bytes()[..], b"{}"].concat();
    for contents in [edited(&TRAINER, r#""onward":"#, r#""backward":"#), empty] {
        assert!(as_trainer(&contents).contains("not one of ours: its metadata has no `onward`"));
        assert!(as_learner(&contents).contains("not one of ours: its metadata has no `onward.stream`"));
    }
}

#[test]
fn samples_larger_than_the_file_has_weights_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    let refused = |shape: &str| {
        let to = format!(r#"\"shape\":[{shape}]"#);
        std::fs::write(&path, edited(&TRAINER, r#"\"shape\":[1,1,24]"#, &to)).unwrap();
        Network::load(&path).unwrap_err().to_string()
    };
    let of_weights = refused("1,1,25");
    assert!(of_weights.contains("layers.0: tensor `weight` has shape [8, 24], expected [8, 25]"), "{of_weights}");
    // 2³² − 1 values and more: nothing is allocated on a file's word.
    for (shape, parameters) in [("1,1,2400", "19208"), ("1,65535,65537", "34359738368")] {
        let few = refused(shape);
        let expected = format!("layer 0, with samples of {}, has {parameters} parameters", shape.replace(',', "×"));
        assert!(few.contains(&expected) && few.contains("the file holds"), "{few}");
    }
    for shape in ["1,65536,65536", "4294967296,4294967296,4294967296"] {
        assert!(refused(shape).contains("values are too large"), "{shape}");
    }
}

/// A file of the recipe, the shape and the classes that are in another one, with changes, and of zeros.
fn crafted(whole: &[u8], changes: &[(&str, &str)], tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let whole = without_checksum(whole.to_vec());
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&whole[8..][..length]).unwrap();
    let mut metadata = header["__metadata__"]["onward"].as_str().unwrap().to_owned();
    for (from, to) in changes {
        assert_eq!(metadata.matches(from).count(), 1, "{from} in {metadata}");
        metadata = metadata.replace(from, to);
    }
    let zeros = vec![0; 4 << 20];
    let view = |shape: &[usize]| {
        TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..4 * shape.iter().product::<usize>()]).unwrap()
    };
    let views = tensors.iter().map(|(name, shape)| (*name, view(shape)));
    safetensors::serialize(views, Some([("onward".to_owned(), metadata)].into())).unwrap()
}

#[test]
fn readouts_of_more_classes_than_the_file_has_weights_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    let names = |n: usize| (0..n).map(|n| format!(r#",\"{n}\""#)).collect::<String>();
    let to = format!(r#"\"c\"{}]"#, names(40_000));
    std::fs::write(&path, edited(&TRAINER, r#"\"c\"]"#, &to)).unwrap();
    let error = Network::load(&path).unwrap_err().to_string();
    let expected =
        "the head's part for layer 1 and 40003 classes has 320024 parameters, but the file holds 48 numbers for it";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn boxes_and_fields_that_would_take_much_more_memory_than_the_file_are_refused() {
    let mut recipe = recipe(Precision::F32, &[]);
    recipe.network.layers = vec![LayerSettings::BlackBox(BlackBoxSettings::Random), 1.into()];
    let mixing = saved(&Trainer::new(recipe.clone(), &patterns(60)).unwrap());
    recipe.network.layers = vec![LayerSettings::Conv(Fields { channels: 1, field: 3, stride: 1, pad: 2 }), 1.into()];
    let image =
        Dataset::new(Shape::image(1, 3, 3), Values::Floats(vec![0.5; 540]), vec![0; 60], vec!["a".into(), "b".into()]);
    let looking = saved(&Trainer::new(recipe, &image.unwrap()).unwrap());
    let refused = |whole: &[u8], changes: &[(&str, &str)], tensors: &[(&str, &[usize])]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last");
        std::fs::write(&path, crafted(whole, changes, tensors)).unwrap();
        Network::load(&path).unwrap_err().to_string()
    };
    let n: usize = 20_000;
    let error = refused(
        &mixing,
        &[(r#""shape":[1,1,24]"#, r#""shape":[1,1,20000]"#)],
        &[
            ("layers.0.peer.mean", &[n]),
            ("layers.1.peer.mean", &[1]),
            ("layers.1.weight", &[1, n]),
            ("layers.1.bias", &[1]),
        ],
    );
    assert!(error.contains("take 400000000 numbers in memory, expected at most 268435456"), "{error}");
    let error = refused(
        &looking,
        &[
            (r#""shape":[1,3,3]"#, r#""shape":[1,500,500]"#),
            (r#""field":3"#, r#""field":500"#),
            (r#""pad":2"#, r#""pad":250"#),
        ],
        &[("layers.0.peer.mean", &[501 * 501]), ("layers.0.weight", &[1, 250_001])],
    );
    assert!(error.contains("take 753003000 numbers in memory"), "{error}");
    // The map below need not be in the file, and its fields alone would be too much.
    let changes = [
        (r#""shape":[1,3,3]"#, r#""shape":[4294967295,1,1]"#),
        (r#""field":3"#, r#""field":1"#),
        (r#""pad":2"#, r#""pad":0"#),
    ];
    let error = refused(&looking, &changes, &[("layers.0.peer.mean", &[1])]);
    assert!(error.contains("take 25769803770 numbers in memory"), "{error}");
}

#[test]
fn weights_of_readouts_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    let data = patterns(120);
    let mut trainer = Trainer::new(recipe(Precision::F32, &[8, 8]), &data).unwrap();
    trainer.combine_readouts(&data).unwrap();
    let whole = saved(&trainer);
    std::fs::write(&path, edited(&whole, "forward-forward", "random-layers")).unwrap();
    let error = Network::load(&path).unwrap_err().to_string();
    assert!(error.contains("`readout.combined` weights two readouts, but the network does not offer both"), "{error}");
}

#[test]
fn a_trainer_at_hand_takes_over_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    std::fs::write(&path, &*TRAINER).unwrap();
    let mut other = trainer(1);
    other.restore(&path).unwrap();
    assert!(saved(&other) == *TRAINER);

    let mut larger = Trainer::new(recipe(Precision::F32, &[9, 8]), &patterns(120)).unwrap();
    let error = larger.restore(&path).unwrap_err().to_string();
    assert!(error.contains("last: layers.0: tensor `weight` has shape [8, 24], expected [9, 24]"), "{error}");
    other.network().save(&path).unwrap();
    let error = other.restore(&path).unwrap_err().to_string();
    assert!(error.contains("last: it holds a network only"), "{error}");
}
