//! A daemon that starts while the API server is away: it serves from the state that it kept and says so, and refuses one that is damaged.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Version},
    daemon::{Daemon, DaemonOptions, HANG_GUARD, HEALTH_ADDR},
    kubernetes::{
        chaos::{Effect, Rule},
        shop::{CHAOS_NODE, ClusterShop},
    },
    shop::WEB4,
};

use crate::{Loads, captured, report, say, wait_saved};

/// Whether a saved state serves.
const FROM_STATE: &str = "weft_snapshot_from_state";
/// Guard of the watches' return: the longest pause between two attempts, and then some.
const BACKOFF_GUARD: std::time::Duration = std::time::Duration::from_secs(60);

/// Kills the daemon once its state is written.
fn kill_saved(shop: &mut ClusterShop) -> Result<()> {
    wait_saved(shop, 0.0)?;
    shop.daemon(CHAOS_NODE)?.process.kill();
    Ok(())
}

#[test]
fn a_restarted_daemon_serves_from_its_state_and_says_so_or_refuses_a_damaged_one() {
    captured(|shop| {
        from_state(shop).context("from the state")?;
        shop.capture()?;
        damaged(shop).context("damaged")
    });
}

/// Without an API server a restarted daemon serves from its state and says so.
fn from_state(shop: &mut ClusterShop) -> Result<()> {
    let node = shop.bench.nodes[CHAOS_NODE].name.clone();
    kill_saved(shop)?;
    shop.objects.plane.stop_api_server();
    let start = Instant::now();
    shop.start_daemon(CHAOS_NODE, &DaemonOptions::default())?;
    report("started without API server to ready from the state", start.elapsed());
    shop.wait_captured(true)?;
    let loads = Loads::start(shop)?;
    let (_, ready) = shop.daemon(CHAOS_NODE)?.get(HEALTH_ADDR, "/readyz?verbose")?;
    ensure!(
        ready.contains("serves the state of") && ready.contains(&node),
        "{ready}"
    );
    say(&format!(
        "/readyz: {}",
        ready
            .lines()
            .find(|line| line.contains("serves the state"))
            .unwrap_or_default()
    ));
    ensure!(shop.daemon(CHAOS_NODE)?.metrics()?.sum(FROM_STATE, &[]) == 1.0);

    shop.objects.plane.start_api_server()?;
    let back = Instant::now();
    let daemon = shop.daemon(CHAOS_NODE)?;
    wait_for("the API server's objects", BACKOFF_GUARD, || {
        Ok((daemon.metrics()?.sum(FROM_STATE, &[]) == 0.0).then_some(()))
    })?;
    report("API server back to its objects in place of the state", back.elapsed());
    let (_, ready) = shop.daemon(CHAOS_NODE)?.get(HEALTH_ADDR, "/readyz?verbose")?;
    ensure!(!ready.contains("serves the state"), "{ready}");
    shop.release()?;
    loads.all_answered().map(drop)
}

/// A damaged state is refused, and traffic flows unmeshed until the lists come.
fn damaged(shop: &mut ClusterShop) -> Result<()> {
    let dir = shop.objects.state_dir(&shop.bench.nodes[CHAOS_NODE].name);
    kill_saved(shop)?;
    let file = fs::read_dir(&dir)?
        .flatten()
        .next()
        .context("no state was written")?
        .path();
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes)?;
    shop.objects.chaos.refuse();
    let daemon = Daemon::spawn(&shop.bench, CHAOS_NODE, &shop.objects, &DaemonOptions::default())?;
    shop.daemons[CHAOS_NODE] = Some(daemon);
    let said = wait_for("words about the state", HANG_GUARD, || {
        let (code, text) = shop.daemon(CHAOS_NODE)?.get(HEALTH_ADDR, "/readyz?verbose")?;
        ensure!(code == 503, "it answers {code}: {text}");
        Ok(text.contains("damaged").then_some(text))
    })?;
    say(&format!(
        "/readyz: {}",
        said.lines().find(|line| line.contains("damaged")).unwrap_or_default()
    ));
    let logged = shop.daemon(CHAOS_NODE)?.process.output();
    ensure!(
        logged.contains(&file.display().to_string()),
        "the log does not name the file"
    );
    client::once(&shop.client.netns, Version::Http1, WEB4, "/")?;
    shop.objects.chaos.clear();
    shop.daemon(CHAOS_NODE)?.wait_ready()?;
    shop.wait_captured(true)
}

#[test]
fn a_kind_that_is_forbidden_is_served_from_the_state_and_keeps_the_daemon_from_being_ready() {
    captured(|shop| {
        kill_saved(shop)?;
        shop.objects
            .chaos
            .set([Rule::all(Effect::Forbidden).of("endpointslices")]);
        let daemon = Daemon::spawn(&shop.bench, CHAOS_NODE, &shop.objects, &DaemonOptions::default())?;
        shop.daemons[CHAOS_NODE] = Some(daemon);
        shop.wait_captured(true)?;
        let loads = Loads::start(shop)?;
        let said = wait_for("the trouble in /readyz", HANG_GUARD, || {
            let (code, text) = shop.daemon(CHAOS_NODE)?.get(HEALTH_ADDR, "/readyz?verbose")?;
            let missing: Vec<_> = ["EndpointSlices", "403", "ClusterRole"]
                .into_iter()
                .filter(|word| !text.contains(word))
                .collect();
            ensure!(
                missing.is_empty(),
                "it answers {code} and does not say {missing:?}: {text}"
            );
            ensure!(code == 503, "it answers {code} though nobody lets it list: {text}");
            Ok(Some(text))
        })?;
        say(&format!(
            "/readyz: {}",
            said.lines().find(|line| line.contains("403")).unwrap_or_default()
        ));
        shop.wait_captured(true)?;
        ensure!(shop.daemon(CHAOS_NODE)?.metrics()?.sum(FROM_STATE, &[]) == 1.0);
        shop.objects.chaos.clear();
        let daemon = shop.daemon(CHAOS_NODE)?;
        wait_for("readiness", BACKOFF_GUARD, || {
            let (code, text) = daemon.get(HEALTH_ADDR, "/readyz?verbose")?;
            ensure!(code == 200, "{text}");
            Ok((daemon.metrics()?.sum(FROM_STATE, &[]) == 0.0).then_some(()))
        })?;
        shop.wait_captured(true)?;
        loads.all_answered().map(drop)
    });
}
