//! HTTP between the two sides: one request at a time is routed, sent from hyper's server to hyper's client, its bodies streamed.

pub(super) mod server;
mod edits;
mod path;
mod redirect;
pub(super) mod hash_key;
mod retry;
mod send;
pub(super) mod client;
pub(super) mod replay;
mod deadline;
mod held;
mod body;
mod grpc;
mod answer;
mod headers;
mod upgrade;
#[cfg(test)]
mod wire;

use std::{cell::Cell, rc::Rc};

use http::request::Parts;
use hyper::{Request, Response, body::Incoming};

use self::{
    body::{Body, End},
    path::Unfit,
    retry::Retries,
    send::{Answer, Early, Sending, Times},
    upgrade::Asked,
};
use super::{
    Worker,
    choose::{Chooser, Purpose},
    detect::Protocol,
    dial::Dialled,
    identify::Connection,
    limits::Permit,
    outbound,
    outcome::Failure,
    places::Place,
    pool::Fresh,
    report::Exchange,
    route::{self, Decision, Plan},
    socket,
};

/// What all requests of one client connection share.
struct Client {
    worker: Rc<Worker>,
    connection: Connection,
    protocol: Protocol,
    /// Dialled while the client kept silent: the first request's upstream, unless a route leads elsewhere.
    early: Cell<Option<outbound::Early>>,
    /// Held on by what outlives the HTTP connection: upgrades.
    _place: Rc<Place>,
}

/// Carries one request: each is routed and balanced on its own.
async fn exchange(client: Rc<Client>, mut request: Request<Incoming>) -> Response<Body> {
    let Client { worker, connection, .. } = &*client;
    let upgrade = upgrade::asked(&mut request);
    let (mut head, body) = request.into_parts();
    headers::host(&mut head, connection.destination);
    let early = client.early.take();
    // not those of the early dial: it may be hours old
    let tables = worker.shared.tables.load_full();
    let draw = |below| worker.random.borrow_mut().u64(0..below);
    let decision = route::request(&tables, connection, &head, draw);
    let parties = route::parties(&tables, connection);
    drop(tables);
    let mut report = Exchange::new(&worker.shared, parties, version(&head), grpc::is_call(&head.headers));
    report.hear(&head, connection);
    match decision {
        Decision::Forward(plan) => {
            let request = Request::from_parts(head, body);
            Forward {
                client: &client,
                plan: &plan,
                upgrade,
                report,
            }
            .carry(early, request)
            .await
        }
        Decision::Redirect(routed) => answer::redirect(&routed, &head, connection, report),
        Decision::Refuse(failure, rule) => {
            rule.inspect(|rule| report.by(rule));
            answer::own(&failure, report, connection.destination)
        }
    }
}

/// One request on its way to an endpoint.
struct Forward<'a> {
    client: &'a Rc<Client>,
    plan: &'a Plan,
    upgrade: Option<Asked>,
    report: Exchange,
}

impl Forward<'_> {
    async fn carry(mut self, early: Option<outbound::Early>, mut request: Request<Incoming>) -> Response<Body> {
        let Client {
            worker,
            connection,
            protocol,
            ..
        } = &**self.client;
        if let Some(routed) = &self.plan.routed {
            self.report.by(&routed.rule);
        }
        self.report
            .sent_to(self.plan.group.as_ref().map(|group| &group.upstream));
        let in_flight = match self.plan.enter() {
            Ok(in_flight) => in_flight,
            Err(failure) => return answer::own(&failure, self.report, connection.destination),
        };
        let mut chooser = Chooser::new(worker, self.plan, Purpose::Request, connection, Some(request.headers()));
        let early = early.and_then(|early| reuse(early, &mut chooser));
        request = match self.edited(request, *protocol) {
            Ok(request) => request,
            Err(Unfit(what)) => return answer::own(&Failure::Unfit(what), self.report, connection.destination),
        };
        let is_grpc = self.report.is_grpc;
        let (retries, request) = Retries::new(&self.plan.settings, request, is_grpc, self.upgrade.is_some());
        let mut sending = Sending {
            worker,
            client: connection,
            protocol: *protocol,
            plan: self.plan,
            is_grpc,
            times: Times::new(&self.plan.settings),
            retries,
        };
        match sending.send(chooser, early, request, &mut self.report).await {
            Ok(answer) => self.answered(answer, in_flight),
            Err(failure) => {
                self.report.parties.destination = failure.endpoint().and_then(|endpoint| self.plan.owner(endpoint));
                self.report.endpoint = failure.endpoint();
                answer::own(&failure, self.report, connection.destination)
            }
        }
    }

    /// The request as the endpoint gets it.
    fn edited(&self, request: Request<Incoming>, protocol: Protocol) -> Result<Request<Incoming>, Unfit> {
        let (mut head, body) = request.into_parts();
        headers::request(&mut head.headers, protocol, self.upgrade.is_some());
        for edits in self.plan.edits() {
            edits::request(&edits.request, &mut head)?;
            if let Some(rewrite) = &edits.rewrite {
                edits::rewrite(rewrite, self.plan.prefix(), &mut head)?;
            }
        }
        Ok(Request::from_parts(head, body))
    }

    /// The answer as the client gets it.
    fn answered(mut self, answer: Answer, in_flight: Option<Permit>) -> Response<Body> {
        let Answer {
            mut response,
            lease,
            mut attempt,
            until,
        } = answer;
        self.report.parties.destination = attempt.candidate.workload.clone();
        self.report.endpoint = Some(attempt.address());
        self.report.answered(response.status());
        let switches = self.upgrade.take().filter(|upgrade| upgrade.is_granted(&response));
        headers::response(response.headers_mut(), switches.is_some());
        for edits in self.plan.edits() {
            edits::apply_headers(&edits.response, response.headers_mut());
        }
        if let Some(upgrade) = switches {
            attempt.connected(&self.client.worker);
            *response.version_mut() = upgrade::carry(
                self.client,
                upgrade,
                &mut response,
                self.report,
                (attempt, in_flight, lease),
            );
            return response.map(|_| Body::empty());
        }
        *response.version_mut() = hyper::Version::HTTP_11;
        let end = End::new(&self.client.worker, self.report, lease, attempt, in_flight, &response);
        response.map(|incoming| Body::carried(incoming, end, until))
    }
}

/// The early dial as the first attempt of a request that goes to the same endpoints, if the connection is still open and silent.
fn reuse(early: outbound::Early, chooser: &mut Chooser<'_>) -> Option<Early> {
    let Dialled {
        socket,
        attempt,
        permit,
    } = early.dialled;
    if !socket::is_idle(&socket) {
        return None;
    }
    let attempt = chooser.same(&attempt)?;
    Some((attempt, Some(Fresh { socket, permit })))
}

/// The metric label of the client's protocol.
fn version(head: &Parts) -> &'static str {
    match head.version {
        hyper::Version::HTTP_2 => "http/2",
        hyper::Version::HTTP_10 => "http/1.0",
        _ => "http/1.1",
    }
}
