//! The context of another sample as negative data (paper, section 3.5).

mod common;

use common::{patterns, recipe};
use onward::negatives::{Context, Negative, Negatives, Positive};
use onward::random::Random;
use onward::settings::{LabelPlace, NegativesKind, Precision};
use onward::{Dataset, Event, Flow, Recipe, Trainer};

fn contextual() -> Recipe {
    let mut recipe = recipe(Precision::F32, &[40, 30, 20]);
    (recipe.network.label, recipe.negatives.kind) = (LabelPlace::None, NegativesKind::Context);
    (recipe.recurrent.iterations, recipe.optimizer.rate) = (4, 0.003);
    recipe
}

/// The context that is each sample's own.
#[derive(Debug)]
struct Own;

impl Negatives for Own {
    fn draw(&mut self, positive: &Positive<'_>, _: &mut Random) -> Negative {
        Negative { context: Some((0..positive.batch.len() as u32).collect()), ..Negative::default() }
    }
}

/// The mean goodness of positive and of negative rows in each layer after one step.
fn goodness(data: &Dataset, negatives: Box<dyn Negatives>) -> Vec<[f64; 2]> {
    let mut trainer = Trainer::new(contextual(), data).unwrap();
    trainer.set_negatives(negatives);
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Stop).unwrap();
    trainer.so_far().layers.iter().map(|layer| [layer.goodness_positive, layer.goodness_negative]).collect()
}

#[test]
fn negatives_differ_in_what_comes_from_above_alone() {
    let data = patterns(30);
    for (l, [positive, negative]) in goodness(&data, Box::new(Own)).into_iter().enumerate() {
        assert_eq!(positive, negative, "layer {l}: in its own context a sample is what it is");
    }
    for (l, [positive, negative]) in goodness(&data, Box::new(Context)).into_iter().enumerate() {
        assert_ne!(positive, negative, "layer {l}: in another context it is not");
    }
}

#[test]
fn nothing_from_above_means_no_context() {
    let data = patterns(30);
    let refused = |change: fn(&mut Recipe)| {
        let mut recipe = contextual();
        change(&mut recipe);
        Trainer::new(recipe, &data).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(|r| r.recurrent.iterations = 0).contains("`recurrent.iterations`"));
    assert!(refused(|r| r.network.layers.truncate(1)).contains("`network.layers`"));
    assert!(refused(|r| r.training.batch = 1).contains("`training.batch`"));
}
