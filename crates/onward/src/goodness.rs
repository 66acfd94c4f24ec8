//! Goodness: the number that a layer, or each group of its units, raises on positive data and lowers on negative data.

use crate::settings::{GoodnessKind, GoodnessSettings, Threshold};
use std::fmt::Debug;
use std::sync::Arc;

/// A measure of one sample's activity `y: (O)` in one layer.
///
/// Put in one of your own by implementing this trait and handing it to
/// [`Network::set_goodness`](crate::Network::set_goodness); `examples/own_goodness.rs` shows how.
pub trait Goodness: Debug + Send + Sync {
    /// `g`, of the activity before normalisation. `y: (O)`; `squares` is `Σ y²`, which every layer computes anyway.
    fn value(&self, y: &[f32], squares: f32) -> f32;

    /// `d = factor · ∂g/∂y`, both `(O)`. A unit that is off (`y = 0`) must get 0: the ReLU lets nothing through.
    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]);

    /// The threshold `theta` that suits a layer of `width` units, where the settings leave it to the goodness.
    fn threshold(&self, width: usize) -> f32;
}

/// `g = Σ y²`, `theta = O` (paper, section 2; released code).
#[derive(Clone, Copy, Debug)]
pub struct SumOfSquares;

impl Goodness for SumOfSquares {
    fn value(&self, _: &[f32], squares: f32) -> f32 {
        squares
    }

    #[inline]
    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]) {
        crate::engine::vectorised!({
            for (d, y) in d.iter_mut().zip(y) {
                *d = 2.0 * factor * y;
            }
        });
    }

    fn threshold(&self, width: usize) -> f32 {
        width as f32
    }
}

/// `g = Σ y² / O`, `theta = 2`: the choice of the popular PyTorch port; its logit is `O` times less sharp.
#[derive(Clone, Copy, Debug)]
pub struct MeanOfSquares;

impl Goodness for MeanOfSquares {
    fn value(&self, y: &[f32], squares: f32) -> f32 {
        squares / y.len() as f32
    }

    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]) {
        SumOfSquares.direction(y, factor / y.len() as f32, d);
    }

    fn threshold(&self, _: usize) -> f32 {
        2.0
    }
}

/// `g = Σ y`, unsquared (paper, section 3), `theta = O/2`: at the initial weights the mean activity is 0.4.
#[derive(Clone, Copy, Debug)]
pub struct Sum;

impl Goodness for Sum {
    fn value(&self, y: &[f32], _: f32) -> f32 {
        y.iter().sum()
    }

    fn direction(&self, y: &[f32], factor: f32, d: &mut [f32]) {
        for (d, y) in d.iter_mut().zip(y) {
            *d = if *y > 0.0 { factor } else { 0.0 };
        }
    }

    fn threshold(&self, width: usize) -> f32 {
        width as f32 / 2.0
    }
}

/// A layer's goodness with what turns it into a probability: `p = σ(±(g − theta)/temperature)`.
///
/// Its units may fall into groups, each with a goodness, a threshold and a sign of its own: then each is told apart for
/// itself, and what the layer says as a whole is the sum of their logits.
#[derive(Clone, Debug)]
pub struct Measure {
    goodness: Arc<dyn Goodness>,
    groups: Groups,
    /// `theta` of one group.
    group_threshold: f32,
    /// `theta` of the whole layer's `g`: the sum over its groups, less that of the lowering ones where groups differ.
    pub threshold: f32,
    /// `temp`: the higher, the less sharp the decision.
    pub temperature: f32,
    /// 1 where positive data should have high goodness as a whole, −1 where it should have low goodness.
    pub sign: f32,
}

/// How a layer's units fall into groups: each location's channels into so many equal runs, of which as many raise their
/// goodness as asked for, spread evenly among those that lower it.
#[derive(Clone, Copy, Debug)]
struct Groups {
    /// Runs of each location.
    runs: usize,
    /// How many of them raise.
    raising: usize,
    /// Units of a run.
    length: usize,
    /// All groups of the layer: a run of one location each, or the same run of all of them.
    count: usize,
    /// Units of a group.
    units: usize,
}

impl Groups {
    /// 1 where group `k` raises, −1 where it lowers: the same run raises everywhere.
    fn sign(&self, k: usize) -> f32 {
        if (k + 1) * self.raising / self.runs > k * self.raising / self.runs { 1.0 } else { -1.0 }
    }
}

impl Measure {
    /// The measure that the settings describe, for a layer of so many locations (1 where it has no map) with `channels` units
    /// each.
    pub fn new(settings: &GoodnessSettings, locations: usize, channels: usize) -> Self {
        let goodness: Arc<dyn Goodness> = match settings.kind {
            GoodnessKind::SumOfSquares => Arc::new(SumOfSquares),
            GoodnessKind::MeanOfSquares => Arc::new(MeanOfSquares),
            GoodnessKind::Sum => Arc::new(Sum),
        };
        Self::custom(goodness, settings, locations, channels)
    }

    /// The same, with a goodness of the caller's own.
    pub fn custom(goodness: Arc<dyn Goodness>, settings: &GoodnessSettings, locations: usize, channels: usize) -> Self {
        let runs = settings.groups;
        let count = if settings.by_location { runs * locations } else { runs };
        let units = locations * channels / count;
        let groups = Groups { runs, raising: settings.raise.of(runs), length: channels / runs, count, units };
        let group_threshold = match settings.threshold {
            Threshold::Auto => goodness.threshold(units),
            Threshold::Value(theta) => theta,
        };
        let sign = if groups.raising == 0 { -1.0 } else { 1.0 };
        let threshold = (0..count).map(|k| sign * groups.sign(k) * group_threshold).sum();
        Measure { goodness, groups, group_threshold, threshold, temperature: settings.temperature, sign }
    }

    /// The same with another goodness; threshold, signs and temperature as `settings` have them.
    pub(crate) fn with_goodness(&self, goodness: Arc<dyn Goodness>, settings: &GoodnessSettings) -> Self {
        let Groups { runs, length, count, units, .. } = self.groups;
        Self::custom(goodness, settings, count * units / (runs * length), runs * length)
    }

    /// Which units of a layer with so many raise their goodness on positive data `(O)`.
    pub fn raising(&self, units: usize) -> Vec<bool> {
        let Groups { length, count, .. } = self.groups;
        (0..units).map(|unit| self.groups.sign(unit / length.max(1) % count) > 0.0).collect()
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.count
    }

    /// `g` of the whole layer; see [`Goodness::value`]. Where there are groups, their sum; where some of them raise and some
    /// lower it, those that lower count against.
    pub fn value(&self, y: &[f32], squares: f32) -> f32 {
        if self.groups.count == 1 {
            return self.goodness.value(y, squares);
        }
        let mut values = vec![0.0; self.groups.count];
        self.values(y, squares, &mut values);
        self.total(&values)
    }

    /// `g` of each group, `values: (groups)`.
    pub fn values(&self, y: &[f32], squares: f32, values: &mut [f32]) {
        if let [value] = values {
            *value = self.goodness.value(y, squares);
            return;
        }
        self.each(y, |k, y| values[k] = self.goodness.value(y, crate::engine::sum_of_squares(y)));
    }

    /// [`Measure::value`] from the groups' values.
    pub fn total(&self, values: &[f32]) -> f32 {
        if let [value] = values {
            return *value;
        }
        values.iter().enumerate().map(|(k, g)| self.sign * self.groups.sign(k) * g).sum()
    }

    /// `±(g − theta)/temperature`: the logit of P(positive), or the sum of the groups' logits.
    pub fn logit(&self, g: f32) -> f32 {
        self.sign * (g - self.threshold) / self.temperature
    }

    /// The logit of group `k`.
    pub fn group_logit(&self, k: usize, g: f32) -> f32 {
        self.groups.sign(k) * (g - self.group_threshold) / self.temperature
    }

    /// `d = ½ · slope · ∂logit/∂y` of each group, where `slopes: (groups)` says how much the objective gains per unit of its
    /// logit.
    ///
    /// The ½ is the released code's: with it, `d = (1 − p)·y` for the sum of squares.
    pub fn direction(&self, y: &[f32], slopes: &[f32], d: &mut [f32]) {
        let factor = |k: usize| 0.5 * slopes[k] * self.groups.sign(k) / self.temperature;
        if self.groups.count == 1 {
            return self.goodness.direction(y, factor(0), d);
        }
        let Groups { count, length, units, .. } = self.groups;
        if units == length {
            let runs = y.chunks_exact(length).zip(d.chunks_exact_mut(length)).enumerate();
            return runs.for_each(|(k, (y, d))| self.goodness.direction(y, factor(k), d));
        }
        let mut of_group = vec![0.0; units];
        self.each(y, |k, y| {
            self.goodness.direction(y, factor(k), &mut of_group);
            let runs = d.chunks_exact_mut(length).skip(k).step_by(count);
            runs.zip(of_group.chunks_exact(length)).for_each(|(d, from)| d.copy_from_slice(from));
        });
    }

    /// Shows `f` the units of each group, one after another: `(k, y: (units))`.
    fn each(&self, y: &[f32], mut f: impl FnMut(usize, &[f32])) {
        let Groups { count, length, units, .. } = self.groups;
        if units == length {
            return y.chunks_exact(length).enumerate().for_each(|(k, y)| f(k, y));
        }
        let mut of_group = Vec::with_capacity(units);
        for k in 0..count {
            of_group.clear();
            y.chunks_exact(length).skip(k).step_by(count).for_each(|run| of_group.extend_from_slice(run));
            f(k, &of_group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(raise: f32, groups: usize, by_location: bool, locations: usize, channels: usize) -> Measure {
        let raise = crate::settings::Raise(raise);
        let settings = GoodnessSettings { raise, groups, by_location, ..Default::default() };
        Measure::new(&settings, locations, channels)
    }

    fn values(measure: &Measure, y: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; measure.groups()];
        measure.values(y, y.iter().map(|y| y * y).sum(), &mut values);
        values
    }

    #[test]
    fn units_fall_into_groups_by_channel_and_location() {
        // Two locations of four channels.
        let y = [1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0];
        assert_eq!(values(&measure(1.0, 1, false, 2, 4), &y), [30.0]);
        assert_eq!(values(&measure(1.0, 2, false, 2, 4), &y), [10.0, 20.0]);
        assert_eq!(values(&measure(1.0, 1, true, 2, 4), &y), [5.0, 25.0]);
        assert_eq!(values(&measure(1.0, 2, true, 2, 4), &y), [1.0, 4.0, 9.0, 16.0]);
        assert_eq!(values(&measure(1.0, 4, false, 1, 8), &y), [1.0, 4.0, 9.0, 16.0]);
    }

    #[test]
    fn each_kind_has_its_value_threshold_and_direction() {
        let y = [1.0, 0.0, 3.0, 0.0];
        for (kind, value, threshold, direction) in [
            (GoodnessKind::SumOfSquares, 10.0, 4.0, [1.0, 0.0, 3.0, 0.0]),
            (GoodnessKind::MeanOfSquares, 2.5, 2.0, [0.25, 0.0, 0.75, 0.0]),
            (GoodnessKind::Sum, 4.0, 2.0, [0.5, 0.0, 0.5, 0.0]),
        ] {
            let measure = Measure::new(&GoodnessSettings { kind, ..Default::default() }, 1, 4);
            let mut d = [9.0; 4];
            measure.direction(&y, &[1.0], &mut d);
            assert_eq!((measure.value(&y, 10.0), measure.threshold, d), (value, threshold, direction), "{kind:?}");
            assert_eq!(measure.logit(value), value - threshold);
            // Less sharp, the other way, at a threshold of its own.
            let threshold = Threshold::Value(7.0);
            let raise = crate::settings::Raise(0.0);
            let settings = GoodnessSettings { kind, temperature: 4.0, raise, threshold, ..Default::default() };
            let measure = Measure::new(&settings, 1, 4);
            measure.direction(&y, &[2.0], &mut d);
            assert_eq!(d, direction.map(|d| -d / 2.0), "{kind:?}");
            assert_eq!((measure.logit(3.0), measure.group_logit(0, 3.0)), (1.0, 1.0));
            // Whatever it is exchanged for, groups, sign and temperature stay.
            let other = measure.with_goodness(Arc::new(Sum), &settings);
            assert_eq!((other.value(&y, 10.0), other.logit(3.0), other.groups()), (4.0, 1.0, 1));
        }
    }

    #[test]
    fn directions_of_groups_go_where_their_units_are() {
        // Two locations of four channels: runs of two, a group of each run over both locations.
        let y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut d = [9.0; 8];
        measure(1.0, 2, false, 2, 4).direction(&y, &[1.0, 10.0], &mut d);
        assert_eq!(d, [1.0, 2.0, 30.0, 40.0, 5.0, 6.0, 70.0, 80.0]);
        measure(1.0, 2, true, 2, 4).direction(&y, &[1.0, 10.0, 100.0, 0.0], &mut d);
        assert_eq!(d, [1.0, 2.0, 30.0, 40.0, 500.0, 600.0, 0.0, 0.0]);
        measure(0.5, 2, false, 1, 8).direction(&y, &[1.0, 10.0], &mut d);
        assert_eq!(d, [-1.0, -2.0, -3.0, -4.0, 50.0, 60.0, 70.0, 80.0]);
    }

    #[test]
    fn another_goodness_has_the_same_groups() {
        // Two locations of six channels in runs of three; three locations of two channels in runs of one.
        let ones = [1.0; 12];
        for (locations, channels, by_location, expected) in
            [(2, 6, true, &[3.0; 4][..]), (2, 6, false, &[6.0; 2]), (3, 2, true, &[1.0; 6]), (3, 2, false, &[3.0; 2])]
        {
            let settings = GoodnessSettings { groups: 2, by_location, ..Default::default() };
            let measure = measure(1.0, 2, by_location, locations, channels);
            let other = measure.with_goodness(Arc::new(Sum), &settings);
            assert_eq!(values(&other, &ones[..locations * channels]), expected, "{measure:?}");
        }
    }

    #[test]
    fn groups_that_lower_count_against() {
        let y = [1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0];
        let squares = 30.0;
        let mixed = measure(0.5, 4, false, 1, 8);
        let signs: Vec<f32> = (0..4).map(|k| mixed.group_logit(k, 3.0)).collect();
        assert_eq!(signs, [-1.0, 1.0, -1.0, 1.0]);
        // −1 + 4 − 9 + 16, and as many thresholds on either side.
        assert_eq!((mixed.value(&y, squares), mixed.threshold), (10.0, 0.0));
        assert_eq!(mixed.raising(8), [false, false, true, true, false, false, true, true]);
        // Two locations of four channels: the same run raises in both.
        let expected = [false, false, true, true, false, false, true, true];
        assert_eq!(measure(0.5, 2, false, 2, 4).raising(8), expected);
        assert_eq!(measure(0.5, 2, true, 2, 4).raising(8), expected);
        let lowering = measure(0.0, 4, false, 1, 8);
        assert_eq!(lowering.raising(8), [false; 8]);
        assert_eq!((lowering.value(&y, squares), lowering.threshold), (30.0, 8.0));
        for measure in [mixed, lowering, measure(0.25, 4, false, 1, 8), measure(1.0, 2, true, 2, 4)] {
            let of_groups =
                values(&measure, &y).iter().enumerate().map(|(k, g)| measure.group_logit(k, *g)).sum::<f32>();
            assert_eq!(measure.logit(measure.value(&y, squares)), of_groups, "{measure:?}");
        }
    }
}
