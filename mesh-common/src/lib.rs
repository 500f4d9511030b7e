//! The contract between Weft's kernel half and its daemon: map layouts, names, counters and the verdicts over them.
//!
//! Everything here is `no_std`, made of plain integers, and asserted in [`layout`]. Both halves are built from this crate, so a field that
//! one of them forgets does not compile in the other.
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "user"))]
extern crate std;

pub mod names;
pub mod addr;
pub mod settings;
pub mod capture;
pub mod service;
pub mod counter;
pub mod event;
pub mod round_trip;
pub mod decide;
pub mod layout;
