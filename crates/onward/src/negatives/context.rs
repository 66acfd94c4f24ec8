//! The wrong context: what the layers above expect of another sample.

use super::{Negative, Negatives, Positive};
use crate::random::Random;
use rand::RngExt;

/// The same samples, but in a recurrent network each layer hears from the layer above what another sample of the batch made
/// of it (paper, section 3.5: predictions from the context of other images). Layers come to agree with the context that is
/// their own sample's, or, with `goodness.raise = false`, to cancel it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context;

impl Negatives for Context {
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let samples = positive.batch.len();
        let other = |n| (n + if samples > 1 { random.random_range(1..samples) } else { 0 }) % samples;
        Negative { context: Some((0..samples).map(other).map(|n| n as u32).collect()), ..Negative::default() }
    }
}
