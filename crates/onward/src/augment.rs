//! Random changes to training inputs.

use crate::Shape;
use crate::random::Random;
use crate::settings::AugmentSettings;
use rand::RngExt;

impl AugmentSettings {
    /// Changes `values: (shape)`, a sample, at random: first where it lies, then which of its values are there.
    pub(crate) fn change(&self, shape: Shape, values: &mut [f32], random: &mut Random, scratch: &mut [f32]) {
        if self.shift > 0 {
            let most = self.shift as i32;
            let (dx, dy) = (random.random_range(-most..=most), random.random_range(-most..=most));
            scratch.copy_from_slice(values);
            shift(shape, scratch, dx, dy, values);
        }
        if self.mask > 0.0 {
            mask(values, self.mask, random);
        }
    }
}

/// Masking noise, as denoising autoencoders have it: sets each value to 0 with probability `share`.
pub fn mask(values: &mut [f32], share: f32, random: &mut Random) {
    for value in values {
        let draw: f32 = random.random();
        *value = if draw < share { 0.0 } else { *value };
    }
}

/// Shifts an image by `dx` pixels to the right and `dy` down; what comes into view is 0. `from`, `to`: `(shape)`.
///
/// # Panics
/// Where `from` or `to` is not as long as a sample of `shape`.
pub fn shift(shape: Shape, from: &[f32], dx: i32, dy: i32, to: &mut [f32]) {
    assert!(from.len() == shape.len() && to.len() == shape.len());
    let (height, width) = (shape.height as i64, shape.width as i64);
    let (dx, dy) = (i64::from(dx).clamp(-width, width), i64::from(dy).clamp(-height, height));
    to.fill(0.0);
    let plane = shape.height * shape.width;
    for (from, to) in from.chunks_exact(plane).zip(to.chunks_exact_mut(plane)) {
        for y in 0.max(dy)..height.min(height + dy) {
            let columns = 0.max(dx)..width.min(width + dx);
            let length = (columns.end - columns.start) as usize;
            let at = |row: i64, column: i64| (row * width + column) as usize;
            let source = &from[at(y - dy, columns.start - dx)..][..length];
            to[at(y, columns.start)..][..length].copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    #[test]
    fn a_share_of_the_values_is_masked_and_others_stay() {
        let mut values: Vec<f32> = (1..=20_000).map(|value| value as f32).collect();
        let mut random = stream(1, "test", 0);
        mask(&mut values, 0.3, &mut random);
        let gone = values.iter().filter(|value| **value == 0.0).count();
        assert!((5_700..6_300).contains(&gone), "{gone}"); // 4.6 standard deviations
        assert!(values.iter().zip(1..).all(|(value, n)| *value == 0.0 || *value == n as f32));
        let first = values.clone();
        mask(&mut values, 0.3, &mut random);
        assert_ne!(values, first); // other values at the next visit
        mask(&mut values, 0.0, &mut random);
        assert!(values.iter().any(|value| *value > 0.0));
    }

    #[test]
    fn images_move_and_zeros_follow() {
        let shape = Shape::image(2, 2, 3);
        let from = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        let shifted = |dx, dy| {
            let mut to = [9.9; 12];
            shift(shape, &from, dx, dy, &mut to);
            to
        };
        assert_eq!(shifted(0, 0), from);
        assert_eq!(shifted(1, 0), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0, 0.0, 7.0, 8.0, 0.0, 10.0, 11.0]);
        assert_eq!(shifted(-2, 1), [0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0]);
        assert_eq!(shifted(0, -1), [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 10.0, 11.0, 12.0, 0.0, 0.0, 0.0]);
        assert_eq!(shifted(3, 0), [0.0; 12]);
        assert_eq!(shifted(-99, 99), [0.0; 12]);
    }
}
