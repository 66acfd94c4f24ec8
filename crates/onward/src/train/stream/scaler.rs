//! Running standardisation: features less their running means, divided by their running deviations.

/// Running mean and variance of each feature, in constant memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// Values seen of each feature; missing ones do not count.
    pub(super) count: Vec<u64>,
    /// Means `(F)`.
    pub(super) mean: Vec<f64>,
    /// Variances `(F)`.
    pub(super) variance: Vec<f64>,
    forget: f64,
    clip: f32,
}

impl Scaler {
    /// For `features` features. `forget`: the least weight of a new value; with 0 all values ever seen weigh the same.
    /// `clip`: where standardised values are cut off.
    pub fn new(features: usize, forget: f64, clip: f32) -> Self {
        Scaler { count: vec![0; features], mean: vec![0.0; features], variance: vec![0.0; features], forget, clip }
    }

    /// Takes note of a record `(F)`; NaN is a missing value.
    pub fn see(&mut self, record: &[f32]) {
        for (((x, count), mean), variance) in
            record.iter().zip(&mut self.count).zip(&mut self.mean).zip(&mut self.variance)
        {
            if x.is_nan() {
                continue;
            }
            *count += 1;
            let share = (1.0 / *count as f64).max(self.forget);
            let step = f64::from(*x) - *mean;
            *mean += share * step;
            *variance = (1.0 - share) * (*variance + share * step * step);
        }
    }

    /// A record `(F)` standardised into `to: (F)`. A missing value becomes 0, which is the mean.
    pub fn apply(&self, record: &[f32], to: &mut [f32]) {
        for (((to, x), mean), variance) in to.iter_mut().zip(record).zip(&self.mean).zip(&self.variance) {
            let deviation = variance.sqrt();
            // A feature that never changes says nothing, however far rounding puts it from its mean.
            let known = !x.is_nan() && deviation > 1e-6 * mean.abs() && deviation > 0.0;
            let clip = f64::from(self.clip);
            *to = if known { ((f64::from(*x) - mean) / deviation).clamp(-clip, clip) as f32 } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations_of_what_was_seen() {
        let mut scaler = Scaler::new(3, 0.0, 10.0);
        for record in [[1.0, 7.0, f32::NAN], [3.0, 7.0, 2.0], [5.0, 7.0, 4.0]] {
            scaler.see(&record);
        }
        assert_eq!(scaler.mean, [3.0, 7.0, 3.0]);
        assert!((scaler.variance[0] - 8.0 / 3.0).abs() < 1e-12 && scaler.variance[2] == 1.0);
        let mut to = [9.0; 3];
        scaler.apply(&[f32::NAN, 7.5, 1000.0], &mut to);
        assert_eq!(to, [0.0, 0.0, 10.0], "missing, constant, cut off");
        scaler.apply(&[5.0, 7.0, 2.0], &mut to);
        assert_eq!(to, [1.224_744_9, 0.0, -1.0]);
    }

    #[test]
    fn forgetting_follows_a_drift() {
        let (mut forgets, mut keeps) = (Scaler::new(1, 0.1, 10.0), Scaler::new(1, 0.0, 10.0));
        for n in 0..200 {
            let x = if n < 100 { 0.0 } else { 8.0 };
            forgets.see(&[x]);
            keeps.see(&[x]);
        }
        assert!((forgets.mean[0] - 8.0).abs() < 0.001, "{}", forgets.mean[0]);
        assert_eq!((keeps.mean[0], keeps.variance[0].round()), (4.0, 16.0));
    }
}
