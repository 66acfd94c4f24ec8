//! Numbers that start at a cache line: where vector and tile loads want them.

use std::ops::{Deref, DerefMut};

/// A cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line<T>([T; LINE]);

/// Numbers of four bytes in a cache line.
const LINE: usize = 16;

/// `Vec<T>` of whole cache lines, for `f32` and `u32`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aligned<T> {
    lines: Vec<Line<T>>,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// All zeros.
    pub fn zeros(len: usize) -> Self {
        let mut aligned = Aligned { lines: Vec::new(), len: 0 };
        aligned.resize(len);
        aligned
    }

    /// New numbers are 0, or what was there before.
    pub fn resize(&mut self, len: usize) {
        const { assert!(size_of::<Line<T>>() == 64 && size_of::<T>() * LINE == 64) };
        self.lines.resize(len.div_ceil(LINE), Line::default());
        self.len = len;
    }

    /// Takes out everything; the memory stays.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.len = 0;
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `Line` is 16 `T` without padding, `T` asks for less alignment, and `len` was made to fit into the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_in_lines() {
        let mut numbers = Aligned::<u32>::zeros(17);
        assert_eq!((numbers.len(), numbers.as_ptr().align_offset(64)), (17, 0));
        numbers[16] = 5;
        numbers.resize(40);
        assert_eq!((numbers[16], numbers[39]), (5, 0));
        numbers.resize(16);
        assert_eq!(&numbers[..], [0; 16]);
        numbers.clear();
        assert!(numbers.is_empty());
    }
}
