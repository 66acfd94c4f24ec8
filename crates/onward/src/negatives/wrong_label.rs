//! The same input with a label that is not its own.

use super::{Negative, Negatives, Positive};
use crate::random::Random;
use rand::RngExt;

/// Any wrong label, all equally likely.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uniform;

impl Negatives for Uniform {
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let labels = positive.batch.labels.iter();
        Negative::labels(labels.map(|&label| uniform(label, positive.classes, random)).collect())
    }
}

/// A wrong label drawn as often as the softmax head believes in it (released code): the more plausible the mistake,
/// the more it is practised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hard;

impl Negatives for Hard {
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let Some(prediction) = positive.prediction else { return Uniform.draw(positive, random) };
        let rows = positive.batch.labels.iter().zip(prediction.chunks_exact(positive.classes));
        Negative::labels(rows.map(|(&label, p)| in_proportion(label, p, random)).collect())
    }
}

pub(crate) fn uniform(label: u32, classes: usize, random: &mut Random) -> u32 {
    let step = random.random_range(1..classes as u32);
    (label + step) % classes as u32
}

/// A class drawn in proportion to `p`, `label` excluded; any other, where `p` leaves none of them a chance.
pub(crate) fn in_proportion(label: u32, p: &[f32], random: &mut Random) -> u32 {
    let others = || p.iter().enumerate().filter(|(class, p)| *class != label as usize && **p > 0.0);
    let total: f64 = others().map(|(_, p)| f64::from(*p)).sum();
    let mut left = random.random::<f64>() * total;
    let mut drawn = None;
    for (class, p) in others() {
        drawn = Some(class as u32);
        left -= f64::from(*p);
        if left < 0.0 {
            break;
        }
    }
    drawn.unwrap_or_else(|| uniform(label, p.len(), random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::tests::{batch, positive};
    use crate::random::stream;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_the_true_label(
            p in proptest::collection::vec(prop_oneof![Just(0.0f32), Just(1.0), Just(1e-38), Just(f32::MIN_POSITIVE / 4.0), 0.0f32..1.0], 2..20),
            label in 0u32..20,
            seed: u64,
        ) {
            let label = label % p.len() as u32;
            let mut random = stream(seed, "negatives", 0);
            for _ in 0..20 {
                let drawn = [uniform(label, p.len(), &mut random), in_proportion(label, &p, &mut random)];
                prop_assert!(drawn.iter().all(|&d| d != label && (d as usize) < p.len()), "{drawn:?} for {label} in {p:?}");
            }
        }
    }

    #[test]
    fn as_often_as_believed() {
        let mut random = stream(5, "negatives", 0);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[in_proportion(1, &[0.1, 0.6, 0.3, 0.0], &mut random) as usize] += 1;
        }
        assert_eq!(counts[1] + counts[3], 0);
        assert!((2300..2700).contains(&counts[0]), "expected 2500 of 10000: {counts:?}");

        let mut counts = [0; 4];
        for _ in 0..9_000 {
            counts[uniform(2, 4, &mut random) as usize] += 1;
        }
        assert!(counts[2] == 0 && [0, 1, 3].iter().all(|&c| (2800..3200).contains(&counts[c])), "{counts:?}");
    }

    #[test]
    fn who_believes_in_no_other_label_gets_any_of_them() {
        let mut random = stream(5, "negatives", 0);
        let mut counts = [0; 4];
        for _ in 0..9_000 {
            counts[in_proportion(2, &[0.0, 0.0, 1.0, 0.0], &mut random) as usize] += 1;
        }
        assert!(counts[2] == 0 && [0, 1, 3].iter().all(|&c| (2800..3200).contains(&counts[c])), "{counts:?}");
    }

    #[test]
    fn samples_keep_their_inputs_and_lose_their_labels() {
        let shape = crate::Shape::features(3);
        let batch = batch(shape, 4, |_, _| 0.0);
        let mut random = stream(5, "negatives", 0);
        // Of two labels, one is wrong: the other one.
        for source in [&mut Uniform as &mut dyn Negatives, &mut Hard] {
            assert_eq!(source.draw(&positive(&batch, shape), &mut random), Negative::labels(vec![1; 4]));
        }
    }
}
