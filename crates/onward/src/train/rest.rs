//! Rest for solved samples: what every layer tells apart with certainty need not be shown again so soon.

/// A sample is solved where no layer could gain more than this from either of its rows.
pub const SOLVED: f32 = 1e-3;

/// When each sample is due again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    /// The most epochs that a sample rests.
    most: u32,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// The first epoch to visit it again.
    due: u32,
    /// How many visits in a row have found it solved.
    streak: u8,
    /// What this epoch's visit found, if there was one: taken into account when the epoch ends, so that the epoch's order
    /// can be drawn again at any time before.
    found: Found,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Found {
    #[default]
    Nothing,
    Solved,
    Unsolved,
}

/// Bytes of a sample in a checkpoint.
const BYTES: usize = 6;

impl Rest {
    /// Every sample is due.
    pub fn new(most: u32, samples: usize) -> Self {
        Rest { most, samples: vec![Sample::default(); samples] }
    }

    /// How many samples it is about.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The samples to visit in `epoch`.
    pub fn due(&self, epoch: u32) -> Vec<u32> {
        let due = self.samples.iter().enumerate().filter(|(_, sample)| sample.due <= epoch);
        due.map(|(n, _)| n as u32).collect()
    }

    /// How many samples there are to visit in `epoch`.
    pub fn count_due(&self, epoch: u32) -> usize {
        self.samples.iter().filter(|sample| sample.due <= epoch).count()
    }

    /// Notes what a visit to sample `n` found.
    pub fn note(&mut self, n: u32, solved: bool) {
        self.samples[n as usize].found = if solved { Found::Solved } else { Found::Unsolved };
    }

    /// `epoch` is over: samples found solved for the 1st, 2nd, 3rd … time in a row rest for 1, 2, 4 … epochs.
    pub fn end_epoch(&mut self, epoch: u32) {
        for sample in &mut self.samples {
            match std::mem::take(&mut sample.found) {
                Found::Nothing => {}
                Found::Unsolved => sample.streak = 0,
                Found::Solved => {
                    sample.streak = sample.streak.saturating_add(1);
                    let rest = 1u32.checked_shl(u32::from(sample.streak) - 1).unwrap_or(u32::MAX).min(self.most);
                    sample.due = epoch.saturating_add(1).saturating_add(rest);
                }
            }
        }
    }

    /// For a checkpoint, `(N, 6)`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |s: &Sample| {
            let [a, b, c, d] = s.due.to_le_bytes();
            [a, b, c, d, s.streak, s.found as u8]
        };
        self.samples.iter().flat_map(bytes).collect()
    }

    /// From a checkpoint; `None` where the bytes are not of such.
    pub fn from_bytes(most: u32, bytes: &[u8]) -> Option<Self> {
        let (samples, []) = bytes.as_chunks::<BYTES>() else { return None };
        let sample = |[a, b, c, d, streak, found]: &[u8; BYTES]| {
            let found = [Found::Nothing, Found::Solved, Found::Unsolved].get(usize::from(*found)).copied()?;
            Some(Sample { due: u32::from_le_bytes([*a, *b, *c, *d]), streak: *streak, found })
        };
        Some(Rest { most, samples: samples.iter().map(sample).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solved_samples_rest_longer_and_longer_until_they_are_not() {
        let mut rest = Rest::new(3, 2);
        let mut visits = vec![];
        for epoch in 0..12 {
            assert_eq!(rest.due(epoch).len(), rest.count_due(epoch));
            if rest.due(epoch).contains(&0) {
                visits.push(epoch);
                rest.note(0, epoch != 6);
            }
            rest.note(1, false);
            assert_eq!(Rest::from_bytes(3, &rest.to_bytes()), Some(rest.clone()));
            rest.end_epoch(epoch);
            assert!(rest.due(epoch + 1).contains(&1));
        }
        // Rests of 1, 2 and 3 (not 4) epochs; unsolved in epoch 6, so back to 1.
        assert_eq!(visits, [0, 2, 5, 9]);
    }
}
