//! Random worlds full of contradictions: whatever goes in, what comes out holds together and does not depend on the order of lists.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        Capture, Content, Endpoint, Inputs, LinkKind, Pod, PodPhase, Program, Service, ServiceKind, build, build_after,
        dump, dump_tables,
    },
    Random, labelled, local, ready, remote, routes, service, shop, slice,
};

/// Worlds tried; each takes well under a millisecond.
const WORLDS: u64 = 2000;
/// Few enough addresses that objects collide in most worlds.
const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "fd00::1",
    "fd00::2",
    "127.0.0.1",
    "10.96.0.1",
    "fe80::1",
];

#[test]
fn the_order_of_lists_and_an_earlier_build_change_nothing() {
    let mut last = Content::default();
    for seed in 1..=WORLDS {
        let mut random = Random(seed);
        let inputs = world(&mut random);
        let content = build(&inputs);
        assert_eq!(build(&inputs), content, "seed {seed}: a second build");
        let mut fewer = inputs.clone();
        fewer.pods.pop_first();
        fewer.endpoint_slices.pop_last();
        fewer.routes.pop_last();
        for earlier in [&last, &build(&fewer)] {
            assert_eq!(build_after(earlier, &inputs), content, "seed {seed}: after another");
        }
        last.clone_from(&content);
        let shuffled = build(&shuffle(inputs, &mut random));
        assert_eq!(dump(&shuffled), dump(&content), "seed {seed}: lists in another order");
        assert_eq!(
            dump_tables(&shuffled.tables),
            dump_tables(&content.tables),
            "seed {seed}"
        );
    }
}

#[test]
fn what_comes_out_holds_together() {
    let mut captured = 0;
    let (mut steered, mut routed, mut sent) = (0, 0, 0);
    for seed in 1..=WORLDS {
        let inputs = world(&mut Random(seed));
        let content = build(&inputs);
        captures_hold_together(&inputs, &content, seed);
        services_hold_together(&content, seed);
        routes_hold_together(&inputs, &content, seed);
        captured += content.tables.ifaces.values().filter(|iface| iface.captured()).count();
        steered += content.tables.services.len();
        routed += content.routes.len();
        sent += content.backends.len();
    }
    assert!(captured > 100, "the worlds are worth trying: {captured} captured");
    assert!(steered > 100, "the worlds are worth trying: {steered} steered");
    assert!(routed > 100, "the worlds are worth trying: {routed} routed");
    assert!(sent > 100, "the worlds are worth trying: {sent} backends");
}

fn captures_hold_together(inputs: &Inputs, content: &Content, seed: u64) {
    let local = inputs
        .pods
        .iter()
        .filter(|(_, pod)| pod.node.as_ref() == Some(&inputs.node));
    assert!(
        local.map(|(name, _)| name).eq(content.captures.keys()),
        "seed {seed}: each local pod has a verdict"
    );
    let by_capture: BTreeSet<u32> = content
        .captures
        .values()
        .filter_map(|capture| match capture {
            Capture::Captured(index) => Some(*index),
            Capture::Not(_) => None,
        })
        .collect();
    let tables = &content.tables;
    let by_flag: BTreeSet<u32> = tables
        .ifaces
        .iter()
        .filter(|(_, iface)| iface.captured())
        .map(|(index, _)| *index)
        .collect();
    assert_eq!(by_capture, by_flag, "seed {seed}: flags and verdicts agree");
    for (index, attachment) in &tables.attachments {
        let is_pods = attachment.program == Program::FromPod;
        assert_eq!(
            is_pods,
            tables.ifaces.contains_key(index),
            "seed {seed}: interface {index}"
        );
        assert_ne!(inputs.facts.links[index].kind, LinkKind::Loopback, "seed {seed}");
    }
    for index in tables.ifaces.keys() {
        assert!(tables.attachments.contains_key(index), "seed {seed}: interface {index}");
        let pods: BTreeSet<_> = content
            .workloads
            .values()
            .filter(|workload| workload.interface == Some(*index))
            .map(|workload| &workload.pod)
            .collect();
        assert_eq!(pods.len(), 1, "seed {seed}: interface {index} is one pod's");
    }
}

fn services_hold_together(content: &Content, seed: u64) {
    for (at, upstream) in &content.upstreams {
        assert!(!content.is_node_address(at.ip()), "seed {seed}: {at}");
        assert_eq!(at.port(), upstream.port, "seed {seed}: {at}");
        let addresses: Vec<_> = upstream.endpoints.iter().map(|endpoint| endpoint.address).collect();
        assert!(addresses.is_sorted_by(|a, b| a < b), "seed {seed}: {addresses:?}");
        assert!(
            addresses
                .iter()
                .all(|endpoint| endpoint.is_ipv4() == at.is_ipv4() && !endpoint.ip().is_loopback()),
            "seed {seed}: {addresses:?}"
        );
    }
    let wanted = content
        .upstreams
        .iter()
        .filter(|(at, upstream)| !upstream.endpoints.is_empty() || content.routes.contains_key(at));
    assert_eq!(wanted.count(), content.tables.services.len(), "seed {seed}");
}

fn routes_hold_together(inputs: &Inputs, content: &Content, seed: u64) {
    assert!(
        inputs.routes.keys().eq(content.route_verdicts.keys()),
        "seed {seed}: each has a verdict"
    );
    for (name, verdict) in &content.route_verdicts {
        let parents = verdict.parents.iter().map(|(parent, _)| parent);
        assert!(parents.eq(&inputs.routes[name].parents), "seed {seed}: {name}");
        for (_, conditions) in &verdict.parents {
            let kinds: Vec<_> = conditions.iter().map(|condition| condition.kind).collect();
            assert!(
                kinds.starts_with(&["Accepted", "ResolvedRefs"]),
                "seed {seed}: {kinds:?}"
            );
        }
    }
    for (at, of_service) in &content.routes {
        assert!(content.upstreams.contains_key(at), "seed {seed}: {at}");
        assert!(of_service.groups().count() > 0, "seed {seed}: {at}");
        for rule in of_service.groups().flat_map(|(_, table)| &table.rules) {
            assert!(inputs.routes.contains_key(&rule.route), "seed {seed}: {at}");
        }
    }
    for (key, upstream) in &content.backends {
        assert_eq!(*key, upstream.key(), "seed {seed}");
        let same: Vec<_> = content.upstreams.values().filter(|known| known.key() == *key).collect();
        let is_shared = same.iter().any(|known| Arc::ptr_eq(known, upstream));
        assert!(same.is_empty() || is_shared, "seed {seed}: {key:?} is shared");
    }
}

fn world(random: &mut Random) -> Inputs {
    let mut inputs = shop();
    let label = random.pick(&[Some("enabled"), Some("disabled"), Some("?"), None]);
    inputs.namespaces.insert("blog".to_owned(), labelled(label));
    inputs.link(20, "cni0", LinkKind::Bridge, None);
    let master = random.pick(&[None, Some(20)]);
    inputs.link(12, "veth12", LinkKind::Ethernet, master);
    for address in ADDRESSES {
        if random.below(3) > 0 {
            inputs.route(address, random.pick(&[1, 10, 10, 11, 11, 12, 20, 99]));
        }
    }
    if random.below(4) == 0 {
        inputs.facts.node_addresses.insert(super::ip(random.pick(&ADDRESSES)));
    }
    for number in 0..random.below(6) {
        let name = format!(
            "{}/p{number}",
            random.pick(&["shop", "shop", "shop", "blog", "weft-system"])
        );
        let pod = pod(random);
        inputs.pod(&name, pod);
    }
    for number in 0..random.below(4) {
        let name = format!("s{number}");
        let addresses: Vec<_> = ["10.96.0.1", "10.96.0.2", "fd00:96::1", "10.0.0.1"]
            .into_iter()
            .filter(|_| random.below(2) == 0)
            .collect();
        let kind = random.pick(&[
            ServiceKind::ClusterIp,
            ServiceKind::ClusterIp,
            ServiceKind::Headless,
            ServiceKind::ExternalName,
        ]);
        let service = Service {
            kind,
            ..service(&addresses, &[("a", 80), ("b", 81)])
        };
        inputs.service(&format!("shop/{name}"), service);
        for part in 0..random.below(3) {
            let endpoints: Vec<_> = (0..random.below(4)).map(|_| endpoint(random)).collect();
            let slice = slice(&name, &[("a", 8080), ("b", random.pick(&[8081, 8082]))], &endpoints);
            inputs.slice(&format!("shop/{name}-{part}"), slice);
        }
    }
    for number in 0..random.below(4) {
        let name = format!("{}/r{number}", random.pick(&["shop", "shop", "blog", "news"]));
        inputs
            .routes
            .insert(super::object(&name), routes::random::route(random));
    }
    inputs.pod_cidrs = ["10.0.0.0/24", "127.0.0.0/16", "fd00::/64", "::/0"]
        .into_iter()
        .filter(|_| random.below(2) == 0)
        .map(|range| range.parse().unwrap())
        .collect();
    inputs
}

fn pod(random: &mut Random) -> Pod {
    let v4 = random.pick(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1"]);
    let v6 = random.pick(&["fd00::1", "fd00::2", "fe80::1"]);
    let both = [v4, v6];
    let ips = random.pick(&[&both[..0], &both[..1], &both[1..], &both]);
    Pod {
        capture_label: random
            .pick(&[None, None, Some("enabled"), Some("disabled"), Some("x")])
            .map(str::to_owned),
        host_network: random.below(8) == 0,
        phase: random.pick(&[PodPhase::Active, PodPhase::Active, PodPhase::Active, PodPhase::Finished]),
        start_time: random.pick(&[None, Some(1), Some(2)]),
        ..if random.below(3) > 0 { local(ips) } else { remote(ips) }
    }
}

fn endpoint(random: &mut Random) -> Endpoint {
    Endpoint {
        ready: random.below(4) > 0,
        ..ready(random.pick(&ADDRESSES))
    }
}

/// The same world, its lists in another order.
fn shuffle(mut inputs: Inputs, random: &mut Random) -> Inputs {
    random.shuffle(&mut inputs.pod_cidrs);
    for pod in inputs.pods.values_mut() {
        random.shuffle(&mut pod.ips);
    }
    for service in inputs.services.values_mut() {
        random.shuffle(&mut service.cluster_ips);
        random.shuffle(&mut service.ports);
    }
    for slice in inputs.endpoint_slices.values_mut() {
        random.shuffle(&mut slice.ports);
        random.shuffle(&mut slice.endpoints);
    }
    inputs
}
