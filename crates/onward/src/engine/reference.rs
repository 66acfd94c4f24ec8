//! The reference: double precision, plain loops, no cleverness. It reads like the paper, and every test's oracle is it.

use crate::error::Result;
use crate::layer::{Activation, Dense, Layer};
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::sign;
use crate::tensor::{Tensor, Tensors, transposed};

/// A fully connected layer in double precision.
#[derive(Clone, Debug)]
pub struct ReferenceDense {
    inputs: usize,
    outputs: usize,
    activation: Activation,
    has_bias: bool,
    /// `W: (I, O)` with its optimiser's state.
    weight: Learned,
    /// `b: (O)`.
    bias: Learned,
}

/// Numbers that learn, with the optimiser's two averages.
#[derive(Clone, Debug)]
struct Learned {
    value: Vec<f64>,
    smoothed: Vec<f64>,
    squared: Vec<f64>,
}

impl Learned {
    fn new(value: Vec<f64>) -> Self {
        let zeros = vec![0.0; value.len()];
        Learned { value, smoothed: zeros.clone(), squared: zeros }
    }

    fn step(&mut self, gradient: &[f64], step: &Step) {
        for (i, &g) in gradient.iter().enumerate() {
            match *step {
                Step::Smoothed { momentum, share, rate, cost } => {
                    self.smoothed[i] = f64::from(momentum) * self.smoothed[i] + f64::from(share) * g;
                    self.value[i] += f64::from(rate) * (self.smoothed[i] - f64::from(cost) * self.value[i]);
                }
                Step::Adam { momentum, share, second, per_row, m_scale, s_scale, rate, cost } => {
                    let mean = f64::from(per_row) * g;
                    self.smoothed[i] = f64::from(momentum) * self.smoothed[i] + f64::from(share) * g;
                    self.squared[i] = f64::from(second) * self.squared[i] + (1.0 - f64::from(second)) * mean * mean;
                    let along =
                        self.smoothed[i] * f64::from(m_scale) / ((self.squared[i] * f64::from(s_scale)).sqrt() + 1e-8);
                    self.value[i] += f64::from(rate) * (along - f64::from(cost) * self.value[i]);
                }
            }
        }
    }
}

impl ReferenceDense {
    /// The layer with its initial weights.
    pub fn new(dense: Dense) -> Self {
        assert_eq!(dense.weights.len(), dense.inputs * dense.outputs);
        ReferenceDense {
            inputs: dense.inputs,
            outputs: dense.outputs,
            activation: dense.activation,
            has_bias: dense.bias,
            weight: Learned::new(dense.weights.iter().map(|&w| f64::from(w)).collect()),
            bias: Learned::new(vec![0.0; dense.outputs]),
        }
    }

    /// `x̂ᵀ d: (I, O)`, and `Σ d: (O)` for the bias.
    fn gradient(&self, x: &Inputs<'_>, d: &Directions) -> (Vec<f64>, Vec<f64>) {
        let mut weight = vec![0.0; self.weight.value.len()];
        let mut bias = vec![0.0; self.outputs];
        let rows = x.dense().into_iter().map(f64::from).collect::<Vec<_>>();
        let all = d.dense(x.rows(), self.outputs);
        for (x, d) in rows.chunks_exact(self.inputs).zip(all.chunks_exact(self.outputs)) {
            for (x, gradient) in x.iter().zip(weight.chunks_exact_mut(self.outputs)) {
                for (gradient, d) in gradient.iter_mut().zip(d) {
                    *gradient += x * f64::from(*d);
                }
            }
            for (gradient, d) in bias.iter_mut().zip(d) {
                *gradient += f64::from(*d);
            }
        }
        (weight, bias)
    }

    fn step(&mut self, weight: &[f64], bias: &[f64], step: &Step) {
        self.weight.step(weight, step);
        if self.has_bias {
            self.bias.step(bias, &step.without_cost());
        }
    }
}

impl Layer for ReferenceDense {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.outputs);
        for (r, x) in x.dense().chunks_exact(self.inputs).enumerate() {
            let mut pre = self.bias.value.clone();
            for (x, w) in x.iter().zip(self.weight.value.chunks_exact(self.outputs)) {
                for (pre, w) in pre.iter_mut().zip(w) {
                    *pre += f64::from(*x) * w;
                }
            }
            match self.activation {
                Activation::Linear => {}
                // Not `max`, which would make 0 of NaN; an infinity shall be seen too.
                Activation::Relu => {
                    pre.iter_mut().filter(|pre| **pre <= 0.0 && pre.is_finite()).for_each(|pre| *pre = 0.0);
                }
                Activation::StudentT(freedom) => {
                    let nu = f64::from(freedom);
                    y.derivative.extend(pre.iter().map(|a| ((nu + 1.0) * a / (nu + a * a)) as f32));
                    pre.iter_mut().for_each(|a| *a = 0.5 * (nu + 1.0) * (1.0 + *a * *a / nu).ln());
                }
            }
            y.squares[r] = pre.iter().map(|y| y * y).sum::<f64>() as f32;
            y.row_mut(r).iter_mut().zip(pre).for_each(|(y, pre)| *y = pre as f32);
        }
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let (weight, bias) = self.gradient(x, d);
        self.step(&weight, &bias, step);
    }

    fn gradient_len(&self) -> usize {
        self.parameters()
    }

    /// In single precision, as gradients travel.
    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        let (weight, bias) = self.gradient(x, d);
        gradient.iter_mut().zip(weight.iter().chain(&bias)).for_each(|(to, g)| *to += *g as f32);
    }

    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        let gradient: Vec<f64> = gradient.iter().map(|&g| f64::from(g)).collect();
        let (weight, bias) = gradient.split_at(self.weight.value.len());
        self.step(weight, bias, step);
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        for (d, dx) in d.chunks_exact(self.outputs).zip(dx.chunks_exact_mut(self.inputs)) {
            for (dx, w) in dx.iter_mut().zip(self.weight.value.chunks_exact(self.outputs)) {
                *dx += d.iter().zip(w).map(|(d, w)| f64::from(*d) * w).sum::<f64>() as f32;
            }
        }
        true
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        for (i, row) in self.weight.value.chunks_exact_mut(self.outputs).enumerate() {
            row.iter_mut().enumerate().for_each(|(o, w)| *w += f64::from(amount * sign(seed, step, i, o)));
        }
        if self.has_bias {
            let biases = self.bias.value.iter_mut().enumerate();
            biases.for_each(|(o, b)| *b += f64::from(amount * sign(seed, step, self.inputs, o)));
        }
        true
    }

    fn equalise(&mut self) -> bool {
        let mut squares = vec![0.0; self.outputs];
        for row in self.weight.value.chunks_exact(self.outputs) {
            squares.iter_mut().zip(row).for_each(|(sum, w)| *sum += w * w);
        }
        let mean = squares.iter().sum::<f64>() / self.outputs.max(1) as f64;
        for row in self.weight.value.chunks_exact_mut(self.outputs) {
            let units = row.iter_mut().zip(&squares).filter(|(_, squares)| **squares > 0.0);
            units.for_each(|(w, squares)| *w *= (mean / squares).sqrt());
        }
        true
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (i, o) = (self.inputs, self.outputs);
        let matrix = |name: &str, values: &[f64]| Tensor::f64(name, &[o, i], transposed(values, i, o));
        let vector = |name: &str, values: &[f64]| Tensor::f64(name, &[o], values.to_vec());
        let mut tensors = vec![matrix("weight", &self.weight.value)];
        if self.has_bias {
            tensors.push(vector("bias", &self.bias.value));
            tensors.push(vector("bias.smoothed", &self.bias.smoothed));
            tensors.push(vector("bias.squared", &self.bias.squared));
        }
        tensors.push(matrix("weight.smoothed", &self.weight.smoothed));
        tensors.push(matrix("weight.squared", &self.weight.squared));
        tensors
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let (i, o) = (self.inputs, self.outputs);
        let find = Tensors(tensors);
        let matrix = |name: &str| Ok(transposed(find.f64(name, &[o, i])?, o, i));
        let vector = |name: &str| Ok(find.f64(name, &[o])?.to_vec());
        self.weight = Learned {
            value: matrix("weight")?,
            smoothed: matrix("weight.smoothed")?,
            squared: matrix("weight.squared")?,
        };
        if self.has_bias {
            self.bias = Learned {
                value: vector("bias")?,
                smoothed: vector("bias.smoothed")?,
                squared: vector("bias.squared")?,
            };
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.weight.value.len() + if self.has_bias { self.outputs } else { 0 }
    }

    fn weight_rms(&self) -> f32 {
        (self.weight.value.iter().map(|w| w * w).sum::<f64>() / self.weight.value.len() as f64).sqrt() as f32
    }
}
