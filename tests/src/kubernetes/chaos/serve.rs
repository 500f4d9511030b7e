//! Accepts, asks the rules, passes on.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request as HttpRequest, Response, StatusCode, Version,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::client::Body;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, oneshot, watch},
    task::LocalSet,
};

use super::{
    Strike,
    body::Passing,
    log::{Log, Request},
    rules::{Effect, Rules},
};

/// An answer: the server's as it passes, or ours.
type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What every connection knows.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) rules: watch::Receiver<Arc<Rules>>,
    pub(super) strikes: broadcast::Sender<Strike>,
    pub(super) log: Log,
}

/// Serves on the calling thread until `stopped`. Says where once it listens.
pub(super) fn run(
    listen: SocketAddr,
    mut upstream: kube::Config,
    shared: Shared,
    stopped: oneshot::Receiver<()>,
    bound: &mpsc::Sender<SocketAddr>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = async {
        // each fault must be the rules': the client retries nothing by itself, and a watch is silent as long as it likes
        upstream.default_retry = false;
        upstream.read_timeout = None;
        let client = kube::Client::try_from(upstream).context("a client of the API server")?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        let addr = listener.local_addr()?;
        // whoever started us has not waited: then nobody needs us
        let _ = bound.send(addr);
        accept(listener, addr, client, shared).await
    };
    LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            failed = serve => failed,
            _ = stopped => Ok(()),
        }
    })
}

async fn accept(listener: TcpListener, addr: SocketAddr, client: kube::Client, mut shared: Shared) -> Result<()> {
    let mut listener = Some(listener);
    loop {
        if shared.rules.borrow_and_update().refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(addr).await.context("listening again")?);
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                let (stream, _) = accepted.context("accepting")?;
                tokio::task::spawn_local(connection(stream, client.clone(), shared.clone()));
            }
            changed = shared.rules.changed() => if changed.is_err() {
                return Ok(());
            },
        }
    }
}

async fn connection(stream: TcpStream, client: kube::Client, shared: Shared) {
    let mut strikes = shared.strikes.subscribe();
    // a second descriptor: the socket is to be reset after hyper has let go of its own
    let Ok(socket) = SockRef::from(&stream).try_clone() else {
        return;
    };
    let service = service_fn(move |request| {
        let (client, shared) = (client.clone(), shared.clone());
        async move { Ok::<_, Infallible>(answer(request, client, shared).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let reset = async {
        loop {
            match strikes.recv().await {
                Ok(Strike::Reset) | Err(broadcast::error::RecvError::Closed) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        // a connection that a rule breaks ends with an error that the test asked for
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
        () = reset => {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

async fn answer(request: HttpRequest<Incoming>, client: kube::Client, mut shared: Shared) -> Answer {
    let seen = Request::new(request.method().clone(), request.uri());
    let number = shared.log.add(seen.clone());
    let effect = loop {
        let rules = shared.rules.borrow_and_update().clone();
        if !matches!(rules.on_body(&seen), Some(Effect::Stall)) {
            break rules.on_request(&seen).cloned();
        }
        if shared.rules.changed().await.is_err() {
            break None;
        }
    };
    let answer = match effect.and_then(|effect| Some((effect.answer(&seen)?, effect))) {
        Some(((code, value), effect)) => ours(code, value.to_string(), &effect),
        None => match pass_on(request, client).await {
            Ok(response) => passing(response, seen, &shared),
            Err(error) => ours(502, format!("{error:#}"), &Effect::Stall),
        },
    };
    shared.log.answered(number, answer.status().as_u16());
    answer
}

async fn pass_on(request: HttpRequest<Incoming>, client: kube::Client) -> Result<Response<Body>> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    hop_by_hop(&mut head.headers);
    head.headers.remove(HOST);
    Ok(client.send(HttpRequest::from_parts(head, Body::from(body))).await?)
}

fn passing(response: Response<Body>, request: Request, shared: &Shared) -> Answer {
    let (mut head, body) = response.into_parts();
    head.version = Version::HTTP_11;
    // the length may not stay what it was: every body goes in chunks
    hop_by_hop(&mut head.headers);
    let passing = Passing {
        request,
        body,
        rules: shared.rules.clone(),
        strikes: shared.strikes.subscribe(),
        rest: Bytes::new(),
        passed: 0,
        end: None,
    };
    Response::from_parts(head, StreamBody::new(passing.stream()).boxed_unsync())
}

fn ours(code: u16, text: String, effect: &Effect) -> Answer {
    let body = Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    if let Effect::Status {
        retry_after: Some(seconds),
        ..
    } = effect
    {
        answer.headers_mut().insert(RETRY_AFTER, (*seconds).into());
    }
    answer
}

/// Takes away what is said from neighbour to neighbour only.
fn hop_by_hop(headers: &mut HeaderMap) {
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}
