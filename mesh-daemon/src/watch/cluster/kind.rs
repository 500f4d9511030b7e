//! The watch of one kind: a list, streamed or in pages, then its changes, for ever. Where history is gone, or what is known may not be of it,
//! it lists again; failures wait longer and longer.
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
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{
    super::objects::Kind,
    backoff::{Backoff, Random, share},
    client::Server,
    lines::Lines,
    patience::{InARow, Patience, REOPENED_MAX, SHORT_MAX, SILENT_MAX, seconds, watch_time},
    raw::Raw,
    trouble::{Asked, Trouble},
    wire::{Line, PAGE_BYTES_MAX, PAGE_OBJECTS, Page, is_end_of_list, is_older, path, refusal, status},
};
use crate::telemetry::causes;

/// What a watch says.
#[derive(Debug)]
pub(super) enum Said {
    /// A full list begins.
    Listing,
    /// An object of it.
    Listed(Raw),
    /// It is complete, and changes are received (`stands`), or are asked for next.
    Complete { stands: bool },
    /// An object is new or changed.
    Applied(Raw),
    /// An object is gone.
    Deleted(Raw),
    /// The watch stands (again).
    Up,
    /// It failed and will be tried again.
    Failed(Trouble),
}

/// A watch as a stream without an end.
pub(super) type Events = Pin<Box<dyn Stream<Item = (Kind, Said)>>>;

/// Starts a watch. Nothing is asked before it is polled, and nothing while it is not.
pub(super) fn watch(server: Rc<Server>, kind: Kind, patience: Patience) -> Events {
    let mut random = Random::new();
    let now = Instant::now();
    let watch = Watch {
        server,
        kind,
        patience,
        state: State::Start,
        pages_once: false,
        backoff: Backoff::starting_at(patience.first_wait),
        wait_until: Some(now + share(patience.first_list, random.next())),
        random,
        stands_since: None,
        heard_at: now,
        ends_at: now,
        up_at: None,
        in_a_row: InARow::default(),
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
    /// The next list is in pages, since the last one that streamed failed or stalled: as it does on a server that has never heard of streaming,
    /// or whose etcd cannot tell it how far it is.
    pages_once: bool,
    backoff: Backoff,
    random: Random,
    /// After a failure, or so that nodes spread out.
    wait_until: Option<Instant>,
    /// Since when changes are received without a failure.
    stands_since: Option<Instant>,
    /// When a watch or a list's end last said something: that its version is of this history.
    heard_at: Instant,
    /// When the server ends the watch as it was asked to.
    ends_at: Instant,
    /// When a watch counts as standing although those before it were short.
    up_at: Option<Instant>,
    in_a_row: InARow,
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

    /// Waits a little, so that what happens to the watches of many nodes together does not make them ask together.
    fn spread(&mut self) {
        let wait = share(self.patience.reopened, self.random.next());
        self.wait_until = Some(Instant::now() + wait);
    }

    async fn step(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Start => {
                let in_pages = std::mem::take(&mut self.pages_once);
                self.state = if in_pages || !self.server.streams.get() {
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
                self.pages_once = true;
                self.pause(None);
                return Ok(None);
            }
            return Err(failed(asked.refusal(&status)));
        }
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect();
        let body = match timeout(self.patience.stalled, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(failed(asked.disconnected(&causes(&*error)))),
            Err(_) => {
                let late = format!("did not finish a page in {}", seconds(self.patience.stalled));
                return Err(failed(asked.late(&late)));
            }
        };
        let page = Page::of(self.kind, &body).map_err(|error| failed(asked.undecodable(&error)))?;
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
                self.heard();
                self.state = State::Open(version);
                Some(Said::Complete { stands: false })
            }
        }
    }

    async fn stream(&mut self) -> Step {
        let asked = self.asked("watch");
        let params = WatchParams {
            send_initial_events: true,
            ..self.params()
        };
        // no version: as new as the moment of the request, whichever of several servers answers
        let request = Requests::new(path(self.kind)).watch(&params, "");
        let response = match self.send(&asked, request).await {
            Ok(response) => response,
            Err(trouble) => return Err(self.no_stream(trouble)),
        };
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
        Err(self.no_stream(asked.refusal(&status)))
    }

    async fn streaming(&mut self, mut lines: Lines) -> Step {
        let asked = self.asked("watch");
        let Ok(line) = timeout(self.patience.stalled, lines.next()).await else {
            let late = format!(
                "gave no object for {} in the middle of a list",
                seconds(self.patience.stalled)
            );
            return Err(self.no_stream(asked.late(&late)));
        };
        let decoded = match line {
            Ok(Some(line)) => Line::of(self.kind, &line).map_err(|error| asked.undecodable(&error)),
            Ok(None) => Err(asked.cut("in the middle of a list")),
            Err(broken) => Err(asked.broken(&broken)),
        };
        let Line { event, object } = decoded.map_err(|trouble| self.no_stream(trouble))?;
        let said = match event.as_str() {
            "ADDED" | "MODIFIED" => Some(Said::Listed(object)),
            "DELETED" => Some(Said::Deleted(object)),
            "BOOKMARK" if is_end_of_list(&object) => {
                let version = object.meta("resourceVersion").to_owned();
                if version.is_empty() {
                    return Err(self.no_stream(asked.garbled("a list without a resourceVersion")));
                }
                self.stands_since = Some(Instant::now());
                self.up_at = None;
                self.heard();
                self.state = State::Changes(lines, version);
                return Ok(Some(Said::Complete { stands: true }));
            }
            "ERROR" => return Err(self.no_stream(asked.refusal(&status(object)))),
            _ => None,
        };
        self.state = State::Streaming(lines);
        Ok(said)
    }

    /// A streaming list failed: the next is in pages, once, unless that would fail just the same.
    fn no_stream(&mut self, trouble: Trouble) -> Box<Failure> {
        self.pages_once = trouble.is_of_the_answer();
        failure(trouble, State::Start)
    }

    async fn open(&mut self, version: String) -> Step {
        let asked = self.asked("watch");
        let request = Requests::new(path(self.kind)).watch(&self.params(), &version);
        let response = match self.send(&asked, request).await {
            Ok(response) => response,
            Err(trouble) => return Err(failure(trouble, State::Open(version))),
        };
        if response.status().is_success() {
            let now = Instant::now();
            self.stands_since = Some(now);
            self.state = State::Changes(Lines::of(response.into_body()), version);
            // after short ones it has to last longer than they did
            self.up_at = (self.in_a_row.short >= SHORT_MAX).then(|| now + self.patience.short);
            return Ok(self.up_at.is_none().then_some(Said::Up));
        }
        self.ended(&asked, &refusal(response, self.patience.stalled).await, version)
    }

    async fn changes(&mut self, mut lines: Lines, version: String) -> Step {
        let asked = self.asked("watch");
        let silent_at = Instant::now() + self.patience.silent;
        let until = self.up_at.map_or(silent_at, |at| at.min(silent_at));
        let line = match timeout_at(until, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return self.over(&asked, version),
            Ok(Err(broken)) => {
                let state = self.go_on(version);
                return Err(failure(asked.broken(&broken), state));
            }
            Err(_) if self.up_at.take().is_some() => {
                self.in_a_row.short = 0;
                self.state = State::Changes(lines, version);
                return Ok(Some(Said::Up));
            }
            Err(_) => {
                self.in_a_row.short = 0;
                self.spread();
                self.state = self.go_on(version);
                return Ok(None);
            }
        };
        // what does not decode is lost: only a list tells what it was
        let Line { event, object } =
            Line::of(self.kind, &line).map_err(|error| failure(asked.undecodable(&error), State::Start))?;
        let said: Option<fn(Raw) -> Said> = match event.as_str() {
            "ADDED" | "MODIFIED" => Some(Said::Applied),
            "DELETED" => Some(Said::Deleted),
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
                    self.spread();
                    return Ok(None);
                }
                None
            }
            _ => {
                self.state = State::Changes(lines, version);
                return Ok(None);
            }
        };
        self.heard();
        // what has no version leaves us where we were: from nowhere on, a watch would not tell what is gone
        let now = match object.meta("resourceVersion") {
            "" => version,
            now => now.to_owned(),
        };
        self.state = State::Changes(lines, now);
        Ok(said.map(|said| said(object)))
    }

    fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.in_a_row.errors = 0;
    }

    /// After a watch, silence being no failure: another from its version on, or a list if the version may be one of the future.
    fn go_on(&mut self, version: String) -> State {
        let silent = self.heard_at.elapsed();
        if silent < self.patience.silent.saturating_mul(SILENT_MAX) {
            return State::Open(version);
        }
        self.heard_at = Instant::now();
        tracing::info!(
            kind = self.kind.plural(),
            since = version,
            ?silent,
            "the API server's watches say nothing, as of a quiet kind, or after a restored backup; listing again"
        );
        State::Start
    }

    /// The server ends the watch in order: its time is over, or the server goes down.
    fn over(&mut self, asked: &Asked, version: String) -> Step {
        let stood = self.stands_since.map_or(Duration::ZERO, |since| since.elapsed());
        if stood >= self.patience.short {
            self.in_a_row.short = 0;
            // what ends in its time is spread already
            if Instant::now() < self.ends_at {
                self.spread();
            }
        } else {
            self.in_a_row.short = self.in_a_row.short.saturating_add(1);
            if self.in_a_row.short >= SHORT_MAX {
                let trouble = asked.cut("it ends watches right after they begin");
                return Err(failure(trouble, self.go_on(version)));
            }
            self.pause(None);
        }
        self.state = self.go_on(version);
        Ok(None)
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
            401 | 403 | 429 => Err(failure(asked.refusal(status), State::Open(version))),
            500 | 502 | 503 if self.in_a_row.errors + 1 < REOPENED_MAX => {
                self.in_a_row.errors += 1;
                Err(failure(asked.refusal(status), State::Open(version)))
            }
            // among them 504, which a server says of a version that it has not reached: after a restored backup it never will
            _ => {
                self.in_a_row.errors = 0;
                Err(failure(asked.refusal(status), State::Start))
            }
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
            Err(_) => {
                let late = format!("did not answer within {}", seconds(self.patience.stalled));
                Err(asked.late(&late))
            }
        }
    }

    fn params(&mut self) -> WatchParams {
        let time = watch_time(self.random.next());
        self.ends_at = Instant::now() + Duration::from_secs(time.into());
        WatchParams {
            timeout: Some(time),
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
