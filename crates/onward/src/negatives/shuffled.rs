//! The same sample with its parts in another order: what is close by fits, what is far apart does not.

use super::{Negative, Negatives, Positive};
use crate::Shape;
use crate::random::Random;
use rand::seq::SliceRandom;
use std::ops::Range;

/// Samples cut into `tiles × tiles` parts of the same size (plain features: `tiles` parts), put together in a random order
/// that is never the true one. Where a side is no multiple of `tiles`, the pixels left over at its end stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct Shuffled {
    /// Parts along each side.
    pub tiles: usize,
}

impl Negatives for Shuffled {
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let shape = positive.shape;
        let tiles = tiles(shape, self.tiles);
        let mut inputs = vec![0.0; positive.batch.len() * shape.len()];
        let plane = shape.height * shape.width;
        for (n, to) in inputs.chunks_exact_mut(shape.len()).enumerate() {
            let order = another_order(tiles.len(), random);
            let from = positive.batch.sample(n);
            to.copy_from_slice(from);
            for (from, to) in from.chunks_exact(plane).zip(to.chunks_exact_mut(plane)) {
                for (tile, &other) in tiles.iter().zip(&order) {
                    let other = &tiles[other];
                    for (y, from_y) in tile.rows.clone().zip(other.rows.clone()) {
                        let source = &from[from_y * shape.width..][other.columns.clone()];
                        to[y * shape.width..][tile.columns.clone()].copy_from_slice(source);
                    }
                }
            }
        }
        Negative::inputs(inputs)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
}

fn tiles(shape: Shape, each: usize) -> Vec<Tile> {
    let cuts = |length: usize| {
        let parts = each.clamp(1, length);
        let size = length / parts;
        (0..parts).map(move |i| i * size..(i + 1) * size)
    };
    cuts(shape.height)
        .flat_map(|rows| cuts(shape.width).map(move |columns| Tile { rows: rows.clone(), columns }))
        .collect()
}

/// For each of `tiles` the one that takes its place: not each its own, where there are two or more.
fn another_order(tiles: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tiles).collect();
    order.shuffle(random);
    if order.is_sorted() {
        order.rotate_left(1);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::tests::{batch, positive};
    use crate::random::stream;

    #[test]
    fn parts_change_places_and_nothing_is_lost() {
        for (shape, tiles, same) in [
            (Shape::image(2, 4, 6), 2, 0),
            (Shape::features(8), 4, 0),
            (Shape::image(1, 5, 5), 2, 0),
            (Shape::features(3), 1, 3),
        ] {
            let batch = batch(shape, 3, |n, i| (100 * n + i) as f32);
            let drawn = Shuffled { tiles }.draw(&positive(&batch, shape), &mut stream(1, "negatives", 0));
            for (n, found) in drawn.inputs.unwrap().chunks_exact(shape.len()).enumerate() {
                let mut sorted = found.to_vec();
                sorted.sort_by(f32::total_cmp);
                assert_eq!(sorted, batch.sample(n), "{shape}: the same pixels");
                assert_eq!(found == batch.sample(n), same > 0, "{shape} in {tiles}: {found:?}");
            }
        }
    }

    #[test]
    fn tiles_of_an_odd_image() {
        let found = tiles(Shape::image(1, 5, 4), 2);
        let tile = |rows, columns| Tile { rows, columns };
        assert_eq!(found, [tile(0..2, 0..2), tile(0..2, 2..4), tile(2..4, 0..2), tile(2..4, 2..4)]);
    }
}
