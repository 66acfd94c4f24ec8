//! Black boxes between layers: Forward-Forward learns around them, backpropagation is refused, and programs that die, hang or
//! answer nonsense stop the run with their own words.
#![cfg(unix)]

mod common;

use common::{patterns, recipe};
use onward::layer::process::Process;
use onward::settings::{BlackBoxSettings, Frames, LayerSettings, Precision, ProcessSettings, Rule};
use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Trainer};
use std::collections::BTreeMap;

fn boxed(does: BlackBoxSettings) -> Recipe {
    let mut recipe = recipe(Precision::F32, &[]);
    let black_box = LayerSettings::BlackBox(does);
    recipe.network.layers = vec![40.into(), black_box.clone(), 40.into(), black_box, 40.into()];
    recipe.training.epochs = 20;
    recipe
}

fn fit(recipe: Recipe, data: &Dataset) -> onward::Result<Trainer> {
    let mut trainer = Trainer::new(recipe, data)?;
    trainer.fit(data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue)?;
    Ok(trainer)
}

fn program(script: &str, outputs: usize, frames: Frames, timeout: f64) -> BlackBoxSettings {
    let command = ["sh", "-c", script].map(String::from).to_vec();
    BlackBoxSettings::Process(ProcessSettings { command, outputs, frames, timeout })
}

#[test]
fn layers_learn_around_whatever_is_between_them() {
    let data = patterns(1200);
    for (name, does) in [
        ("quantiser", BlackBoxSettings::Quantiser { levels: 3 }),
        ("random", BlackBoxSettings::Random),
        ("noise", BlackBoxSettings::Noise { deviation: 0.5 }),
        ("binary", BlackBoxSettings::Binary),
    ] {
        let trainer = fit(boxed(does.clone()), &data).unwrap();
        let network = trainer.network();
        let error = network.evaluate(&data, Readout::OnePass).unwrap().error();
        assert!(error < 25.0, "{name}: {error} % of 3 classes wrong");
        // Three layers learn; the boxes have neither parameters nor goodness.
        assert_eq!(trainer.so_far().layers.iter().map(|layer| layer.layer).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(network.stages()[1].layer.parameters(), 0);

        // The same bits again, with one thread, and after a stop.
        let probabilities = |network: &Network| network.predict(&data, Readout::OnePass).unwrap().probabilities;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = pool.install(|| fit(boxed(does.clone()), &data).unwrap());
        assert_eq!(probabilities(network), probabilities(again.network()), "{name}");
        let mut stopped = Trainer::new(boxed(does), &data).unwrap();
        let mut steps = 0;
        let stop = &mut |_: Event<'_>, _: &Trainer| {
            steps += 1;
            if steps == 57 { Flow::Stop } else { Flow::Continue }
        };
        stopped.fit(&data, stop).unwrap();
        let folder = tempfile::tempdir().unwrap();
        stopped.save(folder.path().join("last"), &BTreeMap::new()).unwrap();
        let mut resumed = Trainer::load(folder.path().join("last")).unwrap();
        resumed.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
        assert_eq!(probabilities(network), probabilities(resumed.network()), "{name}");
    }
}

#[test]
fn backpropagation_is_refused_or_goes_straight_through() {
    let data = patterns(600);
    let mut recipe = boxed(BlackBoxSettings::Quantiser { levels: 4 });
    recipe.rule = Rule::Backprop;
    (recipe.optimizer.rate, recipe.head.rate, recipe.training.epochs) = (0.1, 0.1, 10);
    let refused = fit(recipe.clone(), &data).unwrap_err().to_string();
    assert!(refused.contains("black box") && refused.contains("rival.straight_through"), "{refused}");
    recipe.rival.straight_through = true;
    let error = fit(recipe.clone(), &data).unwrap().network().evaluate(&data, Readout::OnePass).unwrap().error();
    assert!(error < 15.0, "{error} % of 3 classes wrong, straight through");
    recipe.rule = Rule::Perturbation;
    recipe.training.epochs = 1;
    fit(recipe, &data).unwrap();
}

#[test]
fn a_program_is_a_layer_too() {
    let data = patterns(90);
    let sizes = |does: BlackBoxSettings| {
        let mut recipe = recipe(Precision::F32, &[]);
        recipe.network.layers = vec![8.into(), LayerSettings::BlackBox(does), 8.into()];
        recipe.training.epochs = 1;
        recipe
    };
    // Two numbers for each row: how many there are, and 1.
    let lines = program("while read -r row; do set -- $row; echo $# 1; done", 2, Frames::Lines, 20.0);
    let trainer = fit(sizes(lines.clone()), &data).unwrap();
    assert_eq!(trainer.network().stages()[2].layer.inputs(), 2);
    // `cat` gives frames back as they came.
    let same = program("exec cat", 8, Frames::Binary, 20.0);
    let trainer = fit(sizes(same), &data).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network");
    trainer.network().save(&path).unwrap();
    // A checkpoint from somewhere runs nothing until it is allowed to.
    let mut network = Network::load(&path).unwrap();
    let refused = network.predict(&data, Readout::OnePass).unwrap_err().to_string();
    assert!(refused.contains("exec cat") && refused.contains("--allow-programs"), "{refused}");
    network.allow_programs(true);
    let expected = trainer.network().predict(&data, Readout::OnePass).unwrap();
    assert_eq!(network.predict(&data, Readout::OnePass).unwrap(), expected);
}

#[test]
fn a_program_that_answers_and_reads_no_further_is_not_waited_for() {
    // More than a pipe holds: 64 KiB.
    let script = r"printf '\1\0\0\0\1\0\0\0\0\0\0\0'; exec sleep 60";
    let BlackBoxSettings::Process(settings) = program(script, 1, Frames::Binary, 0.5) else { unreachable!() };
    let (program, mut answer) = (Process::new(settings), [7.0]);
    program.answer(&vec![1.0; 100_000], 100_000, &mut answer);
    let fault = program.fault().unwrap();
    assert!(fault.contains("answered, but did not read all it was sent within 0.5 seconds"), "{fault}");
    assert_eq!(answer, [0.0]);
}

#[test]
fn programs_that_fail_stop_the_run_with_their_own_words() {
    let data = patterns(90);
    for (script, frames, timeout, expected) in [
        ("echo 'out of paper' >&2; exit 3", Frames::Binary, 5.0, vec!["has ended", "out of paper"]),
        ("exec sleep 60", Frames::Binary, 0.2, vec!["did not answer within 0.2 seconds"]),
        ("exec yes 1", Frames::Lines, 5.0, vec!["a line of 1 numbers", "expected 8"]),
        ("exec yes 'one two'", Frames::Lines, 5.0, vec!["`one two`", "expected 8 numbers"]),
        ("exec yes nan nan nan nan nan nan nan nan", Frames::Lines, 5.0, vec!["NaN", "finite"]),
        ("exec cat /dev/zero", Frames::Binary, 5.0, vec!["0 rows of 0 numbers"]),
        ("printf '\\1\\0\\0\\0\\10\\0\\0\\0abc'", Frames::Binary, 5.0, vec!["ended after 3 of 32 bytes"]),
        ("/no/such/program", Frames::Binary, 5.0, vec!["has ended", "/no/such/program"]),
    ] {
        let mut recipe = recipe(Precision::F32, &[]);
        let does = LayerSettings::BlackBox(program(script, 8, frames, timeout));
        recipe.network.layers = vec![8.into(), does, 8.into()];
        let error = fit(recipe, &data).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{script}: {error}");
        assert!(error.contains("layer 1"), "{error}");
    }
    let mut recipe = recipe(Precision::F32, &[]);
    let does =
        ProcessSettings { command: vec!["/no/such/program".into()], outputs: 8, frames: Frames::Binary, timeout: 1.0 };
    recipe.network.layers = vec![LayerSettings::BlackBox(BlackBoxSettings::Process(does)), 8.into()];
    let error = fit(recipe, &data).unwrap_err().to_string();
    assert!(error.contains("could not be started"), "{error}");
}
