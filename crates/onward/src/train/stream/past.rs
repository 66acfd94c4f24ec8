//! The last standardised records, in a ring: windows are read from it.

/// The last `windows` windows, each of `length` records of `features` values; records that windows share are kept once.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// `(slots, F)`: record `n` is in slot `n % slots`. Zeros where there was none yet.
    pub(super) records: Vec<f32>,
    /// Whether record `n` has had its label, in the same slots.
    pub(super) labelled: Vec<u8>,
    /// Records ever seen.
    pub(super) count: u64,
    features: usize,
    length: usize,
    windows: usize,
}

impl Past {
    /// Room for `windows` windows of `length` records.
    pub fn new(features: usize, length: usize, windows: usize) -> Self {
        let slots = windows + length - 1;
        Past { records: vec![0.0; slots * features], labelled: vec![0; slots], count: 0, features, length, windows }
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.labelled.len() as u64) as usize
    }

    /// The place of the next record `(F)`, which becomes the newest.
    pub fn push(&mut self) -> &mut [f32] {
        let slot = self.slot(self.count);
        self.count += 1;
        self.labelled[slot] = 0;
        &mut self.records[slot * self.features..][..self.features]
    }

    /// How many windows can be read: the newest, and those before it.
    pub fn len(&self) -> u64 {
        self.count.min(self.windows as u64)
    }

    /// Whether the window that ends with record `number` can be read.
    pub fn has(&self, number: u64) -> bool {
        number < self.count && self.count - number <= self.windows as u64
    }

    /// Record `number` `(F)`, of a window that can be read.
    pub fn record(&self, number: u64) -> &[f32] {
        &self.records[self.slot(number) * self.features..][..self.features]
    }

    /// The window that ends with record `number`, oldest record first: `to: (length·F)`. What was before the first record
    /// is zeros, which is the features' mean.
    pub fn window(&self, number: u64, to: &mut [f32]) {
        let before = self.length as u64 - 1;
        for (back, to) in (0..=before).rev().zip(to.chunks_exact_mut(self.features)) {
            match number.checked_sub(back) {
                Some(number) => to.copy_from_slice(self.record(number)),
                None => to.fill(0.0),
            }
        }
    }

    /// Marks that record `number` has its label; answers whether it had none before.
    pub fn mark(&mut self, number: u64) -> bool {
        let slot = self.slot(number);
        std::mem::replace(&mut self.labelled[slot], 1) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_can_be_read_as_long_as_promised() {
        let mut past = Past::new(1, 3, 4);
        for x in 1..=20 {
            past.push()[0] = x as f32;
        }
        assert_eq!((past.len(), past.has(15), past.has(16), past.has(20)), (4, false, true, false));
        let mut window = [0.0; 3];
        past.window(16, &mut window);
        assert_eq!(window, [15.0, 16.0, 17.0], "record 16 is the 17th");
        assert!(past.mark(16) && !past.mark(16));
    }

    #[test]
    fn before_the_first_record_there_is_nothing() {
        let mut past = Past::new(2, 2, 1);
        past.push().copy_from_slice(&[1.0, 2.0]);
        let mut window = [9.0; 4];
        past.window(0, &mut window);
        assert_eq!(window, [0.0, 0.0, 1.0, 2.0]);
    }
}
