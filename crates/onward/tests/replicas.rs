//! What replicas of blocks promise: what one process learns, but for the order of sums; the same bits in all replicas, and
//! whenever it is done again.

mod common;

use common::{patterns, pipelined, recipe, recipes};
use onward::checkpoint::different_tensors;
use onward::events::EpochReport;
use onward::settings::{BlackBoxSettings, Fields, LabelPlace, LayerSettings, NegativesKind, OptimizerKind, Precision};
use onward::tensor::{Numbers, Tensor};
use onward::train::pipeline::{Block, Line, Packet, Sums, share};
use onward::{Dataset, Error, Event, Flow, Recipe, Result, Shape, Trainer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// A sum: what has come from whom, and how many have taken it.
#[derive(Debug)]
struct Sum {
    parts: Vec<Option<Vec<f32>>>,
    taken: usize,
}

/// What the replicas of a block have to add up.
#[derive(Debug, Default)]
struct Board {
    sums: Mutex<BTreeMap<usize, Sum>>,
    changed: Condvar,
}

/// A replica's way to it.
#[derive(Debug)]
struct Place {
    board: Arc<Board>,
    replica: usize,
    replicas: usize,
    begun: usize,
    finished: usize,
}

impl Sums for Place {
    fn begin(&mut self, numbers: Vec<f32>) {
        let mut sums = self.board.sums.lock().unwrap();
        let sum = sums.entry(self.begun).or_insert_with(|| Sum { parts: vec![None; self.replicas], taken: 0 });
        sum.parts[self.replica] = Some(numbers);
        self.begun += 1;
        self.board.changed.notify_all();
    }

    fn finish(&mut self) -> Result<Vec<f32>> {
        let lacks =
            |sums: &mut BTreeMap<usize, Sum>| sums.get(&self.finished).is_none_or(|sum| sum.parts.contains(&None));
        let mut sums = self.board.changed.wait_while(self.board.sums.lock().unwrap(), lacks).unwrap();
        let Sum { parts, taken } = sums.get_mut(&self.finished).unwrap();
        let mut sum = vec![0.0; parts[0].as_ref().unwrap().len()];
        for part in parts.iter().flatten() {
            assert_eq!(part.len(), sum.len(), "replicas add up the same layer");
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        *taken += 1;
        if *taken == self.replicas {
            sums.remove(&self.finished);
        }
        self.finished += 1;
        Ok(sum)
    }
}

/// Steps that are compared: two epochs of the data, where a pipeline is looked at.
const STEPS: u64 = 10;

/// A thread for each replica of each block; packets go from one to the next as bytes, as between machines.
#[derive(Default)]
struct Replicated {
    blocks: usize,
    replicas: usize,
    lowest: Vec<Sender<Vec<u8>>>,
    highest: Vec<Receiver<Vec<u8>>>,
    threads: Vec<Vec<JoinHandle<Block>>>,
    under_way: VecDeque<Packet>,
}

impl Replicated {
    fn new(blocks: usize, replicas: usize) -> Self {
        Replicated { blocks, replicas, ..Default::default() }
    }
}

impl Line for Replicated {
    fn places(&self) -> usize {
        self.blocks
    }

    fn begin(&mut self, blocks: Vec<Block>) -> Result<()> {
        let (lowest, mut below): (Vec<_>, Vec<_>) = (0..self.replicas).map(|_| channel::<Vec<u8>>()).unzip();
        self.lowest = lowest;
        for block in blocks {
            let (description, mut state) = (block.describe()?, Vec::new());
            block.write_state(&mut state);
            let others = (1..self.replicas).map(|_| Block::build(&description));
            let replicas = std::iter::once(Ok(block)).chain(others).collect::<Result<Vec<_>>>()?;
            let board = Arc::new(Board::default());
            let (mut ups, mut threads) = (Vec::new(), Vec::new());
            for (replica, (mut block, from)) in replicas.into_iter().zip(below).enumerate() {
                block.read_state(&state)?;
                let (board, replicas) = (board.clone(), self.replicas);
                block.join_group(Box::new(Place { board, replica, replicas, begun: 0, finished: 0 }), replica == 0)?;
                let (up, above) = channel();
                ups.push(above);
                threads.push(std::thread::spawn(move || {
                    let mut packet = Packet::default();
                    for mut bytes in from {
                        match block.layers().start {
                            0 => packet.read_start(&bytes).unwrap(),
                            _ => packet.read(&bytes).unwrap(),
                        }
                        block.run(&mut packet);
                        bytes.clear();
                        packet.write(&mut bytes);
                        up.send(bytes).unwrap();
                    }
                    block.leave_group().unwrap();
                    block
                }));
            }
            self.threads.push(threads);
            below = ups;
        }
        self.highest = below;
        Ok(())
    }

    fn send(&mut self, packet: Packet) -> Result<()> {
        let mut part = Packet::default();
        for (replica, lowest) in self.lowest.iter().enumerate() {
            packet.share(share(packet.samples(), replica, self.replicas), &mut part);
            let mut bytes = Vec::new();
            part.write_start(&mut bytes);
            lowest.send(bytes).unwrap();
        }
        self.under_way.push_back(packet);
        Ok(())
    }

    fn receive(&mut self) -> Result<Packet> {
        let mut packet = self.under_way.pop_front().expect("whoever receives has sent");
        let mut parts: Vec<Packet> = Vec::new();
        for highest in &self.highest {
            let mut part = Packet::default();
            part.read(&highest.recv().unwrap())?;
            parts.push(part);
        }
        packet.join(parts.iter_mut());
        Ok(packet)
    }

    fn end(&mut self) -> Result<Vec<Block>> {
        self.lowest.clear();
        let mut blocks = Vec::new();
        for threads in self.threads.drain(..) {
            let mut replicas = threads.into_iter().map(|thread| thread.join().unwrap());
            let mut block = replicas.next().unwrap();
            let reports: Vec<Vec<u8>> = replicas
                .map(|other| {
                    let mut report = Vec::new();
                    other.write_report(&mut report);
                    report
                })
                .collect();
            block.add_reports(&reports)?;
            blocks.push(block);
        }
        self.under_way.clear();
        Ok(blocks)
    }
}

/// Trains to the end or for some steps; answers the epochs.
fn train(trainer: &mut Trainer, data: &Dataset, line: Option<&mut Replicated>, stop: u64) -> Result<Vec<EpochReport>> {
    let mut epochs = Vec::new();
    let mut watch = |event: Event<'_>, trainer: &Trainer| {
        if let Event::Epoch(epoch) = event {
            epochs.push(epoch.clone());
        }
        if trainer.position().step >= stop { Flow::Stop } else { Flow::Continue }
    };
    match line {
        Some(line) => trainer.fit_along(line, data, &mut watch)?,
        None => trainer.fit(data, &mut watch)?,
    }
    Ok(epochs)
}

/// Everything that is learned.
fn tensors(trainer: &Trainer) -> Vec<Tensor> {
    let network = trainer.network();
    let layers = network.stages().iter().flat_map(|stage| stage.layer.tensors());
    layers
        .chain(network.head().into_iter().flat_map(|head| head.parts().flat_map(|(_, part)| part.tensors())))
        .collect()
}

/// The largest difference between numbers, in parts of 1 or of their tensor's largest; and the tensor's name.
fn difference(a: &Trainer, b: &Trainer) -> (String, f64) {
    let wide = |numbers: &Numbers| -> Vec<f64> {
        match numbers {
            Numbers::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Numbers::F64(v) => v.clone(),
            Numbers::U8(_) => Vec::new(),
        }
    };
    let mut most = (String::new(), 0.0);
    for (a, b) in tensors(a).iter().zip(tensors(b)) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
        let (a_numbers, b_numbers) = (wide(&a.numbers), wide(&b.numbers));
        let size = a_numbers.iter().fold(1.0f64, |size, x| size.max(x.abs()));
        for (x, y) in a_numbers.iter().zip(b_numbers) {
            let difference = (x - y).abs() / size;
            if difference > most.1 {
                most = (a.name.clone(), difference);
            }
        }
    }
    most
}

/// Trains on one process and in blocks and replicas, and compares: what is learned, what is reported, and that it is the same
/// whenever it is done again.
fn compare(name: &str, recipe: &Recipe, data: &Dataset, places: &[(usize, usize)]) {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let mut alone = Trainer::new(recipe.clone(), data).unwrap();
    let expected = train(&mut alone, data, None, STEPS).unwrap();
    for &(blocks, replicas) in places {
        let what = format!("{name}, {blocks} blocks, {replicas} replicas");
        let with = || {
            let mut trainer = Trainer::new(pipelined(recipe.clone(), 0), data).unwrap();
            let epochs = train(&mut trainer, data, Some(&mut Replicated::new(blocks, replicas)), STEPS).unwrap();
            (trainer, epochs)
        };
        let (trainer, epochs) = with();
        let (tensor, most) = difference(&alone, &trainer);
        assert!(most < 1e-5, "{what}: {tensor} differs by {most:e}");
        assert_eq!(epochs.len(), expected.len());
        let near = |a: f64, b: f64| (a - b).abs() < 1e-4 * (1.0 + b.abs());
        for (found, expected) in epochs.iter().zip(&expected) {
            let heads = (found.head_loss.unwrap_or_default(), expected.head_loss.unwrap_or_default());
            assert!(near(heads.0, heads.1), "{what}: {heads:?}");
            for (found, expected) in found.layers.iter().zip(&expected.layers) {
                assert!(near(found.loss, expected.loss), "{what}: {found:?}, not {expected:?}");
                assert!(near(found.goodness_positive, expected.goodness_positive), "{what}");
                assert!(near(found.goodness_negative, expected.goodness_negative), "{what}");
                assert!(near(found.active_rows, expected.active_rows), "{what}");
                assert_eq!(found.dead_units, expected.dead_units, "{what}");
            }
        }
        trainer.save(&one, &BTreeMap::new()).unwrap();
        with().0.save(&other, &BTreeMap::new()).unwrap();
        assert_eq!(different_tensors(&one, &other).unwrap(), [""; 0], "{what}");
    }
}

#[test]
fn replicas_learn_what_one_process_learns() {
    for (name, recipe) in recipes() {
        compare(name, &recipe, &patterns(150), &[(1, 1), (1, 2), (2, 2), (1, 4), (4, 1)]);
    }
}

#[test]
fn layers_of_every_kind_have_replicas() {
    let flat = patterns(150);
    let (labels, classes) = (flat.labels().to_vec(), flat.classes().to_vec());
    let data = Dataset::new(Shape::image(1, 4, 6), flat.values().clone(), labels, classes).unwrap();
    let fields = |channels, field, stride| Fields { channels, field, stride, pad: 0 };
    let conv = |channels, field| LayerSettings::Conv(fields(channels, field, 1));
    let local = |channels, field| LayerSettings::Local(fields(channels, field, 1));
    for (name, layers) in [
        ("convolutions", vec![conv(8, 3), conv(12, 2)]),
        ("local layers of many channels and of few", vec![local(3, 1), local(50, 2)]),
        ("black boxes between", vec![20.into(), LayerSettings::BlackBox(BlackBoxSettings::Random), 10.into()]),
    ] {
        for kind in [OptimizerKind::Smoothed, OptimizerKind::Adam] {
            let mut recipe = recipe(Precision::F32, &[]);
            recipe.network.layers = layers.clone();
            (recipe.network.label, recipe.negatives.kind) = (LabelPlace::Prepend, NegativesKind::Uniform);
            (recipe.optimizer.kind, recipe.optimizer.rate) = (kind, 0.003);
            compare(name, &recipe, &data, &[(2, 3)]);
        }
    }
    let mut imprecise = recipe(Precision::F32, &[20, 10]);
    imprecise.negatives.kind = NegativesKind::Uniform;
    (imprecise.hardware.gain, imprecise.hardware.noise) = (0.1, 0.1);
    compare("imprecise hardware", &imprecise, &data, &[(1, 2)]);
}

#[test]
fn divergence_is_said_as_by_one_process() {
    let data = patterns(60);
    let mut wild = pipelined(recipe(Precision::F32, &[16, 16, 16]), 0);
    wild.negatives.kind = NegativesKind::Uniform;
    (wild.optimizer.rate, wild.optimizer.weight_cost, wild.training.epochs) = (10.0, 10.0, 1000);
    let failed = |line: Option<&mut Replicated>| {
        let mut trainer = Trainer::new(wild.clone(), &data).unwrap();
        let error = train(&mut trainer, &data, line, u64::MAX).unwrap_err();
        assert_eq!(trainer.network().depth(), 3, "the network is whole");
        match error {
            Error::NotFinite { layer, step, .. } => (layer, step),
            other => panic!("{other}"),
        }
    };
    let expected = failed(None);
    for (blocks, replicas) in [(1, 2), (3, 2)] {
        assert_eq!(failed(Some(&mut Replicated::new(blocks, replicas))), expected);
    }
}

#[test]
fn other_places_go_on_where_some_have_stopped() {
    let data = patterns(150);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (_, recipe) = recipes().into_iter().find(|(name, _)| *name == "hard, delay 1").unwrap();
    let mut alone = Trainer::new(recipe.clone(), &data).unwrap();
    train(&mut alone, &data, None, u64::MAX).unwrap();
    let mut trainer = Trainer::new(pipelined(recipe, 0), &data).unwrap();
    for (blocks, replicas, stop) in [(2, 2, 5), (1, 3, 10), (1, 1, 15), (2, 4, u64::MAX)] {
        train(&mut trainer, &data, Some(&mut Replicated::new(blocks, replicas)), stop).unwrap();
        trainer.save(&path, &BTreeMap::new()).unwrap();
        trainer = Trainer::load(&path).unwrap();
    }
    assert!(trainer.is_done());
    let (tensor, most) = difference(&alone, &trainer);
    assert!(most < 1e-4, "{tensor} differs by {most:e}");
}

#[test]
fn damaged_bytes_are_refused() {
    /// Spoils what goes to the lowest block and what comes back of its replicas.
    struct Damaged(Replicated);
    impl Line for Damaged {
        fn places(&self) -> usize {
            1
        }
        fn begin(&mut self, mut blocks: Vec<Block>) -> Result<()> {
            let mut report = Vec::new();
            blocks[0].write_report(&mut report);
            for cut in 0..report.len() {
                assert!(blocks[0].add_reports(&[report[..cut].to_vec()]).is_err());
            }
            report[0] ^= 1;
            assert!(blocks[0].add_reports(&[report]).unwrap_err().to_string().contains("other weights"));
            self.0.begin(blocks)
        }
        fn send(&mut self, packet: Packet) -> Result<()> {
            let (mut part, mut bytes) = (Packet::default(), Vec::new());
            packet.share(0..packet.samples(), &mut part);
            part.write_start(&mut bytes);
            for cut in (0..bytes.len()).step_by(7) {
                assert!(Packet::default().read_start(&bytes[..cut]).is_err());
            }
            self.0.send(packet)
        }
        fn receive(&mut self) -> Result<Packet> {
            self.0.receive()
        }
        fn end(&mut self) -> Result<Vec<Block>> {
            self.0.end()
        }
    }
    let data = patterns(60);
    let mut recipe = pipelined(recipe(Precision::F32, &[12, 6]), 0);
    (recipe.negatives.kind, recipe.training.epochs) = (NegativesKind::Uniform, 1);
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    let mut line = Damaged(Replicated::new(1, 1));
    trainer.fit_along(&mut line, &data, &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
}
