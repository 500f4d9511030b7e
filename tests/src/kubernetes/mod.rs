//! A real control plane for tests, and what stands before it.

pub mod chaos;
