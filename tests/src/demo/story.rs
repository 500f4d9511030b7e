//! The story itself, step by step, and what must be true after each.

use anyhow::{Result, ensure};

use super::{
    Clock, REQUESTS_PER_ROW, keep,
    row::{Row, head},
};
use crate::{
    bench::{Options, wait_for},
    client::{Load, Version},
    daemon::{DaemonOptions, HANG_GUARD, WORKERS},
    shop::{Shop, WEB4, captured_connections},
};

/// The server that is killed, and its node is the one that the client is not on.
const VICTIM: &str = "web-5";

/// How to read the table.
const LEGEND: &str = "\
Rows from \"daemon metrics\" show what the daemon measured itself (p50 and p99 estimated from its histogram), the others what the client
measured; the client's own figures stand in every row, for comparison. A debug build on a shared machine: not a benchmark.
\"one server killed\": its endpoint stays listed as ready, so its turns go to the next endpoint.";

/// Tells the story and hands back its world.
///
/// # Errors
/// If something is not as it should be: the text says what.
pub(super) fn tell(clock: &Clock) -> Result<Shop> {
    println!(
        "Two nodes, a client, a Service of three servers, a mesh daemon on each node; {REQUESTS_PER_ROW} requests for each row.\n"
    );
    let mut shop = Shop::open(
        Options {
            run: keep::run(),
            ..Options::default()
        },
        &[0, 1, 1],
    )?;
    match steps(&mut shop, clock) {
        Ok(()) => Ok(shop),
        Err(error) => {
            shop.bench.show_logs();
            Err(error)
        }
    }
}

fn steps(shop: &mut Shop, clock: &Clock) -> Result<()> {
    shop.start_daemons(&DaemonOptions::default())?;
    println!("{LEGEND}\n");
    println!("{}", head());
    uncaptured(shop, clock, "not captured")?;
    shop.capture()?;
    captured(shop, clock, "captured", &["web-1", "web-2", "web-3"])?;
    scale(shop)?;
    captured(
        shop,
        clock,
        "scaled to five",
        &["web-1", "web-2", "web-3", "web-4", "web-5"],
    )?;
    shop.kill_server(VICTIM);
    captured(shop, clock, "one server killed", &["web-1", "web-2", "web-3", "web-4"])?;
    // without the mesh every fifth connection would be refused, for its manifest still names it
    shop.start_server(VICTIM)?;
    shop.release()?;
    uncaptured(shop, clock, "label removed")
}

/// Two more servers, one on each node; done when the client has met both.
fn scale(shop: &mut Shop) -> Result<()> {
    let new = [shop.add_server(0)?, shop.add_server(1)?];
    shop.publish()?;
    let load = Load::fresh(Version::Http1, WEB4);
    wait_for("an answer of both new servers", HANG_GUARD, || {
        let tally = shop.send(&load, 10)?;
        Ok(new.iter().all(|name| tally.by_body.contains_key(name)).then_some(()))
    })
}

/// A row of what the client saw, while no daemon saw anything.
fn uncaptured(shop: &Shop, clock: &Clock, step: &'static str) -> Result<()> {
    let before = shop.metrics()?;
    let tally = shop.send(&Load::fresh(Version::Http1, WEB4), REQUESTS_PER_ROW)?;
    let since = shop.metrics()?.since(&before);
    let row = Row::of_client(step, &tally, &since);
    print(shop, clock, &row);
    ensure!(
        row.failed == 0,
        "{step}: {} requests failed: {:?}",
        row.failed,
        tally.errors
    );
    ensure!(
        row.seen == 0,
        "{step}: a daemon counted {} requests, it should have seen nothing",
        row.seen
    );
    let connections = captured_connections(&since);
    ensure!(
        connections == 0.0,
        "{step}: {connections} connections were captured, none should have been"
    );
    Ok(())
}

/// A row of what the daemons counted, compared with what the client saw.
fn captured(shop: &Shop, clock: &Clock, step: &'static str, pods: &[&str]) -> Result<()> {
    let before = shop.metrics()?;
    let tally = shop.send(&Load::fresh(Version::Http1, WEB4), REQUESTS_PER_ROW)?;
    let since = shop.counted_since(&before, REQUESTS_PER_ROW)?;
    let row = Row::of_daemon(step, &tally, &since);
    print(shop, clock, &row);
    ensure!(
        tally.failed == 0,
        "{step}: {} requests failed: {:?}",
        tally.failed,
        tally.errors
    );
    ensure!(
        row.failed == 0,
        "{step}: the daemon counted {} failed requests, the client none",
        row.failed
    );
    ensure!(
        row.requests == REQUESTS_PER_ROW,
        "{step}: the daemon counted {} requests, the client sent {REQUESTS_PER_ROW}",
        row.requests
    );
    ensure!(
        row.spread == tally.by_body,
        "{step}: the daemon counted {:?}, the client saw {:?}",
        row.spread,
        tally.by_body
    );
    ensure!(
        row.spread.keys().eq(pods.iter()),
        "{step}: answers from {:?}, expected {pods:?}",
        row.spread.keys()
    );
    // where a dead endpoint is passed over, its turn goes to the one that follows it: the spread over the rest is not even
    let even = pods.len() == shop.servers.len();
    ensure!(
        !even || tally.difference() <= u64::from(WORKERS),
        "{step}: the spread is uneven: {:?}",
        row.spread
    );
    Ok(())
}

fn print(shop: &Shop, clock: &Clock, row: &Row) {
    let node_of = |pod: &str| {
        shop.servers
            .get(pod)
            .map_or("?".to_owned(), |server| shop.bench.nodes[server.pod.node].name.clone())
    };
    println!("{}", row.line(node_of));
    clock.row();
}
