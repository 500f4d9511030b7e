//! The answer's body on its way to the client: at its end, and only there, the upstream connection is free, the endpoint's breaker knows, and the
//! request is reported.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Response,
    body::{Body as _, Frame, Incoming, SizeHint},
};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    deadline::{Deadline, Passed},
    grpc,
    held::Held,
};
use crate::{
    model::AttemptEnd,
    proxy::{Worker, choose::Attempt, limits::Permit, outcome::Outcome, pool::Lease, report::Exchange},
};

/// A body for the client.
pub(super) enum Body {
    /// From upstream.
    Carried {
        incoming: Incoming,
        /// Boxed: what is moved with each frame's poll stays small.
        end: Option<Box<End>>,
        timed: Option<Box<Timed>>,
    },
    /// The mesh's own, with its report.
    Own {
        text: Option<Bytes>,
        report: Option<Exchange>,
    },
}

/// Why a body breaks off: the client must see that it is not whole.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// Upstream broke off.
    #[error(transparent)]
    Upstream(#[from] hyper::Error),
    /// The time of its request is over.
    #[error(transparent)]
    Late(#[from] Passed),
}

/// The time that a body has, and whose it was.
pub(super) struct Timed {
    deadline: Deadline,
    until: Instant,
    began: Instant,
    /// Between a frame and the next time that hyper asks: then the client does not read.
    held: Held,
}

/// What happens when the body has been carried.
pub(super) struct End {
    worker: Rc<Worker>,
    lease: Lease,
    report: Exchange,
    attempt: Attempt,
    status: u16,
    grpc: Option<u8>,
    _in_flight: Option<Permit>,
}

impl End {
    pub(super) fn new(
        worker: &Rc<Worker>,
        report: Exchange,
        lease: Lease,
        attempt: Attempt,
        in_flight: Option<Permit>,
        response: &Response<Incoming>,
    ) -> Self {
        let is_grpc = report.is_grpc;
        let mut end = Self {
            worker: Rc::clone(worker),
            lease,
            report,
            attempt,
            status: response.status().as_u16(),
            grpc: is_grpc.then(|| grpc::status(response.headers())).flatten(),
            _in_flight: in_flight,
        };
        // a trial waits for nothing that may last: its place is wanted by others. A status that is bad is known at once
        if end.attempt.is_trial() || end.status >= 500 || end.grpc.is_some() {
            let answered = end.answered();
            end.attempt.judge(worker, answered);
        }
        end
    }

    fn answered(&self) -> AttemptEnd {
        AttemptEnd::Answered {
            status: self.status,
            grpc: self.grpc,
        }
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.report.response_bytes += data.len() as u64;
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers(trailers);
        }
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if self.report.is_grpc && self.grpc.is_none() {
            self.grpc = grpc::status(trailers);
        }
    }

    fn settle(&mut self, end: AttemptEnd) {
        self.attempt.settle(&self.worker, end);
    }

    /// Its time is over; where the client did not read, that says nothing about the endpoint.
    fn cut(mut self, is_clients: bool) {
        if is_clients {
            self.attempt.abandoned();
        }
        self.finish(Outcome::Timeout);
    }

    fn finish(mut self, outcome: Outcome) {
        match outcome {
            Outcome::UpstreamReset => self.settle(AttemptEnd::Reset),
            Outcome::Timeout => self.settle(AttemptEnd::Timeout),
            Outcome::ClientReset => self.attempt.abandoned(),
            _ => self.settle(self.answered()),
        }
        self.report.grpc = self.grpc;
        self.report.end(outcome);
        if outcome == Outcome::Completed {
            self.lease.give_back(self.attempt.is_crowded());
        }
    }
}

impl Timed {
    fn new(until: Instant) -> Self {
        let began = Instant::now();
        let mut held = Held::default();
        held.begin(began);
        Self {
            deadline: Deadline::at(until),
            until,
            began,
            held,
        }
    }

    /// What comes after the end of the time is not part of it.
    fn now(&self) -> Instant {
        Instant::now().min(self.until)
    }

    fn asked(&mut self) {
        self.held.end(self.now());
    }

    fn given(&mut self) {
        self.held.begin(self.now());
    }

    /// Whether most of the time was the client's.
    fn is_clients(&self) -> bool {
        self.held.is_most_since(self.began, self.now())
    }
}

impl Body {
    /// Carries what comes from upstream, until a time.
    pub(super) fn carried(incoming: Incoming, end: End, until: Option<Instant>) -> Self {
        let mut body = Self::Carried {
            incoming,
            end: Some(Box::new(end)),
            timed: until.map(|until| Box::new(Timed::new(until))),
        };
        body.end_if_empty();
        body
    }

    /// The mesh's own words, or none.
    pub(super) fn reported(text: Option<String>, mut report: Exchange) -> Self {
        report.response_bytes = text.as_ref().map_or(0, |text| text.len() as u64);
        Self::Own {
            text: text.map(Into::into),
            report: Some(report),
        }
    }

    pub(super) fn empty() -> Self {
        Self::Own {
            text: None,
            report: None,
        }
    }

    /// hyper does not read a body that says that it has ended: look here too.
    fn end_if_empty(&mut self) {
        if let Self::Carried { incoming, end, .. } = self
            && incoming.is_end_stream()
        {
            finish(end, Outcome::Completed);
        }
    }
}

fn finish(end: &mut Option<Box<End>>, outcome: Outcome) {
    if let Some(end) = end.take() {
        end.finish(outcome);
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        match this {
            Self::Own { text, report } => {
                report.take();
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
            Self::Carried { incoming, end, timed } => {
                if let Some(timed) = timed {
                    timed.asked();
                }
                let frame = Pin::new(&mut *incoming).poll_frame(cx);
                // what is whole is not cut, however late it is read: its head was in time
                let goes_on = match &frame {
                    Poll::Pending => true,
                    Poll::Ready(Some(Ok(_))) => !incoming.is_end_stream(),
                    Poll::Ready(_) => false,
                };
                if let Some(timed) = timed.as_mut().filter(|_| goes_on && end.is_some())
                    && timed.deadline.poll(cx).is_ready()
                {
                    if let Some(end) = end.take() {
                        end.cut(timed.is_clients());
                    }
                    return Poll::Ready(Some(Err(Passed.into())));
                }
                let frame = ready!(frame);
                if let Some(timed) = timed {
                    timed.given();
                }
                match &frame {
                    None => finish(end, Outcome::Completed),
                    Some(Err(_)) => finish(end, Outcome::UpstreamReset),
                    Some(Ok(frame)) => {
                        if let Some(end) = end {
                            end.passed(frame);
                        }
                        this.end_if_empty();
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Broken::Upstream)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::Carried { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Carried { incoming, .. } => incoming.size_hint(),
        }
    }
}
