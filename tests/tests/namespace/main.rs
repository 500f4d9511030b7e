//! The namespace ring: a real kernel, nodes and pods as network namespaces, real clients and servers. Needs root and BPF.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test did not expect ends it, while its world is still there to be looked at"
)]

mod attach;
mod bench;
mod capabilities;
mod capture;
mod crash;
mod drain;
mod ear;
mod endpoints;
mod health;
mod labels;
mod maps;
mod neighbours;
mod objects;
mod opaque;
mod path_mtu;
mod policies;
mod protocols;
mod refusals;
mod resources;
mod reuse;
mod routes;
mod seen;
mod source;
mod spine;
mod story;
mod switching;
mod transparency;
mod tunnel;
mod netlink;
mod untouched;

use std::{io::Write, time::Duration};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::Options,
    client::Tally,
    daemon::DaemonOptions,
    shop::{Shop, captured_connections, to_count},
};

/// Runs a story; its world is still there when it fails, so that logs are shown.
fn tell(shop: Result<Shop>, story: impl FnOnce(&mut Shop) -> Result<()>) {
    let mut shop = shop.unwrap_or_else(|error| panic!("the world could not be set up: {error:#}"));
    if let Err(error) = story(&mut shop) {
        panic!("{error:#}");
    }
}

/// The usual shop, captured.
fn captured(story: impl FnOnce(&mut Shop) -> Result<()>) {
    tell(Shop::captured(), story);
}

/// The usual shop, captured, with this way to attach.
fn captured_by(attach: &str, story: impl FnOnce(&mut Shop) -> Result<()>) {
    let daemon = DaemonOptions {
        attach: attach.to_owned(),
        ..DaemonOptions::default()
    };
    tell(Shop::captured_with(Options::default(), &daemon), story);
}

/// The usual shop with daemons, not captured.
fn with_daemons() -> Result<Shop> {
    let mut shop = Shop::usual()?;
    shop.start_daemons(&DaemonOptions::default())?;
    Ok(shop)
}

/// What `work` gives, and how many connections the kernel half handed to daemons meanwhile.
fn counting<T>(shop: &Shop, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let before = shop.metrics()?;
    let value = work()?;
    Ok((value, to_count(captured_connections(&shop.metrics()?.since(&before)))))
}

fn all_answered(tally: &Tally) -> Result<()> {
    ensure!(
        tally.failed == 0,
        "{} of {} requests failed: {:?}",
        tally.failed,
        tally.sent,
        tally.errors
    );
    Ok(())
}

/// Prints a measured time past the harness, which keeps what tests print to itself.
fn report(what: &str, time: Duration) {
    let _ = writeln!(
        std::io::stderr(),
        "measured: {what}: {:.0} ms",
        time.as_secs_f64() * 1000.0
    );
}
