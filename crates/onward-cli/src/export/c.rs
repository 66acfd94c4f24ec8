//! C99: one header, weights as constants, memory of its own; nothing is allocated.

use super::program::{Call, Place, Program};
use super::{Activation, Described, Does, Layer, steps};
use onward::Readout;
use onward::normalize::TINY;
use onward::settings::{LabelPlace, Normalization};
use std::fmt::Write;

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
pub fn header(network: &Described, name: &str) -> String {
    let (upper, classes, program) = (name.to_uppercase(), network.classes(), Program::of(network));
    let mut text = format!(
        "/* A network trained by Onward, read out {}. Needs C99, {}; allocates nothing.\n\n   \
         {name}_predict(x, probabilities): x holds {upper}_INPUTS values, {};\n   \
         probabilities receives {upper}_CLASSES numbers that sum to 1, in the order of {name}_class_names.\n   \
         Its working memory, {} bytes, is static: one call at a time. */\n\n\
         #ifndef {upper}_H\n#define {upper}_H\n\n#include <math.h>\n#include <stdint.h>\n\n\
         #define {upper}_INPUTS {}\n#define {upper}_CLASSES {classes}\n\n",
        network.readout,
        match network.activation {
            Activation::Relu => "sqrtf and expf",
            Activation::StudentT { .. } => "sqrtf, expf and logf",
        },
        network.expects(),
        4 * program.numbers(),
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
    text.push_str(&predict(network, &program).replace("CLASSES", &format!("{upper}_CLASSES")).replace('@', name));
    let _ = writeln!(text, "\n#endif");
    text
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
    if let Some(line) = normalise(network.input_normalization, "y", network.sample_width()) {
        let _ = writeln!(text, "    {line}");
    }
    text + "}\n"
}

fn normalise(kind: Normalization, y: &str, n: usize) -> Option<String> {
    steps(kind).map(|(centre, mean)| format!("@_normalise({y}, {n}, {}, {});", i32::from(centre), i32::from(mean)))
}

/// The function that does it all.
fn predict(network: &Described, program: &Program) -> String {
    let mut text = "\n/* x: the inputs; probabilities: one of each class. */\n\
                    static inline void @_predict(const float *x, float *probabilities) {\n"
        .to_owned();
    for (memory, numbers) in &program.memory {
        let _ = writeln!(text, "    static float {}[{numbers}];", memory.name());
    }
    match network.readout {
        Readout::EveryLabel => {
            text.push_str("    for (int32_t label = 0; label < CLASSES; label++) {\n        float score = 0;\n");
            text.push_str(&calls(network, program, "        ", "&score, 1"));
            let _ = writeln!(text, "        probabilities[label] = score / {};\n    }}", program.moments);
        }
        _ => {
            text.push_str("    const int32_t label = -1;\n");
            text.push_str("    for (int32_t k = 0; k < CLASSES; k++) probabilities[k] = 0;\n");
            text.push_str(&calls(network, program, "    ", "probabilities, CLASSES"));
        }
    }
    text + "    @_softmax(probabilities);\n}\n"
}

fn calls(network: &Described, program: &Program, indent: &str, scores: &str) -> String {
    let repeat = |times| format!("for (int32_t moment = 0; moment < {times}; moment++)");
    program.lines(indent, repeat, |call| spelled(network, call, scores))
}

fn spelled(network: &Described, call: Call, scores: &str) -> Option<String> {
    Some(match call {
        Call::Show(to) => format!("@_show(x, label, {});", at(to)),
        Call::Answer { l, x, y } => answer(&network.layers[l], l, x, y),
        Call::Squares { of, to } => format!("@_squares({}, {}, {});", at(of), of.len, at(to)),
        Call::Normalize(y) => return normalise(network.normalization, &at(y), y.len),
        Call::Read { l, of } => format!("@_read(@_read_w{l}, @_read_b{l}, {}, {}, {scores});", at(of), of.len),
        Call::Copy { of, to } => format!("for (int32_t i = 0; i < {}; i++) ({})[i] = ({})[i];", of.len, at(to), at(of)),
        Call::Clear(place) => format!("for (int32_t i = 0; i < {}; i++) ({})[i] = 0;", place.len, at(place)),
        Call::Label { to, strength } => {
            format!("for (int32_t k = 0; k < CLASSES; k++) ({})[k] = k == label ? {strength:?}f : 0;", at(to))
        }
        Call::Mix { state, answer, keep } => {
            let (n, state, answer, take) = (state.len, at(state), at(answer), 1.0 - keep);
            format!("for (int32_t i = 0; i < {n}; i++) {state}[i] = {keep:?}f * {state}[i] + {take:?}f * {answer}[i];")
        }
    })
}

fn answer(layer: &Layer, l: usize, x: Place, y: Place) -> String {
    let (Layer { inputs, outputs, .. }, x, y) = (layer, at(x), at(y));
    match &layer.does {
        Does::Dense { .. } => format!("@_dense(@_w{l}, @_b{l}, {x}, {inputs}, {y}, {outputs});"),
        Does::Fields { places, length, shared, .. } => {
            let (channels, shared) = (outputs / places, i32::from(*shared));
            format!("@_fields(@_w{l}, @_b{l}, @_see{l}, {x}, {places}, {length}, {y}, {channels}, {shared});")
        }
        Does::Quantise { step, most } => format!("@_quantise({x}, {inputs}, {step:?}f, {most:?}f, {y});"),
    }
}

/// Where some numbers start.
fn at(place: Place) -> String {
    if place.from == 0 { place.memory.name() } else { format!("{} + {}", place.memory.name(), place.from) }
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
