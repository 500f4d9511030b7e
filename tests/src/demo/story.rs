//! The story itself, step by step, and what must be true after each.

mod routing;

use anyhow::Result;

use super::{
    Clock, REQUESTS_PER_ROW, checks, keep, routing as chapter,
    row::{Row, head},
};
use crate::{
    bench::{Options, wait_for},
    client::{Load, Version},
    daemon::{DaemonOptions, HANG_GUARD, WORKERS},
    load::Report,
    shop::{Shop, WEB4},
};

/// The server that is killed, and its node is the one that the client is not on.
const VICTIM: &str = "web-5";

/// How to read the table.
const LEGEND: &str = "\
Rows from \"daemon metrics\" show what the daemon measured itself (p50 and p99 estimated from its histogram), the others what the client
measured; the client's own figures stand in every row, for comparison. A debug build on a shared machine: not a benchmark.
\"one server killed\": its endpoint stays listed as ready; what is sent there is refused, and goes to another at once.
\"breaker opened\": failed are as many as the policy's failureThreshold, and one more for each second that the row takes, a trial; with a retry, none.";

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
    routing::second_version(shop)?;
    chapter::tell(&routing::Namespaces { shop, clock })?;
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
    let report = Report::from(&shop.send(&Load::fresh(Version::Http1, WEB4), REQUESTS_PER_ROW)?);
    let since = shop.metrics()?.since(&before);
    let row = Row::of_client(step, &report, &since);
    print(shop, clock, &row);
    checks::uncaptured(&row, &report, &since)
}

/// A row of what the daemons counted, compared with what the client saw.
fn captured(shop: &Shop, clock: &Clock, step: &'static str, pods: &[&str]) -> Result<()> {
    let before = shop.metrics()?;
    let report = Report::from(&shop.send(&Load::fresh(Version::Http1, WEB4), REQUESTS_PER_ROW)?);
    let since = shop.counted_since(&before, REQUESTS_PER_ROW)?;
    let row = Row::of_daemon(step, &report, &since);
    print(shop, clock, &row);
    checks::captured(&row, &report)?;
    checks::same_spread(&row, &report)?;
    checks::answered_by(&row, pods)?;
    // the turns of a dead endpoint go to any of the others: the spread over these is not even
    if pods.len() == shop.servers.len() {
        checks::even(&row, WORKERS.into())?;
    }
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
