//! One request to the API server, and what its answers have in common whatever was asked.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use kube::{
    client::Body,
    core::{Status, response::StatusCause},
};

use crate::telemetry::causes;

/// Who writes, in `managedFields`.
pub(super) const FIELD_MANAGER: &str = "weft-mesh-daemon";
/// Longest time of a write, in which a healthy API server has long answered; a write that was done after all is done again, harmlessly. It
/// includes a read that comes before.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read: more than an object of the API can have.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// What the API server says of a namespace that is being deleted.
const TERMINATING: &str = "NamespaceTerminating";

/// What is asked for in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// The whole object.
    Object,
    /// Its metadata.
    Metadata,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// A metric label, and what tells one trouble from another.
    pub(super) name: &'static str,
    /// One sentence for people.
    pub(super) detail: String,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It will not be taken however often it is sent.
    Never(Trouble),
    /// It may be taken later.
    Later {
        trouble: Trouble,
        /// What the API server asks for.
        retry_after: Option<Duration>,
    },
}

/// An answer of the API server.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    retry_after: Option<Duration>,
}

/// Sends a request and reads its answer.
///
/// # Errors
/// If there is none.
pub(super) async fn ask(client: &kube::Client, mut request: Request<Body>, wants: Wants) -> Result<Answer, Refusal> {
    let accept = header::HeaderValue::from_static(match wants {
        Wants::Object => "application/json",
        Wants::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
    });
    request.headers_mut().insert(header::ACCEPT, accept);
    let answer = client.send(request).await.map_err(|error| {
        later(
            "unreachable",
            format!("the API server cannot be reached: {}", causes(&error)),
        )
    })?;
    let (parts, body) = answer.into_parts();
    // a success is read as well, so that its connection can be used again
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(Answer {
        status: parts.status,
        retry_after: retry_after(&parts.headers),
        body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    })
}

/// What a request that was given up after so long means.
pub(super) fn silent(waited: Duration) -> Refusal {
    later(
        "timeout",
        format!("the API server gave no answer within {} s", waited.as_secs()),
    )
}

/// What a request that cannot be made means.
pub(super) fn invalid(detail: String) -> Refusal {
    Refusal::Never(Trouble {
        name: "invalid",
        detail,
    })
}

/// A trouble that may pass by itself.
pub(super) fn later(name: &'static str, detail: String) -> Refusal {
    Refusal::Later {
        trouble: Trouble { name, detail },
        retry_after: None,
    }
}

/// Seconds only: the API server never sends a date.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

impl Answer {
    /// What an answer means that is no success and nothing that the asker knows. `rights` names what the asker needs, for a refusal for lack of it.
    pub(super) fn refusal(&self, rights: &str) -> Refusal {
        let message = self.message();
        let later = |name, detail| Refusal::Later {
            trouble: Trouble { name, detail },
            retry_after: self.retry_after,
        };
        match self.status {
            StatusCode::FORBIDDEN => later(
                "forbidden",
                format!("the API server forbids it: {message}; give {rights}"),
            ),
            StatusCode::UNAUTHORIZED => later(
                "unauthorized",
                "the API server does not know us: check the ServiceAccount's token or the kubeconfig".to_owned(),
            ),
            StatusCode::TOO_MANY_REQUESTS => later(
                "throttled",
                format!("the API server asks for fewer requests: {message}"),
            ),
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => Refusal::Never(Trouble {
                name: "refused",
                detail: format!("the API server does not take it ({status}): {message}; report this as a bug"),
            }),
            status => later("failed", format!("the API server failed ({status}): {message}")),
        }
    }

    /// Whether the namespace is being deleted, so that nothing new is taken there.
    pub(super) fn is_terminating(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && self.has_cause(|cause| cause.reason == TERMINATING)
    }

    /// Whether the API server names such a cause.
    pub(super) fn has_cause(&self, is_it: impl Fn(&StatusCause) -> bool) -> bool {
        let details = self.said().and_then(|said| said.details);
        details.is_some_and(|details| details.causes.iter().any(is_it))
    }

    /// What it says to people.
    pub(super) fn message(&self) -> String {
        match self.said() {
            Some(said) => said.message,
            // from a proxy in between, or a plain refusal of the API server
            None => String::from_utf8_lossy(&self.body)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    fn said(&self) -> Option<Status> {
        serde_json::from_slice(&self.body).ok()
    }
}
