//! The node's clock jumps a day ahead, and back behind where it was: changes still arrive, and the state that is kept stays usable.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    daemon::DaemonOptions,
    kubernetes::shop::{CHAOS_NODE, ClusterShop},
};

use crate::{Loads, say, state_writes, tell, wait_saved};

/// The library that answers programs what time it is.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// Where Debian's architectures have their libraries.
const LIBRARIES: &str = "/usr/lib";
/// Options of a daemon that reads the clock's error from this file; only the date, never the timers.
fn with_clock(file: &Path) -> Result<DaemonOptions> {
    let mut places = fs::read_dir(LIBRARIES)?
        .flatten()
        .map(|entry| entry.path().join(LIBRARY));
    let library = places
        .find(|path| path.is_file())
        .with_context(|| format!("no {LIBRARY} in {LIBRARIES}; `cargo xtask setup` installs it"))?;
    let wrapper = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ];
    Ok(DaemonOptions {
        wrapper: wrapper.to_vec(),
        ..DaemonOptions::default()
    })
}

/// The date of the last line that the daemon logged.
fn logged_on(shop: &mut ClusterShop) -> Result<String> {
    let output = shop.daemon(CHAOS_NODE)?.process.output();
    let line = output
        .lines()
        .rfind(|line| line.starts_with("20"))
        .context("it logged nothing")?;
    Ok(line.chars().take("2026-01-01".len()).collect())
}

#[test]
fn a_clock_that_jumps_a_day_ahead_and_back_changes_nothing() {
    tell(ClusterShop::in_cluster(), |shop| {
        let file = shop.bench.dir().join("clock");
        fs::write(&file, "+0\n")?;
        let options = with_clock(&file)?;
        shop.start_daemon(CHAOS_NODE, &options)?;
        shop.start_daemon(1, &DaemonOptions::default())?;
        shop.capture()?;
        let today = logged_on(shop)?;
        let loads = Loads::start(shop)?;
        for jump in ["+1d", "-1d", "+0"] {
            let writes = state_writes(&shop.daemon(CHAOS_NODE)?.metrics()?);
            fs::write(&file, format!("{jump}\n"))?;
            shop.release().with_context(|| format!("after {jump}"))?;
            shop.capture().with_context(|| format!("after {jump}"))?;
            wait_saved(shop, writes).with_context(|| format!("after {jump}"))?;
            let date = logged_on(shop)?;
            ensure!(
                (date == today) == (jump == "+0"),
                "after {jump} the log is dated {date}, it was {today}: the clock did not jump"
            );
            say(&format!(
                "clock {jump}: captured, released and saved; the log says {date}"
            ));
        }
        loads.all_answered()?;
        // a state that was saved while the clock was a day ahead, or behind, still serves
        for (saved, started) in [("+1d", "+0"), ("-1d", "-1d")] {
            fs::write(&file, format!("{saved}\n"))?;
            let writes = state_writes(&shop.daemon(CHAOS_NODE)?.metrics()?);
            shop.release()?;
            shop.capture()?;
            wait_saved(shop, writes).with_context(|| format!("at {saved}"))?;
            shop.daemon(CHAOS_NODE)?.process.kill();
            fs::write(&file, format!("{started}\n"))?;
            shop.objects.chaos.refuse();
            shop.start_daemon(CHAOS_NODE, &options)
                .with_context(|| format!("at {started} with the state of {saved}"))?;
            shop.wait_captured(true)?;
            let from_state = shop.daemon(CHAOS_NODE)?.metrics()?.sum("weft_snapshot_from_state", &[]);
            ensure!(from_state == 1.0, "it does not serve from the state");
            shop.objects.chaos.clear();
            shop.daemon(CHAOS_NODE)?
                .wait_metrics("the API server's objects", |metrics| {
                    metrics.sum("weft_snapshot_from_state", &[]) == 0.0
                })?;
        }
        Ok(())
    });
}
