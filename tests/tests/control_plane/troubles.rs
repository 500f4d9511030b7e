//! A server that drips, stalls, cuts, fails, refuses or overfills: what serves goes on, what is missing is named, and all is well when it is over.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    announce::Announce,
    bench::wait_for,
    client::{self, Version},
    daemon::{DaemonOptions, HANG_GUARD, HEALTH_ADDR},
    kubernetes::{
        chaos::{Effect, Rule},
        shop::{CHAOS_NODE, Cluster, ClusterShop},
    },
    manifests::CAPTURE_LABEL,
    shop::{NAMESPACE, WEB4, captured_connections},
};
use serde_json::json;

use crate::{Loads, captured, generation, report, say, tell};

/// Guard of waits for what the daemon itself gives up on after 30 s.
const STALL_GUARD: Duration = Duration::from_secs(90);
/// EndpointSlices that do not fit in a page of 500.
const MORE_THAN_A_PAGE: usize = 620;
/// Bytes of an environment variable that makes a Pod nearly as large as etcd takes (1.5 MiB).
const HUGE: usize = 1_500_000;

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
        let status = |code, retry_after| Rule::all(Effect::Status { code, retry_after }).every(2);
        let faults = [
            ("drip", Rule::all(Effect::Drip(Duration::from_secs(1)))),
            ("stall", Rule::all(Effect::Stall)),
            (
                "cut in the middle of a line",
                Rule::all(Effect::Cut {
                    after: 100,
                    in_order: false,
                }),
            ),
            (
                "cut as if at the end",
                Rule::all(Effect::Cut {
                    after: 100,
                    in_order: true,
                }),
            ),
            ("500", status(500, None)),
            ("503", status(503, None)),
            ("429", status(429, Some(1))),
        ];
        let mut on = true;
        for (name, rule) in faults {
            let failures = |shop: &mut ClusterShop| -> Result<f64> {
                Ok(shop
                    .daemon(CHAOS_NODE)?
                    .metrics()?
                    .sum("weft_watch_failures_total", &[]))
            };
            let before = failures(shop)?;
            shop.objects.chaos.set([rule]);
            if name.chars().all(|digit| digit.is_ascii_digit()) {
                // open watches know nothing of it
                shop.objects.chaos.reset_connections();
            }
            on = !on;
            shop.objects.namespace(NAMESPACE, on.then_some("enabled"))?;
            if !["drip", "stall"].contains(&name) {
                wait_for("the fault to be met", HANG_GUARD, || {
                    Ok((failures(shop)? > before).then_some(()))
                })?;
            }
            shop.objects.chaos.clear();
            let start = Instant::now();
            shop.wait_captured(on).with_context(|| format!("after {name}"))?;
            report(&format!("{name} over to the change seen"), start.elapsed());
        }
        loads.all_answered().map(drop)
    });
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
    let api: kube::Api<EndpointSlice> = kube::Api::namespaced(client, NAMESPACE);
    for number in 0..MORE_THAN_A_PAGE {
        let slice = serde_json::from_value(json!({
            "metadata": {"name": format!("many-{number}"), "labels": {"endpointslice.kubernetes.io/managed-by": "bench"}},
            "addressType": "IPv4",
            "endpoints": [],
        }))?;
        api.create(&kube::api::PostParams::default(), &slice).await?;
    }
    Ok(())
}

#[test]
fn an_object_as_large_as_etcd_takes_is_carried_past() {
    captured(|shop| {
        let loads = Loads::start(shop)?;
        let before = shop.daemon(CHAOS_NODE)?.process.status("VmHWM")?;
        let pod = shop.bench.add_pod(CHAOS_NODE, "huge")?;
        let (mut head, status) = Cluster::pod_objects(&shop.pod_manifest(&pod));
        head["spec"]["containers"][0]["env"] = json!([{"name": "HUGE", "value": "x".repeat(HUGE)}]);
        shop.objects.plane.apply(&head.to_string())?;
        let mut kubectl = shop.objects.plane.kubectl_command();
        kubectl.args([
            "apply",
            "--server-side",
            "--subresource=status",
            "--force-conflicts",
            "--filename",
            "-",
        ]);
        mesh_tests::bench::shell::output(&mut kubectl, &status.to_string())?;
        wait_for("the huge pod captured", HANG_GUARD, || {
            let before = shop.metrics()?;
            client::once(&pod.netns, Version::Http1, WEB4, "/")?;
            Ok((captured_connections(&shop.metrics()?.since(&before)) > 0.0).then_some(()))
        })?;
        let grown = shop.daemon(CHAOS_NODE)?.process.status("VmHWM")?.saturating_sub(before);
        say(&format!(
            "a Pod of 1.5 MB, twice: VmHWM of the daemon grew by {grown} KiB"
        ));
        ensure!(grown < 32 << 10, "VmHWM grew by {grown} KiB");
        // and it is listed as well as watched
        shop.objects.chaos.expire_watches();
        shop.objects
            .plane
            .kubectl(&["label", "namespace", NAMESPACE, &format!("{CAPTURE_LABEL}-")])?;
        shop.objects.namespace(NAMESPACE, None)?;
        shop.wait_captured(false)?;
        loads.all_answered().map(drop)
    });
}
