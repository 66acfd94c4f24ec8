//! A readout as one call after another on a working memory, for languages that are written so.

use super::{Described, Layer, Of};
use onward::Readout;
use onward::settings::RecurrentSettings;

/// What is done for a sample; where every label is tried, for each of them.
pub struct Program {
    pub memory: Vec<(Memory, usize)>,
    pub passes: Vec<Pass>,
    /// What the scores are divided by at last.
    pub moments: u32,
}

/// Calls that are made so many times.
pub struct Pass {
    pub times: u32,
    pub calls: Vec<Call>,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    /// The sample, label included and normalised.
    Show(Place),
    /// What layer `l` makes of `x: (I)` becomes `y: (O)`.
    Answer {
        l: usize,
        x: Place,
        y: Place,
    },
    Squares {
        of: Place,
        to: Place,
    },
    Normalize(Place),
    /// What is read of layer `l` is added to the scores.
    Read {
        l: usize,
        of: Place,
    },
    Copy {
        of: Place,
        to: Place,
    },
    Clear(Place),
    /// The label, as the highest layer hears it: `strength` at its place.
    Label {
        to: Place,
        strength: f32,
    },
    /// `state ← keep·state + (1 − keep)·answer`.
    Mix {
        state: Place,
        answer: Place,
        keep: f32,
    },
}

/// Some numbers of the working memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub memory: Memory,
    pub from: usize,
    pub len: usize,
}

/// A piece of the working memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Activities, in turns.
    A,
    B,
    /// What a layer of a recurrent network hears: first from below, then from above.
    Heard(usize),
    /// Its state.
    State(usize),
}

impl Memory {
    /// What it is called in C and in Rust.
    pub fn name(self) -> String {
        match self {
            Memory::A => "a".into(),
            Memory::B => "b".into(),
            Memory::Heard(l) => format!("heard{l}"),
            Memory::State(l) => format!("state{l}"),
        }
    }

    fn first(self, len: usize) -> Place {
        Place { memory: self, from: 0, len }
    }
}

impl Program {
    /// What `network` is read by.
    pub fn of(network: &Described) -> Self {
        match (network.readout, &network.moments) {
            (Readout::EveryLabel, Some(moments)) => in_time(network, moments),
            _ => upward(network),
        }
    }

    /// Its lines in a language with braces: `repeat` begins a loop of so many turns, `call` spells a call, if there is anything
    /// to do.
    pub fn lines(&self, indent: &str, repeat: impl Fn(u32) -> String, call: impl Fn(Call) -> Option<String>) -> String {
        let mut text = String::new();
        for pass in &self.passes {
            let lines = pass.calls.iter().filter_map(|made| call(*made));
            match pass.times {
                1 => lines.for_each(|line| text += &format!("{indent}{line}\n")),
                times => {
                    text += &format!("{indent}{} {{\n", repeat(times));
                    lines.for_each(|line| text += &format!("{indent}    {line}\n"));
                    text += &format!("{indent}}}\n");
                }
            }
        }
        text
    }

    /// How many numbers the working memory has.
    pub fn numbers(&self) -> usize {
        self.memory.iter().map(|(_, len)| len).sum()
    }
}

/// Layer after layer.
fn upward(network: &Described) -> Program {
    let (mut x, mut y) = (Memory::A, Memory::B);
    let mut calls = vec![Call::Show(x.first(network.sample_width()))];
    for (l, layer) in network.layers.iter().enumerate() {
        let (spare, answer) = (x.first(layer.outputs), y.first(layer.outputs));
        calls.push(Call::Answer { l, x: x.first(layer.inputs), y: answer });
        let normalized = layer.reading.as_ref().is_some_and(|reading| reading.of == Of::Normalized);
        if !normalized {
            read(&mut calls, l, layer, answer, spare);
        }
        if normalized || l + 1 < network.layers.len() {
            calls.push(Call::Normalize(answer));
        }
        if normalized {
            calls.push(Call::Read { l, of: answer });
        }
        (x, y) = (y, x);
    }
    let memory = [Memory::A, Memory::B].map(|row| (row, widest(network))).to_vec();
    Program { memory, passes: vec![Pass { times: 1, calls }], moments: 1 }
}

/// A recurrent network: a bottom-up pass with nothing above any layer, then its moments.
fn in_time(network: &Described, moments: &RecurrentSettings) -> Program {
    let layers = &network.layers;
    let below = |l: usize| Memory::Heard(l).first(if l == 0 { network.sample_width() } else { layers[l - 1].outputs });
    let above = |l: usize| {
        let from = below(l).len;
        Place { memory: Memory::Heard(l), from, len: layers[l].inputs - from }
    };
    let state = |l: usize| Memory::State(l).first(layers[l].outputs);
    let top = layers.len() - 1;

    let mut start = vec![Call::Show(below(0))];
    start.extend((0..=top).map(|l| Call::Clear(above(l))));
    for (l, layer) in layers.iter().enumerate() {
        start.push(Call::Answer { l, x: Memory::Heard(l).first(layer.inputs), y: state(l) });
        if l < top {
            start.extend([Call::Copy { of: state(l), to: below(l + 1) }, Call::Normalize(below(l + 1))]);
        }
    }
    start.push(Call::Label { to: above(top), strength: network.top_strength() });

    let moment = |reads: bool| {
        let mut calls = Vec::new();
        for l in 0..=top {
            let hear = [(l < top).then(|| below(l + 1)), (l > 0).then(|| above(l - 1))];
            for to in hear.into_iter().flatten() {
                calls.extend([Call::Copy { of: state(l), to }, Call::Normalize(to)]);
            }
        }
        for (l, layer) in layers.iter().enumerate() {
            let (answer, spare) = (Memory::A.first(layer.outputs), Memory::B.first(layer.outputs));
            calls.push(Call::Answer { l, x: Memory::Heard(l).first(layer.inputs), y: answer });
            if reads {
                read(&mut calls, l, layer, answer, spare);
            }
            calls.push(Call::Mix { state: state(l), answer, keep: moments.keep });
        }
        calls
    };
    let (before, counted) = (moments.first - 1, moments.last + 1 - moments.first);
    let passes = [(1, start), (before, moment(false)), (counted, moment(true))];
    let passes = passes.map(|(times, calls)| Pass { times, calls }).into_iter().filter(|pass| pass.times > 0).collect();
    let squares = layers.iter().any(|layer| layer.reading.as_ref().is_some_and(|reading| reading.of == Of::Squares));
    let rows = if squares { &[Memory::A, Memory::B][..] } else { &[Memory::A] };
    let mut memory: Vec<_> = rows.iter().map(|row| (*row, widest(network))).collect();
    memory.extend(layers.iter().enumerate().map(|(l, layer)| (Memory::Heard(l), layer.inputs)));
    memory.extend(layers.iter().enumerate().map(|(l, layer)| (Memory::State(l), layer.outputs)));
    Program { memory, passes, moments: counted }
}

/// Reads a layer's answer as it is, or its squares, for which there is room in `spare`.
fn read(calls: &mut Vec<Call>, l: usize, layer: &Layer, answer: Place, spare: Place) {
    match layer.reading.as_ref().map(|reading| reading.of) {
        Some(Of::Squares) => calls.extend([Call::Squares { of: answer, to: spare }, Call::Read { l, of: spare }]),
        Some(Of::Activity | Of::Normalized) => calls.push(Call::Read { l, of: answer }),
        None => {}
    }
}

fn widest(network: &Described) -> usize {
    network.layers.iter().map(|layer| layer.outputs).chain([network.sample_width()]).max().unwrap_or(1)
}
