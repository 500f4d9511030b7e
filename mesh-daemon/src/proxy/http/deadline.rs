//! The end of a request's time while its answer's body is under way: what is cut off must not look complete.
//!
//! A body that carries an answer polls its deadline before each frame, and where that is ready it yields [`Passed`] instead of a frame. hyper then
//! resets the HTTP/2 stream, and closes an HTTP/1 connection without the last chunk or short of `Content-Length`; `server.rs` makes that close
//! a reset, which is what tells a client that reads to the end of the connection.
//!
//! A client that does not read holds hyper off from asking for frames: the deadline then takes effect when it reads on. Such a body has passed
//! its deadline nevertheless; it does not get the rest.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};

/// A request's deadline.
pub(super) struct Deadline {
    /// None once it has passed.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The error of a body whose time is over.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("weft: the request's deadline passed while its answer was under way")]
pub(super) struct Passed;

impl Deadline {
    pub(super) fn at(instant: Instant) -> Self {
        let sleep = Some(Box::pin(sleep_until(instant)));
        Self { sleep }
    }

    /// Ready once the deadline has passed, and ever after; else the task is woken then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let passed = self
            .sleep
            .as_mut()
            .is_none_or(|sleep| sleep.as_mut().poll(cx).is_ready());
        if passed {
            self.sleep = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
