//! What people are told by kubectl alone: an Event about an object that is set aside, and why a gated pod is not captured.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use mesh_tests::{
    announce::Announce,
    bench::wait_for,
    daemon::HANG_GUARD,
    kubernetes::shop::{CHAOS_NODE, Cluster, ClusterShop},
    manifests::PodManifest,
    shop::NAMESPACE,
};
use serde_json::json;

use crate::{captured, event, events, report, say};

/// A Service whose only endpoint is a multicast group: the API server takes it, the mesh must not.
const BAD: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: bad, namespace: shop}
spec:
  clusterIP: 10.96.0.66
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: bad-1
  namespace: shop
  labels: {kubernetes.io/service-name: bad, endpointslice.kubernetes.io/managed-by: bench}
addressType: IPv4
endpoints: [{addresses: ["239.1.2.3"], conditions: {ready: true}}]
ports: [{name: http, port: 8080, protocol: TCP}]
"#;
/// What is wrong with it, as the daemon says it.
const WRONG: &str = "239.1.2.3";
/// A namespace that nobody labels at first.
const QUIET: &str = "quiet";
/// The condition, and the gate.
const CONDITION: &str = "weft.mesh/Captured";

#[test]
fn what_is_set_aside_and_what_is_not_asked_for_is_told_by_kubectl() {
    captured(|shop| {
        set_aside(shop).context("set aside")?;
        gated(shop).context("gated")
    });
}

/// Endpoints of a Service that are not used as they are written.
fn set_aside(shop: &mut ClusterShop) -> Result<()> {
    let start = Instant::now();
    let plane = &shop.objects.plane;
    plane.apply(BAD)?;
    let line = event(plane, "SetAside Warning EndpointSlice/bad-1 ")?;
    report("a bad endpoint to its Event", start.elapsed());
    say(&format!("kubectl get events: {line}"));
    ensure!(line.contains("invalid_address") && line.contains(WRONG), "{line}");
    let described = plane.kubectl(&["--namespace", NAMESPACE, "describe", "endpointslice", "bad-1"])?;
    let (_, shown) = described.split_once("Events:").unwrap_or_default();
    say(&format!("kubectl describe: {}", shown.trim()));
    ensure!(shown.contains("SetAside") && shown.contains(WRONG), "{described}");
    // both daemons see it; one Event tells it
    let events = events(plane)?;
    let told = events.lines().filter(|line| line.starts_with("SetAside ")).count();
    ensure!(told == 1, "{told} Events tell it: {events}");
    let count = shop.daemon(CHAOS_NODE)?.metrics()?.sum(
        "weft_objects_set_aside",
        &[("kind", "EndpointSlice"), ("reason", "invalid_address")],
    );
    ensure!(count == 1.0, "{count} are counted");
    Ok(())
}

/// A pod that wants to be ready only when it is captured, where nobody asks for capture.
fn gated(shop: &mut ClusterShop) -> Result<()> {
    let pod = shop.bench.add_pod(CHAOS_NODE, "gated")?;
    shop.objects.namespace(QUIET, None)?;
    let manifest = PodManifest {
        namespace: QUIET.to_owned(),
        ..shop.pod_manifest(&pod)
    };
    let (mut head, status) = Cluster::pod_objects(&manifest);
    head["spec"]["readinessGates"] = json!([{"conditionType": CONDITION}]);
    shop.objects.plane.with_client(|client| async move {
        let pods: Api<PodObject> = Api::namespaced(client, QUIET);
        pods.create(&PostParams::default(), &serde_json::from_value(head)?)
            .await?;
        pods.patch_status(&manifest.name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        Ok(())
    })?;
    let start = Instant::now();
    wait_condition(shop, "False NotEnabled")?;
    report("a gated pod to its condition", start.elapsed());
    let described = shop
        .objects
        .plane
        .kubectl(&["--namespace", QUIET, "describe", "pod", "gated"])?;
    let is_gate = |line: &&str| line.contains(CONDITION) && line.contains("False");
    ensure!(described.lines().any(|line| is_gate(&line)), "{described}");
    let start = Instant::now();
    shop.objects.namespace(QUIET, Some("enabled"))?;
    wait_condition(shop, "True Captured")?;
    report("its namespace labelled to its condition", start.elapsed());
    shop.objects.namespace(QUIET, None)?;
    wait_condition(shop, "False NotEnabled")
}

/// Waits until the condition of the gated pod has this status and reason.
fn wait_condition(shop: &ClusterShop, expected: &str) -> Result<()> {
    let format = format!(
        "--output=jsonpath={{range .status.conditions[?(@.type=='{CONDITION}')]}}{{.status}} {{.reason}}{{end}}"
    );
    wait_for("the condition", HANG_GUARD, || {
        let seen = shop
            .objects
            .plane
            .kubectl(&["--namespace", QUIET, "get", "pod", "gated", &format])?;
        ensure!(seen.trim() == expected, "it is {seen:?}, it should be {expected:?}");
        Ok(Some(()))
    })
}
