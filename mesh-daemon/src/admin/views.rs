//! What the admin socket shows beside the snapshot: which question a path asks, and the answer as JSON.

use std::fmt;

use hyper::{StatusCode, header::HeaderValue};

use super::http::Reply;
use crate::{config::Subject, ids::ObjectRef, model::NoSuchService};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Looks at one thing and gives it as JSON.
pub type Look = dyn Fn(&Subject) -> Result<String, NoView>;

/// Where the socket's answers come from; `app` fills it.
pub struct Views {
    /// Everything, as text.
    pub snapshot: Box<dyn Fn() -> String>,
    /// One thing, as JSON.
    pub look: Box<Look>,
}

/// Why there is nothing to be shown.
#[derive(Debug, thiserror::Error)]
pub enum NoView {
    /// Nothing is known of the Service.
    #[error(transparent)]
    NoSuchService(#[from] NoSuchService),
    /// Nothing is known at all.
    #[error("the daemon knows nothing yet: it waits for its first lists of objects; /readyz says for which")]
    NotYet,
    /// A bug.
    #[error("the answer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}

/// What a path and its query ask for; none if there is no such path, and a sentence if the query is not right.
pub(super) fn subject(path: &str, query: &str) -> Option<Result<Subject, String>> {
    let of_service = |subject: fn(ObjectRef) -> Subject| match parameter(query) {
        Some(("service", value)) => object(value).map(subject),
        _ => Err(format!("say of which Service, as in {path}?service=shop/web")),
    };
    Some(match path {
        "/endpoints" => of_service(Subject::Endpoints),
        "/policy" => match parameter(query) {
            None if query.is_empty() => Ok(Subject::Policies),
            Some(("namespace", name)) => Ok(Subject::PoliciesIn(name.to_owned())),
            _ => of_service(Subject::Policy),
        },
        "/routes" => match parameter(query) {
            None if query.is_empty() => Ok(Subject::Routes),
            Some(("namespace", name)) => Ok(Subject::RoutesIn(name.to_owned())),
            _ => of_service(Subject::RoutesOf),
        },
        _ => return None,
    })
}

/// The one parameter that a question has.
fn parameter(query: &str) -> Option<(&str, &str)> {
    query.split_once('=').filter(|(_, value)| !value.contains('&'))
}

/// Names of Kubernetes need no escapes in a query; only the `/` between them is escaped by some clients.
fn object(value: &str) -> Result<ObjectRef, String> {
    let value = value.replace("%2F", "/").replace("%2f", "/");
    match value.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(ObjectRef::new(namespace, name)),
        _ => Err(format!("`{value}` is not namespace/name, as in shop/web")),
    }
}

/// The answer, or why there is none.
pub(super) fn reply(view: Result<String, NoView>) -> Reply {
    match view {
        Ok(body) => Reply {
            status: StatusCode::OK,
            content_type: JSON,
            body,
        },
        Err(error) => {
            let status = match &error {
                NoView::NoSuchService(_) => StatusCode::NOT_FOUND,
                NoView::NotYet => StatusCode::SERVICE_UNAVAILABLE,
                NoView::Json(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            sentence(status, &error.to_string())
        }
    }
}

/// One sentence.
pub(super) fn sentence(status: StatusCode, sentence: &str) -> Reply {
    Reply {
        status,
        ..Reply::text(format!("{sentence}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_for_what_they_say() {
        let web = || ObjectRef::new("shop", "web");
        for (path, query, expected) in [
            ("/routes", "", Ok(Subject::Routes)),
            ("/routes", "namespace=shop", Ok(Subject::RoutesIn("shop".to_owned()))),
            ("/routes", "service=shop/web", Ok(Subject::RoutesOf(web()))),
            ("/endpoints", "service=shop%2Fweb", Ok(Subject::Endpoints(web()))),
            ("/policy", "service=shop/web", Ok(Subject::Policy(web()))),
            ("/policy", "", Ok(Subject::Policies)),
            ("/policy", "namespace=shop", Ok(Subject::PoliciesIn("shop".to_owned()))),
            (
                "/endpoints",
                "",
                Err("say of which Service, as in /endpoints?service=shop/web"),
            ),
            (
                "/routes",
                "x=1",
                Err("say of which Service, as in /routes?service=shop/web"),
            ),
            (
                "/endpoints",
                "service=web",
                Err("`web` is not namespace/name, as in shop/web"),
            ),
            (
                "/endpoints",
                "service=/web",
                Err("`/web` is not namespace/name, as in shop/web"),
            ),
        ] {
            let found = subject(path, query).unwrap();
            assert_eq!(found, expected.map_err(str::to_owned), "{path}?{query}");
        }
        assert!(subject("/other", "").is_none());
    }

    #[test]
    fn what_cannot_be_shown_is_a_sentence_and_a_status() {
        let unknown = NoSuchService {
            service: ObjectRef::new("shop", "wbe"),
            known: [ObjectRef::new("shop", "web")].into(),
        };
        for (view, status, body) in [
            (Ok("{}".to_owned()), 200, "{}"),
            (
                Err(unknown.into()),
                404,
                "there is no Service shop/wbe that this node knows; it knows shop/web\n",
            ),
            (
                Err(NoView::NotYet),
                503,
                "the daemon knows nothing yet: it waits for its first lists of objects; /readyz says for which\n",
            ),
        ] {
            let reply = reply(view);
            assert_eq!((reply.status.as_u16(), reply.body.as_str()), (status, body));
        }
    }
}
