//! Packets in shares, one for each replica of the lowest block, and back: a sample's positive, negative and neutral rows stay
//! together.

use super::block::{Bottom, Packet};
use crate::error::{Error, Result};
use std::ops::Range;

/// The samples of a batch that fall to one of so many replicas.
pub fn share(batch: usize, replica: usize, replicas: usize) -> Range<usize> {
    replica * batch / replicas..(replica + 1) * batch / replicas
}

impl Packet {
    /// How many samples it is about.
    pub fn samples(&self) -> usize {
        self.solved.len()
    }

    /// Makes `to` a packet of some of the samples, on its way to the lowest block.
    pub fn share(&self, which: Range<usize>, to: &mut Packet) {
        let (batch, here) = (self.samples(), which.len());
        let Bottom { batch: from, pairs, ahead, neutral } = &self.bottom;
        let own = std::slice::from_ref(&which);
        let negative = batch + which.start..batch + which.end;
        let both = [which.clone(), negative];
        // Negative rows are the same samples with other labels, or samples of their own behind the positive ones.
        let taken = if from.len() > batch { &both[..] } else { own };
        from.share(taken, &mut to.bottom.batch);
        ahead.share(if ahead.is_empty() { &[] } else { own }, &mut to.bottom.ahead);
        let source = |n: usize| if n < batch { n - which.start } else { n - batch - which.start + here };
        pairs.share(&both, source, &mut to.bottom.pairs);
        neutral.share(if neutral.is_empty() { &[] } else { own }, source, &mut to.bottom.neutral);
        to.labels.clear();
        to.labels.extend_from_slice(self.labels.get(which.clone()).unwrap_or_default());
        to.solved.clear();
        to.solved.resize(here, true);
        to.kept.resize_with(self.kept.len(), Default::default);
        (to.taken, to.gain, to.first, to.loss) = (self.taken, self.gain, self.first + which.start, 0.0);
    }

    /// Takes over what has come of its shares, which are in order.
    pub fn join<'a>(&mut self, shares: impl Iterator<Item = &'a mut Packet>) {
        self.solved.clear();
        self.prediction.clear();
        self.loss = 0.0;
        for share in shares {
            self.solved.extend_from_slice(&share.solved);
            self.prediction.extend_from_slice(&share.prediction);
            self.loss += share.loss;
            let outcome = std::mem::replace(&mut share.outcome, Ok(()));
            // Of what has gone wrong, what is lowest in the network.
            if place(&outcome) < place(&self.outcome) {
                self.outcome = outcome;
            }
        }
    }
}

/// How high up something has gone wrong: beyond everything where nothing has.
fn place(outcome: &Result<()>) -> usize {
    match outcome {
        Err(Error::NotFinite { layer, .. }) => *layer,
        Err(_) => usize::MAX - 1,
        Ok(()) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_the_batch_and_none_is_empty() {
        for (batch, replicas) in [(30, 4), (7, 7), (5, 2), (1, 1)] {
            let shares: Vec<_> = (0..replicas).map(|replica| share(batch, replica, replicas)).collect();
            assert!(shares.iter().all(|share| !share.is_empty()));
            assert_eq!(shares.into_iter().flatten().collect::<Vec<_>>(), (0..batch).collect::<Vec<_>>());
        }
    }
}
