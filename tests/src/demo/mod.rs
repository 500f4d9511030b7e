//! The demo: the story of one Service before capture, captured, scaled, hurt, routed, balanced, broken off, and let go, told by a table that grows: with network
//! namespaces for nodes and pods, or on a real cluster.

mod checks;
mod cluster;
mod keep;
mod routing;
mod row;
mod story;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;

pub use cluster::down as cluster_down;
pub use keep::down;

/// Requests of each row: divisible by three, four and five endpoints.
pub(crate) const REQUESTS_PER_ROW: u64 = 600;

/// Tells the story. With `keep`, everything lives on afterwards.
///
/// # Errors
/// If a part does not start, or something is not as the story says: then the text says what.
pub fn tell(keep: bool) -> Result<()> {
    keep::refuse_second()?;
    let clock = Clock::start();
    let shop = story::tell(&clock)?;
    println!("\n{}", clock.summary());
    if keep {
        keep::leave(shop)
    } else {
        println!("`cargo xtask demo --keep` leaves it running to try by hand.");
        Ok(())
    }
}

/// Tells the story on a real cluster of this name, which is set up for it. With `keep`, the cluster lives on afterwards.
///
/// # Errors
/// As [`tell`].
pub fn tell_on_cluster(name: &str, keep: bool) -> Result<()> {
    let clock = Clock::start();
    let held = cluster::tell(&clock, name)?;
    println!("\n{}", clock.summary());
    if keep {
        cluster::leave(held)
    } else {
        println!("`cargo xtask demo --cluster --keep` leaves the cluster running to try by hand.");
        held.cluster.down()
    }
}

/// Time since the user's command, as far as it is known.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    before: Option<Duration>,
    first: std::cell::Cell<Option<Duration>>,
}

impl Clock {
    fn start() -> Self {
        // the command that built us says when it was started, in milliseconds since the epoch
        let started = std::env::var("WEFT_DEMO_STARTED")
            .ok()
            .and_then(|ms| ms.parse().ok())
            .map(Duration::from_millis);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let before = started.zip(now).and_then(|(started, now)| now.checked_sub(started));
        Self {
            start: Instant::now(),
            before,
            first: std::cell::Cell::new(None),
        }
    }

    /// Says that a row is printed.
    pub(crate) fn row(&self) {
        if self.first.get().is_none() {
            self.first.set(Some(self.elapsed()));
        }
    }

    /// Since the command, or since the start of the story if nobody said when the command was given.
    fn elapsed(&self) -> Duration {
        self.before.unwrap_or_default() + self.start.elapsed()
    }

    fn summary(&self) -> String {
        let first = seconds(self.first.get().unwrap_or_default());
        let last = seconds(self.start.elapsed());
        match self.before {
            Some(before) => format!(
                "From the command to the first row {first} ({} of it checks and build), from the end of the build to the last row {last}.",
                seconds(before)
            ),
            None => format!("From the start to the first row {first}, to the last row {last}."),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
