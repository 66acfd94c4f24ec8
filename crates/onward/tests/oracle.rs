//! The released recipe once more, in double precision, written from the paper's table alone: one function, no classes,
//! nothing shared with the library. Every engine must take the same steps.
#![expect(clippy::needless_range_loop, reason = "indices, as in the formulas")]

mod common;

use onward::negatives::{Negative, Positive};
use onward::random::Random;
use onward::settings::Precision;
use onward::tensor::{Numbers, Tensor};
use onward::{Dataset, Event, Flow, Negatives, Trainer};

const K: usize = 3;
const BATCH: usize = 30;

type Matrix = Vec<Vec<f64>>;

/// The wrong label that the head believes in most: like hard negatives, without the draw.
#[derive(Debug)]
struct Likeliest;

impl Negatives for Likeliest {
    fn draw(&mut self, positive: &Positive<'_>, _: &mut Random) -> Negative {
        let rows = positive.prediction.expect("there is a head").chunks_exact(positive.classes);
        Negative::labels(rows.zip(&positive.batch.labels).map(|(p, &label)| likeliest(p, label)).collect())
    }
}

fn likeliest<T: PartialOrd + Copy>(p: &[T], label: u32) -> u32 {
    let others = (0..p.len()).filter(|&k| k != label as usize);
    others.reduce(|best, k| if p[k] > p[best] { k } else { best }).unwrap() as u32
}

/// One network, as the paper's table has it.
struct Oracle {
    w: Vec<Matrix>,
    b: Matrix,
    vw: Vec<Matrix>,
    vb: Matrix,
    m: Matrix,
    s: Vec<Matrix>,
    vs: Vec<Matrix>,
}

fn rms_normalised(x: &[f64]) -> Vec<f64> {
    let rms = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
    x.iter().map(|x| x / (1e-10 + rms)).collect()
}

/// `x̂ᵀ d` added to `g`.
fn add_outer(g: &mut Matrix, x: &[f64], d: &[f64]) {
    for (g, x) in g.iter_mut().zip(x) {
        g.iter_mut().zip(d).for_each(|(g, d)| *g += x * d);
    }
}

impl Oracle {
    /// All layers' normalised inputs and activities for one input with label inputs `code`.
    fn forward(&self, image: &[f64], code: [f64; K]) -> (Matrix, Matrix) {
        let mut x = image.to_vec();
        x[..K].copy_from_slice(&code);
        let (mut xs, mut ys) = (vec![rms_normalised(&x)], vec![]);
        for (w, b) in self.w.iter().zip(&self.b) {
            let x = xs.last().unwrap();
            let unit = |j: usize| (0..x.len()).map(|i| x[i] * w[i][j]).sum::<f64>() + b[j];
            let y: Vec<f64> = (0..b.len()).map(|j| unit(j).max(0.0)).collect();
            xs.push(rms_normalised(&y));
            ys.push(y);
        }
        (xs, ys)
    }

    /// One step of the whole recipe; returns the mean loss.
    fn step(&mut self, images: &Matrix, labels: &[u32], gain: f64) -> f64 {
        let layers = self.w.len();
        let one_hot = |label: u32| std::array::from_fn(|k| f64::from(u8::from(k == label as usize)));
        let positive: Vec<_> = images.iter().zip(labels).map(|(x, &l)| self.forward(x, one_hot(l))).collect();
        let neutral: Vec<_> = images.iter().map(|x| self.forward(x, [1.0 / K as f64; K])).collect();
        let mut errors = vec![];
        let mut negative = vec![];
        for ((xs, _), (image, &label)) in neutral.iter().zip(images.iter().zip(labels)) {
            let logit = |k: usize| {
                (1..layers)
                    .map(|l| (0..xs[l + 1].len()).map(|i| xs[l + 1][i] * self.s[l][i][k]).sum::<f64>())
                    .sum::<f64>()
            };
            let e: Vec<f64> = (0..K).map(|k| logit(k).exp()).collect();
            let p: Vec<f64> = e.iter().map(|x| x / e.iter().sum::<f64>()).collect();
            errors.push((0..K).map(|k| one_hot(label)[k] - p[k]).collect::<Vec<f64>>());
            negative.push(self.forward(image, one_hot(likeliest(&p, label))));
        }
        let mut loss = 0.0;
        for l in 0..layers {
            let width = self.b[l].len();
            let p = |y: &[f64]| 1.0 / (1.0 + (-(y.iter().map(|y| y * y).sum::<f64>() - width as f64)).exp());
            for j in 0..width {
                let mean = positive.iter().map(|(_, ys)| ys[l][j]).sum::<f64>() / BATCH as f64;
                self.m[l][j] = 0.9 * self.m[l][j] + 0.1 * mean;
            }
            let average = self.m[l].iter().sum::<f64>() / width as f64;
            let mut gw = vec![vec![0.0; width]; self.w[l].len()];
            let mut gb = vec![0.0; width];
            let mut learn = |x: &[f64], d: Vec<f64>| {
                add_outer(&mut gw, x, &d);
                gb.iter_mut().zip(&d).for_each(|(g, d)| *g += d);
            };
            for (xs, ys) in &positive {
                loss -= p(&ys[l]).ln();
                let d = (0..width).map(|j| (1.0 - p(&ys[l])) * ys[l][j] + 0.03 * (average - self.m[l][j]));
                learn(&xs[l], d.collect());
            }
            for (xs, ys) in &negative {
                loss -= (1.0 - p(&ys[l])).ln();
                learn(&xs[l], ys[l].iter().map(|y| -p(&ys[l]) * y).collect());
            }
            for i in 0..gw.len() {
                for j in 0..width {
                    self.vw[l][i][j] = 0.9 * self.vw[l][i][j] + 0.1 * gw[i][j] / BATCH as f64;
                    self.w[l][i][j] += gain * 0.01 * (self.vw[l][i][j] - 0.001 * self.w[l][i][j]);
                }
            }
            for j in 0..width {
                self.vb[l][j] = 0.9 * self.vb[l][j] + 0.1 * gb[j] / BATCH as f64;
                self.b[l][j] += gain * 0.01 * self.vb[l][j];
            }
        }
        for l in 1..layers {
            let mut g = vec![vec![0.0; K]; self.s[l].len()];
            neutral.iter().zip(&errors).for_each(|((xs, _), error)| add_outer(&mut g, &xs[l + 1], error));
            for i in 0..g.len() {
                for k in 0..K {
                    self.vs[l][i][k] = 0.9 * self.vs[l][i][k] + 0.1 * g[i][k] / BATCH as f64;
                    self.s[l][i][k] += gain * 0.1 * (self.vs[l][i][k] - 0.003 * self.s[l][i][k]);
                }
            }
        }
        loss / (BATCH * layers) as f64
    }
}

/// A tensor of a layer, `(O, I)` → `(I, O)`.
fn matrix(tensors: &[Tensor], name: &str) -> Matrix {
    let t = tensors.iter().find(|t| t.name == name).unwrap();
    let numbers: Vec<f64> = match &t.numbers {
        Numbers::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        Numbers::F64(v) => v.clone(),
        Numbers::U8(_) => unreachable!(),
    };
    let (rows, columns) = (t.shape[0], t.shape.get(1).copied().unwrap_or(1));
    (0..columns).map(|i| (0..rows).map(|o| numbers[o * columns + i]).collect()).collect()
}

/// Mean losses of the first steps, and the largest difference of any weight or bias from the oracle's after them.
fn compare(precision: Precision, data: &Dataset) -> (Vec<f64>, Vec<f64>, f64) {
    let widths = [14, 17, 9];
    let mut recipe = common::recipe(precision, &widths);
    recipe.training.epochs = 6;
    let mut trainer = Trainer::new(recipe, data).unwrap();
    trainer.set_negatives(Box::new(Likeliest));
    let zeros = |like: &Matrix| like.iter().map(|row| vec![0.0; row.len()]).collect::<Matrix>();
    let w: Vec<Matrix> = trainer.network().stages().iter().map(|s| matrix(&s.layer.tensors(), "weight")).collect();
    let b: Matrix = widths.iter().map(|&o| vec![0.0; o]).collect();
    let s: Vec<Matrix> = widths.iter().map(|&o| vec![vec![0.0; K]; o]).collect();
    let mut oracle = Oracle {
        vw: w.iter().map(zeros).collect(),
        vb: b.clone(),
        m: widths.iter().map(|&o| vec![0.5; o]).collect(),
        vs: s.clone(),
        w,
        b,
        s,
    };

    let images: Matrix = (0..BATCH)
        .map(|n| {
            let mut x = vec![0.0; 24];
            data.read(n, &mut x);
            x.into_iter().map(f64::from).collect()
        })
        .collect();
    let mut losses = vec![];
    trainer
        .fit(data, &mut |event: Event<'_>, _: &Trainer| {
            if let Event::Step(step) = event {
                losses.push(step.loss);
            }
            Flow::Continue
        })
        .unwrap();
    let gains = [1.0, 1.0, 1.0, 5.0 / 6.0, 3.0 / 6.0, 1.0 / 6.0];
    let expected: Vec<f64> = gains.iter().map(|&gain| oracle.step(&images, data.labels(), gain)).collect();

    let mut worst = 0.0f64;
    let mut differ = |found: Matrix, expected: &Matrix| {
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            worst = worst.max((found - expected).abs());
        }
    };
    for (l, stage) in trainer.network().stages().iter().enumerate() {
        let tensors = stage.layer.tensors();
        differ(matrix(&tensors, "weight"), &oracle.w[l]);
        differ(matrix(&tensors, "weight.smoothed"), &oracle.vw[l]);
        differ(matrix(&tensors, "bias"), &vec![oracle.b[l].clone()]);
        differ(vec![stage.peer.means.iter().map(|&m| f64::from(m)).collect()], &vec![oracle.m[l].clone()]);
    }
    (losses, expected, worst)
}

#[test]
fn every_engine_takes_the_oracles_steps() {
    let data = common::patterns(BATCH);
    // Mean losses of the six steps, as literals: a change here is a change of the algorithm.
    let literals = [7.743840904, 7.624447494, 7.396546877, 7.055805742, 6.676238993, 6.393303556];
    // bf16 rounds inputs, weights and directions to one part in 256.
    for (precision, tolerance) in [(Precision::Reference, 2e-6), (Precision::F32, 2e-6), (Precision::Bf16, 1.0 / 256.0)]
    {
        let (losses, expected, worst) = compare(precision, &data);
        for ((loss, expected), literal) in losses.iter().zip(&expected).zip(literals) {
            assert!(
                (loss - expected).abs() < 10.0 * tolerance * expected,
                "{precision:?}: {losses:?}, expected {expected:?}"
            );
            assert!((expected - literal).abs() < 1e-6, "the oracle itself has changed: {expected}");
        }
        assert!(worst < tolerance, "{precision:?}: a weight differs by {worst}");
    }
}
