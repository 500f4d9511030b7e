//! The access log: one line of JSON for each request and each opaque connection, when it has ended. Costs nothing while it is off.
//!
//! A worker makes the line and never waits for it: [`writer`] has a bounded queue, and what does not fit is dropped and counted.

mod line;
mod time;
mod writer;

pub use writer::{AccessLog, Writer};

pub(super) use line::{ConnectionEnd, Heard, Line, RequestEnd};
