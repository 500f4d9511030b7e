//! `limits`: what is beyond one is answered at once, while what is under way goes on.

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::Options,
    client::{Load, Version},
    daemon::DaemonOptions,
    shop::{Shop, WEB4},
};
use serde_json::json;

use super::{Held, ask, counter, counts, get, is_servers, obey, one_server, refused, sequence, tally};
use crate::{captured, seen::logged, tell};

/// Holds as many requests as the limit lets, is refused one more, and served again when they have ended.
fn reaches(shop: &Shop, spec: &str, allowed: usize, reason: &str) -> Result<()> {
    obey(shop, &[spec])?;
    let held: Vec<_> = (0..allowed).map(|_| Held::begin(shop, WEB4)).collect::<Result<_>>()?;
    let before = counts(shop)?;
    let refusals = counter(shop, "weft_request_outcomes_total", &[("outcome", reason)])?;
    // at once: the others are still under way, since their bodies have not come
    refused(&ask(shop)?, reason)?;
    ensure!(counts(shop)? == before, "{spec}: the servers got more");
    ensure!(counter(shop, "weft_request_outcomes_total", &[("outcome", reason)])? == refusals + 1);
    held.into_iter().try_for_each(Held::end)?;
    let answers = sequence(shop, &get(), 20)?;
    ensure!(
        answers.iter().all(|who| who.starts_with("web-")),
        "{spec}: {:?}",
        tally(&answers)
    );
    Ok(())
}

#[test]
fn requests_of_the_service_and_of_each_endpoint() {
    captured(|shop| {
        reaches(shop, "limits: {maxRequests: 2}", 2, "max_requests")?;
        reaches(
            shop,
            "limits: {maxRequestsPerEndpoint: 1}",
            3,
            "max_requests_per_endpoint",
        )
    });
}

#[test]
fn connections_of_the_service_and_of_each_endpoint() {
    captured(|shop| {
        reaches(shop, "limits: {maxConnections: 4}", 4, "max_connections")?;
        reaches(
            shop,
            "limits: {maxConnectionsPerEndpoint: 1}",
            3,
            "max_connections_per_endpoint",
        )
    });
}

/// Each endpoint is looked at, and none is dialled.
#[test]
fn a_request_that_no_connection_is_allowed_for_was_tried_nowhere() {
    let options = DaemonOptions {
        extra: vec!["--access-log".to_owned()],
        ..DaemonOptions::default()
    };
    tell(Shop::captured_with(Options::default(), &options), |shop| {
        obey(shop, &["limits: {maxConnections: 1}"])?;
        let held = Held::begin(shop, WEB4)?;
        refused(&ask(shop)?, "max_connections")?;
        let line = logged(shop, "outcome", &json!("max_connections"))?;
        ensure!(line["attempts"] == 0 && line["endpoint"].is_null(), "{line:#}");
        held.end()?;
        let line = logged(shop, "method", &json!("POST"))?;
        ensure!(line["attempts"] == 1 && line["endpoint"].is_string(), "{line:#}");
        Ok(())
    });
}

/// A connection that has served its request is not in the way of the next one, whichever worker that is of.
#[test]
fn one_connection_is_enough_for_one_request_at_a_time() {
    one_server(|shop| {
        for version in [Version::Http1, Version::Http2] {
            obey(shop, &["limits: {maxConnections: 1}"])?;
            let answers = sequence(shop, &Load::fresh(version, WEB4), 60)?;
            ensure!(
                tally(&answers).keys().eq(["web-1"].iter()),
                "{version:?}: {:?}",
                tally(&answers)
            );
        }
        Ok(())
    });
}

#[test]
fn a_limit_that_goes_lets_everything_through() {
    one_server(|shop| {
        obey(shop, &["limits: {maxRequests: 1}"])?;
        let held = Held::begin(shop, WEB4)?;
        refused(&ask(shop)?, "max_requests")?;
        obey(shop, &["limits: {maxRequests: 2}"])?;
        is_servers(&ask(shop)?, 200)?;
        obey(shop, &["limits: {maxRequests: 1}"])?;
        refused(&ask(shop)?, "max_requests")?;
        super::forget(shop)?;
        is_servers(&ask(shop)?, 200)?;
        held.end()
    });
}

/// Connections that idle for the next request of whoever they are of leave room for others.
#[test]
fn idle_connections_are_not_in_the_way() {
    one_server(|shop| {
        // idle ones of both workers, and of another family
        sequence(shop, &get(), 30)?;
        obey(shop, &["limits: {maxConnections: 1}"])?;
        for version in [Version::Http1, Version::Http2] {
            let answers = sequence(shop, &Load::fresh(version, WEB4), 60)?;
            ensure!(
                tally(&answers).keys().eq(["web-1"].iter()),
                "{version:?}: {:?}",
                tally(&answers)
            );
        }
        Ok(())
    });
}
