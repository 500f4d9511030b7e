//! Order never matters: one history of objects, delivered in many ways as watches may, gives byte-equal snapshots.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{backoff::Random, raw::Raw, store::Store},
    object, pod,
};
use crate::{
    ids::NodeName,
    model::{self, Facts, Link, LinkKind},
    watch::{Options, objects::Kind},
};

/// Deliveries that are tried.
const SEEDS: u64 = 300;

/// What happened to the objects of one kind, in the order of their versions.
type History = Vec<Change>;

#[derive(Clone)]
struct Change {
    raw: Raw,
    is_gone: bool,
}

/// A watcher's place in the history of its kind.
struct Delivery {
    kind: Kind,
    history: History,
    /// Changes that the store knows of.
    at: usize,
    /// A gap was left: only a list helps.
    is_behind: bool,
}

impl Delivery {
    /// What a list says after the first `at` changes.
    fn state(&self, at: usize) -> Vec<Raw> {
        let mut state = BTreeMap::new();
        for change in &self.history[..at] {
            let name = change.raw.meta("name").to_owned();
            if change.is_gone {
                state.remove(&name);
            } else {
                state.insert(name, change.raw.clone());
            }
        }
        state.into_values().collect()
    }

    fn list(&mut self, store: &mut Store, at: usize, random: &mut Random) {
        store.begin(self.kind);
        for raw in shuffled(self.state(at), random) {
            // a list that streams may tell an object twice
            for _ in 0..=u64::from(one_in(4, random)) {
                store.listed(self.kind, raw.clone());
            }
        }
        store.complete(self.kind);
        (self.at, self.is_behind) = (at, false);
    }

    /// The changes from `from` to `to`, in their order, as a watch tells them that was opened there.
    fn tell(&mut self, store: &mut Store, from: usize, to: usize) {
        for Change { raw, is_gone } in &self.history[from..to] {
            if *is_gone {
                store.deleted(self.kind, raw);
            } else {
                store.applied(self.kind, raw.clone());
            }
        }
        self.at = to;
    }

    /// One thing that may happen.
    fn step(&mut self, store: &mut Store, random: &mut Random) {
        let end = self.history.len();
        let ahead = self.at + below(end - self.at + 1, random);
        match below(8, random) {
            // a gap: some changes are never told
            0 => (self.at, self.is_behind) = (ahead, self.is_behind || ahead > self.at),
            1 => self.list(store, ahead, random),
            // a list in the middle of which another begins
            2 => {
                store.begin(self.kind);
                let listed = shuffled(self.state(ahead), random);
                let half = below(listed.len() + 1, random);
                for raw in listed.into_iter().take(half) {
                    store.listed(self.kind, raw);
                }
                self.list(store, ahead, random);
            }
            _ if self.is_behind => self.list(store, ahead, random),
            // told again from an earlier version on
            3 => {
                let from = below(self.at + 1, random);
                self.tell(store, from, ahead);
            }
            // a single word that comes late, of an object that is there
            4 => {
                let late = below(self.at + 1, random);
                let there = self.state(self.at);
                let Some(Change { raw, is_gone }) = self.history[..self.at].get(late) else {
                    return;
                };
                if !there.iter().any(|now| now.meta("name") == raw.meta("name")) {
                    return;
                }
                if *is_gone {
                    store.deleted(self.kind, raw);
                } else {
                    store.applied(self.kind, raw.clone());
                }
            }
            _ => self.tell(store, self.at, ahead),
        }
    }
}

#[test]
fn any_delivery_gives_the_same_bytes() {
    let expected = {
        let mut store = store();
        for (kind, history) in histories() {
            let mut delivery = delivery(kind, history);
            let end = delivery.history.len();
            delivery.list(&mut store, end, &mut Random::seeded(1));
        }
        dump(&store)
    };
    for part in [
        "capture shop/web-1 captured interface=3",
        "set-aside Service shop/odd",
        "endpoint 10.244.0.5:8080 shop/web-1",
    ] {
        assert!(
            expected.contains(part),
            "{expected} lacks {part:?}: the test is of no use"
        );
    }
    for seed in 1..=SEEDS {
        let mut random = Random::seeded(seed);
        let mut store = store();
        let mut deliveries: Vec<_> = histories()
            .into_iter()
            .map(|(kind, history)| delivery(kind, history))
            .collect();
        // no watch begins without a list
        for delivery in &mut deliveries {
            let at = below(delivery.history.len() + 1, &mut random);
            delivery.list(&mut store, at, &mut random);
        }
        for _ in 0..40 {
            let one = below(deliveries.len(), &mut random);
            deliveries[one].step(&mut store, &mut random);
        }
        for delivery in &mut deliveries {
            let end = delivery.history.len();
            if delivery.is_behind {
                delivery.list(&mut store, end, &mut random);
            } else {
                delivery.tell(&mut store, delivery.at, end);
            }
        }
        assert_eq!(dump(&store), expected, "seed {seed}");
    }
}

fn store() -> Store {
    Store::new(NodeName("n1".into()))
}

fn delivery(kind: Kind, history: History) -> Delivery {
    Delivery {
        kind,
        history,
        at: 0,
        is_behind: false,
    }
}

fn dump(store: &Store) -> String {
    let options = Options {
        node: NodeName("n1".into()),
        pod_cidrs: Vec::new(),
        debounce_after: std::time::Duration::ZERO,
        debounce_max: std::time::Duration::ZERO,
    };
    let link = |name: &str| Link {
        name: name.into(),
        kind: LinkKind::Ethernet,
        master: None,
    };
    let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let facts = Facts {
        node_addresses: [address("192.168.0.1")].into(),
        links: [(2, link("eth0")), (3, link("veth1")), (4, link("veth2"))].into(),
        on_link: [(address("10.244.0.5"), 3), (address("10.244.0.6"), 4)].into(),
    };
    let content = model::build(&store.objects().inputs(&options, &facts));
    format!(
        "{}{}{:?}",
        model::dump(&content),
        model::dump_tables(&content.tables),
        store.local()
    )
}

/// What happens in the test's cluster: objects come, change, break in parts, go, and come again.
fn histories() -> Vec<(Kind, History)> {
    let cluster_wide = |name: &str, version: u64, rest: Value| {
        let mut raw = object(name, name, version, rest);
        raw.0["metadata"].as_object_mut().unwrap().remove("namespace");
        raw
    };
    let namespace = |version, label: &str| {
        cluster_wide(
            "shop",
            version,
            json!({"metadata": {"labels": {"weft.mesh/capture": label}}, "unknown": [1]}),
        )
    };
    let node = |name, version, range: &str| cluster_wide(name, version, json!({"spec": {"podCIDRs": [range]}}));
    let is = |raw| Change { raw, is_gone: false };
    let gone = |raw| Change { raw, is_gone: true };
    vec![
        (
            Kind::Namespace,
            vec![
                is(namespace(1, "enabled")),
                is(namespace(2, "disabled")),
                is(namespace(3, "enabled")),
            ],
        ),
        (
            Kind::Node,
            vec![
                is(node("n1", 1, "10.244.0.0/24")),
                is(node("n2", 2, "10.244.9.0/24")),
                is(node("n2", 3, "everything")),
                is(node("n3", 4, "10.244.3.0/24")),
                gone(node("n3", 5, "10.244.3.0/24")),
                is(node("n2", 6, "10.244.1.0/24")),
                is(node("n4", 7, "0.0.0.0/0")),
            ],
        ),
        (
            Kind::Pod,
            vec![
                is(pod("web-1", "w1", 1, "")),
                is(pod("web-1", "w1", 2, "10.244.0.5")),
                is(pod("web-2", "w2", 3, "10.244.0.6")),
                // the same address for another, and the same name again with the address of the first
                gone(pod("web-1", "w1", 4, "10.244.0.5")),
                is(pod("job", "j1", 5, "10.244.0.5")),
                gone(pod("job", "j1", 6, "10.244.0.5")),
                is(pod("web-1", "w3", 7, "10.244.0.5")),
                is(object("broken", "b1", 8, json!({"spec": "of no use"}))),
                is(pod("odd", "o1", 9, "127.0.0.1")),
                is(pod("web-2", "w2", 10, "10.244.0.6")),
                gone(pod("web-2", "w2", 11, "10.244.0.6")),
                is(pod("web-2", "w4", 12, "10.244.0.6")),
                is(pod("twin", "t1", 13, "10.244.0.6")),
            ],
        ),
        (Kind::Service, services().into_iter().map(is).collect()),
        (Kind::EndpointSlice, slices(is, gone)),
    ]
}

fn services() -> Vec<Raw> {
    let service = |name: &str, version, ip: &str, ports: Value| {
        object(
            name,
            name,
            version,
            json!({"spec": {"clusterIPs": [ip], "ports": ports, "fromTheFuture": {"a": 1}}}),
        )
    };
    vec![
        service("web", 1, "10.96.0.1", json!([{"port": 80}])),
        service(
            "odd",
            2,
            "10.96.0.2",
            json!([{"port": 0}, {"port": 53, "protocol": "UDP"}, {"port": 90}]),
        ),
        service(
            "web",
            3,
            "10.96.0.10",
            json!([{"port": 80, "name": "http"}, {"port": 80, "name": "again"}]),
        ),
        service("web-twin", 4, "10.96.0.10", json!([{"port": 80, "name": "http"}])),
    ]
}

fn slices(is: impl Fn(Raw) -> Change, gone: impl Fn(Raw) -> Change) -> History {
    let slice = |name: &str, version, address_type: &str, addresses: &[&str]| {
        let endpoints: Vec<_> = addresses
            .iter()
            .map(|address| json!({"addresses": [address]}))
            .collect();
        let rest = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": address_type,
            "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
        });
        object(name, name, version, rest)
    };
    let mut unowned = slice("unowned", 9, "IPv4", &["10.244.0.9"]);
    unowned.0["metadata"].as_object_mut().unwrap().remove("labels");
    vec![
        is(slice("web-a", 1, "IPv4", &["10.244.0.5"])),
        is(slice("web-b", 2, "IPv4", &["10.244.0.7"])),
        is(slice("web-a", 3, "IPv4", &["10.244.0.5", "not an address"])),
        gone(slice("web-b", 4, "IPv4", &["10.244.0.7"])),
        is(slice("names", 5, "FQDN", &["example.org"])),
        is(slice("web-a", 6, "IPv4", &["10.244.0.5", "10.244.0.6", "fd00::1"])),
        is(slice("web-b", 7, "IPv4", &["10.244.1.8"])),
        is(unowned),
    ]
}

fn below(bound: usize, random: &mut Random) -> usize {
    usize::try_from(random.next() % bound as u64).unwrap()
}

fn one_in(n: usize, random: &mut Random) -> bool {
    below(n, random) == 0
}

fn shuffled<T>(mut items: Vec<T>, random: &mut Random) -> Vec<T> {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last + 1, random));
    }
    items
}
