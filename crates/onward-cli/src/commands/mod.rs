//! One file a command.

pub mod bench;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod eval;
pub mod experiments;
pub mod export;
pub mod inspect;
pub mod predict;
pub mod report;
pub mod reproduce;
pub mod samples;
pub mod stream;
pub mod sweep;
pub mod train;
pub mod verify;
pub mod watch;
