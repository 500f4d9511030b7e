//! One of three servers goes bad under a fixed rate of requests: what a committed policy makes of that, and what happens without one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    pace::{Pace, Running, Samples, WINDOW},
    shop::{Shop, WEB4},
};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{counter, obeyed, wait_counter};
use crate::{captured, report};

/// What users may apply as it stands.
const POLICY: &str = include_str!("../../../policies/resilient.yaml");
/// The windows whose p99 is that of before, after one to warm up.
const WINDOWS_BEFORE: u32 = 7;
/// Windows in a row that are as before: one alone may be luck.
const WINDOWS_AFTER: usize = 2;

fn hundred_a_second() -> Pace {
    Pace {
        load: Load::reused(Version::Http1, WEB4),
        every: Duration::from_millis(10),
        patience: Duration::from_secs(10),
    }
}

fn apply(shop: &Shop, policy: &str) -> Result<()> {
    shop.objects.apply(policy)?;
    obeyed(shop, "policy shop/web generation=1 ")
}

fn stop(shop: &Shop, name: &str) -> Result<()> {
    let process = shop.server(name)?.process.as_ref().context("no process")?;
    process.signal(Signal::SIGSTOP);
    Ok(())
}

/// The usual p99 of a running load.
fn p99_before(running: &Running) -> Result<Duration> {
    let from = running.now() + WINDOW;
    let windows = wait_for("the time before", HANG_GUARD, || {
        let windows = running.samples().windows(from, running.now());
        Ok((windows.len() >= WINDOWS_BEFORE as usize).then_some(windows))
    })?;
    median(windows)
}

fn median(mut times: Vec<Duration>) -> Result<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("no windows")
}

/// How long after `since` the p99 is for good at most half above what it was before.
fn recovery(running: &Running, since: Duration, before: Duration) -> Result<Duration> {
    wait_for("the p99 of before", HANG_GUARD, || {
        let windows = running.samples().windows(since, running.now());
        let is_as_before = |p99: &Duration| *p99 * 2 <= before * 3;
        let mut rows = windows.windows(WINDOWS_AFTER);
        let first = rows.position(|row| row.iter().all(is_as_before));
        first
            .map(|first| anyhow::Ok(WINDOW * u32::try_from(first)?))
            .transpose()
            .with_context(|| format!("before {before:?}, since then {windows:?}"))
    })
}

/// One of the servers goes bad: nobody notices, but for some time.
fn is_survived(what: &str, fault: impl Fn(&Shop) -> Result<()>) {
    captured(|shop| {
        apply(shop, POLICY)?;
        let running = Running::start(&shop.client.netns, hundred_a_second())?;
        let before = p99_before(&running)?;
        let since = running.now();
        fault(shop)?;
        wait_counter(shop, "weft_retries_total", &[("result", "sent")], 1)?;
        let recovery = recovery(&running, since, before)?;
        let samples = running.stop()?;
        let metrics = shop.metrics()?;
        let told = |name, label| metrics.by(name, label, &[]);
        ensure!(
            samples.errors().is_empty(),
            "{what}: {:?}; retries {:?} after {:?}; ejections {:?}",
            samples.errors(),
            told("weft_retries_total", "result"),
            told("weft_retries_total", "reason"),
            told("weft_ejections_total", "reason")
        );
        ensure!(counter(shop, "weft_retries_total", &[("result", "budget_exhausted")])? == 0);
        report(&format!("{what}: the p99 of before"), before);
        report(&format!("{what}: until it was back"), recovery);
        Ok(())
    });
}

#[test]
fn a_server_that_hangs_costs_no_client_an_error() {
    is_survived("a server that hangs", |shop| stop(shop, "web-2"));
}

#[test]
fn a_server_that_breaks_off_costs_no_client_an_error() {
    is_survived("a server that breaks off", |shop| {
        shop.behave("web-2", &json!({"reset": true}))
    });
}

#[test]
fn a_server_that_answers_500_costs_no_client_an_error() {
    is_survived("a server that answers 500", |shop| {
        shop.behave("web-2", &json!({"status": 500}))
    });
}

/// Waits until every request that was due within so many windows from `since` has ended.
fn ended(running: &Running, since: Duration, windows: usize) -> Result<Samples> {
    wait_for("the end of the requests", HANG_GUARD, || {
        let samples = running.samples();
        let is_over = samples.windows(since, running.now()).len() >= windows;
        Ok(is_over.then_some(samples))
    })
}

/// The same with a budget for one retry in an hour, and with turns, so that the bad server is asked until its breaker opens.
fn has_no_budget(error: &str, outcome: (&str, &str), reason: &str, fault: impl Fn(&Shop) -> Result<()>) {
    captured(|shop| {
        let budget = "retry:\n    budget: {percent: 0, interval: 1h, minRetryRate: {count: 1, interval: 1h}}";
        let policy = POLICY.replace("PeakEwma", "RoundRobin").replace("retry:", budget);
        apply(shop, &policy)?;
        let running = Running::start(&shop.client.netns, hundred_a_second())?;
        let since = running.now();
        fault(shop)?;
        wait_counter(shop, "weft_ejections_total", &[("reason", reason)], 1)?;
        ended(&running, since, 4)?;
        let samples = running.stop()?;
        let errors = samples.errors();
        ensure!(errors.iter().all(|own| *own == error), "{errors:?}");
        ensure!(
            errors.len() >= 4,
            "five failures open the breaker, one of them was retried: {errors:?}"
        );
        let counted = counter(
            shop,
            "weft_retries_total",
            &[("result", "budget_exhausted"), ("reason", reason)],
        )?;
        ensure!(counted == errors.len() as u64, "{counted} of {}", errors.len());
        ensure!(counter(shop, "weft_retries_total", &[("result", "sent")])? == 1);
        let counted = counter(shop, outcome.0, &[("code", outcome.1)])?;
        ensure!(counted == errors.len() as u64, "{counted} of {}", errors.len());
        Ok(())
    });
}

#[test]
fn without_budget_the_errors_of_a_server_that_hangs_are_counted_by_reason() {
    has_no_budget("504 timeout", ("weft_requests_total", "504"), "timeout", |shop| {
        stop(shop, "web-2")
    });
}

#[test]
fn without_budget_the_errors_of_a_server_that_answers_500_are_counted_by_reason() {
    has_no_budget("500", ("weft_requests_total", "500"), "5xx", |shop| {
        shop.behave("web-2", &json!({"status": 500}))
    });
}

#[test]
fn without_budget_the_errors_of_a_server_that_breaks_off_are_counted_by_reason() {
    has_no_budget("502 upstream_reset", ("weft_requests_total", "502"), "reset", |shop| {
        shop.behave("web-2", &json!({"reset": true}))
    });
}

/// Without a policy a third of the requests waits for the server that hangs, as long as the client does.
#[test]
fn without_a_policy_requests_hang_with_their_server() {
    captured(|shop| {
        let pace = Pace {
            every: Duration::from_millis(20),
            patience: Duration::from_secs(2),
            ..hundred_a_second()
        };
        let running = Running::start(&shop.client.netns, pace)?;
        p99_before(&running)?;
        stop(shop, "web-2")?;
        let since = running.now();
        ended(&running, since, 2)?;
        let samples = running.stop()?;
        let errors = samples.errors();
        ensure!(errors.iter().all(|error| *error == "no answer within 2s"), "{errors:?}");
        // 50 requests in two windows, and a third of them theirs
        ensure!(errors.len() >= 10, "{}", errors.len());
        Ok(())
    });
}
