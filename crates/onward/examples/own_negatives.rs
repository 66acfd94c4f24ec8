//! Negative data of your own: wrong labels that are one off, for classes that have an order.
//!
//! `cargo run --release -p onward --example own_negatives` ends below 2 % error on four kinds of noisy waves; it takes seconds.

mod data;

use onward::negatives::{Negative, Positive};
use onward::random::Random;
use onward::{Event, Flow, Negatives, Readout, Recipe, Trainer};
use rand::RngExt;

/// The class below or above the true one.
#[derive(Debug)]
struct Neighbours;

impl Negatives for Neighbours {
    fn draw(&mut self, positive: &Positive<'_>, random: &mut Random) -> Negative {
        let last = positive.classes as u32 - 1;
        let neighbour = |label: u32| match label {
            0 => 1,
            label if label == last || random.random() => label - 1,
            label => label + 1,
        };
        Negative::labels(positive.batch.labels.iter().copied().map(neighbour).collect())
    }
}

fn main() -> onward::Result<()> {
    let (train, test) = (data::waves(8_000, 1)?, data::waves(2_000, 2)?);
    let mut recipe = Recipe::default();
    recipe.network.layers = vec![100.into(), 100.into()];
    recipe.network.label = onward::settings::LabelPlace::Prepend;
    recipe.training.epochs = 20;
    let mut trainer = Trainer::new(recipe, &train)?;
    trainer.set_negatives(Box::new(Neighbours));
    trainer.fit(&train, &mut |event: Event<'_>, _: &Trainer| {
        if let Event::Epoch(epoch) = event {
            println!("epoch {:2}: loss {:.3}", epoch.epoch, epoch.loss);
        }
        Flow::Continue
    })?;
    let error = trainer.network().evaluate(&test, Readout::OnePass)?.error();
    println!("{error:.1} % of {} waves wrong", test.len());
    assert!(error < 2.0);
    Ok(())
}
