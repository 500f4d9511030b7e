//! Which endpoint is next: one file per algorithm, pure.

pub(super) mod round_robin;
