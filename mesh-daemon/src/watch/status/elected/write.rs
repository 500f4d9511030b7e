//! One status: read, our entries put in place, written under the condition that nobody wrote in between.

use hyper::{Request, StatusCode};
use k8s_openapi::jiff::Timestamp;
use kube::{
    api::{GetParams, Patch, PatchParams},
    client::Body,
    core::Request as Path,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    super::exchange::{self, FIELD_MANAGER, Refusal, WRITE_TIMEOUT, Wants, ask, later},
    backlog::Outcome,
    entries::{Key, Subject, Wanted, merged},
};
use crate::telemetry::causes;

/// How many requests a write takes at most, each of which costs a token: the read and the write.
pub(super) const REQUESTS: u32 = 2;

/// Sends a write, and waits for its answers at most [`WRITE_TIMEOUT`].
pub(super) async fn send(client: &kube::Client, key: &Key, wanted: &Wanted) -> Outcome {
    let answered = timeout(WRITE_TIMEOUT, exchange(client, key, wanted)).await;
    answered
        .unwrap_or_else(|_| Err(exchange::silent(WRITE_TIMEOUT)))
        .unwrap_or_else(Into::into)
}

async fn exchange(client: &kube::Client, key: &Key, wanted: &Wanted) -> Result<Outcome, Refusal> {
    let (subject, name) = key;
    let path = || {
        Path::new(format!(
            "/apis/{}/{}/namespaces/{}/{}",
            subject.group(),
            subject.version(),
            name.namespace,
            subject.plural()
        ))
    };
    // not from the server's memory: what is written must be built on the newest
    let request = made(path().get(&name.name, &GetParams::default()))?;
    let answer = ask(client, request, Wants::Object).await?;
    match answer.status {
        StatusCode::NOT_FOUND => return Ok(Outcome::Gone),
        status if status.is_success() => {}
        _ => return Err(answer.refusal(&rights(*subject, "", "get"))),
    }
    let object: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| later("failed", format!("the API server sent no object: {}", causes(&error))))?;
    if !is_meant(&object, wanted) {
        return Ok(Outcome::Gone);
    }
    let Some(body) = body(*subject, &object, wanted, Timestamp::now()) else {
        return Ok(Outcome::Unchanged);
    };
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let request = made(path().patch_subresource("status", &name.name, &params, &Patch::Merge(body)))?;
    let answer = ask(client, request, Wants::Metadata).await?;
    match answer.status {
        status if status.is_success() => Ok(Outcome::Written),
        StatusCode::NOT_FOUND => Ok(Outcome::Gone),
        StatusCode::CONFLICT => Ok(Outcome::Conflict),
        _ => Err(answer.refusal(&rights(*subject, "/status", "patch"))),
    }
}

fn made(request: Result<Request<Vec<u8>>, kube::core::request::Error>) -> Result<Request<Body>, Refusal> {
    let request = request.map_err(|error| exchange::invalid(causes(&error)))?;
    Ok(request.map(Body::from))
}

/// Whether it is still the object, and the generation of it, that the entries are about: an older verdict never replaces a newer one.
fn is_meant(object: &Value, wanted: &Wanted) -> bool {
    let metadata = &object["metadata"];
    metadata["uid"].as_str().unwrap_or_default() == wanted.uid
        && metadata["generation"].as_i64().unwrap_or_default() == wanted.generation
}

/// A merge patch. The resourceVersion in it makes the API server refuse it if anybody has written since; the list is replaced as a whole.
fn body(subject: Subject, object: &Value, wanted: &Wanted, now: Timestamp) -> Option<Value> {
    let list = object["status"][subject.list()].as_array();
    // Kubernetes' times have whole seconds
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let merged = merged(subject, list.map(Vec::as_slice).unwrap_or_default(), wanted, &now)?;
    Some(json!({
        "metadata": {"resourceVersion": object["metadata"]["resourceVersion"]},
        "status": {subject.list(): merged},
    }))
}

fn rights(subject: Subject, part: &str, verb: &str) -> String {
    format!(
        "ClusterRole weft-mesh-daemon the rule apiGroups [{}], resources [{}{part}], verbs [{verb}]",
        subject.group(),
        subject.plural()
    )
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Never(trouble) => Self::Refused(trouble),
            Refusal::Later { trouble, retry_after } => Self::Failed { trouble, retry_after },
        }
    }
}
