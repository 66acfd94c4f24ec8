//! Texts that the net writes itself: what it says in its sleep.

use super::{Negative, Negatives, Positive};
use crate::error::Result;
use crate::random::Random;
use crate::tensor::{Tensor, Tensors};
use rand::RngExt;

/// Characters that a string is carried on for before a new one begins: what follows the window in the strings of the paper.
const LENGTH: u64 = 90;

/// Each window of symbols is one that the net has written: it starts as a real one, and at each step the net predicts the
/// next symbol from the window, one is drawn as often as it believes in it, and the window moves on by it. Real symbols are
/// soon gone. The negative sample is the window with that symbol as its label; where no label goes in, the window after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The windows `(B, shape)`, one-hot; empty before the first step.
    windows: Vec<f32>,
    /// Steps taken.
    taken: u64,
    /// Whether labels go in.
    labels: bool,
    /// Whether the next draw has been asked for its windows.
    asked: bool,
}

impl Generated {
    /// Before the first step; `labels`: whether labels go in.
    pub fn new(labels: bool) -> Self {
        Generated { labels, ..Generated::default() }
    }

    /// Whether window `n` of `of` starts anew at this step: they take turns.
    fn starts(&self, n: usize, of: usize) -> bool {
        self.windows.is_empty() || self.taken.wrapping_add(n as u64 * LENGTH / of as u64).is_multiple_of(LENGTH)
    }
}

impl Negatives for Generated {
    fn ask(&mut self, positive: &Positive<'_>) -> Option<Vec<f32>> {
        let (size, samples) = (positive.shape.len(), positive.batch.len());
        let mut windows = self.windows.clone();
        windows.resize(samples * size, 0.0);
        for (n, window) in windows.chunks_exact_mut(size).enumerate() {
            if self.starts(n, samples) {
                window.copy_from_slice(positive.batch.sample(n));
            }
        }
        (self.windows, self.asked) = (windows.clone(), true);
        Some(windows)
    }

    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let (size, classes) = (positive.shape.len(), positive.classes);
        if !self.asked {
            self.ask(positive);
        }
        self.asked = false;
        let asked = self.windows.clone();
        let unsure = vec![1.0 / classes as f32; asked.len() / size * classes];
        let answers = positive.answers.unwrap_or(&unsure);
        let mut said = Vec::new();
        for (window, p) in self.windows.chunks_exact_mut(size).zip(answers.chunks_exact(classes)) {
            let symbol = any(p, random);
            window.copy_within(classes.., 0);
            window[size - classes..].fill(0.0);
            window[size - classes + symbol as usize] = 1.0;
            said.push(symbol);
        }
        self.taken = self.taken.wrapping_add(1);
        match self.labels {
            true => Negative { labels: Some(said), ..Negative::inputs(asked) },
            false => Negative::inputs(self.windows.clone()),
        }
    }

    fn tensors(&self) -> Vec<Tensor> {
        let windows = Tensor::f32("windows", &[self.windows.len()], self.windows.clone());
        vec![windows, Tensor::u8("taken", &[8], self.taken.to_le_bytes().to_vec())]
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let length = tensors.iter().find(|t| t.name == "windows").map_or(0, |t| t.shape.iter().product());
        self.windows = Tensors(tensors).f32("windows", &[length])?.to_vec();
        let taken = Tensors(tensors).u8("taken", &[8])?;
        self.taken = u64::from_le_bytes(taken.try_into().expect("it has eight bytes"));
        Ok(())
    }
}

/// A class drawn in proportion to `p`, which sum to 1.
fn any(p: &[f32], random: &mut Random) -> u32 {
    let mut left = random.random::<f32>();
    let at = p.iter().position(|p| {
        left -= p;
        left < 0.0
    });
    at.unwrap_or(p.len() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    #[test]
    fn symbols_are_drawn_as_often_as_believed() {
        let mut random = stream(5, "negatives", 0);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[any(&[0.5, 0.0, 0.25, 0.25], &mut random) as usize] += 1;
        }
        let [a, b, c, d] = counts;
        assert!((4800..5200).contains(&a) && b == 0 && [c, d].iter().all(|n| (2300..2700).contains(n)), "{counts:?}");
        assert_eq!(any(&[0.0, 0.0, 0.0], &mut random), 2, "what rounding leaves over is the last one's");
    }
}
