//! The control-plane ring: a real Kubernetes API server with its controllers and scheduler, in a network namespace. Needs root and Kubernetes'
//! programs.
#![expect(
    clippy::panic,
    reason = "what a test did not expect ends it, while its world is still there to be looked at"
)]

mod churn;
mod clock;
mod kinds;
mod labels;
mod outage;
mod pods;
mod restart;
mod server;
mod statuses;
mod story;
mod told;
mod troubles;
mod unusable;
mod workloads;

use std::{fs, io::Write, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::{Netns, Run, wait_for},
    client::{Background, Load, Tally, Version},
    daemon::{DaemonOptions, HANG_GUARD},
    kubernetes::{
        ControlPlane, ControlPlaneOptions,
        shop::{CHAOS_NODE, ClusterShop},
    },
    metrics::Metrics,
    shop::{NAMESPACE, WEB4, WEB6},
};

/// Where the API server of a namespace of its own is reached.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// A namespace with nothing but a control plane.
struct World {
    // first: its programs end before the namespace goes
    plane: ControlPlane,
    netns: Netns,
    _run: Removed,
}

/// A run that goes with its owner.
struct Removed(Run);

impl Drop for Removed {
    fn drop(&mut self) {
        self.0.remove();
    }
}

impl World {
    fn start(change: impl FnOnce(&mut ControlPlaneOptions)) -> Result<Self> {
        let run = Removed(Run::of_this_process());
        run.0.begin()?;
        let netns = run.0.netns("plane");
        netns.create()?;
        netns.ip(&format!("addr add {ADDRESS}/32 dev lo\n"))?;
        let mut options = ControlPlaneOptions::new(&netns, run.0.dir().join("plane"), ADDRESS);
        change(&mut options);
        Ok(Self {
            plane: ControlPlane::start(options)?,
            netns,
            _run: run,
        })
    }
}

/// Runs a story; its world is still there when it fails, so that logs are shown.
fn tell<W>(world: Result<W>, story: impl FnOnce(&mut W) -> Result<()>) {
    let mut world = world.unwrap_or_else(|error| panic!("the world could not be set up: {error:#}"));
    if let Err(error) = story(&mut world) {
        panic!("{error:#}");
    }
}

/// The usual control plane.
fn usual(story: impl FnOnce(&mut World) -> Result<()>) {
    tell(World::start(|_| {}), story);
}

/// etcd and the API server only.
fn bare(change: impl FnOnce(&mut ControlPlaneOptions), story: impl FnOnce(&mut World) -> Result<()>) {
    let world = World::start(|options| {
        options.components.controller_manager = false;
        options.components.scheduler = false;
        change(options);
    });
    tell(world, story);
}

/// Prints a measured time past the harness, which keeps what tests print to itself.
fn report(what: &str, time: Duration) {
    let _ = writeln!(
        std::io::stderr(),
        "measured: {what}: {:.0} ms",
        time.as_secs_f64() * 1000.0
    );
}

/// Prints a figure past the harness.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "measured: {what}");
}

/// The shop in a cluster, captured.
fn captured(story: impl FnOnce(&mut ClusterShop) -> Result<()>) {
    tell(ClusterShop::captured_in_cluster(), story);
}

/// As `kubectl get events` prints them: reason, type, object and note.
const EVENTS: &str =
    "--output=jsonpath={range .items[*]}{.reason} {.type} {.regarding.kind}/{.regarding.name} {.note}{\"\\n\"}{end}";

/// The Events of the shop's namespace, one a line.
fn events(plane: &ControlPlane) -> Result<String> {
    plane.kubectl(&["--namespace", NAMESPACE, "get", "events.events.k8s.io", EVENTS])
}

/// Waits for the Event whose line begins so: ten seconds until it lasts, ten more at random.
fn event(plane: &ControlPlane, begins: &str) -> Result<String> {
    wait_for("an Event", 2 * HANG_GUARD, || {
        let events = events(plane)?;
        let found = events.lines().find(|line| line.starts_with(begins));
        Ok(found.map(str::to_owned))
    })
}

/// The shop in a cluster with daemons, not captured.
fn with_daemons(story: impl FnOnce(&mut ClusterShop) -> Result<()>) {
    let shop = ClusterShop::in_cluster().and_then(|mut shop| {
        let started = shop.start_daemons(&DaemonOptions::default());
        if started.is_err() {
            shop.bench.show_logs();
        }
        started.map(|()| shop)
    });
    tell(shop, story);
}

/// Requests of every kind from the client, while something is tried.
struct Loads(Vec<Background>);

impl Loads {
    fn start(shop: &ClusterShop) -> Result<Self> {
        let loads = [
            Load::fresh(Version::Http1, WEB4),
            Load::fresh(Version::Http1, WEB6),
            Load::reused(Version::Http2, WEB4),
            Load::reused(Version::Http1, WEB6),
        ];
        let started = loads.map(|load| Background::start(&shop.client.netns, load));
        Ok(Self(started.into_iter().collect::<Result<_>>()?))
    }

    /// Ends them: no request may have failed. How many were sent.
    fn all_answered(self) -> Result<u64> {
        let tallies: Vec<Tally> = self.0.into_iter().map(Background::stop).collect::<Result<_>>()?;
        for tally in &tallies {
            ensure!(
                tally.failed == 0 && tally.sent > 0,
                "{} of {} requests failed: {:?}",
                tally.failed,
                tally.sent,
                tally.errors
            );
        }
        Ok(tallies.iter().map(|tally| tally.sent).sum())
    }
}

/// Times that a daemon has saved its state.
fn state_writes(metrics: &Metrics) -> f64 {
    metrics.sum("weft_state_writes_total", &[("result", "ok")])
}

/// Waits until the daemon behind the chaos proxy has saved its state once more than so often, with the namespace captured.
fn wait_saved(shop: &mut ClusterShop, writes: f64) -> Result<()> {
    let dir = shop.objects.state_dir(&shop.bench.nodes[CHAOS_NODE].name);
    let daemon = shop.daemon(CHAOS_NODE)?;
    wait_for("the state to be saved", HANG_GUARD, || {
        ensure!(state_writes(&daemon.metrics()?) > writes, "nothing is saved");
        let file = fs::read_dir(&dir)?.flatten().next().context("no file")?;
        Ok(fs::read_to_string(file.path())?
            .contains("\"capture_label\":\"enabled\"")
            .then_some(()))
    })
}

/// Number of the snapshot that is published.
fn generation(metrics: &Metrics) -> f64 {
    metrics.sum("weft_snapshot_generation", &[])
}

/// Lists that were begun again.
fn relists(metrics: &Metrics) -> f64 {
    metrics.sum("weft_watch_relists_total", &[])
}

/// Watches that stand.
fn watches_up(metrics: &Metrics) -> f64 {
    metrics.sum("weft_watch_up", &[])
}

/// Watches of a daemon: one for each kind. That of HTTPRoutes is well without a list, since nothing installs their definition.
const WATCHES: f64 = 7.0;
/// Watches that list something.
const LISTS: f64 = 6.0;
