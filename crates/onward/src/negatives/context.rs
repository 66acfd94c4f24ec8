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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::negatives::tests::{batch, positive};
    use crate::random::stream;

    #[test]
    fn each_hears_any_other_sample_equally_often() {
        let shape = Shape::features(2);
        let mut random = stream(3, "negatives", 0);
        let mut heard = |samples| {
            let drawn = Context.draw(&positive(&batch(shape, samples, |_, _| 0.0), shape), &mut random);
            assert_eq!((drawn.labels, drawn.inputs), (None, None), "the samples stay as they are");
            drawn.context.unwrap()
        };
        let mut counts = [[0; 4]; 4];
        for _ in 0..3_000 {
            heard(4).iter().enumerate().for_each(|(n, other)| counts[n][*other as usize] += 1);
        }
        for (n, counts) in counts.iter().enumerate() {
            let even =
                |(other, count): (usize, &i32)| if other == n { *count == 0 } else { (850..1150).contains(count) };
            assert!(counts.iter().enumerate().all(even), "sample {n}: {counts:?}");
        }
        assert_eq!(heard(1), [0], "there is no other");
    }
}
