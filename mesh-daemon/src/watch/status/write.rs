//! One write to the API server: the request, and what its answer means.

use std::time::Duration;

use hyper::{Request, StatusCode};
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
    core::{PartialObjectMeta, Request as Path},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    super::{
        claims::CONTROLLER_NAME,
        local::{CONDITION_TYPE, Condition},
    },
    desired::{Notice, Regarding},
    exchange::{self, Answer, FIELD_MANAGER, Refusal, Trouble, WRITE_TIMEOUT, Wants, ask},
    ledger::Key,
};
use crate::{
    ids::{NodeName, ObjectRef},
    telemetry::causes,
};

/// Longest `reportingInstance` that the API server takes, in bytes.
const INSTANCE_BYTES_MAX: usize = 128;

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
    Route,
    Policy,
    Lease,
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

/// Sends a write, and waits for its answer at most [`WRITE_TIMEOUT`].
pub(super) async fn send(client: &kube::Client, node: &NodeName, write: &Write) -> Outcome {
    let exchange = async {
        let uid = match uid_of(client, write).await {
            Ok(uid) => uid,
            Err(outcome) => return outcome,
        };
        let request = match request(node, write, uid, Timestamp::now()) {
            Ok(request) => request,
            Err(detail) => return exchange::invalid(detail).into(),
        };
        match ask(client, request, Wants::Metadata).await {
            Ok(answer) => outcome(write, &answer),
            Err(refusal) => refusal.into(),
        }
    };
    let answered = timeout(WRITE_TIMEOUT, exchange).await;
    answered.unwrap_or_else(|_| exchange::silent(WRITE_TIMEOUT).into())
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
    match ask(client, request.map(Body::from), Wants::Metadata).await {
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
        reporting_controller: Some(CONTROLLER_NAME.to_owned()),
        reporting_instance: node.0.get(..instance_end).map(str::to_owned),
        ..Event::default()
    }
}

fn outcome(write: &Write, answer: &Answer) -> Outcome {
    if answer.status.is_success() {
        return Outcome::Written;
    }
    match (answer.status, write) {
        (StatusCode::NOT_FOUND, _) | (StatusCode::CONFLICT, Write::Condition { .. }) => Outcome::Gone,
        (StatusCode::CONFLICT, Write::Event { .. }) => Outcome::Exists,
        _ if answer.is_terminating() => Outcome::Gone,
        (StatusCode::UNPROCESSABLE_ENTITY, Write::Condition { .. })
            if answer.has_cause(|cause| cause.field == "metadata.uid") =>
        {
            Outcome::Gone
        }
        _ => answer.refusal(&rights(write)).into(),
    }
}

fn rights(write: &Write) -> String {
    let rule = match write {
        Write::Condition { .. } => "apiGroups [\"\"], resources [pods/status], verbs [patch]",
        Write::Event { .. } => "apiGroups [events.k8s.io], resources [events], verbs [create]",
    };
    format!("ClusterRole weft-mesh-daemon the rule {rule}")
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
            Self::Route => "route",
            Self::Policy => "policy",
            Self::Lease => "lease",
        }
    }

    /// As people know it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Condition => "pod conditions weft.mesh/Captured",
            Self::Event => "Events",
            Self::Route => "statuses of HTTPRoutes",
            Self::Policy => "statuses of TrafficPolicies",
            Self::Lease => "the Lease weft-system/weft-status, which elects who writes statuses",
        }
    }
}

impl Outcome {
    /// What is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Written | Self::Exists | Self::Gone => None,
            Self::Refused(trouble) | Self::Failed { trouble, .. } => Some(trouble),
        }
    }

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

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Never(trouble) => Self::Refused(trouble),
            Refusal::Later { trouble, retry_after } => Self::Failed { trouble, retry_after },
        }
    }
}
