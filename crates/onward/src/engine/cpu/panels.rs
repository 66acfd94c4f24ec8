//! How weights lie in memory: in panels of [`WIDTH`] columns, so that a product streams through them from front to back.

use super::aligned::Aligned;
use rayon::prelude::*;

/// Columns of a panel: three AVX-512 registers, six AVX2 ones. Of 1,000 columns it pads 8, of 2,000 it pads 16.
pub const WIDTH: usize = 48;

/// A matrix `(I, O)` cut into panels of [`WIDTH`] columns. A panel holds its part of row 0, of row 1, …; the last one is
/// padded with zeros, and every update keeps them zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    inputs: usize,
    outputs: usize,
    values: Aligned<f32>,
}

impl Panels {
    /// All zeros.
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        Panels { inputs, outputs, values: Aligned::zeros(inputs * outputs.div_ceil(WIDTH) * WIDTH) }
    }

    /// Makes room for `(I, O)`, keeping the memory; what the values are afterwards is unspecified.
    pub fn resize(&mut self, inputs: usize, outputs: usize) {
        (self.inputs, self.outputs) = (inputs, outputs);
        self.values.resize(inputs * outputs.div_ceil(WIDTH) * WIDTH);
    }

    /// From row-major `rows: (I, O)`.
    pub fn from_rows(rows: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(rows.len(), inputs * outputs);
        let mut panels = Self::zeros(inputs, outputs);
        for (j, panel) in panels.panels_mut().enumerate() {
            let columns = j * WIDTH..outputs.min((j + 1) * WIDTH);
            for (k, to) in panel.chunks_exact_mut(WIDTH).enumerate() {
                let from = &rows[k * outputs..][columns.clone()];
                to[..from.len()].copy_from_slice(from);
            }
        }
        panels
    }

    /// To row-major `(I, O)`.
    pub fn to_rows(&self) -> Vec<f32> {
        let mut rows = vec![0.0; self.inputs * self.outputs];
        if self.outputs > 0 {
            rows.chunks_exact_mut(self.outputs).enumerate().for_each(|(k, row)| self.row(k, row));
        }
        rows
    }

    /// Makes `to` the transpose `(O, I)`.
    pub fn transpose(&self, to: &mut Panels) {
        to.resize(self.outputs, self.inputs);
        let size = (self.outputs * WIDTH).max(1);
        to.values_mut().par_chunks_exact_mut(size).enumerate().for_each(|(j, to)| {
            // Blocks of WIDTH × WIDTH lie in one piece on both sides.
            let rows = j * WIDTH..self.inputs.min((j + 1) * WIDTH);
            for (p, to) in to.chunks_mut(WIDTH * WIDTH).enumerate() {
                let from = &self.panel(p)[rows.start * WIDTH..rows.end * WIDTH];
                for (o, to) in to.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
                    to.iter_mut().zip(from.as_chunks::<WIDTH>().0).for_each(|(to, from)| *to = from[o]);
                    to[rows.len()..].fill(0.0);
                }
            }
        });
    }

    /// Copies row `k` to `to: (O)`.
    pub fn row(&self, k: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.outputs);
        for (j, to) in to.chunks_mut(WIDTH).enumerate() {
            to.copy_from_slice(&self.panel(j)[k * WIDTH..][..to.len()]);
        }
    }

    /// `I`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// `O`.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// How many panels there are.
    pub fn count(&self) -> usize {
        self.outputs.div_ceil(WIDTH)
    }

    /// Panel `j`, `(I, WIDTH)`.
    pub fn panel(&self, j: usize) -> &[f32] {
        let size = self.inputs * WIDTH;
        &self.values()[j * size..(j + 1) * size]
    }

    /// Every panel, `(I, WIDTH)` each.
    pub fn panels_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        let size = self.inputs * WIDTH;
        self.values_mut().chunks_exact_mut(size.max(1))
    }

    /// All panels, one after another.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All panels, one after another.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// Adds to each row the amounts whose bit is 0, and takes from it those whose bit is 1: of row `i` and the columns from
/// `start` on, 32 in a word of `bits(i, word)`.
#[inline(always)]
pub fn nudge(rows: &mut [f32], amounts: &[f32; WIDTH], start: usize, bits: impl Fn(usize, usize) -> u32) {
    for (i, row) in rows.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let [low, high] = [0, 1].map(|next| u64::from(bits(i, start / 32 + next)));
        let bits = (high << 32 | low) >> (start % 32);
        for (c, (w, amount)) in row.iter_mut().zip(amounts).enumerate() {
            *w += f32::from_bits(amount.to_bits() ^ ((bits >> c) as u32) << 31);
        }
    }
}

/// Asks for what lies at `address`, which may be anywhere: columns of a panel, part of its rows each, are no pattern that
/// processors expect.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, whatever the address; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        for (inputs, outputs) in [(1, 1), (3, 47), (2, 48), (5, 49), (4, 100), (0, 3)] {
            let rows: Vec<f32> = (0..inputs * outputs).map(|i| i as f32 + 1.0).collect();
            let panels = Panels::from_rows(&rows, inputs, outputs);
            assert_eq!(panels.to_rows(), rows);
            let padding = panels.values().iter().filter(|v| **v == 0.0).count();
            assert_eq!(padding, inputs * (outputs.div_ceil(WIDTH) * WIDTH - outputs));
            assert_eq!(panels.values().as_ptr().align_offset(64), 0);
            let mut transposed = Panels::from_rows(&[7.0; 9_999], 99, 101); // whatever was there before
            panels.transpose(&mut transposed);
            assert_eq!(transposed.to_rows(), crate::tensor::transposed(&rows, inputs, outputs));
            assert_eq!(
                transposed.values().iter().filter(|v| **v == 0.0).count(),
                transposed.values().len() - rows.len()
            );
        }
    }
}
