//! Every label and one pass together: each has its say as far as samples that were held out bear it out.
//!
//! Goodness is far too sure of itself: it adds up hundreds of nats where a few would be right. So the scores of both readouts
//! are weighted before they are added, by what makes the held-out labels likeliest (stacking, with one weight for each
//! readout as temperature scaling has it). The two err on different samples, and together less than either.

/// The weights of both readouts' scores, `(N, K)` each, that make the samples' labels likeliest; neither is negative.
///
/// Each label counts as `1/(N + 2)` wrong, as Platt's probabilities have it: else readouts that never err on so few samples
/// would be trusted without bounds.
pub(super) fn fit(scores: [&[f32]; 2], labels: &[u32], classes: usize) -> [f32; 2] {
    let samples = Samples { scores, labels, classes };
    let both = samples.minimize([true, true]);
    let fitted = match both {
        [every_label, _] if every_label < 0.0 => samples.minimize([false, true]),
        [_, one_pass] if one_pass < 0.0 => samples.minimize([true, false]),
        _ => both,
    };
    fitted.map(|weight| weight.max(0.0) as f32)
}

/// The sum of scores, weighted.
pub(super) fn sum(scores: [&[f32]; 2], weights: [f32; 2]) -> Vec<f32> {
    let [every_label, one_pass] = scores;
    every_label.iter().zip(one_pass).map(|(e, o)| weights[0] * e + weights[1] * o).collect()
}

/// What weights are fitted to.
struct Samples<'a> {
    scores: [&'a [f32]; 2],
    labels: &'a [u32],
    classes: usize,
}

/// The mean cross-entropy at some weights, its gradient and its second derivatives.
struct Slope {
    loss: f64,
    gradient: [f64; 2],
    curvature: [[f64; 2]; 2],
}

impl Samples<'_> {
    /// The weights of least cross-entropy, which is convex in them; those that are not `free` stay 0. Newton's method, with
    /// steps halved until they lead down.
    fn minimize(&self, free: [bool; 2]) -> [f64; 2] {
        let mut weights = [0.0; 2];
        let mut here = self.slope(weights);
        for _ in 0..100 {
            let step = newton(&here, free);
            let promised: f64 = step.iter().zip(here.gradient).map(|(s, g)| s * g).sum();
            let mut tries = (0..40).map(|halvings| {
                let share = 0.5f64.powi(halvings);
                let there = [weights[0] - share * step[0], weights[1] - share * step[1]];
                (there, self.slope(there), share * promised)
            });
            let lower = |(_, slope, promised): &(_, Slope, f64)| slope.loss < here.loss - 1e-4 * promised;
            let Some((there, slope, _)) = tries.find(lower) else { break };
            (weights, here) = (there, slope);
        }
        weights
    }

    fn slope(&self, weights: [f64; 2]) -> Slope {
        let mut slope = Slope { loss: 0.0, gradient: [0.0; 2], curvature: [[0.0; 2]; 2] };
        let (n, classes) = (self.labels.len() as f64, self.classes);
        let wrong = 1.0 / (n + 2.0);
        let mut probabilities = vec![0.0; classes];
        let rows = self.scores[0].chunks_exact(classes).zip(self.scores[1].chunks_exact(classes));
        for ((every_label, one_pass), &label) in rows.zip(self.labels) {
            let both = |k: usize| [f64::from(every_label[k]), f64::from(one_pass[k])];
            let score = |k: usize| weights[0] * both(k)[0] + weights[1] * both(k)[1];
            let most = (0..classes).map(score).fold(f64::NEG_INFINITY, f64::max);
            (0..classes).for_each(|k| probabilities[k] = (score(k) - most).exp());
            let total: f64 = probabilities.iter().sum();
            let (mut mean, mut squares) = ([0.0; 2], [[0.0; 2]; 2]);
            for (k, probability) in probabilities.iter().map(|p| p / total).enumerate() {
                let target = if k == label as usize { 1.0 - wrong } else { wrong / (classes - 1) as f64 };
                let x = both(k);
                slope.loss += target * (most + total.ln() - score(k)) / n;
                for i in 0..2 {
                    slope.gradient[i] += (probability - target) * x[i] / n;
                    mean[i] += probability * x[i];
                    (0..2).for_each(|j| squares[i][j] += probability * x[i] * x[j]);
                }
            }
            for i in 0..2 {
                (0..2).for_each(|j| slope.curvature[i][j] += (squares[i][j] - mean[i] * mean[j]) / n);
            }
        }
        slope
    }
}

/// Newton's step down, in the weights that are `free`.
fn newton(slope: &Slope, free: [bool; 2]) -> [f64; 2] {
    let Slope { gradient: g, curvature: [[a, b], [_, d]], .. } = slope;
    let alone = |i: usize, curvature: f64| if free[i] && curvature > 0.0 { g[i] / curvature } else { 0.0 };
    let determinant = a * d - b * b;
    if free == [true, true] && determinant > 1e-9 * a * d {
        return [(d * g[0] - b * g[1]) / determinant, (a * g[1] - b * g[0]) / determinant];
    }
    // One says nothing, or both say the same.
    match (alone(0, *a), alone(1, *d)) {
        (0.0, one_pass) => [0.0, one_pass],
        (every_label, _) => [every_label, 0.0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;
    use rand::RngExt;

    /// Scores that speak for the label by as much as the strengths say, in noise; the first readout's a hundred times too large.
    fn scores(n: usize, strengths: [f32; 2]) -> ([Vec<f32>; 2], Vec<u32>) {
        let mut random = stream(3, "test", 0);
        let labels: Vec<u32> = (0..n).map(|_| random.random_range(0..4)).collect();
        let mut of = |strength: f32, scale: f32| {
            let scores = labels.iter().flat_map(|&label| (0..4).map(move |k| k == label));
            scores
                .map(|own| scale * (if own { strength } else { 0.0 } + 4.0 * (random.random::<f32>() - 0.5)))
                .collect()
        };
        ([of(strengths[0], 100.0), of(strengths[1], 1.0)], labels)
    }

    #[test]
    fn no_other_weights_make_the_labels_likelier() {
        for strengths in [[2.0, 2.0], [4.0, 1.0], [0.5, 3.0]] {
            let (scores, labels) = scores(500, strengths);
            let samples = Samples { scores: [&scores[0], &scores[1]], labels: &labels, classes: 4 };
            let fitted = fit(samples.scores, &labels, 4);
            assert!(fitted[0] > 0.0 && fitted[0] < 0.1 && fitted[1] > 0.0, "{fitted:?}");
            let best = samples.slope(fitted.map(f64::from)).loss;
            for i in 0..30 {
                for j in 0..30 {
                    let loss = samples.slope([0.002 * f64::from(i), 0.2 * f64::from(j)]).loss;
                    assert!(best <= loss + 1e-9, "{strengths:?}: {fitted:?} {best} {i} {j} {loss}");
                }
            }
        }
    }

    #[test]
    fn what_says_nothing_or_the_opposite_has_no_weight() {
        let (scores, labels) = scores(500, [2.0, -2.0]);
        let [every_label, one_pass] = fit([&scores[0], &scores[1]], &labels, 4);
        assert!(every_label > 0.0 && one_pass == 0.0);
        let silent = vec![0.0; scores[0].len()];
        let [silent, alone] = fit([&silent, &scores[0]], &labels, 4);
        assert!(silent == 0.0 && (alone - every_label).abs() < 1e-6, "{alone} {every_label}");
        // The same twice is as good as once.
        let twice = fit([&scores[0], &scores[0]], &labels, 4);
        assert!((twice[0] + twice[1] - every_label).abs() < 1e-6, "{twice:?} {every_label}");
    }

    #[test]
    fn readouts_that_never_err_are_not_trusted_without_bounds() {
        let labels = [0, 1, 1, 0];
        let scores = [1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0];
        // A margin of 2 in each, told right 5 times of 6: weights that sum to ln(5)/2.
        let weights = fit([&scores, &scores], &labels, 2);
        assert!((weights[0] + weights[1] - 5f32.ln() / 2.0).abs() < 1e-5, "{weights:?}");
        assert_eq!(sum([&scores[..2], &[4.0, 2.0]], [0.5, 0.25]), [1.5, 0.0]);
    }
}
