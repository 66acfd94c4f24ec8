//! Hardware that does not hold the weights it is given: each weight is read through a gain and an offset of its own, fixed when
//! the device was made and known to nobody ("mortal computation", paper, section 8).

use super::Layer;
use crate::error::Result;
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::Random;
use crate::settings::HardwareSettings;
use crate::tensor::{Numbers, Tensor};
use rand_distr::{Distribution, StandardNormal};

/// A layer whose products use `gain · w + offset` for each weight `w` that it has learned.
///
/// Activities come from what the device does, and a step moves what it was told: Forward-Forward learns through the device
/// without knowing it. Backpropagation sends its gradient down through the weights that it believes in.
///
/// Slow, whatever the kind of layer: after each step all weights go through the device anew.
#[derive(Debug)]
pub struct Imprecise {
    /// What has been learned.
    told: Box<dyn Layer>,
    /// What the device computes with.
    device: Box<dyn Layer>,
    /// The gain and the offset of each weight, in the order of the layer's `weight` tensor.
    flaws: Vec<(f32, f32)>,
}

impl Imprecise {
    /// A device for `told`; `device` is the same layer again, to be overwritten.
    pub fn new(told: Box<dyn Layer>, device: Box<dyn Layer>, settings: HardwareSettings, random: &mut Random) -> Self {
        let size = told.weight_rms();
        let mut draw = |deviation: f32| {
            let luck: f32 = StandardNormal.sample(random);
            deviation * luck
        };
        let weights = told.tensors().into_iter().find(|tensor| tensor.name == "weight");
        let weights = weights.map_or_else(Vec::new, |tensor| numbers(&tensor.numbers));
        let mut flaw = |weight: &f64| {
            let (gain, offset) = (1.0 + draw(settings.gain), size * draw(settings.noise));
            // What lies beyond the edge of a map is no weight.
            (gain, if *weight == 0.0 { 0.0 } else { offset })
        };
        let flaws = weights.iter().map(&mut flaw).collect();
        let mut layer = Imprecise { told, device, flaws };
        layer.pass_on();
        layer
    }

    /// The device gets what has been learned.
    fn pass_on(&mut self) {
        let mut tensors = self.told.tensors();
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name == "weight") {
            match &mut tensor.numbers {
                Numbers::F32(weights) => {
                    weights.iter_mut().zip(&self.flaws).for_each(|(w, (gain, offset))| *w = gain * *w + offset);
                }
                Numbers::F64(weights) => {
                    let flaws = self.flaws.iter().map(|(gain, offset)| (f64::from(*gain), f64::from(*offset)));
                    weights.iter_mut().zip(flaws).for_each(|(w, (gain, offset))| *w = gain * *w + offset);
                }
                Numbers::U8(_) => {}
            }
        }
        self.device.restore(&tensors).expect("the same layer's tensors");
    }
}

fn numbers(of: &Numbers) -> Vec<f64> {
    match of {
        Numbers::F32(all) => all.iter().map(|&w| f64::from(w)).collect(),
        Numbers::F64(all) => all.clone(),
        Numbers::U8(_) => Vec::new(),
    }
}

impl Layer for Imprecise {
    fn inputs(&self) -> usize {
        self.told.inputs()
    }

    fn outputs(&self) -> usize {
        self.told.outputs()
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        self.device.forward(x, y);
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        self.told.update(x, d, step);
        self.pass_on();
    }

    fn gradient_len(&self) -> usize {
        self.told.gradient_len()
    }

    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        self.told.add_gradient(x, d, gradient);
    }

    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        self.told.step_along(gradient, step);
        self.pass_on();
    }

    fn project(&self, values: &[f32], base: &mut Vec<f32>) -> bool {
        self.device.project(values, base)
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        self.told.backward(d, dx)
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        let nudged = self.told.perturb(seed, step, amount);
        self.pass_on();
        nudged
    }

    fn equalise(&mut self) -> bool {
        let changed = self.told.equalise();
        self.pass_on();
        changed
    }

    /// What has been learned, alone: the device's flaws are drawn again from the seed.
    fn tensors(&self) -> Vec<Tensor> {
        self.told.tensors()
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        self.told.restore(tensors)?;
        self.pass_on();
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.told.parameters()
    }

    fn weight_rms(&self) -> f32 {
        self.told.weight_rms()
    }

    fn multiply_adds(&self) -> usize {
        self.told.multiply_adds()
    }
}
