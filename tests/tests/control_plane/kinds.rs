//! TrafficPolicies and HTTPRoutes at a real API server: what holds is taken, what does not is refused with a sentence that names its field; and
//! daemons read kinds that come and go without waiting for them.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    daemon::HEALTH_ADDR,
    kubernetes::{
        ControlPlane,
        shop::{CHAOS_NODE, ClusterShop},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{bare, report, with_daemons};

/// Guard of waits for a kind that is asked for every 15 s or so, on a busy machine.
const ASKED_GUARD: Duration = Duration::from_secs(90);

/// A row of `tests/policies/invalid.yaml`.
#[derive(Deserialize)]
struct Wrong {
    spec: Value,
    field: String,
    api: String,
}

fn table<T: DeserializeOwned>(file: &str) -> Result<Vec<T>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_yaml_ng::from_str(&text)?)
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "weft.mesh/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

/// `kubectl apply` of these objects, as people do it: what it says, and whether it is content.
fn kubectl_apply(plane: &ControlPlane, objects: &[Value]) -> Result<Result<String>> {
    let file = plane.options().dir.join("apply.json");
    fs::write(
        &file,
        json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(),
    )?;
    Ok(plane.kubectl(&["apply", "--filename", &file.to_string_lossy()]))
}

/// Applies the definition that users apply.
fn install(plane: &ControlPlane) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/daemonset/crds.yaml");
    plane.apply(&fs::read_to_string(file)?)?;
    established(plane, "trafficpolicies.weft.mesh")
}

fn established(plane: &ControlPlane, name: &str) -> Result<()> {
    let definition = format!("customresourcedefinition/{name}");
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &definition])?;
    Ok(())
}

#[test]
fn each_wrong_policy_is_refused_at_kubectl_apply_with_its_field_and_what_to_do() {
    bare(
        |_| {},
        |world| {
            install(&world.plane)?;
            let wrong: Vec<Wrong> = table("invalid.yaml")?;
            ensure!(wrong.len() > 50, "{} rows", wrong.len());
            let named = |(i, wrong): (usize, &Wrong)| policy(&format!("wrong-{i}"), &wrong.spec);
            let objects: Vec<_> = wrong.iter().enumerate().map(named).collect();
            let Err(told) = kubectl_apply(&world.plane, &objects)? else {
                anyhow::bail!("all of it was taken");
            };
            let told = format!("{told:#}");
            let mut failed = Vec::new();
            for (i, Wrong { spec, field, api }) in wrong.iter().enumerate() {
                let after = told.split(&format!("\"wrong-{i}\" is invalid:")).nth(1);
                let said = after
                    .and_then(|after| after.split(" is invalid:").next())
                    .unwrap_or_default();
                // CEL and schema name the field, and then say what is wrong
                if !said.contains(&format!("{field}: ")) || !said.contains(api.as_str()) {
                    failed.push(format!("{spec}: {field}: {api}\n  was told: {said}"));
                }
            }
            ensure!(
                failed.is_empty(),
                "{} of {}:\n{}",
                failed.len(),
                wrong.len(),
                failed.join("\n")
            );
            let there = world.plane.kubectl(&["get", "trafficpolicies", "--output=name"])?;
            ensure!(there.trim().is_empty(), "{there}");
            Ok(())
        },
    );
}

#[test]
fn each_right_policy_is_taken_with_its_defaults_and_shown_in_columns() {
    bare(
        |_| {},
        |world| {
            let plane = &world.plane;
            install(plane)?;
            let specs: Vec<Value> = table("valid.yaml")?;
            let named = |(i, spec): (usize, &Value)| policy(&format!("right-{i}"), spec);
            let objects: Vec<_> = specs.iter().enumerate().map(named).collect();
            kubectl_apply(plane, &objects)??;
            let there = plane.kubectl(&["get", "tp", "--output=name"])?;
            ensure!(there.lines().count() == specs.len(), "{there}");
            let defaults = policy(
                "defaults",
                &json!({"targetRefs": [{"name": "web"}], "circuitBreaker": {}, "retry": {"budget": {}}}),
            );
            kubectl_apply(plane, &[defaults])??;
            let spec: Value =
                serde_json::from_str(&plane.kubectl(&["get", "tp", "defaults", "--output=jsonpath={.spec}"])?)?;
            let expected = json!({
                "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
                "circuitBreaker": {
                    "failureThreshold": 5, "successThreshold": 3, "timeout": "30s", "halfOpenRequests": 1,
                    "failureOn": ["connect-failure", "reset", "timeout", "5xx"], "maxEjectionPercent": 100, "whenAllOpen": "FailFast",
                },
                "retry": {"budget": {"percent": 20, "interval": "10s", "minRetryRate": {"count": 10, "interval": "1s"}}},
            });
            ensure!(spec == expected, "{spec}");
            let status = json!({"status": {"ancestors": [{
                "ancestorRef": {"group": "", "kind": "Service", "name": "web"},
                "controllerName": "weft.mesh/mesh-daemon",
                "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "valid",
                                "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }]}});
            plane.kubectl(&[
                "patch",
                "tp",
                "right-0",
                "--subresource=status",
                "--type=merge",
                "--patch",
                &status.to_string(),
            ])?;
            let shown = plane.kubectl(&["get", "tp", "right-0"])?;
            let words: Vec<_> = shown.split_whitespace().collect();
            ensure!(
                words.starts_with(&[
                    "NAME",
                    "TARGET",
                    "LOAD",
                    "BALANCER",
                    "ACCEPTED",
                    "AGE",
                    "right-0",
                    "web",
                    "RoundRobin",
                    "True"
                ]),
                "{shown}"
            );
            let explained = plane.kubectl(&["explain", "trafficpolicy.spec.circuitBreaker.failureThreshold"])?;
            ensure!(
                explained.contains("Failures in a row that open the breaker"),
                "{explained}"
            );
            Ok(())
        },
    );
}

/// A definition of HTTPRoutes that takes everything: the standard's own checks are the standard's.
fn routes_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "httproutes.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test's own"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

/// Waits until the daemon behind the proxy has so many objects of a kind, and knows whether the server has the kind at all.
fn wait_objects(shop: &mut ClusterShop, kind: &str, absent: f64, count: f64) -> Result<()> {
    let daemon = shop.daemon(CHAOS_NODE)?;
    wait_for("the objects of a kind", ASKED_GUARD, || {
        let metrics = daemon.metrics()?;
        let of = |name| metrics.sum(name, &[("kind", kind)]);
        let found = (of("weft_watch_absent"), of("weft_objects"));
        ensure!(found == (absent, count), "{kind}: {found:?}, not {:?}", (absent, count));
        Ok(Some(()))
    })
}

#[test]
fn kinds_that_the_server_does_not_have_are_not_waited_for_and_come_and_go() {
    with_daemons(|shop| {
        // it is ready without them
        let (code, text) = shop.daemon(CHAOS_NODE)?.get(HEALTH_ADDR, "/readyz?verbose")?;
        ensure!(code == 200 && text.contains("list of HTTPRoutes"), "{code}: {text}");
        wait_objects(shop, "HTTPRoute", 1.0, 0.0)?;
        kubectl_apply(&shop.objects.plane, &[routes_definition()])??;
        established(&shop.objects.plane, "httproutes.gateway.networking.k8s.io")?;
        let start = std::time::Instant::now();
        let parents = json!([{"group": "", "kind": "Service", "name": "web"}]);
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "default"}, "spec": {"parentRefs": parents},
        });
        kubectl_apply(&shop.objects.plane, &[route])??;
        wait_objects(shop, "HTTPRoute", 0.0, 1.0)?;
        report("a definition that is new to its first object read", start.elapsed());
        // and the kind that is installed with the daemon
        let right = policy("p", &json!({"targetRefs": [{"name": "web"}], "retry": {}}));
        kubectl_apply(&shop.objects.plane, &[right])??;
        wait_objects(shop, "TrafficPolicy", 0.0, 1.0)?;
        let plane = &shop.objects.plane;
        plane.kubectl(&[
            "delete",
            "customresourcedefinition",
            "httproutes.gateway.networking.k8s.io",
            "trafficpolicies.weft.mesh",
        ])?;
        wait_objects(shop, "HTTPRoute", 1.0, 0.0)?;
        wait_objects(shop, "TrafficPolicy", 1.0, 0.0)?;
        let (code, text) = shop.daemon(CHAOS_NODE)?.get(HEALTH_ADDR, "/readyz")?;
        ensure!(code == 200, "{code}: {text}");
        install(&shop.objects.plane)?;
        wait_objects(shop, "TrafficPolicy", 0.0, 0.0)
    });
}
