//! Which endpoint an attempt goes to: the balancer's choice among those that breakers and limits let through. An [`Attempt`] is the right to try it, and
//! learns once how that went.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use hyper::HeaderMap;

use super::{
    Worker,
    breaker::{Admission, Verdict},
    http::hash_key,
    identify::Connection,
    limits::Permit,
    live::{EndpointLive, Group, InFlight},
    metrics::Tried,
    outcome::{Failure, Limit},
    route::{Candidate, Plan},
};
use crate::model::{AttemptEnd, Limits, Upstream, WhenAllOpen};

/// Times that a choice is repeated because another task took the endpoint's last place in between. Each time somebody went on, so this is never a wait.
const RACES_MAX: usize = 16;
/// Why a breaker closes that nobody asks for any more, for the log.
pub(super) const POLICY_GONE: &str = "policy_gone";

/// What is carried to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request: it counts as one in flight.
    Request,
    /// An opaque connection.
    Connection,
}

/// How endpoints are chosen for one request or connection.
pub(super) struct Chooser<'a> {
    pub(super) worker: &'a Worker,
    pub(super) plan: &'a Plan,
    pub(super) purpose: Purpose,
    /// Hash of what `RingHash` and `Maglev` go by.
    pub(super) key: Option<u64>,
    /// Endpoints that were tried, by their index.
    pub(super) tried: Vec<usize>,
    /// The endpoint at which a request ends as soon as the next one is chosen: its place there is free.
    leaving: Option<usize>,
}

/// The right to try one endpoint.
pub(super) struct Attempt {
    /// Where it is.
    pub(super) candidate: Candidate,
    at: Option<At>,
}

/// The endpoint in its group.
struct At {
    group: Arc<Group>,
    index: usize,
    admission: Option<Admission>,
    in_flight: InFlight,
    started: Instant,
    is_settled: bool,
    is_timed: bool,
}

/// The endpoint of an attempt, where its balancer goes by latencies.
pub(super) struct Listener(Option<Arc<EndpointLive>>);

/// The right to have one connection to an endpoint in use; one that idles in a pool has none.
pub(super) struct ConnectionPermit {
    _service: Permit,
    _endpoint: Permit,
}

/// The permit of a connection that streams share. It is given back by whoever ends the connection first: its last user, or the task that carries it and sees
/// it closed a moment later. A client that has its answer may ask again within that moment, and must find the place free.
#[derive(Clone)]
pub(super) struct SharedPermit(Rc<Cell<Option<ConnectionPermit>>>);

impl SharedPermit {
    pub(super) fn new(permit: Option<ConnectionPermit>) -> Self {
        Self(Rc::new(Cell::new(permit)))
    }

    /// The connection is not in use any more.
    pub(super) fn give_back(&self) {
        drop(self.0.take());
    }

    /// The connection is used again, for this attempt.
    ///
    /// # Errors
    /// If as many are in use as may be.
    pub(super) fn take_again(&self, attempt: &Attempt) -> Result<(), Limit> {
        let held = self.0.take();
        self.0.set(if held.is_some() { held } else { attempt.connection()? });
        Ok(())
    }
}

impl<'a> Chooser<'a> {
    /// For a connection, or a request with these headers.
    pub(super) fn new(
        worker: &'a Worker,
        plan: &'a Plan,
        purpose: Purpose,
        connection: &Connection,
        headers: Option<&HeaderMap>,
    ) -> Self {
        let key = key(worker, plan, connection, headers);
        Self {
            worker,
            plan,
            purpose,
            key,
            tried: Vec::new(),
            leaving: None,
        }
    }

    /// The next endpoint that was not tried yet.
    ///
    /// # Errors
    /// If there is none that may be tried now, and why.
    pub(super) fn next(&mut self) -> Result<Attempt, Failure> {
        let Some(group) = &self.plan.group else {
            return self.itself();
        };
        self.usable(group).map_or_else(|| self.none(group), Ok)
    }

    /// The next endpoint for a retry: one that was not tried, or else, forgetting what was, the same one again. `before` ends when there is a next one, and is
    /// not in its way.
    ///
    /// # Errors
    /// If there is none that may be tried now, and why.
    pub(super) fn again(&mut self, before: Option<&Attempt>) -> Result<Attempt, Failure> {
        self.leaving = before.and_then(|before| before.at.as_ref()).map(|at| at.index);
        let another = self.plan.group.as_ref().and_then(|group| self.usable(group));
        let next = another.map_or_else(
            || {
                self.tried.clear();
                self.next()
            },
            Ok,
        );
        self.leaving = None;
        next
    }

    /// The next endpoint that was not tried and that breakers and limits let through.
    fn usable(&mut self, group: &Arc<Group>) -> Option<Attempt> {
        for _ in 0..RACES_MAX {
            let index = self.pick(group, |index, now| self.lets(group, index, now))?;
            if let Some(attempt) = self.take(group, index, false) {
                self.tried.push(index);
                return Some(attempt);
            }
        }
        None
    }

    /// Whether there is an endpoint that was not tried.
    fn has_untried(&self) -> bool {
        match &self.plan.group {
            Some(group) => self.tried.len() < group.endpoints.len(),
            None => self.tried.is_empty(),
        }
    }

    /// The endpoint of an attempt that was made for the connection, for a request.
    pub(super) fn same(&mut self, other: &Attempt) -> Option<Attempt> {
        match (&self.plan.group, &other.at) {
            (None, None) => self.itself().ok(),
            (Some(group), Some(at)) if Arc::ptr_eq(group, &at.group) => {
                let attempt = self.take(group, at.index, false)?;
                self.tried.push(at.index);
                Some(attempt)
            }
            _ => None,
        }
    }

    fn itself(&mut self) -> Result<Attempt, Failure> {
        if !self.has_untried() {
            return Err(Failure::NoEndpoint);
        }
        self.tried.push(0);
        Ok(Attempt {
            candidate: self.plan.itself(),
            at: None,
        })
    }

    fn pick(&self, group: &Group, lets: impl Fn(usize, Instant) -> bool) -> Option<usize> {
        let now = Instant::now();
        let usable = |index: usize| !self.tried.contains(&index) && lets(index, now);
        let choice = super::balance::Choice {
            endpoints: &group.endpoints,
            usable: &usable,
            key: self.key,
            rng: &mut self.worker.random.borrow_mut(),
            now,
        };
        if self.tried.is_empty() {
            group.balancer.pick(choice)
        } else {
            group.balancer.pick_again(choice)
        }
    }

    fn lets(&self, group: &Group, index: usize, now: Instant) -> bool {
        group.endpoints[index]
            .breaker
            .is_usable(breaker_of(&group.upstream), now)
            && self.has_room(group, index)
    }

    /// A connection in the pool may serve another request, so only requests are counted for those.
    fn has_room(&self, group: &Group, index: usize) -> bool {
        let endpoint = &group.endpoints[index];
        match self.purpose {
            Purpose::Request => endpoint.requests.has_place(self.requests_max(group, index)),
            Purpose::Connection => {
                let most = limits_of(&group.upstream).max_connections_per_endpoint;
                endpoint.connections.has_place(most)
            }
        }
    }

    /// How many requests may be under way at the endpoint, the one that leaves counted.
    fn requests_max(&self, group: &Group, index: usize) -> Option<u32> {
        let most = limits_of(&group.upstream).max_requests_per_endpoint?;
        Some(most.saturating_add(u32::from(self.leaving == Some(index))))
    }

    /// None if another task was quicker.
    fn take(&self, group: &Arc<Group>, index: usize, in_panic: bool) -> Option<Attempt> {
        let endpoint = &group.endpoints[index];
        let started = Instant::now();
        let admission = admit(self.worker, group, endpoint, started);
        if admission.is_none() && !in_panic {
            return None;
        }
        let in_flight = match self.purpose {
            Purpose::Request => InFlight::request(endpoint, self.requests_max(group, index), started)?,
            Purpose::Connection => InFlight::connection(endpoint)?,
        };
        Some(Attempt {
            candidate: self.plan.candidate(group, index),
            at: Some(At {
                group: Arc::clone(group),
                index,
                admission,
                in_flight,
                started,
                is_settled: false,
                is_timed: false,
            }),
        })
    }

    /// Why there is none; in a panic there is one all the same. All are open only if no breaker lets through: not while one does whose endpoint was tried, or
    /// has no room.
    fn none(&mut self, group: &Arc<Group>) -> Result<Attempt, Failure> {
        if group.endpoints.is_empty() || !self.has_untried() {
            return Err(Failure::NoEndpoint);
        }
        let (breaker, now) = (breaker_of(&group.upstream), Instant::now());
        let is_closed = |index: &usize| group.endpoints[*index].breaker.is_usable(breaker, now);
        let mut closed = (0..group.endpoints.len()).filter(is_closed).peekable();
        let all_open = closed.peek().is_none();
        if closed.any(|index| !self.tried.contains(&index) && !self.has_room(group, index)) {
            return Err(self.overflow());
        }
        let panics = breaker.is_some_and(|breaker| breaker.when_all_open == WhenAllOpen::Panic);
        if !(all_open && panics) {
            return Err(Failure::CircuitOpen);
        }
        let index = self.pick(group, |index, _| self.has_room(group, index));
        let index = index.ok_or_else(|| self.overflow())?;
        let attempt = self.take(group, index, true).ok_or_else(|| self.overflow())?;
        self.tried.push(index);
        Ok(attempt)
    }

    fn overflow(&self) -> Failure {
        Failure::Overflow(match self.purpose {
            Purpose::Request => Limit::RequestsPerEndpoint,
            Purpose::Connection => Limit::ConnectionsPerEndpoint,
        })
    }
}

impl Attempt {
    /// The right to open a connection to the endpoint.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn connection(&self) -> Result<Option<ConnectionPermit>, Limit> {
        let Some(At { group, index, .. }) = &self.at else {
            return Ok(None);
        };
        let limits = limits_of(&group.upstream);
        let service = group.service.connections.try_acquire(limits.max_connections);
        let endpoint = group.endpoints[*index]
            .connections
            .try_acquire(limits.max_connections_per_endpoint);
        match (service, endpoint) {
            (Some(service), Some(endpoint)) => Ok(Some(ConnectionPermit {
                _service: service,
                _endpoint: endpoint,
            })),
            (None, _) => Err(Limit::Connections),
            (_, None) => Err(Limit::ConnectionsPerEndpoint),
        }
    }

    /// The client left before its end: it says nothing about the endpoint.
    pub(super) fn abandoned(&mut self) {
        let Some(at) = &mut self.at else { return };
        if let Some(admission) = at.admission.take() {
            at.settle(admission, Verdict::Neither, Instant::now());
        }
        at.is_settled = true;
    }

    /// A new connection to the endpoint stands.
    pub(super) fn dialled(&self, worker: &Worker) {
        self.listener().dialled(worker);
    }

    /// Who is to be told of a new connection to the endpoint.
    pub(super) fn listener(&self) -> Listener {
        let at = self.at.as_ref().filter(|at| at.group.balancer.goes_by_latency());
        Listener(at.map(|at| Arc::clone(at.in_flight.endpoint())))
    }

    /// It accepted a connection of which nobody knows yet what it will carry. That says nothing so far: if it is HTTP, only answers do. Nor does it keep others
    /// from a trial meanwhile. [`Self::connected`] may still be said.
    pub(super) fn undecided(&mut self) {
        if let Some(at) = &mut self.at {
            at.admission = None;
        }
    }

    /// It accepted an opaque connection, which is all that is known of it.
    pub(super) fn connected(&mut self, worker: &Worker) {
        if let Some(at) = &mut self.at
            && at.admission.is_none()
            && !at.is_settled
        {
            at.admission = admit(worker, &at.group, at.in_flight.endpoint(), Instant::now());
        }
        self.end(worker, None);
    }

    /// Whether its connections are at their limit.
    pub(super) fn is_crowded(&self) -> bool {
        let Some(At { group, index, .. }) = &self.at else {
            return false;
        };
        let limits = limits_of(&group.upstream);
        let endpoint = &group.endpoints[*index].connections;
        !group.service.connections.has_place(limits.max_connections)
            || !endpoint.has_place(limits.max_connections_per_endpoint)
    }

    /// The answer's head is here: the balancer learns how long it took.
    pub(super) fn answered(&mut self) {
        if let Some(at) = &mut self.at {
            at.in_flight.answered(Instant::now());
        }
    }

    /// Whether its endpoint is on trial.
    pub(super) fn is_trial(&self) -> bool {
        let admission = self.at.as_ref().and_then(|at| at.admission.as_ref());
        admission.is_some_and(Admission::is_trial)
    }

    /// What became of it, said before its end: the first word counts.
    pub(super) fn judge(&mut self, worker: &Worker, end: AttemptEnd) {
        self.end(worker, Some(end));
    }

    /// It has ended, and what became of it: the first word counts. Unsaid, it says nothing about the endpoint.
    pub(super) fn settle(&mut self, worker: &Worker, end: AttemptEnd) {
        self.end(worker, Some(end));
        if let Some(at) = &mut self.at
            && !std::mem::replace(&mut at.is_timed, true)
        {
            let metrics = &worker.shared.metrics;
            metrics.upstream.took(&at.group.upstream, at.started.elapsed());
        }
    }

    fn end(&mut self, worker: &Worker, end: Option<AttemptEnd>) {
        let Some(at) = &mut self.at else { return };
        if std::mem::replace(&mut at.is_settled, true) {
            return;
        }
        let now = Instant::now();
        if let Some(AttemptEnd::ConnectFailure | AttemptEnd::Reset | AttemptEnd::Timeout) = end {
            at.in_flight.failed(now);
        }
        let breaker = breaker_of(&at.group.upstream);
        let failed = breaker.is_some_and(|breaker| end.is_some_and(|end| end.is_in(&breaker.failure_on)));
        let verdict = if failed { Verdict::Failure } else { Verdict::Success };
        let admission = at.admission.take();
        let transition = admission.and_then(|admission| at.settle(admission, verdict, now));
        worker.shared.metrics.upstream.ended(&Tried {
            upstream: &at.group.upstream,
            endpoint: self.candidate.address,
            end,
            transition,
        });
    }

    /// Where it is, for the log.
    pub(super) fn address(&self) -> SocketAddr {
        self.candidate.address
    }
}

impl Listener {
    /// What the kernel measured in the handshake is the first that is known of the endpoint.
    pub(super) fn dialled(&self, worker: &Worker) {
        let Some(endpoint) = &self.0 else { return };
        if endpoint.latency(Instant::now()).is_none()
            && let Some(heard) = worker.shared.borders.ear.round_trip(endpoint.address)
        {
            endpoint.set_first_latency(heard.smoothed);
        }
    }
}

impl At {
    fn settle(&self, admission: Admission, verdict: Verdict, now: Instant) -> Option<super::breaker::Transition> {
        let breaker = breaker_of(&self.group.upstream);
        let percent = breaker.map_or(100, |breaker| breaker.max_ejection_percent);
        // two that open at once must see each other, or more would be ejected than the policy allows
        let _one_at_a_time = matches!(verdict, Verdict::Failure).then(|| self.group.service.ejecting());
        self.group.endpoints[self.index]
            .breaker
            .settle(breaker, admission, verdict, now, || self.group.may_eject(percent))
    }
}

fn admit(worker: &Worker, group: &Group, endpoint: &EndpointLive, now: Instant) -> Option<Admission> {
    let admission = endpoint.breaker.admit(breaker_of(&group.upstream), now)?;
    if let Some(transition) = admission.transition() {
        let metrics = &worker.shared.metrics;
        metrics
            .upstream
            .moved(&group.upstream, endpoint.address, transition, "timeout_over");
    }
    Some(admission)
}

/// Hash of what the balancer goes by; where the client says nothing of it, chance chooses, and that is counted.
fn key(worker: &Worker, plan: &Plan, connection: &Connection, headers: Option<&HeaderMap>) -> Option<u64> {
    let by = plan.group.as_ref()?.balancer.hash_key()?;
    let none = HeaderMap::new();
    let value = hash_key::hash_key(by, headers.unwrap_or(&none), connection.client.ip());
    if value.is_none() {
        worker.shared.metrics.upstream.hash_key_absent();
    }
    Some(super::balance::hash(&value?))
}

fn breaker_of(upstream: &Upstream) -> Option<&crate::model::CircuitBreaker> {
    upstream.spec().and_then(|spec| spec.circuit_breaker.as_ref())
}

/// The limits of an upstream's policy; all absent where there is none.
pub(super) fn limits_of(upstream: &Upstream) -> Limits {
    upstream.spec().and_then(|spec| spec.limits).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests;
