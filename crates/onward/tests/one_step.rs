//! The on-line rule: one sample, one exact step of every layer (paper, section 7).

mod common;

use common::{patterns, recipe};
use onward::negatives::{Negative, Positive};
use onward::random::Random;
use onward::settings::{GoodnessKind, LabelPlace, Normalization, OptimizerKind, Precision};
use onward::{Dataset, Event, Flow, Negatives, Readout, Recipe, Shape, Trainer, Values};

fn on_line(widths: &[usize]) -> Recipe {
    let mut recipe = recipe(Precision::F32, widths);
    recipe.network.label = LabelPlace::Prepend;
    (recipe.optimizer.kind, recipe.optimizer.rate) = (OptimizerKind::OneStep, 1.0);
    (recipe.training.batch, recipe.training.epochs) = (1, 1);
    recipe.readout.skip = 0;
    recipe
}

fn trained(recipe: Recipe, data: &Dataset) -> Trainer {
    let mut trainer = Trainer::new(recipe, data).unwrap();
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    trainer
}

/// The positive sample itself.
#[derive(Debug)]
struct Same;

impl Negatives for Same {
    fn draw(&mut self, positive: &Positive<'_>, _: &mut Random) -> Negative {
        Negative::labels(positive.batch.labels.clone())
    }
}

#[test]
fn one_sample_takes_every_layer_exactly_to_its_goal() {
    // Up as positive data, then down to 0.9 times the threshold as negative data, in three layers at once.
    for precision in [Precision::F32, Precision::Reference] {
        for seed in 1..10 {
            let values = (0..30).map(|i| ((seed * 7 + i * 13) % 10) as f32 / 10.0).collect();
            let names = ["a", "b"].map(String::from).to_vec();
            let data = Dataset::new(Shape::features(30), Values::Floats(values), vec![0], names).unwrap();
            let mut recipe = on_line(&[50, 40, 60]);
            (recipe.engine.precision, recipe.seed.0) = (precision, seed);
            let mut trainer = Trainer::new(recipe, &data).unwrap();
            trainer.set_negatives(Box::new(Same));
            trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Stop).unwrap();
            let after = trainer.network().probe(&data).unwrap();
            for (l, width) in [50.0, 40.0, 60.0].into_iter().enumerate() {
                let share = after.layers[l].positive[0] / (0.9 * width);
                assert!((share - 1.0).abs() < 1e-3, "layer {l}: {share} of the goal");
                let told = &trainer.so_far().layers[l];
                assert_eq!(told.goodness_positive, told.goodness_negative, "told before it went up and down");
            }
        }
    }
}

#[test]
fn samples_one_by_one_are_learned() {
    let (train, test) = (patterns(1500), patterns(1800).slice(1500..1800).unwrap());
    let mut recipe = on_line(&[40, 40]);
    recipe.optimizer.rate = 0.5;
    let trainer = trained(recipe, &train);
    let error = trainer.network().evaluate(&test, Readout::EveryLabel).unwrap().error();
    assert!(error < 15.0, "{error} % of 3 classes wrong");
}

#[test]
fn what_would_not_be_exact_is_refused() {
    let data = patterns(3);
    let refused = |change: fn(&mut Recipe)| {
        let mut recipe = on_line(&[10]);
        change(&mut recipe);
        Trainer::new(recipe, &data).map(|_| ()).unwrap_err().to_string()
    };
    type Change = fn(&mut Recipe);
    let all: [(Change, &str); 5] = [
        (|r| r.optimizer.rate = 1.5, "found 1.5, expected"),
        (|r| r.network.normalization = Normalization::Length, "network.normalization"),
        (|r| r.goodness.kind = GoodnessKind::Sum, "goodness.kind"),
        (|r| r.network.dropout = 0.1, "network.dropout"),
        (|r| r.training.phase = 4, "training.phase"),
    ];
    for (change, expected) in all {
        let error = refused(change);
        assert!(error.contains(expected), "{error}");
    }
}
