//! What connections take is given back: descriptors, tasks, map entries, memory.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Load, Version},
    shop::{SERVICE_PORTS, SERVICE_V4, Shop, WEB4, WEB6},
    tcp,
};

use crate::{all_answered, captured};

/// Entries of the kernel half's maps.
const MAP_ENTRIES: &str = "weft_bpf_map_entries";
/// Connections of the proxy that are open.
const OPEN: &str = "weft_connections_open";

fn wait_for_baseline(shop: &mut Shop, descriptors: usize, entries: f64) -> Result<()> {
    let daemon = shop.daemon(0)?;
    wait_for("the baseline", Duration::from_secs(60), || {
        let open = daemon.process.descriptors()?;
        ensure!(open <= descriptors, "{open} descriptors are open, {descriptors} were");
        let metrics = daemon.metrics()?;
        let now = metrics.sum(MAP_ENTRIES, &[]);
        ensure!((now - entries).abs() < 0.5, "{now} map entries, {entries} were");
        let connections = metrics.sum(OPEN, &[]);
        ensure!(connections < 0.5, "{connections} connections are open");
        Ok(Some(()))
    })
}

#[test]
fn ten_thousand_short_connections_leave_nothing() {
    captured(|shop| {
        // the pool of upstream connections is part of the baseline
        for target in [WEB4, WEB6] {
            all_answered(&shop.send(&Load::fresh(Version::Http1, target), 100)?)?;
        }
        let daemon = shop.daemon(0)?;
        let (descriptors, entries) = (daemon.process.descriptors()?, daemon.metrics()?.sum(MAP_ENTRIES, &[]));
        let resident = daemon.process.status("VmRSS")?;
        let netns = &shop.client.netns;
        std::thread::scope(|scope| -> Result<()> {
            let senders: Vec<_> = [(WEB4, 4000), (WEB6, 4000)]
                .map(|(target, count)| {
                    scope.spawn(move || client::send(netns, &Load::fresh(Version::Http1, target), count))
                })
                .into_iter()
                .collect();
            for sender in senders {
                all_answered(&sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??)?;
            }
            Ok(())
        })?;
        for number in 0..2000 {
            let mut stream = tcp::connect(netns, (SERVICE_V4, SERVICE_PORTS[1]).into())?;
            tcp::echo(&mut stream, b"x")?;
            if number % 2 == 0 {
                // the other half is closed in order by being dropped
                tcp::reset(stream)?;
            }
        }
        wait_for_baseline(shop, descriptors, entries)?;
        let grown = shop.daemon(0)?.process.status("VmRSS")?.saturating_sub(resident);
        ensure!(grown < 32 << 10, "resident memory grew by {grown} KiB");
        Ok(())
    });
}
