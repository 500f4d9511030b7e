//! The daemon dies: capture stays attached, traffic flows as if unmeshed, and a successor takes over in place.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mesh_common::counter::Counter;
use mesh_tests::{
    bench::wait_for,
    client::{Background, Load, Version},
    daemon::{DECISIONS, DaemonOptions, HANG_GUARD, WORKERS},
    hooks,
    shop::{SERVICE_PORTS, SERVICE_V4, SERVICE_V6, Shop, WEB4, WEB6},
    tcp,
};

use crate::{all_answered, captured, captured_by, report};

/// Requests of one background client that a kill may fail: the one that is under way, and one for each worker's listener that a client who
/// connects again at once finds not yet closed by the kernel.
const LOST_WITH_A_DAEMON: u64 = 1 + WORKERS as u64;

#[test]
fn killed_under_load_and_restarted_with_tcx() {
    captured_by("tcx", |shop| killed_under_load(shop, "tcx"));
}

#[test]
fn killed_under_load_and_restarted_with_clsact() {
    captured_by("clsact", |shop| killed_under_load(shop, "clsact"));
}

fn killed_under_load(shop: &mut Shop, attach: &str) -> Result<()> {
    let options = DaemonOptions {
        attach: attach.to_owned(),
        ..DaemonOptions::default()
    };
    let node = shop.bench.nodes[0].netns.clone();
    for _ in 0..3 {
        let loads = [
            Background::start(&shop.client.netns, Load::fresh(Version::Http1, WEB4))?,
            Background::start(&shop.client.netns, Load::fresh(Version::Http1, WEB6))?,
            Background::start(&shop.client.netns, Load::reused(Version::Http2, WEB4))?,
            Background::start(&shop.client.netns, Load::reused(Version::Http1, WEB6))?,
        ];
        running(&loads, 50)?;
        let killed = Instant::now();
        shop.daemon(0)?.process.kill();
        // each client has dealt with what was under way, and has been answered by the kernel alone
        running(&loads, LOST_WITH_A_DAEMON + 1)?;
        let without = Instant::now();
        hooks::exactly_one_each(&node)?;
        running(&loads, 50)?;
        hooks::exactly_one_each(&node)?;
        shop.start_daemon(0, &options)?;
        hooks::exactly_one_each(&node)?;
        shop.wait_captured(true)?;
        report(
            "kill -9 to captured again, the start of the new process included",
            killed.elapsed(),
        );
        running(&loads, 50)?;
        for load in loads {
            let tally = load.stop()?;
            let late = tally.last_failure.filter(|when| *when > without);
            ensure!(
                late.is_none(),
                "requests failed long after the kill: {:?}",
                tally.errors
            );
            ensure!(
                tally.failed <= LOST_WITH_A_DAEMON,
                "{} of {} requests failed: {:?}",
                tally.failed,
                tally.sent,
                tally.errors
            );
        }
        hooks::exactly_one_each(&node)?;
    }
    Ok(())
}

/// Waits until each load has sent so many more requests.
fn running(loads: &[Background], more: u64) -> Result<()> {
    let before: Vec<u64> = loads.iter().map(|load| load.tally().sent).collect();
    wait_for("the load to go on", HANG_GUARD, || {
        let on = loads
            .iter()
            .zip(&before)
            .all(|(load, before)| load.tally().sent >= before + more);
        Ok(on.then_some(()))
    })
}

#[test]
fn without_a_daemon_traffic_flows_as_if_unmeshed_and_is_counted() {
    captured(|shop| {
        for node in [0, 1] {
            shop.daemon(node)?.process.kill();
            shop.daemons[node] = None;
        }
        for target in [WEB4, WEB6] {
            let tally = shop.send(&Load::fresh(Version::Http1, target), 30)?;
            all_answered(&tally)?;
        }
        shop.start_daemon(0, &DaemonOptions::default())?;
        let passed = shop
            .daemon(0)?
            .metrics()?
            .sum(DECISIONS, &[("decision", Counter::PassNoListener.name())]);
        ensure!(
            passed >= 60.0,
            "{passed} of 60 connections were counted as passed for want of a listener"
        );
        shop.wait_captured(true)
    });
}

#[test]
fn changes_made_while_no_daemon_ran_are_caught_up() {
    captured(|shop| {
        let old = shop.client.interface.clone();
        shop.daemon(0)?.process.kill();
        shop.daemons[0] = None;
        // the old client goes, a new one comes, a server comes: all of it unseen
        shop.bench.remove_pod(&shop.client);
        shop.objects.remove_pod(mesh_tests::shop::NAMESPACE, "client");
        wait_for("the interface to vanish", HANG_GUARD, || {
            let left = hooks::interfaces(&shop.bench.nodes[0].netns)?;
            Ok((!left.contains(&old)).then_some(()))
        })?;
        shop.client = shop.bench.add_pod(0, "client-2")?;
        shop.announce(&shop.client)?;
        let name = shop.add_server(0)?;
        shop.publish()?;
        shop.start_daemon(0, &DaemonOptions::default())?;
        shop.wait_captured(true)?;
        let tally = shop.send(&Load::fresh(Version::Http1, WEB4), 40)?;
        all_answered(&tally)?;
        ensure!(tally.by_body.contains_key(&name), "{tally:?}");
        hooks::exactly_one_each(&shop.bench.nodes[0].netns)
    });
}

#[test]
fn a_pods_namespace_that_vanishes_in_a_transfer_harms_nobody_else() {
    captured(|shop| {
        let load = Load::fresh(Version::Http1, WEB4);
        all_answered(&shop.send(&load, 30)?)?;
        let baseline = shop.daemon(0)?.process.descriptors()?;
        for victim_is_client in [true, false] {
            let downloader = shop
                .bench
                .add_pod(0, if victim_is_client { "client-a" } else { "client-b" })?;
            shop.announce(&downloader)?;
            let victim = if victim_is_client {
                downloader.clone()
            } else {
                shop.server("web-3")?.pod.clone()
            };
            let target = (IpAddr::from(shop.server("web-3")?.pod.v4), mesh_tests::shop::HTTP_PORT).into();
            wait_for("capture of the downloader", HANG_GUARD, || {
                let download = || mesh_tests::client::once(&downloader.netns, Version::Http1, target, "/");
                Ok(Some(crate::counting(shop, download)?.1).filter(|connections| *connections > 0))
            })?;
            let mut stream = tcp::connect(&downloader.netns, target)?;
            std::io::Write::write_all(&mut stream, b"GET /bytes/1073741824 HTTP/1.1\r\nhost: web\r\n\r\n")?;
            std::io::Read::read_exact(&mut stream, &mut vec![0; 1 << 20])?;
            shop.bench.remove_pod(&victim);
            shop.objects.remove_pod(mesh_tests::shop::NAMESPACE, &victim.name);
            all_answered(&shop.send(&load, 60)?)?;
            drop(stream);
            if victim_is_client {
                shop.objects.remove_pod(mesh_tests::shop::NAMESPACE, &downloader.name);
            }
        }
        let process = &shop.daemon(0)?.process;
        wait_for("the descriptors to return", Duration::from_secs(60), || {
            let open = process.descriptors()?;
            ensure!(open <= baseline, "{open} are open, {baseline} were");
            Ok(Some(()))
        })
    });
}

#[test]
fn what_a_dead_daemon_carried_is_reset_and_not_ended() {
    captured(|shop| {
        let mut open = Vec::new();
        for address in [IpAddr::V4(SERVICE_V4), IpAddr::V6(SERVICE_V6)] {
            let mut stream = tcp::connect(&shop.client.netns, (address, SERVICE_PORTS[1]).into())?;
            tcp::echo(&mut stream, b"\0half of it")?;
            open.push(stream);
        }
        shop.daemon(0)?.process.kill();
        shop.daemons[0] = None;
        for mut stream in open {
            let end = tcp::read_to_end(&mut stream)?;
            ensure!(end == tcp::End::Reset, "the client sees {end:?}");
        }
        Ok(())
    });
}
