//! Some bytes, handed to each reader that takes its input for hostile, as a fuzzer would;
//! `crates/onward-cli/tests/hostile.rs` does so with every file of `fuzz/corpus`.

use onward::checkpoint::Info;
use onward::train::stream::Learner;
use onward::{Dataset, Network, Trainer, Values};
use onward_data::records::{Columns, Format, LabelColumn, Next, Record, Records};
use std::path::{Path, PathBuf};

/// What is done with some bytes.
pub type Driver = fn(&[u8]);

/// All of them, as the folders of the corpus are called.
pub const DRIVERS: [(&str, Driver); 12] = [
    ("idx", idx),
    ("cifar", cifar),
    ("csv", csv),
    ("npy", npy),
    ("npz", npz),
    ("image", image),
    ("settings", settings),
    ("checkpoint", checkpoint),
    ("stream_checkpoint", stream_checkpoint),
    ("records_csv", records_csv),
    ("records_json", records_json),
    ("records_frames", records_frames),
];

thread_local! {
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder for files");
}

/// A file of this name with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join(name));
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("its folder");
    std::fs::write(&path, bytes).expect("its contents");
    path
}

/// Opens a data set; what is read must be whole.
fn open(name: &str, bytes: &[u8]) {
    if let Ok(loaded) = onward_data::open(&file(name, bytes)) {
        let mut sample = vec![0.0; loaded.train.shape().len()];
        loaded.train.read(loaded.train.len() - 1, &mut sample);
        assert!(sample.iter().all(|x| x.is_finite()));
    }
}

pub fn idx(bytes: &[u8]) {
    open("train-images-idx3-ubyte", bytes);
    // The same as labels of one image.
    file("pair/train-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7]);
    let labels = file("pair/train-labels-idx1-ubyte", bytes);
    let _ = onward_data::open(labels.parent().expect("its folder"));
}

pub fn cifar(bytes: &[u8]) {
    open("data.bin", bytes);
}

pub fn csv(bytes: &[u8]) {
    open("data.csv", bytes);
    let _ = onward_data::open_samples(&file("samples.csv", bytes), onward::Shape::features(2));
}

pub fn npy(bytes: &[u8]) {
    open("data.npy", bytes);
}

pub fn npz(bytes: &[u8]) {
    open("data.npz", bytes);
}

pub fn image(bytes: &[u8]) {
    let image = file("images/class/image.png", bytes);
    let _ = onward_data::open(&FOLDER.with(|folder| folder.path().join("images")));
    for channels in [1, 3] {
        let _ = onward_data::read_images(std::slice::from_ref(&image), onward::Shape::image(channels, 28, 28), true);
    }
}

pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(given) = crate::settings::parse_file(text, "some.toml")
        && let Ok(experiment) = crate::experiment::Experiment::from_settings(given)
    {
        // What is accepted can be written down and read again.
        let again = crate::settings::parse_file(&experiment.document(), "some.toml").expect("its own document");
        assert_eq!(crate::experiment::Experiment::from_settings(again).expect("its own settings"), experiment);
    }
}

pub fn checkpoint(bytes: &[u8]) {
    let path = file("checkpoint.safetensors", bytes);
    let _ = Info::read(&path);
    let _ = Trainer::load(&path);
    // What is loaded can be used; a small network, for it is about errors and not about time.
    if let Ok(network) = Network::load(&path)
        && network.parameters() < 2_000
        && network.recipe().recurrent.iterations < 20
    {
        let values = Values::Floats(vec![0.5; network.shape().len()]);
        let sample = Dataset::new(network.shape(), values, vec![], vec![]).expect("one sample without a label");
        for readout in network.readouts() {
            let _ = network.predict(&sample, readout);
        }
    }
}

pub fn stream_checkpoint(bytes: &[u8]) {
    if let Ok((mut learner, _)) = Learner::load(file("stream.safetensors", bytes)) {
        let record = vec![0.5; learner.features()];
        let _ = learner.observe(&record);
    }
}

pub fn records_csv(bytes: &[u8]) {
    follow(bytes, Format::Csv(b','));
}

pub fn records_json(bytes: &[u8]) {
    follow(bytes, Format::Json);
}

pub fn records_frames(bytes: &[u8]) {
    follow(bytes, Format::Npy);
    follow(bytes, Format::Raw(3));
}

/// Reads records to the end, of which there can be no more than bytes.
fn follow(bytes: &[u8], format: Format) {
    let columns = Columns { label: LabelColumn::Auto, ..Columns::default() };
    let mut records = Records::new("some records", bytes, format, columns);
    let mut record = Record::default();
    for _ in 0..bytes.len() + 2 {
        match records.next(&mut record) {
            Ok(Next::Record) => assert_eq!(record.values.len(), records.features().len()),
            Ok(Next::Skipped(_) | Next::Stalled) => {}
            Ok(Next::End) | Err(_) => return,
        }
    }
    panic!("it does not end");
}
