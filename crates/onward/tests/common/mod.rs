//! Small data that can be learned, and networks to learn it.
#![allow(dead_code)]

use onward::settings::{LabelPlace, LayerSettings, NegativesKind, Normalization, OptimizerKind, Order, Precision};
use onward::{Dataset, Recipe, Shape, Values};
use rand::RngExt;

/// `n` samples of 24 features in 3 classes: each class has a pattern of its own, and noise.
pub fn patterns(n: usize) -> Dataset {
    let mut random = onward::random::stream(11, "patterns", 0);
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let values = labels.iter().flat_map(|&label| {
        let noise: Vec<f32> = (0..24).map(|_| random.random::<f32>()).collect();
        noise.into_iter().enumerate().map(move |(i, noise)| if i % 3 == label as usize { 0.6 + noise } else { noise })
    });
    let classes = ["a", "b", "c"].map(String::from).to_vec();
    Dataset::new(Shape::features(24), Values::Floats(values.collect()), labels.clone(), classes).unwrap()
}

/// A small recipe for [`patterns`].
pub fn recipe(precision: Precision, widths: &[usize]) -> Recipe {
    let mut recipe = Recipe::default();
    recipe.engine.precision = precision;
    recipe.network.layers = widths.iter().map(|&width| LayerSettings::Dense(width)).collect();
    recipe.training.batch = 30;
    recipe.training.epochs = 4;
    recipe
}

/// Recipes that between them use everything that a pipeline can do: a name, and a recipe in simultaneous order.
pub fn recipes() -> Vec<(&'static str, Recipe)> {
    let mut all = Vec::new();
    let mut add = |name, widths: &[usize], change: fn(&mut Recipe)| {
        let mut recipe = recipe(Precision::F32, widths);
        recipe.negatives.kind = NegativesKind::Uniform;
        change(&mut recipe);
        all.push((name, recipe));
    };
    add("uniform, a head", &[40, 24, 32], |_| ());
    add("uniform, no head", &[40, 24, 32], |r| r.head.enabled = false);
    add("one layer", &[40], |r| r.network.dropout = 0.1);
    add("many layers, dropout", &[20, 30, 10, 40, 20], |r| (r.network.dropout, r.readout.skip) = (0.2, 2));
    add("bf16", &[40, 24, 32], |r| r.engine.precision = Precision::Bf16);
    add("reference", &[10, 10], |r| r.engine.precision = Precision::Reference);
    add("adam", &[40, 24, 32], |r| (r.optimizer.kind, r.optimizer.rate) = (OptimizerKind::Adam, 0.003));
    add("layer norm, no peers", &[40, 24, 32], |r| {
        r.network.input_normalization = Normalization::Layer;
        r.network.normalization = Normalization::Layer;
        r.peer.strength = 0.0;
    });
    add("rest", &[40, 24], |r| (r.training.rest, r.goodness.temperature) = (2, 0.05));
    add("a head that watches hybrids", &[40, 24, 32], |r| {
        (r.network.label, r.negatives.kind, r.negatives.blurs) = (LabelPlace::None, NegativesKind::Hybrid, 1);
    });
    add("shuffled, with labels in front", &[40, 24], |r| {
        (r.network.label, r.negatives.kind) = (LabelPlace::Prepend, NegativesKind::Shuffled);
    });
    add("hard, delay 1", &[40, 24, 32], |r| (r.negatives.kind, r.negatives.delay) = (NegativesKind::Hard, 1));
    add("hard, delay 13, longer than two epochs", &[40, 24, 32], |r| {
        (r.negatives.kind, r.negatives.delay) = (NegativesKind::Hard, 13);
        r.network.dropout = 0.1;
    });
    all
}

/// The same in a pipeline of so many blocks.
pub fn pipelined(mut recipe: Recipe, blocks: usize) -> Recipe {
    (recipe.training.order, recipe.training.blocks) = (Order::Pipelined, blocks);
    recipe
}

/// A checkpoint that may be changed: blanks stand for its checksum, which other tools do not write.
pub fn without_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let seal = br#",\"checksum\":\""#;
    let at = file.windows(seal.len()).rposition(|bytes| bytes == seal).expect("checkpoints have a checksum");
    let end = at + seal.len() + 16 + br#"\"}"#.len();
    file[at..end].fill(b' ');
    file[at] = b'}';
    file
}
