//! The command `onward`.
fn main() {}
