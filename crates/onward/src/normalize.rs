//! Normalisation: what a layer passes on. Only the direction of its activity goes up; its length, which is its
//! goodness, is used up, so the next layer cannot simply read it off.

use crate::pass::Activity;
use crate::settings::Normalization;

/// Keeps an activity that is all zeros from dividing by zero (released code).
pub const TINY: f32 = 1e-10;

impl Normalization {
    /// The number that each value of a sample is multiplied by, where that is all this normalisation does.
    /// `squares` is `Σ x²` over the sample's `width` values. Where that has overflowed there is no such number: NaN, so that
    /// whoever reads the sample finds out, and not 0.
    pub fn scale(self, squares: f32, width: usize) -> f32 {
        match self {
            _ if !squares.is_finite() => f32::NAN,
            Normalization::Rms | Normalization::Layer => 1.0 / (TINY + (squares / width as f32).sqrt()),
            Normalization::Length => 1.0 / (TINY + squares.sqrt()),
            Normalization::None => 1.0,
        }
    }

    /// Turns an activity into what the next layer reads. Most kinds only set each row's scale, which the next
    /// product applies at no cost; `Layer` also subtracts each row's mean.
    pub fn apply(self, activity: &mut Activity) {
        let width = activity.width();
        if self == Normalization::Layer {
            for r in 0..activity.rows() {
                let row = activity.row_mut(r);
                let mean = row.iter().sum::<f32>() / width as f32;
                row.iter_mut().for_each(|y| *y -= mean);
            }
            activity.measure();
        }
        for r in 0..activity.rows() {
            activity.scale[r] = self.scale(activity.squares[r], width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_with_the_promised_size() {
        let y = [3.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        for (kind, expected) in [
            (Normalization::Rms, [1.039_230_5, 1.385_640_6, 0.0]),
            (Normalization::Length, [0.6, 0.8, 0.0]),
            (Normalization::None, [3.0, 4.0, 0.0]),
            (Normalization::Layer, [0.392_232_27, 0.980_580_7, -1.372_813]),
        ] {
            let mut activity = Activity::default();
            activity.resize(2, 3);
            activity.values.copy_from_slice(&y);
            activity.measure();
            kind.apply(&mut activity);
            let found: Vec<f32> = activity.values[..3].iter().map(|y| y * activity.scale[0]).collect();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{kind:?}: {found} for {expected}");
            }
            assert!(activity.values[3..].iter().all(|y| y * activity.scale[1] == 0.0), "{kind:?}: zeros stay zeros");
        }
    }
}
