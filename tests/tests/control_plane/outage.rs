//! The API server is gone for a while, comes back, and has forgotten: traffic does not notice, and nobody storms it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    kubernetes::{
        chaos::{Effect, Rule},
        shop::{CHAOS_NODE, ClusterShop},
    },
    shop::{NAMESPACE, WEB4},
};

use crate::{LISTS, Loads, WATCHES, captured, generation, relists, report, say, watches_up};

/// How long the server is gone.
const OUTAGE: Duration = Duration::from_secs(60);
/// Guard of waits that may last as long as the longest pause between two attempts, and then some.
const BACKOFF_GUARD: Duration = Duration::from_secs(60);
/// A stretch of time in which requests are counted.
const STRETCH: Duration = Duration::from_secs(10);
/// Most requests of one daemon in [`STRETCH`], whatever happens: seven watches whose pauses grow from half a second on average.
const REQUESTS_MAX: usize = 70;
/// Most requests of one daemon in [`STRETCH`] once the pauses have grown: some six attempts, or seven lists and watches when the server is back.
const LATE_REQUESTS_MAX: usize = 28;
/// After this time the pauses have grown.
const GROWN_AFTER: Duration = Duration::from_secs(30);

/// The snapshots' numbers on both nodes.
fn generations(shop: &mut ClusterShop) -> Result<[f64; 2]> {
    Ok([
        generation(&shop.daemon(0)?.metrics()?),
        generation(&shop.daemon(1)?.metrics()?),
    ])
}

/// Waits until the watches of both nodes stand.
fn wait_up(shop: &mut ClusterShop) -> Result<()> {
    for node in [0, 1] {
        let daemon = shop.daemon(node)?;
        wait_for("the watches", BACKOFF_GUARD, || {
            Ok((watches_up(&daemon.metrics()?) == WATCHES).then_some(()))
        })
        .with_context(|| format!("of node {}", node + 1))?;
    }
    Ok(())
}

#[test]
fn a_minute_without_api_server_and_history_loses_no_request_and_no_endpoint() {
    captured(|shop| {
        wait_up(shop)?;
        let (generations_before, metrics_before) = (generations(shop)?, shop.metrics()?);
        let loads = Loads::start(shop)?;
        // the history that is forgotten must be one that the daemons have not seen
        shop.objects.plane.kubectl(&["create", "configmap", "history"])?;
        let start = Instant::now();
        shop.objects.plane.stop_api_server();
        wait_for("daemons that know", HANG_GUARD, || {
            Ok((watches_up(&shop.metrics()?) == 0.0).then_some(()))
        })?;
        report("API server killed to noticed by both daemons", start.elapsed());
        // the minute itself is what is tried: every look during it must find the endpoints as they were
        wait_for("the end of the minute", 2 * OUTAGE, || {
            ensure_same(generations(shop)?, generations_before)?;
            Ok((start.elapsed() >= OUTAGE).then_some(()))
        })?;
        shop.objects.plane.compact_history()?;
        shop.objects.plane.start_api_server()?;
        let back = Instant::now();
        wait_up(shop)?;
        report("API server back to all watches of both daemons", back.elapsed());
        let since = shop.metrics()?.since(&metrics_before);
        say(&format!("lists begun again, of ten: {}", relists(&since)));
        ensure!(relists(&since) > 0.0, "no history was gone: the test proves nothing");
        ensure_same(generations(shop)?, generations_before)?;
        let sent = loads.all_answered()?;
        say(&format!("requests answered meanwhile: {sent}"));
        no_storm(shop, start)?;
        // and it is alive
        shop.objects
            .plane
            .kubectl(&["label", "namespace", NAMESPACE, "weft.mesh/capture-"])?;
        shop.wait_captured(false)
    });
}

fn ensure_same(now: [f64; 2], before: [f64; 2]) -> Result<()> {
    ensure!(now == before, "the snapshots were {before:?} and are {now:?}");
    Ok(())
}

fn no_storm(shop: &ClusterShop, start: Instant) -> Result<()> {
    let log = shop.objects.chaos.log();
    let (busiest, late) = (log.busiest(start, STRETCH), log.busiest(start + GROWN_AFTER, STRETCH));
    let total = log.since(start).len();
    say(&format!(
        "requests of one daemon: {total} in all, {busiest} in the busiest 10 s, {late} after 30 s"
    ));
    ensure!(busiest <= REQUESTS_MAX, "{busiest} requests came within {STRETCH:?}");
    ensure!(
        late <= LATE_REQUESTS_MAX,
        "{late} requests came within {STRETCH:?} though the server failed for long"
    );
    Ok(())
}

#[test]
fn what_changed_meanwhile_is_caught_up_with_at_once_and_whole() {
    captured(|shop| {
        let loads = Loads::start(shop)?;
        let before = shop.daemon(CHAOS_NODE)?.metrics()?;
        shop.objects.chaos.refuse();
        wait_for("a daemon that knows", HANG_GUARD, || {
            Ok((watches_up(&shop.daemon(CHAOS_NODE)?.metrics()?) == 0.0).then_some(()))
        })?;
        // one server more and one fewer, unseen; the one that goes still runs, so that only its endpoint is gone
        let new = shop.add_server(1)?;
        let gone = "web-1";
        let ips = shop.server(gone)?.pod.ips();
        if let Some(web) = shop.services.get_mut("web") {
            web.endpoints.retain(|ip| !ips.contains(ip));
        }
        shop.objects.delete_pod(gone)?;
        shop.publish()?;
        shop.objects.plane.stop_api_server();
        shop.objects.plane.compact_history()?;
        shop.objects.plane.start_api_server()?;
        let unseen = shop.daemon(CHAOS_NODE)?.metrics()?;
        ensure!(
            generation(&unseen) == generation(&before),
            "it published without having seen anything"
        );
        shop.objects.chaos.clear();
        let start = Instant::now();
        let load = Load::fresh(Version::Http1, WEB4);
        wait_for("the new endpoint and not the old one", BACKOFF_GUARD, || {
            let tally = shop.send(&load, 12)?;
            Ok((tally.by_body.contains_key(&new) && !tally.by_body.contains_key(gone)).then_some(()))
        })?;
        report("server back to the endpoints that changed meanwhile", start.elapsed());
        let relists = relists(&shop.daemon(CHAOS_NODE)?.metrics()?.since(&before));
        ensure!(relists > 0.0, "nothing was listed again: the test proves nothing");
        loads.all_answered().map(drop)
    });
}

#[test]
fn a_history_that_is_gone_in_the_middle_of_a_watch_is_listed_again_without_a_flap() {
    captured(|shop| {
        wait_up(shop)?;
        let loads = Loads::start(shop)?;
        let (before, published) = (shop.daemon(CHAOS_NODE)?.metrics()?, generations(shop)?);
        let start = Instant::now();
        shop.objects.chaos.expire_watches();
        wait_for("every list", BACKOFF_GUARD, || {
            let now = shop.daemon(CHAOS_NODE)?.metrics()?;
            Ok((relists(&now.since(&before)) >= LISTS && watches_up(&now) == WATCHES).then_some(()))
        })?;
        report("410 in every watch to all watches again", start.elapsed());
        ensure_same(generations(shop)?, published)?;
        // the same as an answer to the request itself, twice
        shop.objects.chaos.set([Rule::all(Effect::Gone).watches().times(12)]);
        shop.objects.chaos.close_watches();
        wait_for("the watches", BACKOFF_GUARD, || {
            let now = shop.daemon(CHAOS_NODE)?.metrics()?;
            Ok((relists(&now.since(&before)) >= 2.0 * LISTS && watches_up(&now) == WATCHES).then_some(()))
        })?;
        shop.objects.chaos.clear();
        ensure_same(generations(shop)?, published)?;
        no_storm(shop, start)?;
        loads.all_answered().map(drop)
    });
}

#[test]
fn a_server_that_closes_and_resets_everything_is_not_stormed() {
    captured(|shop| {
        wait_up(shop)?;
        let loads = Loads::start(shop)?;
        let published = generations(shop)?;
        let start = Instant::now();
        let log = shop.objects.chaos.log().clone();
        while start.elapsed() < STRETCH {
            let asked = log.requests().len();
            shop.objects.chaos.close_watches();
            shop.objects.chaos.reset_connections();
            wait_for("another request", BACKOFF_GUARD, || {
                Ok((log.requests().len() > asked).then_some(()))
            })?;
        }
        no_storm(shop, start)?;
        wait_up(shop)?;
        ensure_same(generations(shop)?, published)?;
        loads.all_answered().map(drop)
    });
}
