//! What one publication costs in a large cluster: 10,000 pods behind 1,000 Services. `cargo run --release -p mesh-daemon --example publish`
#![expect(clippy::print_stdout, reason = "the measurement goes to the terminal")]

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use mesh_daemon::{
    ids::{NodeName, ObjectRef},
    model::{
        self, AppProtocol, Diff, Endpoint, EndpointSlice, Facts, Namespace, Node, Pod, PodPhase, Service, ServiceKind,
        ServicePort, SlicePort,
    },
    watch::{Options, objects::Objects},
};

const PODS: u32 = 10_000;
const SERVICES: u32 = 1_000;
const NODES: u32 = 100;
const ROUNDS: usize = 50;

fn main() {
    let started_kib = resident_kib();
    let mut objects = cluster();
    let options = Options {
        node: NodeName("node-0".to_owned()),
        pod_cidrs: Vec::new(),
        debounce_after: Duration::ZERO,
        debounce_max: Duration::ZERO,
    };
    let facts = Facts::default();
    let objects_kib = resident_kib();
    let mut last = model::build(objects.view(&options, &facts));
    let one_kib = resident_kib();
    println!(
        "objects {} KiB, one content {} KiB",
        objects_kib - started_kib,
        one_kib - objects_kib
    );
    let (mut copies, mut builds, mut compares, mut diffs) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        // one endpoint of ten thousand comes and goes
        if let Some(slice) = objects.endpoint_slices.values_mut().nth(round) {
            slice.endpoints.pop();
        }
        copies.push(timed(|| objects.inputs(&options, &facts)).0);
        let (took, content) = timed(|| model::build(objects.view(&options, &facts)));
        builds.push(took);
        compares.push(timed(|| content == last).0);
        diffs.push(timed(|| Diff::between(&last.tables.services, &content.tables.services)).0);
        last = content;
    }
    for (what, times) in [
        ("copy of the inputs", copies),
        ("build", builds),
        ("compare", compares),
        ("diff of the services' table", diffs),
    ] {
        println!("{what}: p50 {:?}, p99 {:?}", at(&times, 50), at(&times, 99));
    }
    println!("VmHWM {} KiB", status_kib("VmHWM:"));
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let done = black_box(work());
    (started.elapsed(), done)
}

fn at(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

fn cluster() -> Objects {
    let address = |net: u8, number: u32| IpAddr::V4(Ipv4Addr::from((u32::from(net) << 24) | (number + 1)));
    let mut objects = Objects::default();
    for number in 0..NODES {
        let pod_cidrs = format!("10.0.{number}.0/24").parse().into_iter().collect();
        objects.nodes.insert(format!("node-{number}"), Node { pod_cidrs });
    }
    let label = Some("enabled".to_owned());
    objects
        .namespaces
        .insert("shop".to_owned(), Namespace { capture_label: label });
    let per_service = PODS / SERVICES;
    for service in 0..SERVICES {
        let name = format!("service-{service}");
        let pods = service * per_service..(service + 1) * per_service;
        for pod in pods.clone() {
            objects.pods.insert(
                ObjectRef::new("shop", format!("{name}-7d9c5b8f6d-{pod}")),
                Pod {
                    weight: 1,
                    uid: format!("6f1c2f5e-0000-4000-8000-{pod:012}"),
                    capture_label: None,
                    workload: name.clone(),
                    node: Some(NodeName(format!("node-{}", pod % NODES))),
                    service_account: Some("default".to_owned()),
                    host_network: false,
                    phase: PodPhase::Active,
                    ips: vec![address(10, pod)],
                    start_time: Some(1_767_225_600),
                },
            );
        }
        let port = |port| (String::from("http"), port, AppProtocol::Detect);
        let (port_name, port, app_protocol) = port(80);
        objects.services.insert(
            ObjectRef::new("shop", &name),
            Service {
                kind: ServiceKind::ClusterIp,
                cluster_ips: vec![address(11, service)],
                ports: vec![ServicePort {
                    name: port_name.clone(),
                    port,
                    target: None,
                    app_protocol,
                }],
            },
        );
        objects.endpoint_slices.insert(
            ObjectRef::new("shop", format!("{name}-x")),
            EndpointSlice {
                service: name,
                ports: vec![SlicePort {
                    name: port_name,
                    port: 8080,
                    app_protocol,
                }],
                endpoints: pods
                    .map(|pod| Endpoint {
                        address: address(10, pod),
                        ready: true,
                        serving: true,
                        terminating: false,
                    })
                    .collect(),
            },
        );
    }
    objects
}

fn resident_kib() -> u64 {
    status_kib("VmRSS:")
}

/// A line of `/proc/self/status`; 0 if it is not there.
fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once('\t')).collect();
    let value = lines.get(name).and_then(|value| value.trim().split(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
