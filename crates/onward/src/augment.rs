//! placeholder
use crate::Shape;
/// shift
pub fn shift(_: Shape, from: &[f32], _: i32, _: i32, to: &mut [f32]) {
    to.copy_from_slice(from)
}
