//! Learning on line: one sample after another, each in one exact step of every layer (paper, section 7).

use crate::error::Result;
use crate::network::take_turns;
use crate::pass::Directions;
use crate::train::Trainer;
use crate::train::one_step::step_beyond;
use crate::train::stage::{check_finite, check_loss};

impl Trainer {
    /// A step of the one-step rule: each sample of the batch goes up with its label, then its negative, and each layer takes
    /// its goodness to beyond the threshold, or `rate` of the way, before anything else happens. What it passes on stays what it
    /// was, so the layers above need not wait. Returns the mean loss per sample and layer.
    pub(super) fn one_by_one(&mut self) -> Result<f64> {
        let (negative, prediction) = self.draw_negative(false);
        if prediction {
            self.teach_head();
        }
        let (taken, depth) = (self.position.step, self.network.depth());
        let recipe = self.network.recipe().clone();
        let work = &mut self.work;
        let batch = work.solved.len();
        let [positives, negatives] = negative.rows(&self.network, &mut work.batch, batch);
        let (mut d, beyond) = (Directions::default(), (recipe.optimizer.margin, recipe.optimizer.rate));
        let (mut loss, mut logits) = (0.0, vec![[0.0; 2]; depth]);
        for pair in positives.into_iter().zip(negatives).map(<[_; 2]>::from) {
            // The positive one goes up beside its negative, so that both are told as they are found: a step that has just raised
            // the positive one has raised what it shares with the negative one too.
            for (up, rows) in [(1.0, &pair[..]), (-1.0, &pair[1..])] {
                work.pairs.fill(&self.network, &work.batch, rows.iter().copied());
                let first = work.pairs.as_inputs(&work.batch, None);
                for (l, stage) in self.network.stages.iter_mut().enumerate() {
                    let (below, y) = take_turns(&mut work.buffers, l);
                    let x = if l == 0 { &first } else { &below };
                    y.resize(rows.len(), stage.layer.outputs());
                    stage.layer.forward(x, y);
                    check_finite(y, l, taken)?;
                    let (measure, totals) = (&stage.measure, &mut self.totals.layers[l]);
                    if rows.len() == 2 {
                        let goodness = [0, 1].map(|r| measure.value(y.row(r), y.squares[r]));
                        logits[l] = goodness.map(|g| measure.logit(g));
                        totals.positive += f64::from(goodness[0]);
                        totals.negative += f64::from(goodness[1]);
                        totals.alive.iter_mut().zip(y.row(0)).for_each(|(alive, y)| *alive |= u8::from(*y > 0.0));
                    }
                    totals.active += u64::from(step_beyond(stage, (x, y), up, beyond, &mut d));
                    stage.normalization.apply(y);
                }
            }
            for (l, (logits, totals)) in logits.iter().zip(&mut self.totals.layers).enumerate() {
                let terms = recipe.objective.terms(logits[0], logits[1]);
                check_loss(terms.loss.into(), l, taken)?;
                totals.loss += f64::from(terms.loss);
                totals.wrong += u64::from(logits[0] <= logits[1]);
                loss += f64::from(terms.loss);
            }
        }
        Ok(loss / (batch * depth) as f64)
    }
}
