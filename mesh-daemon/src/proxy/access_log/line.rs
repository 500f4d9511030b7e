//! One line of the access log. Every line has every field; what is not known or does not apply is null. Names once given stay, since collectors read them.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, Uri, header::HOST, request::Parts};
use serde::Serialize;

use super::time::Timestamp;
use crate::{
    ids::ObjectRef,
    model::{AppliedPolicy, Rule, Upstream, Workload},
    proxy::{
        identify::Connection,
        outcome::{Outcome, Parties},
        view::milliseconds,
    },
};

/// Longest method, host or path in a line, in bytes: what a client sends must not decide how much memory a full queue takes.
const TEXT_BYTES_MAX: usize = 1024;

/// What a line says of a request's head, kept until its end.
#[derive(Debug)]
pub(in crate::proxy) struct Heard {
    client: SocketAddr,
    destination: SocketAddr,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    /// Whose endpoints were tried.
    pub(in crate::proxy) backend: Option<Arc<Upstream>>,
}

/// One line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::proxy) struct Line<'a> {
    /// When it began.
    time: Timestamp,
    /// `request` or `connection`.
    kind: &'static str,
    /// The workload, namespace and pod that the client's address belongs to.
    source_workload: Option<&'a str>,
    source_namespace: Option<&'a str>,
    source_pod: Option<&'a str>,
    source_address: IpAddr,
    /// The address and port that it asked for, and the Service that has them.
    destination: SocketAddr,
    service: Option<&'a ObjectRef>,
    /// `http/1.0`, `http/1.1`, `http/2`, or `tcp`.
    protocol: &'static str,
    method: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    /// Without the query: that is where tokens and what people type stand, and logs are read by more people than are meant to see those.
    path: Option<Cow<'a, str>>,
    status: Option<u16>,
    grpc_status: Option<u8>,
    /// As the label of `weft_request_outcomes_total`.
    outcome: &'static str,
    /// The HTTPRoute and its rule that decided, from 0.
    route: Option<&'a ObjectRef>,
    route_generation: Option<i64>,
    rule: Option<usize>,
    rule_name: Option<&'a str>,
    /// The Service whose endpoints were tried, and the TrafficPolicy that holds for it: balancing, breaking, limits.
    backend: Option<&'a ObjectRef>,
    policy: Option<&'a ObjectRef>,
    policy_generation: Option<i64>,
    /// The TrafficPolicy of the Service that was addressed: timeouts and retries.
    addressed_policy: Option<&'a ObjectRef>,
    addressed_policy_generation: Option<i64>,
    /// The endpoint that answered, or was asked last, and the pod that it is.
    endpoint: Option<SocketAddr>,
    endpoint_pod: Option<&'a ObjectRef>,
    /// Endpoints that were asked, the same one counted each time.
    attempts: u32,
    duration_ms: f64,
    /// Bytes from the client; of connections only.
    request_bytes: Option<u64>,
    /// Bytes to the client: of an answer those of its body.
    response_bytes: u64,
}

/// What is known of a request at its end.
pub(in crate::proxy) struct RequestEnd<'a> {
    pub(in crate::proxy) heard: &'a Heard,
    pub(in crate::proxy) parties: &'a Parties,
    pub(in crate::proxy) protocol: &'static str,
    pub(in crate::proxy) status: Option<u16>,
    pub(in crate::proxy) grpc: Option<u8>,
    pub(in crate::proxy) outcome: Outcome,
    pub(in crate::proxy) rule: Option<&'a Rule>,
    pub(in crate::proxy) endpoint: Option<SocketAddr>,
    pub(in crate::proxy) attempts: u32,
    pub(in crate::proxy) took: Duration,
    pub(in crate::proxy) response_bytes: u64,
}

/// What is known of an opaque connection at its end.
pub(in crate::proxy) struct ConnectionEnd<'a> {
    pub(in crate::proxy) client: SocketAddr,
    pub(in crate::proxy) destination: SocketAddr,
    pub(in crate::proxy) parties: &'a Parties,
    pub(in crate::proxy) outcome: Outcome,
    pub(in crate::proxy) endpoint: Option<SocketAddr>,
    pub(in crate::proxy) took: Duration,
    /// Sent and received by the client.
    pub(in crate::proxy) bytes: (u64, u64),
}

impl Heard {
    /// Of a request's head, before anything is changed in it.
    pub(in crate::proxy) fn new(head: &Parts, connection: &Connection) -> Self {
        Self {
            client: connection.client,
            destination: connection.destination,
            method: head.method.clone(),
            uri: head.uri.clone(),
            host: head.headers.get(HOST).cloned(),
            backend: None,
        }
    }

    /// The host that was asked for: HTTP/2 has it in the URL, and an absolute URL overrides the field (RFC 9112, 3.2.2). Without a user, whose password may
    /// stand there.
    fn host(&self) -> Option<Cow<'_, str>> {
        let authority = self.uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = authority.or_else(|| self.host.as_ref().map(HeaderValue::as_bytes))?;
        let host = host.rsplit(|byte| *byte == b'@').next()?;
        Some(short(host))
    }
}

impl<'a> Line<'a> {
    /// Of a request that ended at `now`.
    pub(in crate::proxy) fn request(end: &RequestEnd<'a>, now: SystemTime) -> Self {
        let RequestEnd {
            heard, parties, rule, ..
        } = *end;
        let backend = heard.backend.as_deref();
        let policy = backend.and_then(policy);
        Self {
            kind: "request",
            protocol: end.protocol,
            method: Some(short(heard.method.as_str().as_bytes())),
            host: heard.host(),
            path: Some(short(heard.uri.path().as_bytes())),
            status: end.status,
            grpc_status: end.grpc,
            route: rule.map(|rule| &rule.route),
            route_generation: rule.map(|rule| rule.generation),
            rule: rule.map(|rule| rule.index),
            rule_name: rule.and_then(|rule| rule.name.as_deref()),
            backend: backend.map(|backend| &backend.service),
            policy: policy.map(|policy| &policy.name),
            policy_generation: policy.map(|policy| policy.generation),
            endpoint: end.endpoint,
            attempts: end.attempts,
            response_bytes: end.response_bytes,
            ..Self::of(parties, (heard.client, heard.destination), end.outcome, end.took, now)
        }
    }

    /// Of an opaque connection that ended at `now`.
    pub(in crate::proxy) fn connection(end: &ConnectionEnd<'a>, now: SystemTime) -> Self {
        let service = end.parties.service.as_deref();
        let policy = service.and_then(policy);
        let (sent, received) = end.bytes;
        Self {
            backend: service.map(|service| &service.service),
            policy: policy.map(|policy| &policy.name),
            policy_generation: policy.map(|policy| policy.generation),
            endpoint: end.endpoint,
            attempts: u32::from(end.endpoint.is_some()),
            request_bytes: Some(sent),
            response_bytes: received,
            ..Self::of(end.parties, (end.client, end.destination), end.outcome, end.took, now)
        }
    }

    /// What both kinds have.
    fn of(
        parties: &'a Parties,
        (client, destination): (SocketAddr, SocketAddr),
        outcome: Outcome,
        took: Duration,
        now: SystemTime,
    ) -> Self {
        let source: Option<&Workload> = parties.source.as_deref();
        let service = parties.service.as_deref();
        let addressed_policy = service.and_then(policy);
        Self {
            time: Timestamp(now.checked_sub(took).unwrap_or(now)),
            kind: "connection",
            source_workload: source.map(|source| source.name.as_str()),
            source_namespace: source.map(|source| source.pod.namespace.as_str()),
            source_pod: source.map(|source| source.pod.name.as_str()),
            source_address: client.ip(),
            destination,
            service: service.map(|service| &service.service),
            protocol: "tcp",
            method: None,
            host: None,
            path: None,
            status: None,
            grpc_status: None,
            outcome: outcome.name(),
            route: None,
            route_generation: None,
            rule: None,
            rule_name: None,
            backend: None,
            policy: None,
            policy_generation: None,
            addressed_policy: addressed_policy.map(|policy| &policy.name),
            addressed_policy_generation: addressed_policy.map(|policy| policy.generation),
            endpoint: None,
            endpoint_pod: parties.destination.as_deref().map(|owner| &owner.pod),
            attempts: 0,
            duration_ms: milliseconds(took),
            request_bytes: None,
            response_bytes: 0,
        }
    }

    /// As JSON, with the end of the line. What a client wrote is escaped: it cannot begin a line of its own.
    pub(in crate::proxy) fn to_json(&self) -> Option<String> {
        let mut text = serde_json::to_string(self).ok()?;
        text.push('\n');
        Some(text)
    }
}

fn policy(upstream: &Upstream) -> Option<&AppliedPolicy> {
    upstream.policy.as_deref()
}

/// The beginning of a text that is long. Bytes that are no UTF-8 are shown as such.
fn short(bytes: &[u8]) -> Cow<'_, str> {
    match bytes.get(..TEXT_BYTES_MAX) {
        Some(begin) if bytes.len() > TEXT_BYTES_MAX => Cow::Owned(format!("{}…", String::from_utf8_lossy(begin))),
        _ => String::from_utf8_lossy(bytes),
    }
}

#[cfg(test)]
mod tests;
