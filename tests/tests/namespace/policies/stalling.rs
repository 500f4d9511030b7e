//! Clients that stall, say nothing, or begin late: what that does to others, and what they are told.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use mesh_tests::{
    bench::wait_for,
    client::{self, Load, Version},
    daemon::HANG_GUARD,
    shop::{Shop, WEB4},
    tcp,
};
use serde_json::{Value, json};

use super::{FOR_EVER, Held, ask, counter, get, is_servers, obey, one_server, refused, sequence, wait_counter};
use crate::captured;

/// One failure opens it.
const BREAKER: &str = "circuitBreaker: {failureThreshold: 1, timeout: 1h}";
/// Heads that announce a body, of which at most a part comes.
const UPLOADS: [&[u8]; 4] = [
    b"PUT / HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\nx",
    b"PUT / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    // the preface, empty SETTINGS, and HEADERS without END_STREAM: `POST /` to `web`
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\
      \x00\x00\x08\x01\x04\x00\x00\x00\x01\x83\x86\x84\x41\x03web",
];
const TIMEOUTS: (&str, &[(&str, &str)]) = ("weft_request_outcomes_total", &[("outcome", "timeout")]);

/// Begins a request, and waits until its time is over.
fn stall(shop: &Shop, upload: &[u8]) -> Result<()> {
    let before = counter(shop, TIMEOUTS.0, TIMEOUTS.1)?;
    let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
    stream.write_all(upload)?;
    wait_counter(shop, TIMEOUTS.0, TIMEOUTS.1, before + 1)?;
    if !upload.starts_with(b"PRI") {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        ensure!(answer == *b"HTTP/1.1 504", "{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// It is neither held against the server that waits for the body, nor tried again.
#[test]
fn uploads_that_stall_eject_nobody() {
    captured(|shop| {
        for timeout in ["timeout: {backendRequest: 250ms}", "timeout: {request: 250ms}"] {
            obey(shop, &[BREAKER, "retry: {attempts: 2}", timeout])?;
            for upload in UPLOADS {
                stall(shop, upload)?;
            }
        }
        let timeouts = [("result", "timeout")];
        ensure!(counter(shop, "weft_upstream_requests_total", &timeouts)? == 0);
        ensure!(counter(shop, "weft_retries_total", &[])? == 0);
        obey(shop, &[BREAKER])?;
        let answers = sequence(shop, &get(), 6)?;
        ensure!(answers.iter().all(|who| who.starts_with("web-")), "{answers:?}");
        Ok(())
    });
}

#[test]
fn a_server_that_has_the_whole_body_and_hangs_is_ejected() {
    one_server(|shop| {
        for version in [Version::Http1, Version::Http2] {
            for retry in ["retry: {attempts: 1}", "retry: {attempts: 0}"] {
                obey(shop, &[BREAKER, retry, "timeout: {backendRequest: 250ms}"])?;
                shop.behave("web-1", &json!({"delay_ms": 60_000}))?;
                let upload = Load::fresh(version, WEB4).method(Method::PUT).body("0123456789");
                client::ask(&shop.client.netns, &upload)?;
                refused(&ask(shop)?, "circuit_open")?;
                super::forget(shop)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_client_that_does_not_read_its_answer_ejects_nobody() {
    const BYTES: usize = 40_000_000;
    const TIME: Duration = Duration::from_secs(1);
    one_server(|shop| {
        obey(shop, &[BREAKER, "timeout: {request: 1s}"])?;
        let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
        write!(
            stream,
            "GET /bytes/{BYTES} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"
        )?;
        // what the client does is to do nothing, for longer than its time
        thread::sleep(2 * TIME);
        let mut read = Vec::new();
        let end = stream.read_to_end(&mut read);
        ensure!(end.is_err() && read.len() < BYTES, "{end:?} after {}", read.len());
        wait_counter(shop, TIMEOUTS.0, TIMEOUTS.1, 1)?;
        obey(shop, &[BREAKER])?;
        is_servers(&ask(shop)?, 200)
    });
}

/// A client connects and says nothing, until a connection to the server was made for it.
fn keep_silent(shop: &Shop) -> Result<TcpStream> {
    let stream = tcp::connect(&shop.client.netns, WEB4)?;
    wait_opaque(shop, 1)?;
    Ok(stream)
}

/// Waits until the client's node has so many connections of which nobody knows that they are HTTP.
fn wait_opaque(shop: &Shop, expected: u64) -> Result<()> {
    let daemon = shop.daemons[0].as_ref().context("no daemon")?;
    wait_for("the connections to be dialled, or gone", HANG_GUARD, || {
        let output = daemon.look(&["endpoints", "shop/web", "-o", "json"])?;
        let view: Value = serde_json::from_slice(&output.stdout)?;
        let endpoint = &view["ports"][0]["endpoints"][0];
        Ok((endpoint["opaqueConnections"] == expected).then_some(()))
    })
}

/// That a server accepts a connection does not end a row of failed answers.
#[test]
fn a_silent_client_does_not_keep_a_breaker_closed() {
    one_server(|shop| {
        obey(
            shop,
            &[&format!("circuitBreaker: {{failureThreshold: 3, timeout: {FOR_EVER}}}")],
        )?;
        shop.behave("web-1", &json!({"status": 500}))?;
        for _ in 0..2 {
            is_servers(&ask(shop)?, 500)?;
            drop(keep_silent(shop)?);
            wait_opaque(shop, 0)?;
        }
        is_servers(&ask(shop)?, 500)?;
        refused(&ask(shop)?, "circuit_open")
    });
}

/// Nor is it a trial, whose place others would wait for.
#[test]
fn a_silent_client_does_not_close_a_breaker_and_takes_no_trials_place() {
    one_server(|shop| {
        let breaker = |timeout| format!("circuitBreaker: {{failureThreshold: 3, timeout: {timeout}}}");
        obey(shop, &[&breaker(FOR_EVER)])?;
        shop.behave("web-1", &json!({"status": 500}))?;
        for _ in 0..3 {
            is_servers(&ask(shop)?, 500)?;
        }
        obey(shop, &[&breaker("1ms")])?;
        let silent = keep_silent(shop)?;
        obey(shop, &[&breaker(FOR_EVER)])?;
        is_servers(&ask(shop)?, 500)?;
        refused(&ask(shop)?, "circuit_open")?;
        drop(silent);
        Ok(())
    });
}

/// Connects, and begins its request later than the daemon waits before it dials.
fn begin_late(shop: &Shop) -> Result<Option<String>> {
    let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
    thread::sleep(Duration::from_millis(150));
    let mut answer = String::new();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    let read = asked.and_then(|()| stream.read_to_string(&mut answer));
    // where the machine stands still for as long as the daemon listens, it is reset
    Ok(read.is_ok().then_some(answer))
}

fn late_is_refused(shop: &Shop, reason: &str) -> Result<()> {
    let answer = wait_for("an answer", HANG_GUARD, || begin_late(shop))?;
    ensure!(
        answer.starts_with("HTTP/1.1 503") && answer.contains(reason),
        "{reason}: {answer}"
    );
    Ok(())
}

/// Whom no endpoint can be had for is told why, also where the first byte takes its time.
#[test]
fn a_client_that_begins_late_is_refused_and_not_reset() {
    one_server(|shop| {
        obey(shop, &["limits: {maxConnections: 1}"])?;
        let held = Held::begin(shop, WEB4)?;
        late_is_refused(shop, "max_connections")?;
        held.end()?;
        obey(shop, &[BREAKER])?;
        shop.behave("web-1", &json!({"status": 500}))?;
        is_servers(&ask(shop)?, 500)?;
        late_is_refused(shop, "circuit_open")?;
        // one that goes on saying nothing is not listened to for ever
        let mut silent = tcp::connect(&shop.client.netns, WEB4)?;
        ensure!(tcp::read_to_end(&mut silent)? == tcp::End::Reset);
        Ok(())
    });
}
