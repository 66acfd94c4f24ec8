//! Neural networks trained with forward passes only: Hinton's Forward-Forward algorithm in full
//! (arXiv [2212.13345](https://arxiv.org/abs/2212.13345)).
//!
//! # Forward-Forward in six steps
//!
//! 1. An input goes in together with a label, and is [normalised](normalize): only its direction counts.
//! 2. Each [layer] answers with activities `y = max(0, x̂ W + b)`. Their [goodness] is one number,
//!    `g = Σ y²`; the layer takes the input for real with probability `p = σ(g − theta)`.
//! 3. On the *positive* pass (the true label) each layer moves its weights so that its goodness rises; on the *negative*
//!    pass (a [wrong label](negatives), as plausible as can be) so that it falls. The [objective] says how much:
//!    `d = (1 − p)·y`, and `d = −p·y`.
//! 4. The layer's step is the product `x̂ᵀ d` of what it saw and where it wants to go, smoothed over
//!    [steps](optimizer). No other layer is asked, and nothing flows backward.
//! 5. What goes up to the next layer is normalised again: its length, the goodness, is used up.
//! 6. To [read out](readout) a label, try every label and take the one with the most goodness, or let a softmax head read
//!    the activities of one pass with a neutral label.
//!
//! # Train, evaluate, save, load
//!
//! ```
//! use onward::{Dataset, Event, Flow, Network, Readout, Recipe, Shape, Trainer, Values};
//! # fn main() -> onward::Result<()> {
//! # let labels: Vec<u32> = (0..600).map(|n| n % 2).collect();
//! # let features: Vec<f32> = labels.iter().flat_map(|&l| [0.1, 0.2, 0.4, 1.0, l as f32, 1.0 - l as f32]).collect();
//! let names = ["left", "right"].map(String::from).to_vec();
//! let data = Dataset::new(Shape::features(6), Values::Floats(features), labels, names)?;
//!
//! let mut recipe = Recipe::default(); // the released code's: 3×1000 units, hard negatives, a softmax head
//! recipe.network.layers = vec![50.into(), 50.into()];
//! recipe.training.epochs = 5;
//! let mut trainer = Trainer::new(recipe, &data)?;
//! trainer.fit(&data, &mut |event: Event<'_>, _: &Trainer| {
//!     if let Event::Epoch(epoch) = event {
//!         println!("epoch {}: loss {:.3}", epoch.epoch, epoch.loss);
//!     }
//!     Flow::Continue
//! })?;
//! let error = trainer.network().evaluate(&data, Readout::OnePass)?.error();
//! # assert_eq!(error, 0.0);
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("network.safetensors");
//! trainer.network().save(&path)?;
//! let network = Network::load(&path)?;
//! let predictions = network.predict(&data, Readout::EveryLabel)?;
//! println!("{error} % wrong; the first sample is {:?}", network.class_names()[predictions.label(0) as usize]);
//! # assert_eq!(predictions.label(0), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # What can be replaced
//!
//! A layer ([`Layer`]), a goodness ([`Goodness`]) and a source of negative data ([`Negatives`]) are a small trait each:
//! see `examples/own_layer.rs`, `own_goodness.rs` and `own_negatives.rs`.
//!
//! # Letters
//!
//! `B` batch, `R` rows of a pass, `I` inputs and `O` outputs (width) of a layer, `K` classes, `L` layers, `theta` threshold,
//! `g` goodness, `p` probability of being positive, `d` direction. Matrices are row-major; `x: (R, I)` has `R` rows.

pub mod activity;
pub mod augment;
pub mod batch;
pub mod checkpoint;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod events;
pub mod goodness;
pub mod layer;
mod linear_probe;
pub mod negatives;
pub mod network;
pub mod normalize;
pub mod objective;
pub mod optimizer;
pub mod pass;
pub mod peer;
pub mod probe;
pub mod random;
pub mod readout;
pub(crate) mod recurrent;
pub mod rival;
pub mod settings;
pub mod tensor;
pub mod train;

pub use dataset::{Dataset, Shape, Values};
pub use error::{Error, Result};
pub use events::{Event, Flow, Observer};
pub use goodness::Goodness;
pub use layer::Layer;
pub use linear_probe::ProbeSettings;
pub use negatives::Negatives;
pub use network::Network;
pub use readout::{Evaluation, Predictions, Readout};
pub use settings::Recipe;
pub use train::Trainer;
