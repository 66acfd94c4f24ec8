//! What training promises: it learns, it repeats, it goes on to the same bits, and its memory does not grow with depth.

mod common;

use common::{patterns, recipe, without_checksum};
use onward::checkpoint::Info;
use onward::negatives::{Generated, Negative, Negatives, Positive, Uniform};
use onward::random::Random;
use onward::settings::{
    ActivationKind, Fields, GoodnessKind, HeadMemory, LabelPlace, LayerSettings, NegativesKind, Normalization,
    ObjectiveSettings, OptimizerKind, Order, Precision, Raise,
};
use onward::tensor::Numbers;
use onward::{Dataset, Error, Event, Flow, Network, Readout, Recipe, Trainer, Values};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn trained(recipe: Recipe, data: &Dataset) -> Trainer {
    let mut trainer = Trainer::new(recipe, data).unwrap();
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    trainer
}

fn bytes(trainer: &Trainer) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    trainer.save(&path, &BTreeMap::new()).unwrap();
    std::fs::read(path).unwrap()
}

/// Recipes that between them use everything that a step can do.
fn recipes() -> Vec<(&'static str, Recipe)> {
    let mut all = vec![("released", recipe(Precision::F32, &[40, 40, 40]))];
    let mut add = |name, change: fn(&mut Recipe)| {
        let mut recipe = recipe(Precision::F32, &[40, 40, 40]);
        change(&mut recipe);
        all.push((name, recipe));
    };
    add("bf16", |r| r.engine.precision = Precision::Bf16);
    add("reference", |r| r.engine.precision = Precision::Reference);
    add("greedy", |r| r.training.order = Order::Greedy);
    add("uniform, no head", |r| (r.negatives.kind, r.head.enabled) = (NegativesKind::Uniform, false));
    add("adam", |r| (r.optimizer.kind, r.optimizer.rate) = (OptimizerKind::Adam, 0.003));
    add("dropout", |r| r.network.dropout = 0.1);
    add("masks", |r| r.augment.mask = 0.2);
    add("lower", |r| (r.goodness.raise, r.optimizer.rate) = (false.into(), 0.003));
    add("groups", |r| (r.goodness.groups, r.goodness.raise) = (4, Raise(0.5)));
    add("groups, bf16, dropout", |r| {
        (r.goodness.groups, r.engine.precision, r.network.dropout) = (2, Precision::Bf16, 0.1);
    });
    add("a goodness for each location", |r| {
        let fields = Fields { channels: 10, field: 3, stride: 3, pad: 1 };
        r.network.layers = vec![LayerSettings::Local(fields), 40.into()];
        (r.goodness.groups, r.goodness.by_location) = (2, true);
    });
    add("recurrent, groups", |r| {
        (r.network.label, r.recurrent.iterations, r.readout.skip) = (LabelPlace::Top, 4, 0);
        (r.optimizer.rate, r.goodness.groups, r.goodness.raise) = (0.003, 2, Raise(0.5));
    });
    add("mean of squares, layer norm", |r| {
        (r.goodness.kind, r.network.normalization) = (GoodnessKind::MeanOfSquares, Normalization::Layer);
        (r.goodness.temperature, r.objective) = (0.1, ObjectiveSettings::Symmetric);
    });
    add("per class", |r| {
        (r.objective, r.network.label) = (ObjectiveSettings::PerClass, LabelPlace::None);
        r.network.layers = vec![42.into(), 42.into()];
    });
    add("per class, local, no head", |r| {
        (r.objective, r.network.label, r.head.enabled) = (ObjectiveSettings::PerClass, LabelPlace::None, false);
        let fields = Fields { channels: 6, field: 3, stride: 3, pad: 1 };
        r.network.layers = vec![LayerSettings::Local(fields), 42.into()];
        r.training.order = Order::Greedy;
    });
    add("mono-forward", |r| {
        (r.objective, r.network.label) = (ObjectiveSettings::MonoForward, LabelPlace::None);
        (r.optimizer.rate, r.network.dropout) = (0.1, 0.1);
    });
    add("mono-forward, recompute", |r| {
        (r.objective, r.network.label) = (ObjectiveSettings::MonoForward, LabelPlace::None);
        (r.optimizer.rate, r.head.memory, r.engine.precision) = (0.1, HeadMemory::Recompute, Precision::Bf16);
    });
    add("student-t", |r| {
        (r.network.activation, r.optimizer.equal_lengths) = (ActivationKind::StudentT, true);
        r.network.freedom = 3.0;
    });
    add("student-t, local", |r| {
        let fields = Fields { channels: 10, field: 3, stride: 3, pad: 1 };
        r.network.layers = vec![LayerSettings::Local(fields), LayerSettings::Conv(fields), 40.into()];
        (r.network.activation, r.network.freedom) = (ActivationKind::StudentT, 3.0);
        r.optimizer.rate = 0.03;
    });
    add("equal lengths, few channels", |r| {
        let fields = Fields { channels: 3, field: 3, stride: 1, pad: 1 };
        r.network.layers = vec![LayerSettings::Local(fields), 40.into()];
        r.optimizer.equal_lengths = true;
    });
    add("layer norm", |r| {
        r.network.input_normalization = Normalization::Layer;
        r.network.normalization = Normalization::Layer;
    });
    add("rest", |r| r.training.rest = 4);
    add("recompute", |r| r.head.memory = HeadMemory::Recompute);
    add("hybrids, no labels", |r| {
        (r.network.label, r.negatives.kind) = (LabelPlace::None, NegativesKind::Hybrid);
        r.negatives.blurs = 1;
    });
    add("shuffled, recompute", |r| {
        (r.network.label, r.negatives.kind) = (LabelPlace::None, NegativesKind::Shuffled);
        r.head.memory = HeadMemory::Recompute;
    });
    add("recurrent", |r| {
        (r.network.label, r.recurrent.iterations, r.readout.skip) = (LabelPlace::Top, 4, 0);
        r.optimizer.rate = 0.003;
    });
    add("recurrent, shuffled", |r| {
        (r.network.label, r.recurrent.iterations) = (LabelPlace::None, 2);
        r.negatives.kind = NegativesKind::Shuffled;
    });
    add("another's context", |r| {
        (r.network.label, r.recurrent.iterations, r.optimizer.rate) = (LabelPlace::None, 3, 0.003);
        r.negatives.kind = NegativesKind::Context;
    });
    add("one step", |r| (r.optimizer.kind, r.optimizer.rate) = (OptimizerKind::OneStep, 0.5));
    add("hybrids with labels", |r| r.negatives.kind = NegativesKind::Hybrid);
    all
}

#[test]
fn every_recipe_learns() {
    let (train, test) = (patterns(1500), patterns(1800).slice(1500..1800).unwrap());
    for (name, mut recipe) in recipes() {
        recipe.training.epochs = if recipe.engine.precision == Precision::Reference { 5 } else { 20 };
        let trainer = trained(recipe, &train);
        for readout in trainer.network().readouts() {
            let error = trainer.network().evaluate(&test, readout).unwrap().error();
            assert!(error < 15.0, "{name}: {error} % of 3 classes wrong by {readout}");
        }
    }
}

#[test]
fn a_head_that_watches_learns_as_one_with_a_pass_of_its_own() {
    let data = patterns(300);
    // With dropout, positive rows are no neutral ones any more, and the head has a pass of its own.
    for dropout in [0.0, 0.2] {
        let head = |memory| {
            let mut recipe = recipe(Precision::F32, &[40, 40, 40]);
            (recipe.network.label, recipe.negatives.kind) = (LabelPlace::None, NegativesKind::Hybrid);
            (recipe.network.dropout, recipe.head.memory) = (dropout, memory);
            trained(recipe, &data).network().predict(&data, Readout::OnePass).unwrap().probabilities
        };
        let (keep, recompute) = (head(HeadMemory::Keep), head(HeadMemory::Recompute));
        let furthest = keep.iter().zip(&recompute).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 1e-5, "probabilities differ by {furthest}");
        assert!(keep.iter().any(|p| *p > 0.9), "it learned something");
    }
}

#[test]
fn with_greedy_order_adam_starts_anew_for_every_layer() {
    let data = patterns(300);
    let mut recipe = recipe(Precision::F32, &[20, 20]);
    (recipe.optimizer.kind, recipe.optimizer.rate) = (OptimizerKind::Adam, 0.01);
    (recipe.training.order, recipe.training.epochs) = (Order::Greedy, 2);
    (recipe.optimizer.weight_cost, recipe.negatives.kind) = (0.0, NegativesKind::Uniform);
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    let mut until = |step| {
        let stop = &mut |_: Event<'_>, trainer: &Trainer| {
            if trainer.position().step < step { Flow::Continue } else { Flow::Stop }
        };
        trainer.fit(&data, stop).unwrap();
        let Numbers::F32(weights) = trainer.network().stages()[1].layer.tensors().remove(0).numbers else { panic!() };
        weights
    };
    // Ten steps in an epoch, two epochs of the first layer. Adam's first step takes every weight as far as the rate, and none further.
    let (before, after) = (until(20), until(21));
    let furthest = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!((0.0099..0.0101).contains(&furthest), "the first step took a weight {furthest} far");
}

#[test]
fn training_may_go_on_with_other_data() {
    let (many, few) = (patterns(300), patterns(90));
    for order in [Order::Simultaneous, Order::Pipelined] {
        let mut recipe = recipe(Precision::F32, &[8, 8]);
        (recipe.training.order, recipe.negatives.kind) = (order, NegativesKind::Uniform);
        let mut trainer = Trainer::new(recipe, &many).unwrap();
        let stop = &mut |_: Event<'_>, trainer: &Trainer| {
            if trainer.position().step_of_epoch < 1 { Flow::Continue } else { Flow::Stop }
        };
        trainer.fit(&many, stop).unwrap();
        trainer.fit(&few, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
        assert!(trainer.is_done());
    }
}

#[test]
fn texts_of_its_own_are_there_whoever_asks() {
    // A recipe that does not know the source: in a pipeline nobody asks.
    let mut recipe = recipe(Precision::F32, &[8, 8]);
    (recipe.training.order, recipe.negatives.kind) = (Order::Pipelined, NegativesKind::Uniform);
    let data = patterns(60);
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    trainer.set_negatives(Box::new(Generated::new(true)));
    trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    assert!(trainer.is_done());
}

/// Wrong labels, and how many probabilities it was given: of the batch, and of what it asked about.
#[derive(Debug)]
struct Listening {
    asks: bool,
    heard: Arc<Mutex<Vec<[usize; 2]>>>,
}

impl Negatives for Listening {
    fn ask(&mut self, positive: &Positive<'_>) -> Option<Vec<f32>> {
        self.asks.then(|| vec![0.5; positive.batch.len() * positive.shape.len()])
    }

    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let heard = [positive.prediction, positive.answers].map(|p| {
            let rows = p.into_iter().flat_map(|p| p.chunks_exact(positive.classes));
            rows.map(|p| assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{p:?}")).count()
        });
        self.heard.lock().unwrap().push(heard);
        Uniform.draw(positive, random)
    }
}

#[test]
fn a_source_of_negatives_is_told_what_the_head_predicts() {
    let data = patterns(60);
    for (head, asks, expected) in [(true, false, [30, 0]), (true, true, [30, 30]), (false, false, [0, 0])] {
        let mut recipe = recipe(Precision::F32, &[8, 8]);
        (recipe.head.enabled, recipe.negatives.kind, recipe.training.epochs) = (head, NegativesKind::Uniform, 1);
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        let heard = Arc::default();
        trainer.set_negatives(Box::new(Listening { asks, heard: Arc::clone(&heard) }));
        trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
        assert_eq!(*heard.lock().unwrap(), [expected; 2], "head: {head}, asks: {asks}");
    }
}

#[test]
fn data_without_labels_can_be_learned_from() {
    let labelled = patterns(300);
    let mut values = vec![0.0; 24 * 300];
    values.chunks_exact_mut(24).enumerate().for_each(|(n, to)| labelled.read(n, to));
    let data = Dataset::new(labelled.shape(), Values::Floats(values), Vec::new(), Vec::new()).unwrap();
    let mut recipe = recipe(Precision::F32, &[40, 40]);
    let refused = Trainer::new(recipe.clone(), &data).unwrap_err().to_string();
    assert!(refused.contains("found 0 classes"), "{refused}");
    (recipe.network.label, recipe.negatives.kind) = (LabelPlace::None, NegativesKind::Shuffled);
    recipe.head.enabled = false;
    let trainer = trained(recipe, &data);
    assert!(trainer.is_done() && trainer.network().readouts().is_empty());
    let refused = trainer.network().predict(&data, Readout::EveryLabel).unwrap_err().to_string();
    assert!(refused.contains("no label goes in"), "{refused}");
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_the_threads() {
    let data = patterns(300);
    for (name, recipe) in recipes() {
        let with = |threads, recipe: Recipe| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bytes(&trained(recipe, &data)))
        };
        let once = with(1, recipe.clone());
        assert!(once == with(1, recipe.clone()), "{name}: two runs differ");
        assert!(once == with(2, recipe.clone()), "{name}: two threads differ from one");
        let mut other = recipe;
        other.seed.0 += 1;
        assert!(once != with(1, other), "{name}: another seed changes nothing");
    }
}

#[test]
fn a_run_interrupted_anywhere_ends_in_the_same_bits() {
    let data = patterns(150);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    for (name, mut recipe) in recipes() {
        recipe.training.epochs = 2;
        let mut reports = vec![];
        let mut whole = Trainer::new(recipe.clone(), &data).unwrap();
        let mut note = |event: Event<'_>, _: &Trainer| {
            if let Event::Epoch(epoch) = event {
                reports.push(epoch.clone());
            }
            Flow::Continue
        };
        whole.fit(&data, &mut note).unwrap();
        for stop in [1, 4, 5, 7] {
            let mut resumed_reports = vec![];
            let mut first = Trainer::new(recipe.clone(), &data).unwrap();
            let mut until = |event: Event<'_>, trainer: &Trainer| {
                if let Event::Epoch(epoch) = event {
                    resumed_reports.push(epoch.clone());
                }
                if trainer.position().step == stop { Flow::Stop } else { Flow::Continue }
            };
            first.fit(&data, &mut until).unwrap();
            first.save(&path, &BTreeMap::new()).unwrap();
            let mut second = Trainer::load(&path).unwrap();
            assert_eq!(second.position().step, stop);
            let mut rest = |event: Event<'_>, _: &Trainer| {
                if let Event::Epoch(epoch) = event {
                    resumed_reports.push(epoch.clone());
                }
                Flow::Continue
            };
            second.fit(&data, &mut rest).unwrap();
            assert!(bytes(&second) == bytes(&whole), "{name}: stopped after step {stop}");
            assert_eq!(resumed_reports, reports, "{name}: stopped after step {stop}");
        }
    }
}

#[test]
fn solved_samples_rest() {
    let data = patterns(300);
    let visits = |rest: u32| {
        let mut recipe = recipe(Precision::F32, &[40, 40, 40]);
        recipe.training.epochs = 40;
        recipe.training.rest = rest;
        recipe.goodness.temperature = 0.05; // small layers are never so sure of themselves as large ones
        let mut steps = vec![];
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        let mut count = |event: Event<'_>, _: &Trainer| {
            if let Event::Epoch(epoch) = event {
                steps.push(epoch.step);
            }
            Flow::Continue
        };
        trainer.fit(&data, &mut count).unwrap();
        (steps.len(), steps[39])
    };
    assert_eq!(visits(0), (40, 400));
    let (epochs, steps) = visits(4);
    assert!(epochs == 40 && steps < 300, "{steps} steps of 400: nothing rested");
}

#[test]
fn activity_memory_does_not_grow_with_depth() {
    let data = patterns(60);
    let needed = |depth: usize, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe(Precision::F32, &vec![32; depth]);
        recipe.training.epochs = 1;
        change(&mut recipe);
        trained(recipe, &data).activity_bytes()
    };
    type Change<'a> = &'a dyn Fn(&mut Recipe);
    let flat: [(&str, Change<'_>); 3] = [
        ("simultaneous, recomputed for the head", &|r| r.head.memory = HeadMemory::Recompute),
        ("simultaneous, no head", &|r| (r.negatives.kind, r.head.enabled) = (NegativesKind::Uniform, false)),
        ("greedy, recomputed for the head", &|r| {
            r.training.order = Order::Greedy;
            r.head.memory = HeadMemory::Recompute;
        }),
    ];
    for (name, change) in flat {
        assert_eq!(needed(3, change), needed(24, change), "{name}");
    }
    // The head's own memory, where it keeps what it reads: one batch of one layer's activity more for each layer.
    let keep = |depth| needed(depth, &|_| ());
    let one_layer = 30 * (32 + 2) * size_of::<f32>();
    assert_eq!(keep(24) - keep(3), 21 * one_layer);
}

#[test]
fn a_saved_network_predicts_the_same() {
    let data = patterns(300);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    for (name, recipe) in recipes() {
        let network = trained(recipe, &data).into_network();
        network.save(&path).unwrap();
        let loaded = Network::load(&path).unwrap();
        for readout in network.readouts() {
            let (a, b) = (network.predict(&data, readout).unwrap(), loaded.predict(&data, readout).unwrap());
            assert_eq!(a, b, "{name} by {readout}");
            assert!((a.row(7).iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let error = Trainer::load(&path).unwrap_err().to_string();
        assert!(error.contains("a network only"), "{error}");
    }
}

#[test]
fn damaged_checkpoints_are_refused() {
    let data = patterns(60);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let mut small = recipe(Precision::F32, &[8, 8]);
    small.training.epochs = 1;
    let trainer = trained(small, &data);
    trainer.save(&path, &BTreeMap::from([("experiment".into(), "mine".into())])).unwrap();
    assert_eq!(Info::read(&path).unwrap().notes["experiment"], "mine");
    let whole = std::fs::read(&path).unwrap();

    let refused = |contents: &[u8]| {
        std::fs::write(&path, contents).unwrap();
        let error = Trainer::load(&path).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
        assert!(error.to_string().contains("last.safetensors"));
        error.to_string()
    };
    for cut in [0, 1, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        assert!(refused(&whole[..cut]).contains("cut short"), "cut after {cut} bytes");
    }
    let mut absurd = whole.clone();
    absurd[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&absurd);
    let replaced = |whole: &[u8], from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
        let mut edited = whole.to_vec();
        edited[at..at + from.len()].copy_from_slice(to.as_bytes());
        edited
    };
    let one_bit = replaced(&whole, "\\\"epoch\\\":1", "\\\"epoch\\\":0");
    assert!(refused(&one_bit).contains("its contents do not match its checksum"));
    let misnamed = replaced(&whole, "\\\"checksum\\\"", "\\\"chequers\\\"");
    assert!(refused(&misnamed).contains("unknown field `chequers`"), "{}", refused(&misnamed));
    // A file without a checksum is taken at its word: it may come from another tool.
    let unsealed = without_checksum(whole.clone());
    let edited = |from: &str, to: &str| replaced(&unsealed, from, to);
    assert!(refused(&edited("\\\"layers\\\":[8,8]", "\\\"layers\\\":[8,9]")).contains("shape [8], expected [9]"));
    assert!(refused(&edited("\\\"version\\\":1", "\\\"version\\\":7")).contains("version 7"));
    assert!(refused(&edited("\"onward\"", "\"backwd\"")).contains("not one of ours"));
    let mut nan = unsealed.clone();
    let at = nan.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refused(&nan).contains("NaN"));
    assert!(refused(&edited("layers.1.bias\"", "layers.7.bias\"")).contains("missing"));

    std::fs::remove_file(&path).unwrap();
    assert!(Trainer::load(&path).unwrap_err().to_string().contains("could not be read"));
    assert!(Trainer::load(folder.path()).unwrap_err().to_string().contains("expected a checkpoint file"));
}

#[test]
fn a_failed_write_leaves_the_old_checkpoint() {
    let data = patterns(60);
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(recipe(Precision::F32, &[8]), &data).unwrap();
    let missing = folder.path().join("no such folder").join("last.safetensors");
    assert!(trainer.save(&missing, &BTreeMap::new()).unwrap_err().to_string().contains("could not be written"));
    // A folder stands where the file should go: the write fails at its last moment, and leaves no scratch file.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert!(trainer.save(&taken, &BTreeMap::new()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = patterns(60);
    let refused = |recipe: Recipe| Trainer::new(recipe, &data).unwrap_err().to_string();
    let mut shifted = recipe(Precision::F32, &[8]);
    shifted.augment.shift = 1;
    assert!(refused(shifted).contains("augment.shift"));

    let mut trainer = Trainer::new(recipe(Precision::F32, &[8]), &data).unwrap();
    let few = data.slice(0..7).unwrap();
    let error = trainer.fit(&few, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap_err().to_string();
    assert!(error.contains("7 training samples do not fill one batch of 30"), "{error}");
    let network = trainer.network();
    assert_eq!(network.readouts(), [Readout::EveryLabel, Readout::OnePass]);
}

#[test]
fn divergence_names_the_layer_and_the_step() {
    let data = patterns(60);
    let mut wild = recipe(Precision::F32, &[16, 16]);
    wild.optimizer.rate = 10.0;
    wild.optimizer.weight_cost = 10.0;
    wild.training.epochs = 1000;
    let mut trainer = Trainer::new(wild, &data).unwrap();
    let error = trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
}
