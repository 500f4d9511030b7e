//! The API server itself: up, reached from the bench's nodes, stopped and started, its history forgotten, gone without a trace.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::{Bench, OUTSIDE_V4, OUTSIDE_V6, Options, wait_for},
    daemon::HANG_GUARD,
    kubernetes::{ControlPlane, ControlPlaneOptions},
    tcp,
};

use crate::{World, bare, report, tell, usual};

/// The reason that goes with 410 Gone; the number alone may stand in any uid.
const GONE: &str = "Expired";

#[test]
fn it_is_ready_and_both_nodes_reach_it_by_both_families() {
    struct Town {
        plane: ControlPlane,
        bench: Bench,
    }
    let town = Bench::start(Options::default()).and_then(|bench| {
        let options = ControlPlaneOptions::new(&bench.outside, bench.dir().join("kubernetes"), OUTSIDE_V4);
        let plane = ControlPlane::start(options)?;
        Ok(Town { plane, bench })
    });
    tell(town, |town| {
        report("from nothing to a ready control plane", town.plane.ready_in());
        let version = town.plane.kubectl(&["version"])?;
        ensure!(version.contains("Server Version: v1.36.2"), "{version}");
        for node in &town.bench.nodes {
            for ip in [IpAddr::from(OUTSIDE_V4), OUTSIDE_V6.into()] {
                tcp::connect(&node.netns, (ip, 6443).into()).with_context(|| format!("from {} to {ip}", node.name))?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_restart_of_the_api_server_keeps_objects_identity_and_tokens() {
    usual(|world| {
        let plane = &mut world.plane;
        plane.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"])?;
        let token = plane.token("default", "default")?;
        let user = plane.kubeconfig_for("user", None, &token)?;
        let certificate = fs::read(plane.certificate())?;
        let who = |plane: &ControlPlane| plane.kubectl(&["auth", "whoami", "--kubeconfig", &user.to_string_lossy()]);
        ensure!(who(plane)?.contains("system:serviceaccount:default:default"));

        plane.stop_api_server();
        ensure!(plane.kubectl(&["get", "configmap", "kept"]).is_err(), "it is stopped");
        plane.start_api_server()?;
        let value = plane.kubectl(&["get", "configmap", "kept", "--output=jsonpath={.data.key}"])?;
        ensure!(value == "value", "{value}");
        ensure!(who(plane)?.contains("system:serviceaccount:default:default"));
        ensure!(fs::read(plane.certificate())? == certificate);
        Ok(())
    });
}

#[test]
fn an_older_resource_version_is_gone_once_history_is_compacted() {
    // with its cache the API server would answer from its own memory
    bare(
        |options| options.extra_args.api_server.push("--watch-cache=false".into()),
        |world| {
            let version = older_version(world)?;
            let told = watch_from(world, &version)?;
            ensure!(told.contains("ADDED") && !told.contains(GONE), "before: {told}");
            world.plane.compact_history()?;
            let told = watch_from(world, &version)?;
            ensure!(told.contains(GONE) && !told.contains("ADDED"), "after: {told}");
            Ok(())
        },
    );
}

#[test]
fn a_compaction_during_a_restart_makes_older_versions_gone_with_the_cache_too() {
    bare(
        |_| {},
        |world| {
            let version = older_version(world)?;
            let told = watch_from(world, &version)?;
            ensure!(told.contains("ADDED"), "before: {told}");
            world.plane.stop_api_server();
            world.plane.compact_history()?;
            world.plane.start_api_server()?;
            let told = watch_from(world, &version)?;
            ensure!(told.contains(GONE) && !told.contains("ADDED"), "after: {told}");
            Ok(())
        },
    );
}

/// A resourceVersion after which more than one thing happened.
fn older_version(world: &World) -> Result<String> {
    let made = [
        "create",
        "configmap",
        "first",
        "--output=jsonpath={.metadata.resourceVersion}",
    ];
    let version = world.plane.kubectl(&made)?;
    world.plane.kubectl(&["create", "configmap", "second"])?;
    // etcd keeps the revision that it is compacted at: it must be a later one
    world.plane.kubectl(&["create", "configmap", "third"])?;
    Ok(version)
}

/// What a watch over ConfigMaps from this version hears within a second; asked again as long as a busy server says nothing in that time.
fn watch_from(world: &World, version: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={version}");
    wait_for("a word of the watch", HANG_GUARD, || {
        world.plane.with_client(async |client| {
            let request = hyper::Request::get(&path).body(Vec::new())?;
            let told = client.request_text(request).await;
            Ok(Some(told.unwrap_or_else(|error| format!("{error:?}"))).filter(|told| !told.is_empty()))
        })
    })
}

#[test]
fn two_at_the_same_address_do_not_meet() {
    let both = World::start(|_| {}).and_then(|one| Ok((one, World::start(|_| {})?)));
    tell(both, |(one, two)| {
        one.plane.kubectl(&["create", "configmap", "mine"])?;
        let names = two.plane.kubectl(&["get", "configmaps", "--output=name"])?;
        ensure!(!names.contains("mine"), "{names}");
        let foreign = one.plane.kubeconfig_for("foreign", None, &two.plane.admin_token()?)?;
        let said = one
            .plane
            .kubectl(&["get", "nodes", "--kubeconfig", &foreign.to_string_lossy()]);
        ensure!(said.is_err(), "the other's administrator is let in: {said:?}");
        Ok(())
    });
}

#[test]
fn nothing_is_left_behind() {
    usual(|world| {
        let dir = world.plane.options().dir.clone();
        ensure!(world.plane.pids().len() == 4 && dir.join("certs").exists());
        // a second one, in the same place, must not touch the first
        let again = ControlPlane::start(world.plane.options().clone());
        ensure!(again.is_err(), "two control planes share a directory");
        ensure!(
            dir.join("certs").exists(),
            "the refused one took the files of the first"
        );
        Ok(())
    });
    let world = World::start(|_| {});
    tell(world.map(Some), |world| {
        let World { plane, netns, _run } = world.take().context("it was just made")?;
        let (pids, dir) = (plane.pids(), plane.options().dir.clone());
        drop(plane);
        ensure!(!dir.exists(), "files are left");
        ensure!(netns.pids().is_empty(), "processes are left: {:?}", netns.pids());
        for pid in pids {
            ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
        }
        Ok(())
    });
}

#[test]
fn what_is_kept_lives_on_until_its_namespace_goes() {
    let world = World::start(|options| {
        options.components.controller_manager = false;
        options.components.scheduler = false;
    });
    tell(world.map(Some), |world| {
        let World { plane, netns, _run } = world.take().context("it was just made")?;
        let (pids, dir) = (plane.pids(), plane.options().dir.clone());
        plane.keep();
        ensure!(dir.join("certs").exists(), "the files of a kept control plane are gone");
        ensure!(netns.pids().len() == pids.len(), "a kept program was ended");
        netns.remove();
        // killed; nobody but this process collects them
        wait_for("the end of the programs", HANG_GUARD, || {
            Ok(netns.pids().is_empty().then_some(()))
        })
    });
}

#[test]
fn a_server_that_cannot_start_says_why() -> Result<()> {
    let refused = World::start(|options| options.extra_args.api_server.push("--no-such-flag".into()));
    let error = refused.err().context("it started")?;
    ensure!(format!("{error:#}").contains("no-such-flag"), "{error:#}");
    Ok(())
}
