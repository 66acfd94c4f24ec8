//! Where a run's bits come from, apart from its settings: the program, the machine and the data.

use crate::source::Samples;
use onward::{Dataset, Values};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What trained a run, and on what. Where all of it is the same, the same settings give the same bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program's version.
    pub version: String,
    /// The commit that it was built from, where that is known.
    pub commit: Option<String>,
    /// Architecture and system, whose library rounds exponentials in its own way.
    pub machine: String,
    /// The vectors that products are computed with; they decide in which order sums are rounded.
    pub vectors: String,
    /// The SHA-256 of all samples, labels and names of classes.
    pub data: String,
}

impl Provenance {
    /// Where it is noted, in a run directory.
    pub const FILE: &'static str = "provenance.json";

    /// This program, on this machine, with these samples.
    pub fn here(samples: &Samples) -> Self {
        let library = match () {
            () if cfg!(target_env = "gnu") => "-gnu",
            () if cfg!(target_env = "musl") => "-musl",
            () if cfg!(target_env = "msvc") => "-msvc",
            () => "",
        };
        Provenance {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("ONWARD_COMMIT").map(String::from),
            machine: format!("{}-{}{library}", std::env::consts::ARCH, std::env::consts::OS),
            vectors: onward::engine::vectors().into(),
            data: fingerprint([Some(&samples.train), samples.validation.as_ref(), samples.test.as_ref()]),
        }
    }

    /// How the data at `source` differs from what a run was trained on, if it does.
    pub fn other_data(&self, then: &Provenance, source: &str) -> Option<String> {
        let begin = |sum: &str| sum.chars().take(16).collect::<String>();
        (self.data != then.data).then(|| {
            format!(
                "the data at `{source}` is not what the run was trained on (SHA-256 of the samples then {}…, now {}…): \
                 put that data back",
                begin(&then.data),
                begin(&self.data)
            )
        })
    }

    /// The program and the machine, for people.
    pub fn brief(&self) -> String {
        let commit = self.commit.as_ref().map_or(String::new(), |commit| format!(" ({commit})"));
        format!("onward {}{commit} on {} with {}", self.version, self.machine, self.vectors)
    }
}

/// The SHA-256 of data sets, in hexadecimal digits.
fn fingerprint(sets: [Option<&Dataset>; 3]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for set in sets {
        let Some(set) = set else {
            part(b"none");
            continue;
        };
        part(set.shape().to_string().as_bytes());
        match set.values() {
            Values::Bytes(values) => part(values),
            Values::Floats(values) => part(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()),
        }
        part(&set.labels().iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>());
        set.classes().iter().for_each(|class| part(class.as_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onward::Shape;

    #[test]
    fn a_fingerprint_sees_every_part() {
        let data = |pixel, label, name: &str| {
            let names = vec![name.to_owned(), "b".to_owned()];
            Dataset::new(Shape::features(2), Values::Bytes(vec![1, pixel]), vec![label], names).unwrap()
        };
        let plain = data(2, 0, "a");
        let of = |train: &Dataset, test| fingerprint([Some(train), None, test]);
        assert_eq!(of(&plain, None), of(&data(2, 0, "a"), None));
        assert_eq!(of(&plain, None).len(), 64);
        for other in [data(3, 0, "a"), data(2, 1, "a"), data(2, 0, "c")] {
            assert_ne!(of(&plain, None), of(&other, None));
        }
        assert_ne!(of(&plain, None), of(&plain, Some(&plain)));
        assert_ne!(of(&plain, None), fingerprint([None, Some(&plain), None]));
    }
}
