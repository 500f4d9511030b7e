//! The Lease that elects the writer (coordination.k8s.io/v1): each step of a candidate as one request.

use std::time::Duration;

use hyper::{Request, StatusCode};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Resource,
    api::{GetParams, PostParams},
    client::Body,
    core::Request as Path,
};
use tokio::time::timeout;

use super::{
    super::exchange::{self, Answer, FIELD_MANAGER, Refusal, Trouble, Wants, ask, later},
    candidate::{LEASE_DURATION, Said, Seen, Step},
};
use crate::telemetry::causes;

/// Where the daemon's own objects live: the namespace of `deploy/daemonset`.
pub(super) const NAMESPACE: &str = "weft-system";
/// Its name.
pub(super) const NAME: &str = "weft-status";
/// Longest time of a request: a healthy API server has long answered, and a renewal that got none leaves time for another one in the term.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// What a candidate needs, for people.
const RIGHTS: &str = "ServiceAccount mesh-daemon a Role in the namespace weft-system with apiGroups [coordination.k8s.io], resources [leases], verbs \
                      [get, create, update]";

/// The lease as it was last seen, and the one who writes itself into it.
pub(super) struct Holder {
    client: kube::Client,
    me: String,
    seen: Option<Lease>,
}

impl Holder {
    /// Nothing seen yet. `me` tells this process from every other.
    pub(super) fn new(client: kube::Client, me: String) -> Self {
        Self { client, me, seen: None }
    }

    /// Asks it, and says what became of it, with the trouble if there was one.
    pub(super) async fn ask(&mut self, step: Step) -> (Said, Option<Trouble>) {
        let request = match step {
            Step::Look => look(),
            Step::Create => create(&self.renewed(false)),
            Step::Take => replace(&self.renewed(false)),
            Step::Renew => replace(&self.renewed(true)),
        };
        match self.exchange(request).await {
            Ok(answer) => self.said(step, &answer),
            Err(refusal) => failed(refusal),
        }
    }

    /// Who we are in the lease.
    pub(super) fn me(&self) -> &str {
        &self.me
    }

    /// Lets it go, so that whoever looks next may take it. What comes of it does not matter: the term ends by itself.
    pub(super) async fn release(&mut self) {
        let let_go = self.exchange(replace(&self.released())).await;
        if let_go.is_ok_and(|answer| answer.status == StatusCode::CONFLICT) {
            // a renewal was under way
            if let (Said::Seen(Some(seen)), _) = self.ask(Step::Look).await
                && seen.holder == self.me
            {
                let _ = self.exchange(replace(&self.released())).await;
            }
        }
    }

    fn released(&self) -> Lease {
        let mut lease = self.seen.clone().unwrap_or_default();
        let spec = lease.spec.get_or_insert_default();
        // absent: an empty name is refused
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        lease
    }

    async fn exchange(&self, request: Result<Request<Body>, String>) -> Result<Answer, Refusal> {
        let request = request.map_err(exchange::invalid)?;
        let answer = timeout(REQUEST_TIMEOUT, ask(&self.client, request, Wants::Object)).await;
        answer.unwrap_or_else(|_| Err(exchange::silent(REQUEST_TIMEOUT)))
    }

    fn said(&mut self, step: Step, answer: &Answer) -> (Said, Option<Trouble>) {
        match (answer.status, step) {
            (StatusCode::NOT_FOUND, Step::Look) => {
                self.seen = None;
                return (Said::Seen(None), None);
            }
            (StatusCode::NOT_FOUND, Step::Create) => {
                return failed(later(
                    "no_namespace",
                    format!("there is no namespace {NAMESPACE}; create it as in deploy/daemonset/namespace.yaml"),
                ));
            }
            (StatusCode::CONFLICT, _) | (StatusCode::NOT_FOUND, Step::Take | Step::Renew) => {
                return (Said::Changed, None);
            }
            (status, _) if status.is_success() => {}
            _ => return failed(answer.refusal(RIGHTS)),
        }
        match serde_json::from_slice::<Lease>(&answer.body) {
            Ok(lease) => {
                let seen = seen(&lease);
                self.seen = Some(lease);
                let said = if step == Step::Look {
                    Said::Seen(Some(seen))
                } else {
                    Said::Held
                };
                (said, None)
            }
            Err(error) => failed(later(
                "failed",
                format!("the API server sent no Lease: {}", causes(&error)),
            )),
        }
    }

    /// The lease with us as its holder. The rest of the object stays as it was seen, its resourceVersion too: if another one writes first,
    /// this is refused.
    fn renewed(&self, is_held: bool) -> Lease {
        let mut lease = self.seen.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                namespace: Some(NAMESPACE.to_owned()),
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        let now = MicroTime(Timestamp::now());
        spec.renew_time = Some(now.clone());
        if !is_held {
            if spec.holder_identity.as_ref() != Some(&self.me) {
                let transitions = spec.lease_transitions.map_or(0, |count| count.saturating_add(1));
                spec.lease_transitions = Some(transitions);
            }
            spec.acquire_time = Some(now);
            spec.holder_identity = Some(self.me.clone());
            spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        }
        lease
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    let renewed = spec.renew_time.map(|MicroTime(time)| time.to_string());
    let transitions = spec.lease_transitions.unwrap_or_default();
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        renewal: format!("{} {transitions}", renewed.unwrap_or_default()),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    }
}

fn failed(refusal: Refusal) -> (Said, Option<Trouble>) {
    match refusal {
        Refusal::Never(trouble) => (Said::Failed { retry_after: None }, Some(trouble)),
        Refusal::Later { trouble, retry_after } => (Said::Failed { retry_after }, Some(trouble)),
    }
}

fn path() -> Path {
    Path::new(Lease::url_path(&(), Some(NAMESPACE)))
}

fn look() -> Result<Request<Body>, String> {
    let request = path().get(NAME, &GetParams::default());
    Ok(request.map_err(|error| causes(&error))?.map(Body::from))
}

fn create(lease: &Lease) -> Result<Request<Body>, String> {
    let body = serde_json::to_vec(lease).map_err(|error| causes(&error))?;
    let request = path().create(&params(), body);
    Ok(request.map_err(|error| causes(&error))?.map(Body::from))
}

fn replace(lease: &Lease) -> Result<Request<Body>, String> {
    let body = serde_json::to_vec(lease).map_err(|error| causes(&error))?;
    let request = path().replace(NAME, &params(), body);
    Ok(request.map_err(|error| causes(&error))?.map(Body::from))
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
