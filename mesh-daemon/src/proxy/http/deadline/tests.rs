//! Bodies that are cut off by their deadline, seen from the client's side of real connections. The clock is turned by tokio: it jumps to the next
//! timer when nobody has anything to do.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    header::CONTENT_LENGTH,
};
use tokio::{
    task::LocalSet,
    time::{sleep, timeout},
};

use super::*;
use crate::proxy::{
    detect::Protocol,
    http::wire::{self, BOTH},
};

const TIME: Duration = Duration::from_secs(1);
/// A test that takes longer hangs.
const GUARD: Duration = Duration::from_secs(30);

/// A body with a deadline, as the data path has it.
struct Timed {
    deadline: Deadline,
    /// Frames of ten bytes that are there at once.
    frames: usize,
    /// Whether it ends after them, or waits for ever.
    ends: bool,
    /// Its length, if it is known.
    length: Option<u64>,
}

impl Timed {
    fn new(frames: usize, ends: bool, length: Option<u64>) -> Self {
        Self {
            deadline: Deadline::at(Instant::now() + TIME),
            frames,
            ends,
            length,
        }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Passed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Passed>>> {
        if self.deadline.poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Passed)));
        }
        if self.frames > 0 {
            self.frames -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"0123456789")))));
        }
        if self.ends { Poll::Ready(None) } else { Poll::Pending }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Asks for a body, and hands back its head's answer.
async fn ask(protocol: Protocol, frames: usize, ends: bool, length: Option<u64>) -> Response<Incoming> {
    let answer = move |_| async move { Response::new(Timed::new(frames, ends, length)) };
    let mut sender = wire::serve(protocol, answer).await;
    let request = Request::get("http://web/").header("host", "web");
    sender.send(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

async fn within<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(timeout(GUARD, test)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_once_and_for_all() {
    let mut deadline = Deadline::at(Instant::now() + TIME);
    assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
    let before = Instant::now();
    poll_fn(|cx| deadline.poll(cx)).await;
    assert!(before.elapsed() >= TIME);
    assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_off_looks_cut_off() {
    for protocol in BOTH {
        for length in [None, Some(20)] {
            within(async {
                let mut body = ask(protocol, 1, false, length).await;
                let sent = body
                    .headers()
                    .get(CONTENT_LENGTH)
                    .map(|value| value.to_str().unwrap().to_owned());
                assert_eq!(sent, length.map(|length| length.to_string()), "{protocol:?}");
                let first = body.body_mut().frame().await.unwrap().unwrap();
                assert_eq!(first.into_data().unwrap(), "0123456789");
                let rest = body.into_body().collect().await;
                assert!(rest.is_err(), "{protocol:?} {length:?}: {rest:?}");
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_in_time_is_whole() {
    for protocol in BOTH {
        for length in [None, Some(30)] {
            within(async {
                let body = ask(protocol, 3, true, length).await.into_body();
                let whole = body.collect().await.unwrap().to_bytes();
                assert_eq!(whole.len(), 30, "{protocol:?} {length:?}");
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_late_does_not_get_the_rest() {
    // more than hyper and its windows take ahead
    const FRAMES: usize = 400_000;
    for protocol in BOTH {
        within(async {
            let body = ask(protocol, FRAMES, true, None).await.into_body();
            sleep(2 * TIME).await;
            assert!(body.collect().await.is_err(), "{protocol:?}");
        })
        .await;
    }
}
