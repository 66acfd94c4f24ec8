//! Numbers that start at a cache line, where vector and tile loads want them, and in large pages where there are many.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// A cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line<T>([T; LINE]);

/// Numbers of four bytes in a cache line.
const LINE: usize = 16;

/// `Vec<T>` of whole cache lines, for `f32` and `u32`.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    /// As many as were ever asked for.
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

    /// New numbers are whatever was there before, or 0: memory that is used again is not written to.
    pub fn resize(&mut self, len: usize) {
        const { assert!(size_of::<Line<T>>() == 64 && size_of::<T>() * LINE == 64) };
        let lines = len.div_ceil(LINE);
        if lines > self.lines.capacity() {
            self.lines.reserve(lines - self.lines.len());
            // Before anything is written: a page that is in use stays as small as it is.
            ask_for_large_pages(self.lines.spare_capacity_mut());
        }
        if lines > self.lines.len() {
            self.lines.resize(lines, Line::default());
        }
        self.len = len;
    }

    /// Takes out everything; the memory stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl<T: PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut clone = Self::zeros(self.len);
        clone.copy_from_slice(self);
        clone
    }
}

/// Asks the system for large pages behind memory that is about to be written: a processor's table of pages reaches over a few
/// megabytes in small ones, and weights are streamed through. Where it has none to give, nothing changes.
#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_large_pages<T>(memory: &mut [MaybeUninit<T>]) {
    use rustix::mm::{Advice, madvise};
    const LARGE_PAGE: usize = 2 << 20;
    let size = size_of_val(memory);
    let start: *mut u8 = memory.as_mut_ptr().cast();
    let before = start.align_offset(LARGE_PAGE);
    let whole = size.saturating_sub(before) / LARGE_PAGE * LARGE_PAGE;
    if whole > 0 {
        // SAFETY: the range lies within `memory`, and the advice changes nothing of what is read there or may be done with it.
        // It is only advice: a system that does not know it answers with an error.
        _ = unsafe { madvise(start.add(before).cast(), whole, Advice::LinuxHugepage) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn ask_for_large_pages<T>(_: &mut [MaybeUninit<T>]) {}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `Line` is 16 `T` without padding, `T` asks for less alignment, and there are lines enough for `len`.
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
        assert_eq!(
            (numbers.clone(), numbers.clone().lines.len()),
            (Aligned::zeros(16), 1),
            "a clone is of what there is"
        );
        numbers.resize(17);
        assert_eq!(numbers[16], 5, "nothing was written");
        numbers.clear();
        assert!(numbers.is_empty());
    }

    #[test]
    fn many_numbers_are_as_few() {
        let mut numbers = Aligned::<u32>::zeros((3 << 19) + 5);
        assert!(numbers.iter().all(|number| *number == 0));
        numbers.iter_mut().zip(0..).for_each(|(number, i)| *number = i);
        let clone = numbers.clone();
        numbers.resize(3 << 20);
        assert_eq!(numbers[..clone.len()], clone[..]);
        assert!((0..).zip(clone.iter()).all(|(i, number)| *number == i));
        assert!(numbers[clone.len().next_multiple_of(LINE)..].iter().all(|number| *number == 0));
    }
}
