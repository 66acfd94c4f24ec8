//! Peer normalisation: a unit that is quieter than its layer's average is pushed up, a louder one down.

use crate::engine::vectorised;
use crate::pass::Activity;
use crate::settings::PeerSettings;
use rayon::prelude::*;

/// Units that a thread adds up for at a time.
const UNITS_EACH: usize = 4096;

/// The running means of one layer's activities.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    settings: PeerSettings,
    /// `m: (O)`.
    pub means: Vec<f32>,
    /// Which units raise their goodness on positive data `(O)`, where others lower it: each has peers of its own kind.
    raising: Vec<bool>,
}

impl Peer {
    /// For a layer whose units raise their goodness on positive data, or lower it.
    pub fn new(settings: PeerSettings, raising: Vec<bool>) -> Self {
        Peer { settings, means: vec![settings.initial; raising.len()], raising }
    }

    /// As [`add_up`], then [`Peer::push`].
    pub fn step(&mut self, y: &Activity, rows: usize, shared: &mut Vec<f32>, alive: &mut [u8]) {
        add_up(y, rows, shared, alive);
        self.push(rows, shared);
    }

    /// From `shared = Σ y` over `rows` positive rows: `m ← momentum·m + (1 − momentum)·mean(y)`, then
    /// `shared = λ·(mean(m) − m)`: the same for every positive row, and not gated by the ReLU, so that it revives dead
    /// units. Empty where `λ = 0`, or where there was no sum. Where some units raise their goodness and some lower it, the mean
    /// is that of a unit's own kind.
    pub fn push(&mut self, rows: usize, shared: &mut Vec<f32>) {
        if shared.is_empty() {
            return;
        }
        let (momentum, share) = (self.settings.momentum, (1.0 - self.settings.momentum) / rows as f32);
        vectorised!({
            for (mean, &sum) in self.means.iter_mut().zip(shared.iter()) {
                *mean = momentum * *mean + share * sum;
            }
        });
        let strength = self.settings.strength;
        if strength == 0.0 {
            shared.clear();
            return;
        }
        let mut kinds = [(0.0, 0.0); 2];
        for (mean, raises) in self.means.iter().zip(&self.raising) {
            let (sum, units) = &mut kinds[usize::from(*raises)];
            (*sum, *units) = (*sum + mean, *units + 1.0);
        }
        let averages = kinds.map(|(sum, units)| sum / units);
        for (shared, (mean, raises)) in shared.iter_mut().zip(self.means.iter().zip(&self.raising)) {
            *shared = strength * (averages[usize::from(*raises)] - mean);
        }
    }
}

/// `sums = Σ y: (O)` over the first `rows` rows, which are the positive ones. Marks in `alive` the units that were on for some
/// of them.
pub fn add_up(y: &Activity, rows: usize, sums: &mut Vec<f32>, alive: &mut [u8]) {
    let width = y.width();
    sums.clear();
    sums.resize(width, 0.0);
    assert_eq!(alive.len(), width);
    let parts = sums.par_chunks_mut(UNITS_EACH).zip(alive.par_chunks_mut(UNITS_EACH)).enumerate();
    parts.for_each(|(part, (sums, alive))| {
        let units = part * UNITS_EACH..part * UNITS_EACH + sums.len();
        vectorised!({
            for row in y.values[..rows * width].chunks_exact(width) {
                for (sum, y) in sums.iter_mut().zip(&row[units.clone()]) {
                    *sum += y;
                }
            }
            for (alive, &sum) in alive.iter_mut().zip(sums.iter()) {
                *alive |= u8::from(sum > 0.0);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_units_are_pushed_up_and_loud_ones_down() {
        let mut y = Activity::default();
        y.resize(3, 2);
        y.values.copy_from_slice(&[1.0, 0.0, 3.0, 0.0, 99.0, 99.0]);
        let mut peer = Peer::new(PeerSettings { strength: 0.5, momentum: 0.75, initial: 2.0 }, vec![true; 2]);
        let (mut shared, mut alive) = (Vec::new(), vec![0; 2]);
        peer.step(&y, 2, &mut shared, &mut alive);
        assert_eq!(peer.means, [2.0, 1.5]);
        assert_eq!(shared, [-0.125, 0.125]);
        assert_eq!(alive, [1, 0]);
    }

    #[test]
    fn peers_go_the_same_way() {
        let settings = PeerSettings { strength: 0.5, momentum: 0.0, initial: 0.0 };
        let mut peer = Peer::new(settings, vec![false, true, false, true]);
        let mut shared = vec![1.0, 10.0, 3.0, 14.0];
        peer.push(1, &mut shared);
        assert_eq!(shared, [0.5, 1.0, -0.5, -1.0]);
        for all in [true, false] {
            let mut shared = vec![1.0, 10.0, 3.0, 14.0];
            Peer::new(settings, vec![all; 4]).push(1, &mut shared);
            assert_eq!(shared, [3.0, -1.5, 2.0, -3.5]);
        }
    }
}
