//! What a pipeline promises: the bits of simultaneous training, whatever the number of blocks, wherever it was interrupted; and
//! no more packets under way than it says.

mod common;

use common::{patterns, pipelined, recipe, recipes};
use onward::checkpoint::different_tensors;
use onward::events::EpochReport;
use onward::settings::{LabelPlace, NegativesKind, Order, Precision};
use onward::train::pipeline::{Block, Line, Packet, Threads};
use onward::{Dataset, Error, Event, Flow, Recipe, Result, Trainer};
use std::collections::BTreeMap;
use std::path::Path;

/// Trains on, to the end or to the first look at or after step `stop`; notes the epochs.
fn train(trainer: &mut Trainer, data: &Dataset, stop: u64, epochs: &mut Vec<EpochReport>) {
    let mut told = trainer.position().step;
    let mut watch = |event: Event<'_>, trainer: &Trainer| {
        match event {
            Event::Step(step) => {
                told += 1;
                assert_eq!(step.step, told, "every step is told once, in order");
            }
            Event::Epoch(epoch) => epochs.push(epoch.clone()),
            _ => {}
        }
        if trainer.position().step >= stop { Flow::Stop } else { Flow::Continue }
    };
    trainer.fit(data, &mut watch).unwrap();
}

fn save(trainer: &Trainer, path: &Path) {
    trainer.save(path, &BTreeMap::new()).unwrap();
}

/// Trains all layers together, and saves them.
fn all_together(recipe: &Recipe, data: &Dataset, path: &Path) -> Vec<EpochReport> {
    let mut epochs = Vec::new();
    let mut trainer = Trainer::new(recipe.clone(), data).unwrap();
    train(&mut trainer, data, u64::MAX, &mut epochs);
    save(&trainer, path);
    epochs
}

#[test]
fn the_same_bits_as_all_layers_together() {
    let data = patterns(150);
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for (name, recipe) in recipes() {
        let expected = all_together(&recipe, &data, &one);
        for blocks in [1, 2, 3, 9] {
            let mut epochs = Vec::new();
            let mut trainer = Trainer::new(pipelined(recipe.clone(), blocks), &data).unwrap();
            train(&mut trainer, &data, u64::MAX, &mut epochs);
            save(&trainer, &other);
            assert_eq!(different_tensors(&one, &other).unwrap(), [""; 0], "{name}, {blocks} blocks");
            assert_eq!(epochs, expected, "{name}, {blocks} blocks");
            assert!(trainer.is_done());
            let work = trainer.occupancy().unwrap();
            assert!(work.blocks.len() <= blocks && work.steps > 0, "{name}: {work:?}");
        }
    }
}

#[test]
fn interrupted_at_any_look_it_goes_on_to_the_same_bits() {
    let data = patterns(300);
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for (name, recipe) in recipes() {
        let expected = all_together(&recipe, &data, &one);
        for stop in [1, 9, 12] {
            let mut epochs = Vec::new();
            let mut first = Trainer::new(pipelined(recipe.clone(), 2), &data).unwrap();
            train(&mut first, &data, stop, &mut epochs);
            assert!(first.position().step >= stop && !first.is_done());
            save(&first, &other);
            let mut second = Trainer::load(&other).unwrap();
            train(&mut second, &data, u64::MAX, &mut epochs);
            save(&second, &other);
            assert_eq!(different_tensors(&one, &other).unwrap(), [""; 0], "{name}, stopped at {stop}");
            assert_eq!(epochs, expected, "{name}, stopped at {stop}");
        }
    }
}

#[test]
fn a_delay_changes_what_is_learned_and_is_remembered() {
    let data = patterns(150);
    let folder = tempfile::tempdir().unwrap();
    let (now, later) = (folder.path().join("now"), folder.path().join("later"));
    let with = |delay, path: &Path| {
        let mut recipe = recipe(Precision::F32, &[40, 24, 32]);
        recipe.negatives.delay = delay;
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        train(&mut trainer, &data, 3, &mut Vec::new());
        save(&trainer, path);
    };
    with(0, &now);
    with(1, &later);
    let different = different_tensors(&now, &later).unwrap();
    assert!(
        different.iter().any(|name| name == "layers.0.weight")
            && different.iter().any(|name| name == "training.predictions")
    );
}

/// Threads that are watched: how many packets have been under way at most.
struct Watched {
    threads: Threads,
    under_way: usize,
    most: usize,
}

impl Line for Watched {
    fn places(&self) -> usize {
        self.threads.places()
    }
    fn begin(&mut self, blocks: Vec<Block>) -> Result<()> {
        assert_eq!(blocks.first().map(|block| block.layers().start), Some(0));
        self.threads.begin(blocks)
    }
    fn send(&mut self, packet: Packet) -> Result<()> {
        self.under_way += 1;
        self.most = self.most.max(self.under_way);
        self.threads.send(packet)
    }
    fn receive(&mut self) -> Result<Packet> {
        self.under_way -= 1;
        self.threads.receive()
    }
    fn end(&mut self) -> Result<Vec<Block>> {
        self.under_way = 0;
        self.threads.end()
    }
}

#[test]
fn however_fast_the_producer_no_more_is_under_way_than_promised() {
    let data = patterns(600);
    let mut recipe = pipelined(recipe(Precision::Reference, &[4, 60, 60]), 3);
    recipe.negatives.kind = NegativesKind::Uniform;
    let mut line = Watched { threads: Threads::new(3, 3).unwrap(), under_way: 0, most: 0 };
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    trainer.fit_along(&mut line, &data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    assert_eq!(line.most, 6);
}

/// A line whose blocks are made anew and whose packets are written and read again before each block but the lowest, as
/// between machines.
#[derive(Default)]
struct Wired {
    /// As they were given; they take over the state of the others in the end.
    own: Vec<Block>,
    away: Vec<Block>,
    arrived: std::collections::VecDeque<Packet>,
}

impl Line for Wired {
    fn places(&self) -> usize {
        3
    }
    fn begin(&mut self, blocks: Vec<Block>) -> Result<()> {
        for block in &blocks {
            let mut state = Vec::new();
            block.write_state(&mut state);
            let mut away = Block::build(&block.describe()?)?;
            away.read_state(&state)?;
            self.away.push(away);
        }
        self.own = blocks;
        Ok(())
    }
    fn send(&mut self, mut packet: Packet) -> Result<()> {
        for (b, block) in self.away.iter_mut().enumerate() {
            if b > 0 {
                let mut bytes = Vec::new();
                packet.write(&mut bytes);
                packet = Packet::default();
                packet.read(&bytes)?;
            }
            block.run(&mut packet);
        }
        packet.forget_rows();
        self.arrived.push_back(packet);
        Ok(())
    }
    fn receive(&mut self) -> Result<Packet> {
        Ok(self.arrived.pop_front().expect("whoever receives has sent"))
    }
    fn end(&mut self) -> Result<Vec<Block>> {
        for (block, away) in self.own.iter_mut().zip(self.away.drain(..)) {
            let mut state = Vec::new();
            away.write_state(&mut state);
            block.read_state(&state)?;
        }
        Ok(std::mem::take(&mut self.own))
    }
}

#[test]
fn blocks_and_packets_keep_every_bit_as_bytes() {
    let data = patterns(150);
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for (name, recipe) in recipes() {
        let expected = all_together(&recipe, &data, &one);
        let mut epochs = Vec::new();
        let mut trainer = Trainer::new(pipelined(recipe, 3), &data).unwrap();
        let mut watch = |event: Event<'_>, _: &Trainer| {
            if let Event::Epoch(epoch) = event {
                epochs.push(epoch.clone());
            }
            Flow::Continue
        };
        trainer.fit_along(&mut Wired::default(), &data, &mut watch).unwrap();
        save(&trainer, &other);
        assert_eq!(different_tensors(&one, &other).unwrap(), [""; 0], "{name}");
        assert_eq!(epochs, expected, "{name}");
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let data = patterns(60);
    /// Cuts and spoils what goes between blocks.
    struct Damaged(Wired);
    impl Line for Damaged {
        fn places(&self) -> usize {
            2
        }
        fn begin(&mut self, blocks: Vec<Block>) -> Result<()> {
            let description = blocks[1].describe()?;
            let mut state = Vec::new();
            blocks[1].write_state(&mut state);
            let mut away = Block::build(&description)?;
            for cut in 0..state.len() {
                assert!(away.read_state(&state[..cut]).is_err(), "{cut} of {} bytes", state.len());
            }
            assert!(away.read_state(&[&state[..], &[0]].concat()).is_err());
            assert!(Block::build(&description[1..]).is_err());
            let text = String::from_utf8(description).unwrap();
            for (from, to) in [("\"start\":1,\"end\":2", "\"start\":1,\"end\":9"), ("\"reads\":[1]", "\"reads\":[7]")] {
                assert!(text.contains(from), "{text}");
                assert!(Block::build(text.replace(from, to).as_bytes()).is_err());
            }
            self.0.begin(blocks)
        }
        fn send(&mut self, mut packet: Packet) -> Result<()> {
            self.0.away[0].run(&mut packet);
            let mut bytes = Vec::new();
            packet.write(&mut bytes);
            for cut in (0..bytes.len()).step_by(7) {
                assert!(Packet::default().read(&bytes[..cut]).is_err());
            }
            for at in 0..bytes.len().min(64) {
                let mut spoilt = bytes.clone();
                spoilt[at] = 0xff;
                let _ = Packet::default().read(&spoilt); // it may be another packet, but nothing worse
            }
            self.0.arrived.push_back(packet);
            Ok(())
        }
        fn receive(&mut self) -> Result<Packet> {
            self.0.receive()
        }
        fn end(&mut self) -> Result<Vec<Block>> {
            self.0.end()
        }
    }
    let mut recipe = pipelined(recipe(Precision::F32, &[12, 6]), 2);
    (recipe.negatives.kind, recipe.training.epochs) = (NegativesKind::Uniform, 1);
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    trainer.fit_along(&mut Damaged(Wired::default()), &data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
}

#[test]
fn parts_that_no_recipe_names_do_not_travel() {
    let data = patterns(60);
    let mut recipe = pipelined(recipe(Precision::F32, &[12, 6]), 2);
    recipe.negatives.kind = NegativesKind::Uniform;
    let mut network = onward::Network::new(recipe, data.shape(), data.classes()).unwrap();
    network.set_goodness(std::sync::Arc::new(onward::goodness::Sum));
    let mut trainer = Trainer::with_network(network);
    let fit = trainer.fit_along(&mut Wired::default(), &data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue);
    assert!(fit.unwrap_err().to_string().contains("a goodness of its own"));
}

#[test]
fn divergence_names_the_same_layer_and_step() {
    let data = patterns(60);
    let failed = |order| {
        let mut wild = recipe(Precision::F32, &[16, 16, 16]);
        (wild.training.order, wild.negatives.kind) = (order, NegativesKind::Uniform);
        (wild.optimizer.rate, wild.optimizer.weight_cost, wild.training.epochs) = (10.0, 10.0, 1000);
        let mut trainer = Trainer::new(wild, &data).unwrap();
        let error = trainer.fit(&data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        assert_eq!(trainer.network().depth(), 3, "the network is whole");
        error.to_string()
    };
    assert_eq!(failed(Order::Pipelined), failed(Order::Simultaneous));
}

#[test]
fn what_a_pipeline_cannot_do_is_refused() {
    let refused = |change: fn(&mut Recipe)| {
        let mut recipe = pipelined(recipe(Precision::F32, &[8, 8]), 2);
        recipe.negatives.delay = 4;
        assert!(recipe.clone().check().is_ok());
        change(&mut recipe);
        recipe.check().unwrap_err().to_string()
    };
    assert!(refused(|r| r.negatives.delay = 0).contains("set a delay"));
    assert!(refused(|r| r.negatives.delay = 1001).contains("found 1001, expected 0 to 1000"));
    assert!(refused(|r| r.negatives.kind = NegativesKind::Uniform).contains("only \"hard\" negatives"));
    assert!(refused(|r| r.training.rest = 1).contains("training.rest"));
    assert!(refused(|r| r.training.phase = 10).contains("training.phase"));
    assert!(refused(|r| r.negatives.kind = NegativesKind::Generated).contains("written by all layers"));
    assert!(refused(|r| r.optimizer.kind = onward::settings::OptimizerKind::OneStep).contains("one-step"));
    assert!(refused(|r| r.training.order = Order::Greedy).contains("training.order"));
    assert!(refused(|r| r.head.memory = onward::settings::HeadMemory::Recompute).contains("head.memory"));
    assert!(refused(|r| r.rule = onward::settings::Rule::Backprop).contains("`rule`"));
    assert!(refused(|r| (r.recurrent.iterations, r.network.label) = (4, LabelPlace::Top)).contains("recurrent"));
}
