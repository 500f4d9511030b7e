//! The body of a watch's answer → its lines, one event each, with a bound.

use std::io::BufRead as _;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;

use crate::telemetry::causes;

/// Longest line, in bytes. etcd takes objects of 1.5 MiB; in JSON, with managed fields, that may be some times as much.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Reads lines from a body.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer has no line end: a long line that comes in pieces is searched once.
    searched: usize,
}

/// Why there are no more lines.
#[derive(Debug)]
pub(super) enum Broken {
    /// In the middle of a line.
    Cut,
    /// The connection broke; in these words.
    Connection(String),
    /// A line is longer than the bound.
    TooLong,
}

impl Lines {
    pub(super) fn of(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Broken::TooLong);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(Broken::Connection(causes(&error))),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Broken::Cut),
            }
        }
    }

    /// A whole line of the buffer, without its end; empty ones are passed over.
    fn take(&mut self) -> Option<Bytes> {
        loop {
            let mut rest = self.buffer.get(self.searched..)?;
            // reading from memory cannot fail
            let read = rest.skip_until(b'\n').unwrap_or(0);
            let end = self.searched + read;
            if read == 0 || self.buffer.get(end - 1) != Some(&b'\n') {
                self.searched = end;
                return None;
            }
            self.searched = 0;
            let line = self.buffer.split_to(end).freeze();
            if line.len() > 1 {
                return Some(line);
            }
        }
    }
}
