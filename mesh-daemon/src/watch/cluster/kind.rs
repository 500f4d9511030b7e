//! The watch of one kind: a list, streamed or in pages, then its changes, for ever. Where history is gone, or what is known may not be of it,
//! it lists again; failures wait longer and longer.
//!
//! kube's own watcher is not used: it begins a broken streaming list again without saying so, so that an object deleted in between would
//! stay for ever, and it opens a watch that ends at once again and again without a pause.

mod changes;
mod list;

use std::{pin::Pin, rc::Rc, time::Duration};

use futures_util::{Stream, stream};
use hyper::{Request, Response};
use kube::{api::WatchParams, client::Body};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    super::objects::Kind,
    backoff::{Backoff, Random, share},
    client::Server,
    lines::Lines,
    patience::{InARow, Patience, seconds, watch_time},
    raw::Raw,
    trouble::{Asked, Trouble},
};

/// What a watch says.
#[derive(Debug)]
pub(super) enum Said {
    /// A full list begins.
    Listing,
    /// An object of it.
    Listed(Raw),
    /// It is complete, and changes are received (`stands`), or are asked for next.
    Complete { stands: bool },
    /// The server does not know the kind, which is one that may be missing: there are no objects of it.
    Absent,
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

    fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.in_a_row.errors = 0;
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
