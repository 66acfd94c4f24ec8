//! Where negative data comes from.

mod wrong_label;

pub use wrong_label::{Hard, Uniform};

use crate::batch::Batch;
use crate::random::Random;
use crate::settings::NegativesSettings;
use std::fmt::Debug;

/// A source of negative data: for each positive sample a wrong label.
///
/// Put in one of your own by implementing this trait and handing it to
/// [`Trainer::set_negatives`](crate::Trainer::set_negatives); `examples/own_negatives.rs` shows how.
pub trait Negatives: Debug + Send {
    /// Whether [`Negatives::draw`] needs the softmax head's class probabilities.
    fn needs_prediction(&self) -> bool {
        false
    }

    /// A label for each sample of the positive batch, never its true one. `prediction`: the head's probabilities
    /// `(B, K)` for the neutral pass, where asked for and there already (with greedy order, the layers that the head
    /// reads come later). The answer is `(B)`.
    fn draw(&mut self, positive: &Batch, classes: usize, prediction: Option<&[f32]>, random: &mut Random) -> Vec<u32>;
}

/// The source that the settings name.
pub fn from_settings(settings: NegativesSettings) -> Box<dyn Negatives> {
    match settings {
        NegativesSettings::Hard => Box::new(Hard),
        NegativesSettings::Uniform => Box::new(Uniform),
    }
}
