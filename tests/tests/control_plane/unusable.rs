//! What cannot be applied as it is written: a status that names the field, one Event, a count; and what was right serves on.

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    daemon::HANG_GUARD,
    kubernetes::{
        ControlPlane,
        shop::{CHAOS_NODE, ClusterShop},
    },
    shop::NAMESPACE,
};
use serde_json::{Value, json};

use crate::{event, say, statuses, with_daemons};

/// A rule with a filter that Weft has not.
fn mirrored() -> Value {
    json!({
        "matches": [{"path": {"type": "PathPrefix", "value": "/mirror"}}],
        "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "web", "port": 80}}}],
        "backendRefs": [{"name": "web", "port": 80}],
    })
}

fn apply_route(plane: &ControlPlane, rules: &[Value]) -> Result<()> {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": statuses::ROUTE, "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}], "rules": rules},
    });
    plane.apply(&route.to_string())
}

/// How many objects of a kind are set aside for a reason, as the daemon of a node counts them.
fn counted(shop: &mut ClusterShop, kind: &str, reason: &str) -> Result<f64> {
    let metrics = shop.daemon(CHAOS_NODE)?.metrics()?;
    Ok(metrics.sum("weft_objects_set_aside", &[("kind", kind), ("reason", reason)]))
}

#[test]
fn a_route_that_cannot_be_applied_is_told_by_its_status_and_an_event() {
    statuses::with_routes(|shop| {
        let plane = &shop.objects.plane;
        apply_route(
            plane,
            &[mirrored(), json!({"backendRefs": [{"name": "web", "port": 80}]})],
        )?;
        let partly = "True UnsupportedValue";
        let route = statuses::wait_condition(plane, "PartiallyInvalid", partly, HANG_GUARD)?;
        let message = statuses::message(&route, "PartiallyInvalid");
        ensure!(
            message.starts_with("Dropped Rule 0") && message.contains("spec.rules[0].filters[0]"),
            "{message}"
        );
        statuses::wait_condition(plane, "Accepted", "True Accepted", HANG_GUARD)?;
        let line = event(plane, "SetAside Warning HTTPRoute/r ")?;
        say(&format!("kubectl get events: {line}"));
        ensure!(line.contains("spec.rules[0].filters[0]"), "{line}");
        apply_route(plane, &[mirrored()])?;
        let route = statuses::wait_condition(plane, "Accepted", "False UnsupportedValue", HANG_GUARD)?;
        let message = statuses::message(&route, "Accepted");
        ensure!(message.contains("spec.rules[0].filters[0]"), "{message}");
        ensure!(
            statuses::message(&route, "PartiallyInvalid").is_empty(),
            "no rule is left to be a part: {}",
            route["status"]
        );
        let count = counted(shop, "HTTPRoute", "unsupported_rule")?;
        ensure!(count == 1.0, "{count} are counted");
        Ok(())
    });
}

fn apply_policy(plane: &ControlPlane, requests: u32) -> Result<()> {
    let policy = json!({
        "apiVersion": "weft.mesh/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "slips", "namespace": NAMESPACE},
        "spec": {"targetRefs": [{"name": "web"}], "limits": {"maxRequests": requests}},
    });
    plane.apply(&policy.to_string())
}

/// As a cluster may have it whose definition is of another release: the API server checks nothing.
const UNCHECKED: &str = r#"[{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
  "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]"#;

/// Status, reason and generation of its one condition, and the message.
fn told(plane: &ControlPlane) -> Result<(String, String)> {
    let text = plane.kubectl(&[
        "--namespace",
        NAMESPACE,
        "get",
        "trafficpolicy",
        "slips",
        "--output=json",
    ])?;
    let policy: Value = serde_json::from_str(&text)?;
    let condition = &policy["status"]["ancestors"][0]["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    let line = format!(
        "{} {} {}",
        text("status"),
        text("reason"),
        condition["observedGeneration"]
    );
    Ok((line, text("message")))
}

/// The limit that the daemon of a node serves, and the generation that it is of.
fn served(shop: &mut ClusterShop) -> Result<(Value, Value)> {
    let output = shop
        .daemon(CHAOS_NODE)?
        .look(&["policy", &format!("{NAMESPACE}/web"), "-o", "json"])?;
    let view: Value = serde_json::from_slice(&output.stdout)?;
    let settings = view["settings"].as_array().context("no settings")?;
    let limit = settings.iter().find(|setting| setting["field"] == "limits.maxRequests");
    let limit = limit.context("no limit")?;
    Ok((limit["value"].clone(), limit["from"]["generation"].clone()))
}

#[test]
fn a_spec_that_slips_past_the_api_server_does_not_replace_the_last_valid_one() {
    with_daemons(|shop| {
        let plane = &shop.objects.plane;
        apply_policy(plane, 7)?;
        wait_for("the valid spec's status", HANG_GUARD, || {
            let (line, message) = told(plane)?;
            ensure!(line == "True Accepted 1", "{line}: {message}");
            Ok(Some(()))
        })?;
        ensure!(
            apply_policy(plane, 0).is_err(),
            "the API server takes what it should refuse"
        );
        let patch = [
            "patch",
            "crd",
            "trafficpolicies.weft.mesh",
            "--type=json",
            "--patch",
            UNCHECKED,
        ];
        plane.kubectl(&patch)?;
        wait_for("a server that no longer checks", HANG_GUARD, || {
            apply_policy(plane, 0).map(Some)
        })?;
        let message = wait_for("the wrong spec's status", HANG_GUARD, || {
            let (line, message) = told(plane)?;
            ensure!(line == "False Invalid 2", "{line}: {message}");
            Ok(Some(message))
        })?;
        ensure!(
            message.starts_with("spec.limits.maxRequests") && message.contains("of generation 1, goes on serving"),
            "{message}"
        );
        let line = event(plane, "SetAside Warning TrafficPolicy/slips ")?;
        say(&format!("kubectl get events: {line}"));
        ensure!(line.contains("spec.limits.maxRequests"), "{line}");
        let expected = (json!("7"), json!(1));
        let served = served(shop)?;
        ensure!(served == expected, "{served:?}");
        let count = counted(shop, "TrafficPolicy", "invalid_policy")?;
        ensure!(count == 1.0, "{count} are counted");
        Ok(())
    });
}
