//! ONNX: the network as a graph of operators that every runtime has (operator set 11).

use super::protobuf::Message;
use super::{Activation, Described, Does, Layer, Of};
use onward::normalize::TINY;
use onward::settings::{LabelPlace, Normalization, RecurrentSettings};
use onward::{Readout, Shape};
use std::collections::HashMap;

const IR_VERSION: i64 = 6;
const OPERATORS: i64 = 11;

// TensorProto.DataType
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// The largest file that readers of Protocol Buffers take.
const MOST_BYTES: usize = i32::MAX as usize;

/// A readout as a file: input `input`, outputs `probabilities` `(N, K)` and `label` `(N)`. Its scores are the weighted sum of
/// the parts' ([`parts`](super::parts)), which share all constants.
pub fn model(readout: Readout, parts: &[(f32, Described)]) -> Result<Vec<u8>, String> {
    let mut graph = Graph::default();
    let x = graph.node("Flatten", &["input"], &[("axis", Attribute::Int(1))]);
    let mut scores = None;
    for (weight, network) in parts {
        let mut part = match (network.readout, &network.moments) {
            (Readout::EveryLabel, None) => every_label(&mut graph, network, &x),
            (Readout::EveryLabel, Some(moments)) => every_label_in_time(&mut graph, network, moments, &x),
            _ => one_pass(&mut graph, network, &x),
        };
        if *weight != 1.0 {
            let weight = graph.floats(&[1], &[*weight]);
            part = graph.node("Mul", &[&part, &weight], &[]);
        }
        scores = Some(plus(&mut graph, scores, part));
    }
    let scores = scores.expect("a readout has a part");
    graph.named("Softmax", &[&scores], "probabilities", &[("axis", Attribute::Int(1))]);
    graph.named("ArgMax", &[&scores], "label", &[("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(0))]);
    let file = graph.file(readout, &parts[0].1);
    if file.len() > MOST_BYTES {
        return Err(format!("the graph would take {} bytes, but ONNX files end at {MOST_BYTES}", file.len()));
    }
    Ok(file)
}

/// Logits `(N, K)` that layers or the head make of a pass without a label.
fn one_pass(graph: &mut Graph, network: &Described, x: &str) -> String {
    let x = bottom(graph, network, x);
    upward(graph, network, x)
}

/// Scores `(R, S)`: layer after layer answers, and what is read of them is added up.
fn upward(graph: &mut Graph, network: &Described, mut x: String) -> String {
    let mut scores = None;
    for (l, layer) in network.layers.iter().enumerate() {
        let answer = answer(graph, network, layer, &x);
        if let Some(part) = read(graph, network, layer, &answer) {
            scores = Some(plus(graph, scores, part));
        }
        if l + 1 < network.layers.len() {
            x = normalized(graph, network.normalization, &answer);
        }
    }
    scores.expect("a layer is read")
}

/// Scores of every label `(N, K)`: each sample goes up as `K` rows.
fn every_label(graph: &mut Graph, network: &Described, x: &str) -> String {
    let x = room_for_label(graph, network, x);
    let rest = vec![0.0; network.sample_width() - network.label_width()];
    let codes: Vec<f32> = (0..network.classes()).flat_map(|k| [network.code(Some(k)), rest.clone()].concat()).collect();
    let rows = with_codes(graph, &x, &codes, network.classes());
    let rows = normalized(graph, network.input_normalization, &rows);
    let scores = upward(graph, network, rows);
    by_sample(graph, network, &scores)
}

/// The same of a recurrent network, its moments one after another.
fn every_label_in_time(graph: &mut Graph, network: &Described, moments: &RecurrentSettings, x: &str) -> String {
    let (layers, classes) = (&network.layers, network.classes());
    let repeated =
        |graph: &mut Graph, y: &str, width: usize| with_codes(graph, y, &vec![0.0; classes * width], classes);
    // One bottom-up pass, with nothing above any layer.
    let mut below = bottom(graph, network, x);
    let mut states = Vec::new();
    let mut width = network.sample_width();
    let input = repeated(graph, &below, width);
    for layer in layers {
        let input = padded(graph, &below, 0, layer.inputs - width);
        let state = answer(graph, network, layer, &input);
        below = normalized(graph, network.normalization, &state);
        width = layer.outputs;
        states.push(repeated(graph, &state, width));
    }
    let label = (network.label == LabelPlace::Top).then(|| {
        let strength = network.top_strength();
        let codes: Vec<f32> =
            (0..classes * classes).map(|i| if i / classes == i % classes { strength } else { 0.0 }).collect();
        let some = graph.ints(&vec![0; classes]);
        let values = graph.node("Gather", &[x, &some], &[("axis", Attribute::Int(1))]);
        let zero = graph.floats(&[1], &[0.0]);
        let zeros = graph.node("Mul", &[&values, &zero], &[]);
        with_codes(graph, &zeros, &codes, classes)
    });
    let (keep, take) = (graph.floats(&[1], &[moments.keep]), graph.floats(&[1], &[1.0 - moments.keep]));
    let mut scores = None;
    for moment in 1..=moments.last {
        let seen: Vec<String> = states.iter().map(|state| normalized(graph, network.normalization, state)).collect();
        for (l, layer) in layers.iter().enumerate() {
            let mut reads = vec![if l == 0 { input.as_str() } else { &seen[l - 1] }];
            reads.extend(seen.get(l + 1).or(label.as_ref()).map(String::as_str));
            let input = if reads.len() == 1 {
                reads[0].to_owned()
            } else {
                graph.node("Concat", &reads, &[("axis", Attribute::Int(1))])
            };
            let answer = answer(graph, network, layer, &input);
            if moment >= moments.first
                && let Some(score) = read(graph, network, layer, &answer)
            {
                scores = Some(plus(graph, scores, score));
            }
            let (old, new) = (graph.node("Mul", &[&states[l], &keep], &[]), graph.node("Mul", &[&answer, &take], &[]));
            states[l] = graph.node("Add", &[&old, &new], &[]);
        }
    }
    let count = graph.floats(&[1], &[(moments.last - moments.first + 1) as f32]);
    let mean = graph.node("Div", &[&scores.expect("a layer is read"), &count], &[]);
    by_sample(graph, network, &mean)
}

/// The first layer's input `(N, I)` with the neutral label, normalised.
fn bottom(graph: &mut Graph, network: &Described, x: &str) -> String {
    let mut x = room_for_label(graph, network, x);
    if network.label_width() > 0 {
        let rest = vec![0.0; network.sample_width() - network.label_width()];
        let code = graph.floats(&[1, network.sample_width()], &[network.code(None), rest].concat());
        x = graph.node("Add", &[&x, &code], &[]);
    }
    normalized(graph, network.input_normalization, &x)
}

/// Samples `(N, D)` with zeros where the label goes.
fn room_for_label(graph: &mut Graph, network: &Described, x: &str) -> String {
    match network.label {
        LabelPlace::Replace => {
            let (code, width) = (network.label_width(), network.sample_width());
            let keep: Vec<f32> = (0..width).map(|i| if i < code { 0.0 } else { 1.0 }).collect();
            let keep = graph.floats(&[1, width], &keep);
            graph.node("Mul", &[x, &keep], &[])
        }
        LabelPlace::Prepend => padded(graph, x, network.classes(), 0),
        LabelPlace::Top | LabelPlace::None => x.to_owned(),
    }
}

/// Zeros before and after each row.
fn padded(graph: &mut Graph, x: &str, before: usize, after: usize) -> String {
    if before + after == 0 {
        return x.to_owned();
    }
    let pads = graph.ints(&[0, before as i64, 0, after as i64]);
    graph.node("Pad", &[x, &pads], &[])
}

/// Every row once for each code, which is added: `(N, W)` and `codes: (K, W)` → `(N·K, W)`.
fn with_codes(graph: &mut Graph, x: &str, codes: &[f32], count: usize) -> String {
    let width = codes.len() / count;
    let codes = graph.floats(&[1, count, width], codes);
    let x = graph.node("Unsqueeze", &[x], &[("axes", Attribute::Ints(vec![1]))]);
    let all = graph.node("Add", &[&x, &codes], &[]);
    graph.reshape(&all, &[-1, width as i64])
}

/// Scores of rows `(N·K, 1)` → `(N, K)`.
fn by_sample(graph: &mut Graph, network: &Described, scores: &str) -> String {
    graph.reshape(scores, &[-1, network.classes() as i64])
}

/// What a layer answers `(R, O)`, before normalisation.
fn answer(graph: &mut Graph, network: &Described, layer: &Layer, x: &str) -> String {
    match &layer.does {
        Does::Dense { weight, bias } => {
            let (weight, bias) =
                (graph.floats(&[layer.outputs, layer.inputs], weight), graph.floats(&[layer.outputs], bias));
            let product = graph.node("Gemm", &[x, &weight, &bias], &[("transB", Attribute::Int(1))]);
            activation(graph, network.activation, &product)
        }
        Does::Fields { weight, bias, index, places, length, shared } => {
            let (places, length) = (*places, *length);
            let channels = layer.outputs / places;
            let seen = graph.ints(&index.iter().map(|at| i64::from(*at).max(0)).collect::<Vec<_>>());
            let mut fields = graph.node("Gather", &[x, &seen], &[("axis", Attribute::Int(1))]);
            // What is beyond the edge, or not there yet, is 0.
            if index.iter().any(|at| *at < 0) {
                let there: Vec<f32> = index.iter().map(|at| if *at < 0 { 0.0 } else { 1.0 }).collect();
                let there = graph.floats(&[1, places * length], &there);
                fields = graph.node("Mul", &[&fields, &there], &[]);
            }
            let fields = graph.reshape(&fields, &[-1, places as i64, length as i64]);
            let flat = [-1, layer.outputs as i64];
            let product = if *shared {
                let weight = onward::tensor::transposed(weight, channels, length);
                let (weight, bias) = (graph.floats(&[length, channels], &weight), graph.floats(&[channels], bias));
                let product = graph.node("MatMul", &[&fields, &weight], &[]);
                let product = graph.node("Add", &[&product, &bias], &[]);
                graph.reshape(&product, &flat)
            } else {
                let weight: Vec<f32> = weight
                    .chunks_exact(channels * length)
                    .flat_map(|place| onward::tensor::transposed(place, channels, length))
                    .collect();
                let turn = [("perm", Attribute::Ints(vec![1, 0, 2]))];
                let fields = graph.node("Transpose", &[&fields], &turn);
                let weight = graph.floats(&[places, length, channels], &weight);
                let product = graph.node("MatMul", &[&fields, &weight], &[]);
                let product = graph.node("Transpose", &[&product], &turn);
                let product = graph.reshape(&product, &flat);
                let bias = graph.floats(&[layer.outputs], bias);
                graph.node("Add", &[&product, &bias], &[])
            };
            activation(graph, network.activation, &product)
        }
        Does::Quantise { step, most } => {
            let (step, most, half) =
                (graph.floats(&[1], &[*step]), graph.floats(&[1], &[*most]), graph.floats(&[1], &[0.5]));
            let mut y = graph.node("Relu", &[x], &[]);
            for (operator, with) in [("Min", &most), ("Div", &step), ("Add", &half)] {
                y = graph.node(operator, &[&y, with], &[]);
            }
            y = graph.node("Floor", &[&y], &[]);
            graph.node("Mul", &[&y, &step], &[])
        }
    }
}

/// What units make of their inputs' sums.
fn activation(graph: &mut Graph, kind: Activation, a: &str) -> String {
    let Activation::StudentT { factor, inverse } = kind else { return graph.node("Relu", &[a], &[]) };
    let (factor, inverse, one) =
        (graph.floats(&[1], &[factor]), graph.floats(&[1], &[inverse]), graph.floats(&[1], &[1.0]));
    let mut y = graph.node("Mul", &[a, a], &[]);
    y = graph.node("Mul", &[&y, &inverse], &[]);
    y = graph.node("Add", &[&y, &one], &[]);
    y = graph.node("Log", &[&y], &[]);
    graph.node("Mul", &[&y, &factor], &[])
}

/// `y: (R, O)` as the next layer reads it.
fn normalized(graph: &mut Graph, kind: Normalization, y: &str) -> String {
    let rows = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(1))];
    let mut y = y.to_owned();
    if kind == Normalization::Layer {
        let mean = graph.node("ReduceMean", &[&y], &rows);
        y = graph.node("Sub", &[&y, &mean], &[]);
    }
    let reduce = match kind {
        Normalization::None => return y,
        Normalization::Length => "ReduceSum",
        Normalization::Rms | Normalization::Layer => "ReduceMean",
    };
    let squares = graph.node("Mul", &[&y, &y], &[]);
    let size = graph.node(reduce, &[&squares], &rows);
    let size = graph.node("Sqrt", &[&size], &[]);
    let tiny = graph.floats(&[1], &[TINY]);
    let size = graph.node("Add", &[&size, &tiny], &[]);
    graph.node("Div", &[&y, &size], &[])
}

/// What the readout makes of an answer: `(R, O)` → `(R, S)`; `None` where it does not read it.
fn read(graph: &mut Graph, network: &Described, layer: &Layer, answer: &str) -> Option<String> {
    let reading = layer.reading.as_ref()?;
    let z = match reading.of {
        Of::Activity => answer.to_owned(),
        Of::Squares => graph.node("Mul", &[answer, answer], &[]),
        Of::Normalized => normalized(graph, network.normalization, answer),
    };
    let scores = reading.bias.len();
    let (weight, bias) =
        (graph.floats(&[scores, layer.outputs], &reading.weight), graph.floats(&[scores], &reading.bias));
    Some(graph.node("Gemm", &[&z, &weight, &bias], &[("transB", Attribute::Int(1))]))
}

fn plus(graph: &mut Graph, sum: Option<String>, part: String) -> String {
    match sum {
        None => part,
        Some(sum) => graph.node("Add", &[&sum, &part], &[]),
    }
}

/// The value of an operator's attribute.
enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
}

/// Nodes in the order in which they are computed, and the constants that they read. What is equal is there once.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    /// What each operator answers, by all that it is computed from.
    answers: HashMap<Vec<u8>, String>,
    constants: Vec<Message>,
    /// Kind, extents and bytes of each constant.
    known: HashMap<(i64, Vec<usize>, Vec<u8>), String>,
}

impl Graph {
    /// An operator, and the name of what it answers.
    fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let key = Self::describe("", operator, inputs, attributes).into_bytes();
        if let Some(output) = self.answers.get(&key) {
            return output.clone();
        }
        let output = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        self.named(operator, inputs, &output, attributes);
        self.answers.insert(key, output.clone());
        output
    }

    fn named(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        self.nodes.push(Self::describe(output, operator, inputs, attributes));
    }

    fn describe(output: &str, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> Message {
        let attribute = |(name, value): &(&str, Attribute)| {
            let message = Message::default().bytes(1, name);
            match value {
                Attribute::Int(value) => message.int(3, *value).int(20, 2),
                Attribute::Ints(values) => message.each(values, |message, value| message.int(8, *value)).int(20, 7),
            }
        };
        let node = Message::default().each(inputs, |node, name| node.bytes(1, name)).bytes(2, output);
        node.bytes(3, output).bytes(4, operator).each(attributes, |node, with| node.message(5, attribute(with)))
    }

    fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.node("Reshape", &[x, &shape], &[])
    }

    fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        self.constant(FLOAT, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn ints(&mut self, values: &[i64]) -> String {
        self.constant(INT64, &[values.len()], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn constant(&mut self, kind: i64, shape: &[usize], bytes: Vec<u8>) -> String {
        let key = (kind, shape.to_vec(), bytes);
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        let tensor = Message::default().each(shape, |tensor, size| tensor.int(1, *size as i64));
        self.constants.push(tensor.int(2, kind).bytes(8, &name).bytes(9, &key.2));
        self.known.insert(key, name.clone());
        name
    }

    /// The whole file.
    fn file(self, readout: Readout, network: &Described) -> Vec<u8> {
        enum Size {
            Any(&'static str),
            Of(usize),
        }
        let value = |name: &str, kind: i64, shape: &[Size]| {
            let shape = Message::default().each(shape, |all, size| {
                all.message(
                    1,
                    match size {
                        Size::Any(name) => Message::default().bytes(2, name),
                        Size::Of(size) => Message::default().int(1, *size as i64),
                    },
                )
            });
            let tensor = Message::default().int(1, kind).message(2, shape);
            Message::default().bytes(1, name).message(2, Message::default().message(1, tensor))
        };
        let Shape { channels, height, width } = network.shape;
        let sample = match (channels, height) {
            (1, 1) => vec![Size::Any("N"), Size::Of(width)],
            _ => vec![Size::Any("N"), Size::Of(channels), Size::Of(height), Size::Of(width)],
        };
        let graph = Message::default()
            .each(self.nodes, |graph, node| graph.message(1, node))
            .bytes(2, "onward")
            .each(self.constants, |graph, constant| graph.message(5, constant))
            .message(11, value("input", FLOAT, &sample))
            .message(12, value("probabilities", FLOAT, &[Size::Any("N"), Size::Of(network.classes())]))
            .message(12, value("label", INT64, &[Size::Any("N")]));
        let metadata = [
            ("classes", serde_json::json!(network.classes).to_string()),
            ("shape", serde_json::json!([channels, height, width]).to_string()),
            ("expects", network.expects()),
            ("readout", readout.to_string()),
        ];
        Message::default()
            .int(1, IR_VERSION)
            .bytes(2, "onward")
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(7, graph)
            .message(8, Message::default().bytes(1, "").int(2, OPERATORS))
            .each(metadata, |model, (key, value)| model.message(14, Message::default().bytes(1, key).bytes(2, value)))
            .into_bytes()
    }
}
