//! A cluster of a thousand Services as objects: what the components of a real cluster write, field by field, so that sizes are real too.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

/// Nodes beside the bench's own; each has a range of 256 pod addresses.
pub const NODES: u16 = 100;
/// Pods of each of these nodes: as many as there are endpoints.
pub const PODS_PER_NODE: u16 = 100;
/// Services.
pub const SERVICES: u16 = 1000;
/// Endpoints of each Service.
pub const ENDPOINTS_PER_SERVICE: u16 = 10;
/// Namespaces that Services and pods are spread over.
pub const NAMESPACES: u16 = 20;

/// A namespace's name.
pub fn namespace_name(number: u16) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

/// Namespaces, not captured.
pub fn namespaces() -> Vec<Value> {
    let namespace =
        |number| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace_name(number)}});
    (0..NAMESPACES).map(namespace).collect()
}

/// Nodes as kubelets register them.
pub fn nodes() -> Vec<Value> {
    (0..NODES)
        .map(|number| node(&node_name(number), &format!("10.200.{number}.0/24")))
        .collect()
}

/// A Node with a pod range.
pub fn node(name: &str, cidr: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "m6i.2xlarge",
                "topology.kubernetes.io/region": "eu-central-1", "topology.kubernetes.io/zone": "eu-central-1a"
            },
            "annotations": {"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"}
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}
    })
}

/// A Service by number, with the selector and labels that a chart gives it. Its slices are not the controller's: it has none here.
pub fn service(number: u16) -> Value {
    let app = app_name(number);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": app, "namespace": namespace_name(number), "labels": labels(&app),
            "annotations": {"meta.helm.sh/release-name": app, "meta.helm.sh/release-namespace": namespace_name(number)}
        },
        "spec": {
            "clusterIP": service_ip(number), "clusterIPs": [service_ip(number)], "ipFamilies": ["IPv4"], "selector": {"app.kubernetes.io/name": app},
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"},
                {"name": "metrics", "port": 9090, "protocol": "TCP", "targetPort": "metrics"}
            ]
        }
    })
}

/// The EndpointSlice of a Service, as the endpointslice controller writes it.
pub fn slice(number: u16) -> Value {
    let (app, namespace) = (app_name(number), namespace_name(number));
    let mut labels = labels(&app);
    labels["kubernetes.io/service-name"] = json!(app);
    labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
    let endpoints: Vec<Value> = (0..ENDPOINTS_PER_SERVICE)
        .map(|index| {
            let pod = number * ENDPOINTS_PER_SERVICE + index;
            json!({
                "addresses": [pod_ip(pod)], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": node_name(pod / PODS_PER_NODE), "zone": "eu-central-1a",
                "targetRef": {"kind": "Pod", "name": pod_name(pod), "namespace": namespace, "uid": uid(pod)}
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{app}-x7k2p"), "namespace": namespace, "labels": labels},
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 9090, "protocol": "TCP"}]
    })
}

/// A pod of a Deployment, as its ReplicaSet makes it and the scheduler binds it.
pub fn pod(number: u16) -> Value {
    let app = app_name(number / ENDPOINTS_PER_SERVICE);
    let mut labels = labels(&app);
    labels["pod-template-hash"] = json!("6d4cf56db6");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(number), "namespace": namespace_name(number / ENDPOINTS_PER_SERVICE), "labels": labels,
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6d4cf56db6"), "uid": uid(number),
                "controller": true, "blockOwnerDeletion": true
            }]
        },
        "spec": {
            "nodeName": node_name(number / PODS_PER_NODE), "serviceAccountName": "default", "automountServiceAccountToken": false,
            "containers": [{
                "name": "app", "image": format!("registry.example/{app}:1.42.0"),
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "DATABASE_URL", "value": "postgres://db.shared:5432/app"}, {"name": "LOG_LEVEL", "value": "info"}
                ],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}]
            }],
            "volumes": [{"name": "config", "configMap": {"name": format!("{app}-config")}}]
        }
    })
}

/// What the kubelet writes once such a pod runs.
pub fn pod_status(number: u16) -> Value {
    let app = app_name(number / ENDPOINTS_PER_SERVICE);
    let since = "2026-01-01T00:00:00Z";
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    json!({"status": {
        "phase": "Running", "hostIP": "10.9.0.1", "podIP": pod_ip(number), "podIPs": [{"ip": pod_ip(number)}], "qosClass": "Burstable", "startTime": since,
        "conditions": conditions.map(condition),
        "containerStatuses": [{
            "name": "app", "ready": true, "started": true, "restartCount": 0, "image": format!("registry.example/{app}:1.42.0"),
            "imageID": format!("registry.example/{app}@{digest}"), "containerID": format!("containerd://{}", &digest[7..]),
            "state": {"running": {"startedAt": since}}
        }]
    }})
}

/// A pod's name.
pub fn pod_name(number: u16) -> String {
    format!("{}-6d4cf56db6-{number:05}", app_name(number / ENDPOINTS_PER_SERVICE))
}

/// A pod's address.
pub fn pod_ip(number: u16) -> IpAddr {
    let [_, node] = (number / PODS_PER_NODE).to_be_bytes();
    let [_, host] = (number % PODS_PER_NODE + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 200, node, host))
}

fn service_ip(number: u16) -> IpAddr {
    // the first 250 of each block of 256, behind the addresses that the cluster's own Services take
    let [_, block] = (number / 250 + 16).to_be_bytes();
    let [_, host] = (number % 250 + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 96, block, host))
}

fn app_name(number: u16) -> String {
    format!("service-{number:04}")
}

fn node_name(number: u16) -> String {
    format!("node-{number:03}")
}

fn uid(number: u16) -> String {
    format!("6f1c1f9e-0000-4000-8000-00000000{number:04x}")
}

fn labels(app: &str) -> Value {
    json!({
        "app.kubernetes.io/name": app, "app.kubernetes.io/instance": app, "app.kubernetes.io/version": "1.42.0",
        "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": format!("{app}-3.1.4")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_pod_and_service_has_an_address_of_its_own() {
        let pods: BTreeSet<_> = (0..NODES * PODS_PER_NODE).map(pod_ip).collect();
        let services: BTreeSet<_> = (0..SERVICES).map(service_ip).collect();
        assert_eq!((pods.len(), services.len()), (10_000, 1_000));
    }

    #[test]
    fn endpoints_are_the_pods() {
        let slice = slice(SERVICES - 1);
        let last = &slice["endpoints"][usize::from(ENDPOINTS_PER_SERVICE) - 1];
        assert_eq!(last["addresses"][0], json!(pod_ip(NODES * PODS_PER_NODE - 1)));
        assert_eq!(last["nodeName"], "node-099");
    }
}
