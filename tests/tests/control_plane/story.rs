//! The story of the product, driven with kubectl: a label captures, a Service grows, a label gone releases.

use std::{collections::BTreeMap, time::Instant};

use anyhow::ensure;
use mesh_tests::{
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    kubernetes::shop::CHAOS_NODE,
    shop::{NAMESPACE, WEB4},
};

use crate::{Loads, report, with_daemons};

/// What switches capture on, for kubectl.
const ON: &str = "weft.mesh/capture=enabled";
/// What switches it off.
const OFF: &str = "weft.mesh/capture-";

#[test]
fn a_label_captures_new_endpoints_are_met_and_the_label_gone_releases() {
    with_daemons(|shop| {
        report("from nothing to a ready control plane", shop.objects.plane.ready_in());
        shop.wait_captured(false)?;
        let loads = Loads::start(shop)?;
        let start = Instant::now();
        shop.objects.plane.kubectl(&["label", "namespace", NAMESPACE, ON])?;
        shop.wait_captured(true)?;
        report("kubectl label to captured", start.elapsed());

        let start = Instant::now();
        let new = [shop.add_server(0)?, shop.add_server(1)?];
        shop.publish()?;
        let load = Load::fresh(Version::Http1, WEB4);
        wait_for("an answer of both new servers", HANG_GUARD, || {
            let tally = shop.send(&load, 10)?;
            Ok(new.iter().all(|name| tally.by_body.contains_key(name)).then_some(()))
        })?;
        report("two more pods, from nothing to answers", start.elapsed());

        let start = Instant::now();
        shop.objects.plane.kubectl(&["label", "namespace", NAMESPACE, OFF])?;
        shop.wait_captured(false)?;
        report("kubectl label removed to not captured", start.elapsed());
        loads.all_answered()?;

        let watches = shop.objects.chaos.log().requests();
        let mut streamed: BTreeMap<&str, u32> = BTreeMap::new();
        for request in watches.iter().filter(|request| request.is_streaming_list()) {
            *streamed.entry(&request.resource).or_default() += 1;
        }
        // the server does not have the one, and may serve the other a moment after its definition is established: both are asked for again
        streamed.remove("httproutes");
        ensure!(
            streamed.remove("trafficpolicies").is_some(),
            "no list of TrafficPolicies"
        );
        ensure!(
            streamed.len() == 5 && streamed.values().all(|count| *count == 1),
            "lists of {streamed:?} were streamed, once each of five kinds beside these"
        );
        ensure!(
            watches.iter().all(|request| request.limit().is_none()),
            "pages were asked for"
        );
        ensure!(shop.daemon(CHAOS_NODE)?.process.exited()?.is_none());
        Ok(())
    });
}
