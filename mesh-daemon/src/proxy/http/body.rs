//! The answer's body on its way to the client: at its end, and only there, the upstream connection is free and the request is reported.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use crate::proxy::{outcome::Outcome, pool::Lease, report::Exchange};

/// A body for the client.
pub(super) enum Body {
    /// From upstream.
    Carried { incoming: Incoming, end: Option<End> },
    /// The mesh's own, with its report.
    Own {
        text: Option<Bytes>,
        report: Option<Exchange>,
    },
}

/// What happens when the body has been carried.
pub(super) struct End {
    lease: Lease,
    report: Exchange,
}

impl Body {
    pub(super) fn carried(incoming: Incoming, lease: Lease, report: Exchange) -> Self {
        let mut body = Self::Carried {
            incoming,
            end: Some(End { lease, report }),
        };
        body.end_if_empty();
        body
    }

    pub(super) fn text(text: String, report: Exchange) -> Self {
        Self::Own {
            text: Some(text.into()),
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
        if let Self::Carried { incoming, end } = self
            && incoming.is_end_stream()
        {
            finish(end, Outcome::Completed);
        }
    }
}

fn finish(end: &mut Option<End>, outcome: Outcome) {
    if let Some(End { lease, mut report }) = end.take() {
        report.end(outcome);
        if outcome == Outcome::Completed {
            lease.give_back();
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this {
            Self::Own { text, report } => {
                report.take();
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
            Self::Carried { incoming, end } => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                match &frame {
                    None => finish(end, Outcome::Completed),
                    Some(Err(_)) => finish(end, Outcome::UpstreamReset),
                    Some(Ok(_)) => this.end_if_empty(),
                }
                Poll::Ready(frame)
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
