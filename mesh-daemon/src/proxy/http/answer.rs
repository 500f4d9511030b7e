//! Answers that the mesh gives itself: why there is no other, and redirects.

use std::net::SocketAddr;

use http::request::Parts;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
};

use super::{body::Body, edits, grpc, redirect};
use crate::{
    model::Action,
    proxy::{
        identify::Connection,
        outcome::{Failure, Outcome},
        report::Exchange,
        route::Routed,
    },
};

/// Says in one word why the mesh answers itself: the outcome, as metrics and access log have it.
const REASON: HeaderName = HeaderName::from_static("x-weft-reason");

/// The mesh's own answer, in one sentence; to a gRPC client in its own words.
pub(super) fn own(failure: &Failure, mut report: Exchange, destination: SocketAddr) -> Response<Body> {
    report.failed(failure, destination);
    let text = failure.to_string();
    let mut response = if report.is_grpc {
        report.answered(StatusCode::OK);
        grpc::answer(failure.status(), &text).map(|()| Body::reported(None, report))
    } else {
        report.answered(failure.status());
        let mut response = Response::new(Body::reported(Some(format!("{text}\n")), report));
        *response.status_mut() = failure.status();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    let reason = HeaderValue::from_static(failure.outcome().name());
    response.headers_mut().insert(REASON, reason);
    response
}

/// A rule's redirect.
pub(super) fn redirect(routed: &Routed, head: &Parts, connection: &Connection, mut report: Exchange) -> Response<Body> {
    let rule = &routed.rule;
    let located = match &rule.action {
        Action::Redirect(to) => redirect::location(to, routed.prefix.as_deref(), head, connection.destination.port()),
        _ => None,
    };
    report.by(rule);
    let Some((status, location)) = located else {
        return own(&Failure::Unfit("Location"), report, connection.destination);
    };
    report.answered(status);
    report.end(Outcome::Redirected);
    let mut response = Response::new(Body::reported(None, report));
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    edits::apply_headers(&rule.edits.response, response.headers_mut());
    response
}
