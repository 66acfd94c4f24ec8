//! Hybrid images: two samples patched together, so that what is close by fits and what is far apart does not.

use super::{Negative, Negatives, Positive};
use crate::Shape;
use crate::random::Random;
use rand::{Rng, RngExt};
use rayon::prelude::*;

/// `a·mask + b·(1 − mask)` of each sample `a` and another one `b` of its batch, with a mask of large random blots
/// (paper, section 3.2).
#[derive(Clone, Copy, Debug)]
pub struct Hybrid {
    /// How often random bits are blurred to become a mask: the more, the larger the blots.
    pub blurs: u32,
}

impl Negatives for Hybrid {
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let (shape, samples) = (positive.shape, positive.batch.len());
        let plane = shape.height * shape.width;
        // Bits and partners are drawn one after another, for the stream to be the same whatever the threads.
        let drawn: Vec<(usize, Vec<u32>)> = (0..samples)
            .map(|n| {
                let other = if samples > 1 { (n + random.random_range(1..samples)) % samples } else { n };
                (other, (0..plane.div_ceil(32)).map(|_| random.next_u32()).collect())
            })
            .collect();
        let mut inputs = vec![0.0; samples * shape.len()];
        let rows = inputs.par_chunks_exact_mut(shape.len()).zip(drawn).enumerate().with_min_len(8);
        rows.for_each(|(n, (to, (other, bits)))| {
            let mask = blots(&bits, shape, self.blurs);
            let (a, b) = (positive.batch.sample(n), positive.batch.sample(other));
            for ((to, a), b) in to.chunks_exact_mut(plane).zip(a.chunks_exact(plane)).zip(b.chunks_exact(plane)) {
                for (((to, a), b), m) in to.iter_mut().zip(a).zip(b).zip(&mask) {
                    *to = if *m > 0.5 { *a } else { *b };
                }
            }
        });
        Negative::inputs(inputs)
    }
}

/// Random bits, blurred `blurs` times with `[1/4, 1/2, 1/4]` both ways: `(height, width)`. Beyond the edge the image
/// goes on as it ends.
fn blots(bits: &[u32], shape: Shape, blurs: u32) -> Vec<f32> {
    let (height, width) = (shape.height, shape.width);
    let mut mask: Vec<f32> = (0..height * width).map(|i| (bits[i / 32] >> (i % 32) & 1) as f32).collect();
    let mut from = vec![0.0; mask.len()];
    crate::engine::vectorised!({
        for _ in 0..blurs {
            from.copy_from_slice(&mask);
            for (from, to) in from.chunks_exact(width).zip(mask.chunks_exact_mut(width)) {
                for x in 1..width.max(1) - 1 {
                    to[x] = 0.25 * (from[x - 1] + from[x + 1]) + 0.5 * from[x];
                }
                if width > 1 {
                    to[0] = 0.75 * from[0] + 0.25 * from[1];
                    to[width - 1] = 0.75 * from[width - 1] + 0.25 * from[width - 2];
                }
            }
            from.copy_from_slice(&mask);
            for y in 0..height {
                let row = |y: usize| &from[y * width..][..width];
                let (above, at, below) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(height - 1)));
                let to = &mut mask[y * width..][..width];
                for (((to, above), at), below) in to.iter_mut().zip(above).zip(at).zip(below) {
                    *to = 0.25 * (above + below) + 0.5 * at;
                }
            }
        }
    });
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::tests::positive;
    use crate::random::stream;

    #[test]
    fn bits_blur_evenly() {
        let shape = Shape::image(1, 3, 3);
        assert_eq!(blots(&[0b000_010_000], shape, 0), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let once: Vec<f32> = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].iter().map(|x| x / 16.0).collect();
        assert_eq!(blots(&[0b000_010_000], shape, 1), once);
        assert_eq!(blots(&[0b1], Shape::features(2), 1), [0.75, 0.25]);
        assert_eq!(blots(&[0b111_111_111], shape, 9), [1.0; 9], "nothing is lost beyond the edge");
        assert_eq!(blots(&[0b1], Shape::features(1), 3), [1.0]);
        assert_eq!(blots(&[0b00011], Shape::features(5), 1), [1.0, 0.75, 0.25, 0.0, 0.0]);
        assert_eq!(blots(&[0b11000], Shape::features(5), 1), [0.0, 0.0, 0.25, 0.75, 1.0]);
    }

    #[test]
    fn every_pixel_is_from_one_of_two_samples() {
        let shape = Shape::image(2, 12, 12);
        let batch = crate::negatives::tests::batch(shape, 5, |n, _| n as f32);
        let Negative { inputs: Some(inputs), labels: None, .. } =
            Hybrid { blurs: 3 }.draw(&positive(&batch, shape), &mut stream(1, "negatives", 0))
        else {
            panic!("hybrids are inputs")
        };
        for (n, hybrid) in inputs.chunks_exact(shape.len()).enumerate() {
            let own = hybrid.iter().filter(|x| **x == n as f32).count();
            let other = hybrid.iter().copied().find(|x| *x != n as f32).expect("part of it is another sample's");
            assert_eq!(own + hybrid.iter().filter(|x| **x == other).count(), shape.len());
            assert!((60..228).contains(&own), "{own} of 288 pixels are its own");
            assert_eq!(hybrid[..144], hybrid[144..], "channels share the mask");
            let edges = hybrid[..144].windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(edges < 50, "{edges} changes along the rows: blots are large");
        }
    }

    #[test]
    fn a_pixel_is_the_samples_own_where_the_mask_is_above_a_half() {
        let shape = Shape::image(1, 8, 4);
        let batch = crate::negatives::tests::batch(shape, 2, |n, _| n as f32);
        let drawn = Hybrid { blurs: 1 }.draw(&positive(&batch, shape), &mut stream(1, "negatives", 0)).inputs.unwrap();
        let mut random = stream(1, "negatives", 0);
        for (n, hybrid) in drawn.chunks_exact(shape.len()).enumerate() {
            assert_eq!(random.random_range(1..2usize), 1, "there is one other sample");
            let mask = blots(&[random.next_u32()], shape, 1);
            assert!(mask.contains(&0.5));
            let expected: Vec<f32> = mask.iter().map(|m| (if *m > 0.5 { n } else { 1 - n }) as f32).collect();
            assert_eq!(hybrid, expected);
        }
    }

    #[test]
    fn a_sample_alone_is_its_own_partner() {
        let shape = Shape::image(1, 2, 2);
        let batch = crate::negatives::tests::batch(shape, 1, |_, i| i as f32);
        let drawn = Hybrid { blurs: 0 }.draw(&positive(&batch, shape), &mut stream(1, "negatives", 0));
        assert_eq!(drawn.inputs.unwrap(), batch.sample(0));
    }
}
