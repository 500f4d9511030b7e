//! A captured pod's requests pass the daemon, whatever the family, the version of HTTP and the way to attach; kube-proxy's rules are loaded.

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::Options,
    client::{self, Load, Version},
    daemon::{DaemonOptions, REQUESTS, WORKERS},
    hooks,
    shop::{HTTP_PORT, Shop, WEB4, WEB6, to_count},
};

use crate::{all_answered, captured, captured_by, counting, tell};

const KINDS: [(Version, std::net::SocketAddr); 4] = [
    (Version::Http1, WEB4),
    (Version::Http1, WEB6),
    (Version::Http2, WEB4),
    (Version::Http2, WEB6),
];

#[test]
fn requests_pass_the_daemon_with_tcx() {
    captured_by("tcx", every_request_is_counted);
}

#[test]
fn requests_pass_the_daemon_with_clsact() {
    captured_by("clsact", every_request_is_counted);
}

#[test]
fn requests_pass_the_daemon_with_strict_reverse_path_filter() {
    let options = Options {
        rp_filter: 1,
        ..Options::default()
    };
    tell(
        Shop::captured_with(options, &DaemonOptions::default()),
        every_request_is_counted,
    );
}

#[test]
fn requests_pass_the_daemon_where_the_mark_counts_for_the_reverse_path() {
    tell(Shop::captured(), |shop| {
        for node in &shop.bench.nodes {
            // as wg-quick sets it
            node.netns.sysctl(&[("net/ipv4/conf/all/src_valid_mark", "1")])?;
        }
        every_request_is_counted(shop)
    });
}

fn every_request_is_counted(shop: &mut Shop) -> Result<()> {
    for (version, target) in KINDS {
        for load in [Load::fresh(version, target), Load::reused(version, target)] {
            let before = shop.metrics()?;
            let tally = shop.send(&load, 30)?;
            all_answered(&tally)?;
            let since = shop.counted_since(&before, 30)?;
            let labels = [
                ("reporter", "source"),
                ("source_workload", "client"),
                ("source_namespace", "shop"),
                ("destination_service", "web"),
                ("destination_service_namespace", "shop"),
                ("destination_namespace", "shop"),
                ("code", "200"),
            ];
            let counted = since.by(REQUESTS, "destination_workload", &labels);
            let counted: Vec<_> = counted
                .into_iter()
                .map(|(pod, n)| (pod, to_count(n)))
                .filter(|(_, n)| *n > 0)
                .collect();
            ensure!(
                counted == tally.by_body.clone().into_iter().collect::<Vec<_>>(),
                "{load:?}: {counted:?}, {tally:?}"
            );
        }
    }
    shop.bench
        .nodes
        .iter()
        .try_for_each(|node| hooks::exactly_one_each(&node.netns))
}

#[test]
fn a_thousand_requests_are_spread_evenly() {
    captured(|shop| {
        for (version, target) in KINDS {
            for load in [Load::fresh(version, target), Load::reused(version, target)] {
                let tally = shop.send(&load, 1000)?;
                all_answered(&tally)?;
                ensure!(tally.by_body.len() == 3, "{load:?}: {:?}", tally.by_body);
                ensure!(
                    tally.difference() <= u64::from(WORKERS),
                    "{load:?}: {:?}",
                    tally.by_body
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_pods_own_address_is_captured_too_and_reaches_that_pod() {
    captured(|shop| {
        for name in ["web-1", "web-2"] {
            for ip in shop.server(name)?.pod.ips() {
                let load = Load::fresh(Version::Http1, (ip, HTTP_PORT).into());
                let (tally, connections) = counting(shop, || shop.send(&load, 10))?;
                all_answered(&tally)?;
                ensure!(tally.by_body.keys().eq([name]), "{ip}: {:?}", tally.by_body);
                ensure!(connections == 10, "{ip}: {connections} of 10 connections were captured");
            }
        }
        Ok(())
    });
}

#[test]
fn a_status_other_than_200_reaches_the_client_and_the_metrics() {
    captured(|shop| {
        let before = shop.metrics()?;
        let answer = client::once(&shop.client.netns, Version::Http1, WEB4, "/status/418")?;
        ensure!(answer.status == 418, "{answer:?}");
        let since = shop.counted_since(&before, 1)?;
        ensure!(to_count(since.sum(REQUESTS, &[("code", "418")])) == 1, "{since:?}");
        Ok(())
    });
}

#[test]
fn requests_of_a_pod_on_the_other_node_pass_that_nodes_daemon() {
    captured(|shop| {
        let pod = shop.bench.add_pod(1, "client-2")?;
        let before = shop.daemon(1)?.metrics()?;
        shop.announce(&pod)?;
        mesh_tests::bench::wait_for("capture of a new pod", mesh_tests::daemon::HANG_GUARD, || {
            client::once(&pod.netns, Version::Http1, WEB4, "/")?;
            let since = shop.metrics()?;
            Ok((since.sum(REQUESTS, &[("source_workload", "client-2")]) > 0.0).then_some(()))
        })?;
        let since = shop.daemon(1)?.metrics()?.since(&before);
        ensure!(
            since.sum(REQUESTS, &[("source_workload", "client-2")]) > 0.0,
            "node 2's daemon saw nothing"
        );
        Ok(())
    });
}
