//! One file a command.

pub mod completions;
pub mod experiments;
pub mod train;
