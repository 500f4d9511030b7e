//! The words of `failureOn` and `retryOn`: each one has its failure, and no other word has it too. And the words by which attempts are counted.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Load},
    daemon::HANG_GUARD,
    metrics::Metrics,
    shop::{ECHO_PORT, SERVICE_V4, Shop, WEB4, to_count},
    tcp,
};
use serde_json::{Value, json};

use super::{WELL, ask_counted, counter, forget, get, obey, one_server};

/// Attempts by how they ended.
const ATTEMPTS: &str = "weft_upstream_requests_total";
/// How long they took.
const DURATIONS: &str = "weft_upstream_duration_seconds";

/// A failure and the words that cover it.
struct Failure {
    words: &'static [&'static str],
    behaviour: Value,
    is_grpc: bool,
    /// The word by which it is counted.
    result: &'static str,
}

const ALL: [&str; 10] = [
    "connect-failure",
    "reset",
    "timeout",
    "5xx",
    "gateway-error",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "internal",
    "unavailable",
];

/// Every failure but that to connect.
fn failures() -> Vec<Failure> {
    let http = |words, behaviour, result| Failure {
        words,
        behaviour,
        is_grpc: false,
        result,
    };
    let call = |words, status| Failure {
        words,
        behaviour: json!({"grpc_status": status}),
        is_grpc: true,
        result: "grpc_error",
    };
    vec![
        http(&["reset"], json!({"reset": true}), "reset"),
        http(&["timeout"], json!({"delay_ms": 3000}), "timeout"),
        http(&["5xx"], json!({"status": 501}), "5xx"),
        http(&["5xx", "gateway-error"], json!({"status": 502}), "5xx"),
        http(&["5xx", "gateway-error"], json!({"status": 503}), "5xx"),
        http(&["5xx", "gateway-error"], json!({"status": 504}), "5xx"),
        call(&["cancelled"], 1),
        call(&["deadline-exceeded"], 4),
        call(&["resource-exhausted"], 8),
        call(&["internal"], 13),
        call(&["unavailable"], 14),
    ]
}

/// Statuses of calls behind a message: too late for a retry, and not for a breaker.
fn failures_in_trailers() -> Vec<Failure> {
    let calls = failures().into_iter().filter(|failure| failure.is_grpc);
    calls
        .map(|mut failure| {
            failure.behaviour["grpc_message"] = true.into();
            failure
        })
        .collect()
}

impl Failure {
    fn load(&self) -> Load {
        if self.is_grpc { Load::grpc(WEB4) } else { get() }
    }

    /// The time of an attempt that a server which takes its time exceeds.
    fn timeout(&self) -> &'static str {
        if self.words == ["timeout"] {
            "timeout: {backendRequest: 100ms}"
        } else {
            "timeout: {backendRequest: 20s}"
        }
    }

    fn others(&self) -> String {
        let others: Vec<_> = ALL.into_iter().filter(|word| !self.words.contains(word)).collect();
        others.join(", ")
    }
}

#[test]
fn of_failure_on() {
    one_server(|shop| {
        let breaker =
            |words: &str| format!("circuitBreaker: {{failureThreshold: 1, timeout: 1h, failureOn: [{words}]}}");
        for failure in failures().into_iter().chain(failures_in_trailers()) {
            shop.behave("web-1", &failure.behaviour)?;
            obey(shop, &[&breaker(&failure.others()), failure.timeout()])?;
            let asked = || Ok::<_, anyhow::Error>(ask_counted(shop, &failure.load())?.1);
            let served = asked()? + asked()?;
            ensure!(
                served == 2,
                "{}: it opens for [{}]",
                failure.behaviour,
                failure.others()
            );
            for word in failure.words {
                forget(shop)?;
                obey(shop, &[&breaker(word), failure.timeout()])?;
                let served = (asked()?, asked()?);
                ensure!(served == (1, 0), "{} and {word}: {served:?}", failure.behaviour);
            }
            forget(shop)?;
        }
        shop.kill_server("web-1");
        for (words, reason) in [
            ("reset, timeout, 5xx", "connect_failed"),
            ("connect-failure", "circuit_open"),
        ] {
            obey(shop, &[&breaker(words)])?;
            client::ask(&shop.client.netns, &get())?;
            let answer = client::ask(&shop.client.netns, &get())?;
            ensure!(answer.header(super::REASON) == reason, "[{words}]: {answer:?}");
        }
        Ok(())
    });
}

#[test]
fn of_retry_on() {
    one_server(|shop| {
        let retry =
            |words: &str| format!("retry: {{attempts: 1, backoff: 0s, retryOn: [{words}], budget: {{percent: 100}}}}");
        for failure in failures() {
            shop.behave("web-1", &failure.behaviour)?;
            obey(shop, &[&retry(&failure.others()), failure.timeout()])?;
            let before = shop.metrics()?;
            let (answer, served) = ask_counted(shop, &failure.load())?;
            ensure!(served == 1, "{}: [{}]: {answer:?}", failure.behaviour, failure.others());
            counts(shop, &before, "80", &[(failure.result, 1)])?;
            for word in failure.words {
                obey(shop, &[&retry(word), failure.timeout()])?;
                let before = shop.metrics()?;
                let (answer, served) = ask_counted(shop, &failure.load())?;
                ensure!(served == 2, "{} and {word}: {served} {answer:?}", failure.behaviour);
                counts(shop, &before, "80", &[(failure.result, 2)])?;
            }
        }
        shop.behave("web-1", &WELL())?;
        shop.kill_server("web-1");
        for (words, dials) in [("reset, timeout, 5xx", 1), ("connect-failure", 2)] {
            obey(shop, &[&retry(words)])?;
            let made = dialled(shop, || client::ask(&shop.client.netns, &get()))?;
            ensure!(made == dials, "[{words}]: {made} dials");
        }
        Ok(())
    });
}

/// Dials that failed meanwhile.
fn dialled<T>(shop: &Shop, work: impl FnOnce() -> Result<T>) -> Result<u64> {
    let count = || counter(shop, "weft_upstream_requests_total", &[("result", "connect_failure")]);
    let before = count()?;
    work()?;
    count()?.checked_sub(before).context("a counter went back")
}

/// Waits until these attempts were counted since, and no others: an answer's end is counted when its last byte has passed, which the client may see earlier.
fn counts(shop: &Shop, before: &Metrics, port: &str, expected: &[(&str, u64)]) -> Result<()> {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(word, count)| ((*word).to_owned(), *count))
        .collect();
    wait_for(&format!("attempts counted as {expected:?}"), HANG_GUARD, || {
        let since = shop.metrics()?.since(before);
        let found = since.by(
            ATTEMPTS,
            "result",
            &[("upstream_service", "web"), ("upstream_port", port)],
        );
        let found = found.into_iter().map(|(word, count)| (word, to_count(count)));
        let found: BTreeMap<_, _> = found.filter(|(_, count)| *count > 0).collect();
        ensure!(found == expected, "they are {found:?}");
        Ok(Some(()))
    })
}

#[test]
fn of_what_is_counted() {
    one_server(|shop| {
        for (behaviour, status, word) in [
            (WELL(), 200, "2xx"),
            (json!({"status": 204}), 204, "2xx"),
            (json!({"status": 304}), 304, "3xx"),
            (json!({"status": 404}), 404, "4xx"),
            (json!({"status": 500}), 500, "5xx"),
        ] {
            shop.behave("web-1", &behaviour)?;
            let before = shop.metrics()?;
            let answer = client::ask(&shop.client.netns, &get())?;
            ensure!(answer.status == status, "{behaviour}: {answer:?}");
            counts(shop, &before, "80", &[(word, 1)])?;
        }
        shop.behave("web-1", &WELL())?;
        let before = shop.metrics()?;
        let call = client::ask(&shop.client.netns, &Load::grpc(WEB4))?;
        ensure!(call.grpc_status() == Some(0), "{call:?}");
        counts(shop, &before, "80", &[("2xx", 1)])
    });
}

#[test]
fn the_time_of_an_attempt_is_at_least_the_servers_and_that_of_bytes_is_none() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"delay_ms": 300}))?;
        let before = shop.metrics()?;
        client::ask(&shop.client.netns, &get())?;
        counts(shop, &before, "80", &[("2xx", 1)])?;
        let mut bytes = tcp::connect(&shop.client.netns, (SERVICE_V4, ECHO_PORT).into())?;
        ensure!(tcp::echo(&mut bytes, b"no HTTP")? == b"no HTTP");
        counts(shop, &before, "9000", &[("connected", 1)])?;
        let since = shop.metrics()?.since(&before);
        let observed = to_count(since.sum(&format!("{DURATIONS}_count"), &[]));
        ensure!(observed == 1, "{observed} times are observed");
        let took = since.sum(&format!("{DURATIONS}_sum"), &[("upstream_port", "80")]);
        ensure!(took >= 0.3, "it took {took} s");
        Ok(())
    });
}
