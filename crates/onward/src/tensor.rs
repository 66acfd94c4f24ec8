//! Named arrays of numbers, as checkpoints hold them.

use crate::error::{Error, Result};
use std::ops::Range;

/// A named array.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Unique within its owner (`weight`).
    pub name: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub numbers: Numbers,
}

/// The numbers of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision: the reference engine's.
    F64(Vec<f64>),
    /// Bytes: flags and counts.
    U8(Vec<u8>),
}

impl Tensor {
    /// A single precision tensor.
    pub fn f32(name: impl Into<String>, shape: &[usize], numbers: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        Tensor { name: name.into(), shape: shape.to_vec(), numbers: Numbers::F32(numbers) }
    }

    /// A double precision tensor.
    pub fn f64(name: impl Into<String>, shape: &[usize], numbers: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        Tensor { name: name.into(), shape: shape.to_vec(), numbers: Numbers::F64(numbers) }
    }

    /// A tensor of bytes.
    pub fn u8(name: impl Into<String>, shape: &[usize], numbers: Vec<u8>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        Tensor { name: name.into(), shape: shape.to_vec(), numbers: Numbers::U8(numbers) }
    }

    /// The same tensor as a part of something larger: `part.name`.
    pub fn within(self, part: &str) -> Self {
        Tensor { name: format!("{part}.{}", self.name), ..self }
    }

    /// The tensors that are within `part`, by their own names.
    pub fn of(tensors: &[Tensor], part: &str) -> Vec<Tensor> {
        let name = |t: &Tensor| Some(t.name.strip_prefix(part)?.strip_prefix('.')?.to_owned());
        tensors.iter().filter_map(|t| Some(Tensor { name: name(t)?, ..t.clone() })).collect()
    }
}

impl Numbers {
    /// Some of them, of the same type.
    fn part(&self, range: Range<usize>) -> Numbers {
        match self {
            Numbers::F32(numbers) => Numbers::F32(numbers[range].to_vec()),
            Numbers::F64(numbers) => Numbers::F64(numbers[range].to_vec()),
            Numbers::U8(numbers) => Numbers::U8(numbers[range].to_vec()),
        }
    }

    /// Appends `part`, and zeros up to `length` numbers in all.
    fn append(&mut self, part: &Numbers, length: usize) {
        fn append<T: Copy + Default>(to: &mut Vec<T>, from: &[T], length: usize) {
            to.extend_from_slice(from);
            to.resize(length, T::default());
        }
        match (self, part) {
            (Numbers::F32(to), Numbers::F32(from)) => append(to, from, length),
            (Numbers::F64(to), Numbers::F64(from)) => append(to, from, length),
            (Numbers::U8(to), Numbers::U8(from)) => append(to, from, length),
            _ => unreachable!("parts of one tensor have one type"),
        }
    }
}

impl Tensor {
    /// Tensors of the same name and type, rows on rows; rows of fewer than `width` numbers end with zeros.
    pub(crate) fn stacked(parts: &[&Tensor], width: usize) -> Self {
        let matrix = parts[0].shape.len() == 2;
        let width = if matrix { width } else { 1 };
        let (mut numbers, mut rows) = (parts[0].numbers.part(0..0), 0);
        for part in parts {
            let columns = if matrix { part.shape[1] } else { 1 };
            for row in 0..part.shape[0] {
                rows += 1;
                numbers.append(&part.numbers.part(row * columns..(row + 1) * columns), rows * width);
            }
        }
        let shape = if matrix { vec![rows, width] } else { vec![rows] };
        Tensor { name: parts[0].name.clone(), shape, numbers }
    }

    /// Some rows, and of a matrix the first `columns` columns: what [`Tensor::stacked`] has stacked.
    pub(crate) fn rows(&self, rows: Range<usize>, columns: usize) -> Self {
        let (width, columns, shape) = match self.shape[..] {
            [_, width] => (width, columns, vec![rows.len(), columns]),
            _ => (1, 1, vec![rows.len()]),
        };
        let mut numbers = self.numbers.part(0..0);
        for (i, row) in rows.enumerate() {
            numbers.append(&self.numbers.part(row * width..row * width + columns), (i + 1) * columns);
        }
        Tensor { name: self.name.clone(), shape, numbers }
    }
}

/// Finds tensors by name, and refuses what does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a>(pub &'a [Tensor]);

impl<'a> Tensors<'a> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<&'a Numbers> {
        let Some(tensor) = self.0.iter().find(|t| t.name == name) else {
            return Err(Error::Data(format!("tensor `{name}` is missing; expected one of shape {shape:?}")));
        };
        if tensor.shape != shape {
            return Err(Error::Data(format!("tensor `{name}` has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        Ok(&tensor.numbers)
    }

    /// The single precision tensor of this name and shape.
    ///
    /// # Errors
    /// [`Error::Data`] where it is missing, or has another shape or type; so for the other methods.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<&'a [f32]> {
        match self.get(name, shape)? {
            Numbers::F32(numbers) => Ok(numbers),
            _ => Err(Error::Data(format!(
                "tensor `{name}` is not of single precision: was it trained by another engine?"
            ))),
        }
    }

    /// The double precision tensor of this name and shape.
    pub fn f64(&self, name: &str, shape: &[usize]) -> Result<&'a [f64]> {
        match self.get(name, shape)? {
            Numbers::F64(numbers) => Ok(numbers),
            _ => Err(Error::Data(format!(
                "tensor `{name}` is not of double precision: was it trained by another engine?"
            ))),
        }
    }

    /// The tensor of bytes of this name and shape.
    pub fn u8(&self, name: &str, shape: &[usize]) -> Result<&'a [u8]> {
        match self.get(name, shape)? {
            Numbers::U8(numbers) => Ok(numbers),
            _ => Err(Error::Data(format!("tensor `{name}` does not hold bytes"))),
        }
    }
}

/// `(rows, columns)` → `(columns, rows)`, row-major both: weights are `(I, O)` here and `(O, I)` in files, as PyTorch
/// has them.
pub fn transposed<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    assert_eq!(values.len(), rows * columns);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}
