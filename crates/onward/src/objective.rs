//! The local objective: what a layer gains by moving the logits of its positive and its negative sample, or its scores of the
//! classes.

use crate::readout::softmax;
use crate::settings::ObjectiveSettings;

/// What one pair of samples costs a layer, and what it would gain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// The loss of the pair, in nats.
    pub loss: f32,
    /// −∂loss/∂logit of the positive sample: `1 − p` for the logistic objective.
    pub positive: f32,
    /// −∂loss/∂logit of the negative sample: `−p` for the logistic objective.
    pub negative: f32,
}

impl ObjectiveSettings {
    /// Whether layers tell the label themselves, from class scores of their own: then there are no negatives, and no label
    /// goes in.
    pub fn by_class(&self) -> bool {
        matches!(self, ObjectiveSettings::PerClass | ObjectiveSettings::MonoForward)
    }

    /// Rows of each sample that layers learn from: a positive and a negative one, or one.
    pub fn rows(&self) -> usize {
        if self.by_class() { 1 } else { 2 }
    }

    /// The terms of a pair with these logits (see [`Measure::logit`](crate::goodness::Measure::logit)).
    ///
    /// - logistic: `−log σ(a) − log(1 − σ(b))`, each sample for itself against the threshold (paper, section 2);
    /// - symmetric: `log(1 + e^{−(a − b)})`, the pair against each other, no threshold (SymBa, arXiv 2303.08418).
    ///
    /// # Panics
    /// Where layers tell the label themselves: their objective is the cross-entropy of their class scores.
    pub fn terms(&self, positive: f32, negative: f32) -> Terms {
        match self {
            ObjectiveSettings::Logistic => Terms {
                loss: softplus(-positive) + softplus(negative),
                positive: sigmoid(-positive),
                negative: -sigmoid(negative),
            },
            ObjectiveSettings::Symmetric => {
                let slope = sigmoid(negative - positive);
                Terms { loss: softplus(negative - positive), positive: slope, negative: -slope }
            }
            ObjectiveSettings::PerClass | ObjectiveSettings::MonoForward => unreachable!("there are no pairs"),
        }
    }
}

/// Turns logits `(R, K)` into probabilities and `d = target − p: (R, K)`, uphill in log likelihood. Returns the summed
/// cross-entropy, which is NaN where a logit is not finite.
pub(crate) fn cross_entropy(logits: &mut [f32], labels: &[u32], d: &mut Vec<f32>) -> f64 {
    let classes = logits.len() / labels.len().max(1);
    d.resize(logits.len(), 0.0);
    let mut loss = 0.0;
    for ((p, d), &label) in logits.chunks_exact_mut(classes).zip(d.chunks_exact_mut(classes)).zip(labels) {
        softmax(p);
        d.iter_mut().zip(p.iter()).for_each(|(d, p)| *d = -p);
        d[label as usize] += 1.0;
        let own = p[label as usize];
        // Not `max`, which would hide NaN.
        loss -= f64::from(if own < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { own }.ln());
    }
    loss
}

/// `1/(1 + e^{−x})`, without overflow; where `x` is far below 0 it is exactly 0.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `log(1 + eˣ)`, without overflow.
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_the_derivative_of_the_loss() {
        for objective in [ObjectiveSettings::Logistic, ObjectiveSettings::Symmetric] {
            for (a, b) in [(0.3, -0.2), (-1.5, 2.0), (0.0, 0.0), (4.0, 3.0)] {
                let h = 1e-2;
                let loss = |a, b| objective.terms(a, b).loss;
                let terms = objective.terms(a, b);
                let numeric = -(loss(a + h, b) - loss(a - h, b)) / (2.0 * h);
                assert!((terms.positive - numeric).abs() < 1e-4, "{objective:?} {a} {b}: {terms:?}, found {numeric}");
                let numeric = -(loss(a, b + h) - loss(a, b - h)) / (2.0 * h);
                assert!((terms.negative - numeric).abs() < 1e-4, "{objective:?} {a} {b}: {terms:?}, found {numeric}");
            }
        }
    }

    #[test]
    fn losses_are_those_of_the_formulas() {
        let close =
            |found: f32, expected: f64| assert!((f64::from(found) - expected).abs() < 1e-6, "{found}, {expected}");
        let terms = ObjectiveSettings::Logistic.terms(1.0, -2.0);
        close(terms.loss, (1.0 + (-1f64).exp()).ln() + (1.0 + (-2f64).exp()).ln());
        close(terms.positive, 1.0 / (1.0 + 1f64.exp()));
        close(terms.negative, -1.0 / (1.0 + 2f64.exp()));
        let terms = ObjectiveSettings::Symmetric.terms(1.0, 3.0);
        close(terms.loss, (1.0 + 2f64.exp()).ln());
        close(terms.positive, 1.0 / (1.0 + (-2f64).exp()));
        assert_eq!(terms.negative, -terms.positive);
        let pairs = [ObjectiveSettings::Logistic, ObjectiveSettings::Symmetric].map(|objective| objective.rows());
        let alone = [ObjectiveSettings::PerClass, ObjectiveSettings::MonoForward].map(|objective| objective.rows());
        assert_eq!((pairs, alone), ([2, 2], [1, 1]));
    }

    #[test]
    fn cross_entropy_is_summed_and_shows_what_is_not_finite() {
        let (mut logits, mut d) = ([0.0, 3f32.ln(), 0.0, 0.0], vec![9.0; 7]);
        let loss = cross_entropy(&mut logits, &[1, 0], &mut d);
        for (found, expected) in logits.iter().zip([0.25, 0.75, 0.5, 0.5]) {
            assert!((found - expected).abs() < 1e-6, "{logits:?}");
        }
        for (found, expected) in d.iter().zip([-0.25, 0.25, 0.5, -0.5]) {
            assert!((found - expected).abs() < 1e-6, "{d:?}");
        }
        assert_eq!(d.len(), 4);
        assert!((loss - (4f64 / 3.0).ln() - 2f64.ln()).abs() < 1e-6, "{loss}");
        // Of the least likely: as large as can be told, not infinite.
        let least = -f64::from(f32::MIN_POSITIVE).ln();
        assert!((cross_entropy(&mut [0.0, 1e9], &[0], &mut d) - least).abs() < 1e-5);
        for odd in [f32::NAN, f32::INFINITY] {
            assert!(cross_entropy(&mut [0.0, odd], &[0], &mut d).is_nan());
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let terms = ObjectiveSettings::Logistic.terms(1e30, -1e30);
        assert_eq!(terms, Terms { loss: 0.0, positive: 0.0, negative: 0.0 });
        let terms = ObjectiveSettings::Logistic.terms(-200.0, 200.0);
        assert_eq!(terms, Terms { loss: 400.0, positive: 1.0, negative: -1.0 });
    }
}
