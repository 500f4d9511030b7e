//! HTTP clients inside a pod: single requests, counted series, and load in the background, over HTTP/1.1 and HTTP/2.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, runtime::Runtime};

use crate::bench::Netns;

/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How the error of an answer begins whose head came and whose body broke off; the status follows.
pub const AFTER_HEAD: &str = "the body broke off after the head of an answer with";
/// Texts of errors that a tally keeps apart, so that one with a counter in it does not fill the memory; all failures are counted.
const ERRORS_QUOTED: usize = 5;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Its trailers; empty if there are none.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as text, without the newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }

    /// A header's value; empty if it is not there or no text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// The grpc-status of a gRPC call, from the trailers or from a head that is all there is.
    pub fn grpc_status(&self) -> Option<u8> {
        let value = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.headers.get("grpc-status"));
        value?.to_str().ok()?.parse().ok()
    }

    /// What our server says that it was asked, if it was asked with [`ECHO_HEADER`].
    ///
    /// # Errors
    /// If the body is something else.
    pub fn echoed(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("status {}: {}", self.status, self.text()))
    }
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// The version.
    pub version: Version,
    /// To where.
    pub target: SocketAddr,
    /// The path.
    pub path: String,
    /// Whether a connection serves more than one request.
    pub reuse: bool,
    /// The name that the server is asked for; the target itself if none.
    pub authority: Option<String>,
    /// The method.
    pub method: Method,
    /// Headers beside `Host`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// A header that makes our server answer, in JSON, what it was asked: `pod`, `remote`, `version`, `method`, `uri`, `headers`, `body`.
pub const ECHO_HEADER: (&str, &str) = ("x-echo", "1");

impl Load {
    /// Requests for `/`, each on a connection of its own.
    pub fn fresh(version: Version, target: SocketAddr) -> Self {
        Self {
            version,
            target,
            path: "/".to_owned(),
            reuse: false,
            authority: None,
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// The same for another path.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self
        }
    }

    /// The same with another method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// A gRPC call to our server, which answers one message: its pod's name.
    pub fn grpc(target: SocketAddr) -> Self {
        // a message of no bytes: not compressed, length 0
        let empty: &[u8] = &[0; 5];
        Self::fresh(Version::Http2, target)
            .method(Method::POST)
            .path("/weft.test.Echo/Say")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(empty)
    }

    /// Requests for `/` on one connection.
    pub fn reused(version: Version, target: SocketAddr) -> Self {
        Self {
            reuse: true,
            ..Self::fresh(version, target)
        }
    }
}

/// What came of a series.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Requests without an answer, or with a status other than 200.
    pub failed: u64,
    /// Answers by their text: the pod's name.
    pub by_body: BTreeMap<String, u64>,
    /// How long each answered request took.
    pub latencies: Vec<Duration>,
    /// Failures by their text; texts beyond the first few are left out.
    pub errors: BTreeMap<String, u64>,
    /// When the last request failed.
    pub last_failure: Option<Instant>,
}

impl Tally {
    /// A quantile of the latencies.
    pub fn quantile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        sorted.get((sorted.len().checked_sub(1)?) * percent / 100).copied()
    }

    /// The greatest difference between two answers' counts.
    pub fn difference(&self) -> u64 {
        let counts = self.by_body.values();
        counts.clone().max().unwrap_or(&0) - counts.min().unwrap_or(&0)
    }

    /// Takes in what came of another series.
    pub fn merge(&mut self, other: Self) {
        let Self {
            sent,
            failed,
            by_body,
            latencies,
            errors,
            last_failure,
        } = other;
        self.sent += sent;
        self.failed += failed;
        for (body, count) in by_body {
            *self.by_body.entry(body).or_default() += count;
        }
        self.latencies.extend(latencies);
        for (error, count) in errors {
            self.quote(error, count);
        }
        self.last_failure = self.last_failure.max(last_failure);
    }

    fn add(&mut self, result: Result<Answer>, took: Duration) {
        self.sent += 1;
        match result {
            Ok(answer) if answer.status == 200 => {
                *self.by_body.entry(answer.text()).or_default() += 1;
                self.latencies.push(took);
            }
            Ok(answer) => self.fail(format!("status {}: {}", answer.status, answer.text())),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    fn fail(&mut self, error: String) {
        self.failed += 1;
        self.last_failure = Some(Instant::now());
        self.quote(error, 1);
    }

    fn quote(&mut self, error: String, count: u64) {
        if self.errors.len() < ERRORS_QUOTED || self.errors.contains_key(&error) {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// If there is no answer.
pub fn once(netns: &Netns, version: Version, target: SocketAddr, path: &str) -> Result<Answer> {
    let load = Load {
        path: path.to_owned(),
        ..Load::fresh(version, target)
    };
    netns.inside(|| runtime()?.block_on(async { answer(&mut None, &load).await }))?
}

/// One request on a connection of its own, as the load says.
///
/// # Errors
/// If there is no answer.
pub fn ask(netns: &Netns, load: &Load) -> Result<Answer> {
    netns.inside(|| runtime()?.block_on(async { answer(&mut None, load).await }))?
}

/// A series, one request after the other.
///
/// # Errors
/// If the namespace does not exist. Requests that fail are counted.
pub fn send(netns: &Netns, load: &Load, requests: u64) -> Result<Tally> {
    let mut left = 0..requests;
    netns.inside(|| send_while(load, || left.next().is_some()))?
}

/// A series from where this thread is, one request after the other, for as long as the question before each is answered with yes.
///
/// # Errors
/// If there is no runtime to be had. Requests that fail are counted.
pub fn send_while(load: &Load, mut more: impl FnMut() -> bool) -> Result<Tally> {
    let mut tally = Tally::default();
    runtime()?.block_on(async {
        let mut connection = None;
        while more() {
            step(&mut connection, load, &mut tally).await;
        }
    });
    Ok(tally)
}

/// A series that goes on until it is stopped.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// If the thread cannot be had.
    pub fn start(netns: &Netns, load: Load) -> Result<Self> {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Tally::default())));
        let (stopped, shared, netns) = (stop.clone(), tally.clone(), netns.clone());
        let work = move || netns.inside(|| until_stopped(&load, &stopped, &shared))?;
        let thread = std::thread::Builder::new().name("load".into()).spawn(work)?;
        Ok(Self {
            stop,
            tally,
            thread: Some(thread),
        })
    }

    /// What came of it so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops it and hands back what came of it.
    ///
    /// # Errors
    /// If its thread panicked.
    pub fn stop(mut self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the load's thread panicked"))??;
        }
        Ok(self.tally())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn until_stopped(load: &Load, stop: &AtomicBool, shared: &Mutex<Tally>) -> Result<()> {
    runtime()?.block_on(async {
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            let result = answer(&mut connection, load).await;
            shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(result, start.elapsed());
        }
    });
    Ok(())
}

async fn step(connection: &mut Option<Connection>, load: &Load, tally: &mut Tally) {
    let start = Instant::now();
    let result = answer(connection, load).await;
    tally.add(result, start.elapsed());
}

/// An open connection.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn open(version: Version, target: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(target)
            .await
            .with_context(|| format!("connecting to {target}"))?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    /// Whether it can take another request, as any client asks before it sends one.
    async fn usable(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        Ok(match self {
            Self::Http1(sender) => sender.send_request(request).await?,
            Self::Http2(sender) => sender.send_request(request).await?,
        })
    }
}

/// One request, over an open connection if there is one that is usable; left there for the next if the load says so.
pub(crate) async fn answer(connection: &mut Option<Connection>, load: &Load) -> Result<Answer> {
    match tokio::time::timeout(REQUEST_TIMEOUT, exchange(connection, load)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            *connection = None;
            Err(error)
        }
        Err(_) => {
            *connection = None;
            bail!("no answer from {} within {REQUEST_TIMEOUT:?}", load.target)
        }
    }
}

async fn exchange(connection: &mut Option<Connection>, load: &Load) -> Result<Answer> {
    let mut open = match connection.take() {
        Some(mut open) => {
            if open.usable().await {
                open
            } else {
                Connection::open(load.version, load.target).await?
            }
        }
        None => Connection::open(load.version, load.target).await?,
    };
    let authority = load.authority.clone().unwrap_or_else(|| load.target.to_string());
    let request = Request::builder().method(load.method.clone());
    let mut request = match load.version {
        Version::Http1 => request.uri(load.path.as_str()).header("host", authority),
        Version::Http2 => request.uri(format!("http://{authority}{}", load.path)),
    };
    for (name, value) in &load.headers {
        request = request.header(name, value);
    }
    let response = open.send(request.body(Full::new(load.body.clone()))?).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await;
    let body = body.with_context(|| format!("{AFTER_HEAD} {}", head.status))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    if load.reuse {
        *connection = Some(open);
    }
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
        trailers,
    })
}

pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
