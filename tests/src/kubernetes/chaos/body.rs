//! The body of an answer on its way to the daemon, at the mercy of the rules that hold while it passes.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::sync::{broadcast, watch};

use super::{
    Strike,
    log::Request,
    rules::{Effect, Rules, expired_event},
};

/// What comes next, or why nothing more does.
type Next = Result<Frame<Bytes>, io::Error>;

/// A body that passes.
pub(super) struct Passing {
    pub(super) request: Request,
    pub(super) body: kube::client::Body,
    pub(super) rules: watch::Receiver<Arc<Rules>>,
    pub(super) strikes: broadcast::Receiver<Strike>,
    /// What came from the server and has not passed.
    pub(super) rest: Bytes,
    /// Bytes that have passed.
    pub(super) passed: usize,
    /// How it ends before the server ends it.
    pub(super) end: Option<End>,
}

/// An end that the server did not make.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It looks like one.
    InOrder,
    /// The connection breaks.
    Broken,
}

impl Passing {
    /// The frames that pass.
    pub(super) fn stream(self) -> impl Stream<Item = Next> {
        stream::unfold(self, |mut body| async {
            let next = body.next().await?;
            Some((next, body))
        })
    }

    async fn next(&mut self) -> Option<Next> {
        loop {
            match self.end {
                Some(End::InOrder) => return None,
                Some(End::Broken) => {
                    self.end = Some(End::InOrder);
                    // a server that is polled again at once would break off before it has sent what passed
                    tokio::task::yield_now().await;
                    return Some(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                None => {}
            }
            if self.rest.is_empty() {
                if let Some(said) = self.more().await {
                    return said;
                }
                continue;
            }
            let effect = self.rules.borrow_and_update().on_body(&self.request).cloned();
            match effect {
                Some(Effect::Stall) => self.stalled().await?,
                Some(Effect::Drip(pause)) => {
                    // the fault's own pace; without the fault the rest passes at once
                    tokio::select! { () = tokio::time::sleep(pause) => {}, _ = self.rules.changed() => {} }
                    return self.pass(1);
                }
                Some(Effect::Cut { after, in_order }) => {
                    if let Some(left) = after.checked_sub(self.passed).filter(|left| *left >= self.rest.len()) {
                        return self.pass(left);
                    }
                    return self.cut(after, in_order);
                }
                _ => return self.pass(usize::MAX),
            }
        }
    }

    /// Takes what the server says next. What must be said or done about it at once, if anything.
    async fn more(&mut self) -> Option<Option<Next>> {
        tokio::select! {
            strike = self.strikes.recv(), if self.request.is_watch() => {
                if matches!(strike, Ok(Strike::CloseWatches | Strike::ExpireWatches)) {
                    self.end = Some(End::InOrder);
                }
                (strike == Ok(Strike::ExpireWatches)).then(|| Some(Ok(Frame::data(expired_event()))))
            }
            frame = self.body.frame() => match frame {
                None => Some(None),
                Some(Ok(frame)) => {
                    // trailers say nothing that a Kubernetes client reads
                    self.rest = frame.into_data().unwrap_or_default();
                    None
                }
                Some(Err(error)) => {
                    self.end = Some(End::InOrder);
                    Some(Some(Err(io::Error::other(error))))
                }
            },
        }
    }

    /// Until the rules change; none if they never will.
    async fn stalled(&mut self) -> Option<()> {
        self.rules.changed().await.ok()
    }

    #[expect(clippy::unnecessary_wraps, reason = "what comes next, as for the others")]
    fn pass(&mut self, bytes: usize) -> Option<Next> {
        let now = self.rest.split_to(bytes.min(self.rest.len()));
        self.passed += now.len();
        Some(Ok(Frame::data(now)))
    }

    /// Passes what may pass before the cut; then comes the end.
    fn cut(&mut self, after: usize, in_order: bool) -> Option<Next> {
        let left = after.checked_sub(self.passed).unwrap_or(self.rest.len() / 2);
        self.end = Some(if in_order { End::InOrder } else { End::Broken });
        self.pass(left)
    }
}
