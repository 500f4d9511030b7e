//! TrafficPolicies on the real data path: what each field says, and what then becomes of connections and requests.

mod balance;
mod breaker;
mod budget;
mod changes;
mod families;
mod hashing;
mod limits;
mod opaque;
mod resilient;
mod retry;
mod stalling;
mod standing;
mod timeout;
mod words;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::{Options, Pod, wait_for},
    client::{self, Answer, Load, Tally, Version},
    daemon::{DaemonOptions, HANG_GUARD},
    load::{self, Amount},
    metrics::Filter,
    shop::{Shop, WEB4, to_count},
    tcp,
};
use serde_json::{Value, json};

use crate::tell;

/// What a server does that nothing is wrong with.
const WELL: fn() -> Value = || json!({});
/// What says why the mesh answers itself.
const REASON: &str = "x-weft-reason";
/// Far longer than any test: a breaker that opens stays open.
const FOR_EVER: &str = "1h";
/// Each spec has a generation of its own, by which it is recognised in the snapshot.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// The shop with one server, `web-1`, on the other node: what it is asked is not a question of balancing.
fn one_server(story: impl FnOnce(&mut Shop) -> Result<()>) {
    tell(open(&[1]), story);
}

fn open(server_nodes: &[usize]) -> Result<Shop> {
    let mut shop = Shop::open(Options::default(), server_nodes)?;
    match shop
        .start_daemons(&DaemonOptions::default())
        .and_then(|()| shop.capture())
    {
        Ok(()) => Ok(shop),
        Err(error) => {
            shop.bench.show_logs();
            Err(error)
        }
    }
}

/// A TrafficPolicy for Service `web`: the lines of its spec, each field in flow style, and its generation.
fn policy(name: &str, created: &str, spec: &[&str]) -> (String, u32) {
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    let spec = spec.join("\n  ");
    let yaml = format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: TrafficPolicy\n\
         metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}', generation: {generation}}}\n\
         spec:\n  targetRefs: [{{group: '', kind: Service, name: web}}]\n  {spec}\n"
    );
    (yaml, generation)
}

/// Applies a spec as TrafficPolicy `web`, in place of the last one, and waits until the daemons of both nodes act on it.
fn obey(shop: &Shop, spec: &[&str]) -> Result<()> {
    let (yaml, generation) = policy("web", "2026-01-01T00:00:00Z", spec);
    shop.objects.apply(&yaml)?;
    obeyed(shop, &format!("policy shop/web generation={generation} "))
}

/// Takes the policy away, and with it what breakers remember.
fn forget(shop: &Shop) -> Result<()> {
    shop.objects.delete("TrafficPolicy", "shop", "web")?;
    wait_for("the end of the policy", HANG_GUARD, || {
        Ok((!known(shop, "policy shop/web ")?).then_some(()))
    })?;
    applied(shop)
}

/// Waits until a line of this beginning stands in the snapshots of both nodes, and they are applied.
fn obeyed(shop: &Shop, line: &str) -> Result<()> {
    wait_for(line, HANG_GUARD, || Ok(known(shop, line)?.then_some(())))?;
    applied(shop)
}

/// Whether a line of this beginning stands in the snapshots of both nodes.
fn known(shop: &Shop, line: &str) -> Result<bool> {
    for daemon in shop.daemons.iter().flatten() {
        if !daemon.snapshot()?.lines().any(|own| own.starts_with(line)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until what is published is applied.
fn applied(shop: &Shop) -> Result<()> {
    for daemon in shop.daemons.iter().flatten() {
        let published = daemon.metrics()?.sum("weft_snapshot_generation", &[]);
        daemon.wait_metrics("the snapshot to be applied", |metrics| {
            metrics.sum("weft_snapshot_applied_generation", &[]) >= published
        })?;
    }
    Ok(())
}

/// All servers answer like this.
fn all_behave(shop: &Shop, behaviour: &Value) -> Result<()> {
    shop.servers.keys().try_for_each(|name| shop.behave(name, behaviour))
}

/// How many requests each server has had.
fn counts(shop: &Shop) -> Result<BTreeMap<String, u64>> {
    shop.servers
        .keys()
        .map(|name| Ok((name.clone(), shop.served(name)?)))
        .collect()
}

/// What `work` gives, and how many requests each server got meanwhile.
fn counted<T>(shop: &Shop, work: impl FnOnce() -> Result<T>) -> Result<(T, BTreeMap<String, u64>)> {
    let before = counts(shop)?;
    let value = work()?;
    let mut after = counts(shop)?;
    for (name, count) in &mut after {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    Ok((value, after))
}

/// What one request is answered, and how many requests the servers got for it.
fn ask_counted(shop: &Shop, load: &Load) -> Result<(Answer, u64)> {
    let (answer, counts) = counted(shop, || client::ask(&shop.client.netns, load))?;
    Ok((answer, counts.values().sum()))
}

/// One request of the client, on a connection of its own.
fn ask(shop: &Shop) -> Result<Answer> {
    client::ask(&shop.client.netns, &get())
}

fn get() -> Load {
    Load::fresh(Version::Http1, WEB4)
}

/// Who answers each of a series, in its order; a failure by its reason.
fn sequence(shop: &Shop, load: &Load, requests: usize) -> Result<Vec<String>> {
    let one = |_| {
        let answer = client::ask(&shop.client.netns, load)?;
        Ok(match answer.status {
            200 => answer.text(),
            status => format!("{status} {}", answer.header(REASON)),
        })
    };
    (0..requests).map(one).collect()
}

/// A pod beside the client, captured as it is.
fn another_client(shop: &mut Shop, node: usize, name: &str) -> Result<Pod> {
    let pod = shop.bench.add_pod(node, name)?;
    shop.announce(&pod)?;
    wait_for("the pod's capture", HANG_GUARD, || {
        // the mesh says who it is by how it refuses; without it a server would answer
        let taken = counter(shop, "weft_requests_total", &[("source_workload", name)])?;
        client::ask(&pod.netns, &get())?;
        let now = counter(shop, "weft_requests_total", &[("source_workload", name)])?;
        Ok((now > taken).then_some(()))
    })?;
    Ok(pod)
}

/// So many requests, by so many clients at once, each on a connection of its own.
fn crowd(shop: &Shop, requests: u64, clients: u64) -> Result<Tally> {
    let amount = Amount {
        requests: Some(requests),
        duration: None,
        concurrency: usize::try_from(clients)?,
    };
    shop.client.netns.inside(|| load::run(&get(), amount))?
}

/// How often each came.
fn tally(sequence: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for who in sequence {
        *tally.entry(who.as_str()).or_default() += 1;
    }
    tally
}

/// The mesh refuses for this reason, with 503.
fn refused(answer: &Answer, reason: &str) -> Result<()> {
    ensure!(
        answer.status == 503 && answer.header(REASON) == reason,
        "not refused with {reason}: {answer:?}"
    );
    Ok(())
}

/// The server answers with this status, and not the mesh.
fn is_servers(answer: &Answer, status: u16) -> Result<()> {
    ensure!(
        answer.status == status && answer.header(REASON).is_empty(),
        "not the server's {status}: {answer:?}"
    );
    Ok(())
}

/// A counter of the daemons, all series of these labels.
fn counter(shop: &Shop, name: &str, filter: Filter<'_>) -> Result<u64> {
    Ok(to_count(shop.metrics()?.sum(name, filter)))
}

/// Waits until a counter has grown to this.
fn wait_counter(shop: &Shop, name: &str, filter: Filter<'_>, expected: u64) -> Result<()> {
    wait_for(&format!("{name}{filter:?} of {expected}"), HANG_GUARD, || {
        let value = counter(shop, name, filter)?;
        ensure!(value >= expected, "it is {value}");
        Ok(Some(()))
    })
}

/// A request that is under way for as long as the test likes: its body is not there yet.
struct Held(TcpStream);

impl Held {
    /// Sends a head, and waits until a server has it.
    fn begin(shop: &Shop, target: SocketAddr) -> Result<Self> {
        let before: u64 = counts(shop)?.values().sum();
        let mut stream = tcp::connect(&shop.client.netns, target)?;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\nconnection: close\r\n\r\n")?;
        wait_for("a server to get the request", HANG_GUARD, || {
            let now: u64 = counts(shop)?.values().sum();
            Ok((now > before).then_some(()))
        })?;
        Ok(Self(stream))
    }

    /// Sends the rest; the answer must be whole.
    fn end(mut self) -> Result<()> {
        self.0.write_all(b"x")?;
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).context("a request that was held")?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    }
}
