//! Small data that can be learned, and networks to learn it.
#![allow(dead_code)]

use onward::settings::{LayerSettings, Precision};
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
