//! Samples and their labels, in memory.

use crate::{Error, error::Result};

/// How one sample is laid out: `channels × height × width`, channel by channel, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Colour planes; 1 for grey images and for plain features.
    pub channels: usize,
    /// Rows of pixels; 1 for plain features.
    pub height: usize,
    /// Pixels in a row; the number of features for plain features.
    pub width: usize,
}

impl Shape {
    /// An image of `channels × height × width`.
    pub const fn image(channels: usize, height: usize, width: usize) -> Self {
        Shape { channels, height, width }
    }

    /// A plain vector of `n` features.
    pub const fn features(n: usize) -> Self {
        Shape { channels: 1, height: 1, width: n }
    }

    /// Values in one sample.
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// True for plain features, which are no image.
    pub const fn is_plain(&self) -> bool {
        self.channels == 1 && self.height == 1
    }

    /// True where a sample holds no value at all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// The samples' values, sample after sample, each in the order of [`Shape`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Pixels of 0 to 255; a network sees them divided by 255.
    Bytes(Vec<u8>),
    /// Finite numbers, seen as they are: of at most 10¹⁷ or so, for their squares are added up.
    Floats(Vec<f32>),
}

impl Values {
    /// How many values there are, over all samples.
    pub fn len(&self) -> usize {
        match self {
            Values::Bytes(v) => v.len(),
            Values::Floats(v) => v.len(),
        }
    }

    /// True where there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `N` samples of one [`Shape`], each with the index of its class (or none of them with one).
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    shape: Shape,
    values: Values,
    labels: Vec<u32>,
    classes: Vec<String>,
}

impl Dataset {
    /// A data set of `values: (N, shape)`, `labels: (N)` or empty, and the classes' names.
    ///
    /// # Errors
    /// [`Error::Data`] where the lengths do not fit, a label is not below `classes.len()`, or a value is not finite or so large
    /// that a sample's sum of squares could overflow.
    pub fn new(shape: Shape, values: Values, labels: Vec<u32>, classes: Vec<String>) -> Result<Self> {
        if shape.is_empty() {
            return Err(Error::Data(format!("a sample of {shape} holds no value; expected at least one")));
        }
        if values.is_empty() {
            return Err(Error::Data("found no samples; expected at least one".into()));
        }
        let samples = values.len() / shape.len();
        if samples * shape.len() != values.len() {
            return Err(Error::Data(format!(
                "found {} values, which is not a whole number of samples of {shape} ({} values each)",
                values.len(),
                shape.len()
            )));
        }
        if !labels.is_empty() && labels.len() != samples {
            return Err(Error::Data(format!(
                "found {} labels for {samples} samples; expected one for each, or none",
                labels.len()
            )));
        }
        if let Some((n, &label)) = labels.iter().enumerate().find(|(_, l)| **l as usize >= classes.len()) {
            return Err(Error::Data(format!(
                "sample {n} has label {label}, but there are {} classes (labels count from 0)",
                classes.len()
            )));
        }
        // A sample's sum of squares, with a label and less its mean, shall not overflow.
        let most = (f32::MAX / shape.len() as f32).sqrt() / 4.0;
        if let Values::Floats(v) = &values
            && let Some(at) = v.iter().position(|x| !x.is_finite() || x.abs() > most)
        {
            let (sample, value, found) = (at / shape.len(), at % shape.len(), v[at]);
            return Err(Error::Data(match found.is_finite() {
                true => format!(
                    "sample {sample} has {found:e} as value {value}; expected at most {most:.0e} either way, or sums of squares \
                     overflow: scale the values first"
                ),
                false => format!(
                    "sample {sample} has {found} as value {value}; expected finite numbers: remove or fill in such samples first"
                ),
            }));
        }
        Ok(Dataset { shape, values, labels, classes })
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.shape.len()
    }

    /// Never true: a data set holds at least one sample.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How a sample is laid out.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The classes' names, by label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The labels `(N)`, each below `classes().len()`; empty where the data has none.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The raw values `(N, shape)`.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Writes sample `n` as a network sees it: bytes divided by 255, floats as they are. `to: (shape)`.
    ///
    /// # Panics
    /// Where `n` is not below `len()` or `to` is not as long as a sample.
    pub fn read(&self, n: usize, to: &mut [f32]) {
        let at = n * self.shape.len()..(n + 1) * self.shape.len();
        match &self.values {
            Values::Bytes(v) => {
                let from = &v[at];
                assert_eq!(from.len(), to.len());
                crate::engine::vectorised!({
                    for (to, &from) in to.iter_mut().zip(from) {
                        *to = f32::from(from) / 255.0;
                    }
                });
            }
            Values::Floats(v) => to.copy_from_slice(&v[at]),
        }
    }

    /// The samples in `range`, as a data set of their own.
    ///
    /// # Errors
    /// [`Error::Data`] where the range is empty or ends beyond the last sample.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.start >= range.end || range.end > self.len() {
            return Err(Error::Data(format!(
                "samples {} to {} were asked for, but the data has {}",
                range.start,
                range.end,
                self.len()
            )));
        }
        let at = range.start * self.shape.len()..range.end * self.shape.len();
        let values = match &self.values {
            Values::Bytes(v) => Values::Bytes(v[at].to_vec()),
            Values::Floats(v) => Values::Floats(v[at].to_vec()),
        };
        let labels = if self.labels.is_empty() { Vec::new() } else { self.labels[range].to_vec() };
        Ok(Dataset { shape: self.shape, values, labels, classes: self.classes.clone() })
    }

    /// The samples at these places, in this order, as a data set of their own.
    ///
    /// # Errors
    /// [`Error::Data`] where there are none, or the data has no sample at one of them.
    pub fn select(&self, which: &[usize]) -> Result<Self> {
        if let Some(n) = which.iter().find(|n| **n >= self.len()) {
            return Err(Error::Data(format!("sample {n} was asked for, but the data has {}", self.len())));
        }
        if which.is_empty() {
            return Err(Error::Data("no samples were asked for; expected at least one".into()));
        }
        fn pick<T: Copy>(v: &[T], each: usize, which: &[usize]) -> Vec<T> {
            which.iter().flat_map(|n| &v[n * each..][..each]).copied().collect()
        }
        let values = match &self.values {
            Values::Bytes(v) => Values::Bytes(pick(v, self.shape.len(), which)),
            Values::Floats(v) => Values::Floats(pick(v, self.shape.len(), which)),
        };
        let labels = if self.labels.is_empty() { Vec::new() } else { pick(&self.labels, 1, which) };
        Ok(Dataset { shape: self.shape, values, labels, classes: self.classes.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn reads_bytes_as_fractions_of_255() {
        let data =
            Dataset::new(Shape::image(1, 1, 2), Values::Bytes(vec![0, 51, 255, 102]), vec![1, 0], names(2)).unwrap();
        let mut x = [0.0; 2];
        data.read(1, &mut x);
        assert_eq!(x, [1.0, 0.4]);
        assert_eq!(data.slice(1..2).unwrap().labels(), [0]);
    }

    #[test]
    fn selects_samples_in_any_order() {
        let data =
            Dataset::new(Shape::features(2), Values::Floats(vec![0.0, 1.0, 2.0, 3.0]), vec![0, 1], names(2)).unwrap();
        let turned = data.select(&[1, 0, 1]).unwrap();
        assert_eq!(turned.values(), &Values::Floats(vec![2.0, 3.0, 0.0, 1.0, 2.0, 3.0]));
        assert_eq!((turned.labels(), turned.classes()), (&[1, 0, 1][..], data.classes()));
        assert!(data.select(&[]).unwrap_err().to_string().contains("no samples were asked for"));
        assert!(data.select(&[2]).unwrap_err().to_string().contains("sample 2 was asked for, but the data has 2"));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let shape = Shape::features(2);
        let refused = |values, labels: Vec<u32>| Dataset::new(shape, values, labels, names(2)).unwrap_err().to_string();
        assert!(refused(Values::Floats(vec![0.0; 3]), vec![]).contains("3 values"));
        assert!(refused(Values::Floats(vec![]), vec![]).contains("no samples"));
        assert!(refused(Values::Floats(vec![0.0; 4]), vec![0]).contains("1 labels for 2 samples"));
        assert!(refused(Values::Floats(vec![0.0; 4]), vec![0, 2]).contains("label 2"));
        assert!(refused(Values::Floats(vec![0.0, f32::NAN, 0.0, 0.0]), vec![]).contains("sample 0 has NaN"));
    }
}
