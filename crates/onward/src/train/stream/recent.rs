//! The recent past, in bounded memory: what a number is measured against.

/// The last numbers seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Recent {
    /// In no order: the one that is replaced next is at `next`.
    pub(super) values: Vec<f32>,
    pub(super) next: usize,
    capacity: usize,
}

impl Recent {
    /// Room for `capacity` numbers.
    pub fn new(capacity: usize) -> Self {
        Recent { values: Vec::with_capacity(capacity), next: 0, capacity }
    }

    /// How unusually low `x` is: the share of the recent numbers, `x` among them, that are not as low as `x`. 0 where
    /// none is higher, `n/(n + 1)` where all `n` are.
    ///
    /// `1 − anomaly(x)` is a p-value: if `x` comes from where the recent numbers came from, it is at most `α` with
    /// probability at most `α`, for every `α ≥ 1/(n + 1)` (a conformal p-value).
    pub fn anomaly(&self, x: f32) -> f32 {
        let higher = crate::engine::vectorised!(self.values.iter().map(|v| u32::from(*v > x)).sum::<u32>());
        higher as f32 / (self.values.len() + 1) as f32
    }

    /// Takes note of `x`, and forgets the oldest where there is no room.
    pub fn see(&mut self, x: f32) {
        if self.values.len() < self.capacity {
            self.values.push(x);
        } else {
            self.values[self.next] = x;
            self.next = (self.next + 1) % self.capacity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_among_the_last_numbers_only() {
        let mut recent = Recent::new(4);
        assert_eq!(recent.anomaly(-1e9), 0.0, "nothing is known yet");
        for x in [100.0, 100.0, 1.0, 2.0, 3.0, 4.0] {
            recent.see(x);
        }
        assert_eq!([0.0, 1.0, 2.5, 4.0].map(|x| recent.anomaly(x)), [0.8, 0.6, 0.4, 0.0]);
    }

    #[test]
    fn anomalies_are_uniform_for_numbers_like_the_recent_ones() {
        use rand::RngExt;
        let mut random = crate::random::stream(1, "recent", 0);
        let mut recent = Recent::new(99);
        let mut above = 0;
        for n in 0..10_099 {
            let x = random.random::<f32>();
            if n >= 99 {
                above += u32::from(recent.anomaly(x) >= 0.95);
            }
            recent.see(x);
        }
        assert!((400..=600).contains(&above), "{above} of 10,000 above 0.95");
    }
}
