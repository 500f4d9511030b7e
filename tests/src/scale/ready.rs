//! How soon a daemon is ready that finds a thousand Services, and what memory it takes.

use anyhow::{Result, ensure};

use super::{
    figures,
    objects::{ENDPOINTS_PER_SERVICE, NODES, PODS_PER_NODE, SERVICES},
    world::{World, peak_memory},
};
use crate::{bench::wait_for, daemon::HANG_GUARD};

/// Daemons that are started one after the other.
const RUNS: usize = 7;
/// What is aimed at, printed beside what was seen.
const AIM: &str = "aim: ready in under 3 s, under 64 MiB";

/// Measures and prints.
///
/// # Errors
/// If a part does not start, or the daemon does not know what is there: then the figures would mean nothing.
pub fn scale() -> Result<()> {
    let world = World::open()?;
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let daemon = world.start_daemon()?;
        times.push(daemon.took.as_secs_f64());
        let metrics = world.metrics()?;
        for (kind, least) in [
            ("Pod", NODES * PODS_PER_NODE),
            ("Service", SERVICES),
            ("EndpointSlice", SERVICES),
        ] {
            let known = metrics.sum("weft_objects", &[("kind", kind)]);
            ensure!(
                known >= f64::from(least),
                "ready with {known} objects of kind {kind}, there are {least}"
            );
        }
        // the first save of the state holds all of it once more, as a file's text
        wait_for("the first save of the state", HANG_GUARD, || {
            let saved = world.metrics()?.sum("weft_state_writes_total", &[("result", "ok")]);
            Ok((saved >= 1.0).then_some(()))
        })?;
        memory.push(peak_memory(&daemon.process)? as f64 / f64::from(1 << 20));
        world.end_daemon(daemon)?;
    }
    let endpoints = u32::from(SERVICES) * u32::from(ENDPOINTS_PER_SERVICE);
    println!("{SERVICES} Services, {endpoints} endpoints, as many pods; {AIM}");
    println!("{}", figures::line("from start to ready", "s", &times));
    println!(
        "{}",
        figures::line("VmHWM after the first save of the state", "MiB", &memory)
    );
    Ok(())
}
