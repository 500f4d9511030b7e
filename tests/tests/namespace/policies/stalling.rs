//! Clients that stall: what that does to others.

use std::{
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use hyper::Method;
use mesh_tests::{
    client::{self, Load, Version},
    shop::{Shop, WEB4},
    tcp,
};
use serde_json::json;

use super::{ask, counter, get, is_servers, obey, one_server, refused, sequence, wait_counter};
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
