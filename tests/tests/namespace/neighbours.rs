//! What others have on the node: their programs still act, their tables and filters are not touched, and what they break is mended.

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::OUTSIDE_V4,
    client::{Load, Version},
    daemon::{self, DaemonOptions},
    shop::{Shop, WEB4},
    tcp,
};

use crate::{all_answered, captured, tell};

/// The steering set-up that was put back, by what.
const MENDED: &str = "weft_steering_mended_total";

fn tc(shop: &Shop, args: &[&str]) -> Result<String> {
    shop.bench.nodes[0].netns.run("tc", args)
}

fn a_program_behind_ours_acts(attach: &str) {
    let daemon = DaemonOptions {
        attach: attach.to_owned(),
        ..DaemonOptions::default()
    };
    tell(
        Shop::captured_with(mesh_tests::bench::Options::default(), &daemon),
        |shop| {
            let target = (OUTSIDE_V4, 7000).into();
            let _listener = shop.bench.outside.inside(|| std::net::TcpListener::bind(target))??;
            tcp::connect(&shop.client.netns, target)?;
            let interface = shop.client.interface.clone();
            // with clsact attachment the qdisc is there already
            let _ = tc(shop, &["qdisc", "add", "dev", &interface, "clsact"]);
            tc(
                shop,
                &[
                    "filter", "add", "dev", &interface, "ingress", "prio", "100", "protocol", "all", "matchall",
                    "action", "drop",
                ],
            )?;
            let error = tcp::connect_within(&shop.client.netns, target, std::time::Duration::from_millis(1500));
            ensure!(error.is_err(), "a drop-all behind our program did not drop");
            tc(shop, &["filter", "del", "dev", &interface, "ingress", "prio", "100"])?;
            tcp::connect(&shop.client.netns, target)?;
            Ok(())
        },
    );
}

#[test]
fn a_drop_all_behind_ours_drops_with_tcx() {
    a_program_behind_ours_acts("tcx");
}

#[test]
fn a_drop_all_behind_ours_drops_with_clsact() {
    a_program_behind_ours_acts("clsact");
}

fn others_survive(attach: &str) {
    tell(Shop::usual(), |shop| {
        let interface = shop.client.interface.clone();
        tc(shop, &["qdisc", "add", "dev", &interface, "clsact"])?;
        tc(
            shop,
            &[
                "filter", "add", "dev", &interface, "ingress", "prio", "100", "protocol", "all", "matchall", "action",
                "pass",
            ],
        )?;
        tc(
            shop,
            &[
                "filter", "add", "dev", &interface, "egress", "prio", "7", "protocol", "all", "matchall", "action",
                "pass",
            ],
        )?;
        tc(
            shop,
            &["qdisc", "add", "dev", "uplink", "root", "pfifo", "limit", "321"],
        )?;
        let nft = |args: &[&str]| shop.bench.nodes[0].netns.run("nft", args);
        nft(&["add", "table", "inet", "other"])?;
        nft(&["add", "chain", "inet", "other", "own"])?;
        shop.bench.nodes[0]
            .netns
            .ip("rule add pref 50 fwmark 0x77 lookup 77\n")?;
        let picture = |shop: &Shop| -> Result<Vec<String>> {
            let node = &shop.bench.nodes[0].netns;
            Ok(vec![
                tc(shop, &["qdisc", "show", "dev", &interface])?,
                tc(shop, &["filter", "show", "dev", &interface, "ingress"])?,
                tc(shop, &["filter", "show", "dev", &interface, "egress"])?,
                tc(shop, &["qdisc", "show", "dev", "uplink"])?,
                node.run("nft", &["list", "tables"])?,
                node.run("nft", &["list", "table", "inet", "other"])?,
                node.run("ip", &["rule", "show"])?,
            ])
        };
        let before = picture(shop)?;
        shop.start_daemons(&DaemonOptions {
            attach: attach.to_owned(),
            ..DaemonOptions::default()
        })?;
        shop.capture()?;
        shop.daemon(0)?.process.kill();
        daemon::detach(&shop.bench, 0)?;
        let after = picture(shop)?;
        ensure!(before == after, "before: {before:#?}\nafter: {after:#?}");
        Ok(())
    });
}

#[test]
fn detach_touches_nobody_elses_with_tcx() {
    others_survive("tcx");
}

#[test]
fn detach_touches_nobody_elses_with_clsact() {
    others_survive("clsact");
}

#[test]
fn a_flush_of_the_whole_ruleset_is_mended() {
    captured(|shop| {
        let before = shop.daemon(0)?.metrics()?.sum(MENDED, &[]);
        shop.bench.nodes[0].netns.run("nft", &["flush", "ruleset"])?;
        shop.daemon(0)?
            .wait_metrics("the table to be put back", |metrics| metrics.sum(MENDED, &[]) > before)?;
        shop.publish()?;
        all_answered(&shop.send(&Load::fresh(Version::Http1, WEB4), 30)?)?;
        shop.wait_captured(true)
    });
}

#[test]
fn routing_rules_that_somebody_removes_are_mended() {
    captured(|shop| {
        let before = shop.daemon(0)?.metrics()?.sum(MENDED, &[]);
        for family in ["-4", "-6"] {
            shop.bench.nodes[0]
                .netns
                .run("ip", &[family, "rule", "del", "pref", "9"])?;
        }
        shop.daemon(0)?
            .wait_metrics("the rules to be put back", |metrics| metrics.sum(MENDED, &[]) > before)?;
        shop.wait_captured(true)?;
        all_answered(&shop.send(&Load::fresh(Version::Http1, WEB4), 30)?)
    });
}
