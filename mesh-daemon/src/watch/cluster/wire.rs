//! What travels between the API server and a watch: paths, events, pages, and refusals.

use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, Response, header::RETRY_AFTER};
use kube::{
    client::Body,
    core::{Status, response::StatusDetails},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{super::objects::Kind, raw::Raw};

/// Objects of a page, where lists do not stream: as kubectl asks. A page of Pods is some MiB, and is the most raw JSON that is held.
pub(super) const PAGE_OBJECTS: u32 = 500;
/// Largest page, in bytes: 500 objects of the largest kind that is usual, a hundred times over what they are.
pub(super) const PAGE_BYTES_MAX: usize = 256 << 20;
/// Largest refusal that is read, in bytes: a Status is a few hundred.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Most of a kind's name that is quoted, in characters.
const KIND_CHARS_MAX: usize = 63;

/// One line of a watch's answer.
#[derive(Deserialize)]
pub(super) struct Line {
    #[serde(rename = "type")]
    pub(super) event: String,
    pub(super) object: Raw,
}

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    pub(super) metadata: PageMeta,
    #[serde(default)]
    pub(super) items: Option<Vec<Raw>>,
}

/// Where a page stands in its list.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMeta {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

impl Line {
    /// Decodes a line. An event about an object of another kind is no event of this watch; errors have a kind of their own.
    pub(super) fn of(kind: Kind, line: &[u8]) -> Result<Self, serde_json::Error> {
        let line: Self = serde_json::from_slice(line)?;
        let said = line.object.0.get("kind").and_then(Value::as_str).unwrap_or_default();
        if line.event == "ERROR" || said.is_empty() || said == kind.name() {
            return Ok(line);
        }
        Err(another_kind(said))
    }
}

impl Page {
    /// Decodes a page. An answer of another kind holds nothing of this one, which is not the same as an empty list.
    pub(super) fn of(kind: Kind, body: &[u8]) -> Result<Self, serde_json::Error> {
        let page: Self = serde_json::from_slice(body)?;
        if page.kind.strip_suffix("List") == Some(kind.name()) {
            return Ok(page);
        }
        Err(another_kind(&page.kind))
    }
}

fn another_kind(said: &str) -> serde_json::Error {
    let said: String = said.chars().take(KIND_CHARS_MAX).collect();
    serde::de::Error::custom(format_args!("of kind {said:?}"))
}

/// Where the objects of a kind are.
pub(super) fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "/api/v1/namespaces",
        Kind::Node => "/api/v1/nodes",
        Kind::Pod => "/api/v1/pods",
        Kind::Service => "/api/v1/services",
        Kind::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
        Kind::HttpRoute => "/apis/gateway.networking.k8s.io/v1/httproutes",
        Kind::TrafficPolicy => "/apis/weft.mesh/v1alpha1/trafficpolicies",
    }
}

/// Whether a streaming list is complete here.
pub(super) fn is_end_of_list(bookmark: &Raw) -> bool {
    let end = bookmark.0.pointer("/metadata/annotations/k8s.io~1initial-events-end");
    end.and_then(Value::as_str) == Some("true")
}

/// Whether a resource version lies before another; versions that are no numbers cannot be compared.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

/// The refusal in an event.
pub(super) fn status(object: Raw) -> Status {
    serde_json::from_value(object.0).unwrap_or_default()
}

/// What a refusal says; one that is no Status, as of a load balancer, has its code at least. How long to wait is taken from the head, where
/// priority and fairness writes it, and else from the Status.
pub(super) async fn refusal(response: Response<Body>, patience: Duration) -> Status {
    let code = response.status().as_u16();
    let retry_after_seconds = retry_after(response.headers());
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
    let mut status = match timeout(patience, body).await {
        Ok(Ok(body)) => {
            let body = body.to_bytes();
            match serde_json::from_slice::<Status>(&body) {
                Ok(status) if status.code != 0 => status,
                _ => Status::failure(&String::from_utf8_lossy(&body), "").with_code(code),
            }
        }
        _ => Status::default().with_code(code),
    };
    if let Some(retry_after_seconds) = retry_after_seconds {
        status.details = Some(StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds,
        });
    }
    status
}

/// The seconds of a Retry-After; Kubernetes never writes a date there.
fn retry_after(head: &HeaderMap) -> Option<u32> {
    head.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}
