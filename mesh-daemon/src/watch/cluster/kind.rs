//! The watch of one kind: a list, streamed or in pages, then its changes, for ever. Where history is gone it lists again; failures wait longer
//! and longer.
//!
//! kube's own watcher is not used: it begins a broken streaming list again without saying so, so that an object deleted in between would
//! stay for ever, and it opens a watch that ends at once again and again without a pause.

use std::{pin::Pin, rc::Rc, time::Duration};

use futures_util::{Stream, stream};
use http_body_util::{BodyExt as _, Limited};
use hyper::{Request, Response};
use kube::{
    api::{ListParams, WatchParams},
    client::Body,
    core::{Request as Requests, Status},
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    super::objects::Kind,
    backoff::{Backoff, FIRST_MAX, Random, share},
    client::{Server, causes},
    lines::Lines,
    raw::Raw,
    trouble::{Asked, Trouble},
    wire::{Line, Page, is_end_of_list, is_older, path, refusal, status},
};

/// Objects of a page, where lists do not stream: as kubectl asks. A page of Pods is some MiB, and is the most raw JSON that is held.
const PAGE_OBJECTS: u32 = 500;
/// Largest page, in bytes: 500 objects of the largest kind that is usual, a hundred times over what they are.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// How long an answer may take to begin, and how long a list may go without an object. A busy server answers within some seconds; one that
/// lets a byte through now and then must not hold up the node.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long a watch may be silent. Servers send a bookmark about every minute: after two the connection is dead, and is opened again from
/// where it was, which costs one request.
const SILENT_AFTER: Duration = Duration::from_secs(120);
/// How long a server keeps a watch open: between these two, so that the watches of many nodes do not end together. Below five minutes, which
/// is where load balancers cut at the latest.
const WATCH_MIN: Duration = Duration::from_secs(180);
const WATCH_MAX: Duration = Duration::from_secs(290);
/// A watch that ends sooner than this by itself did not end because its time was over: it is opened again with backoff.
const WATCH_SHORT: Duration = Duration::from_secs(10);

/// What a watch says.
#[derive(Debug)]
pub(super) enum Said {
    /// A full list begins.
    Listing,
    /// An object of it.
    Listed(Raw),
    /// It is complete.
    Complete,
    /// An object is new or changed.
    Applied(Raw),
    /// An object is gone.
    Deleted(Raw),
    /// The watch stands (again).
    Up,
    /// It failed and will be tried again.
    Failed(Trouble),
}

/// How long is waited for a server: a test has less time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the beginning of an answer, and for each object of a list.
    pub(super) stalled: Duration,
    /// For anything of a watch.
    pub(super) silent: Duration,
    /// Longest wait after the first failure.
    pub(super) first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stalled: STALLED_AFTER,
            silent: SILENT_AFTER,
            first_wait: FIRST_MAX,
        }
    }
}

/// A watch as a stream without an end.
pub(super) type Events = Pin<Box<dyn Stream<Item = (Kind, Said)>>>;

/// Starts a watch. Nothing is asked before it is polled, and nothing while it is not.
pub(super) fn watch(server: Rc<Server>, kind: Kind, patience: Patience) -> Events {
    let watch = Watch {
        server,
        kind,
        patience,
        state: State::Start,
        pages_once: false,
        backoff: Backoff::starting_at(patience.first_wait),
        random: Random::new(),
        wait_until: None,
        stands_since: None,
    };
    Box::pin(stream::unfold(watch, |mut watch| async {
        let said = watch.next().await;
        Some(((watch.kind, said), watch))
    }))
}

struct Watch {
    server: Rc<Server>,
    kind: Kind,
    patience: Patience,
    state: State,
    /// The next list is in pages, since the last one that streamed stalled: as it does on a server that has never heard of streaming.
    pages_once: bool,
    backoff: Backoff,
    random: Random,
    /// After a failure.
    wait_until: Option<Instant>,
    /// Since when changes are received without a failure.
    stands_since: Option<Instant>,
}

/// What is next.
enum State {
    /// A list.
    Start,
    /// Its next page.
    Page(Option<String>),
    /// What is left of a page, and what follows it.
    Items(std::vec::IntoIter<Raw>, After),
    /// A streaming list.
    Stream,
    /// Its objects.
    Streaming(Lines),
    /// Changes from a version on.
    Open(String),
    /// They come.
    Changes(Lines, String),
}

enum After {
    Page(String),
    Open(String),
}

/// A failure, and where to go on.
struct Failure {
    trouble: Trouble,
    state: State,
}

type Step = Result<Option<Said>, Box<Failure>>;

impl Watch {
    async fn next(&mut self) -> Said {
        loop {
            if let Some(at) = self.wait_until.take() {
                sleep_until(at).await;
            }
            match self.step().await {
                Ok(Some(said)) => return said,
                Ok(None) => {}
                Err(failure) => {
                    let Failure { trouble, state } = *failure;
                    self.state = state;
                    self.pause(trouble.retry_after);
                    return Said::Failed(trouble);
                }
            }
        }
    }

    fn pause(&mut self, asked: Option<Duration>) {
        let healthy = self.stands_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let wait = self.backoff.failed(healthy, asked, self.random.next());
        self.wait_until = Some(Instant::now() + wait);
    }

    async fn step(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Start => {
                self.state = if self.pages_once || !self.server.streams.get() {
                    State::Page(None)
                } else {
                    State::Stream
                };
                Ok(Some(Said::Listing))
            }
            State::Page(next) => self.page(next).await,
            State::Items(items, after) => Ok(self.item(items, after)),
            State::Stream => self.stream().await,
            State::Streaming(lines) => self.streaming(lines).await,
            State::Open(version) => self.open(version).await,
            State::Changes(lines, version) => self.changes(lines, version).await,
        }
    }

    async fn page(&mut self, next: Option<String>) -> Step {
        let asked = self.asked("list");
        let failed = |trouble| failure(trouble, State::Start);
        let params = ListParams {
            limit: Some(PAGE_OBJECTS),
            continue_token: next,
            ..ListParams::default()
        };
        let request = Requests::new(path(self.kind)).list(&params);
        let response = self.send(&asked, request).await.map_err(failed)?;
        if !response.status().is_success() {
            let status = refusal(response, self.patience.stalled).await;
            // the token of a page is too old: the list begins again, which is no failure
            if status.code == 410 && params.continue_token.is_some() {
                self.pause(None);
                return Ok(None);
            }
            return Err(failed(asked.refusal(&status)));
        }
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect();
        let body = match timeout(self.patience.stalled, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(failed(asked.disconnected(&causes(&*error)))),
            Err(_) => return Err(failed(asked.late("did not finish a page in 30 s"))),
        };
        let page: Page = serde_json::from_slice(&body).map_err(|error| failed(asked.undecodable(&error)))?;
        let items = page.items.unwrap_or_default().into_iter();
        let after = match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => After::Page(next),
            None if page.metadata.resource_version.is_empty() => {
                return Err(failed(asked.garbled("a list without a resourceVersion")));
            }
            None => After::Open(page.metadata.resource_version),
        };
        self.state = State::Items(items, after);
        Ok(None)
    }

    fn item(&mut self, mut items: std::vec::IntoIter<Raw>, after: After) -> Option<Said> {
        if let Some(object) = items.next() {
            self.state = State::Items(items, after);
            return Some(Said::Listed(object));
        }
        match after {
            After::Page(next) => {
                self.state = State::Page(Some(next));
                None
            }
            After::Open(version) => {
                self.pages_once = false;
                self.state = State::Open(version);
                Some(Said::Complete)
            }
        }
    }

    async fn stream(&mut self) -> Step {
        let asked = self.asked("watch");
        let failed = |trouble| failure(trouble, State::Start);
        let params = WatchParams {
            send_initial_events: true,
            ..self.params()
        };
        // no version: as new as the moment of the request, whichever of several servers answers
        let request = Requests::new(path(self.kind)).watch(&params, "");
        let response = self.send(&asked, request).await.map_err(failed)?;
        if response.status().is_success() {
            self.state = State::Streaming(Lines::of(response.into_body()));
            return Ok(None);
        }
        let status = refusal(response, self.patience.stalled).await;
        if matches!(status.code, 400 | 422) {
            // the first of five says it for all
            if self.server.streams.replace(false) {
                tracing::info!(
                    refusal = status.message,
                    "the API server does not stream lists; listing in pages"
                );
            }
            self.state = State::Page(None);
            return Ok(None);
        }
        Err(failed(asked.refusal(&status)))
    }

    async fn streaming(&mut self, mut lines: Lines) -> Step {
        let asked = self.asked("watch");
        let failed = |trouble| failure(trouble, State::Start);
        let Ok(line) = timeout(self.patience.stalled, lines.next()).await else {
            self.pages_once = true;
            return Err(failed(asked.late("gave no object for 30 s in the middle of a list")));
        };
        let Line { event, object } = match line {
            Ok(Some(line)) => serde_json::from_slice(&line).map_err(|error| failed(asked.undecodable(&error)))?,
            Ok(None) => return Err(failed(asked.cut("in the middle of a list"))),
            Err(broken) => return Err(failed(asked.broken(&broken))),
        };
        let said = match event.as_str() {
            "ADDED" | "MODIFIED" => Some(Said::Listed(object)),
            "DELETED" => Some(Said::Deleted(object)),
            "BOOKMARK" if is_end_of_list(&object) => {
                let version = object.meta("resourceVersion").to_owned();
                self.stands_since = Some(Instant::now());
                self.state = State::Changes(lines, version);
                return Ok(Some(Said::Complete));
            }
            "ERROR" => return Err(failed(asked.refusal(&status(object)))),
            _ => None,
        };
        self.state = State::Streaming(lines);
        Ok(said)
    }

    async fn open(&mut self, version: String) -> Step {
        let asked = self.asked("watch");
        let request = Requests::new(path(self.kind)).watch(&self.params(), &version);
        let response = match self.send(&asked, request).await {
            Ok(response) => response,
            Err(trouble) => {
                let state = State::Open(version);
                return Err(failure(trouble, state));
            }
        };
        if response.status().is_success() {
            self.stands_since = Some(Instant::now());
            self.state = State::Changes(Lines::of(response.into_body()), version);
            return Ok(Some(Said::Up));
        }
        self.ended(&asked, &refusal(response, self.patience.stalled).await, version)
    }

    async fn changes(&mut self, mut lines: Lines, version: String) -> Step {
        let asked = self.asked("watch");
        let line = match timeout(self.patience.silent, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => {
                // the usual end: its time is over
                if self.stands_since.is_none_or(|since| since.elapsed() < WATCH_SHORT) {
                    self.pause(None);
                }
                self.state = State::Open(version);
                return Ok(None);
            }
            Ok(Err(broken)) => {
                let (trouble, state) = (asked.broken(&broken), State::Open(version));
                return Err(failure(trouble, state));
            }
            Err(_) => {
                let (trouble, state) = (asked.late("said nothing for 120 s"), State::Open(version));
                return Err(failure(trouble, state));
            }
        };
        // what does not decode is lost: only a list tells what it was
        let Line { event, object } =
            serde_json::from_slice(&line).map_err(|error| failure(asked.undecodable(&error), State::Start))?;
        let said = match event.as_str() {
            "ADDED" | "MODIFIED" => Said::Applied,
            "DELETED" => Said::Deleted,
            "ERROR" => return self.ended(&asked, &status(object), version),
            "BOOKMARK" => {
                let now = object.meta("resourceVersion");
                if is_older(now, &version) {
                    tracing::warn!(
                        kind = self.kind.plural(),
                        from = version,
                        to = now,
                        "the API server went back in time, as after a restored backup; listing again"
                    );
                    self.state = State::Start;
                    return Ok(None);
                }
                self.state = State::Changes(lines, now.to_owned());
                return Ok(None);
            }
            _ => {
                self.state = State::Changes(lines, version);
                return Ok(None);
            }
        };
        let now = match object.meta("resourceVersion") {
            "" => version,
            now => now.to_owned(),
        };
        self.state = State::Changes(lines, now);
        Ok(Some(said(object)))
    }

    /// The server ends a watch, or refuses to open it.
    fn ended(&mut self, asked: &Asked, status: &Status, version: String) -> Step {
        match status.code {
            // history is gone: no failure, but many nodes find it at the same moment
            410 => {
                tracing::info!(
                    kind = self.kind.plural(),
                    since = version,
                    "the API server's history is gone; listing again"
                );
                self.pause(None);
                Ok(None)
            }
            // they pass, and the version stays good
            401 | 403 | 429 | 500 | 502 | 503 => Err(failure(asked.refusal(status), State::Open(version))),
            // among them 504, which a server says of a version that it has not reached: after a restored backup it never will
            _ => Err(failure(asked.refusal(status), State::Start)),
        }
    }

    async fn send<E: std::error::Error>(
        &self,
        asked: &Asked,
        request: Result<Request<Vec<u8>>, E>,
    ) -> Result<Response<Body>, Trouble> {
        let request = request.map_err(|error| asked.garbled(&error.to_string()))?;
        match timeout(self.patience.stalled, self.server.client.send(request.map(Body::from))).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(asked.error(&error)),
            Err(_) => Err(asked.late("did not answer within 30 s")),
        }
    }

    fn params(&mut self) -> WatchParams {
        let seconds = (WATCH_MIN + share(WATCH_MAX - WATCH_MIN, self.random.next())).as_secs();
        WatchParams {
            timeout: u32::try_from(seconds).ok(),
            ..WatchParams::default()
        }
    }

    fn asked(&self, verb: &'static str) -> Asked {
        Asked {
            url: Rc::clone(&self.server.url),
            verb,
            kind: self.kind,
        }
    }
}

fn failure(trouble: Trouble, state: State) -> Box<Failure> {
    Box::new(Failure { trouble, state })
}
