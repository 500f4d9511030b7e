//! Which endpoint is next: one file per algorithm, pure.

pub mod round_robin;
