//! Texts: negatives that the net writes itself, learning in phases, and layers that stay random (paper, section 5).

mod common;

use common::recipe;
use onward::batch::Batch;
use onward::negatives::{Generated, Negatives, Positive};
use onward::random::stream;
use onward::settings::{HeadMemory, LabelPlace, NegativesKind, ObjectiveSettings, Order, Precision, Rule};
use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};
use std::collections::BTreeMap;

const SYMBOLS: usize = 4;
const WINDOW: usize = 5;
const SHAPE: Shape = Shape::image(1, WINDOW, SYMBOLS);

/// A text of four symbols in which five symbols decide the next one: `0 0 1 2 0 1 1 3 2` over and over.
fn text(samples: usize) -> Dataset {
    let symbol = |n: usize| [0, 0, 1, 2, 0, 1, 1, 3, 2][n % 9];
    let mut values = vec![0; samples * SHAPE.len()];
    for (n, window) in values.chunks_exact_mut(SHAPE.len()).enumerate() {
        (0..WINDOW).for_each(|i| window[i * SYMBOLS + symbol(n + i)] = 255);
    }
    let labels = (0..samples).map(|n| symbol(n + WINDOW) as u32).collect();
    Dataset::new(SHAPE, Values::Bytes(values), labels, (0..SYMBOLS).map(|n| n.to_string()).collect()).unwrap()
}

fn sleeper() -> Recipe {
    let mut recipe = recipe(Precision::F32, &[40, 40]);
    recipe.network.label = LabelPlace::Prepend;
    recipe.negatives.kind = NegativesKind::Generated;
    recipe.readout.skip = 0;
    recipe
}

fn steps(recipe: Recipe, data: &Dataset, steps: u64) -> Trainer {
    let mut trainer = Trainer::new(recipe, data).unwrap();
    let mut until = |_: Event<'_>, trainer: &Trainer| match trainer.position().step {
        step if step >= steps => Flow::Stop,
        _ => Flow::Continue,
    };
    trainer.fit(data, &mut until).unwrap();
    trainer
}

fn bytes(trainer: &Trainer) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    trainer.save(&path, &BTreeMap::new()).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn the_window_moves_on_by_what_the_net_says() {
    let data = text(2);
    let network = Network::new(sleeper(), SHAPE, data.classes()).unwrap();
    let mut batch = Batch::default();
    batch.load(&network, &data, 0..2);
    let sure = |symbols: [usize; 2]| {
        let mut p = vec![0.0; 2 * SYMBOLS];
        symbols.iter().enumerate().for_each(|(n, symbol)| p[n * SYMBOLS + symbol] = 1.0);
        p
    };
    let read = |windows: &[f32]| -> Vec<Vec<usize>> {
        let window = |window: &[f32]| {
            let hot = |symbol: &[f32]| symbol.iter().position(|x| *x == 1.0).unwrap();
            window.chunks_exact(SYMBOLS).map(hot).collect()
        };
        windows.chunks_exact(SHAPE.len()).map(window).collect()
    };
    let mut generated = Generated::new(true);
    let mut random = stream(1, "negatives", 0);
    let mut expected = vec![vec![0, 0, 1, 2, 0], vec![0, 1, 2, 0, 1]];
    for says in [[3, 2], [1, 0], [2, 2]] {
        let (shape, classes) = (SHAPE, SYMBOLS);
        let positive = Positive { batch: &batch, shape, classes, prediction: None, answers: None };
        let asked = generated.ask(&positive).unwrap();
        assert_eq!(read(&asked), expected);
        let answers = sure(says);
        let negative = generated.draw(&Positive { answers: Some(&answers), ..positive }, &mut random);
        assert_eq!(negative.inputs.unwrap(), asked);
        assert_eq!(negative.labels.unwrap(), says.map(|symbol| symbol as u32));
        for (window, symbol) in expected.iter_mut().zip(says) {
            window.remove(0);
            window.push(symbol);
        }
    }
    // Its memory is what a checkpoint takes over.
    let mut other = Generated::new(true);
    other.restore(&generated.tensors()).unwrap();
    assert_eq!(other, generated);
    assert!(Generated::new(true).restore(&[]).is_err());
}

#[test]
fn windows_start_anew_one_after_another() {
    let data = text(3);
    let network = Network::new(sleeper(), SHAPE, data.classes()).unwrap();
    let mut batch = Batch::default();
    batch.load(&network, &data, 0..3);
    // A net that says nothing but 3, which none of the three windows holds.
    let answers = [0.0, 0.0, 0.0, 1.0].repeat(3);
    let (shape, classes) = (SHAPE, SYMBOLS);
    let positive = Positive { batch: &batch, shape, classes, prediction: None, answers: Some(&answers) };
    let (mut generated, mut random) = (Generated::new(true), stream(1, "negatives", 0));
    let mut started = Vec::new();
    for step in 0..=150 {
        let windows = generated.ask(&positive).unwrap();
        let windows = windows.chunks_exact(SHAPE.len()).enumerate();
        started.extend(windows.filter(|(n, window)| *window == batch.sample(*n)).map(|(n, _)| (step, n)));
        generated.draw(&positive, &mut random);
    }
    // Strings of 90 symbols, all begun at once, and then anew in turns.
    assert_eq!(started, [(0, 0), (0, 1), (0, 2), (30, 2), (60, 1), (90, 0), (120, 2), (150, 1)]);
    // And where nobody asks.
    let (mut alone, mut begun) = (Generated::new(true), Vec::new());
    for step in 0..=150 {
        let windows = alone.draw(&positive, &mut random).inputs.unwrap();
        let windows = windows.chunks_exact(SHAPE.len()).enumerate();
        begun.extend(windows.filter(|(n, window)| *window == batch.sample(*n)).map(|(n, _)| (step, n)));
    }
    assert_eq!(begun, started);
}

#[test]
fn a_window_is_remembered_for_each_sample_of_a_batch() {
    let data = text(900);
    let mut recipe = sleeper();
    recipe.training.epochs = 1;
    let each = recipe.training.batch * SHAPE.len();
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    trainer.save(&path, &Default::default()).unwrap();
    let file = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("training.negatives.windows").unwrap().shape(), [each]);
}

#[test]
fn texts_are_learned_by_every_kind_of_negatives_and_phase() {
    let data = text(900);
    type Change = fn(&mut Recipe);
    let ways: [(&str, Change); 5] = [
        ("generated", |_| ()),
        ("teacher forcing", |r| r.negatives.kind = NegativesKind::Hard),
        ("no label goes in", |r| r.network.label = LabelPlace::None),
        ("recomputed", |r| r.head.memory = HeadMemory::Recompute),
        ("random layers", |r| r.rule = Rule::RandomLayers),
    ];
    for (name, change) in ways {
        let mut recipe = sleeper();
        change(&mut recipe);
        let error = steps(recipe, &data, 120).network().evaluate(&data, Readout::OnePass).unwrap().error();
        assert_eq!(error, 0.0, "{name}");
    }
}

#[test]
fn interrupted_dreams_go_on_to_the_same_bits() {
    let data = text(300);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let ways: [fn(&mut Recipe); 4] = [
        |_| (),
        |r| r.network.label = LabelPlace::None,
        |r| (r.training.phase, r.head.memory) = (3, HeadMemory::Recompute),
        |r| r.rule = Rule::RandomLayers,
    ];
    for (n, change) in ways.iter().enumerate() {
        let mut recipe = sleeper();
        change(&mut recipe);
        let whole = steps(recipe.clone(), &data, u64::MAX);
        for stop in [1, 4, 13] {
            steps(recipe.clone(), &data, stop).save(&path, &BTreeMap::new()).unwrap();
            let mut second = Trainer::load(&path).unwrap();
            second.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
            assert!(bytes(&second) == bytes(&whole), "way {n}, stopped after step {stop}");
        }
    }
}

/// Weights of the layers, without the head.
fn weights(trainer: &Trainer) -> Vec<f32> {
    let of_layer = |layer: &dyn onward::Layer| {
        let tensor = layer.tensors().into_iter().find(|t| t.name == "weight").unwrap();
        let onward::tensor::Numbers::F32(numbers) = tensor.numbers else { panic!("it is in single precision") };
        numbers
    };
    trainer.network().stages().iter().flat_map(|stage| of_layer(&*stage.layer)).collect()
}

#[test]
fn a_phase_learns_from_its_own_data_alone() {
    let data = text(300);
    let phases = |kind, steps_taken| {
        let mut recipe = sleeper();
        (recipe.training.phase, recipe.negatives.kind) = (15, kind);
        steps(recipe, &data, steps_taken)
    };
    // Awake, it makes no difference what the negatives are; asleep, it does.
    let (uniform, generated) = (NegativesKind::Uniform, NegativesKind::Generated);
    assert_eq!(weights(&phases(uniform, 15)), weights(&phases(generated, 15)));
    assert_ne!(weights(&phases(uniform, 16)), weights(&phases(generated, 16)));
    let goodness = |trainer: &Trainer| trainer.network().probe(&data).unwrap().layers[0].positive.iter().sum::<f32>();
    let (start, day, night) = (phases(uniform, 0), phases(uniform, 15), phases(uniform, 30));
    assert!(goodness(&day) > goodness(&start) && goodness(&night) < goodness(&day), "up by day, down by night");
}

#[test]
fn random_layers_stay_as_they_are() {
    let data = text(300);
    let mut recipe = sleeper();
    recipe.rule = Rule::RandomLayers;
    assert_eq!(weights(&steps(recipe.clone(), &data, 0)), weights(&steps(recipe.clone(), &data, 20)));
    assert_eq!(steps(recipe, &data, 0).network().readouts(), [Readout::OnePass]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = text(30);
    let refused = |change: fn(&mut Recipe)| {
        let mut recipe = sleeper();
        change(&mut recipe);
        Trainer::new(recipe, &data).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(|r| r.head.enabled = false).contains("there is no head"));
    assert!(refused(|r| r.training.order = Order::Greedy).contains("\"greedy\""));
    assert!(refused(|r| r.network.label = LabelPlace::Replace).contains("`negatives.kind` \"generated\""));
    assert!(refused(|r| (r.training.phase, r.rule) = (5, Rule::Backprop)).contains("`training.phase`"));
    let random = |r: &mut Recipe| (r.rule, r.head.memory) = (Rule::RandomLayers, HeadMemory::Recompute);
    assert!(refused(random).contains("`head.memory`: \"recompute\""));
    let symmetric = |r: &mut Recipe| (r.training.phase, r.objective) = (5, ObjectiveSettings::Symmetric);
    assert!(refused(symmetric).contains("\"symmetric\""));
    let images = common::patterns(30);
    let error = Trainer::new(sleeper(), &images).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("found samples of 1×1×24") && error.contains("1×window×3"), "{error}");
}
