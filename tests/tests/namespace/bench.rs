//! The bench itself, without a daemon: what is measured against must work.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::{Bench, OUTSIDE_V4, OUTSIDE_V6, Options, Run},
    client::{Load, Version},
    shop::{Shop, WEB4, WEB6},
    tcp,
};

#[test]
fn the_kernel_alone_spreads_over_both_nodes_and_both_families() -> Result<()> {
    let shop = Shop::usual()?;
    for (version, target) in [
        (Version::Http1, WEB4),
        (Version::Http1, WEB6),
        (Version::Http2, WEB4),
        (Version::Http2, WEB6),
    ] {
        let tally = shop.send(&Load::fresh(version, target), 60)?;
        ensure!(tally.failed == 0, "{version:?} {target}: {tally:?}");
        ensure!(tally.by_body.len() == 3, "{version:?} {target}: {tally:?}");
    }
    Ok(())
}

#[test]
fn a_service_without_endpoints_is_refused_by_the_stand_in() -> Result<()> {
    let shop = Shop::open(Options::default(), &[])?;
    // the rule is what refuses: nothing listens on the node
    let error = tcp::connect(&shop.client.netns, WEB4).expect_err("nobody is behind it");
    ensure!(format!("{error:#}").contains("refused"), "{error:#}");
    Ok(())
}

#[test]
fn a_pod_reaches_the_outside_network() -> Result<()> {
    let shop = Shop::usual()?;
    for ip in [IpAddr::from(OUTSIDE_V4), OUTSIDE_V6.into()] {
        let target = (ip, 7000).into();
        let listener = shop.bench.outside.inside(|| std::net::TcpListener::bind(target))??;
        let _stream = tcp::connect(&shop.client.netns, target)?;
        let (_, peer) = listener.accept()?;
        ensure!(
            !shop.client.ips().contains(&peer.ip()),
            "masquerade must hide the pod, yet {peer} was seen"
        );
    }
    Ok(())
}

#[test]
fn a_bench_leaves_nothing_behind() -> Result<()> {
    let run = Run::of_this_process();
    let mut bench = Bench::start(Options {
        run: run.clone(),
        ..Options::default()
    })?;
    bench.add_pod(0, "client")?;
    ensure!(run.exists());
    drop(bench);
    ensure!(!run.exists(), "namespaces or files are left");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*run.dir().to_string_lossy()), "a mount is left");
    Ok(())
}
