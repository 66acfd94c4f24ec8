//! What layers do with the rows that pass them while training: answer, learn from the answer, pass it on. Whether all
//! layers are at hand or a pipeline has a block of them here and another there, this is where they learn.

use crate::engine::vectorised;
use crate::error::{Error, Result};
use crate::network::{Stage, take_turns};
use crate::optimizer::Step;
use crate::pass::{Activity, Directions, Inputs};
use crate::random::{Random, stream};
use crate::settings::Recipe;
use crate::train::directions;
use crate::train::pipeline::Group;
use crate::train::totals::LayerTotals;
use rand::RngExt;
use rayon::prelude::*;
use std::ops::Range;

/// Activities that a thread draws for at a time.
const DRAWN: usize = 1 << 13;

/// One step, as all layers are told of it.
#[derive(Clone, Debug)]
pub(crate) struct Lesson<'a> {
    pub recipe: &'a Recipe,
    /// How far weights move.
    pub step: Step,
    /// Steps taken before this one.
    pub taken: u64,
    /// Samples of the batch.
    pub batch: usize,
    /// Which of them the first one here is: a replica has a share of the batch.
    pub first: usize,
    /// The layers that learn; others only answer.
    pub learning: Range<usize>,
    /// The true labels `(B)`, for layers that tell them themselves.
    pub labels: &'a [u32],
}

/// Layers above each other, with what is learned from the rows that pass them.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    /// Which of the network's layers the first one is.
    pub first: usize,
    /// Units of all layers below the first one.
    pub below: usize,
    pub stages: &'a mut [Stage],
    pub totals: &'a mut [LayerTotals],
    /// The replicas that learn the same layers from the rest of the batch.
    pub group: Option<&'a mut Group>,
}

impl Layers<'_> {
    /// Carries `x: (R, I)` up: as many positive rows as `solved` has samples, as many negative ones if layers learn from pairs,
    /// and perhaps others that nothing is learned from. Each layer that learns does so as they pass; then `passed` is shown the
    /// activity as the next layer will read it, before dropout. Clears the `solved` mark of samples that some layer has anything
    /// to learn from, and adds the summed loss of all samples and layers to `loss`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where an activity or the loss overflows.
    pub fn learn(
        &mut self,
        x: &Inputs<'_>,
        buffers: &mut [Activity],
        lesson: &Lesson<'_>,
        (solved, loss): (&mut [bool], &mut f64),
        d: &mut Directions,
        mut passed: impl FnMut(usize, &Activity),
    ) -> Result<()> {
        let mut below = self.below;
        for (at, (stage, totals)) in self.stages.iter_mut().zip(self.totals.iter_mut()).enumerate() {
            let l = self.first + at;
            let (input, y) = take_turns(buffers, at);
            let x = if at == 0 { x } else { &input };
            if let Some(group) = &mut self.group {
                group.catch_up(at, &mut *stage.layer, Some(&mut stage.peer))?;
            }
            y.resize(x.rows(), stage.layer.outputs());
            stage.layer.forward(x, y);
            check_finite(y, l, lesson.taken)?;
            if lesson.learning.contains(&l) && stage.layer.learns() {
                let own = match lesson.recipe.objective.by_class() {
                    false => directions::of_pairs(stage, lesson.recipe, lesson.taken, y, totals, solved, d),
                    true => directions::of_classes(stage, lesson, y, totals, solved, d),
                };
                check_loss(own, l, lesson.taken)?;
                *loss += own;
                match &mut self.group {
                    None => {
                        stage.peer.push(solved.len(), &mut d.shared);
                        stage.layer.update(x, d, &lesson.step);
                    }
                    Some(group) => group.learn(at, &*stage.layer, x, d, lesson.step),
                }
            }
            stage.normalization.apply(y);
            passed(l, y);
            let share = lesson.recipe.network.dropout;
            if share > 0.0 {
                let (kinds, here) = (lesson.recipe.objective.rows(), solved.len());
                for kind in 0..kinds {
                    // The draws of these rows are where they are when one process has the whole batch.
                    let drawn = kinds * lesson.batch * below + (kind * lesson.batch + lesson.first) * y.width();
                    drop_out(share, kind * here..(kind + 1) * here, y, &mut silence(lesson, drawn as u64));
                }
            }
            below += stage.layer.outputs();
        }
        Ok(())
    }
}

/// # Errors
/// [`Error::NotFinite`] where an activity of layer `l` has overflowed.
pub(crate) fn check_finite(y: &Activity, l: usize, step: u64) -> Result<()> {
    match y.squares.iter().copied().find(|squares| !squares.is_finite()) {
        Some(found) => Err(Error::NotFinite { layer: l, step, found }),
        None => Ok(()),
    }
}

/// # Errors
/// [`Error::NotFinite`] where the loss of layer `l` has overflowed.
pub(crate) fn check_loss(loss: f64, l: usize, step: u64) -> Result<()> {
    if loss.is_finite() { Ok(()) } else { Err(Error::NotFinite { layer: l, step, found: loss as f32 }) }
}

/// # Errors
/// [`Error::HeadNotFinite`] where the head's loss has overflowed.
pub(crate) fn check_head(loss: f64, step: u64) -> Result<()> {
    if loss.is_finite() { Ok(()) } else { Err(Error::HeadNotFinite { step, found: loss }) }
}

/// The draws of a step's dropout, after those for `drawn` activities.
fn silence(lesson: &Lesson<'_>, drawn: u64) -> Random {
    let mut random = stream(lesson.recipe.seed.0, "dropout", lesson.taken);
    random.set_word_pos(random.get_word_pos() + u128::from(drawn)); // a draw is a word
    random
}

/// Silences a share of some rows' activities, and raises the others in turn: a draw for each, from where `random` is.
pub(crate) fn drop_out(share: f32, rows: Range<usize>, y: &mut Activity, random: &mut Random) {
    if share == 0.0 {
        return;
    }
    let width = y.width();
    let values = &mut y.values[rows.start * width..rows.end * width];
    let start = random.get_word_pos(); // a draw is a word
    random.set_word_pos(start + values.len() as u128);
    let random = &*random;
    values.par_chunks_mut(DRAWN).enumerate().for_each(|(chunk, values)| {
        let mut random = random.clone();
        random.set_word_pos(start + (chunk * DRAWN) as u128);
        let mut draws = [0u32; 64];
        for values in values.chunks_mut(draws.len()) {
            random.fill(&mut draws[..values.len()]);
            vectorised!({
                for (y, draw) in values.iter_mut().zip(draws) {
                    // As `random::<f32>()` makes it: 24 bits of a word.
                    let draw = (draw >> 8) as f32 * (0.5f32).powi(24);
                    *y = if draw < share { 0.0 } else { *y / (1.0 - share) };
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activity_is_silenced_by_its_own_draw() {
        let (width, rows) = (1_009, 12); // a chunk and a half, and no whole number of buffers
        let mut y = Activity::default();
        y.resize(rows, width);
        y.values.fill(1.0);
        let mut random = stream(3, "dropout", 5);
        drop_out(0.25, 2..rows, &mut y, &mut random);
        let mut draws = stream(3, "dropout", 5);
        assert!(y.values[..2 * width].iter().all(|y| *y == 1.0), "other rows are left alone");
        for y in &y.values[2 * width..] {
            let draw: f32 = draws.random();
            assert_eq!(*y, if draw < 0.25 { 0.0 } else { 1.0 / 0.75 });
        }
        assert_eq!(random.random::<u32>(), draws.random::<u32>(), "who draws next goes on behind these draws");
    }
}
