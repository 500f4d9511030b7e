//! Manifests → trimmed objects, kind by kind; what is refused, and that the rest of its object and file serves on.

use std::net::IpAddr;

use crate::{
    model::{AppProtocol, Pod, PodPhase, ServiceKind, TargetPort},
    watch::{
        convert::app_protocol,
        document::{Document, Syntax, parse},
        objects::{Kind, Object},
    },
};

fn read(yaml: &str) -> Document {
    parse("test.yaml", yaml, Syntax::Yaml).unwrap()
}

fn reasons(document: &Document) -> Vec<(&str, &str, &str)> {
    let refused = document.refused.iter();
    refused
        .map(|item| (item.kind.as_str(), item.name.as_str(), item.reason))
        .collect()
}

fn the_pod(yaml: &str) -> Pod {
    let document = read(yaml);
    match document.objects.as_slice() {
        [Object::Pod(_, pod)] => pod.clone(),
        other => panic!("{other:?} {:?}", document.refused),
    }
}

#[test]
fn a_pod_is_trimmed_to_what_matters() {
    let pod = the_pod(
        "{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, uid: u1, labels: {weft.mesh/capture: enabled}},
          spec: {nodeName: n1, serviceAccountName: web, hostNetwork: true, containers: [{name: a, image: b}], futureField: {x: 1}},
          status: {phase: Failed, podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.9}, {ip: 'fd00::9'}], startTime: '1970-01-01T00:01:40Z'}}",
    );
    let expected = Pod {
        weight: 1,
        uid: "u1".into(),
        capture_label: Some("enabled".into()),
        workload: "web-1".into(),
        node: Some(crate::ids::NodeName("n1".into())),
        service_account: Some("web".into()),
        host_network: true,
        phase: PodPhase::Finished,
        ips: vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        start_time: Some(100),
    };
    assert_eq!(pod, expected);
}

#[test]
fn the_workload_is_the_controlling_owner() {
    for (owner, labels, expected) in [
        (
            "{kind: ReplicaSet, name: web-5d8, controller: true}",
            "{pod-template-hash: 5d8}",
            "web",
        ),
        ("{kind: ReplicaSet, name: web-5d8, controller: true}", "{}", "web-5d8"),
        (
            "{kind: ReplicaSet, name: web-abc, controller: true}",
            "{pod-template-hash: 5d8}",
            "web-abc",
        ),
        ("{kind: StatefulSet, name: db, controller: true}", "{}", "db"),
        ("{kind: StatefulSet, name: db, controller: false}", "{}", "pod-1"),
        ("{kind: Job, name: 'no \"name', controller: true}", "{}", "pod-1"),
    ] {
        let pod = the_pod(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: pod-1, labels: {labels}, ownerReferences: [{owner}]}}}}"
        ));
        assert_eq!(pod.workload, expected, "{owner} {labels}");
    }
}

#[test]
fn addresses_that_no_pod_can_have_are_refused_and_the_others_kept() {
    for bad in [
        "10.0.0.999",
        "web",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "169.254.1.1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ] {
        let document = read(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, status: {{podIPs: [{{ip: '{bad}'}}, {{ip: 10.0.0.1}}]}}}}"
        ));
        assert_eq!(reasons(&document), [("Pod", "default/p", "invalid_address")], "{bad}");
        let [Object::Pod(_, pod)] = document.objects.as_slice() else {
            panic!("{bad}");
        };
        assert_eq!(pod.ips, ["10.0.0.1".parse::<IpAddr>().unwrap()], "{bad}");
    }
}

#[test]
fn one_bad_port_does_not_lose_the_service() {
    for bad in [
        "{port: 99999}",
        "{port: 0}",
        "{port: -1}",
        "{port: abc}",
        "{name: x}",
        "7",
    ] {
        let document = read(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: shop}},
              spec: {{clusterIP: 10.96.0.1, ports: [{bad}, {{name: web, port: 80, targetPort: http, appProtocol: http}}, {{port: 53, protocol: UDP}}]}}}}"
        ));
        assert_eq!(reasons(&document), [("Service", "shop/s", "invalid_port")], "{bad}");
        let [Object::Service(_, service)] = document.objects.as_slice() else {
            panic!("{bad}");
        };
        assert_eq!(service.cluster_ips, ["10.96.0.1".parse::<IpAddr>().unwrap()]);
        let [port] = service.ports.as_slice() else {
            panic!("{bad}: {:?}", service.ports);
        };
        assert_eq!((port.name.as_str(), port.port), ("web", 80));
        assert_eq!(port.target, Some(TargetPort::Name("http".into())));
        assert_eq!(port.app_protocol, AppProtocol::Http);
    }
}

#[test]
fn services_without_an_address_of_their_own() {
    for (spec, kind, addresses) in [
        ("{clusterIP: None}", ServiceKind::Headless, 0),
        ("{clusterIPs: [None]}", ServiceKind::Headless, 0),
        ("{clusterIP: None, sessionAffinity: None}", ServiceKind::Headless, 0),
        (
            "{type: ExternalName, externalName: example.org, clusterIP: 10.96.0.1}",
            ServiceKind::ExternalName,
            0,
        ),
        (
            "{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1']}",
            ServiceKind::ClusterIp,
            2,
        ),
        ("{clusterIP: 10.96.0.1}", ServiceKind::ClusterIp, 1),
        ("{type: LoadBalancer, clusterIP: 10.96.0.1}", ServiceKind::ClusterIp, 1),
        ("{}", ServiceKind::ClusterIp, 0),
    ] {
        let document = read(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}"
        ));
        let [Object::Service(_, service)] = document.objects.as_slice() else {
            panic!("{spec}");
        };
        assert_eq!((service.kind, service.cluster_ips.len()), (kind, addresses), "{spec}");
        assert_eq!(reasons(&document), [], "{spec}");
    }
}

#[test]
fn services_that_only_kube_proxy_can_keep() {
    for spec in [
        "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP}",
        "{clusterIP: 10.96.0.1, internalTrafficPolicy: Local}",
    ] {
        let document = read(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}"
        ));
        let [Object::Service(_, service)] = document.objects.as_slice() else {
            panic!("{spec}");
        };
        assert_eq!(service.kind, ServiceKind::LeftToKubeProxy, "{spec}");
        assert_eq!(
            reasons(&document),
            [("Service", "default/s", "left_to_kube_proxy")],
            "{spec}"
        );
    }
}

#[test]
fn weights_are_from_1_to_1000_and_1_where_they_are_not() {
    let of = |annotations: &str| {
        let document = read(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: shop, annotations: {annotations}}}, spec: {{}}}}"
        ));
        let [Object::Pod(_, pod)] = document.objects.as_slice() else {
            panic!("{annotations}");
        };
        let reasons: Vec<_> = document
            .refused
            .iter()
            .map(|item| (item.reason, item.detail.clone()))
            .collect();
        (pod.weight, reasons)
    };
    for (annotations, weight) in [
        ("{}", 1),
        ("{weft.mesh/weight: '1'}", 1),
        ("{weft.mesh/weight: '250'}", 250),
        ("{weft.mesh/weight: '1000'}", 1000),
    ] {
        assert_eq!(of(annotations), (weight, vec![]), "{annotations}");
    }
    for text in ["0", "1001", "-1", "", "many", "1.5", " 2", "99999999999"] {
        let (weight, reasons) = of(&format!("{{weft.mesh/weight: '{text}'}}"));
        let [(reason, detail)] = reasons.as_slice() else {
            panic!("{text:?}: {reasons:?}");
        };
        assert_eq!((weight, *reason), (1, "invalid_weight"), "{text:?}");
        assert!(
            detail.contains(&format!("{text:?}")) && detail.contains("weft.mesh/weight"),
            "{detail}"
        );
    }
}

#[test]
fn a_slice_keeps_what_is_good_of_it() {
    let document = read(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
          metadata: {name: s-1, namespace: shop, labels: {kubernetes.io/service-name: s}},
          ports: [{name: web, port: 8080}, {port: 70000}, {port: 53, protocol: UDP}],
          endpoints: [{addresses: [10.0.0.1, 10.0.0.7]}, {addresses: [10.0.0.300]}, {addresses: ['fd00::1']}, {addresses: []}, 5,
            {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}, {addresses: [10.0.0.3], conditions: {ready: false}}]}",
    );
    let [Object::EndpointSlice(_, slice)] = document.objects.as_slice() else {
        panic!("{document:?}");
    };
    assert_eq!(slice.service, "s");
    assert_eq!(slice.ports.len(), 1);
    let endpoints = slice.endpoints.iter();
    let endpoints: Vec<_> = endpoints
        .map(|e| (e.address.to_string(), e.ready, e.serving, e.terminating))
        .collect();
    assert_eq!(
        endpoints,
        [
            ("10.0.0.1".to_owned(), true, true, false),
            ("10.0.0.2".to_owned(), false, true, true),
            ("10.0.0.3".to_owned(), false, false, false)
        ]
    );
    let found: Vec<_> = reasons(&document).into_iter().map(|(_, _, reason)| reason).collect();
    assert_eq!(
        found,
        [
            "invalid_address",
            "invalid_address",
            "invalid_address",
            "invalid_port",
            "malformed"
        ]
    );
}

#[test]
fn slices_of_names_are_set_aside_and_slices_of_nobody_passed_over() {
    let slice = |kind, labels| {
        read(&format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: {kind}, metadata: {{name: s-1, labels: {labels}}}}}"
        ))
    };
    let names = slice("FQDN", "{kubernetes.io/service-name: s}");
    assert_eq!(
        reasons(&names),
        [("EndpointSlice", "default/s-1", "unsupported_address_type")]
    );
    assert!(names.lost.contains(&(Kind::EndpointSlice, "default/s-1".into())));
    assert_eq!(slice("IPv4", "{}"), Document::default());
}

#[test]
fn nodes_and_namespaces() {
    let document = read(
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.244.1.7/24, 10.0.0.0/64, 0.0.0.0/0]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.mesh/capture: enabled}}}",
    );
    let [Object::Node(_, node), Object::Namespace(name, namespace)] = document.objects.as_slice() else {
        panic!("{document:?}");
    };
    assert_eq!(node.pod_cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(
        (name.as_str(), namespace.capture_label.as_deref()),
        ("shop", Some("enabled"))
    );
    assert_eq!(
        reasons(&document),
        [("Node", "n1", "invalid_cidr"), ("Node", "n1", "invalid_cidr")]
    );
}

#[test]
fn app_protocols() {
    for (name, expected) in [
        (None, AppProtocol::Detect),
        (Some(""), AppProtocol::Detect),
        (Some("example.com/mine"), AppProtocol::Detect),
        (Some("http"), AppProtocol::Http),
        (Some("HTTP"), AppProtocol::Http),
        (Some("kubernetes.io/ws"), AppProtocol::Http),
        (Some("kubernetes.io/h2c"), AppProtocol::Http2),
        (Some("grpc"), AppProtocol::Http2),
        (Some("tcp"), AppProtocol::Opaque),
        (Some("https"), AppProtocol::Opaque),
        (Some("kubernetes.io/wss"), AppProtocol::Opaque),
    ] {
        assert_eq!(app_protocol(name), expected, "{name:?}");
    }
}

#[test]
fn what_is_not_read_and_what_is_no_object() {
    let document = read(
        "---\n---\napiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v2\nkind: Pod\n---\njust: words\n---\n[1, 2]\n---\n{apiVersion: v1, kind: Pod, metadata: {name: 'A b'}}\n---\n{apiVersion: v1, kind: Pod, metadata: {}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: p, labels: 7}}\n---\n{apiVersion: v1, kind: Service, metadata: {name: s}}\n",
    );
    assert_eq!(document.unknown, 2);
    assert!(document.objects.is_empty());
    assert_eq!(
        reasons(&document),
        [
            ("File", "test.yaml", "not_an_object"),
            ("Pod", "default/(no name)", "invalid_name"),
            ("Pod", "default/A b", "invalid_name"),
            ("Pod", "default/p", "malformed"),
            ("Service", "default/s", "malformed"),
        ]
    );
}

#[test]
fn lists_are_expanded_in_yaml_and_json() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "annotations": {"smile": "\ud83d\ude00"}}},
        {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}]}]}"#;
    let json = parse("x.json", list, Syntax::Json).unwrap();
    assert_eq!(json.objects.len(), 2);
    let yaml = read(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: a\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n",
    );
    assert_eq!(yaml.objects, json.objects);
}

#[test]
fn a_large_annotation_is_fine() {
    let text = "x".repeat(1 << 20);
    let pod = the_pod(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    big: {text}\n"
    ));
    assert_eq!(pod.workload, "p");
}

#[test]
fn what_does_not_parse_says_where() {
    for (text, syntax, says) in [
        ("a: 1\nb: [1, 2\nc: 3\n", Syntax::Yaml, "line 3"),
        ("{\n\"a\": }", Syntax::Json, "line 2"),
        ("a: 1\na: 2\n", Syntax::Yaml, "twice"),
        ("kind: !mine {}\n", Syntax::Yaml, "JSON"),
    ] {
        let error = parse("x", text, syntax).unwrap_err();
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn aliases_cannot_fill_the_memory() {
    let mut bomb = format!("a0: &a0 {}\n", "x".repeat(1 << 10));
    for level in 1..8 {
        let below = level - 1;
        let aliases = vec![format!("*a{below}"); 16].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let error = parse("x", &bomb, Syntax::Yaml).unwrap_err();
    assert!(error.contains("aliases") || error.contains("repetition"), "{error}");
    // one large text, many times: few jumps, much memory
    let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    let error = parse("x", &wide, Syntax::Yaml).unwrap_err();
    assert!(error.contains("aliases"), "{error}");
}
