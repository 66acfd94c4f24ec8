//! What a pipeline over ranks promises: the bits of one process, whatever the number of ranks.
//!
//! Each test has `mpirun` start this program again, as the test `rank`: that is the job.

#[path = "../../onward/tests/common/mod.rs"]
mod common;

use common::{patterns, pipelined, recipe, recipes};
use onward::checkpoint::different_tensors;
use onward::settings::{NegativesKind, Precision};
use onward::tensor::{Numbers, Tensor};
use onward::{Error, Event, Flow, Recipe, Trainer};
use onward_mpi::Job;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

/// The folder that ranks write to, what they do, and how many replicas of each block there are: set by the test that starts
/// them.
const FOLDER: &str = "ONWARD_TEST_FOLDER";
const TASK: &str = "ONWARD_TEST_TASK";
const REPLICAS: &str = "ONWARD_TEST_REPLICAS";

/// Recipes that replicas are tried with: the library's own tests try them all, on threads.
const FEW: [&str; 3] = ["many layers, dropout", "adam", "hard, delay 1"];

/// Starts this program as so many ranks.
fn ranks(count: usize, task: &str, folder: &Path) -> Output {
    replicas(count, 1, task, folder)
}

/// The same with so many replicas of each block.
fn replicas(count: usize, replicas: usize, task: &str, folder: &Path) -> Output {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--allow-run-as-root", "--oversubscribe", "-n", &count.to_string()]);
    // There may be more ranks than cores.
    mpirun.args(["--mca", "mpi_yield_when_idle", "1"]);
    mpirun.arg(std::env::current_exe().unwrap()).args(["--exact", "rank", "--nocapture"]);
    // Containers do not let processes read each other's memory.
    mpirun.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    mpirun.env(FOLDER, folder).env(TASK, task).env("RAYON_NUM_THREADS", "1");
    mpirun.env(REPLICAS, replicas.to_string());
    mpirun.output().expect("mpirun can be started: Debian's openmpi-bin has it")
}

fn succeed(output: &Output) {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

fn fit(trainer: &mut Trainer, line: Option<&mut onward_mpi::Ranks<'_>>) -> onward::Result<()> {
    let data = patterns(150);
    let mut watch = |_: Event<'_>, _: &Trainer| Flow::Continue;
    match line {
        Some(line) => trainer.fit_along(line, &data, &mut watch),
        None => trainer.fit(&data, &mut watch),
    }
}

fn save(trainer: &Trainer, path: &Path) {
    trainer.save(path, &BTreeMap::new()).unwrap();
}

/// A rate that no training survives.
fn wild() -> Recipe {
    let mut wild = recipe(Precision::F32, &[16, 16, 16]);
    wild.negatives.kind = NegativesKind::Uniform;
    (wild.optimizer.rate, wild.optimizer.weight_cost, wild.training.epochs) = (10.0, 10.0, 1000);
    wild
}

/// What the processes of a job do; nothing where this is just one of the tests.
#[test]
fn rank() {
    let (Some(folder), Ok(task)) = (std::env::var_os(FOLDER), std::env::var(TASK)) else { return };
    let folder = Path::new(&folder);
    let mut job = Job::join().unwrap();
    if task == "pieces" {
        job.set_piece(1000);
    }
    assert_eq!(job.ranks_here(), job.ranks());
    assert!(job.divide(job.ranks() + 1).unwrap_err().to_string().contains("cannot be divided"));
    job.divide(std::env::var(REPLICAS).unwrap().parse().unwrap()).unwrap();
    if job.rank() > 0 {
        return job.serve().unwrap();
    }
    let ranks = job.ranks();
    let mut line = job.line(usize::MAX, &|| false);
    let trainer = |recipe| Trainer::new(pipelined(recipe, 0), &patterns(150)).unwrap();
    if task == "diverge" {
        let mut trainer = trainer(wild());
        let error = fit(&mut trainer, Some(&mut line)).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        assert_eq!(trainer.network().depth(), 3, "the network is whole");
        return std::fs::write(folder.join("error"), error.to_string()).unwrap();
    }
    for (i, (name, recipe)) in recipes().into_iter().enumerate() {
        if task == "all" || (task == "few" && FEW.contains(&name)) || name == "adam" {
            let mut trainer = trainer(recipe);
            fit(&mut trainer, Some(&mut line)).unwrap();
            assert!(trainer.occupancy().unwrap().blocks.len() <= ranks);
            save(&trainer, &folder.join(format!("{i}-{ranks}")));
        }
    }
}

#[test]
fn the_bits_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (i, (_, recipe)) in recipes().into_iter().enumerate() {
        let mut alone = Trainer::new(recipe, &patterns(150)).unwrap();
        fit(&mut alone, None).unwrap();
        save(&alone, &folder.join(i.to_string()));
    }
    for ranks in [1, 2, 3, 4] {
        succeed(&self::ranks(ranks, "all", folder));
        for (i, (name, _)) in recipes().into_iter().enumerate() {
            let (one, other) = (folder.join(i.to_string()), folder.join(format!("{i}-{ranks}")));
            assert_eq!(different_tensors(&one, &other).unwrap(), [""; 0], "{name}, {ranks} ranks");
        }
    }
    // Messages in many pieces.
    let adam = recipes().iter().position(|(name, _)| *name == "adam").unwrap();
    let (one, other) = (folder.join(adam.to_string()), folder.join(format!("{adam}-2")));
    std::fs::remove_file(&other).unwrap();
    succeed(&self::ranks(2, "pieces", folder));
    assert_eq!(different_tensors(&one, &other).unwrap(), [""; 0]);
}

#[test]
fn divergence_is_said_as_on_one_process() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&ranks(3, "diverge", folder.path()));
    let expected = fit(&mut Trainer::new(wild(), &patterns(150)).unwrap(), None).unwrap_err();
    assert_eq!(std::fs::read_to_string(folder.path().join("error")).unwrap(), expected.to_string());
}

/// The largest difference between numbers of two checkpoints, in parts of 1 or of their tensor's largest.
fn difference(a: &Path, b: &Path) -> f64 {
    let [a, b] = [a, b].map(|path| Trainer::load(path).unwrap());
    let tensors = |trainer: &Trainer| -> Vec<Tensor> {
        let network = trainer.network();
        let layers = network.stages().iter().flat_map(|stage| stage.layer.tensors());
        let head = network.head().into_iter().flat_map(|head| head.parts().flat_map(|(_, part)| part.tensors()));
        layers.chain(head).collect()
    };
    let mut most = 0.0f64;
    for (a, b) in tensors(&a).iter().zip(tensors(&b)) {
        let (Numbers::F32(a), Numbers::F32(b)) = (&a.numbers, &b.numbers) else { panic!("not in single precision") };
        let size = a.iter().fold(1.0f32, |size, x| size.max(x.abs()));
        most = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs() / size)).fold(most, f64::max);
    }
    most
}

#[test]
fn replicas_learn_what_one_process_learns() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let few: Vec<_> = recipes().into_iter().enumerate().filter(|(_, (name, _))| FEW.contains(name)).collect();
    for (i, (_, recipe)) in &few {
        let mut alone = Trainer::new(recipe.clone(), &patterns(150)).unwrap();
        fit(&mut alone, None).unwrap();
        save(&alone, &folder.join(i.to_string()));
    }
    for (ranks, replicas) in [(2, 2), (4, 2), (3, 3)] {
        let mut before = Vec::new();
        for _ in 0..2 {
            succeed(&self::replicas(ranks, replicas, "few", folder));
            let mut bits = Vec::new();
            for (i, (name, _)) in &few {
                let (one, other) = (folder.join(i.to_string()), folder.join(format!("{i}-{ranks}")));
                let most = difference(&one, &other);
                assert!(most < 1e-5, "{name}, {ranks} ranks, {replicas} replicas: {most:e}");
                bits.push(std::fs::read(other).unwrap());
            }
            assert!(before.is_empty() || before == bits, "{ranks} ranks end in the same bits each time");
            before = bits;
        }
    }
}

#[test]
fn divergence_in_one_replica_is_said_as_on_one_process() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&replicas(4, 2, "diverge", folder.path()));
    let found = std::fs::read_to_string(folder.path().join("error")).unwrap();
    assert!(found.contains("training has diverged"), "{found}");
}
