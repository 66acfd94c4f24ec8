//! A step of a recurrent network.

use crate::batch::Label;
use crate::error::Result;
use crate::negatives::Positive;
use crate::optimizer::Step;
use crate::random::stream;
use crate::recurrent::Held;
use crate::train::Trainer;
use crate::train::directions;
use crate::train::stage::{check_finite, check_loss};

impl Trainer {
    /// A recurrent network's step: states start from a bottom-up pass, which the head reads, and run on with the true label
    /// and with a wrong one; every layer learns at every moment. Returns the mean loss per sample, layer and moment.
    pub(super) fn moments(&mut self) -> Result<f64> {
        let (seed, gain, position) = (self.recipe().seed.0, self.gain(), self.position);
        let recipe = self.recipe().clone();
        let batch = self.work.batch.len();
        let samples: Vec<u32> = (0..batch as u32).collect();
        let bottom_up = Held { batch: &self.work.batch, source: &samples, labels: &[], context: &[] };
        self.work.states.start(&self.network, bottom_up);
        if let Some(head) = self.network.head() {
            let work = &mut self.work;
            work.logits.clear();
            work.logits.resize(batch * self.network.classes(), 0.0);
            for (l, y) in work.states.layers.iter().enumerate() {
                head.add(l, &y.as_inputs(), &mut work.answer, &mut work.logits);
            }
            std::mem::swap(&mut work.kept, &mut work.states.layers);
            self.find_head_direction();
            self.teach_head();
            std::mem::swap(&mut self.work.kept, &mut self.work.states.layers);
        }
        let predicted = if self.network.head().is_some() { &self.work.logits[..] } else { &[] };
        let positive = Positive::new(&self.network, &self.work.batch, (predicted, &[]));
        let negative = self.negatives.draw(&positive, &mut stream(seed, "negatives", position.step));

        let work = &mut self.work;
        let pairs = negative.rows(&self.network, &mut work.batch, batch).concat().into_iter();
        let (source, labels): (Vec<u32>, Vec<Label>) = pairs.map(|(n, label)| (n as u32, label)).unzip();
        match negative.inputs {
            Some(_) => {
                work.states
                    .start(&self.network, Held { batch: &work.batch, source: &source, labels: &[], context: &[] });
            }
            None => work.states.double(),
        }
        let labels = if self.network.sees_labels() { &labels[..] } else { &[] };
        let context = negative.heard(batch);
        let mut loss = 0.0;
        let moments = recipe.recurrent.iterations;
        for moment in 0..moments {
            let taken = position.step * u64::from(moments) + u64::from(moment);
            let step = Step::new(&recipe.optimizer, gain, batch, taken);
            for l in 0..self.network.depth() {
                let held = Held { batch: &work.batch, source: &source, labels, context: &context };
                let (x, y) = work.states.answer(&self.network, held, l);
                check_finite(y, l, position.step)?;
                let (stage, totals) = (&mut self.network.stages[l], &mut self.totals.layers[l]);
                let d = &mut work.direction;
                let own = directions::of_pairs(stage, &recipe, position.step, y, totals, &mut work.solved, d);
                check_loss(own, l, position.step)?;
                loss += own;
                stage.peer.push(batch, &mut d.shared);
                stage.layer.update(&x, d, &step);
                work.states.take_in(l, recipe.recurrent.keep);
            }
            work.states.turn(&self.network);
        }
        Ok(loss / (batch * self.network.depth() * moments as usize) as f64)
    }
}
