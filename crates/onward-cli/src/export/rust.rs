//! Rust: one module, `core` alone, weights as constant bytes.

use super::program::{Call, Place, Program};
use super::{Activation, Described, Does, steps};
use onward::Readout;
use onward::normalize::TINY;
use onward::settings::LabelPlace;
use std::fmt::Write;

/// What every module has.
const FUNCTIONS: &str = r#"
/// Number `i` of constant bytes.
#[inline]
fn at(numbers: &[u8], i: usize) -> f32 {
    f32::from_bits(bits(numbers, i))
}

#[inline]
fn bits(numbers: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([numbers[4 * i], numbers[4 * i + 1], numbers[4 * i + 2], numbers[4 * i + 3]])
}

/// The sum of products with the numbers of `w` from `first` on, in eight parts: as many as a vector holds.
#[inline]
fn dot(w: &[u8], first: usize, x: &[f32]) -> f32 {
    let w = &w[4 * first..4 * (first + x.len())];
    let whole = x.len() / 8 * 8;
    let mut parts = [0.0f32; 8];
    for (w, x) in w.chunks_exact(32).zip(x.chunks_exact(8)) {
        for j in 0..8 {
            parts[j] += at(w, j) * x[j];
        }
    }
    let rest: f32 = (whole..x.len()).map(|i| at(w, i) * x[i]).sum();
    parts.iter().sum::<f32>() + rest
}

/// The sum of squares, likewise.
fn sum_of_squares(y: &[f32]) -> f32 {
    let mut parts = [0.0f32; 8];
    let chunks = y.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|y| y * y).sum();
    for y in chunks {
        for j in 0..8 {
            parts[j] += y[j] * y[j];
        }
    }
    parts.iter().sum::<f32>() + rest
}

/// What each unit makes of `W x + b`, `w: (outputs, inputs)`.
fn dense(w: &[u8], b: &[u8], x: &[f32], y: &mut [f32]) {
    for (o, y) in y.iter_mut().enumerate() {
        *y = activation(dot(w, o * x.len(), x) + at(b, o));
    }
}

/// The same at each place, of what it sees: `see: (places, length)`, -1 for a 0. Places may share their weights.
fn fields(w: &[u8], b: &[u8], see: &[u8], x: &[f32], places: usize, length: usize, y: &mut [f32], shared: bool) {
    let channels = y.len() / places;
    for (o, y) in y.iter_mut().enumerate() {
        let (place, unit) = (o / channels, if shared { o % channels } else { o });
        let mut sum = 0.0;
        for i in 0..length {
            let from = bits(see, place * length + i) as i32;
            if from >= 0 {
                sum += at(w, unit * length + i) * x[from as usize];
            }
        }
        *y = activation(sum + at(b, unit));
    }
}

/// Each value to the nearest multiple of `step`, from 0 to `most`.
fn quantise(x: &[f32], step: f32, most: f32, y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = (x.clamp(0.0, most) / step + 0.5) as i32 as f32 * step;
    }
}

/// Only the direction goes up.
fn normalise(y: &mut [f32], centre: bool, mean: bool) {
    let n = y.len() as f32;
    if centre {
        let sum: f32 = y.iter().sum();
        y.iter_mut().for_each(|y| *y -= sum / n);
    }
    let squares = sum_of_squares(y);
    let scale = 1.0 / (TINY + square_root(if mean { squares / n } else { squares }));
    y.iter_mut().for_each(|y| *y *= scale);
}

fn squares(y: &[f32], squares: &mut [f32]) {
    for (square, y) in squares.iter_mut().zip(y) {
        *square = y * y;
    }
}

/// Adds `W z + b`, what is read of a layer, `w: (scores, n)`.
fn read(w: &[u8], b: &[u8], z: &[f32], scores: &mut [f32]) {
    for (k, score) in scores.iter_mut().enumerate() {
        *score += dot(w, k * z.len(), z) + at(b, k);
    }
}

fn softmax(p: &mut [f32; CLASSES]) {
    let most = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for p in p.iter_mut() {
        *p = exponential(*p - most);
        total += *p;
    }
    p.iter_mut().for_each(|p| *p /= total);
}

/// By Newton's method, from half the exponent; `core` has none.
fn square_root(x: f32) -> f32 {
    if x <= 0.0 {
        return 0.0;
    }
    let mut root = f32::from_bits((x.to_bits() >> 1) + 0x1fbd_1df5);
    for _ in 0..4 {
        root = 0.5 * (root + x / root);
    }
    root
}

/// `eˣ` of `x <= 0`: a power of two, and a series for the rest.
fn exponential(x: f32) -> f32 {
    if x < -87.0 {
        return 0.0;
    }
    let n = (x * core::f32::consts::LOG2_E - 0.5) as i32;
    let r = x - n as f32 * 0.693_359_4 + n as f32 * 2.121_944_4e-4;
    let series = 1.0 + r * (1.0 + r / 2.0 * (1.0 + r / 3.0 * (1.0 + r / 4.0 * (1.0 + r / 5.0 * (1.0 + r / 6.0)))));
    f32::from_bits(((n + 127) << 23) as u32) * series
}
"#;

/// The module.
pub fn module(network: &Described) -> String {
    let program = Program::of(network);
    let mut text = format!(
        "//! A network trained by Onward, read out {}. Needs `core` alone; its working memory, {} bytes, is on the stack.\n\n\
         #![allow(dead_code, clippy::all)]\n\n\
         /// Values that [`predict`] reads: {}.\npub const INPUTS: usize = {};\n\
         /// Classes that it tells apart.\npub const CLASSES: usize = {};\n\
         /// Their names.\npub static CLASS_NAMES: [&str; CLASSES] = {:?};\n\n\
         const TINY: f32 = {TINY:?};\n",
        network.readout,
        4 * program.numbers(),
        network.expects(),
        network.shape.len(),
        network.classes(),
        network.classes,
    );
    let mut array = |what: &str, l: usize, bytes: Vec<u8>| {
        let _ = write!(text, "\nstatic {what}{l}: [u8; {}] = *b\"", bytes.len());
        for line in bytes.chunks(32) {
            text.push_str("\\\n");
            line.iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
        }
        text.push_str("\";\n");
    };
    let floats = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    for (l, layer) in network.layers.iter().enumerate() {
        match &layer.does {
            Does::Dense { weight, bias } => {
                array("W", l, floats(weight));
                array("B", l, floats(bias));
            }
            Does::Fields { weight, bias, index, .. } => {
                array("W", l, floats(weight));
                array("B", l, floats(bias));
                array("SEE", l, index.iter().flat_map(|at| at.to_le_bytes()).collect());
            }
            Does::Quantise { .. } => {}
        }
        if let Some(reading) = &layer.reading {
            array("READ_W", l, floats(&reading.weight));
            array("READ_B", l, floats(&reading.bias));
        }
    }
    text.push_str(FUNCTIONS);
    text.push_str(&activation(network.activation));
    text.push_str(&show(network));
    text.push_str(&predict(network, &program));
    text
}

/// What Student's t-distribution needs.
const LOGARITHM: &str = "
/// The natural logarithm of `x >= 1`: the exponent, and a series for the mantissa, from √½ to √2.
fn logarithm(x: f32) -> f32 {
    let bits = x.to_bits() - 0x3f35_04f3;
    let m = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q / 9.0)));
    2.0 * s * series + (bits >> 23) as f32 * core::f32::consts::LN_2
}
";

/// What a unit makes of its inputs' sum.
fn activation(kind: Activation) -> String {
    let (before, body) = match kind {
        Activation::Relu => ("", "if a > 0.0 { a } else { 0.0 }".into()),
        Activation::StudentT { factor, inverse } => {
            (LOGARITHM, format!("{factor:?} * logarithm(1.0 + {inverse:?} * (a * a))"))
        }
    };
    format!("{before}\nfn activation(a: f32) -> f32 {{\n    {body}\n}}\n")
}

/// The function that lays out a sample with its label.
fn show(network: &Described) -> String {
    let (classes, strength) = (network.label_width(), network.label_strength);
    let start = if network.label == LabelPlace::Prepend { classes } else { 0 };
    let mut text = format!(
        "\n/// A sample as the first layer reads it, with a label; `None`: no label more than another.\n\
         fn show(x: &[f32; INPUTS], label: Option<usize>, y: &mut [f32]) {{\n    y[{start}..].copy_from_slice(x);\n"
    );
    if classes > 0 {
        let neutral = strength / classes as f32;
        let _ = writeln!(
            text,
            "    for k in 0..{classes} {{\n        y[k] = label.map_or({neutral:?}, |label| if k == label {{ {strength:?} }} \
             else {{ 0.0 }});\n    }}"
        );
    }
    text.push_str("    let _ = label;\n");
    if let Some((centre, mean)) = steps(network.input_normalization) {
        let _ = writeln!(text, "    normalise(y, {centre}, {mean});");
    }
    text + "}\n"
}

/// The function that does it all.
fn predict(network: &Described, program: &Program) -> String {
    let mut text = "
/// The probability of each class.
pub fn predict(x: &[f32; INPUTS], probabilities: &mut [f32; CLASSES]) {
"
    .to_owned();
    for (memory, numbers) in &program.memory {
        let _ = writeln!(text, "    let mut {} = [0.0f32; {numbers}];", memory.name());
    }
    match network.readout {
        Readout::EveryLabel => {
            text.push_str("    for k in 0..CLASSES {\n        let (label, mut score) = (Some(k), [0.0]);\n");
            text.push_str(&calls(network, program, "        ", "&mut score"));
            let _ = writeln!(text, "        probabilities[k] = score[0] / {:?};\n    }}", program.moments as f32);
        }
        _ => {
            text.push_str("    let label = None;\n    *probabilities = [0.0; CLASSES];\n");
            text.push_str(&calls(network, program, "    ", "probabilities"));
        }
    }
    text + "    softmax(probabilities);\n}\n"
}

fn calls(network: &Described, program: &Program, indent: &str, scores: &str) -> String {
    program.lines(indent, |times| format!("for _ in 0..{times}"), |call| spelled(network, call, scores))
}

fn spelled(network: &Described, call: Call, scores: &str) -> Option<String> {
    Some(match call {
        Call::Show(to) => format!("show(x, label, &mut {});", at(to)),
        Call::Answer { l, x, y } => answer(&network.layers[l].does, l, &at(x), &at(y)),
        Call::Squares { of, to } => format!("squares(&{}, &mut {});", at(of), at(to)),
        Call::Normalize(y) => {
            let (centre, mean) = steps(network.normalization)?;
            format!("normalise(&mut {}, {centre}, {mean});", at(y))
        }
        Call::Read { l, of } => format!("read(&READ_W{l}, &READ_B{l}, &{}, {scores});", at(of)),
        Call::Copy { of, to } => format!("{}.copy_from_slice(&{});", at(to), at(of)),
        Call::Clear(place) => format!("{}.fill(0.0);", at(place)),
        Call::Label { to, strength } => {
            let to = at(to);
            format!(
                "{to}.iter_mut().enumerate().for_each(|(k, y)| *y = if label == Some(k) {{ {strength:?} }} else {{ 0.0 }});"
            )
        }
        Call::Mix { state, answer, keep } => {
            let (state, answer, take) = (at(state), at(answer), 1.0 - keep);
            format!("{state}.iter_mut().zip(&{answer}).for_each(|(s, y)| *s = {keep:?} * *s + {take:?} * y);")
        }
    })
}

fn answer(does: &Does, l: usize, x: &str, y: &str) -> String {
    match does {
        Does::Dense { .. } => format!("dense(&W{l}, &B{l}, &{x}, &mut {y});"),
        Does::Fields { places, length, shared, .. } => {
            format!("fields(&W{l}, &B{l}, &SEE{l}, &{x}, {places}, {length}, &mut {y}, {shared});")
        }
        Does::Quantise { step, most } => format!("quantise(&{x}, {step:?}, {most:?}, &mut {y});"),
    }
}

/// Some numbers, as a slice.
fn at(place: Place) -> String {
    format!("{}[{}..{}]", place.memory.name(), place.from, place.from + place.len)
}
