//! Statuses of routes as kubectl shows them: written by one daemon, beside other writers, and by another one when it is gone.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use mesh_tests::{
    bench::wait_for,
    daemon::{DaemonOptions, HANG_GUARD},
    kubernetes::{ControlPlane, shop::ClusterShop},
    shop::NAMESPACE,
};
use serde_json::{Value, json};

use crate::{report, say, tell, with_daemons};

/// The route of these tests.
pub(crate) const ROUTE: &str = "r";
/// Who else writes into its status.
const FOREIGN: &str = "example.net/other";
/// Who we are there.
const OWN: &str = "weft.mesh/mesh-daemon";
/// Guard of waits for a successor of a daemon that let nothing go: the lease and some looks.
const SUCCESSOR_GUARD: Duration = Duration::from_secs(90);
/// How often the route and the foreign entry change while both are written.
const CHANGES: i64 = 20;

/// A shop whose API server has HTTPRoutes, with daemons.
pub(crate) fn with_routes(story: impl FnOnce(&mut ClusterShop) -> Result<()>) {
    let shop = ClusterShop::in_cluster().and_then(|mut shop| {
        let ready = shop.objects.plane.install_http_routes();
        let ready = ready.and_then(|()| shop.start_daemons(&DaemonOptions::default()));
        if ready.is_err() {
            shop.bench.show_logs();
        }
        ready.map(|()| shop)
    });
    tell(shop, story);
}

fn service() -> Value {
    json!({"group": "", "kind": "Service", "name": "web", "port": 80})
}

fn gateway() -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"})
}

/// Applies the route with these parents, to this backend.
fn apply(plane: &ControlPlane, parents: &[Value], backend: &str) -> Result<()> {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": ROUTE, "namespace": NAMESPACE},
        "spec": {"parentRefs": parents, "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]},
    });
    plane.apply(&route.to_string())
}

/// The route as kubectl shows it.
fn route(plane: &ControlPlane) -> Result<Value> {
    let text = plane.kubectl(&["--namespace", NAMESPACE, "get", "httproute", ROUTE, "--output=json"])?;
    Ok(serde_json::from_str(&text)?)
}

fn generation(route: &Value) -> i64 {
    route["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// The entries of a controller in the route's status.
fn entries(route: &Value, controller: &str) -> Vec<Value> {
    let parents = route["status"]["parents"].as_array().into_iter().flatten();
    parents
        .filter(|entry| entry["controllerName"] == controller)
        .cloned()
        .collect()
}

/// Status and reason of a condition of ours, if it is about the route's present generation.
fn condition(route: &Value, kind: &str) -> Option<String> {
    let entries = entries(route, OWN);
    let conditions = entries.first()?["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let is_present = found["observedGeneration"].as_i64() == Some(generation(route));
    is_present.then(|| {
        format!(
            "{} {}",
            found["status"].as_str().unwrap_or_default(),
            found["reason"].as_str().unwrap_or_default()
        )
    })
}

/// The message of a condition of ours; empty without it.
pub(crate) fn message(route: &Value, kind: &str) -> String {
    let entries = entries(route, OWN);
    let conditions = entries
        .iter()
        .flat_map(|entry| entry["conditions"].as_array())
        .flatten();
    let mut of_kind = conditions.filter(|condition| condition["type"] == kind);
    let message = of_kind.next().and_then(|condition| condition["message"].as_str());
    message.unwrap_or_default().to_owned()
}

/// Waits until one of our conditions says this about the present generation, and hands back the route.
pub(crate) fn wait_condition(plane: &ControlPlane, kind: &str, expected: &str, guard: Duration) -> Result<Value> {
    wait_for("the route's condition", guard, || {
        let route = route(plane)?;
        let found = condition(&route, kind);
        ensure!(
            found.as_deref() == Some(expected),
            "{kind} is {found:?}, not {expected:?}: {}",
            route["status"]
        );
        Ok(Some(route))
    })
}

/// The node whose daemon is elected.
fn leader(shop: &ClusterShop) -> Result<usize> {
    wait_for("one elected daemon", SUCCESSOR_GUARD, || {
        let mut leaders = Vec::new();
        for (node, daemon) in shop.daemons.iter().enumerate() {
            let Some(daemon) = daemon else { continue };
            if daemon.metrics()?.sum("weft_status_leader", &[]) > 0.0 {
                leaders.push(node);
            }
        }
        ensure!(leaders.len() == 1, "elected are {leaders:?}");
        Ok(leaders.first().copied())
    })
}

/// Statuses of routes that the daemons that run have written.
fn written(shop: &ClusterShop) -> Result<f64> {
    let filter = [("object", "route"), ("result", "written")];
    Ok(shop.metrics()?.sum("weft_status_writes_total", &filter))
}

#[test]
fn a_route_gets_its_status_from_one_daemon_beside_other_writers() {
    with_routes(|shop| {
        told(shop).context("told")?;
        beside_others(shop).context("beside others")?;
        taken_back(shop).context("taken back")
    });
}

/// Conditions for the Service and none for the Gateway, by one write.
fn told(shop: &mut ClusterShop) -> Result<()> {
    leader(shop)?;
    let plane = &shop.objects.plane;
    let start = Instant::now();
    apply(plane, &[gateway(), service()], "web")?;
    let route = wait_condition(plane, "Accepted", "True Accepted", HANG_GUARD)?;
    report("kubectl apply of a route to its status", start.elapsed());
    ensure!(
        condition(&route, "ResolvedRefs").as_deref() == Some("True ResolvedRefs"),
        "{}",
        route["status"]
    );
    let all = route["status"]["parents"].as_array().map_or(0, Vec::len);
    ensure!(all == 1, "the Gateway is not ours: {}", route["status"]);
    ensure!(entries(&route, OWN)[0]["parentRef"] == service(), "{}", route["status"]);
    let shown = plane.kubectl(&["--namespace", NAMESPACE, "get", "httproute", ROUTE, "--output=yaml"])?;
    let status = shown
        .split_once("\nstatus:")
        .map(|(_, status)| status)
        .unwrap_or_default();
    say(&format!("kubectl get httproute -o yaml: status:{status}"));
    let start = Instant::now();
    apply(plane, &[gateway(), service()], "missing")?;
    let route = wait_condition(plane, "ResolvedRefs", "False BackendNotFound", HANG_GUARD)?;
    report("a backend that is missing to its condition", start.elapsed());
    let message = entries(&route, OWN)[0]["conditions"].to_string();
    ensure!(message.contains("backendRefs"), "no field is named: {message}");
    let count = written(shop)?;
    ensure!(count == 2.0, "{count} writes for two changes");
    Ok(())
}

/// Another controller changes its entry as fast as it can while ours changes: neither loses anything.
fn beside_others(shop: &mut ClusterShop) -> Result<()> {
    let plane = &shop.objects.plane;
    let is_over = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let foreign = scope.spawn(|| write_foreign(plane, &is_over));
        let changed = (0..CHANGES).try_for_each(|change| {
            apply(
                plane,
                &[gateway(), service()],
                if change % 2 == 0 { "web" } else { "missing" },
            )
        });
        let last = changed.and_then(|()| wait_condition(plane, "ResolvedRefs", "False BackendNotFound", HANG_GUARD));
        is_over.store(true, Ordering::Relaxed);
        let rounds = foreign
            .join()
            .map_err(|_| anyhow::anyhow!("the other writer panicked"))??;
        last.map(|_| rounds)
    })?;
    let route = wait_condition(plane, "ResolvedRefs", "False BackendNotFound", HANG_GUARD)?;
    say(&format!(
        "another writer wrote {rounds} times beside {CHANGES} changes of the route"
    ));
    ensure!(rounds > 1, "the other writer hardly wrote");
    ensure!(
        entries(&route, FOREIGN) == [foreign(rounds)],
        "the other's entry is {:?}",
        entries(&route, FOREIGN)
    );
    let conflicts = shop.metrics()?.sum(
        "weft_status_writes_total",
        &[("object", "route"), ("result", "conflict")],
    );
    say(&format!("of our writes {conflicts} met another's and were tried again"));
    Ok(())
}

/// Another controller's entry, after so many writes.
fn foreign(round: i64) -> Value {
    json!({
        "parentRef": gateway(),
        "controllerName": FOREIGN,
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": format!("Round {round}."),
            "observedGeneration": round, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    })
}

/// Writes as another controller does, with the same precondition, until it is over; how often.
fn write_foreign(plane: &ControlPlane, is_over: &AtomicBool) -> Result<i64> {
    plane.with_client(|client| async move {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        let routes: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk(&kind));
        let mut round = 0;
        while !is_over.load(Ordering::Relaxed) {
            let route = routes.get(ROUTE).await?;
            let mut parents = route.data["status"]["parents"].as_array().cloned().unwrap_or_default();
            parents.retain(|entry| entry["controllerName"] != FOREIGN);
            parents.push(foreign(round + 1));
            let patch = json!({
                "metadata": {"resourceVersion": route.metadata.resource_version},
                "status": {"parents": parents},
            });
            match routes
                .patch_status(ROUTE, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => round += 1,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(round)
    })
}

/// Policies have an entry for each target; the younger of two for one target says so, until the older one goes.
#[test]
fn two_policies_for_one_service_say_which_of_them_holds() {
    with_daemons(policies);
}

fn policies(shop: &mut ClusterShop) -> Result<()> {
    let plane = &shop.objects.plane;
    let conditions = "--output=jsonpath={range .status.ancestors[*]}{.ancestorRef.kind} {.ancestorRef.name} {range .conditions[?(@.type=='Accepted')]}\
                      {.status} {.reason} {.observedGeneration}{end}{end}";
    let wait = |name: &str, expected: &str| {
        wait_for("the policy's condition", HANG_GUARD, || {
            let said = plane.kubectl(&["--namespace", NAMESPACE, "get", "trafficpolicy", name, conditions])?;
            ensure!(said == expected, "{name}: {said:?}, not {expected:?}");
            Ok(Some(()))
        })
    };
    for name in ["a", "b"] {
        let start = Instant::now();
        let policy = json!({
            "apiVersion": "weft.mesh/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"targetRefs": [{"name": "web"}], "loadBalancer": {"type": "Random"}},
        });
        plane.apply(&policy.to_string())?;
        let expected = if name == "a" {
            "True Accepted"
        } else {
            "False Conflicted"
        };
        wait(name, &format!("Service web {expected} 1"))?;
        report("kubectl apply of a policy to its status", start.elapsed());
    }
    plane.kubectl(&["--namespace", NAMESPACE, "delete", "trafficpolicy", "a"])?;
    wait("b", "Service web True Accepted 1")
}

/// The Service goes from the parents, and with it our entry and no other.
fn taken_back(shop: &mut ClusterShop) -> Result<()> {
    let plane = &shop.objects.plane;
    apply(plane, &[gateway()], "web")?;
    let start = Instant::now();
    let route = wait_for("our entry to go", HANG_GUARD, || {
        let route = route(plane)?;
        ensure!(entries(&route, OWN).is_empty(), "it stands there: {}", route["status"]);
        Ok(Some(route))
    })?;
    report("a parent removed to our entry gone", start.elapsed());
    ensure!(
        entries(&route, FOREIGN).len() == 1,
        "the other's entry went too: {}",
        route["status"]
    );
    Ok(())
}

#[test]
fn another_daemon_writes_on_when_the_elected_one_is_gone() {
    with_routes(|shop| {
        killed(shop).context("killed")?;
        ended(shop).context("ended in order")
    });
}

/// As kill -9: nothing is let go.
fn killed(shop: &mut ClusterShop) -> Result<()> {
    let first = leader(shop)?;
    apply(&shop.objects.plane, &[service()], "web")?;
    wait_condition(&shop.objects.plane, "Accepted", "True Accepted", HANG_GUARD)?;
    shop.daemon(first)?.process.kill();
    shop.daemons[first] = None;
    let start = Instant::now();
    apply(&shop.objects.plane, &[service()], "missing")?;
    wait_condition(
        &shop.objects.plane,
        "ResolvedRefs",
        "False BackendNotFound",
        SUCCESSOR_GUARD,
    )?;
    report("the elected daemon killed to the next status", start.elapsed());
    ensure!(leader(shop)? != first, "it is dead");
    shop.start_daemon(first, &DaemonOptions::default())
}

/// As SIGTERM: the lease is let go.
fn ended(shop: &mut ClusterShop) -> Result<()> {
    let first = leader(shop)?;
    let other = 1 - first;
    let start = Instant::now();
    shop.daemon(first)?.terminate()?;
    shop.daemons[first] = None;
    apply(&shop.objects.plane, &[service()], "web")?;
    wait_condition(
        &shop.objects.plane,
        "ResolvedRefs",
        "True ResolvedRefs",
        SUCCESSOR_GUARD,
    )?;
    report("the elected daemon ended in order to the next status", start.elapsed());
    ensure!(leader(shop)? == other, "it has ended");
    let holder = "--output=jsonpath={.spec.holderIdentity} {.spec.leaseTransitions}";
    let lease = shop
        .objects
        .plane
        .kubectl(&["--namespace=weft-system", "get", "lease", "weft-status", holder])?;
    say(&format!("the lease: {lease}"));
    let node = &shop.bench.nodes[other].name;
    ensure!(lease.starts_with(&format!("{node}_")), "{lease}");
    Ok(())
}
