//! An API server of the tests' own: writes down what it is asked, answers as it is told, keeps pods' conditions and shows them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, header};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    ids::ObjectRef,
    watch::local::{Condition, LocalPods},
};

/// Far more turned time than any test takes; only a broken build waits so long.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What it says of every object.
pub(in crate::watch::status) const OBJECT_UID: &str = "uid-of-it";

/// A request.
#[derive(Clone, Debug)]
pub(in crate::watch::status) struct Seen {
    pub(in crate::watch::status) at: Instant,
    /// Method, path and query.
    pub(in crate::watch::status) line: String,
    pub(in crate::watch::status) content_type: String,
    pub(in crate::watch::status) accept: String,
    pub(in crate::watch::status) body: Value,
}

/// What is answered.
pub(in crate::watch::status) enum Answer {
    /// As asked.
    Done,
    /// A status, and how many seconds to wait.
    Status(u16, Option<u64>, Value),
    /// Nothing, ever.
    Silence,
}

type Rule = Box<dyn Fn(&Seen) -> Answer + Send>;

#[derive(Clone)]
pub(in crate::watch::status) struct Api {
    seen: watch::Sender<Vec<Seen>>,
    pods: watch::Sender<Arc<LocalPods>>,
    rule: Arc<Mutex<Rule>>,
}

impl Api {
    pub(in crate::watch::status) fn new(pods: LocalPods) -> Self {
        Self {
            seen: watch::Sender::default(),
            pods: watch::Sender::new(Arc::new(pods)),
            rule: Arc::new(Mutex::new(Box::new(|_| Answer::Done))),
        }
    }

    pub(in crate::watch::status) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { api.answer(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// How it answers from now on.
    pub(in crate::watch::status) fn rule(&self, rule: impl Fn(&Seen) -> Answer + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// What its watch shows.
    pub(in crate::watch::status) fn watch(&self) -> watch::Receiver<Arc<LocalPods>> {
        self.pods.subscribe()
    }

    pub(in crate::watch::status) fn pods(&self) -> Arc<LocalPods> {
        self.pods.borrow().clone()
    }

    pub(in crate::watch::status) fn change(&self, change: impl FnOnce(&mut LocalPods)) {
        self.pods.send_modify(|pods| change(Arc::make_mut(pods)));
    }

    /// All requests so far.
    pub(in crate::watch::status) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Returns the requests once there are so many.
    pub(in crate::watch::status) async fn wait_for(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let enough = timeout(PATIENCE, seen.wait_for(|seen| seen.len() >= count)).await;
        match enough {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("waited for {count} requests in vain: {:#?}", self.seen()),
        }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let body = body.collect().await.unwrap().to_bytes();
        let seen = Seen {
            at: Instant::now(),
            line: format!("{} {}", parts.method, parts.uri),
            content_type: header(header::CONTENT_TYPE).unwrap_or_default(),
            accept: header(header::ACCEPT).unwrap_or_default(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let answer = self.rule.lock().unwrap()(&seen);
        let response = Response::builder();
        let (response, body) = match answer {
            Answer::Done => {
                self.keep(&seen);
                let metadata = json!({"uid": OBJECT_UID});
                (
                    response.status(200),
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}),
                )
            }
            Answer::Status(status, retry_after, body) => {
                let response = retry_after.into_iter().fold(response, |response, seconds| {
                    response.header(header::RETRY_AFTER, seconds)
                });
                (response.status(status), body)
            }
            Answer::Silence => {
                self.seen.send_modify(|all| all.push(seen));
                return std::future::pending().await;
            }
        };
        self.seen.send_modify(|all| all.push(seen));
        Ok(response.body(Full::from(body.to_string())).unwrap())
    }

    /// A strategic merge of one condition.
    fn keep(&self, seen: &Seen) {
        let Some(path) = seen.line.strip_prefix("PATCH /api/v1/namespaces/") else {
            return;
        };
        let parts: Vec<_> = path.split(['/', '?']).collect();
        let condition = &seen.body["status"]["conditions"][0];
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        self.change(|pods| {
            let pod = pods.get_mut(&ObjectRef::new(parts[0], parts[2])).unwrap();
            pod.captured = Some(Condition {
                status: text("status"),
                reason: text("reason"),
                message: text("message"),
            });
        });
    }
}
