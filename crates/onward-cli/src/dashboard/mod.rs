//! The dashboard in the terminal: `onward train --progress tui` and `onward watch`, built with the feature `tui`.
//!
//! `state.rs` is what there is to show, `draw.rs` shows it on an area of any size, `screen.rs` has the terminal and its keys.

mod draw;
mod screen;
mod state;

pub use screen::{Screen, watch};
pub use state::Heading;

/// Whether this build has a dashboard.
pub const BUILT_IN: bool = true;

/// What would be to do about that.
pub const HOW_TO_GET: &str = "";
