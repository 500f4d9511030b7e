//! The way to attach changes across a restart, and somebody else stands in our place.

use anyhow::ensure;
use mesh_tests::{
    bench::{Options, wait_for},
    client::{Load, Version},
    daemon::{Daemon, DaemonOptions, HANG_GUARD, HEALTH_ADDR},
    hooks,
    shop::{NAMESPACE, Shop, WEB4, WEB6},
};

use crate::{all_answered, captured_by, counting, tell};

/// The snapshots that were made, counted.
const GENERATION: &str = "weft_snapshot_generation";
/// Where our filter would stand, in the words of `tc`.
const OUR_PLACE: [&str; 4] = ["prio", "49", "handle", "1"];
/// A classic BPF program that returns TC_ACT_UNSPEC: whatever else stands there goes on.
const GO_ON: &str = "1,6 0 0 4294967295";

fn by(attach: &str) -> DaemonOptions {
    DaemonOptions {
        attach: attach.to_owned(),
        ..DaemonOptions::default()
    }
}

#[test]
fn a_restart_with_the_other_way_to_attach_replaces_every_program() {
    captured_by("tcx", |shop| {
        let node = shop.bench.nodes[0].netns.clone();
        for attach in ["clsact", "tcx", "clsact", "tcx"] {
            shop.daemon(0)?.process.kill();
            shop.start_daemon(0, &by(attach))?;
            hooks::exactly_one_each(&node)?;
            let (links, filters) = hooks::count_by_way(&node)?;
            let (other, qdiscs) = if attach == "tcx" {
                (filters, node.run("tc", &["qdisc", "show"])?)
            } else {
                (links, String::new())
            };
            ensure!(other == 0, "{attach}: {links} links and {filters} filters");
            ensure!(!qdiscs.contains("clsact"), "{attach}: a qdisc is left: {qdiscs}");
            shop.wait_captured(true)?;
            for target in [WEB4, WEB6] {
                let (tally, captured) = counting(shop, || shop.send(&Load::fresh(Version::Http1, target), 30))?;
                all_answered(&tally)?;
                ensure!(captured == 30, "{attach}: {captured} of 30 were captured");
            }
        }
        Ok(())
    });
}

#[test]
fn a_foreign_filter_in_our_place_holds_capture_back_and_is_not_touched() {
    tell(Shop::open(Options::default(), &[0, 1, 1]), |shop| {
        let node = shop.bench.nodes[0].netns.clone();
        node.run("tc", &["qdisc", "add", "dev", "uplink", "clsact"])?;
        let place = ["filter", "add", "dev", "uplink", "ingress"];
        let program = ["protocol", "all", "bpf", "da", "bytecode", GO_ON];
        node.run("tc", &[&place[..], &OUR_PLACE, &program].concat())?;
        let filters = || node.run("tc", &["filter", "show", "dev", "uplink", "ingress"]);
        let foreign = filters()?;
        shop.daemons[0] = Some(Daemon::spawn(&shop.bench, 0, &shop.objects, &by("clsact"))?);
        shop.start_daemon(1, &by("clsact"))?;
        let daemon = shop.daemon(0)?;
        wait_for("the daemon to say what is in its way", HANG_GUARD, || {
            let log = daemon.process.output();
            let words = ["uplink", "priority 49", "handle 1", "not Weft's"];
            Ok(log
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
                .then_some(()))
        })?;
        // once the label is known, everything was tried again
        let generation = daemon.metrics()?.sum(GENERATION, &[]);
        shop.objects.namespace(NAMESPACE, Some("enabled"))?;
        shop.daemon(0)?.wait_metrics("the label to be read", |metrics| {
            metrics.sum(GENERATION, &[]) > generation
        })?;
        for target in [WEB4, WEB6] {
            let (tally, captured) = counting(shop, || shop.send(&Load::fresh(Version::Http1, target), 60))?;
            all_answered(&tally)?;
            ensure!(captured == 0, "{captured} connections were captured");
        }
        let (code, body) = shop.daemon(0)?.get(HEALTH_ADDR, "/readyz")?;
        ensure!(code == 503 && body.contains("[-]"), "/readyz: {code} {body}");
        ensure!(
            filters()? == foreign,
            "the foreign filter was touched: {foreign}{}",
            filters()?
        );
        // it goes, and nothing else needs to be done
        node.run("tc", &["filter", "del", "dev", "uplink", "ingress", "prio", "49"])?;
        shop.daemon(0)?.wait_ready()?;
        shop.wait_captured(true)?;
        hooks::exactly_one_each(&node)
    });
}
