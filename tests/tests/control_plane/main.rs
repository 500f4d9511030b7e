//! The control-plane ring: a real Kubernetes API server with its controllers and scheduler, in a network namespace. Needs root and Kubernetes'
//! programs.
#![expect(
    clippy::panic,
    reason = "what a test did not expect ends it, while its world is still there to be looked at"
)]

mod server;
mod workloads;

use std::{io::Write, net::Ipv4Addr, time::Duration};

use anyhow::Result;
use mesh_tests::{
    bench::{Netns, Run},
    kubernetes::{ControlPlane, ControlPlaneOptions},
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
