//! Pods that are deleted and made again within a moment: under the same name, or under another name with the same address.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mesh_tests::{
    announce::Announce,
    bench::{Pod, wait_for},
    client::{self, Version},
    daemon::{HANG_GUARD, REQUESTS},
    kubernetes::shop::{CHAOS_NODE, Cluster, ClusterShop},
    manifests::PodManifest,
    shop::{NAMESPACE, WEB4, WEB6, captured_connections},
};

use crate::{Loads, captured, report};

/// How soon the next one must be there for the test to try what it says.
const MOMENT: Duration = Duration::from_millis(100);
/// How often it is tried to be that fast: the machine may be busy.
const ATTEMPTS: u32 = 10;

/// Deletes a pod and makes another at once; hands back how long that took.
fn replace(shop: &ClusterShop, old: &str, new: &PodManifest) -> Result<Duration> {
    let (head, status) = Cluster::pod_objects(new);
    shop.objects.plane.with_client(|client| async move {
        let pods: Api<PodObject> = Api::namespaced(client, NAMESPACE);
        // the connection is made before time is taken
        pods.get(old).await?;
        let start = Instant::now();
        pods.delete(old, &DeleteParams::default().grace_period(0)).await?;
        pods.create(&PostParams::default(), &serde_json::from_value(head)?)
            .await?;
        pods.patch_status(&new.name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        Ok(start.elapsed())
    })
}

/// Waits until requests from this namespace are captured and counted for this pod, over both families.
fn wait_owned(shop: &ClusterShop, pod: &Pod, owner: &str) -> Result<()> {
    for target in [WEB4, WEB6] {
        wait_for("the owner of the address", HANG_GUARD, || {
            let before = shop.metrics()?;
            client::once(&pod.netns, Version::Http1, target, "/")?;
            let captured = captured_connections(&shop.metrics()?.since(&before));
            ensure!(captured > 0.0, "nothing is captured");
            let since = shop.counted_since(&before, 1)?;
            let mut by = since.by(REQUESTS, "source_workload", &[("source_workload", owner)]);
            by.retain(|_, count| *count > 0.0);
            ensure!(by.contains_key(owner), "{target}: requests are counted for {by:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// Waits until the daemon knows neither of the pod's addresses.
fn wait_free(shop: &mut ClusterShop, pod: &Pod) -> Result<()> {
    let daemon = shop.daemon(CHAOS_NODE)?;
    wait_for("addresses without owner", HANG_GUARD, || {
        let snapshot = daemon.snapshot()?;
        let known = pod.ips().iter().any(|ip| snapshot.contains(&format!("workload {ip} ")));
        Ok((!known).then_some(()))
    })
}

#[test]
fn a_pod_made_again_within_100_ms_by_name_or_by_address_is_captured_as_what_it_is() {
    captured(|shop| {
        same_name(shop).context("same name")?;
        same_address(shop).context("same address")
    });
}

/// The next pod of the name has another address and interface.
fn same_name(shop: &mut ClusterShop) -> Result<()> {
    let pods = [
        shop.bench.add_pod(CHAOS_NODE, "first")?,
        shop.bench.add_pod(CHAOS_NODE, "second")?,
    ];
    let manifests = pods.each_ref().map(|pod| PodManifest {
        name: "twin".to_owned(),
        app: "twin".to_owned(),
        ..shop.pod_manifest(pod)
    });
    shop.objects.pod(&manifests[0])?;
    wait_owned(shop, &pods[0], "twin")?;
    let loads = Loads::start(shop)?;
    let mut fastest = Duration::MAX;
    for attempt in 1..=ATTEMPTS {
        let [old, new] = if attempt % 2 == 1 { [0, 1] } else { [1, 0] };
        let took = replace(shop, "twin", &manifests[new])?;
        fastest = fastest.min(took);
        let start = Instant::now();
        wait_owned(shop, &pods[new], "twin")?;
        report(
            "same name again: made to captured at its own interface",
            start.elapsed(),
        );
        wait_free(shop, &pods[old])?;
        if took < MOMENT {
            break;
        }
    }
    report("deleted and made again, same name", fastest);
    ensure!(fastest < MOMENT, "the machine was too slow to try it: {fastest:?}");
    loads.all_answered().map(drop)
}

/// The next pod of the address has another name and interface.
fn same_address(shop: &mut ClusterShop) -> Result<()> {
    let (old, new) = (
        shop.bench.add_pod(CHAOS_NODE, "old")?,
        shop.bench.add_pod(CHAOS_NODE, "new")?,
    );
    shop.announce(&old)?;
    wait_owned(shop, &old, "old")?;
    let loads = Loads::start(shop)?;
    let heir = PodManifest {
        ips: old.ips().to_vec(),
        ..shop.pod_manifest(&new)
    };
    // the network plugin gives the address to the new pod's interface while the objects change
    shop.bench.remove_pod(&old);
    let Pod { netns, interface, .. } = &new;
    netns.ip(&format!(
        "addr add {}/32 dev eth0\naddr add {}/128 dev eth0 nodad\naddr del {}/32 dev eth0\naddr del {}/128 dev eth0\n",
        old.v4, old.v6, new.v4, new.v6
    ))?;
    shop.bench.nodes[CHAOS_NODE].netns.ip(&format!(
        "route replace {}/32 dev {interface} scope link\nroute replace {}/128 dev {interface}\n",
        old.v4, old.v6
    ))?;
    let took = replace(shop, "old", &heir)?;
    let start = Instant::now();
    wait_owned(shop, &new, "new")?;
    report(
        "same address again: made to captured at its own interface",
        start.elapsed(),
    );
    // and to and fro, until it was fast enough to be what the test says
    let (mut fastest, mut names) = (took, ["new", "old"]);
    for _ in 0..ATTEMPTS {
        if fastest < MOMENT {
            break;
        }
        let next = PodManifest {
            name: names[1].to_owned(),
            ..heir.clone()
        };
        fastest = fastest.min(replace(shop, names[0], &next)?);
        wait_owned(shop, &new, names[1])?;
        names.reverse();
    }
    report("deleted and made again, same address", fastest);
    ensure!(fastest < MOMENT, "the machine was too slow to try it: {fastest:?}");
    loads.all_answered().map(drop)
}
