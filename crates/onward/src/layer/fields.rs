//! Receptive fields: which inputs each location of a layer sees, as runs of neighbouring numbers.

use crate::Shape;
use crate::error::{Error, Result};
use crate::settings::Fields;
use std::ops::Range;

/// A part of a layer's inputs, and how it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This many numbers that every unit sees: a label, or the activity of a fully connected layer.
    Whole(usize),
    /// The map below: an image, channel by channel.
    Planes(Shape),
    /// The map below: a local or convolution layer's activity, location by location.
    Locations(Shape),
    /// The map of the local layer above, whose units have these fields: a location hears from every unit that sees it.
    Above(Shape, Fields),
}

impl Source {
    /// How many numbers it is.
    pub fn len(&self) -> usize {
        match self {
            Source::Whole(n) => *n,
            Source::Planes(shape) | Source::Locations(shape) | Source::Above(shape, _) => shape.len(),
        }
    }

    /// True where it is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `len` numbers that lie together, in the inputs and in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they start in a row of inputs.
    pub from: usize,
    /// Where they start in the field.
    pub to: usize,
    /// How many they are.
    pub len: usize,
}

/// What a location sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Numbers in it.
    pub len: usize,
    /// Where they come from; numbers of the field in no run are 0: they lie beyond the edge.
    pub runs: Vec<Run>,
}

impl Field {
    /// Copies what the location sees of a row of inputs, 0 beyond the edge. `row: (I)`, `to: (len)`.
    pub fn gather(&self, row: &[f32], to: &mut [f32]) {
        if self.runs.iter().map(|run| run.len).sum::<usize>() < self.len {
            to.fill(0.0);
        }
        for run in &self.runs {
            to[run.to..][..run.len].copy_from_slice(&row[run.from..][..run.len]);
        }
    }

    /// Adds what belongs to the field to a row of inputs: the transpose of [`Field::gather`].
    pub fn scatter_add(&self, from: &[f32], row: &mut [f32]) {
        for run in &self.runs {
            let to = &mut row[run.from..][..run.len];
            to.iter_mut().zip(&from[run.to..][..run.len]).for_each(|(to, from)| *to += from);
        }
    }
}

/// The map `(channels, height, width)` of a layer with these fields above `sources`.
///
/// # Errors
/// [`Error::Setting`] where there is no map below, or it is smaller than a field.
pub fn map(fields: &Fields, sources: &[Source], key: &str) -> Result<Shape> {
    let below = sources.iter().find_map(|source| match source {
        Source::Planes(shape) | Source::Locations(shape) => Some(*shape),
        _ => None,
    });
    let Some(below) = below else {
        return Err(Error::setting(
            key,
            "receptive fields need an image or another layer with fields below, but below is a fully connected layer",
        ));
    };
    let along = |size: usize| (size + 2 * fields.pad).checked_sub(fields.field).map(|rest| rest / fields.stride + 1);
    match (along(below.height), along(below.width)) {
        (Some(height), Some(width)) => Ok(Shape::image(fields.channels, height, width)),
        _ => Err(Error::setting(
            key,
            format!(
                "found a field of {0}×{0}, expected one that fits the {1}×{2} map below it (with {3} of padding)",
                fields.field, below.height, below.width, fields.pad
            ),
        )),
    }
}

/// Which places along an axis of `size` the location `at` sees.
fn seen(source: &Source, fields: &Fields, at: usize, size: usize) -> Range<usize> {
    match source {
        Source::Above(_, above) => {
            // Unit u above sees u·stride − pad .. u·stride − pad + field.
            let first = (at + above.pad + 1).saturating_sub(above.field).div_ceil(above.stride);
            let last = (at + above.pad) / above.stride;
            first.min(size)..(last + 1).min(size)
        }
        _ => {
            let start = (at * fields.stride).saturating_sub(fields.pad);
            let end = (at * fields.stride + fields.field).saturating_sub(fields.pad);
            start.min(size)..end.min(size)
        }
    }
}

/// The field of the location at `(row, column)`, what lies beyond the edges cut off.
pub fn field(fields: &Fields, sources: &[Source], row: usize, column: usize) -> Field {
    let mut field = Field { len: 0, runs: Vec::new() };
    let mut start = 0;
    for source in sources {
        let mut push = |from: usize, len: usize| {
            match field.runs.last_mut() {
                Some(last) if last.from + last.len == from && last.to + last.len == field.len => last.len += len,
                _ => field.runs.push(Run { from, to: field.len, len }),
            }
            field.len += len;
        };
        match *source {
            Source::Whole(n) => push(start, n),
            Source::Planes(Shape { channels, height, width }) => {
                let (y, x) = (seen(source, fields, row, height), seen(source, fields, column, width));
                for c in 0..channels {
                    y.clone().for_each(|y| push(start + (c * height + y) * width + x.start, x.len()));
                }
            }
            Source::Locations(shape) | Source::Above(shape, _) => {
                let (y, x) = (seen(source, fields, row, shape.height), seen(source, fields, column, shape.width));
                let c = shape.channels;
                y.for_each(|y| push(start + (y * shape.width + x.start) * c, x.len() * c));
            }
        }
        start += source.len();
    }
    field
}

/// The field of one location at `(row, column)`, as long at the edges as everywhere: what lies beyond them has no run.
pub fn padded_field(fields: &Fields, sources: &[Source], row: usize, column: usize) -> Field {
    let mut field = Field { len: 0, runs: Vec::new() };
    let mut start = 0;
    for source in sources {
        let (from_y, from_x) = (row * fields.stride, column * fields.stride);
        // Places of the window that lie on the map.
        let on_map = |from: usize, size: usize| {
            (fields.pad.saturating_sub(from)).min(fields.field)..(size + fields.pad - from).min(fields.field)
        };
        match *source {
            Source::Whole(n) => {
                field.runs.push(Run { from: start, to: field.len, len: n });
                field.len += n;
            }
            Source::Planes(Shape { channels, height, width }) => {
                let (dy, dx) = (on_map(from_y, height), on_map(from_x, width));
                for c in 0..channels {
                    for dy in dy.clone() {
                        let from =
                            start + (c * height + from_y + dy - fields.pad) * width + from_x + dx.start - fields.pad;
                        let to = field.len + (c * fields.field + dy) * fields.field + dx.start;
                        field.runs.push(Run { from, to, len: dx.len() });
                    }
                }
                field.len += channels * fields.field * fields.field;
            }
            Source::Locations(shape) | Source::Above(shape, _) => {
                let (dy, dx) = (on_map(from_y, shape.height), on_map(from_x, shape.width));
                let c = shape.channels;
                for dy in dy {
                    let place = (from_y + dy - fields.pad) * shape.width + from_x + dx.start - fields.pad;
                    let to = field.len + (dy * fields.field + dx.start) * c;
                    field.runs.push(Run { from: start + place * c, to, len: dx.len() * c });
                }
                field.len += c * fields.field * fields.field;
            }
        }
        start += source.len();
    }
    field.runs.retain(|run| run.len > 0);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(field: usize, stride: usize, pad: usize) -> Fields {
        Fields { channels: 2, field, stride, pad }
    }

    fn indices(field: &Field) -> Vec<usize> {
        field.runs.iter().flat_map(|run| run.from..run.from + run.len).collect()
    }

    #[test]
    fn the_papers_grids() {
        let image = [Source::Planes(Shape::image(1, 28, 28))];
        assert_eq!(map(&Fields { channels: 128, ..fields(10, 6, 0) }, &image, "").unwrap(), Shape::image(128, 4, 4));
        let first = [Source::Locations(Shape::image(128, 4, 4))];
        assert_eq!(map(&Fields { channels: 220, ..fields(2, 1, 0) }, &first, "").unwrap(), Shape::image(220, 3, 3));
        let cifar = [Source::Planes(Shape::image(3, 32, 32))];
        assert_eq!(map(&Fields { channels: 3, ..fields(11, 1, 5) }, &cifar, "").unwrap(), Shape::image(3, 32, 32));
        assert!(map(&fields(29, 1, 0), &image, "k").unwrap_err().to_string().contains("29×29"));
        assert!(map(&fields(1, 1, 0), &[Source::Whole(9)], "k").unwrap_err().to_string().contains("fully connected"));
    }

    #[test]
    fn a_field_is_what_lies_under_it() {
        let sources = [Source::Whole(2), Source::Planes(Shape::image(2, 3, 3))];
        // Location (1, 0) of a 2×2 field on a 3×3 image: rows 1 and 2, columns 0 and 1, of both planes; and the label.
        let found = field(&fields(2, 1, 0), &sources, 1, 0);
        assert_eq!(indices(&found), [0, 1, 5, 6, 8, 9, 14, 15, 17, 18]);
        let sources = [Source::Locations(Shape::image(2, 3, 3))];
        let found = field(&fields(2, 1, 0), &sources, 1, 0);
        assert_eq!(indices(&found), [6, 7, 8, 9, 12, 13, 14, 15]);
        assert_eq!(found.len, 8);
        // Whole rows lie together: one run.
        assert_eq!(field(&fields(3, 1, 0), &sources, 0, 0).runs, [Run { from: 0, to: 0, len: 18 }]);
    }

    #[test]
    fn edges_are_cut_off_or_left_at_zero() {
        let sources = [Source::Planes(Shape::image(1, 2, 2))];
        let cut = field(&fields(3, 1, 1), &sources, 0, 0);
        assert_eq!((indices(&cut), cut.len), (vec![0, 1, 2, 3], 4));
        let padded = padded_field(&fields(3, 1, 1), &sources, 0, 0);
        assert_eq!(padded.len, 9);
        assert_eq!(padded.runs, [Run { from: 0, to: 4, len: 2 }, Run { from: 2, to: 7, len: 2 }]);
        let mut patch = [0.0; 9];
        padded.gather(&[1.0, 2.0, 3.0, 4.0], &mut patch);
        assert_eq!(patch, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0]);
        let padded = padded_field(&fields(3, 1, 1), &sources, 1, 1);
        assert_eq!(padded.runs, [Run { from: 0, to: 0, len: 2 }, Run { from: 2, to: 3, len: 2 }]);
        let mut back = [0.0; 4];
        padded.scatter_add(&[1.0; 9], &mut back);
        assert_eq!(back, [1.0; 4]);
    }

    #[test]
    fn a_location_hears_from_the_units_above_that_see_it() {
        // Every pair of a location and a unit above, by the definition.
        for (above, size) in
            [(fields(11, 1, 5), 32), (fields(2, 1, 0), 4), (fields(10, 6, 0), 28), (fields(3, 2, 1), 7)]
        {
            let units = (size + 2 * above.pad - above.field) / above.stride + 1;
            let source = Source::Above(Shape::image(1, 1, units), above);
            for at in 0..size {
                let sees = |u: &usize| {
                    let start = u * above.stride;
                    (start..start + above.field).contains(&(at + above.pad))
                };
                let expected: Vec<usize> = (0..units).filter(sees).collect();
                let found: Vec<usize> = seen(&source, &fields(1, 1, 0), at, units).collect();
                assert_eq!(found, expected, "{at} of {size}, {above:?}");
            }
        }
    }
}
