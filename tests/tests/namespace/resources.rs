//! What connections take is given back: descriptors, tasks, map entries, memory.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_daemon::model::dump_tables;
use mesh_tests::{
    bench::wait_for,
    client::{self, Load, Version},
    shop::{SERVICE_PORTS, SERVICE_V4, Shop, WEB4, WEB6},
    tcp,
};

use crate::{all_answered, captured, maps};

/// Tasks that the daemon runs.
const TASKS: &str = "weft_tasks";
/// Connections of the proxy that are open.
const OPEN: &str = "weft_tcp_connections_open";

/// What a daemon holds while nothing is under way.
struct Baseline {
    descriptors: usize,
    tasks: f64,
    /// Every entry of the pinned maps, read from the kernel.
    tables: String,
}

impl Baseline {
    fn now(shop: &mut Shop) -> Result<Self> {
        let tables = dump_tables(&maps::read_back(&shop.bench.pin_dir(0))?);
        let daemon = shop.daemon(0)?;
        let metrics = daemon.metrics()?;
        ensure!(metrics.has(TASKS), "the daemon does not count its tasks");
        Ok(Self {
            descriptors: daemon.process.descriptors()?,
            tasks: metrics.sum(TASKS, &[]),
            tables,
        })
    }

    fn wait_for(&self, shop: &mut Shop) -> Result<()> {
        wait_for("the baseline", Duration::from_secs(60), || {
            let now = Self::now(shop)?;
            let (open, before) = (now.descriptors, self.descriptors);
            ensure!(open <= before, "{open} descriptors are open, {before} were");
            let (tasks, before) = (now.tasks, self.tasks);
            ensure!(tasks <= before, "{tasks} tasks run, {before} did");
            ensure!(
                now.tables == self.tables,
                "the maps hold\n{}\nand held\n{}",
                now.tables,
                self.tables
            );
            let connections = shop.daemon(0)?.metrics()?.sum(OPEN, &[]);
            ensure!(connections < 0.5, "{connections} connections are open");
            Ok(Some(()))
        })
    }
}

#[test]
fn ten_thousand_short_connections_leave_nothing() {
    captured(|shop| {
        // the pool of upstream connections is part of the baseline
        for target in [WEB4, WEB6] {
            all_answered(&shop.send(&Load::fresh(Version::Http1, target), 100)?)?;
        }
        let baseline = Baseline::now(shop)?;
        let resident = shop.daemon(0)?.process.status("VmRSS")?;
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
            tcp::echo(&mut stream, b"\0")?;
            if number % 2 == 0 {
                // the other half is closed in order by being dropped
                tcp::reset(stream)?;
            }
        }
        baseline.wait_for(shop)?;
        let grown = shop.daemon(0)?.process.status("VmRSS")?.saturating_sub(resident);
        ensure!(grown < 32 << 10, "resident memory grew by {grown} KiB");
        Ok(())
    });
}
