//! The words of `failureOn` and `retryOn`: each one has its failure, and no other word has it too.

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    client::{self, Load},
    shop::{Shop, WEB4},
};
use serde_json::{Value, json};

use super::{WELL, ask_counted, counter, forget, get, obey, one_server};

/// A failure and the words that cover it.
struct Failure {
    words: &'static [&'static str],
    behaviour: Value,
    is_grpc: bool,
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
    let http = |words, behaviour| Failure {
        words,
        behaviour,
        is_grpc: false,
    };
    let call = |words, status| Failure {
        words,
        behaviour: json!({"grpc_status": status}),
        is_grpc: true,
    };
    vec![
        http(&["reset"], json!({"reset": true})),
        http(&["timeout"], json!({"delay_ms": 3000})),
        http(&["5xx"], json!({"status": 501})),
        http(&["5xx", "gateway-error"], json!({"status": 502})),
        http(&["5xx", "gateway-error"], json!({"status": 503})),
        http(&["5xx", "gateway-error"], json!({"status": 504})),
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
            let (answer, served) = ask_counted(shop, &failure.load())?;
            ensure!(served == 1, "{}: [{}]: {answer:?}", failure.behaviour, failure.others());
            for word in failure.words {
                obey(shop, &[&retry(word), failure.timeout()])?;
                let (answer, served) = ask_counted(shop, &failure.load())?;
                ensure!(served == 2, "{} and {word}: {served} {answer:?}", failure.behaviour);
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
