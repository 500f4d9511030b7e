//! The state file: what is written comes back, and nothing else does.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::{
    ids::ObjectRef,
    model::{
        AppProtocol, BackendRef, BackendTarget, Endpoint, EndpointSlice, Filters, HashKey, HttpRoute, LoadBalancer,
        Namespace, Node, PathChange, PathMatch, Pod, PodPhase, PolicySpec, Rewrite, RouteMatch, RouteParent, RouteRule,
        Service, ServicePort, SlicePort, TargetPort, TimeoutPolicy, TrafficPolicy, ValidPolicy, ValueMatch,
        ValuePattern,
    },
};

/// A moment: 2026-01-01T00:00:00Z.
const SAVED_AT: u64 = 1_767_225_600;
const HOUR: u64 = 3600;

/// One object of each kind, with every field that is not empty by default.
fn objects() -> Objects {
    let name = |name: &str| ObjectRef::new("shop", name);
    let pod = Pod {
        weight: 1,
        uid: "u-1".into(),
        capture_label: Some("enabled".into()),
        workload: "web".into(),
        node: Some(NodeName("n1".into())),
        service_account: Some("default".into()),
        host_network: false,
        phase: PodPhase::Active,
        ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        start_time: Some(7),
    };
    let service = Service {
        kind: crate::model::ServiceKind::ClusterIp,
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            target: Some(TargetPort::Number(8080)),
            app_protocol: AppProtocol::Http,
        }],
    };
    let slice = EndpointSlice {
        service: "web".into(),
        ports: vec![SlicePort {
            name: "http".into(),
            port: 8080,
            app_protocol: AppProtocol::Detect,
        }],
        endpoints: vec![Endpoint {
            address: "10.0.0.1".parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
        }],
    };
    Objects {
        namespaces: [("shop".into(), Namespace { capture_label: None })].into(),
        nodes: [(
            "n1".into(),
            Node {
                pod_cidrs: vec!["10.0.0.0/24".parse().unwrap()],
            },
        )]
        .into(),
        pods: [(name("a"), pod)].into(),
        services: [(name("web"), service)].into(),
        endpoint_slices: [(name("web-x"), slice)].into(),
        routes: [(name("r"), route())].into(),
        policies: [(name("p"), policy())].into(),
        ..Objects::default()
    }
}

/// A route with something of every part that has a shape of its own.
fn route() -> HttpRoute {
    let filters = Filters {
        rewrite: Some(Rewrite {
            hostname: None,
            path: Some(PathChange::Prefix("/b".into())),
        }),
        ..Filters::default()
    };
    let rule = RouteRule {
        matches: vec![RouteMatch {
            path: PathMatch::Prefix("/a".into()),
            method: Some("GET".into()),
            headers: vec![ValueMatch {
                name: "x".into(),
                value: ValuePattern::Exact("y".into()),
            }],
            query: Vec::new(),
        }],
        backends: vec![BackendRef {
            target: BackendTarget::Service {
                service: ObjectRef::new("shop", "web"),
                port: 80,
            },
            weight: 1,
            filters,
        }],
        ..RouteRule::default()
    };
    HttpRoute {
        generation: 1,
        created: Some(2),
        parents: vec![RouteParent {
            group: Some(String::new()),
            kind: Some("Service".into()),
            namespace: None,
            name: "web".into(),
            section_name: None,
            port: Some(80),
        }],
        rules: vec![rule],
    }
}

/// A policy whose last spec does not hold.
fn policy() -> TrafficPolicy {
    TrafficPolicy {
        generation: 4,
        created: Some(3),
        targets: vec!["web".into()],
        invalid: Some("spec: wrong".into()),
        valid: Some(ValidPolicy {
            generation: 2,
            targets: vec!["web".into()],
            spec: PolicySpec {
                load_balancer: Some(LoadBalancer::Maglev(HashKey::Header("x-user".into()))),
                timeout: Some(TimeoutPolicy {
                    request: Some(Duration::from_millis(1500)),
                    backend_request: None,
                }),
                ..PolicySpec::default()
            },
        }),
    }
}

fn place(directory: &Path) -> Place {
    Place {
        directory: directory.to_owned(),
        node: NodeName("n1".into()),
        age_max: Duration::from_secs(24 * HOUR),
    }
}

fn stamp() -> Stamp {
    Stamp {
        node: NodeName("n1".into()),
        saved_at: SAVED_AT,
    }
}

fn bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    format::write(&mut bytes, &stamp(), &objects()).unwrap();
    bytes
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    // made if absent
    let place = place(&dir.path().join("a/b"));
    assert!(place.load(SAVED_AT).unwrap().is_none());
    let length = place.save(&stamp(), &objects()).unwrap();
    let loaded = place.load(SAVED_AT + 90).unwrap().unwrap();
    assert_eq!(loaded.objects, objects());
    assert_eq!(loaded.when, "of 2026-01-01T00:00:00Z, 1m 30s old");
    let metadata = fs::metadata(place.file()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(metadata.len() > length);
    // the next one takes its place, whatever a daemon left that was killed while it wrote
    fs::write(place.directory.join(TEMPORARY), "half").unwrap();
    place.save(&stamp(), &Objects::default()).unwrap();
    assert_eq!(place.load(SAVED_AT).unwrap().unwrap().objects, Objects::default());
    assert_eq!(fs::read_dir(&place.directory).unwrap().count(), 1);
}

/// If this changes, a daemon of before could read it wrongly: raise the format's version.
#[test]
fn the_format_is_as_its_version_says() {
    let text = String::from_utf8(bytes()).unwrap();
    let (first, body) = text.split_once('\n').unwrap();
    assert!(
        first.starts_with(&format!(
            r#"{{"magic":"weft-state","version":2,"node":"n1","saved_at":1767225600,"length":{},"sha256":""#,
            body.len()
        )),
        "{first}"
    );
    let expected = concat!(
        r#"{"namespaces":{"shop":{"capture_label":null}},"nodes":{"n1":{"pod_cidrs":["10.0.0.0/24"]}},"#,
        r#""pods":{"shop/a":{"uid":"u-1","capture_label":"enabled","workload":"web","node":"n1","service_account":"default","#,
        r#""weight":1,"host_network":false,"phase":"Active","ips":["10.0.0.1","fd00::1"],"start_time":7}},"#,
        r#""services":{"shop/web":{"kind":"ClusterIp","cluster_ips":["10.96.0.1"],"ports":[{"name":"http","port":80,"target":{"Number":8080},"#,
        r#""app_protocol":"Http"}]}},"#,
        r#""endpoint_slices":{"shop/web-x":{"service":"web","ports":[{"name":"http","port":8080,"app_protocol":"Detect"}],"#,
        r#""endpoints":[{"address":"10.0.0.1","ready":true,"serving":true,"terminating":false}]}},"#,
        r#""routes":{"shop/r":{"generation":1,"created":2,"#,
        r#""parents":[{"group":"","kind":"Service","namespace":null,"name":"web","section_name":null,"port":80}],"#,
        r#""rules":[{"name":null,"#,
        r#""matches":[{"path":{"Prefix":"/a"},"method":"GET","headers":[{"name":"x","value":{"Exact":"y"}}],"query":[]}],"#,
        r#""filters":{"request_headers":{"set":[],"add":[],"remove":[]},"response_headers":{"set":[],"add":[],"remove":[]},"#,
        r#""redirect":null,"rewrite":null},"#,
        r#""backends":[{"target":{"Service":{"service":"shop/web","port":80}},"weight":1,"#,
        r#""filters":{"request_headers":{"set":[],"add":[],"remove":[]},"response_headers":{"set":[],"add":[],"remove":[]},"#,
        r#""redirect":null,"rewrite":{"hostname":null,"path":{"Prefix":"/b"}}}}],"#,
        r#""timeouts":{"request":null,"backend_request":null},"retry":null,"faults":[]}]}},"#,
        r#""policies":{"shop/p":{"generation":4,"created":3,"targets":["web"],"invalid":"spec: wrong","#,
        r#""valid":{"generation":2,"targets":["web"],"#,
        r#""spec":{"load_balancer":{"Maglev":{"Header":"x-user"}},"circuit_breaker":null,"limits":null,"retry":null,"#,
        r#""timeout":{"request":{"secs":1,"nanos":500000000},"backend_request":null}}}}}}"#,
    );
    assert_eq!(body, expected);
}

#[test]
fn what_another_version_wrote_is_found_refused_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    // the name that every version uses
    let file = dir.path().join("objects.json");
    fs::write(
        &file,
        r#"{"magic":"weft-state","version":3,"new":true}"#.to_owned() + "\n",
    )
    .unwrap();
    let refused = place.load(SAVED_AT);
    assert!(
        matches!(refused, Err(Refused::Version { found: 3, known: 2 })),
        "{refused:?}"
    );
    place.save(&stamp(), &objects()).unwrap();
    assert_eq!(place.load(SAVED_AT).unwrap().unwrap().objects, objects());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing of it is left");
}

#[test]
fn what_is_refused_is_not_kept() {
    let refused = crate::model::SetAside {
        kind: "Pod".into(),
        name: "shop/b".into(),
        reason: "unparsable",
        detail: String::new(),
    };
    let with = Objects {
        refused: [refused].into(),
        unknown: 3,
        ..objects()
    };
    let mut bytes = Vec::new();
    format::write(&mut bytes, &stamp(), &with).unwrap();
    assert_eq!(format::read(&bytes).unwrap(), (stamp(), objects()));
}

#[test]
fn a_state_with_any_part_missing_is_refused() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let found = format::read(&bytes[..length]);
        assert!(matches!(found, Err(Refused::Damaged(_))), "{length} bytes: {found:?}");
    }
    let longer = [&bytes[..], b" "].concat();
    assert!(matches!(format::read(&longer), Err(Refused::Damaged(_))));
}

#[test]
fn a_state_with_any_bit_flipped_is_refused() {
    let mut bytes = bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let found = format::read(&bytes);
            assert!(found.is_err(), "bit {bit} of byte {at}: {found:?}");
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(format::read(&bytes).is_ok());
}

#[test]
fn what_is_refused_and_why() {
    let ours = NodeName("n1".into());
    for (node, age, expected) in [
        ("n1", 0_i64, Ok("of 2026-01-01T00:00:00Z, 0s old")),
        ("n1", 86_400, Ok("of 2026-01-01T00:00:00Z, 24h old")),
        ("n1", 86_401, Err("it is 24h 1s old, more than --state-age-max 24h")),
        (
            "n1",
            -86_400,
            Ok("of 2026-01-01T00:00:00Z, 24h in the future by this node's clock"),
        ),
        (
            "n1",
            -86_401,
            Err("it is dated 24h 1s in the future; set the node's clock"),
        ),
        (
            "n2",
            0,
            Err("it is the state of node n2 and this is n1; give each node a state directory of its own"),
        ),
    ] {
        let stamp = Stamp {
            node: NodeName(node.into()),
            saved_at: SAVED_AT,
        };
        let now = SAVED_AT.checked_add_signed(age).unwrap();
        let place = Place {
            node: ours.clone(),
            ..place(Path::new("/absent"))
        };
        let judged = place.judge(&stamp, now).map_err(|refused| refused.to_string());
        assert_eq!(
            judged,
            expected.map(str::to_owned).map_err(str::to_owned),
            "{node} {age}"
        );
    }
}

#[test]
fn what_is_no_state_is_refused_and_why() {
    let sentence = |bytes: &[u8]| format::read(bytes).unwrap_err().to_string();
    let text = String::from_utf8(bytes()).unwrap();
    for (bytes, part) in [
        (String::new(), "it has no first line"),
        ("kind: Pod\n".to_owned(), "its first line is no header"),
        (
            r#"{"magic":"other","version":2}"#.to_owned() + "\n",
            "no state of this daemon",
        ),
        (
            r#"{"magic":"weft-state","version":3,"new":true}"#.to_owned() + "\n",
            "version 3 and this daemon knows 2",
        ),
        (r#"{"magic":"weft-state","version":2}"#.to_owned() + "\n", "no header"),
        (text.replace("\"uid\":\"u-1\"", "\"uid\":\"u-2\""), "checksum"),
        (
            text.replace(
                "\"node\":\"n1\",\"saved_at\":1767225600",
                "\"node\":\"n2\",\"saved_at\":1767225600",
            ),
            "checksum",
        ),
        (
            text.replacen("{\"magic\"", "{ \"magic\"", 1),
            "not as this daemon writes it",
        ),
        (text.replace("}}}}}}", "}}"), "bytes behind its first line"),
    ] {
        let said = sentence(bytes.as_bytes());
        assert!(said.contains(part) && !said.contains('\n'), "{bytes}: {said}");
    }
}

#[test]
fn what_cannot_be_read_or_written_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let place_there = place(&in_the_way);
    assert!(place_there.save(&stamp(), &objects()).is_err());
    assert!(matches!(place_there.load(SAVED_AT), Err(Refused::Unreadable(_))));
    // a full disk: the old state stays, and nothing is left beside it
    let place = place(dir.path());
    place.save(&stamp(), &objects()).unwrap();
    symlink("/dev/full", dir.path().join("full")).unwrap();
    let mut full = OpenOptions::new().write(true).open(dir.path().join("full")).unwrap();
    assert!(format::write(&mut full, &stamp(), &objects()).is_err());
    assert_eq!(place.load(SAVED_AT).unwrap().unwrap().objects, objects());
}
