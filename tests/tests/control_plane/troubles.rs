//! A server that drips, stalls, cuts, fails, refuses or overfills: what serves goes on, what is missing is named, and all is well when it is over.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mesh_tests::{
    announce::Announce,
    bench::{Pod, wait_for},
    client::{self, Version},
    daemon::{DaemonOptions, HANG_GUARD, HEALTH_ADDR},
    kubernetes::{
        chaos::{Effect, Rule},
        shop::{CHAOS_NODE, Cluster, ClusterShop},
    },
    shop::{NAMESPACE, WEB4, captured_connections},
};
use serde_json::json;

use crate::{Loads, WATCHES, captured, generation, report, say, tell, watches_up};

/// Guard of waits for what the daemon itself gives up on after 30 s.
const STALL_GUARD: Duration = Duration::from_secs(90);
/// Guard of waits for a fault that is met while the daemon serves: its bound of 30 s, and as much again.
const MET_GUARD: Duration = Duration::from_secs(60);
/// Guard of waits that may last as long as the longest pause between two attempts, and then some.
const BACKOFF_GUARD: Duration = Duration::from_secs(60);
/// Bytes that dripped before the drip counts as met.
const DRIPS: u32 = 3;
/// EndpointSlices that do not fit in a page of 500.
const MORE_THAN_A_PAGE: usize = 620;
/// As much as etcd takes at once, in bytes.
const HUGE: usize = 3 << 19;
/// By how much less is tried after a refusal: the object is more than its largest string, and its status comes later.
const LESS: usize = 4 << 10;
/// How often less is tried.
const ATTEMPTS: usize = 8;
/// Pods in the API server with the huge one: client, three servers.
const PODS: f64 = 5.0;

/// Starts the daemon behind the chaos proxy for the first time, as it were: without a state that could serve instead.
fn spawn(shop: &mut ClusterShop) -> Result<()> {
    shop.daemons[CHAOS_NODE] = None;
    let state = shop.objects.state_dir(&shop.bench.nodes[CHAOS_NODE].name);
    if state.exists() {
        fs::remove_dir_all(&state)?;
    }
    let daemon = mesh_tests::daemon::Daemon::spawn(&shop.bench, CHAOS_NODE, &shop.objects, &DaemonOptions::default())?;
    shop.daemons[CHAOS_NODE] = Some(daemon);
    Ok(())
}

/// Waits until `/readyz` is not ready and says all these words.
fn wait_says(shop: &mut ClusterShop, words: &[&str], guard: Duration) -> Result<String> {
    let daemon = shop.daemon(CHAOS_NODE)?;
    wait_for("words of /readyz", guard, || {
        let (code, text) = daemon.get(HEALTH_ADDR, "/readyz?verbose")?;
        ensure!(code == 503, "it answers {code}: {text}");
        let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
        ensure!(missing.is_empty(), "it does not say {missing:?}: {text}");
        Ok(Some(text))
    })
}

/// The daemon gets ready once the rules are gone.
fn well_again(shop: &mut ClusterShop) -> Result<()> {
    shop.objects.chaos.clear();
    let start = Instant::now();
    shop.daemon(CHAOS_NODE)?.wait_ready()?;
    report("trouble over to ready", start.elapsed());
    Ok(())
}

/// One thing that is wrong, and over at its end.
type Trouble = fn(&mut ClusterShop) -> Result<()>;

#[test]
fn what_is_wrong_at_the_start_is_named_with_what_to_do_and_tried_again() {
    tell(ClusterShop::in_cluster(), |shop| {
        let troubles: [(&str, Trouble); 6] = [
            ("forbidden", forbidden),
            ("unreachable", unreachable),
            ("wrong node name", wrong_node_name),
            ("dripping", dripping),
            ("cut", cut),
            ("paged", paged),
        ];
        for (name, trouble) in troubles {
            trouble(shop).context(name)?;
        }
        Ok(())
    });
}

/// One kind is forbidden.
fn forbidden(shop: &mut ClusterShop) -> Result<()> {
    shop.objects
        .chaos
        .set([Rule::all(Effect::Forbidden).of("endpointslices")]);
    spawn(shop)?;
    let words = ["EndpointSlices", "403", "ClusterRole", "list of EndpointSlices"];
    let said = wait_says(shop, &words, HANG_GUARD)?;
    ensure!(!said.contains("watch Pods (403)"), "{said}");
    say(&format!(
        "/readyz: {}",
        said.lines().find(|line| line.contains("403")).unwrap_or_default()
    ));
    let metrics = shop.daemon(CHAOS_NODE)?.metrics()?;
    ensure!(generation(&metrics) == 0.0, "it published without EndpointSlices");
    well_again(shop)
}

/// Nothing listens.
fn unreachable(shop: &mut ClusterShop) -> Result<()> {
    shop.objects.chaos.refuse();
    spawn(shop)?;
    let said = wait_says(shop, &["198.51.100.2:7443", "cannot be reached"], HANG_GUARD)?;
    say(&format!(
        "/readyz: {}",
        said.lines().find(|line| line.contains("reached")).unwrap_or_default()
    ));
    well_again(shop)
}

/// No Node has the daemon's name.
fn wrong_node_name(shop: &mut ClusterShop) -> Result<()> {
    shop.objects.plane.kubectl(&["delete", "node", "n1"])?;
    spawn(shop)?;
    let said = wait_says(shop, &["no Node is named n1", "n2", "--node-name"], HANG_GUARD)?;
    say(&format!(
        "/readyz: {}",
        said.lines().find(|line| line.contains("named")).unwrap_or_default()
    ));
    let ips = shop.bench.nodes[0].ips();
    let cidrs = ["10.244.1.0/24".to_owned(), "fd44:1::/64".to_owned()];
    shop.objects.node("n1", &ips, &cidrs)?;
    shop.daemon(CHAOS_NODE)?.wait_ready()
}

/// One byte a second.
fn dripping(shop: &mut ClusterShop) -> Result<()> {
    shop.objects
        .chaos
        .set([Rule::all(Effect::Drip(Duration::from_secs(1)))]);
    spawn(shop)?;
    let start = Instant::now();
    wait_says(shop, &["30 s", "see its load"], STALL_GUARD)?;
    report("one byte a second to told in /readyz", start.elapsed());
    ensure!(
        generation(&shop.daemon(CHAOS_NODE)?.metrics()?) == 0.0,
        "half a list was published"
    );
    well_again(shop)
}

/// Lists end in the middle.
fn cut(shop: &mut ClusterShop) -> Result<()> {
    for in_order in [false, true] {
        shop.objects
            .chaos
            .set([Rule::all(Effect::Cut { after: 700, in_order })]);
        spawn(shop)?;
        let words = if in_order { "cut its answer short" } else { "broke" };
        wait_says(shop, &[words], HANG_GUARD)?;
        ensure!(
            generation(&shop.daemon(CHAOS_NODE)?.metrics()?) == 0.0,
            "half a list was published"
        );
        well_again(shop)?;
    }
    Ok(())
}

#[test]
fn while_it_serves_a_server_may_drip_stall_cut_and_fail() {
    captured(|shop| {
        let loads = Loads::start(shop)?;
        let cut = |in_order| Rule::all(Effect::Cut { after: 100, in_order });
        let status = |code, retry_after| Rule::all(Effect::Status { code, retry_after }).every(2);
        let drip = Rule::all(Effect::Drip(Duration::from_secs(1))).of("namespaces");
        let faults = [
            ("drip", drip),
            ("stall", Rule::all(Effect::Stall)),
            ("cut in the middle of a line", cut(false)),
            ("cut as if at the end", cut(true)),
            ("500", status(500, None)),
            ("503", status(503, None)),
            ("429", status(429, Some(1))),
        ];
        let mut on = true;
        for (name, rule) in faults {
            on = !on;
            label_under(shop, name, &rule, on).with_context(|| name.to_owned())?;
        }
        loads.all_answered().map(drop)
    });
}

/// The namespace's label changes under a fault that lasts until it is met, and is told if the daemon can know of it.
fn label_under(shop: &mut ClusterShop, name: &str, rule: &Rule, on: bool) -> Result<()> {
    // a stall shows in nothing but that the daemon gives up; a drip is over before that, some bytes into an object
    let (met, told): (u32, Option<&[(&str, &str)]>) = match name {
        "drip" => (DRIPS, None),
        "stall" => (1, Some(&[("reason", "timeout")])),
        _ => (1, Some(&[])),
    };
    let failures = |shop: &mut ClusterShop| -> Result<f64> {
        let metrics = shop.daemon(CHAOS_NODE)?.metrics()?;
        Ok(told.map_or(0.0, |told| metrics.sum("weft_watch_failures_total", told)))
    };
    let before = failures(shop)?;
    let published = generation(&shop.daemon(CHAOS_NODE)?.metrics()?);
    let start = Instant::now();
    shop.objects.chaos.set([rule.clone()]);
    if name == "stall" {
        // lists are given up on after 30 s, watches that say nothing only after 120 s
        shop.objects.chaos.expire_watches();
    }
    if name.chars().all(|digit| digit.is_ascii_digit()) {
        // open watches know nothing of it
        shop.objects.chaos.reset_connections();
    }
    shop.objects.namespace(NAMESPACE, on.then_some("enabled"))?;
    wait_for("the fault to be met", MET_GUARD, || {
        let is_told = told.is_none() || failures(shop)? > before;
        Ok((is_told && rule.met() >= met).then_some(()))
    })?;
    report(&format!("{name} begun to met and told"), start.elapsed());
    if ["drip", "stall"].contains(&name) {
        let now = generation(&shop.daemon(CHAOS_NODE)?.metrics()?);
        ensure!(now == published, "the change passed though the server did not let it");
    }
    shop.objects.chaos.clear();
    let start = Instant::now();
    // the pauses between attempts have grown from fault to fault, up to 30 s
    wait_for("the change", BACKOFF_GUARD, || shop.wait_captured(on).map(Some))?;
    report(&format!("{name} over to the change seen"), start.elapsed());
    Ok(())
}

/// Lists do not stream: they come in pages of 500.
fn paged(shop: &mut ClusterShop) -> Result<()> {
    shop.objects
        .plane
        .with_client(|client| async move { many_slices(client).await })?;
    shop.objects.chaos.set([Rule::all(Effect::RefuseStreaming)]);
    let start = Instant::now();
    spawn(shop)?;
    shop.daemon(CHAOS_NODE)?.wait_ready()?;
    report("ready with lists in pages", start.elapsed());
    let asked = shop.objects.chaos.log().since(start);
    let lists: Vec<_> = asked.iter().filter(|request| !request.is_watch()).collect();
    ensure!(lists.iter().all(|list| list.limit() == Some(500)), "{lists:?}");
    let pages = lists.iter().filter(|list| list.resource == "endpointslices");
    let continued = pages.clone().filter(|list| list.is_continuation()).count();
    ensure!(pages.count() == 2 && continued == 1, "{lists:?}");
    let metrics = shop.daemon(CHAOS_NODE)?.metrics()?;
    let read = metrics.sum("weft_watch_events_total", &[("kind", "EndpointSlice")]);
    ensure!(read > 620.0, "only {read} EndpointSlices were read");
    Ok(())
}

async fn many_slices(client: kube::Client) -> Result<()> {
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    let api: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    for number in 0..MORE_THAN_A_PAGE {
        let slice = serde_json::from_value(json!({
            "metadata": {"name": format!("many-{number}"), "labels": {"endpointslice.kubernetes.io/managed-by": "bench"}},
            "addressType": "IPv4",
            "endpoints": [],
        }))?;
        api.create(&PostParams::default(), &slice).await?;
    }
    Ok(())
}

#[test]
fn an_object_as_large_as_etcd_takes_is_carried_past() {
    captured(|shop| {
        let loads = Loads::start(shop)?;
        let before = shop.daemon(CHAOS_NODE)?.process.status("VmHWM")?;
        let pod = shop.bench.add_pod(CHAOS_NODE, "huge")?;
        let bytes = make_huge(shop, &pod)?;
        wait_for("the huge pod captured", HANG_GUARD, || {
            let before = shop.metrics()?;
            client::once(&pod.netns, Version::Http1, WEB4, "/")?;
            Ok((captured_connections(&shop.metrics()?.since(&before)) > 0.0).then_some(()))
        })?;
        // and it is listed as well as watched
        let watched = shop.daemon(CHAOS_NODE)?.metrics()?;
        shop.objects.chaos.expire_watches();
        let daemon = shop.daemon(CHAOS_NODE)?;
        wait_for("the huge pod listed", HANG_GUARD, || {
            let now = daemon.metrics()?;
            let listed = now.since(&watched).sum("weft_watch_relists_total", &[("kind", "Pod")]);
            let (up, snapshot) = (watches_up(&now), daemon.snapshot()?);
            let known = pod.ips().iter().all(|ip| snapshot.contains(&format!("workload {ip} ")));
            let pods = now.sum("weft_objects", &[("kind", "Pod")]);
            ensure!(
                listed >= 1.0 && up == WATCHES && known && pods == PODS,
                "{listed} lists of Pods, {up} watches up, {pods} Pods, the huge one among them: {known}"
            );
            Ok(Some(()))
        })?;
        let grown = shop.daemon(CHAOS_NODE)?.process.status("VmHWM")?.saturating_sub(before);
        say(&format!(
            "a Pod of {bytes} bytes as JSON, watched and listed: VmHWM of the daemon grew by {grown} KiB"
        ));
        ensure!(grown < 32 << 10, "VmHWM grew by {grown} KiB");
        shop.release()?;
        loads.all_answered().map(drop)
    });
}

/// Makes the largest Pod that the API server stores, running; hands back its bytes as JSON.
fn make_huge(shop: &ClusterShop, pod: &Pod) -> Result<usize> {
    let (head, status) = Cluster::pod_objects(&shop.pod_manifest(pod));
    shop.objects.plane.with_client(|client| async move {
        let pods: Api<PodObject> = Api::namespaced(client, NAMESPACE);
        for attempt in 0..ATTEMPTS {
            let mut head = head.clone();
            let value = "x".repeat(HUGE - attempt * LESS);
            head["spec"]["containers"][0]["env"] = json!([{"name": "HUGE", "value": value}]);
            let made = match pods
                .create(&PostParams::default(), &serde_json::from_value(head)?)
                .await
            {
                Ok(_) => {
                    pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(&status))
                        .await
                }
                Err(refused) => Err(refused),
            };
            match made {
                Ok(made) => {
                    say(&format!(
                        "refused {attempt} times; a string of {} bytes is stored",
                        HUGE - attempt * LESS
                    ));
                    ensure!(
                        attempt > 0,
                        "etcd takes more than {HUGE} bytes: this is not the largest object"
                    );
                    return Ok(serde_json::to_vec(&made)?.len());
                }
                Err(refused) if refused.to_string().contains("too large") => {}
                Err(other) => return Err(other.into()),
            }
            if pods.get_opt(&pod.name).await?.is_some() {
                pods.delete(&pod.name, &DeleteParams::default().grace_period(0)).await?;
            }
        }
        bail!("{HUGE} bytes less {ATTEMPTS} times {LESS} are still too large for etcd")
    })
}
