//! What was asked of the proxy, and when: counts by verb and resource, query parameters, and how many requests came in any stretch of time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{Method, Uri};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// When.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its query parameters, as they stood in the URI.
    pub query: BTreeMap<String, String>,
    /// The resource that the path names, with the subresource if one is named: `pods`, `pods/status`.
    pub resource: String,
    /// The status that it was answered with, once it was.
    pub status: Option<u16>,
}

impl Request {
    pub(super) fn new(method: Method, uri: &Uri) -> Self {
        let pairs = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self {
            at: Instant::now(),
            method,
            path: uri.path().to_owned(),
            query: query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            resource: resource(uri.path()),
            status: None,
        }
    }

    /// Whether it watches; a streaming list does too.
    pub fn is_watch(&self) -> bool {
        self.says("watch")
    }

    /// Whether it is a watch that wants the list first.
    pub fn is_streaming_list(&self) -> bool {
        self.is_watch() && self.says("sendInitialEvents")
    }

    /// How many objects it wants at once.
    pub fn limit(&self) -> Option<u32> {
        self.query.get("limit")?.parse().ok()
    }

    /// Whether it asks for a further page.
    pub fn is_continuation(&self) -> bool {
        self.query.get("continue").is_some_and(|token| !token.is_empty())
    }

    /// The verb as RBAC has it.
    pub fn verb(&self) -> &'static str {
        match self.method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if self.is_watch() => "watch",
            _ => "list",
        }
    }

    /// The API group that the path names; empty for the core group.
    pub fn group(&self) -> &str {
        let mut parts = self.path.trim_start_matches('/').split('/');
        if parts.next() == Some("apis") {
            parts.next().unwrap_or_default()
        } else {
            ""
        }
    }

    fn says(&self, parameter: &str) -> bool {
        self.query
            .get(parameter)
            .is_some_and(|value| value == "true" || value == "1")
    }
}

/// All requests so far. Cloning it makes no second one.
#[derive(Clone, Debug, Default)]
pub struct Log {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Log {
    /// All of them, in order of time.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().clone()
    }

    /// Those after a moment.
    pub fn since(&self, moment: Instant) -> Vec<Request> {
        self.lock()
            .iter()
            .filter(|request| request.at >= moment)
            .cloned()
            .collect()
    }

    /// How many were made after a moment, by verb and resource: `watch pods`.
    pub fn counts_since(&self, moment: Instant) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.since(moment) {
            *counts
                .entry(format!("{} {}", request.verb(), request.resource))
                .or_default() += 1;
        }
        counts
    }

    /// The most requests in any stretch of this length after a moment.
    pub fn busiest(&self, moment: Instant, stretch: Duration) -> usize {
        let times: Vec<Instant> = self.since(moment).iter().map(|request| request.at).collect();
        let within = |first: &Instant| {
            times
                .iter()
                .filter(|at| *at >= first && **at < *first + stretch)
                .count()
        };
        times.iter().map(within).max().unwrap_or_default()
    }

    /// Takes a request down and hands back its number.
    pub(super) fn add(&self, request: Request) -> usize {
        let mut requests = self.lock();
        requests.push(request);
        requests.len() - 1
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        if let Some(request) = self.lock().get_mut(number) {
            request.status = Some(status);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `/api/v1/namespaces/shop/pods/web-1/status` → `pods/status`.
fn resource(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let skipped = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        _ => return path.to_owned(),
    };
    parts.drain(..skipped.min(parts.len()));
    if parts.len() > 2 && parts.first() == Some(&"namespaces") {
        parts.drain(..2);
    }
    match parts.as_slice() {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => String::new(),
    }
}
