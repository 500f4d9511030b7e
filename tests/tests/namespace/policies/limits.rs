//! `limits`: what is beyond one is answered at once, while what is under way goes on.

use std::{io::Write as _, net::TcpStream};

use anyhow::{Context as _, Result, anyhow, ensure};
use mesh_tests::{
    bench::{Options, wait_for},
    client::{self, Load, Version},
    daemon::{DaemonOptions, HANG_GUARD},
    shop::{Shop, WEB4},
    tcp,
};
use serde_json::json;

use super::{Held, ask, counter, counts, get, is_servers, obey, one_server, refused, sequence, tally};
use crate::{
    captured,
    seen::logged,
    switching::{head, switching_server},
    tell,
};

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

/// Retries of whatever fails, as many as are asked for.
const RETRY: &str = "retry: {retryOn: [5xx, reset, timeout], attempts: 3, backoff: 0s, \
                     budget: {percent: 100, minRetryRate: {count: 1000, interval: 1s}}}";

/// The connection of an attempt that is followed by another is not in use any more when that begins, however the attempt ended.
#[test]
fn a_retry_is_not_in_its_own_way() {
    captured(|shop| {
        obey(
            shop,
            &[RETRY, "limits: {maxConnections: 1}", "timeout: {backendRequest: 1s}"],
        )?;
        for behaviour in [
            json!({"status": 500}),
            json!({"reset": true}),
            json!({"delay_ms": 3000}),
        ] {
            shop.behave("web-2", &behaviour)?;
            for version in [Version::Http1, Version::Http2] {
                let answers = sequence(shop, &Load::fresh(version, WEB4), 6)?;
                ensure!(
                    tally(&answers).keys().eq(["web-1", "web-3"].iter()),
                    "{version:?} {behaviour}: {:?}",
                    tally(&answers)
                );
            }
        }
        Ok(())
    });
}

/// Nor is the request that it repeats, where both are asked of one endpoint.
#[test]
fn a_retry_is_not_in_its_own_way_at_the_endpoint() {
    one_server(|shop| {
        obey(
            shop,
            &[
                RETRY,
                "limits: {maxRequestsPerEndpoint: 1, maxConnectionsPerEndpoint: 1}",
            ],
        )?;
        for version in [Version::Http1, Version::Http2] {
            shop.behave("web-1", &json!({"status": 500, "times": 2}))?;
            is_servers(&client::ask(&shop.client.netns, &Load::fresh(version, WEB4))?, 200)?;
        }
        // and it takes no more than what was its own
        let held = Held::begin(shop, WEB4)?;
        refused(&ask(shop)?, "max_requests_per_endpoint")?;
        held.end()
    });
}

/// Where [`switching_server`] listens.
const SWITCH_PORT: u16 = 8092;

/// Asks for another protocol, and hands back what is answered.
fn upgrade(shop: &Shop) -> Result<(TcpStream, String)> {
    let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")?;
    let head = head(&mut stream)?;
    Ok((stream, head))
}

#[test]
fn an_upgraded_connection_counts_to_its_end() {
    one_server(|shop| {
        let server = switching_server(&shop.server("web-1")?.pod.netns, SWITCH_PORT, 2)?;
        let web = shop.services.get_mut("web").context("a shop has its Service")?;
        web.ports[0].target = SWITCH_PORT;
        shop.publish()?;
        obey(shop, &["limits: {maxConnections: 1}"])?;
        let (mut first, head) = upgrade(shop)?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // what carries HTTP has ended on both sides when bytes go to and fro
        ensure!(tcp::echo(&mut first, b"bytes")? == b"bytes");
        let (_, head) = upgrade(shop)?;
        ensure!(
            head.starts_with("HTTP/1.1 503 ") && head.contains("max_connections"),
            "{head}"
        );
        drop(first);
        wait_for("the place to be free", HANG_GUARD, || {
            let (_, head) = upgrade(shop)?;
            Ok(head.starts_with("HTTP/1.1 101 ").then_some(()))
        })?;
        server.join().map_err(|_| anyhow!("the server panicked"))??;
        Ok(())
    });
}
