//! Endpoints that change all the time: the data path is right at the end, changes are merged, memory is bounded.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use mesh_tests::{
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    kubernetes::shop::ClusterShop,
    shop::{HTTP_PORT, NAMESPACE, to_count},
};
use serde_json::{Value, json};

use crate::{Loads, captured, generation, report, say};

/// How long.
const LASTS: Duration = Duration::from_secs(60);
/// Writers, each with a slice of its own.
const WRITERS: usize = 8;
/// Endpoints of a slice; each write changes all of them.
const ENDPOINTS: usize = 10;
/// Pause between a writer's writes: together 1,000 endpoints a second.
const EVERY: Duration = Duration::from_millis(80);
/// Endpoints that should change each second.
const RATE: f64 = 1000.0;
/// Share of the rate that must be reached, or nothing was tried.
const RATE_SHARE_MIN: f64 = 0.5;
/// The Service's address.
const ADDRESS: &str = "10.96.0.50";
/// Most snapshots for each write: those that come within 10 ms of each other are merged, and each changes ten endpoints.
const SNAPSHOTS_SHARE_MAX: f64 = 0.5;
/// Least time between two snapshots on average, in seconds, whatever is written: twice the daemon's usual `--debounce-after`.
const SNAPSHOT_EVERY_MIN: f64 = 0.02;
/// Most seconds between the last change and its snapshot applied: what waits is merged, so that no queue grows while the churn lasts.
const BEHIND_MAX: f64 = 5.0;
/// KiB by which a daemon's memory may grow.
const GROWS_MAX: u64 = 32 << 10;

fn slice(writer: usize, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("churn-{writer}"),
            "labels": {"kubernetes.io/service-name": "churn", "endpointslice.kubernetes.io/managed-by": "bench"},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": HTTP_PORT, "protocol": "TCP"}],
    })
}

/// A Service without selector, whose slices the test writes.
async fn make(client: Client) -> Result<()> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "churn"},
        "spec": {"clusterIP": ADDRESS, "ports": [{"name": "http", "port": 80, "targetPort": HTTP_PORT}]},
    });
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(client.clone(), NAMESPACE);
    services
        .create(&PostParams::default(), &serde_json::from_value(service)?)
        .await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    for writer in 0..WRITERS {
        slices
            .create(&PostParams::default(), &serde_json::from_value(slice(writer, &[]))?)
            .await?;
    }
    Ok(())
}

/// How the addresses begin that this endpoint of all has, one after the other.
fn prefix(endpoint: usize) -> String {
    format!("10.244.{}.", 100 + endpoint)
}

/// Writes until the time is over; hands back how many endpoints were changed. Addresses that nobody has.
async fn write(client: Client, writer: usize, until: Instant) -> Result<usize> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut changed = 0;
    for round in 0_usize.. {
        if Instant::now() >= until {
            break;
        }
        ticks.tick().await;
        let addresses: Vec<String> = (0..ENDPOINTS)
            .map(|number| format!("{}{}", prefix(writer * ENDPOINTS + number), round % 250 + 1))
            .collect();
        patch(&slices, writer, &addresses).await?;
        changed += ENDPOINTS;
    }
    Ok(changed)
}

async fn patch(slices: &Api<EndpointSlice>, writer: usize, addresses: &[String]) -> Result<()> {
    let name = format!("churn-{writer}");
    slices
        .patch(&name, &PatchParams::default(), &Patch::Merge(&slice(writer, addresses)))
        .await?;
    Ok(())
}

fn churn(shop: &ClusterShop) -> Result<usize> {
    let until = Instant::now() + LASTS;
    let plane = &shop.objects.plane;
    std::thread::scope(|scope| {
        let writers = std::array::from_fn::<_, WRITERS, _>(|writer| {
            scope.spawn(move || plane.with_client(|client| write(client, writer, until)))
        });
        let mut changed = 0;
        for writer in writers {
            changed += writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(changed)
    })
}

/// Leaves one server, and waits until both daemons and the client know.
fn last_word(shop: &mut ClusterShop) -> Result<()> {
    let server = shop.server("web-1")?.pod.v4.to_string();
    shop.objects.plane.with_client(|client| async move {
        let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
        for writer in 1..WRITERS {
            patch(&slices, writer, &[]).await?;
        }
        patch(&slices, 0, &[server]).await
    })?;
    let last = Instant::now();
    for node in [0, 1] {
        let daemon = shop.daemon(node)?;
        wait_for("the last word in the snapshot", HANG_GUARD, || {
            let snapshot = daemon.snapshot()?;
            let left = (0..WRITERS * ENDPOINTS)
                .map(prefix)
                .find(|prefix| snapshot.contains(prefix.as_str()));
            if let Some(left) = left {
                bail!("endpoints in {left}0/24 are left");
            }
            let metrics = daemon.metrics()?;
            let applied = metrics.sum("weft_snapshot_applied_generation", &[]);
            Ok((applied == generation(&metrics)).then_some(()))
        })?;
    }
    report(
        "the last change to both daemons' snapshots, and applied",
        last.elapsed(),
    );
    ensure!(
        last.elapsed().as_secs_f64() < BEHIND_MAX,
        "the daemons were {:?} behind",
        last.elapsed()
    );
    let load = Load::fresh(Version::Http1, format!("{ADDRESS}:80").parse()?);
    let tally = shop.send(&load, 50)?;
    ensure!(
        tally.failed == 0 && tally.by_body.keys().eq(["web-1"]),
        "{:?}: {:?}",
        tally.by_body,
        tally.errors
    );
    Ok(())
}

#[test]
fn a_thousand_endpoints_that_change_each_second_for_a_minute_end_right() {
    captured(|shop| {
        shop.objects.plane.with_client(make)?;
        let loads = Loads::start(shop)?;
        let before = [shop.daemon(0)?.metrics()?, shop.daemon(1)?.metrics()?];
        let usage = |shop: &mut ClusterShop, node| -> Result<(u64, f64)> {
            let process = &shop.daemon(node)?.process;
            Ok((process.status("VmRSS")?, process.cpu_seconds()?))
        };
        let first = [usage(shop, 0)?, usage(shop, 1)?];
        let start = Instant::now();
        let changed = churn(shop)?;
        let took = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of some ten thousand")]
        let rate = changed as f64 / took;
        say(&format!(
            "{changed} endpoint changes in {took:.1} s: {rate:.0} a second of {RATE:.0} that are aimed at, {ENDPOINTS} in each write"
        ));
        last_word(shop)?;
        let sent = loads.all_answered()?;
        say(&format!("{sent} requests to another Service meanwhile, all answered"));
        for node in [0, 1] {
            let snapshots = generation(&shop.daemon(node)?.metrics()?) - generation(&before[node]);
            let (memory, cpu) = usage(shop, node)?;
            let grown = memory.saturating_sub(first[node].0);
            say(&format!(
                "node {}: {} snapshots, {:.1} s of CPU, requests among it, {memory} KiB resident, {grown} more than before",
                node + 1,
                to_count(snapshots),
                cpu - first[node].1
            ));
            #[expect(clippy::cast_precision_loss, reason = "a count of some thousands")]
            let writes = (changed / ENDPOINTS) as f64;
            ensure!(
                snapshots <= writes * SNAPSHOTS_SHARE_MAX,
                "{snapshots} snapshots of {writes} writes"
            );
            ensure!(
                snapshots <= took / SNAPSHOT_EVERY_MIN,
                "{snapshots} snapshots in {took:.1} s: changes are not merged"
            );
            ensure!(grown < GROWS_MAX, "resident memory grew by {grown} KiB");
        }
        ensure!(
            rate >= RATE * RATE_SHARE_MIN,
            "the machine was too slow to try it: {rate:.0} endpoints a second"
        );
        Ok(())
    });
}
