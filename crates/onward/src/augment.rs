//! Random changes to training inputs.

use crate::Shape;

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
