//! Attempts through hyper: what two upstreams see of a body that the client sends once.

use std::{cell::Cell, future::pending, time::Duration};

use futures_util::stream::unfold;
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING},
};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::{Request, Response};
use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
    time::timeout,
};

use super::*;
use crate::{
    proxy::{
        detect::Protocol,
        http::wire::{self, BOTH},
    },
    task,
};

/// A test that takes longer hangs.
const GUARD: Duration = Duration::from_secs(30);

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;
/// What an upstream got: its head, and what its body came to.
type Got = (HeaderMap, hyper::Result<http_body_util::Collected<Bytes>>);

/// A client's body, as the test goes on with it.
fn body() -> (
    Frames,
    impl Body<Data = Bytes, Error = std::io::Error> + Unpin + 'static,
) {
    let (frames, receiver) = mpsc::unbounded_channel();
    let stream = unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (frames, StreamBody::new(Box::pin(stream)))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers() -> Result<Frame<Bytes>, std::io::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    Ok(Frame::trailers(trailers))
}

/// An upstream that reads one frame, says so, reads on, and never answers.
async fn stalls(
    protocol: Protocol,
    read: oneshot::Sender<()>,
) -> (wire::Sender<Outgoing>, mpsc::UnboundedReceiver<Got>) {
    let (told, got) = mpsc::unbounded_channel();
    let read = Rc::new(Cell::new(Some(read)));
    let sender = wire::serve(protocol, move |request: Request<Incoming>| {
        let (told, read) = (told.clone(), read.take());
        async move {
            let (head, mut body) = request.into_parts();
            body.frame().await.unwrap().unwrap();
            read.unwrap().send(()).unwrap();
            told.send((head.headers, body.collect().await)).unwrap();
            pending::<Response<Empty<Bytes>>>().await
        }
    })
    .await;
    (sender, got)
}

/// An upstream that reads all and answers.
async fn answers(protocol: Protocol) -> (wire::Sender<Outgoing>, mpsc::UnboundedReceiver<Got>) {
    let (told, got) = mpsc::unbounded_channel();
    let sender = wire::serve(protocol, move |request: Request<Incoming>| {
        let told = told.clone();
        async move {
            let (head, body) = request.into_parts();
            told.send((head.headers, body.collect().await)).unwrap();
            Response::new(Empty::<Bytes>::new())
        }
    })
    .await;
    (sender, got)
}

/// The client's connection to a mesh that hands the test each request.
async fn mesh<B>(protocol: Protocol) -> (wire::Sender<B>, mpsc::UnboundedReceiver<Request<Incoming>>)
where
    B: Body<Data = Bytes, Error = std::io::Error> + Unpin + 'static,
{
    let (told, requests) = mpsc::unbounded_channel();
    let sender = wire::serve(protocol, move |request| {
        told.send(request).unwrap();
        pending::<Response<Empty<Bytes>>>()
    })
    .await;
    (sender, requests)
}

async fn within(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(timeout(GUARD, test)).await.unwrap();
}

fn request(head: &http::request::Parts, body: Outgoing) -> Request<Outgoing> {
    let mut request = Request::new(body);
    request.method_mut().clone_from(&head.method);
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    request
}

/// One request whose first attempt stalls after a frame. `length` is whether the client says the body's length.
async fn retried(protocol: Protocol, length: bool) {
    let (frames, client_body) = body();
    let (mut client, mut requests) = mesh(protocol).await;
    let mut sent = Request::post("http://web/").header(HOST, "web");
    sent = if length {
        sent.header(CONTENT_LENGTH, "5")
    } else {
        sent.header(TRAILER, "x-sum")
    };
    let sent = sent.body(client_body).unwrap();
    task::spawn("client", async move { client.send(sent).await.map(drop) });
    frames.send(data("hel")).unwrap();
    let (head, incoming) = requests.recv().await.unwrap().into_parts();
    let (first, handle) = Replay::new(incoming);

    let (read, one_frame) = oneshot::channel();
    let (mut upstream, mut got) = stalls(protocol, read).await;
    let first = request(&head, Outgoing::replay(first));
    task::spawn("attempt", async move { upstream.send(first).await.map(drop) });
    one_frame.await.unwrap();

    // the first attempt is not even cancelled
    let second = request(&head, Outgoing::replay(handle.again().unwrap()));
    let (_, cut) = got.recv().await.unwrap();
    assert!(
        cut.is_err(),
        "{protocol:?}: an attempt that was given up looks complete"
    );

    let (mut upstream, mut got) = answers(protocol).await;
    let answer = task::spawn("attempt", async move { upstream.send(second).await.map(drop) });
    frames.send(data("lo")).unwrap();
    if !length {
        frames.send(trailers()).unwrap();
    }
    drop(frames);
    let (headers, whole) = got.recv().await.unwrap();
    let whole = whole.unwrap();
    assert_eq!(whole.trailers().is_some(), !length, "{protocol:?}");
    assert_eq!(whole.to_bytes(), "hello", "{protocol:?} {length}");
    assert_eq!(
        headers.get(CONTENT_LENGTH),
        length.then_some(&HeaderValue::from_static("5"))
    );
    assert_eq!(
        headers.contains_key(TRANSFER_ENCODING),
        !length && protocol == Protocol::Http1
    );
    answer.await.unwrap().unwrap().unwrap();
    assert!(!handle.is_broken());
}

#[tokio::test]
async fn an_attempt_that_is_given_up_is_cut_off_and_the_next_is_whole() {
    for protocol in BOTH {
        for length in [true, false] {
            within(retried(protocol, length)).await;
        }
    }
}

#[tokio::test]
async fn what_has_been_read_to_its_end_is_sent_again_as_it_was() {
    for protocol in BOTH {
        within(async {
            let (frames, client_body) = body();
            let (mut client, mut requests) = mesh(protocol).await;
            let sent = Request::post("http://web/")
                .header(HOST, "web")
                .header(TRAILER, "x-sum");
            let sent = sent.body(client_body).unwrap();
            task::spawn("client", async move { client.send(sent).await.map(drop) });
            for frame in [data("hel"), data("lo"), trailers()] {
                frames.send(frame).unwrap();
            }
            drop(frames);
            let (head, incoming) = requests.recv().await.unwrap().into_parts();
            let (first, handle) = Replay::new(incoming);
            let mut next = Some(first);
            for _ in 0..3 {
                let (mut upstream, mut got) = answers(protocol).await;
                let sent = request(&head, Outgoing::replay(next.take().unwrap()));
                upstream.send(sent).await.unwrap();
                let (_, whole) = got.recv().await.unwrap();
                let whole = whole.unwrap();
                assert_eq!(whole.trailers().unwrap()["x-sum"], "7", "{protocol:?}");
                assert_eq!(whole.to_bytes(), "hello", "{protocol:?}");
                next = handle.again();
            }
        })
        .await;
    }
}

/// A request whose client breaks off after a frame, be its body kept or not.
async fn broken(protocol: Protocol, kept: bool) {
    let (frames, client_body) = body();
    let (mut client, mut requests) = mesh(protocol).await;
    let sent = Request::post("http://web/")
        .header(HOST, "web")
        .body(client_body)
        .unwrap();
    task::spawn("client", async move { client.send(sent).await.map(drop) });
    frames.send(data("hel")).unwrap();
    let (head, incoming) = requests.recv().await.unwrap().into_parts();
    let (first, handle) = if kept {
        let (first, handle) = Replay::new(incoming);
        (Outgoing::replay(first), Some(handle))
    } else {
        (Outgoing::plain(incoming), None)
    };
    let (read, one_frame) = oneshot::channel();
    let (mut upstream, mut got) = stalls(protocol, read).await;
    let first = request(&head, first);
    let attempt = task::spawn("attempt", async move { upstream.send(first).await.map(drop) });
    one_frame.await.unwrap();
    frames.send(Err(std::io::Error::other("gone"))).unwrap();
    let (_, cut) = got.recv().await.unwrap();
    assert!(cut.is_err(), "{protocol:?}");
    let error = attempt.await.unwrap().unwrap().unwrap_err();
    if protocol == Protocol::Http1 {
        assert!(
            matches!(BodyError::within(&error), Some(BodyError::Client(_))),
            "{error:?}"
        );
    }
    if let Some(handle) = handle {
        assert!(handle.is_broken() && handle.again().is_none(), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_is_to_blame() {
    for protocol in BOTH {
        for kept in [true, false] {
            within(broken(protocol, kept)).await;
        }
    }
}
