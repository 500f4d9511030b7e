//! One write to the API server: the request, and what its answer means.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, ObjectReference, Pod, Service},
        discovery::v1::EndpointSlice,
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Resource,
    api::{GetParams, Patch, PatchParams, PostParams},
    client::Body,
    core::{PartialObjectMeta, Request as Path, Status, response::StatusCause},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    super::local::{CONDITION_TYPE, Condition},
    desired::{Notice, Regarding},
    ledger::Key,
};
use crate::{
    ids::{NodeName, ObjectRef},
    telemetry::causes,
};

/// Who writes, in `managedFields`.
const FIELD_MANAGER: &str = "weft-mesh-daemon";
/// Who writes, in Events.
const CONTROLLER: &str = "weft.mesh/mesh-daemon";
/// Longest `reportingInstance` that the API server takes, in bytes.
const INSTANCE_BYTES_MAX: usize = 128;
/// Longest time of a write, in which a healthy API server has long answered; a write that was done after all is done again, harmlessly. For an Event it
/// includes a read of the object's UID.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read: more than an object of the API can have.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Whole objects are not needed in answers.
const ACCEPT_METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// What the API server says of a namespace that is being deleted.
const TERMINATING: &str = "NamespaceTerminating";

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// A pod's condition.
    Condition {
        pod: ObjectRef,
        uid: String,
        condition: Condition,
        /// Whether the status changes, and with it the time of the last transition.
        is_transition: bool,
    },
    /// An Event.
    Event {
        /// The Event's own namespace and name.
        name: ObjectRef,
        notice: Notice,
    },
}

/// The kinds of objects that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Condition,
    Event,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The API has it.
    Written,
    /// Another node, or this one before a restart, wrote the same Event.
    Exists,
    /// The pod or its namespace is gone, or another pod has the name: nothing is left to say.
    Gone,
    /// It will not be taken however often it is sent.
    Refused(Trouble),
    /// It may be taken later.
    Failed {
        trouble: Trouble,
        /// What the API server asks for.
        retry_after: Option<Duration>,
    },
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// A metric label, and what tells one trouble from another.
    pub(super) name: &'static str,
    /// One sentence for people.
    pub(super) detail: String,
}

/// An answer of the API server.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

/// Sends a write, and waits for its answer at most [`WRITE_TIMEOUT`].
pub(super) async fn send(client: &kube::Client, node: &NodeName, write: &Write) -> Outcome {
    let failed = |name, detail| Outcome::Failed {
        trouble: Trouble { name, detail },
        retry_after: None,
    };
    let exchange = async {
        let uid = match uid_of(client, write).await {
            Ok(uid) => uid,
            Err(outcome) => return outcome,
        };
        let request = match request(node, write, uid, Timestamp::now()) {
            Ok(request) => request,
            Err(detail) => {
                return Outcome::Refused(Trouble {
                    name: "invalid",
                    detail,
                });
            }
        };
        match ask(client, request).await {
            Ok(answer) => outcome(write, &answer),
            Err(detail) => failed("unreachable", detail),
        }
    };
    timeout(WRITE_TIMEOUT, exchange).await.unwrap_or_else(|_| {
        let detail = format!("the API server gave no answer within {} s", WRITE_TIMEOUT.as_secs());
        failed("timeout", detail)
    })
}

async fn ask(client: &kube::Client, mut request: Request<Body>) -> Result<Answer, String> {
    let accept = header::HeaderValue::from_static(ACCEPT_METADATA);
    request.headers_mut().insert(header::ACCEPT, accept);
    let answer = client
        .send(request)
        .await
        .map_err(|error| format!("the API server cannot be reached: {}", causes(&error)))?;
    let (parts, body) = answer.into_parts();
    // a success is read as well, so that its connection can be used again
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(Answer {
        status: parts.status,
        retry_after: retry_after(&parts.headers),
        body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    })
}

/// The UID of what an Event is about, since `kubectl describe` shows no Event without it. None if it cannot be had, which is no reason not
/// to write; nothing is written about an object that is gone.
async fn uid_of(client: &kube::Client, write: &Write) -> Result<Option<String>, Outcome> {
    let Write::Event { notice, .. } = write else {
        return Ok(None);
    };
    let regarding = &notice.regarding;
    let namespace = regarding.namespace.as_deref();
    let path = match (regarding.kind.as_str(), &regarding.uid) {
        (_, Some(uid)) => return Ok(Some(uid.clone())),
        ("Pod", None) => Pod::url_path(&(), namespace),
        ("Service", None) => Service::url_path(&(), namespace),
        ("EndpointSlice", None) => EndpointSlice::url_path(&(), namespace),
        ("Namespace", None) => Namespace::url_path(&(), None),
        ("Node", None) => Node::url_path(&(), None),
        _ => return Ok(None),
    };
    // "0": from the API server's memory, not from its store
    let params = GetParams {
        resource_version: Some("0".to_owned()),
    };
    let Ok(request) = Path::new(path).get(&regarding.name, &params) else {
        return Ok(None);
    };
    match ask(client, request.map(Body::from)).await {
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => Err(Outcome::Gone),
        Ok(answer) if answer.status.is_success() => Ok(serde_json::from_slice(&answer.body)
            .ok()
            .and_then(|object: PartialObjectMeta| object.metadata.uid)),
        _ => Ok(None),
    }
}

fn request(node: &NodeName, write: &Write, uid: Option<String>, now: Timestamp) -> Result<Request<Body>, String> {
    let request = match write {
        Write::Condition { pod, .. } => {
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let path = Path::new(Pod::url_path(&(), Some(&pod.namespace)));
            path.patch_subresource(
                "status",
                &pod.name,
                &params,
                &Patch::Strategic(body(node, write, uid, now)?),
            )
        }
        Write::Event { name, .. } => {
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let path = Path::new(Event::url_path(&(), Some(&name.namespace)));
            path.create(&params, body(node, write, uid, now)?.to_string().into_bytes())
        }
    };
    Ok(request.map_err(|error| causes(&error))?.map(Body::from))
}

fn body(node: &NodeName, write: &Write, uid_of_object: Option<String>, now: Timestamp) -> Result<Value, String> {
    match write {
        Write::Condition {
            uid,
            condition,
            is_transition,
            ..
        } => {
            let mut body = json!({
                "type": CONDITION_TYPE,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
            });
            if *is_transition {
                body["lastTransitionTime"] = json!(Time(now));
            }
            // the UID is a precondition: a new pod of the same name is not touched
            Ok(json!({"metadata": {"uid": uid}, "status": {"conditions": [body]}}))
        }
        Write::Event { name, notice } => {
            serde_json::to_value(event(node, name, notice, uid_of_object, now)).map_err(|error| causes(&error))
        }
    }
}

fn event(node: &NodeName, name: &ObjectRef, notice: &Notice, uid: Option<String>, now: Timestamp) -> Event {
    let Regarding {
        kind,
        api_version,
        namespace,
        name: object,
        uid: _,
    } = notice.regarding.clone();
    let kind_of_event = if notice.is_warning { "Warning" } else { "Normal" };
    let instance_end = node.0.floor_char_boundary(INSTANCE_BYTES_MAX);
    Event {
        metadata: ObjectMeta {
            namespace: Some(name.namespace.clone()),
            name: Some(name.name.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(kind_of_event.to_owned()),
        reason: Some(notice.reason.to_owned()),
        action: Some(notice.action.to_owned()),
        note: Some(notice.note.clone()),
        regarding: Some(ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind),
            namespace,
            name: Some(object),
            uid,
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: node.0.get(..instance_end).map(str::to_owned),
        ..Event::default()
    }
}

fn outcome(write: &Write, answer: &Answer) -> Outcome {
    let Answer {
        status,
        retry_after,
        ref body,
    } = *answer;
    if status.is_success() {
        return Outcome::Written;
    }
    let said: Option<Status> = serde_json::from_slice(body).ok();
    let message = match &said {
        Some(said) => said.message.clone(),
        // from a proxy in between, or a plain refusal of the API server
        None => String::from_utf8_lossy(body)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let trouble = |name, detail| Trouble { name, detail };
    let failed = |trouble| Outcome::Failed { trouble, retry_after };
    match (status, write) {
        (StatusCode::NOT_FOUND, _) | (StatusCode::CONFLICT, Write::Condition { .. }) => Outcome::Gone,
        (StatusCode::CONFLICT, Write::Event { .. }) => Outcome::Exists,
        (StatusCode::FORBIDDEN, _) if has_cause(said.as_ref(), |cause| cause.reason == TERMINATING) => Outcome::Gone,
        (StatusCode::UNPROCESSABLE_ENTITY, Write::Condition { .. })
            if has_cause(said.as_ref(), |cause| cause.field == "metadata.uid") =>
        {
            Outcome::Gone
        }
        (StatusCode::FORBIDDEN, _) => failed(trouble("forbidden", forbidden(write, &message))),
        (StatusCode::UNAUTHORIZED, _) => failed(trouble(
            "unauthorized",
            "the API server does not know us: check the ServiceAccount's token or the kubeconfig".to_owned(),
        )),
        (StatusCode::TOO_MANY_REQUESTS, _) => failed(trouble(
            "throttled",
            format!("the API server asks for fewer requests: {message}"),
        )),
        _ if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => Outcome::Refused(trouble(
            "refused",
            format!("the API server does not take it ({status}): {message}; report this as a bug"),
        )),
        _ => failed(trouble(
            "failed",
            format!("the API server failed ({status}): {message}"),
        )),
    }
}

fn has_cause(said: Option<&Status>, is_it: impl Fn(&StatusCause) -> bool) -> bool {
    let details = said.and_then(|said| said.details.as_ref());
    details.is_some_and(|details| details.causes.iter().any(is_it))
}

fn forbidden(write: &Write, message: &str) -> String {
    let rule = match write {
        Write::Condition { .. } => "apiGroups [\"\"], resources [pods/status], verbs [patch]",
        Write::Event { .. } => "apiGroups [events.k8s.io], resources [events], verbs [create]",
    };
    format!("the API server forbids it: {message}; give ClusterRole weft-mesh-daemon the rule {rule}")
}

/// Seconds only: the API server never sends a date.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

impl Write {
    /// How many requests it takes at most, each of which costs a token: an Event about an object whose UID is unknown begins with a read of it.
    pub(super) fn requests(&self) -> u32 {
        match self {
            Self::Event { notice, .. } if notice.regarding.uid.is_none() => 2,
            Self::Condition { .. } | Self::Event { .. } => 1,
        }
    }

    /// What it is about.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Condition { pod, .. } => Key::Condition(pod.clone()),
            Self::Event { name, .. } => Key::Event(name.clone()),
        }
    }
}

impl Object {
    /// The metric label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Event => "event",
        }
    }

    /// As people know it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Condition => "pod conditions weft.mesh/Captured",
            Self::Event => "Events",
        }
    }
}

impl Outcome {
    /// The metric label.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Exists => "exists",
            Self::Gone => "gone",
            Self::Refused(trouble) | Self::Failed { trouble, .. } => trouble.name,
        }
    }
}
