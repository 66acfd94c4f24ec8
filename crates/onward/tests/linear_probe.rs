//! What a linear softmax reads out of each layer.

mod common;

use common::{patterns, recipe};
use onward::settings::Precision;
use onward::{Event, Flow, Network, ProbeSettings, Readout, Trainer};

#[test]
fn probes_read_layers_and_leave_them_alone() {
    let (data, test) = (patterns(900), patterns(1200).slice(900..1200).unwrap());
    let mut settings = recipe(Precision::F32, &[40, 30]);
    settings.training.epochs = 15;
    let mut trainer = Trainer::new(settings.clone(), &data).unwrap();
    trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    let network = trainer.network();
    let before = network.predict(&test, Readout::OnePass).unwrap();
    let probe = |network: &Network| network.linear_probe(&data, &test, ProbeSettings::default()).unwrap();
    let errors = probe(network);
    assert_eq!(errors.len(), 3, "the input and two layers");
    // These classes are linearly separable but for the noise; by chance 67 % would be wrong.
    assert!(errors.iter().all(|error| *error < 15.0), "{errors:?}");
    assert_eq!(before, network.predict(&test, Readout::OnePass).unwrap());
    assert_eq!(errors, probe(network), "the same errors again");
    // The input's error has nothing to do with the layers.
    let untrained = Network::new(settings, data.shape(), data.classes()).unwrap();
    assert_eq!(probe(&untrained)[0], errors[0]);
}

#[test]
fn labels_that_say_nothing_cannot_be_read() {
    let data = patterns(600);
    let network = Network::new(recipe(Precision::F32, &[20]), data.shape(), data.classes()).unwrap();
    let (labels, mut values) = (data.labels(), vec![0.0; 24 * 600]);
    values.chunks_exact_mut(24).enumerate().for_each(|(n, to)| data.read(n, to));
    // Each label twice as far on as the sample that it came with.
    let shifted: Vec<u32> = (0..600).map(|n| labels[(n * 7 + n / 3) % 600]).collect();
    let names = data.classes().to_vec();
    let wrong = onward::Dataset::new(data.shape(), onward::Values::Floats(values), shifted, names).unwrap();
    let errors = network.linear_probe(&wrong, &wrong, ProbeSettings::default()).unwrap();
    assert!(errors.iter().all(|error| *error > 45.0), "{errors:?}");
}

#[test]
fn other_samples_are_refused() {
    let data = patterns(30);
    let network = Network::new(recipe(Precision::F32, &[20]), data.shape(), data.classes()).unwrap();
    let other = onward::Dataset::new(
        onward::Shape::features(2),
        onward::Values::Floats(vec![1.0, 2.0]),
        vec![0],
        vec!["a".into(), "b".into()],
    );
    let refused = network.linear_probe(&data, &other.unwrap(), ProbeSettings::default()).unwrap_err().to_string();
    assert_eq!(refused, "the data's samples are 1×1×2, the network expects 1×1×24");
}
