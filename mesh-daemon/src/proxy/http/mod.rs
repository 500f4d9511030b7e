//! HTTP between the two sides: one request at a time goes from hyper's server to hyper's client, its bodies streamed.

mod body;
pub(super) mod client;
mod headers;
mod path;
#[cfg_attr(not(test), expect(dead_code, reason = "the spine does not use it yet"))]
mod edits;
#[cfg_attr(not(test), expect(dead_code, reason = "the spine does not use it yet"))]
mod redirect;
#[cfg_attr(not(test), expect(dead_code, reason = "the spine does not use it yet"))]
mod grpc;
#[cfg_attr(not(test), expect(dead_code, reason = "the spine does not use it yet"))]
mod hash_key;
#[cfg_attr(not(test), expect(dead_code, reason = "the spine does not use it yet"))]
mod replay;
#[cfg_attr(not(test), expect(dead_code, reason = "the spine does not use it yet"))]
mod deadline;
pub(super) mod server;
mod upgrade;
#[cfg(test)]
mod wire;

use std::{cell::Cell, rc::Rc};

use hyper::{Request, Response, body::Incoming, header};

use super::{
    Worker,
    detect::Protocol,
    identify::Connection,
    outbound::{self, Early},
    outcome::Failure,
    places::Place,
    report::Exchange,
};
use body::Body;

/// What all requests of one client connection share.
struct Client {
    worker: Rc<Worker>,
    connection: Connection,
    protocol: Protocol,
    /// Dialled while the client kept silent: the first request's upstream.
    early: Cell<Option<Early>>,
    /// Held on by what outlives the HTTP connection: upgrades.
    _place: Rc<Place>,
}

/// Carries one request: each is routed and balanced on its own.
async fn exchange(client: Rc<Client>, mut request: Request<Incoming>) -> Response<Body> {
    let Client {
        worker,
        connection,
        protocol,
        early,
        ..
    } = &*client;
    let (plan, early) = outbound::planned(worker, connection, early.take());
    let mut report = Exchange::new(&worker.shared, plan.parties(connection), version(&request));
    let upgrade = upgrade::asked(&mut request);
    headers::request(request.headers_mut(), *protocol, upgrade.is_some());
    match client::send(worker, connection, *protocol, &plan, early, request).await {
        Ok(client::Answer {
            mut response,
            lease,
            candidate,
        }) => {
            report.parties.destination = candidate.workload;
            report.answered(response.status());
            match upgrade {
                Some(upgrade) if upgrade.is_granted(&response) => {
                    let switched = upgrade::carry(&client, upgrade, &mut response, report);
                    headers::response(response.headers_mut(), true);
                    *response.version_mut() = switched;
                    response.map(|_| Body::empty())
                }
                _ => {
                    headers::response(response.headers_mut(), false);
                    *response.version_mut() = hyper::Version::HTTP_11;
                    response.map(|incoming| Body::carried(incoming, lease, report))
                }
            }
        }
        Err(failure) => {
            report.parties.destination = failure.endpoint().and_then(|endpoint| plan.owner(endpoint));
            report.failed(&failure, connection.destination);
            own_answer(&failure, report)
        }
    }
}

/// The mesh's own answer, in one sentence.
fn own_answer(failure: &Failure, mut report: Exchange) -> Response<Body> {
    report.answered(failure.status());
    let mut response = Response::new(Body::text(format!("{failure}\n"), report));
    *response.status_mut() = failure.status();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The metric label of the client's protocol.
fn version(request: &Request<Incoming>) -> &'static str {
    match request.version() {
        hyper::Version::HTTP_2 => "http/2",
        hyper::Version::HTTP_10 => "http/1.0",
        _ => "http/1.1",
    }
}
