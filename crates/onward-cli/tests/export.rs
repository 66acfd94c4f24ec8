//! `onward export`: what it writes is computed by others and compared with the library: ONNX by the interpreter below, which
//! shares no code with the writer, C and Rust by their compilers.

mod common;

use onward::settings::{
    ActivationKind, BlackBoxSettings, Fields, GoodnessKind, LabelPlace, LayerSettings, NegativesKind, Normalization,
    ObjectiveSettings, Precision,
};
use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

const SHAPE: Shape = Shape::image(2, 6, 6);
const CLASSES: usize = 3;
const SAMPLES: usize = 60;

/// Noise with one bright row, by class.
fn data() -> Dataset {
    let mut state = 7u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for n in 0..SAMPLES {
        labels.push((n % CLASSES) as u32);
        values.extend((0..SHAPE.len()).map(|at| random() * if at / 6 % 3 == n % CLASSES { 1.0 } else { 0.4 }));
    }
    let names = ["one", "\"two\"", "drei ½"].map(String::from).to_vec();
    Dataset::new(SHAPE, Values::Floats(values), labels, names).unwrap()
}

fn fields(channels: usize, field: usize, stride: usize, pad: usize) -> Fields {
    Fields { channels, field, stride, pad }
}

/// Networks of every kind that can be exported: name and recipe.
fn recipes() -> Vec<(&'static str, Recipe)> {
    let of = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe::default();
        recipe.network.layers = vec![12.into(), 9.into(), 7.into()];
        recipe.training.epochs = 3;
        recipe.training.batch = 10;
        recipe.optimizer.rate = 0.05;
        change(&mut recipe);
        recipe
    };
    vec![
        ("dense", of(|_| {})),
        (
            "mean of squares, prepended, length",
            of(|r| {
                r.goodness.kind = GoodnessKind::MeanOfSquares;
                r.goodness.temperature = 0.5;
                r.network.label = LabelPlace::Prepend;
                r.network.label_strength = 2.0;
                r.network.normalization = Normalization::Length;
            }),
        ),
        (
            "sum, lowered, layer norm, double precision",
            of(|r| {
                r.goodness.kind = GoodnessKind::Sum;
                r.goodness.raise = false.into();
                r.network.normalization = Normalization::Layer;
                r.network.input_normalization = Normalization::Layer;
                r.engine.precision = Precision::Reference;
            }),
        ),
        (
            "local",
            of(|r| {
                r.network.layers =
                    vec![LayerSettings::Local(fields(5, 3, 2, 1)), LayerSettings::Local(fields(4, 2, 1, 0)), 6.into()];
                r.network.label = LabelPlace::Prepend;
            }),
        ),
        (
            "few channels, unnormalised input",
            of(|r| {
                r.network.layers =
                    vec![LayerSettings::Local(fields(2, 3, 1, 1)), LayerSettings::Local(fields(2, 3, 1, 1))];
                r.network.input_normalization = Normalization::None;
                // Sums of squares would be so large here that single precision is not enough for 1e-5.
                r.goodness.kind = GoodnessKind::MeanOfSquares;
            }),
        ),
        (
            "convolution",
            of(|r| {
                r.network.layers =
                    vec![LayerSettings::Conv(fields(5, 3, 1, 1)), LayerSettings::Conv(fields(4, 3, 2, 1))];
                r.network.label = LabelPlace::Prepend;
            }),
        ),
        (
            "quantiser",
            of(|r| {
                let quantiser = LayerSettings::BlackBox(BlackBoxSettings::Quantiser { levels: 9 });
                r.network.layers = vec![12.into(), quantiser, 8.into()];
            }),
        ),
        (
            "no labels inside",
            of(|r| {
                r.network.label = LabelPlace::None;
                r.negatives.kind = NegativesKind::Hybrid;
            }),
        ),
        (
            "backpropagation",
            of(|r| {
                r.rule = onward::settings::Rule::Backprop;
                r.network.label = LabelPlace::None;
            }),
        ),
        (
            "groups that raise beside groups that lower",
            of(|r| {
                r.network.layers = vec![LayerSettings::Local(fields(6, 3, 2, 1)), 12.into(), 8.into()];
                r.network.label = LabelPlace::Prepend;
                r.goodness.kind = GoodnessKind::MeanOfSquares;
                (r.goodness.groups, r.goodness.raise) = (2, onward::settings::Raise(0.5));
                r.goodness.by_location = true;
            }),
        ),
        (
            "a group for each class",
            of(|r| {
                r.objective = ObjectiveSettings::PerClass;
                (r.network.layers, r.network.label) = (vec![12.into(), 9.into(), 6.into()], LabelPlace::None);
                r.goodness.temperature = 2.0;
            }),
        ),
        (
            "a sum for each class, no head",
            of(|r| {
                r.objective = ObjectiveSettings::PerClass;
                (r.network.layers, r.network.label) = (vec![12.into(), 9.into(), 6.into()], LabelPlace::None);
                (r.goodness.kind, r.head.enabled) = (GoodnessKind::Sum, false);
            }),
        ),
        (
            "a matrix of its own",
            of(|r| {
                r.objective = ObjectiveSettings::MonoForward;
                r.network.label = LabelPlace::None;
            }),
        ),
        (
            "student-t",
            of(|r| {
                (r.network.activation, r.network.freedom) = (ActivationKind::StudentT, 5.0);
                r.goodness.kind = GoodnessKind::MeanOfSquares;
            }),
        ),
        (
            "student-t, local",
            of(|r| {
                r.network.layers = vec![LayerSettings::Local(fields(5, 3, 2, 1)), 6.into()];
                r.network.label = LabelPlace::Prepend;
                r.network.activation = ActivationKind::StudentT;
                r.goodness.kind = GoodnessKind::Sum;
            }),
        ),
        (
            "recurrent",
            of(|r| {
                r.network.label = LabelPlace::Top;
                (r.recurrent.iterations, r.recurrent.first, r.recurrent.last) = (4, 2, 4);
            }),
        ),
        (
            "recurrent, one layer, sums from the first moment on",
            of(|r| {
                (r.network.layers, r.network.label) = (vec![12.into()], LabelPlace::Top);
                (r.goodness.kind, r.goodness.temperature) = (GoodnessKind::Sum, 0.5);
                (r.recurrent.iterations, r.recurrent.first, r.recurrent.last) = (3, 1, 3);
            }),
        ),
        (
            "recurrent, local",
            of(|r| {
                r.network.layers =
                    vec![LayerSettings::Local(fields(3, 3, 1, 1)), LayerSettings::Local(fields(4, 3, 2, 1))];
                r.network.label = LabelPlace::Top;
                (r.recurrent.iterations, r.recurrent.first, r.recurrent.last) = (4, 2, 3);
            }),
        ),
    ]
}

/// Trains a network a little, combines its readouts where it has both, and saves it.
fn trained(recipe: Recipe, folder: &Path) -> Network {
    let mut trainer = Trainer::new(recipe, &data()).unwrap();
    trainer.fit(&data(), &mut |_: Event<'_>, _: &Trainer| Flow::Continue).unwrap();
    let mut network = trainer.into_network();
    network.combine_readouts(&data()).unwrap();
    network.save(folder.join("a.safetensors")).unwrap();
    Network::load(folder.join("a.safetensors")).unwrap()
}

fn export(folder: &Path, arguments: &[&str]) -> Output {
    common::finished(folder, &[&["export", "a.safetensors"], arguments].concat())
}

fn exported(folder: &Path, readout: Readout, out: &str) -> Vec<u8> {
    let output = export(folder, &["--readout", &readout.to_string(), "--out", out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.join(out)).unwrap()
}

fn samples() -> Vec<f32> {
    match data().values() {
        Values::Floats(values) => values.clone(),
        Values::Bytes(_) => unreachable!("they are floats"),
    }
}

/// The largest difference of probabilities.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, |most, x| if x <= most { most } else { x })
}

#[test]
fn onnx_graphs_compute_what_the_library_computes() {
    for (name, recipe) in recipes() {
        let folder = tempfile::tempdir().unwrap();
        let network = trained(recipe, folder.path());
        for readout in network.readouts() {
            let file = exported(folder.path(), readout, "a.onnx");
            let model = onnx::Model::read(&file);
            assert_eq!(model.operators, 11);
            assert_eq!(model.metadata["classes"], r#"["one","\"two\"","drei ½"]"#);
            assert_eq!(model.metadata["shape"], "[2,6,6]");
            assert_eq!(model.metadata["readout"], readout.to_string());
            let (probabilities, labels) = model.run(SAMPLES, &samples());
            let expected = network.predict(&data(), readout).unwrap();
            let apart = apart(&probabilities, &expected.probabilities);
            assert!(apart < 1e-5, "{name}, {readout}: {apart}");
            assert!(
                labels.iter().enumerate().all(|(n, label)| *label as u32 == expected.label(n)),
                "{name}, {readout}"
            );
            let spread = expected.probabilities.iter().fold(0.0f32, |most, p| most.max((p - 1.0 / 3.0).abs()));
            assert!(spread > 0.01, "{name}, {readout}: it has learned nothing that could be compared");
        }
    }
}

/// Compiles a program, gives it the samples on its standard input, and reads the probabilities that it prints.
fn compiled(compiler: &mut Command, folder: &Path) -> Vec<f32> {
    let output = compiler.current_dir(folder).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(folder.join("program")).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(|p| p.parse().unwrap()).collect()
}

/// Every network and readout, its source written to `network.END` and compiled beside a program.
fn compare_compiled(end: &str, compile: impl Fn(&Path) -> Vec<f32>) {
    for (name, recipe) in recipes() {
        let folder = tempfile::tempdir().unwrap();
        let network = trained(recipe, folder.path());
        let bytes: Vec<u8> = samples().iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder.path().join("samples"), bytes).unwrap();
        for readout in network.readouts().into_iter().filter(|readout| *readout != Readout::Combined) {
            let out = format!("network.{end}");
            exported(folder.path(), readout, &out);
            let apart = apart(&compile(folder.path()), &network.predict(&data(), readout).unwrap().probabilities);
            assert!(apart < 1e-5, "{name}, {readout}: {apart}");
        }
    }
}

#[test]
fn c_headers_compute_what_the_library_computes() {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: there is no C compiler `cc` here");
        return;
    }
    let program = "#include \"network.h\"\n#include <stdio.h>\nint main(void) {\n    float x[NETWORK_INPUTS], p[NETWORK_CLASSES];\n    \
                   FILE *f = fopen(\"samples\", \"rb\");\n    \
                   while (fread(x, sizeof x, 1, f) == 1) {\n        network_predict(x, p);\n        \
                   for (int k = 0; k < NETWORK_CLASSES; k++) printf(\"%.9g\\n\", p[k]);\n    }\n    \
                   return network_class_names[1][0] != '\"';\n}\n";
    compare_compiled("h", |folder| {
        std::fs::write(folder.join("program.c"), program).unwrap();
        let strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1"];
        compiled(Command::new("cc").args(strict).args(["program.c", "-o", "program", "-lm"]), folder)
    });
}

#[test]
fn rust_modules_compute_what_the_library_computes() {
    let program = "mod network;\nuse std::io::Read;\nfn main() {\n    let mut f = std::fs::File::open(\"samples\").unwrap();\n    \
                   let (mut bytes, mut p) = ([0u8; 4 * network::INPUTS], [0.0; network::CLASSES]);\n    \
                   while f.read_exact(&mut bytes).is_ok() {\n        \
                   let x = std::array::from_fn(|i| f32::from_le_bytes(bytes[4 * i..][..4].try_into().unwrap()));\n        \
                   network::predict(&x, &mut p);\n        p.iter().for_each(|p| println!(\"{p}\"));\n    }\n    \
                   assert_eq!(network::CLASS_NAMES[1], \"\\\"two\\\"\");\n}\n";
    compare_compiled("rs", |folder| {
        std::fs::write(folder.join("program.rs"), program).unwrap();
        std::fs::write(folder.join("device.rs"), "#![no_std]\npub mod network;\n").unwrap();
        let rustc = || {
            let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
            rustc.current_dir(folder).args(["--edition=2021", "-Copt-level=1", "-Dwarnings"]);
            rustc
        };
        let device = rustc().args(["--crate-type=lib", "--emit=metadata", "device.rs"]).output().unwrap();
        assert!(device.status.success(), "{}", String::from_utf8_lossy(&device.stderr));
        compiled(rustc().arg("program.rs"), folder)
    });
}

/// By the program that most people will use. `ONWARD_PYTHON` names a Python that has it, if the usual one has not.
#[test]
fn onnxruntime_computes_what_the_library_computes() {
    let python = std::env::var_os("ONWARD_PYTHON").unwrap_or("python3".into());
    let has = Command::new(&python).args(["-c", "import onnxruntime, numpy"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no Python with onnxruntime here; set ONWARD_PYTHON");
        return;
    }
    let program = "import sys, numpy, onnxruntime\n\
                   x = numpy.fromfile('samples', dtype='<f4').reshape(-1, 2, 6, 6)\n\
                   session = onnxruntime.InferenceSession('network.onnx', providers=['CPUExecutionProvider'])\n\
                   p, label = session.run(['probabilities', 'label'], {'input': x})\n\
                   assert (p.argmax(axis=1) == label).all()\n\
                   print(*[repr(float(v)) for v in p.ravel()])\n";
    for (name, recipe) in recipes() {
        let folder = tempfile::tempdir().unwrap();
        let network = trained(recipe, folder.path());
        let bytes: Vec<u8> = samples().iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder.path().join("samples"), bytes).unwrap();
        for readout in network.readouts() {
            exported(folder.path(), readout, "network.onnx");
            let output = Command::new(&python).current_dir(folder.path()).args(["-c", program]).output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let found: Vec<f32> = text.split_whitespace().map(|p| p.parse().unwrap()).collect();
            let apart = apart(&found, &network.predict(&data(), readout).unwrap().probabilities);
            assert!(apart < 1e-5, "{name}, {readout}: {apart}");
        }
    }
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], says: &str| {
        let output = export(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(says), "{text}");
        assert!(!folder.path().join("a.onnx").exists());
    };
    for (settings, says) in [
        (BlackBoxSettings::Random, "layer 1 is a random black box, whose matrix"),
        (BlackBoxSettings::Binary, "layer 1 draws random numbers"),
        (BlackBoxSettings::Noise { deviation: 0.1 }, "layer 1 draws random numbers"),
    ] {
        let mut recipe = Recipe::default();
        recipe.network.layers = vec![8.into(), LayerSettings::BlackBox(settings), 8.into()];
        (recipe.training.epochs, recipe.training.batch) = (1, 20);
        trained(recipe, folder.path());
        refused(&["--out=a.onnx"], says);
    }
    let mut recipe = Recipe::default();
    (recipe.network.layers, recipe.training.epochs, recipe.training.batch) = (vec![8.into()], 1, 20);
    trained(recipe, folder.path());
    refused(&["--out=a.h", "--readout=combined"], "goes into .onnx alone: use --readout every-label or one-pass");
    let mut recipe = Recipe::default();
    recipe.network.layers = vec![8.into(), 8.into()];
    recipe.head.enabled = false;
    recipe.negatives.kind = NegativesKind::Uniform;
    (recipe.training.epochs, recipe.training.batch) = (1, 20);
    trained(recipe, folder.path());
    refused(&["--out=a.onnx", "--readout=one-pass"], "without the softmax head");
    refused(&["--out=a.onnx", "--readout=combined"], "without weights of both readouts");
    refused(&["--out=a.txt"], "a.txt: it ends in none of .onnx, .h and .rs: give a --format");
    let output = export(folder.path(), &["--out=a.txt", "--format=c"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("a.txt: every-label readout, ") && text.contains("It expects 2×6×6 values"), "{text}");
    assert!(std::fs::read_to_string(folder.path().join("a.txt")).unwrap().contains("#define A_INPUTS 72\n"));
}

#[test]
fn programs_stay_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::default();
    let process = onward::settings::ProcessSettings {
        command: vec!["cat".into()],
        outputs: 8,
        frames: Default::default(),
        timeout: 1.0,
    };
    recipe.network.layers = vec![8.into(), LayerSettings::BlackBox(BlackBoxSettings::Process(process)), 8.into()];
    let network = Network::new(recipe, SHAPE, data().classes()).unwrap();
    network.save(folder.path().join("a.safetensors")).unwrap();
    let output = export(folder.path(), &["--out=a.onnx"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("layer 1 is a program"), "{text}");
}

/// As much of ONNX as reading and computing these graphs takes, by the published formats alone, in double precision.
mod onnx {
    use super::HashMap;

    /// A field's value.
    enum Value<'a> {
        Int(i64),
        Bytes(&'a [u8]),
    }

    /// The fields of a message, by number.
    fn message(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Int(varint(&mut bytes) as i64),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(value)
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, value));
        }
        fields
    }

    fn all<'a>(fields: &[(u64, Value<'a>)], number: u64) -> Vec<&'a [u8]> {
        let bytes = |(n, value): &(u64, Value<'a>)| match value {
            Value::Bytes(bytes) if *n == number => Some(*bytes),
            _ => None,
        };
        fields.iter().filter_map(bytes).collect()
    }

    fn ints(fields: &[(u64, Value<'_>)], number: u64) -> Vec<i64> {
        let int = |(n, value): &(u64, Value<'_>)| match value {
            Value::Int(value) if *n == number => Some(*value),
            _ => None,
        };
        fields.iter().filter_map(int).collect()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[derive(Clone, Debug)]
    struct Array {
        shape: Vec<usize>,
        values: Vec<f64>,
    }

    struct Node {
        operator: String,
        inputs: Vec<String>,
        output: String,
        attributes: HashMap<String, Vec<i64>>,
    }

    pub struct Model {
        pub operators: i64,
        pub metadata: HashMap<String, String>,
        input: Vec<usize>,
        nodes: Vec<Node>,
        constants: HashMap<String, Array>,
    }

    impl Model {
        pub fn read(file: &[u8]) -> Model {
            let model = message(file);
            let graph = message(all(&model, 7)[0]);
            let pair = |bytes: &&[u8]| {
                let pair = message(bytes);
                (text(all(&pair, 1)[0]), text(all(&pair, 2)[0]))
            };
            let node = |bytes: &&[u8]| {
                let node = message(bytes);
                let attribute = |bytes: &&[u8]| {
                    let attribute = message(bytes);
                    let values = match ints(&attribute, 20)[..] {
                        [2] => ints(&attribute, 3),
                        [7] => ints(&attribute, 8),
                        _ => panic!("an attribute of another type"),
                    };
                    (text(all(&attribute, 1)[0]), values)
                };
                Node {
                    operator: text(all(&node, 4)[0]),
                    inputs: all(&node, 1).iter().map(|name| text(name)).collect(),
                    output: text(all(&node, 2)[0]),
                    attributes: all(&node, 5).iter().map(attribute).collect(),
                }
            };
            let constant = |bytes: &&[u8]| {
                let tensor = message(bytes);
                let raw = all(&tensor, 9)[0];
                let values = match ints(&tensor, 2)[..] {
                    [1] => raw.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                    [7] => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                    _ => panic!("a tensor of another type"),
                };
                let shape: Vec<usize> = ints(&tensor, 1).iter().map(|size| *size as usize).collect();
                (text(all(&tensor, 8)[0]), Array { shape, values })
            };
            let input = message(all(&graph, 11)[0]);
            assert_eq!(all(&input, 1), [b"input"]);
            let shape = message(all(&message(all(&message(all(&input, 2)[0]), 1)[0]), 2)[0]);
            let sizes: Vec<i64> = all(&shape, 1).iter().flat_map(|dim| ints(&message(dim), 1)).collect();
            Model {
                operators: ints(&message(all(&model, 8)[0]), 2)[0],
                metadata: all(&model, 14).iter().map(pair).collect(),
                input: sizes.iter().map(|size| *size as usize).collect(),
                nodes: all(&graph, 1).iter().map(node).collect(),
                constants: all(&graph, 5).iter().map(constant).collect(),
            }
        }

        /// Probabilities and labels of `n` samples.
        pub fn run(&self, n: usize, samples: &[f32]) -> (Vec<f32>, Vec<f64>) {
            let shape = [&[n], &self.input[..]].concat();
            let input = Array { shape, values: samples.iter().map(|x| f64::from(*x)).collect() };
            let mut known = self.constants.clone();
            known.insert("input".into(), input);
            for node in &self.nodes {
                let inputs: Vec<&Array> = node.inputs.iter().map(|name| &known[name]).collect();
                let answer = compute(node, &inputs);
                assert_eq!(answer.shape.iter().product::<usize>(), answer.values.len(), "{}", node.operator);
                assert!(known.insert(node.output.clone(), answer).is_none(), "{} is there twice", node.output);
            }
            let probabilities = &known["probabilities"];
            assert_eq!(probabilities.shape, [n, super::CLASSES]);
            (probabilities.values.iter().map(|p| *p as f32).collect(), known["label"].values.clone())
        }
    }

    /// Extents from the left, padded with ones: `(a, b, c)`.
    fn three(shape: &[usize]) -> [usize; 3] {
        let mut all = [1; 3];
        all[3 - shape.len()..].copy_from_slice(shape);
        all
    }

    fn broadcast(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
        let (sa, sb) = (three(&a.shape), three(&b.shape));
        let shape: Vec<usize> = (0..3)
            .map(|i| {
                assert!(sa[i] == sb[i] || sa[i] == 1 || sb[i] == 1, "{:?} and {:?}", a.shape, b.shape);
                sa[i].max(sb[i])
            })
            .collect();
        let at = |s: [usize; 3], i: [usize; 3]| {
            let [x, y, z] = std::array::from_fn(|d| if s[d] == 1 { 0 } else { i[d] });
            (x * s[1] + y) * s[2] + z
        };
        let mut values = Vec::new();
        for x in 0..shape[0] {
            for y in 0..shape[1] {
                values.extend((0..shape[2]).map(|z| f(a.values[at(sa, [x, y, z])], b.values[at(sb, [x, y, z])])));
            }
        }
        let rank = a.shape.len().max(b.shape.len());
        Array { shape: shape[3 - rank..].to_vec(), values }
    }

    /// `(M, K)·(K, N)` of each of some matrices.
    fn product(a: &Array, b: &Array) -> Array {
        let ([ba, m, k], [bb, kb, n]) = (three(&a.shape), three(&b.shape));
        assert!(k == kb && (ba == bb || bb == 1), "{:?} times {:?}", a.shape, b.shape);
        let mut values = Vec::new();
        for batch in 0..ba {
            let (a, b) = (&a.values[batch * m * k..], &b.values[if bb == 1 { 0 } else { batch * k * n }..]);
            for row in 0..m {
                values.extend((0..n).map(|column| (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum::<f64>()));
            }
        }
        Array { shape: if a.shape.len() == 2 { vec![m, n] } else { vec![ba, m, n] }, values }
    }

    fn compute(node: &Node, inputs: &[&Array]) -> Array {
        let x = inputs[0];
        let attribute = |name: &str| &node.attributes[name][..];
        let map =
            |f: fn(f64) -> f64| Array { shape: x.shape.clone(), values: x.values.iter().map(|x| f(*x)).collect() };
        let integers = |array: &Array| array.values.iter().map(|x| *x as i64).collect::<Vec<_>>();
        let rows = || x.values.chunks_exact(x.shape[1]);
        match node.operator.as_str() {
            "Relu" => map(|x| x.max(0.0)),
            "Floor" => map(f64::floor),
            "Sqrt" => map(f64::sqrt),
            "Log" => map(f64::ln),
            "Add" => broadcast(x, inputs[1], |a, b| a + b),
            "Sub" => broadcast(x, inputs[1], |a, b| a - b),
            "Mul" => broadcast(x, inputs[1], |a, b| a * b),
            "Div" => broadcast(x, inputs[1], |a, b| a / b),
            "Min" => broadcast(x, inputs[1], f64::min),
            "MatMul" => product(x, inputs[1]),
            "Gemm" => {
                assert_eq!(attribute("transB"), [1]);
                let [n, k] = inputs[1].shape[..] else { panic!("a matrix") };
                let b = onward::tensor::transposed(&inputs[1].values, n, k);
                let answer = product(x, &Array { shape: vec![k, n], values: b });
                inputs.get(2).map_or(answer.clone(), |c| broadcast(&answer, c, |a, b| a + b))
            }
            "Flatten" => {
                assert_eq!(attribute("axis"), [1]);
                Array { shape: vec![x.shape[0], x.shape[1..].iter().product()], values: x.values.clone() }
            }
            "Reshape" => {
                let shape = integers(inputs[1]);
                let known: i64 = shape.iter().filter(|size| **size > 0).product();
                let size = |size: &i64| if *size < 0 { x.values.len() / known as usize } else { *size as usize };
                Array { shape: shape.iter().map(size).collect(), values: x.values.clone() }
            }
            "Unsqueeze" => {
                assert_eq!(attribute("axes"), [1]);
                Array { shape: vec![x.shape[0], 1, x.shape[1]], values: x.values.clone() }
            }
            "Transpose" => {
                assert_eq!(attribute("perm"), [1, 0, 2]);
                let [a, b, c] = x.shape[..] else { panic!("three axes") };
                let row = |i: usize, j: usize| &x.values[(j * b + i) * c..][..c];
                let values = (0..b).flat_map(|i| (0..a).flat_map(move |j| row(i, j).to_vec())).collect();
                Array { shape: vec![b, a, c], values }
            }
            "Gather" => {
                assert_eq!(attribute("axis"), [1]);
                let index = integers(inputs[1]);
                let values = rows().flat_map(|row| index.iter().map(|i| row[*i as usize])).collect();
                Array { shape: vec![x.shape[0], index.len()], values }
            }
            "Concat" => {
                assert_eq!(attribute("axis"), [1]);
                let part = |array: &&Array, n: usize| array.values[n * array.shape[1]..][..array.shape[1]].to_vec();
                let values =
                    (0..x.shape[0]).flat_map(|n| inputs.iter().flat_map(move |array| part(array, n))).collect();
                Array { shape: vec![x.shape[0], inputs.iter().map(|array| array.shape[1]).sum()], values }
            }
            "Pad" => {
                let [0, before, 0, after] = integers(inputs[1])[..] else { panic!("rows are padded") };
                let (before, after) = (before as usize, after as usize);
                let values = rows().flat_map(|row| [&vec![0.0; before], row, &vec![0.0; after]].concat()).collect();
                Array { shape: vec![x.shape[0], before + x.shape[1] + after], values }
            }
            "ReduceSum" | "ReduceMean" => {
                assert_eq!((attribute("axes"), attribute("keepdims")), (&[1][..], &[1][..]));
                let by = if node.operator == "ReduceMean" { x.shape[1] as f64 } else { 1.0 };
                Array { shape: vec![x.shape[0], 1], values: rows().map(|row| row.iter().sum::<f64>() / by).collect() }
            }
            "Softmax" => {
                assert_eq!(attribute("axis"), [1]);
                let softmax = |row: &[f64]| {
                    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = row.iter().map(|x| (x - most).exp()).sum();
                    row.iter().map(|x| (x - most).exp() / total).collect::<Vec<_>>()
                };
                Array { shape: x.shape.clone(), values: rows().flat_map(softmax).collect() }
            }
            "ArgMax" => {
                assert_eq!((attribute("axis"), attribute("keepdims")), (&[1][..], &[0][..]));
                let best =
                    |row: &[f64]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as f64;
                Array { shape: vec![x.shape[0]], values: rows().map(best).collect() }
            }
            other => panic!("operator {other}"),
        }
    }
}
