//! Policies that change under load: what is new holds for new requests, and no request is lost.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    client::{Load, Version},
    pace::{Pace, Running},
    shop::{WEB4, WEB6},
};
use serde_json::json;

use super::{Held, ask, obey, one_server, policy};
use crate::captured;

#[test]
fn a_change_holds_for_new_requests_and_leaves_those_under_way_alone() {
    one_server(|shop| {
        obey(shop, &["timeout: {request: 60s}"])?;
        let held = Held::begin(shop, WEB4)?;
        obey(shop, &["timeout: {request: 200ms}", "limits: {maxRequests: 2}"])?;
        shop.behave("web-1", &json!({"delay_ms": 60_000, "times": 1}))?;
        let answer = ask(shop)?;
        ensure!(answer.status == 504, "a new request has the new time: {answer:?}");
        obey(shop, &["limits: {maxRequests: 1}"])?;
        super::refused(&ask(shop)?, "max_requests")?;
        held.end()
    });
}

/// What the policy says in turn: every family, and nothing that a healthy request would notice.
const SPECS: [&str; 7] = [
    "loadBalancer: {type: PeakEwma}",
    "circuitBreaker: {failureThreshold: 3, timeout: 1s}",
    "limits: {maxRequests: 1000, maxConnections: 1000}",
    "retry: {attempts: 2, retryOn: [reset, 5xx]}",
    "timeout: {request: 60s, backendRequest: 30s}",
    "loadBalancer: {type: Maglev, hashKey: {type: SourceAddress}}",
    "loadBalancer: {type: WeightedRoundRobin}",
];
/// Changes in all.
const CHANGES: u32 = 1000;
/// Time from one to the next: a thousand of them take less than a minute.
const EVERY: Duration = Duration::from_millis(50);

#[test]
fn a_thousand_changes_under_load_fail_no_request() {
    captured(|shop| {
        let pace = |version, target| Pace {
            load: Load::reused(version, target),
            every: Duration::from_millis(20),
            patience: Duration::from_secs(10),
        };
        let loads = [(Version::Http1, WEB4), (Version::Http2, WEB6)];
        let running: Vec<_> = loads
            .into_iter()
            .map(|(version, target)| Running::start(&shop.client.netns, pace(version, target)))
            .collect::<Result<_>>()?;
        let daemon = shop.daemons[0].as_ref().context("no daemon")?;
        let applied = || Ok::<_, anyhow::Error>(daemon.metrics()?.sum("weft_snapshot_applied_generation", &[]));
        let (start, before) = (Instant::now(), applied()?);
        for (number, spec) in (0..CHANGES).zip(SPECS.iter().cycle()) {
            // a rate, and no wait for anything
            std::thread::sleep((start + EVERY * number).saturating_duration_since(Instant::now()));
            let (yaml, _) = policy("web", "2026-01-01T00:00:00Z", &[spec]);
            shop.objects.apply(&yaml)?;
        }
        let took = start.elapsed();
        obey(shop, &["timeout: {request: 61s}"])?;
        let snapshots = applied()? - before;
        for running in running {
            let samples = running.stop()?;
            ensure!(samples.errors().is_empty(), "{:?}", samples.errors());
            let _ = writeln!(
                std::io::stderr(),
                "measured: {} requests meanwhile, none failed",
                samples.0.len()
            );
        }
        let rate = 60.0 * f64::from(CHANGES) / took.as_secs_f64();
        let _ = writeln!(
            std::io::stderr(),
            "measured: {CHANGES} changes of a policy, {rate:.0} in a minute, in {snapshots} snapshots"
        );
        ensure!(
            snapshots > 100.0,
            "changes that come together are one, but not all of them: {snapshots}"
        );
        Ok(())
    });
}
