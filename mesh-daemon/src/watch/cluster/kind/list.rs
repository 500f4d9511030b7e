//! A full list: streamed where the server does that, in pages where not, or none where the server has no such kind.

use http_body_util::{BodyExt as _, Limited};
use kube::{
    api::{ListParams, WatchParams},
    core::{Request as Requests, Status},
};
use tokio::time::{Instant, timeout};

use super::{
    super::{
        backoff::share,
        lines::Lines,
        patience::seconds,
        raw::Raw,
        trouble::Trouble,
        wire::{Line, PAGE_BYTES_MAX, PAGE_OBJECTS, Page, is_end_of_list, path, refusal, status},
    },
    After, Failure, Said, State, Step, Watch, failure,
};
use crate::telemetry::causes;

impl Watch {
    pub(super) async fn page(&mut self, next: Option<String>) -> Step {
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
            if let Some(absent) = self.absent(&status) {
                return Ok(Some(absent));
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

    pub(super) fn item(&mut self, mut items: std::vec::IntoIter<Raw>, after: After) -> Option<Said> {
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

    pub(super) async fn stream(&mut self) -> Step {
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
            // the first of them says it for all
            if self.server.streams.replace(false) {
                tracing::info!(
                    refusal = status.message,
                    "the API server does not stream lists; listing in pages"
                );
            }
            self.state = State::Page(None);
            return Ok(None);
        }
        if let Some(absent) = self.absent(&status) {
            return Ok(Some(absent));
        }
        Err(self.no_stream(asked.refusal(&status)))
    }

    pub(super) async fn streaming(&mut self, mut lines: Lines) -> Step {
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

    /// Where the server does not have the kind, and it is one that may be missing: asks again after a while, since it may come at any time.
    fn absent(&mut self, status: &Status) -> Option<Said> {
        if status.code != 404 || !self.kind.is_optional() {
            return None;
        }
        self.stands_since = None;
        let wait = self.patience.absent / 2 + share(self.patience.absent, self.random.next());
        self.wait_until = Some(Instant::now() + wait);
        Some(Said::Absent)
    }
}
