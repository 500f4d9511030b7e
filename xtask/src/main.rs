//! Weft commands.
fn main() {}
