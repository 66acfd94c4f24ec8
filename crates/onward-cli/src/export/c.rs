//! C99: one header, weights as constants, memory of its own; nothing is allocated.

use super::{Activation, Described, Does, IN_TIME, Layer, Of, Then, steps};
use onward::Readout;
use onward::normalize::TINY;
use onward::settings::{LabelPlace, Normalization};
use std::fmt::{Display, Write};

/// What every header has; `@` stands for the name.
const FUNCTIONS: &str = "\
/* The sum of products, in eight parts: as many as a vector holds. */
static inline float @_dot(const float *w, const float *x, int32_t n) {
    float part[8] = {0}, sum = 0;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int32_t j = 0; j < 8; j++) part[j] += w[i + j] * x[i + j];
    for (; i < n; i++) sum += w[i] * x[i];
    for (int32_t j = 0; j < 8; j++) sum += part[j];
    return sum;
}

/* What each unit makes of W x + b; w: (outputs, inputs). */
static inline void @_dense(const float *w, const float *b, const float *x, int32_t inputs, float *y, int32_t outputs) {
    for (int32_t o = 0; o < outputs; o++) y[o] = @_activation(@_dot(w + (int64_t)o * inputs, x, inputs) + b[o]);
}

/* The same at each place, of what it sees: see: (places, length), -1 for a 0. Places may share their weights. */
static inline void @_fields(const float *w, const float *b, const int32_t *see, const float *x, int32_t places,
                            int32_t length, float *y, int32_t channels, int shared) {
    for (int32_t p = 0; p < places; p++) {
        for (int32_t c = 0; c < channels; c++) {
            int32_t unit = shared ? c : p * channels + c;
            float sum = 0;
            for (int32_t i = 0; i < length; i++) {
                int32_t at = see[p * length + i];
                if (at >= 0) sum += w[(int64_t)unit * length + i] * x[at];
            }
            y[p * channels + c] = @_activation(sum + b[unit]);
        }
    }
}

/* Each value to the nearest multiple of step, from 0 to most. */
static inline void @_quantise(const float *x, int32_t n, float step, float most, float *y) {
    for (int32_t i = 0; i < n; i++) {
        float v = x[i] < 0 ? 0 : x[i] > most ? most : x[i];
        y[i] = (float)(int32_t)(v / step + 0.5f) * step;
    }
}

/* Only the direction goes up: the mean subtracted where centre is 1, divided by the root of the squares' mean or sum. */
static inline void @_normalise(float *y, int32_t n, int centre, int mean) {
    float sum = 0, squares;
    if (centre) {
        for (int32_t i = 0; i < n; i++) sum += y[i];
        for (int32_t i = 0; i < n; i++) y[i] -= sum / (float)n;
    }
    squares = @_dot(y, y, n);
    float scale = 1 / (TINYf + sqrtf(mean ? squares / (float)n : squares));
    for (int32_t i = 0; i < n; i++) y[i] *= scale;
}

static inline void @_squares(const float *y, int32_t n, float *squares) {
    for (int32_t i = 0; i < n; i++) squares[i] = y[i] * y[i];
}

/* Adds W z + b, what is read of a layer; w: (count, n). */
static inline void @_read(const float *w, const float *b, const float *z, int32_t n, float *scores, int32_t count) {
    for (int32_t k = 0; k < count; k++) scores[k] += @_dot(w + (int64_t)k * n, z, n) + b[k];
}

static inline void @_softmax(float *p) {
    float most = p[0], total = 0;
    for (int32_t k = 1; k < CLASSES; k++) if (p[k] > most) most = p[k];
    for (int32_t k = 0; k < CLASSES; k++) total += p[k] = expf(p[k] - most);
    for (int32_t k = 0; k < CLASSES; k++) p[k] /= total;
}
";

/// The header; names begin with `name`.
pub fn header(network: &Described, name: &str) -> Result<String, String> {
    if network.moments.is_some() {
        return Err(IN_TIME.into());
    }
    let (upper, classes) = (name.to_uppercase(), network.classes());
    let widest = network.layers.iter().map(|layer| layer.outputs).chain([network.sample_width()]).max().unwrap_or(1);
    let mut text = format!(
        "/* A network trained by Onward, read out {}. Needs C99, {}; allocates nothing.\n\n   \
         {name}_predict(x, probabilities): x holds {upper}_INPUTS values, {};\n   \
         probabilities receives {upper}_CLASSES numbers that sum to 1, in the order of {name}_class_names.\n   \
         Its working memory is static: one call at a time. */\n\n\
         #ifndef {upper}_H\n#define {upper}_H\n\n#include <math.h>\n#include <stdint.h>\n\n\
         #define {upper}_INPUTS {}\n#define {upper}_CLASSES {classes}\n#define {upper}_WIDEST {widest}\n\n",
        network.readout,
        match network.activation {
            Activation::Relu => "sqrtf and expf",
            Activation::StudentT { .. } => "sqrtf, expf and logf",
        },
        network.expects(),
        network.shape.len(),
    );
    let names: Vec<String> = network.classes.iter().map(|class| literal(class)).collect();
    let _ =
        writeln!(text, "static const char *const {name}_class_names[{upper}_CLASSES] = {{{}}};\n", names.join(", "));
    let mut array = |kind: &str, what: &str, l: usize, numbers: Vec<String>| {
        let _ = writeln!(text, "static const {kind} {name}_{what}{l}[{}] = {{", numbers.len());
        for line in numbers.chunks(12) {
            let _ = writeln!(text, "    {},", line.join(", "));
        }
        text.push_str("};\n\n");
    };
    for (l, layer) in network.layers.iter().enumerate() {
        match &layer.does {
            Does::Dense { weight, bias } => {
                array("float", "w", l, floats(weight));
                array("float", "b", l, floats(bias));
            }
            Does::Fields { weight, bias, index, .. } => {
                array("float", "w", l, floats(weight));
                array("float", "b", l, floats(bias));
                array("int32_t", "see", l, index.iter().map(i32::to_string).collect());
            }
            Does::Quantise { .. } => {}
        }
        if let Some(reading) = &layer.reading {
            array("float", "read_w", l, floats(&reading.weight));
            array("float", "read_b", l, floats(&reading.bias));
        }
    }
    let functions = FUNCTIONS.replace("CLASSES", &format!("{upper}_CLASSES")).replace("TINY", &format!("{TINY:?}"));
    text.push_str(&activation(network.activation).replace('@', name));
    text.push_str(&functions.replace('@', name));
    text.push_str(&show(network).replace('@', name));
    let mut predict = match network.readout {
        Readout::OnePass | Readout::ClassScores => one_pass(network),
        Readout::EveryLabel => every_label(network),
    };
    for size in ["CLASSES", "WIDEST"] {
        predict = predict.replace(size, &format!("{upper}_{size}"));
    }
    text.push_str(&predict.replace('@', name));
    let _ = writeln!(text, "\n#endif");
    Ok(text)
}

/// What a unit makes of its inputs' sum.
fn activation(kind: Activation) -> String {
    let body = match kind {
        Activation::Relu => "return a > 0 ? a : 0;".into(),
        Activation::StudentT { factor, inverse } => format!("return {factor:?}f * logf(1 + {inverse:?}f * (a * a));"),
    };
    format!("static inline float @_activation(float a) {{\n    {body}\n}}\n\n")
}

/// Numbers that are read back as the same bits.
fn floats(numbers: &[f32]) -> Vec<String> {
    numbers.iter().map(|x| format!("{x:?}f")).collect()
}

/// A string as C has it.
fn literal(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", byte as char),
        b' '..=b'~' if byte != b'?' => (byte as char).to_string(),
        _ => format!("\\{byte:03o}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}

/// The function that lays out a sample with its label.
fn show(network: &Described) -> String {
    let (inputs, classes, strength) = (network.shape.len(), network.label_width(), network.label_strength);
    let start = if network.label == LabelPlace::Prepend { classes } else { 0 };
    let mut text = format!(
        "\n/* A sample as the first layer reads it, with a label; -1: no label more than another. */\n\
         static inline void @_show(const float *x, int32_t label, float *y) {{\n    \
         for (int32_t i = 0; i < {inputs}; i++) y[i + {start}] = x[i];\n"
    );
    if classes > 0 {
        let neutral = strength / classes as f32;
        let _ = writeln!(
            text,
            "    for (int32_t k = 0; k < {classes}; k++) y[k] = label < 0 ? {neutral:?}f : k == label ? {strength:?}f : 0;"
        );
    }
    text.push_str("    (void)label;\n");
    normalise(&mut text, "    ", network.input_normalization, "y", network.sample_width());
    text + "}\n"
}

fn normalise(text: &mut String, indent: &str, kind: Normalization, y: &str, n: impl Display) {
    if let Some((centre, mean)) = steps(kind) {
        let _ = writeln!(text, "{indent}@_normalise({y}, {n}, {}, {});", i32::from(centre), i32::from(mean));
    }
}

const PREDICT: &str = "
/* x: the inputs; probabilities: one of each class. */
static inline void @_predict(const float *x, float *probabilities) {
    static float a[WIDEST], b[WIDEST];
";

/// Layer after layer, and what is read of each added to `count` scores at `to`.
fn layers(network: &Described, indent: &str, (to, count): (&str, &str)) -> String {
    let mut text = String::new();
    let (mut x, mut y) = ("a", "b");
    for (l, layer) in network.layers.iter().enumerate() {
        let Layer { inputs, outputs, .. } = layer;
        let _ = match &layer.does {
            Does::Dense { .. } => writeln!(text, "{indent}@_dense(@_w{l}, @_b{l}, {x}, {inputs}, {y}, {outputs});"),
            Does::Fields { places, length, shared, .. } => writeln!(
                text,
                "{indent}@_fields(@_w{l}, @_b{l}, @_see{l}, {x}, {places}, {length}, {y}, {}, {});",
                outputs / places,
                i32::from(*shared)
            ),
            Does::Quantise { step, most } => {
                writeln!(text, "{indent}@_quantise({x}, {inputs}, {step:?}f, {most:?}f, {y});")
            }
        };
        for step in network.then(l) {
            match step {
                // What the layer has read is needed no more.
                Then::Square => {
                    let _ = writeln!(text, "{indent}@_squares({y}, {outputs}, {x});");
                }
                Then::Normalize => normalise(&mut text, indent, network.normalization, y, outputs),
                Then::Read(of) => {
                    let z = if of == Of::Squares { x } else { y };
                    let _ = writeln!(text, "{indent}@_read(@_read_w{l}, @_read_b{l}, {z}, {outputs}, {to}, {count});");
                }
            }
        }
        (x, y) = (y, x);
    }
    text
}

fn one_pass(network: &Described) -> String {
    let body = layers(network, "    ", ("probabilities", "CLASSES"));
    format!(
        "{PREDICT}    for (int32_t k = 0; k < CLASSES; k++) probabilities[k] = 0;\n    @_show(x, -1, a);\n{body}    \
         @_softmax(probabilities);\n}}\n"
    )
}

fn every_label(network: &Described) -> String {
    let body = layers(network, "        ", ("&score", "1"));
    format!(
        "{PREDICT}    for (int32_t label = 0; label < CLASSES; label++) {{\n        float score = 0;\n        \
         @_show(x, label, a);\n{body}        probabilities[label] = score;\n    }}\n    @_softmax(probabilities);\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_numbers_as_c_reads_them() {
        assert_eq!(literal("a \"b\\\" ??/ é"), r#""a \"b\\\" \077\077/ \303\251""#);
        assert_eq!(floats(&[0.1, -1.0, 1e-10, 3e20]), ["0.1f", "-1.0f", "1e-10f", "3e20f"]);
    }
}
