//! The combined readout: both readouts' scores, weighted by what held-out samples bear out.

mod common;

use common::{patterns, recipe};
use onward::settings::{LabelPlace, NegativesKind, Precision};
use onward::{Dataset, Event, Flow, Network, Readout, Shape, Trainer, Values};
use std::collections::BTreeMap;

fn trained(layers: &[usize]) -> Trainer {
    let data = patterns(300);
    let mut recipe = recipe(Precision::F32, layers);
    recipe.training.epochs = 3;
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    trainer
}

/// Samples of the same kind that were not trained on.
fn held_out() -> Dataset {
    patterns(700).slice(300..700).unwrap()
}

/// How unlikely a readout finds the true labels: the mean of −ln p.
fn surprise(network: &Network, data: &Dataset, readout: Readout) -> f64 {
    let predictions = network.predict(data, readout).unwrap();
    let own = |(n, &label): (usize, &u32)| -f64::from(predictions.row(n)[label as usize].max(1e-30)).ln();
    data.labels().iter().enumerate().map(own).sum::<f64>() / data.len() as f64
}

#[test]
fn it_is_offered_once_weights_are_fitted_and_finds_the_labels_likelier() {
    let (mut trainer, held_out) = (trained(&[16, 16]), held_out());
    let refused = trainer.network().predict(&held_out, Readout::Combined).unwrap_err().to_string();
    assert!(refused.contains("needs weights") && refused.contains("data.validation"), "{refused}");
    assert!(trainer.combine_readouts(&held_out).unwrap());
    let network = trainer.network();
    assert_eq!(network.readouts(), [Readout::EveryLabel, Readout::OnePass, Readout::Combined]);
    let of = |readout| surprise(network, &held_out, readout);
    let (either, both) = (of(Readout::EveryLabel).min(of(Readout::OnePass)), of(Readout::Combined));
    assert!(both < either, "{both} {either}");

    // Labels' order in the data does not matter: classes are known by name.
    let classes: Vec<String> = held_out.classes().iter().rev().cloned().collect();
    let last = classes.len() as u32 - 1;
    let labels = held_out.labels().iter().map(|label| last - label).collect();
    let turned = Dataset::new(held_out.shape(), held_out.values().clone(), labels, classes).unwrap();
    let before = network.predict(&held_out, Readout::Combined).unwrap();
    assert!(trainer.combine_readouts(&turned).unwrap());
    assert_eq!(before, trainer.network().predict(&held_out, Readout::Combined).unwrap());
}

#[test]
fn a_checkpoint_keeps_its_weights() {
    let (mut trainer, held_out) = (trained(&[16, 16]), held_out());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last");
    trainer.combine_readouts(&held_out).unwrap();
    let expected = trainer.network().predict(&held_out, Readout::Combined).unwrap();
    trainer.save(&path, &BTreeMap::new()).unwrap();
    assert_eq!(Trainer::load(&path).unwrap().network().predict(&held_out, Readout::Combined).unwrap(), expected);
    trainer.network().save(&path).unwrap();
    assert_eq!(Network::load(&path).unwrap().predict(&held_out, Readout::Combined).unwrap(), expected);
    // A trainer takes over all that a checkpoint holds, and that it holds none.
    let none = folder.path().join("none");
    let other = trained(&[16, 16]);
    other.save(&none, &BTreeMap::new()).unwrap();
    trainer.restore(&none).unwrap();
    assert_eq!(trainer.network().readouts().len(), 2);
}

#[test]
fn where_only_one_readout_is_offered_there_is_nothing_to_combine() {
    let data = patterns(60);
    let mut unlabelled = recipe(Precision::F32, &[8, 8]);
    (unlabelled.network.label, unlabelled.negatives.kind) = (LabelPlace::None, NegativesKind::Hybrid);
    let mut headless = recipe(Precision::F32, &[8, 8]);
    (headless.head.enabled, headless.negatives.kind) = (false, NegativesKind::Uniform);
    for recipe in [unlabelled, headless] {
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        assert!(!trainer.combine_readouts(&data).unwrap());
        assert_eq!(trainer.network().readouts().len(), 1);
    }
}

#[test]
fn samples_that_cannot_be_judged_are_refused_and_change_nothing() {
    let mut trainer = trained(&[8, 8]);
    let refused = |trainer: &mut Trainer, shape: usize, labels: Vec<u32>, classes: &[&str]| {
        let classes = classes.iter().map(|class| class.to_string()).collect();
        let data = Dataset::new(Shape::features(shape), Values::Floats(vec![0.5; 2 * shape]), labels, classes);
        let error = trainer.combine_readouts(&data.unwrap()).unwrap_err().to_string();
        assert_eq!(trainer.network().readouts().len(), 2);
        error
    };
    let inputs = trainer.network().shape().len();
    assert!(refused(&mut trainer, inputs + 1, vec![0, 1], &["0", "1"]).contains("the network expects"));
    assert!(refused(&mut trainer, inputs, vec![], &[]).contains("no labels"));
    assert!(refused(&mut trainer, inputs, vec![0, 1], &["ant", "bee"]).contains("a class `ant`"));
}
