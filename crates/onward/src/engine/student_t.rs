//! The activation `−log p` under Student's t-distribution (paper, section 2), less its value at 0, so that a silent unit says 0.

use super::{sum_of_squares, vectorised};
use crate::pass::Activity;
use rayon::prelude::*;

/// From a product's results `a` to `y = ½(ν + 1)·log(1 + a²/ν)` and its derivative `(ν + 1)·a/(ν + a²)`, and `Σ y²`.
#[expect(clippy::eq_op, reason = "`a² − a²` is NaN for what is not finite")]
pub(crate) fn apply(freedom: f32, y: &mut Activity) {
    let width = y.width().max(1);
    let Activity { values, squares, derivative, .. } = y;
    derivative.resize(values.len(), 0.0);
    let rows = values.par_chunks_exact_mut(width).zip(derivative.par_chunks_exact_mut(width)).zip(squares);
    rows.with_min_len(16).for_each(|((y, derivative), squares)| {
        vectorised!({
            let (above, inverse) = (freedom + 1.0, 1.0 / freedom);
            for (y, derivative) in y.iter_mut().zip(derivative) {
                let (a, square) = (*y, *y * *y);
                *derivative = above * a / (freedom + square);
                // What overflows is not hidden by the logarithm: `a² − a²` is 0 or NaN.
                *y = 0.5 * above * ln(1.0 + inverse * square) + (square - square);
            }
            *squares = sum_of_squares(y);
        });
    });
}

/// The natural logarithm of a number from 1, without branches, so that vectors can hold it: the mantissa's by the series of
/// `2·artanh((m − 1)/(m + 1))`, for `m` between √½ and √2.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    2.0 * s * series + exponent * std::f32::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_library() {
        for x in [1.0f32, 1.0 + f32::EPSILON, 1.2, 1.414, 1.415, 2.0, 3.7, 100.0, 1e10, 3e38] {
            let expected = f64::from(x).ln();
            assert!((f64::from(ln(x)) - expected).abs() < 3e-7 * (1.0 + expected), "{x}: {} for {expected}", ln(x));
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        let mut y = Activity::default();
        y.resize(3, 2);
        y.values.copy_from_slice(&[0.0, f32::INFINITY, f32::NAN, -1.0, 0.0, 2e19]);
        apply(1.0, &mut y);
        assert_eq!((y.values[0], y.derivative[0]), (0.0, 0.0));
        assert!(y.values[1].is_nan() && y.values[2].is_nan() && y.squares.iter().all(|s| s.is_nan()));
        assert!((y.values[3] - 2f32.ln()).abs() < 1e-6 && (y.derivative[3] + 1.0).abs() < 1e-6);
    }
}
