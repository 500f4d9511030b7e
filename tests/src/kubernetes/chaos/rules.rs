//! Rules: which requests they are for, and what becomes of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};

use super::log::Request;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is answered with this status and a Kubernetes Status object.
    Status {
        /// The HTTP status: 429, 500, 503 and so on.
        code: u16,
        /// `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// It is answered 403, in the words of an API server whose RBAC allows it not.
    Forbidden,
    /// It is answered 410, in the words of an API server whose history is compacted.
    Gone,
    /// If it asks for a streaming list, it is answered 422, in the words of an API server that has none; else it passes.
    RefuseStreaming,
    /// It is not answered while the rule stands, and what is under way stops.
    Stall,
    /// The body is passed on byte by byte, with this pause after each.
    Drip(Duration),
    /// The body ends after so many bytes, or in the middle of what comes next if that many have passed.
    Cut {
        /// How many bytes pass.
        after: usize,
        /// Whether the end looks like one (a last chunk); else the connection breaks.
        in_order: bool,
    },
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    effect: Effect,
    resource: Option<&'static str>,
    watches: Option<bool>,
    every: u32,
    times: u32,
    matched: Arc<AtomicU32>,
}

/// All rules that hold.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The first that matches is the one that acts.
    pub(super) rules: Vec<Rule>,
    /// Nothing listens.
    pub(super) refuse: bool,
}

impl Rule {
    /// For all requests.
    #[must_use]
    pub fn all(effect: Effect) -> Self {
        Self {
            effect,
            resource: None,
            watches: None,
            every: 1,
            times: u32::MAX,
            matched: Arc::default(),
        }
    }

    /// Only for requests of one resource: `pods`, `endpointslices`, `pods/status`.
    #[must_use]
    pub fn of(mut self, resource: &'static str) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Only for watches; streaming lists are watches too.
    #[must_use]
    pub fn watches(mut self) -> Self {
        self.watches = Some(true);
        self
    }

    /// Only for what is no watch.
    #[must_use]
    pub fn but_watches(mut self) -> Self {
        self.watches = Some(false);
        self
    }

    /// Only for each so-many-th request that it would be for, the first among them. What acts on bodies acts on all.
    #[must_use]
    pub fn every(mut self, nth: u32) -> Self {
        self.every = nth.max(1);
        self
    }

    /// Only so often. What acts on bodies acts on all.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// How often it was applied so far: to requests, or to bytes of answers; whatever copy of it was set.
    pub fn met(&self) -> u32 {
        self.matched.load(Ordering::Relaxed)
    }

    fn is_for(&self, request: &Request) -> bool {
        self.resource.is_none_or(|resource| resource == request.resource)
            && self.watches.is_none_or(|watch| watch == request.is_watch())
            && (self.effect != Effect::RefuseStreaming || request.is_streaming_list())
    }

    /// Counts the request, and says whether its turn has come.
    fn takes(&self) -> bool {
        let number = self.matched.fetch_add(1, Ordering::Relaxed);
        number.is_multiple_of(self.every) && number / self.every < self.times
    }
}

impl Rules {
    /// What becomes of a request before it is passed on.
    pub(super) fn on_request(&self, request: &Request) -> Option<&Effect> {
        let mut rules = self.rules.iter().filter(|rule| !rule.effect.is_on_bodies());
        rules
            .find(|rule| rule.is_for(request) && rule.takes())
            .map(|rule| &rule.effect)
    }

    /// What becomes of the next bytes of its answer.
    pub(super) fn on_body(&self, request: &Request) -> Option<&Effect> {
        let mut rules = self.rules.iter().filter(|rule| rule.effect.is_on_bodies());
        let rule = rules.find(|rule| rule.is_for(request))?;
        rule.matched.fetch_add(1, Ordering::Relaxed);
        Some(&rule.effect)
    }
}

impl Effect {
    fn is_on_bodies(&self) -> bool {
        matches!(self, Self::Stall | Self::Drip(_) | Self::Cut { .. })
    }

    /// The answer that stands in for the server's: its status and its Status object; none if the server's own is passed on.
    pub(super) fn answer(&self, request: &Request) -> Option<(u16, Value)> {
        match self {
            Self::Status { code, .. } => Some((*code, status(*code, "Chaos", &format!("chaos answers {code}")))),
            Self::Forbidden => {
                let message = format!(
                    "{} is forbidden: User \"system:serviceaccount:weft-system:weft\" cannot {} resource \"{}\" in API group \"{}\" at \
                     the cluster scope",
                    request.resource,
                    request.verb(),
                    request.resource,
                    request.group()
                );
                let mut value = status(403, "Forbidden", &message);
                value["details"] = json!({"group": request.group(), "kind": request.resource});
                Some((403, value))
            }
            Self::Gone => Some((410, expired())),
            Self::RefuseStreaming => {
                let cause = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
                let message = format!("ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: {cause}");
                let mut value = status(422, "Invalid", &message);
                value["details"] = json!({
                    "group": "meta.k8s.io",
                    "kind": "ListOptions",
                    "causes": [{
                        "reason": "FieldValueForbidden",
                        "message": format!("Forbidden: {cause}"),
                        "field": "sendInitialEvents",
                    }],
                });
                Some((422, value))
            }
            Self::Stall | Self::Drip(_) | Self::Cut { .. } => None,
        }
    }
}

/// The line that tells a watch that its history is gone.
pub(super) fn expired_event() -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": expired()})))
}

fn expired() -> Value {
    status(410, "Expired", "too old resource version: 1 (2)")
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}
