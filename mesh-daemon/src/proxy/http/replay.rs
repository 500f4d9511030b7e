//! A request's body that can be sent again: while a retry is possible, what an attempt reads of it is kept, up to a bound.

use std::{
    cell::RefCell,
    error::Error as StdError,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use thiserror::Error;

use super::held::Upload;

/// Bytes of a request's body, trailers counted, that are kept for retries; a longer one is sent once. What gRPC calls and most API requests fit
/// into, and the same as one copy buffer: a thousand requests with a retry ahead hold 64 MiB at most.
const REPLAY_BYTES: usize = 64 * 1024;

/// A request's body on its way upstream: one attempt's.
pub(in crate::proxy) struct Outgoing {
    body: Sent,
    /// None where there is nothing to wait for.
    upload: Option<Upload>,
}

enum Sent {
    /// Once: nothing is kept.
    Plain(Incoming),
    /// One attempt's view of a body that may be sent again.
    Replay(Replay),
}

/// Why a request's body broke off; to hyper both are errors of its user, see [`BodyError::within`].
#[derive(Debug, Error)]
pub(in crate::proxy) enum BodyError {
    /// The client's doing.
    #[error("the client's body broke off: {0}")]
    Client(#[source] Box<dyn StdError + Send + Sync>),
    /// The mesh's doing: another attempt has taken over the body.
    #[error("another attempt goes on with the body")]
    Superseded,
}

/// The body of one attempt: it repeats what was kept, and goes on with what the client still sends. `B` is the client's body.
pub(in crate::proxy) struct Replay<B = Incoming> {
    tape: Rc<RefCell<Tape<B>>>,
    attempt: u32,
}

/// Makes the bodies of further attempts. When it goes, nothing is kept any longer.
pub(in crate::proxy) struct Replayed<B = Incoming> {
    tape: Rc<RefCell<Tape<B>>>,
}

/// What all attempts share.
struct Tape<B> {
    source: B,
    end: Option<End>,
    /// Which attempt may read; others are cut off.
    attempt: u32,
    reader: Option<Waker>,
    /// What is left of the repetition for this attempt.
    repeat: Bytes,
    repeat_trailers: Option<HeaderMap>,
    /// Whether everything since the beginning is kept.
    keeping: bool,
    /// A copy: the frames themselves are pieces of read buffers, and a client that sends byte by byte would hold a whole one with each.
    kept: BytesMut,
    kept_trailers: Option<HeaderMap>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

impl BodyError {
    /// The body's error that made hyper's client fail, if one did. HTTP/1 tells it; HTTP/2 does not always, see [`Replayed::is_broken`].
    pub(super) fn within(error: &hyper::Error) -> Option<&Self> {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(found) = cause.downcast_ref() {
                return Some(found);
            }
            source = cause.source();
        }
        None
    }
}

impl<B> Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    /// The body of the first attempt, and what makes those of later ones. A body that says at once that it is too long is not kept.
    pub(super) fn new(source: B) -> (Self, Replayed<B>) {
        let keeping = source.size_hint().lower() <= REPLAY_BYTES as u64;
        let tape = Rc::new(RefCell::new(Tape {
            source,
            end: None,
            attempt: 0,
            reader: None,
            repeat: Bytes::new(),
            repeat_trailers: None,
            keeping,
            kept: BytesMut::new(),
            kept_trailers: None,
        }));
        let body = Self {
            tape: Rc::clone(&tape),
            attempt: 0,
        };
        (body, Replayed { tape })
    }
}

impl<B> Replayed<B> {
    /// The body for another attempt; the earlier one is cut off with an error, so that its message does not look complete. None if more was
    /// read than is kept, after [`Self::give_up`], and if the client's body broke off.
    pub(super) fn again(&self) -> Option<Replay<B>> {
        if !self.is_kept() {
            return None;
        }
        let mut tape = self.tape.borrow_mut();
        tape.attempt += 1;
        tape.repeat = Bytes::copy_from_slice(&tape.kept);
        tape.repeat_trailers = tape.kept_trailers.clone();
        let attempt = tape.attempt;
        let reader = tape.reader.take();
        drop(tape);
        reader.into_iter().for_each(Waker::wake);
        Some(Replay {
            tape: Rc::clone(&self.tape),
            attempt,
        })
    }

    /// Whether [`Self::again`] gives a body.
    pub(super) fn is_kept(&self) -> bool {
        let tape = self.tape.borrow();
        tape.keeping && tape.end != Some(End::Broken)
    }

    /// There will be no further attempt: frees what is kept. The running attempt goes on.
    pub(super) fn give_up(&self) {
        self.tape.borrow_mut().forget();
    }

    /// Whether the client's body broke off: then a failed attempt is the client's doing.
    pub(super) fn is_broken(&self) -> bool {
        self.tape.borrow().end == Some(End::Broken)
    }
}

impl<B> Drop for Replayed<B> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<B> Tape<B> {
    fn forget(&mut self) {
        self.keeping = false;
        self.kept = BytesMut::new();
        self.kept_trailers = None;
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.keeping {
            return;
        }
        let more = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => data.len(),
            (_, Some(trailers)) => trailers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum(),
            _ => 0,
        };
        if self.kept.len() + more > REPLAY_BYTES {
            return self.forget();
        }
        if let Some(data) = frame.data_ref() {
            self.kept.extend_from_slice(data);
        }
        self.kept_trailers = frame.trailers_ref().cloned();
    }

    fn repeated(&mut self) -> Option<Frame<Bytes>> {
        if !self.repeat.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.repeat)));
        }
        self.repeat_trailers.take().map(Frame::trailers)
    }
}

impl<B> Tape<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.repeated() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.end {
            Some(End::Whole) => return Poll::Ready(None),
            Some(End::Broken) => return Poll::Ready(Some(Err(BodyError::Client("it did before".into())))),
            None => {}
        }
        // the same task reads on, as a rule: then nothing is cloned
        self.reader
            .get_or_insert_with(|| cx.waker().clone())
            .clone_from(cx.waker());
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.keep(&frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.end = Some(End::Broken);
                self.forget();
                Some(Err(BodyError::Client(error.into())))
            }
            None => {
                self.end = Some(End::Whole);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let repeated = self.repeat.is_empty() && self.repeat_trailers.is_none();
        repeated && (self.end == Some(End::Whole) || (self.end.is_none() && self.source.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match self.end {
            Some(End::Whole) => SizeHint::with_exact(0),
            _ => self.source.size_hint(),
        };
        let repeat = self.repeat.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(repeat));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(repeat));
        }
        hint
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut tape = self.tape.borrow_mut();
        if tape.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        tape.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        let tape = self.tape.borrow();
        tape.attempt == self.attempt && tape.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let tape = self.tape.borrow();
        if tape.attempt == self.attempt {
            tape.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

impl Outgoing {
    /// A body that is sent once.
    pub(super) fn plain(body: Incoming) -> Self {
        Self::new(Sent::Plain(body))
    }

    /// A body that may be sent again.
    pub(super) fn replay(body: Replay) -> Self {
        Self::new(Sent::Replay(body))
    }

    fn new(body: Sent) -> Self {
        let upload = (!body.is_end_stream()).then(Upload::default);
        Self { body, upload }
    }

    /// How long the client keeps it waiting, where it can.
    pub(super) fn upload(&self) -> Option<Upload> {
        self.upload.clone()
    }
}

impl Sent {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Plain(incoming) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::Client(error.into()))))
            }
            Self::Replay(replay) => Pin::new(replay).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(incoming) => incoming.is_end_stream(),
            Self::Replay(replay) => replay.is_end_stream(),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.body.poll(cx);
        if let Some(upload) = &self.upload {
            upload.polled(&frame);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Sent::Plain(incoming) => incoming.size_hint(),
            Sent::Replay(replay) => replay.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests;
