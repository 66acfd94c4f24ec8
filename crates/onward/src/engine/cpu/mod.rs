//! The default engine: products on weights in panels, with everything that goes before and after them fused in.

pub(crate) mod aligned;
mod amx;
pub(crate) mod bf16;
pub(crate) mod gradient;
pub(crate) mod panels;
mod product;
mod rows;
mod tap_pairs;
pub(crate) mod taps;
pub(crate) mod update;

use crate::engine::pool::Pool;
use crate::engine::{rectify, student_t, sum_of_squares, vectorised};
use crate::error::Result;
use crate::layer::{Activation, Dense, Layer};
use crate::optimizer::{Step, equal_gains};
use crate::pass::{Activity, Codes, Directions, Inputs};
use crate::random::bits;
use crate::tensor::{Tensor, Tensors, transposed};
use aligned::Aligned;
use bf16::{Pairs, product_bf16, round_rows};
use panels::{Panels, WIDTH, nudge};
use product::{Answers, Epilogue, product_f32};
use rayon::prelude::*;
pub use rows::RowDense;
use update::{Learned, Rows, or_empty, pack_input_pairs, pack_inputs, update};

/// Rows that a thread takes at least, where a row is a little work.
const ROWS_EACH: usize = 16;

/// Numbers that a thread takes at least, where they are only added.
const COLUMNS_EACH: usize = 4096;

/// Rows that are summed one after another.
const SUMMED: usize = 1024;

/// Whether this processor has units for bf16.
pub(crate) fn has_bf16() -> bool {
    bf16::has_outer()
}

/// Whether these are tiles.
pub(super) fn has_tiles() -> bool {
    amx::available()
}

/// Multiply-adds of bf16 numbers on registers alone; answers how many operations they were, 0 where there are no units.
pub(super) fn bf16_multiply_add(rounds: u64) -> f64 {
    bf16::multiply_add(rounds)
}

/// A fully connected layer in single precision, its products in bf16 where asked for.
#[derive(Debug)]
pub struct CpuDense {
    activation: Activation,
    has_bias: bool,
    weight: Learned,
    /// `b: (O)`, as a matrix of one row.
    bias: Learned,
}

static WORK: Pool<Workspace> = Pool::new();
/// Inputs rounded to bf16, while a product is computed.
static ROUNDED: Pool<Aligned<u32>> = Pool::new();
static TURNED: Pool<Turned> = Pool::new();

/// Memory of a product with the weights' transpose.
#[derive(Debug)]
struct Turned {
    weights: Panels,
    pairs: Pairs,
    rounded: Aligned<u32>,
    answer: Vec<f32>,
}

impl Default for Turned {
    fn default() -> Self {
        let (weights, pairs) = (Panels::zeros(0, 0), Pairs::none());
        Turned { weights, pairs, rounded: Aligned::zeros(0), answer: Vec::new() }
    }
}

/// Memory that an update uses and the next one uses again.
#[derive(Clone, Debug, Default)]
struct Workspace {
    /// Gradient rows' inputs, packed.
    x: Aligned<f32>,
    /// The same as pairs of bf16 numbers.
    x_pairs: Aligned<u32>,
    /// Gradient rows' directions `(R, O)`.
    d: Vec<f32>,
    /// The gradient of the label rows `(K, O)`.
    labels: Vec<f32>,
    /// The sum of the inputs that share a direction `(I)`.
    shared_x: Vec<f32>,
}

impl CpuDense {
    /// The layer with its initial weights; `bf16`: whether its products are of bf16 numbers.
    pub fn new(dense: Dense, bf16: bool) -> Self {
        let mut weight = Learned::new(Panels::from_rows(&dense.weights, dense.inputs, dense.outputs));
        weight.pairs = bf16.then(|| Pairs::new(&weight.value));
        CpuDense {
            activation: dense.activation,
            has_bias: dense.bias,
            weight,
            bias: Learned::new(Panels::zeros(1, dense.outputs)),
        }
    }

    /// The product with what follows it, by the kernel that the precision asks for.
    fn product(&self, x: &[f32], rows: usize, then: Epilogue<'_>, answers: Answers<'_>) {
        match &self.weight.pairs {
            None => product_f32(x, &self.weight.value, rows, then, answers),
            Some(pairs) => ROUNDED.with(|rounded| product_bf16(x, pairs, rows, rounded, then, answers)),
        }
    }

    fn relu(&self) -> bool {
        self.activation == Activation::Relu
    }

    /// Rows that share nothing.
    fn multiply(&self, x: &Inputs<'_>, y: &mut Activity) {
        let then = Epilogue { scale: Some(x.scale), bias: Some(self.bias.value.values()), relu: self.relu() };
        let answers = Answers { values: &mut y.values, squares: Some(&mut y.squares) };
        if x.source.is_none() && x.codes.is_none() {
            self.product(x.values, x.scale.len(), then, answers);
        } else {
            let full = x.dense();
            self.product(&full, x.rows(), Epilogue { scale: None, ..then }, answers);
        }
    }

    /// Rows that share their values, from the product of those values: `y = max(0, scale·(base + code·W) + b)`.
    fn finish_shared(&self, x: &Inputs<'_>, base: &[f32], y: &mut Activity) {
        let (outputs, relu, bias) = (self.outputs(), self.relu(), self.bias.value.values());
        let classes = x.codes.map_or(0, |codes| codes.classes);
        let mut label_rows = vec![0.0; classes * outputs];
        for (k, row) in label_rows.chunks_exact_mut(outputs).enumerate() {
            self.weight.value.row(k, row);
        }
        let mut average = vec![0.0; outputs];
        vectorised!({
            // The sum of all label rows serves every row whose code gives each label the same.
            for row in label_rows.chunks_exact(outputs) {
                average.iter_mut().zip(row).for_each(|(sum, w)| *sum += w);
            }
        });
        let finish = |r: usize, y: &mut [f32]| -> f32 {
            let base = &base[x.source(r) * outputs..][..outputs];
            let (scale, code) = (x.scale[r], x.codes.map_or(&[][..], |codes| codes.row(r)));
            let neutral = code.first().is_some_and(|first| code.iter().all(|c| c == first));
            vectorised!({
                y.copy_from_slice(base);
                if neutral {
                    y.iter_mut().zip(&average).for_each(|(y, w)| *y += code[0] * w);
                } else {
                    for (c, w) in code.iter().zip(label_rows.chunks_exact(outputs)).filter(|(c, _)| **c != 0.0) {
                        y.iter_mut().zip(w).for_each(|(y, w)| *y += c * w);
                    }
                }
                y.iter_mut().zip(bias).for_each(|(y, b)| *y = *y * scale + b);
                if relu {
                    y.iter_mut().for_each(|y| *y = rectify(*y));
                }
                sum_of_squares(y)
            })
        };
        let rows = y.values.par_chunks_exact_mut(outputs).zip(&mut y.squares).enumerate().with_min_len(ROWS_EACH);
        rows.for_each(|(r, (y, squares))| *squares = finish(r, y));
    }

    /// The gradient's rows into `work`, and how many they are.
    fn gather(&self, x: &Inputs<'_>, d: &Directions, work: &mut Workspace) -> usize {
        match x.codes {
            Some(codes) => self.gather_labelled(x, codes, d, work),
            None => self.gather_plain(x, d, work),
        }
    }

    /// The gradient rows where no two rows of the pass share values.
    fn gather_plain(&self, x: &Inputs<'_>, d: &Directions, work: &mut Workspace) -> usize {
        let outputs = self.weight.value.outputs();
        work.labels.clear();
        work.d.resize(d.rows.len() * outputs, 0.0);
        let from = d.rows.par_iter().zip(d.values.par_chunks_exact(outputs));
        work.d.par_chunks_exact_mut(outputs).zip(from).with_min_len(ROWS_EACH).for_each(|(to, (&r, d))| {
            let scale = x.scale[r as usize];
            vectorised!(to.iter_mut().zip(d).for_each(|(to, d)| *to = scale * d));
        });
        let mut rows: Vec<&[f32]> = d.rows.iter().map(|&r| x.shared(r as usize)).collect();
        if !d.shared.is_empty() {
            // Σ_r x̂_r ⊗ shared = (Σ_r x̂_r) ⊗ shared: one more row, whatever the batch.
            sum_inputs(x, d, &mut work.shared_x);
            rows.push(&work.shared_x);
            work.d.extend_from_slice(&d.shared);
        }
        pack(&rows, x.width, self.weight.pairs.is_some(), (&mut work.x, &mut work.x_pairs));
        rows.len()
    }

    /// The gradient rows where rows of the pass share values and have label codes: rows with the same values become one,
    /// and what the codes learn is gathered apart.
    fn gather_labelled(&self, x: &Inputs<'_>, codes: Codes<'_>, d: &Directions, work: &mut Workspace) -> usize {
        let outputs = self.weight.value.outputs();
        work.labels.clear();
        work.labels.resize(codes.classes * outputs, 0.0);
        work.d.clear();
        // Where each sample's gradient row is, in the order of first use.
        let mut place = vec![u32::MAX; x.values.len() / x.width.max(1)];
        let mut samples = Vec::new();
        for &r in &d.rows {
            let sample = x.source(r as usize);
            if place[sample] == u32::MAX {
                place[sample] = samples.len() as u32;
                samples.push(sample);
            }
        }
        work.d.resize(samples.len() * outputs, 0.0);
        vectorised!({
            for (&r, d) in d.rows.iter().zip(d.values.chunks_exact(outputs)) {
                let scale = x.scale[r as usize];
                let to = &mut work.d[place[x.source(r as usize)] as usize * outputs..][..outputs];
                to.iter_mut().zip(d).for_each(|(to, d)| *to += scale * d);
                for (c, to) in codes.row(r as usize).iter().zip(work.labels.chunks_exact_mut(outputs)) {
                    if *c != 0.0 {
                        to.iter_mut().zip(d).for_each(|(to, d)| *to += c * scale * d);
                    }
                }
            }
        });
        let mut rows: Vec<&[f32]> = samples.iter().map(|&n| &x.values[n * x.width..][..x.width]).collect();
        if !d.shared.is_empty() {
            sum_inputs(x, d, &mut work.shared_x);
            rows.push(&work.shared_x);
            work.d.extend_from_slice(&d.shared);
        }
        pack(&rows, x.width, self.weight.pairs.is_some(), (&mut work.x, &mut work.x_pairs));
        rows.len()
    }
}

/// Packs gradient rows for the kernel that will read them: one of the two is then empty.
fn pack(rows: &[&[f32]], inputs: usize, bf16: bool, (plain, pairs): (&mut Aligned<f32>, &mut Aligned<u32>)) {
    if bf16 && bf16::has_outer() {
        plain.clear();
        pack_input_pairs(rows, inputs, pairs);
    } else {
        pairs.clear();
        pack_inputs(rows, inputs, plain);
    }
}

/// `Σ_r x̂_r` over the rows that share a direction.
pub(crate) fn sum_inputs(x: &Inputs<'_>, d: &Directions, sum: &mut Vec<f32>) {
    sum.clear();
    sum.resize(x.width, 0.0);
    sum.par_chunks_mut(COLUMNS_EACH).enumerate().for_each(|(chunk, sum)| {
        let columns = chunk * COLUMNS_EACH..chunk * COLUMNS_EACH + sum.len();
        vectorised!({
            for r in d.shared_rows.clone() {
                let scale = x.scale[r];
                sum.iter_mut().zip(&x.shared(r)[columns.clone()]).for_each(|(sum, x)| *sum += scale * x);
            }
        });
    });
    if let Some(codes) = x.codes {
        for r in d.shared_rows.clone() {
            sum.iter_mut().zip(codes.row(r)).for_each(|(sum, c)| *sum += x.scale[r] * c);
        }
    }
}

/// `Σ_r d_r: (O)` over all rows, in parts of so many that the bits do not depend on the threads.
fn sum_directions(d: &Directions, sum: &mut [f32]) {
    let outputs = sum.len();
    let add = |sum: &mut [f32], d: &[f32]| sum.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
    let part = |d: &[f32]| {
        let mut part = vec![0.0; outputs];
        vectorised!(d.chunks_exact(outputs).for_each(|d| part.iter_mut().zip(d).for_each(|(sum, d)| *sum += d)));
        part
    };
    let parts: Vec<Vec<f32>> = d.values.par_chunks(SUMMED * outputs).map(part).collect();
    parts.iter().for_each(|part| add(sum, part));
    let shared = d.shared_rows.len() as f32;
    vectorised!(sum.iter_mut().zip(&d.shared).for_each(|(sum, d)| *sum += shared * d));
}

impl Layer for CpuDense {
    fn inputs(&self) -> usize {
        self.weight.value.inputs()
    }

    fn outputs(&self) -> usize {
        self.weight.value.outputs()
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        y.resize(x.rows(), self.outputs());
        match x.base {
            Some(base) => self.finish_shared(x, base, y),
            None => self.multiply(x, y),
        }
        if let Activation::StudentT(freedom) = self.activation {
            student_t::apply(freedom, y);
        }
    }

    fn project(&self, values: &[f32], base: &mut Vec<f32>) -> bool {
        let (done, rows) = (base.len(), values.len() / self.inputs());
        base.resize(done + rows * self.outputs(), 0.0);
        let then = Epilogue { scale: None, bias: None, relu: false };
        self.product(values, rows, then, Answers { values: &mut base[done..], squares: None });
        true
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        WORK.with(|work| {
            let count = self.gather(x, d, work);
            let rows = Rows { x: &work.x, x_pairs: &work.x_pairs, d: &work.d, count };
            update(&mut self.weight, rows, &work.labels, step);
        });
        if !self.has_bias {
            return;
        }
        let outputs = self.outputs();
        let mut gradient = vec![0.0; outputs.div_ceil(WIDTH) * WIDTH];
        sum_directions(d, &mut gradient[..outputs]);
        gradient::step_along(&mut self.bias, &gradient, &step.without_cost());
    }

    fn gradient_len(&self) -> usize {
        self.numbers()
    }

    fn add_gradient(&self, x: &Inputs<'_>, d: &Directions, gradient: &mut [f32]) {
        self.add_to(gradient, x, d);
    }

    fn step_along(&mut self, gradient: &[f32], step: &Step) {
        self.step(gradient, step);
    }

    fn backward(&self, d: &[f32], dx: &mut [f32]) -> bool {
        TURNED.with(|Turned { weights, pairs, rounded, answer }| {
            self.weight.value.transpose(weights);
            let rows = dx.len() / self.inputs().max(1);
            answer.resize(dx.len(), 0.0);
            let then = Epilogue { scale: None, bias: None, relu: false };
            let answers = Answers { values: answer, squares: None };
            match self.weight.pairs {
                None => product_f32(d, weights, rows, then, answers),
                Some(_) => {
                    pairs.renew(weights);
                    product_bf16(d, pairs, rows, rounded, then, answers);
                }
            }
            let parts = dx.par_chunks_mut(COLUMNS_EACH).zip(answer.par_chunks(COLUMNS_EACH));
            parts.for_each(|(dx, a)| vectorised!(dx.iter_mut().zip(a).for_each(|(dx, a)| *dx += a)));
        });
        true
    }

    fn perturb(&mut self, seed: u64, step: u64, amount: f32) -> bool {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let amounts = |j| std::array::from_fn(|c| if j * WIDTH + c < outputs { amount } else { 0.0 });
        let panels: Vec<_> = self.weight.value.panels_mut().collect();
        let pairs = or_empty(panels.len(), self.weight.pairs.iter_mut().flat_map(Pairs::panels_mut).collect());
        panels.into_par_iter().zip(pairs).enumerate().for_each(|(j, (panel, pairs))| {
            vectorised!({
                nudge(panel, &amounts(j), j * WIDTH, |i, word| bits(seed, step, i, word));
                if !pairs.is_empty() {
                    round_rows(panel, WIDTH, pairs);
                }
            });
        });
        if self.has_bias {
            self.bias.value.panels_mut().enumerate().for_each(|(j, bias)| {
                nudge(bias, &amounts(j), j * WIDTH, |_, word| bits(seed, step, inputs, word));
            });
        }
        true
    }

    fn equalise(&mut self) -> bool {
        let squares = |panel: &[f32]| {
            let mut sums = [0.0f32; WIDTH];
            vectorised!({
                for row in panel.as_chunks::<WIDTH>().0 {
                    sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w * w);
                }
            });
            sums
        };
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let size = (inputs * WIDTH).max(1);
        let mut gains: Vec<_> = self.weight.value.values().par_chunks_exact(size).map(squares).collect();
        let gains = gains.as_flattened_mut();
        equal_gains(&mut gains[..if inputs > 0 { outputs } else { 0 }]);
        self.weight.value.values_mut().par_chunks_exact_mut(size).zip(gains.par_chunks_exact(WIDTH)).for_each(
            |(panel, gains)| {
                vectorised!({
                    for row in panel.as_chunks_mut::<WIDTH>().0 {
                        row.iter_mut().zip(gains).for_each(|(w, gain)| *w *= gain);
                    }
                });
            },
        );
        self.weight.renew_pairs();
        true
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (i, o) = (self.inputs(), self.outputs());
        let mut weights = vec![("weight", &self.weight.value), ("weight.smoothed", &self.weight.smoothed)];
        let mut biases = vec![("bias", &self.bias.value), ("bias.smoothed", &self.bias.smoothed)];
        if self.weight.squared.inputs() == i {
            weights.push(("weight.squared", &self.weight.squared));
            biases.push(("bias.squared", &self.bias.squared));
        }
        if !self.has_bias {
            biases.clear();
        }
        let weights = weights.into_iter().map(|(name, w)| Tensor::f32(name, &[o, i], transposed(&w.to_rows(), i, o)));
        weights.chain(biases.into_iter().map(|(name, b)| Tensor::f32(name, &[o], b.to_rows()))).collect()
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let (i, o) = (self.inputs(), self.outputs());
        let find = Tensors(tensors);
        let matrix = |name: &str| Ok(Panels::from_rows(&transposed(find.f32(name, &[o, i])?, o, i), i, o));
        let vector = |name: &str| Ok(Panels::from_rows(find.f32(name, &[o])?, 1, o));
        let has_squares = tensors.iter().any(|t| t.name == "weight.squared");
        let mut weight = Learned::new(matrix("weight")?);
        weight.smoothed = matrix("weight.smoothed")?;
        weight.pairs = self.weight.pairs.as_ref().map(|_| Pairs::new(&weight.value));
        let mut bias = Learned::new(Panels::zeros(1, o));
        if self.has_bias {
            bias.value = vector("bias")?;
            bias.smoothed = vector("bias.smoothed")?;
        }
        if has_squares {
            weight.squared = matrix("weight.squared")?;
            bias.squared = if self.has_bias { vector("bias.squared")? } else { Panels::zeros(1, o) };
        }
        (self.weight, self.bias) = (weight, bias);
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.inputs() * self.outputs() + if self.has_bias { self.outputs() } else { 0 }
    }

    fn weight_rms(&self) -> f32 {
        let values = self.weight.value.values();
        let squares = values.iter().map(|w| f64::from(w * w)).sum::<f64>();
        (squares / (self.inputs() * self.outputs()).max(1) as f64).sqrt() as f32
    }
}
