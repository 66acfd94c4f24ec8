//! A layer for a row at a time: weights row-major, plain loops over outputs, nothing allocated, no threads.
//!
//! The packed kernels beside it are made for batches; for one row through a layer of some dozens of units, packing and
//! sharing out cost more than the product.

use super::update::apply;
use crate::engine::{rectify, sum_of_squares, vectorised};
use crate::error::Result;
use crate::layer::{Activation, Dense, Layer};
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::tensor::{Tensor, Tensors, transposed};

/// Outputs whose sums stay in registers while the inputs go past.
const BLOCK: usize = 64;

/// A fully connected layer in single precision, for few rows.
#[derive(Clone, Debug)]
pub struct RowDense {
    inputs: usize,
    outputs: usize,
    activation: Activation,
    has_bias: bool,
    /// `W: (I, O)`.
    weight: Learned,
    /// `b: (O)`.
    bias: Learned,
    /// The gradient of a row of weights `(O)`.
    gradient: Vec<f32>,
}

/// Numbers that learn, with the optimiser's two averages; `squared` is empty until Adam needs it.
#[derive(Clone, Debug)]
struct Learned {
    value: Vec<f32>,
    smoothed: Vec<f32>,
    squared: Vec<f32>,
}

impl Learned {
    fn new(value: Vec<f32>) -> Self {
        Learned { smoothed: vec![0.0; value.len()], value, squared: Vec::new() }
    }

    fn prepare(&mut self, step: &Step) {
        if matches!(step, Step::Adam { .. }) {
            self.squared.resize(self.value.len(), 0.0);
        }
    }

    /// One step of the numbers in `place` along `gradient`.
    #[inline(always)]
    fn step(&mut self, place: std::ops::Range<usize>, gradient: &[f32], step: &Step) {
        let squared = if self.squared.is_empty() { &mut [] } else { &mut self.squared[place.clone()] };
        apply(gradient, &mut self.value[place.clone()], &mut self.smoothed[place], squared, step);
    }
}

impl RowDense {
    /// The layer with its initial weights.
    pub fn new(dense: Dense) -> Self {
        assert_eq!(dense.weights.len(), dense.inputs * dense.outputs);
        assert!(!matches!(dense.activation, Activation::StudentT(_)), "streams' layers are rectified or linear");
        RowDense {
            inputs: dense.inputs,
            outputs: dense.outputs,
            activation: dense.activation,
            has_bias: dense.bias,
            weight: Learned::new(dense.weights),
            bias: Learned::new(vec![0.0; dense.outputs]),
            gradient: vec![0.0; dense.outputs],
        }
    }

    /// Value `i` of row `r`, its code in place, without its scale.
    #[inline(always)]
    fn read(x: &Inputs<'_>, shared: &[f32], r: usize, i: usize) -> f32 {
        match x.codes {
            Some(codes) if i < codes.classes => codes.values[r * codes.classes + i],
            _ => shared[i],
        }
    }
}

impl Layer for RowDense {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.outputs);
        let relu = self.activation == Activation::Relu;
        vectorised!({
            for r in 0..x.rows() {
                let (shared, scale) = (x.shared(r), x.scale[r]);
                let to = &mut y.values[r * self.outputs..][..self.outputs];
                for first in (0..self.outputs).step_by(BLOCK) {
                    let to = &mut to[first..self.outputs.min(first + BLOCK)];
                    let bias = &self.bias.value[first..][..to.len()];
                    let mut sums = [0.0; BLOCK];
                    for i in 0..self.inputs {
                        let x = Self::read(x, shared, r, i);
                        if x == 0.0 {
                            continue;
                        }
                        let weights = &self.weight.value[i * self.outputs + first..];
                        match weights.first_chunk::<BLOCK>() {
                            Some(weights) if to.len() == BLOCK => {
                                sums.iter_mut().zip(weights).for_each(|(sum, w)| *sum += x * w);
                            }
                            _ => sums.iter_mut().zip(&weights[..to.len()]).for_each(|(sum, w)| *sum += x * w),
                        }
                    }
                    for ((y, sum), b) in to.iter_mut().zip(&sums).zip(bias) {
                        let pre = scale * sum + b;
                        *y = if relu { rectify(pre) } else { pre };
                    }
                }
                y.squares[r] = sum_of_squares(to);
            }
        });
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let Self { inputs, outputs, has_bias, weight, bias, gradient, .. } = self;
        let (inputs, outputs) = (*inputs, *outputs);
        weight.prepare(step);
        // Without smoothing and cost, a weight that has no gradient does not move.
        let rests = matches!(step, Step::Smoothed { momentum: 0.0, cost: 0.0, .. });
        vectorised!({
            for i in 0..inputs {
                gradient.fill(0.0);
                let mut moves = false;
                for (&r, d) in d.rows.iter().zip(d.values.chunks_exact(outputs)) {
                    let r = r as usize;
                    let x = x.scale[r] * Self::read(x, x.shared(r), r, i);
                    if x != 0.0 {
                        gradient.iter_mut().zip(d).for_each(|(g, d)| *g += x * d);
                        moves = true;
                    }
                }
                if !d.shared.is_empty() {
                    let sum: f32 = d.shared_rows.clone().map(|r| x.scale[r] * Self::read(x, x.shared(r), r, i)).sum();
                    gradient.iter_mut().zip(&d.shared).for_each(|(g, d)| *g += sum * d);
                    moves |= sum != 0.0;
                }
                if moves || !rests {
                    weight.step(i * outputs..(i + 1) * outputs, gradient, step);
                }
            }
            if *has_bias {
                gradient.fill(0.0);
                for d in d.values.chunks_exact(outputs) {
                    gradient.iter_mut().zip(d).for_each(|(g, d)| *g += d);
                }
                let rows = d.shared_rows.len() as f32;
                gradient.iter_mut().zip(&d.shared).for_each(|(g, d)| *g += rows * d);
                let step = step.without_cost();
                bias.prepare(&step);
                bias.step(0..outputs, gradient, &step);
            }
        });
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (i, o) = (self.inputs, self.outputs);
        let mut tensors = Vec::new();
        let mut add = |name: &str, learned: &Learned, matrix: bool| {
            let parts = [("", &learned.value), (".smoothed", &learned.smoothed), (".squared", &learned.squared)];
            for (part, values) in parts.into_iter().filter(|(_, values)| !values.is_empty()) {
                let name = format!("{name}{part}");
                tensors.push(match matrix {
                    true => Tensor::f32(name, &[o, i], transposed(values, i, o)),
                    false => Tensor::f32(name, &[o], values.clone()),
                });
            }
        };
        add("weight", &self.weight, true);
        if self.has_bias {
            add("bias", &self.bias, false);
        }
        tensors
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let (i, o) = (self.inputs, self.outputs);
        let find = Tensors(tensors);
        let read = |name: &str, matrix: bool| -> Result<Learned> {
            let part = |part: &str| -> Result<Vec<f32>> {
                let name = format!("{name}{part}");
                Ok(match matrix {
                    true => transposed(find.f32(&name, &[o, i])?, o, i),
                    false => find.f32(&name, &[o])?.to_vec(),
                })
            };
            let has_squares = tensors.iter().any(|t| t.name == format!("{name}.squared"));
            let squared = if has_squares { part(".squared")? } else { Vec::new() };
            Ok(Learned { value: part("")?, smoothed: part(".smoothed")?, squared })
        };
        let weight = read("weight", true)?;
        if self.has_bias {
            self.bias = read("bias", false)?;
        }
        self.weight = weight;
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.outputs * (self.inputs + usize::from(self.has_bias))
    }

    fn weight_rms(&self) -> f32 {
        let squares = self.weight.value.iter().map(|w| f64::from(w * w)).sum::<f64>();
        (squares / self.weight.value.len().max(1) as f64).sqrt() as f32
    }
}
