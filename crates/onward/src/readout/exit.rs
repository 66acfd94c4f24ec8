//! The way up through the layers that a readout looks at, and early exit: samples whose label is clear enough go no further.

use crate::network::{Network, Stage};
use crate::pass::{Activity, Inputs};
use std::ops::ControlFlow;

/// Scores `(N, K)`: what the layers say of each sample, added up. `x` has `each` rows of a sample, one after another. `say` gets each
/// answer, writes what the layer says of the samples on their way `(n, K)`, makes of the answer what the next layer is to read,
/// and says whether the layer is read.
pub(super) fn scores(
    network: &Network,
    x: &Inputs<'_>,
    each: usize,
    buffers: &mut [Activity; 2],
    mut say: impl FnMut(usize, &Stage, &mut Activity, &mut Vec<f32>) -> bool,
) -> Vec<f32> {
    let (classes, samples) = (network.classes(), x.rows() / each);
    let (mut scores, mut part) = (vec![0.0; samples * classes], Vec::new());
    let mut exit = Exit::new(network.recipe().readout.margin, samples);
    network.ascend(x, buffers, |l, stage, y| {
        part.clear();
        part.resize(exit.going.len() * classes, 0.0);
        if say(l, stage, y, &mut part) {
            for (part, &n) in part.chunks_exact(classes).zip(&exit.going) {
                scores[n as usize * classes..][..classes].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            exit.leave(&scores, classes, each, y);
        }
        exit.flow()
    });
    scores
}

/// Which samples are still on their way, and whose labels are clear.
#[derive(Debug)]
struct Exit {
    margin: f32,
    /// The samples on their way, in order.
    going: Vec<u32>,
}

impl Exit {
    /// `samples` set out; each leaves once it leads by `margin` nats, or never where that is 0.
    fn new(margin: f32, samples: usize) -> Self {
        Exit { margin, going: (0..samples as u32).collect() }
    }

    /// Whether any sample still goes up.
    fn flow(&self) -> ControlFlow<()> {
        if self.going.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Lets go of the samples whose likeliest label leads by the margin in `scores: (N, K)`, and takes their rows, `each` per
    /// sample, out of the activity.
    fn leave(&mut self, scores: &[f32], classes: usize, each: usize, y: &mut Activity) {
        if self.margin == 0.0 {
            return;
        }
        let clear = |n: &u32| lead(&scores[*n as usize * classes..][..classes]) >= self.margin;
        let stays: Vec<bool> = self.going.iter().map(|n| !clear(n)).collect();
        y.retain(each, &stays);
        let mut stays = stays.into_iter();
        self.going.retain(|_| stays.next().expect("one for each"));
    }
}

/// How far the best of the scores is ahead of the second best.
fn lead(scores: &[f32]) -> f32 {
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &score in scores {
        if score > best {
            (best, second) = (score, best);
        } else if score > second {
            second = score;
        }
    }
    best - second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_samples_leave_with_their_rows() {
        let mut exit = Exit::new(2.0, 3);
        let mut y = Activity::default();
        y.resize(6, 1);
        y.values.copy_from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        y.squares.copy_from_slice(&[0.0, 1.0, 4.0, 9.0, 16.0, 25.0]);
        let scores = [0.0, 1.0, -5.0, 3.0, 7.0, 7.0];
        exit.leave(&scores, 2, 2, &mut y);
        assert_eq!(exit.going, [0, 2]);
        assert_eq!(y.values, [0.0, 1.0, 4.0, 5.0]);
        assert_eq!((y.rows(), &y.squares[..]), (4, &[0.0, 1.0, 16.0, 25.0][..]));
        assert_eq!(lead(&[1.0]), f32::INFINITY);
    }
}
