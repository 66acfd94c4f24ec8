//! Fifty training steps of a small network on one thread, and nothing else: what `.ci/instructions` counts the instructions of.

mod data;

use onward::{Event, Flow, Recipe, Trainer};

fn main() -> onward::Result<()> {
    let train = data::waves(5_000, 1)?;
    let mut recipe = Recipe::default();
    recipe.network.layers = vec![200.into(), 200.into()];
    recipe.network.label = onward::settings::LabelPlace::Prepend;
    recipe.training.epochs = 1;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("one thread");
    let mut trainer = Trainer::new(recipe, &train)?;
    let until_done = &mut |_: Event<'_>, _: &Trainer| Flow::Continue;
    pool.install(|| trainer.fit(&train, until_done))?;
    assert_eq!(trainer.position().step, 50);
    Ok(())
}
