//! Black boxes: whatever lies between two layers and cannot be differentiated. Forward-Forward never asks for a derivative, so
//! the layers above and below learn as if it were not there (paper, sections 1 and 7).

use super::Layer;
use super::process::Process;
use crate::engine::{self, rectify};
use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::{Random, stream};
use crate::settings::{BlackBoxSettings as Settings, Precision};
use crate::tensor::Tensor;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// The largest normalised activity that a quantiser tells from larger ones.
pub const QUANTISED: f32 = 4.0;

/// A fixed function between two layers. It learns nothing, has no goodness, and readouts do not look at it.
#[derive(Debug)]
pub struct BlackBox {
    inputs: usize,
    seed: u64,
    does: Does,
}

#[derive(Debug)]
enum Does {
    Quantise {
        levels: u32,
    },
    /// A random linear map, and then the sine.
    Mix(Box<dyn Layer>),
    Noise {
        deviation: f32,
    },
    Binary,
    Process(Process),
}

impl BlackBox {
    /// A box above `inputs` numbers; `random` decides what is random about it.
    pub fn new(settings: &Settings, inputs: usize, random: &mut Random) -> Self {
        let does = match settings {
            Settings::Quantiser { levels } => Does::Quantise { levels: *levels },
            Settings::Random => {
                let gain = 1.0 / (inputs as f64).sqrt();
                let mut draw = || (gain * Distribution::<f64>::sample(&StandardNormal, random)) as f32;
                let weights = (0..inputs * inputs).map(|_| draw()).collect();
                let activation = super::Activation::Linear;
                let mix = super::Dense { inputs, outputs: inputs, activation, bias: false, weights };
                Does::Mix(engine::dense(Precision::F32, mix))
            }
            Settings::Noise { deviation } => Does::Noise { deviation: *deviation },
            Settings::Binary => Does::Binary,
            Settings::Process(settings) => Does::Process(Process::new(settings.clone())),
        };
        BlackBox { inputs, seed: random.random(), does }
    }

    /// Random numbers that belong to a row: a function of what is in it, so that the same row always meets the same luck and
    /// there is no state to save.
    fn luck(&self, x: &[f32]) -> Random {
        let hash = x.iter().fold(self.seed, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3));
        stream(hash, "black box", 0)
    }

    fn rows(&self, x: &Inputs<'_>, y: &mut Activity, f: impl Fn(&[f32], &mut [f32]) + Sync) {
        let full = x.dense();
        let rows = y.values.par_chunks_exact_mut(self.inputs).zip(full.par_chunks_exact(self.inputs));
        rows.for_each(|(y, x)| f(x, y));
    }
}

impl Layer for BlackBox {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        match &self.does {
            Does::Process(process) => process.outputs(),
            _ => self.inputs,
        }
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.outputs());
        match &self.does {
            Does::Quantise { levels } => {
                let step = QUANTISED / (*levels - 1) as f32;
                self.rows(x, y, |x, y| {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = (x.clamp(0.0, QUANTISED) / step).round() * step);
                });
            }
            Does::Mix(mix) => {
                mix.forward(x, y);
                y.values.iter_mut().for_each(|y| *y = rectify((3.0 * *y).sin()));
            }
            Does::Noise { deviation } => self.rows(x, y, |x, y| {
                let mut luck = self.luck(x);
                for (y, x) in y.iter_mut().zip(x) {
                    let noise: f32 = StandardNormal.sample(&mut luck);
                    *y = rectify(x + deviation * noise);
                }
            }),
            Does::Binary => self.rows(x, y, |x, y| {
                let mut luck = self.luck(x);
                for (y, x) in y.iter_mut().zip(x) {
                    let p = crate::objective::sigmoid(4.0 * (x - 1.0));
                    let on = if luck.random::<f32>() < p { 1.0 } else { 0.0 };
                    *y = if p.is_nan() { p } else { on };
                }
            }),
            Does::Process(process) => process.answer(&x.dense(), self.inputs, &mut y.values),
        }
        y.measure();
    }

    fn update(&mut self, _: &Inputs<'_>, _: &Directions, _: &Step) {}

    fn learns(&self) -> bool {
        false
    }

    fn fault(&self) -> Option<String> {
        match &self.does {
            Does::Process(process) => process.fault(),
            _ => None,
        }
    }

    fn allow_programs(&mut self, allowed: bool) {
        if let Does::Process(process) = &mut self.does {
            process.allow(allowed);
        }
    }

    fn perturb(&mut self, _: u64, _: u64, _: f32) -> bool {
        true
    }

    fn tensors(&self) -> Vec<Tensor> {
        Vec::new()
    }

    fn restore(&mut self, _: &[Tensor]) -> Result<()> {
        Ok(())
    }

    fn parameters(&self) -> usize {
        0
    }

    fn weight_rms(&self) -> f32 {
        0.0
    }

    fn multiply_adds(&self) -> usize {
        match &self.does {
            Does::Mix(mix) => mix.multiply_adds(),
            _ => 0,
        }
    }
}
