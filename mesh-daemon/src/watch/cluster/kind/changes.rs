//! Changes after a list, watch by watch, and when what is known is given up for another list.

use std::time::Duration;

use kube::core::{Request as Requests, Status};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        lines::Lines,
        patience::{REOPENED_MAX, SHORT_MAX, SILENT_MAX},
        raw::Raw,
        trouble::Asked,
        wire::{Line, is_older, path, refusal, status},
    },
    Said, State, Step, Watch, failure,
};

impl Watch {
    pub(super) async fn open(&mut self, version: String) -> Step {
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

    pub(super) async fn changes(&mut self, mut lines: Lines, version: String) -> Step {
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
            // whether the kind is gone, its list says
            404 if self.kind.is_optional() => {
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
}
