//! The story on a real cluster: the same rows, each made true by the kubectl command that is printed above it.

mod routing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{
    Clock, REQUESTS_PER_ROW, checks, routing as chapter,
    row::{Row, head},
};
use crate::{
    bench::wait_for,
    client::{self, Version},
    daemon::{METRICS_ADDR, REQUESTS},
    kubernetes::{
        Binaries,
        cluster::{
            Cluster, ClusterOptions, archive,
            kept::{self, Held, Kept},
        },
    },
    load::Report,
    manifests::CAPTURE_LABEL,
    metrics::Metrics,
    shop::{captured_connections, to_count},
};

/// The namespace of the shop, as in `shop.yaml`.
const SHOP: &str = "shop";
/// The Service, by the name that the cluster's DNS knows.
const URL: &str = "http://web.shop/";
/// The pod condition by which a daemon says that it carries a pod's connections.
const CONDITION: &str = "weft.mesh/Captured";
/// A guard of what takes seconds, as kubectl takes it; the machine may be busy.
const GUARD: &str = "--timeout=120s";
/// The same guard.
const HANG_GUARD: Duration = Duration::from_secs(120);
/// How long the client sends while a pod is deleted and replaced: 3 s of goodbye, and the start of another.
const DELETION_LOAD: &str = "8s";

const LEGEND: &str = "\
Rows from \"daemon metrics\" show what the daemon measured itself (p50 and p99 estimated from its histogram); who answered is what the client
saw. All nodes and the control plane share this machine: not a benchmark.
\"breaker opened\": failed are as many as the policy's failureThreshold, and one more for each second that the row takes, a trial; with a retry, none.";

/// Tells the story on a cluster of this name and hands back its world.
///
/// # Errors
/// If a part does not start, or something is not as it should be: the text says what.
pub(super) fn tell(clock: &Clock, name: &str) -> Result<Held> {
    let images = ["pause", "testkit", "mesh-daemon"].map(archive);
    let held = Kept::named(name).start(ClusterOptions {
        images: images.into_iter().collect::<Result<_>>()?,
        say: |step| println!("  {step}"),
        ..ClusterOptions::default()
    })?;
    let cluster = &held.cluster;
    match (Story { cluster, clock }).steps() {
        Ok(()) => Ok(held),
        Err(error) => {
            held.cluster.show_logs();
            for args in [
                ["get", "pods", "--all-namespaces", "--output=wide"],
                [
                    "--namespace=weft-system",
                    "logs",
                    "--selector=app.kubernetes.io/name=mesh-daemon",
                    "--tail=40",
                ],
                ["--namespace=weft-system", "describe", "pods", "--show-events=true"],
            ] {
                // what cannot be had now is not the failure that is told
                eprintln!("{}", held.cluster.kubectl(&args).unwrap_or_default());
            }
            Err(error)
        }
    }
}

/// Removes the cluster, and says so.
///
/// # Errors
/// If something is left, or the cluster is not the demo's.
pub fn down() -> Result<()> {
    let kept = Kept::named(kept::NAME);
    kept.refuse_unless_of_the_demo()?;
    let existed = kept.down()?;
    println!(
        "{}",
        if existed {
            "The demo's cluster is gone."
        } else {
            "No cluster is up; nothing to remove."
        }
    );
    Ok(())
}

/// Leaves the cluster running and prints what to try.
///
/// # Errors
/// If that cannot be written down.
pub(super) fn leave(held: Held) -> Result<()> {
    let path = Binaries::find()?.bin();
    let kubeconfig = Kept::named(kept::NAME).kubeconfig();
    held.leave()?;
    let (path, kubeconfig) = (path.display(), kubeconfig.display());
    let demo = checkout().join("tests/demo");
    let demo = demo.display();
    println!(
        "
The cluster is left running, the shop is not captured at the moment. Try:
  export PATH={path}:$PATH KUBECONFIG={kubeconfig}
  kubectl get pods --all-namespaces --output wide
  kubectl label namespace {SHOP} {CAPTURE_LABEL}=enabled
  kubectl --namespace {SHOP} exec client -- weft-client {URL} --requests 100
  kubectl --namespace {SHOP} describe pod client
  kubectl apply --filename {demo}/split.yaml      # nine of ten requests to web, one to web-v2; the other files there are worth a try, too
  kubectl --namespace {SHOP} get httproutes,trafficpolicies
  kubectl --namespace weft-system logs daemonset/mesh-daemon
  # what the daemon on the client's node does with the client's requests; and a server that is ill, until it is told {{}}
  NODE=$(kubectl --namespace {SHOP} get pod client --output jsonpath='{{.spec.nodeName}}')
  DAEMON=$(kubectl --namespace weft-system get pods --selector app.kubernetes.io/name=mesh-daemon --field-selector spec.nodeName=$NODE --output name)
  kubectl --namespace weft-system exec $DAEMON -- mesh-daemon routes shop/web
  SERVER=$(kubectl --namespace {SHOP} get pods --selector app=web --output name | head -1)
  kubectl --namespace {SHOP} exec $SERVER -- weft-client http://127.0.0.1:8080/behaviour --put '{{\"status\": 500}}'
  kubectl apply --filename {demo}/breaker.yaml
  kubectl --namespace {SHOP} exec client -- weft-client {URL} --fresh --requests 100
  kubectl --namespace weft-system exec $DAEMON -- mesh-daemon endpoints shop/web
  kubectl --namespace weft-system exec $DAEMON -- mesh-daemon policy shop/web
  kubectl --namespace {SHOP} exec $SERVER -- weft-client http://127.0.0.1:8080/behaviour --put '{{}}'
  kubectl label namespace {SHOP} {CAPTURE_LABEL}-
Remove it all with `cargo xtask demo --cluster --down`."
    );
    Ok(())
}

/// A pod of the Deployment.
#[derive(Clone, Debug)]
struct Pod {
    name: String,
    node: String,
}

#[derive(Clone, Copy)]
struct Story<'a> {
    cluster: &'a Cluster,
    clock: &'a Clock,
}

impl Story<'_> {
    fn steps(self) -> Result<()> {
        println!("\nTwo nodes, a client, a Service of three servers; {REQUESTS_PER_ROW} requests for each row.\n");
        self.apply("--filename", "tests/src/demo/shop.yaml")?;
        self.definitions()?;
        self.apply("--kustomize", "deploy/daemonset")?;
        self.cluster.kubectl(&[
            "--namespace",
            SHOP,
            "wait",
            "--for=condition=Ready",
            "pod/client",
            GUARD,
        ])?;
        self.web_is_rolled_out()?;
        let daemons = [
            "--namespace=weft-system",
            "rollout",
            "status",
            "daemonset/mesh-daemon",
            GUARD,
        ];
        self.cluster.kubectl(&daemons)?;
        // kube-proxy may know of the last pod a moment later than the Deployment
        self.all_are_met(3)?;
        println!("\n{LEGEND}\n\n{}", head());
        self.uncaptured("not captured")?;
        self.kubectl(&["label", "namespace", SHOP, &format!("{CAPTURE_LABEL}=enabled")])?;
        self.is_captured(true)?;
        self.captured("captured", 3)?;
        self.kubectl(&["--namespace", SHOP, "scale", "deployment", "web", "--replicas=5"])?;
        self.web_is_rolled_out()?;
        self.all_are_met(5)?;
        self.captured("scaled to five", 5)?;
        self.one_is_deleted("one pod deleted")?;
        // what was never said of the new pod would not be taken back either
        self.conditions_say(true)?;
        self.second_version()?;
        chapter::tell(&self)?;
        self.kubectl(&["label", "namespace", SHOP, &format!("{CAPTURE_LABEL}-")])?;
        self.is_captured(false)?;
        self.uncaptured("label removed")
    }

    /// A row of what the client saw, while no daemon saw anything.
    fn uncaptured(self, step: &'static str) -> Result<()> {
        let before = self.metrics()?;
        let report = self.send(REQUESTS_PER_ROW)?;
        let since = self.metrics()?.since(&before);
        let row = Row::of_client(step, &report, &since);
        self.print(&row)?;
        checks::uncaptured(&row, &report, &since)
    }

    /// A row of what the daemons counted, while all of so many pods have their turns.
    fn captured(self, step: &'static str, pods: usize) -> Result<()> {
        let before = self.metrics()?;
        let report = self.send(REQUESTS_PER_ROW)?;
        let row = self.row(step, &report, &before)?;
        let names: Vec<_> = self.web()?.into_iter().map(|pod| pod.name).collect();
        ensure!(names.len() == pods, "{step}: {names:?} are there, {pods} should be");
        checks::answered_by(&row, &names)?;
        // the image's daemon has a worker for each CPU
        checks::even(&row, thread::available_parallelism()?.get() as u64)
    }

    /// A row of the time in which a pod goes and another one comes: nobody notices.
    fn one_is_deleted(self, step: &'static str) -> Result<()> {
        let victim = self.web()?.pop().context("no server is left")?.name;
        let before = self.metrics()?;
        let load = ["weft-client", URL, "--duration", DELETION_LOAD];
        let report = thread::scope(|scope| {
            let load = scope.spawn(|| report(&self.cluster.exec(SHOP, "client", &load)?));
            self.counted(&before, 1)?;
            self.kubectl(&["--namespace", SHOP, "delete", "pod", &victim])?;
            self.web_is_rolled_out()?;
            load.join().map_err(|_| anyhow!("the load's thread panicked"))?
        })?;
        self.row(step, &report, &before)?;
        let now = self.web()?;
        ensure!(
            now.iter().all(|pod| pod.name != victim) && now.len() == 5,
            "{step}: {victim} should be replaced, and there are {now:?}"
        );
        Ok(())
    }

    /// Prints and checks the row of a report that the daemons counted. They count by Deployment; who answered is what the client saw.
    fn row(self, step: &'static str, report: &Report, before: &Metrics) -> Result<Row> {
        let since = self.counted(before, report.sent)?;
        let mut row = Row::of_daemon(step, report, &since);
        let counted = std::mem::replace(&mut row.spread, report.by_body.clone());
        self.print(&row)?;
        checks::captured(&row, report)?;
        ensure!(
            counted == BTreeMap::from([("web".to_owned(), report.sent)]),
            "{step}: by workload the daemons counted {counted:?}"
        );
        Ok(row)
    }

    fn print(self, row: &Row) -> Result<()> {
        let pods = self.pods_of("app in (web, web-v2)")?;
        let nodes: BTreeMap<_, _> = pods.into_iter().map(|pod| (pod.name, pod.node)).collect();
        println!(
            "{}",
            row.line(|pod| nodes.get(pod).map_or("gone", String::as_str).to_owned())
        );
        self.clock.row();
        Ok(())
    }

    /// Waits until the client's connections pass the daemon, or do not, and what is said about it with it.
    fn is_captured(self, expected: bool) -> Result<()> {
        let what = if expected { "capture" } else { "the end of capture" };
        wait_for(what, HANG_GUARD, || {
            let before = self.metrics()?;
            self.send(1)?;
            // the kernel half counts a connection before it is accepted, so that an answered one is always seen
            let seen = captured_connections(&self.metrics()?.since(&before)) > 0.0;
            Ok((seen == expected).then_some(()))
        })?;
        self.conditions_say(expected)
    }

    /// Waits until the condition of every pod says whether it is captured.
    fn conditions_say(self, expected: bool) -> Result<()> {
        let condition = format!("--for=condition={CONDITION}={expected}");
        self.cluster
            .kubectl(&["--namespace", SHOP, "wait", &condition, "pod", "--all", GUARD])
            .map(drop)
    }

    /// Waits until the client has met so many servers.
    fn all_are_met(self, servers: usize) -> Result<()> {
        wait_for("an answer of every server", HANG_GUARD, || {
            Ok((self.send(20)?.by_body.len() == servers).then_some(()))
        })
    }

    fn send(self, requests: u64) -> Result<Report> {
        let requests = requests.to_string();
        let command = ["weft-client", URL, "--fresh", "--requests", &requests];
        report(&self.cluster.exec(SHOP, "client", &command)?)
    }

    /// The Deployment's pods.
    fn web(self) -> Result<Vec<Pod>> {
        self.pods_of("app=web")
    }

    /// The shop's pods with these labels that are not going.
    fn pods_of(self, labels: &str) -> Result<Vec<Pod>> {
        let columns = "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{.spec.nodeName}}{{\"\\n\"}}{{end}}{{end}}";
        let selector = [
            "--namespace",
            SHOP,
            "get",
            "pods",
            "--selector",
            labels,
            "--output",
            columns,
        ];
        let text = self.cluster.kubectl(&selector)?;
        let pods = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pods
            .map(|(name, node)| Pod {
                name: name.to_owned(),
                node: node.to_owned(),
            })
            .collect())
    }

    fn web_is_rolled_out(self) -> Result<()> {
        let status = ["--namespace", SHOP, "rollout", "status", "deployment/web", GUARD];
        self.cluster.kubectl(&status).map(drop)
    }

    /// What all daemons' metrics say together, each read on its own node's loopback.
    fn metrics(self) -> Result<Metrics> {
        let each = self.each_metrics()?;
        Ok(each.iter().fold(Metrics::default(), Metrics::plus))
    }

    fn each_metrics(self) -> Result<Vec<Metrics>> {
        let addr = METRICS_ADDR.parse()?;
        let metrics = self.cluster.nodes().iter().map(|node| {
            let answer = client::once(&node.netns, Version::Http1, addr, "/metrics")
                .with_context(|| format!("the metrics of the daemon on {}", node.name))?;
            ensure!(
                answer.status == 200,
                "/metrics of {} answered {}",
                node.name,
                answer.status
            );
            Metrics::parse(&answer.text())
        });
        metrics.collect()
    }

    /// Metrics since an earlier moment, once so many requests are counted: the last one may be counted a moment after its answer.
    fn counted(self, before: &Metrics, requests: u64) -> Result<Metrics> {
        wait_for("the daemons' count of requests", HANG_GUARD, || {
            let since = self.metrics()?.since(before);
            let counted = to_count(since.sum(REQUESTS, &[]));
            ensure!(counted >= requests, "{counted} of {requests} are counted");
            Ok(Some(since))
        })
    }

    /// Applies what stands in the checkout.
    fn apply(self, how: &str, path: &str) -> Result<()> {
        println!("$ kubectl apply {how} {path}");
        let place = checkout().join(path).display().to_string();
        let args: Vec<_> = ["apply"].into_iter().chain(how.split(' ')).chain([&*place]).collect();
        self.cluster.kubectl(&args).map(drop)
    }

    /// Runs a command of the story, and shows it.
    fn kubectl(self, args: &[&str]) -> Result<String> {
        println!(
            "$ kubectl {}",
            args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")
        );
        self.cluster.kubectl(args)
    }
}

/// An argument as a shell takes it.
fn quoted(arg: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !"{}'\"".contains(c);
    if !arg.is_empty() && arg.chars().all(is_plain) {
        return arg.to_owned();
    }
    format!("'{arg}'")
}

fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// What the client printed.
fn report(text: &str) -> Result<Report> {
    serde_json::from_str(text).with_context(|| format!("the client printed {text:?}"))
}
