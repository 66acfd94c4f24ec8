//! Whether one set of runs does better than another, or was only luckier.

/// The mean.
pub fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// The standard deviation of whatever `x` is a sample of; `None` for a single value.
pub fn deviation(x: &[f64]) -> Option<f64> {
    let mean = mean(x);
    let squares = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (x.len() > 1).then(|| (squares / (x.len() - 1) as f64).sqrt())
}

/// How likely means at least this far apart are if `a` and `b` are samples of the same: Welch's test, two-sided. `None`
/// where one of them is a single value, or nothing in either varies.
pub fn p_value(a: &[f64], b: &[f64]) -> Option<f64> {
    let share = |x: &[f64]| Some((deviation(x)?.powi(2) / x.len() as f64, (x.len() - 1) as f64));
    let ((va, na), (vb, nb)) = (share(a)?, share(b)?);
    let constant = |x: &[f64]| x.iter().all(|one| *one == x[0]);
    if constant(a) && constant(b) {
        return None;
    }
    let difference = mean(a) - mean(b);
    let freedom = (va + vb).powi(2) / (va * va / na + vb * vb / nb);
    Some(two_tails(difference / (va + vb).sqrt(), freedom))
}

/// The share of Student's distribution beyond ±t. With `t = √freedom · tan φ` its density is `cos φ` to the power of
/// `freedom − 1`, which Simpson's rule integrates well.
fn two_tails(t: f64, freedom: f64) -> f64 {
    const STEPS: usize = 2_000;
    let integral = |from: f64| {
        let step = (std::f64::consts::FRAC_PI_2 - from) / STEPS as f64;
        let density = |i: usize| (from + i as f64 * step).cos().max(0.0).powf(freedom - 1.0);
        let weight = |i: usize| {
            if i == 0 || i == STEPS {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            }
        };
        step / 3.0 * (0..=STEPS).map(|i| weight(i) * density(i)).sum::<f64>()
    };
    integral((t.abs() / freedom.sqrt()).atan()) / integral(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        for (t, freedom, p) in [(12.706, 1.0, 0.05), (2.776, 4.0, 0.05), (3.169, 10.0, 0.01), (0.0, 7.5, 1.0)] {
            assert!((two_tails(t, freedom) - p).abs() < 1e-4, "{t} {freedom}: {}", two_tails(t, freedom));
        }
    }

    #[test]
    fn welch_as_computed_elsewhere() {
        // scipy.stats.ttest_ind([1.80, 1.89, 1.83], [1.55, 1.82, 1.60], equal_var=False)
        let p = p_value(&[1.80, 1.89, 1.83], &[1.55, 1.82, 1.60]).unwrap();
        assert!((p - 0.148_046).abs() < 1e-4, "{p}");
        assert_eq!(p_value(&[1.0], &[2.0, 3.0]), None);
        for (a, b) in [([1.0; 3], [1.0; 3]), ([0.1; 3], [0.3; 3])] {
            assert_eq!(p_value(&a, &b), None);
        }
        assert!(p_value(&[1.0, 1.0], &[2.0, 2.5]).unwrap() > 0.05);
        assert!((deviation(&[1.0, 2.0, 3.0, 4.0]).unwrap() - 1.290_994_4).abs() < 1e-6);
    }
}
