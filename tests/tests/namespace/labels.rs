//! Which pods are captured: labels, live, both ways, without restarting a pod.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Background, Load, Version},
    daemon::HANG_GUARD,
    shop::{NAMESPACE, SERVICE_PORTS, SERVICE_V4, SERVICE_V6, WEB4, WEB6, captured_connections},
    tcp,
};

use crate::{all_answered, counting, report, tell, with_daemons};

/// How often the label comes and goes in one test.
const FLAPS: u64 = 8;

#[test]
fn the_namespace_label_switches_capture_live_and_old_connections_survive() {
    tell(with_daemons(), |shop| {
        let echo: [SocketAddr; 2] = [
            (SERVICE_V4, SERVICE_PORTS[1]).into(),
            (SERVICE_V6, SERVICE_PORTS[1]).into(),
        ];
        let open = |shop: &mesh_tests::shop::Shop| -> Result<Vec<_>> {
            echo.iter()
                .map(|target| tcp::connect(&shop.client.netns, *target))
                .collect()
        };
        let mut old = open(shop)?;
        for stream in &mut old {
            ensure!(tcp::echo(stream, b"before")? == b"before");
        }
        let start = Instant::now();
        shop.capture()?;
        report("label to captured", start.elapsed());
        let mut meshed = open(shop)?;
        for stream in old.iter_mut().chain(&mut meshed) {
            ensure!(tcp::echo(stream, b"captured")? == b"captured");
        }
        let start = Instant::now();
        shop.release()?;
        report("label removed to not captured", start.elapsed());
        for stream in old.iter_mut().chain(&mut meshed) {
            ensure!(tcp::echo(stream, b"after")? == b"after");
        }
        for mut stream in old.into_iter().chain(meshed) {
            let rest = tcp::finish(&mut stream)?;
            ensure!(rest.starts_with(b"eof "), "{rest:?}");
        }
        Ok(())
    });
}

#[test]
fn the_pods_own_label_wins_over_its_namespaces() {
    tell(with_daemons(), |shop| {
        let mut manifest = shop.pod_manifest(&shop.client);
        shop.objects.namespace(NAMESPACE, Some("enabled"))?;
        shop.wait_captured(true)?;
        manifest.capture = Some("disabled".to_owned());
        shop.objects.pod(&manifest)?;
        shop.wait_captured(false)?;
        shop.objects.namespace(NAMESPACE, None)?;
        manifest.capture = Some("enabled".to_owned());
        shop.objects.pod(&manifest)?;
        shop.wait_captured(true)
    });
}

#[test]
fn without_a_label_daemons_see_nothing() {
    tell(with_daemons(), |shop| {
        let before = shop.metrics()?;
        let (_, connections) = counting(shop, || client::once(&shop.client.netns, Version::Http1, WEB4, "/"))?;
        ensure!(connections == 0, "{connections} were captured");
        ensure!(shop.metrics()?.since(&before).sum(mesh_tests::daemon::REQUESTS, &[]) == 0.0);
        Ok(())
    });
}

#[test]
fn a_pod_that_finished_owns_no_address() {
    tell(with_daemons(), |shop| {
        shop.capture()?;
        // a completed pod keeps its podIP in the API: it must not take the client's identity away
        let mut finished = shop.pod_manifest(&shop.client);
        finished.name = "finished".to_owned();
        finished.phase = "Succeeded".to_owned();
        finished.start_time = "2030-01-01T00:00:00Z".to_owned();
        shop.objects.pod(&finished)?;
        let pod = shop.bench.add_pod(0, "marker")?;
        shop.announce(&pod)?;
        wait_for("a later pod to be captured", HANG_GUARD, || {
            let before = shop.metrics()?;
            client::once(&pod.netns, Version::Http1, WEB4, "/")?;
            Ok((captured_connections(&shop.metrics()?.since(&before)) > 0.0).then_some(()))
        })?;
        let before = shop.metrics()?;
        client::once(&shop.client.netns, Version::Http1, WEB4, "/")?;
        let since = shop.counted_since(&before, 1)?;
        let by = since.by(mesh_tests::daemon::REQUESTS, "source_workload", &[]);
        ensure!(by.get("client") == Some(&1.0), "{by:?}");
        Ok(())
    });
}

#[test]
fn of_two_claimants_to_an_address_the_one_here_and_then_the_later_start_wins() {
    tell(with_daemons(), |shop| {
        shop.capture()?;
        let mut other = shop.pod_manifest(&shop.client);
        other.name = "claimant".to_owned();
        let (here, there) = (other.node.clone(), shop.bench.nodes[1].name.clone());
        // each step changes the owner, so that each is waited for
        for (node, start, owner) in [
            (&here, "2030-01-01T00:00:00Z", "claimant"),
            (&there, "2030-01-01T00:00:00Z", "client"),
            (&here, "2030-01-01T00:00:00Z", "claimant"),
            (&here, "2020-01-01T00:00:00Z", "client"),
        ] {
            other.node.clone_from(node);
            start.clone_into(&mut other.start_time);
            shop.objects.pod(&other)?;
            for target in [WEB4, WEB6] {
                wait_for("the address to change its owner", HANG_GUARD, || {
                    let before = shop.metrics()?;
                    client::once(&shop.client.netns, Version::Http1, target, "/")?;
                    let since = shop.counted_since(&before, 1)?;
                    let mut by = since.by(mesh_tests::daemon::REQUESTS, "source_workload", &[]);
                    by.retain(|_, count| *count > 0.0);
                    ensure!(by.keys().eq([owner]), "{node} {start}: requests of {by:?}");
                    Ok(Some(()))
                })?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_label_that_flaps_under_load_loses_no_request() {
    tell(with_daemons(), |shop| {
        let loads = [
            Background::start(&shop.client.netns, Load::fresh(Version::Http1, WEB4))?,
            Background::start(&shop.client.netns, Load::fresh(Version::Http1, WEB6))?,
            Background::start(&shop.client.netns, Load::reused(Version::Http2, WEB4))?,
            Background::start(&shop.client.netns, Load::reused(Version::Http1, WEB6))?,
        ];
        for _ in 0..FLAPS {
            shop.capture()?;
            shop.release()?;
        }
        for load in loads {
            let tally = load.stop()?;
            all_answered(&tally)?;
            ensure!(tally.sent > 2 * FLAPS, "only {} requests were sent", tally.sent);
        }
        Ok(())
    });
}
