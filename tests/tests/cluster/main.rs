//! The cluster ring: two real nodes with containerd, kubelet and kube-proxy. Needs root, Kubernetes' programs, image archives and Debian's
//! packages for containers.
#![expect(
    clippy::panic,
    reason = "what a test did not expect ends it, while its world is still there to be looked at"
)]

mod down;
mod ground;
mod kept;
mod story;
mod web;

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use mesh_tests::kubernetes::cluster::{Cluster, ClusterOptions, archive};

/// Tells a story on the cluster that the tests of this program share: dual stack, ptp. Each story uses a namespace of its own.
fn shared(story: impl FnOnce(&mut Cluster) -> Result<()>) {
    static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);
    let mut place = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let told = usual().and_then(|options| {
        if place.is_none() {
            *place = Some(Cluster::up(&options)?);
        }
        story(place.as_mut().context("no cluster")?)
    });
    if let Err(error) = told {
        // a story that failed may have stopped half of it: the next one gets a new cluster
        if let Some(cluster) = place.take() {
            cluster.show_logs();
        }
        panic!("{error:#}");
    }
}

/// Two nodes that have the images of the tests.
fn usual() -> Result<ClusterOptions> {
    Ok(ClusterOptions {
        images: vec![archive("pause")?, archive("testkit")?],
        say: |step| eprintln!("{step}"),
        ..ClusterOptions::default()
    })
}
