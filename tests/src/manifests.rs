//! The manifest directory: Kubernetes objects as `kubectl get -o yaml` prints them, one file per object, each replaced at once (rename).

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// The label that switches capture.
pub const CAPTURE_LABEL: &str = "weft.mesh/capture";
/// When everything in the manifests was created: any time in the past.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// The directory.
#[derive(Clone, Debug)]
pub struct Manifests {
    dir: PathBuf,
}

/// A pod's manifest.
#[derive(Clone, Debug)]
pub struct PodManifest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its label `app`, which Services select.
    pub app: String,
    /// Its node's name.
    pub node: String,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// Its capture label.
    pub capture: Option<String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.phase`.
    pub phase: String,
    /// `status.startTime`.
    pub start_time: String,
    /// Annotations.
    pub annotations: Vec<(String, String)>,
}

impl PodManifest {
    /// A running pod.
    pub fn running(namespace: &str, name: &str, node: &str, ips: &[IpAddr]) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            app: name.to_owned(),
            node: node.to_owned(),
            ips: ips.to_vec(),
            capture: None,
            host_network: false,
            phase: "Running".to_owned(),
            start_time: CREATED.to_owned(),
            annotations: Vec::new(),
        }
    }
}

/// A Service with its endpoints.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.clusterIPs`.
    pub ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Addresses behind it, of both families; each slice gets those of its own.
    pub endpoints: Vec<IpAddr>,
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The service port.
    pub port: u16,
    /// The port on the endpoints.
    pub target: u16,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

impl Port {
    /// A port without `appProtocol`.
    pub fn new(name: &str, port: u16, target: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
            target,
            app_protocol: None,
        }
    }
}

impl Manifests {
    /// The manifests in this directory, which is made.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { dir })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The file of a namespace.
    pub fn namespace_file(&self, name: &str) -> PathBuf {
        self.file(&format!("namespace-{name}.yaml"))
    }

    /// Writes a Node.
    ///
    /// # Errors
    /// If the file cannot be written, as for all that write.
    pub fn node(&self, name: &str, ips: &[IpAddr], pod_cidrs: &[String]) -> Result<()> {
        let addresses: Vec<Value> = ips
            .iter()
            .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
            .collect();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata(None, name, &[("kubernetes.io/hostname", name)]),
            "spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.write(&format!("node-{name}.yaml"), &object)
    }

    /// Writes a Namespace, with its capture label or without.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn namespace(&self, name: &str, capture: Option<&str>) -> Result<()> {
        let mut labels = vec![("kubernetes.io/metadata.name", name)];
        labels.extend(capture.map(|value| (CAPTURE_LABEL, value)));
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": metadata(None, name, &labels),
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        self.write(&format!("namespace-{name}.yaml"), &object)
    }

    /// Writes a Pod.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn pod(&self, pod: &PodManifest) -> Result<()> {
        let mut labels = vec![("app", pod.app.as_str())];
        labels.extend(pod.capture.as_deref().map(|value| (CAPTURE_LABEL, value)));
        let mut meta = metadata(Some(&pod.namespace), &pod.name, &labels);
        if !pod.annotations.is_empty() {
            let annotations: Map<_, _> = pod.annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            meta["annotations"] = Value::Object(annotations);
        }
        let ips: Vec<Value> = pod.ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
        let mut spec = json!({
            "containers": [{"name": "main", "image": "registry.example/main:1"}],
            "nodeName": pod.node,
            "serviceAccountName": "default",
        });
        if pod.host_network {
            spec["hostNetwork"] = json!(true);
        }
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": spec,
            "status": {
                "phase": pod.phase,
                "podIP": pod.ips.first().map(ToString::to_string),
                "podIPs": ips,
                "startTime": pod.start_time,
            },
        });
        self.write(&pod_file(&pod.namespace, &pod.name), &object)
    }

    /// Removes a Pod. One that is not there is fine.
    pub fn remove_pod(&self, namespace: &str, name: &str) {
        self.remove(&pod_file(namespace, name));
    }

    /// Writes a Service and its EndpointSlices, one per family.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn service(&self, service: &Service) -> Result<()> {
        let ports: Vec<Value> = service.ports.iter().map(service_port).collect();
        let families: Vec<&str> = service
            .ips
            .iter()
            .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
            .collect();
        let ips: Vec<String> = service.ips.iter().map(ToString::to_string).collect();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(Some(&service.namespace), &service.name, &[]),
            "spec": {
                "clusterIP": ips.first(),
                "clusterIPs": ips,
                "ipFamilies": families,
                "ipFamilyPolicy": "PreferDualStack",
                "ports": ports,
                "selector": {"app": service.name},
                "type": "ClusterIP",
            },
        });
        self.write(&format!("service-{}-{}.yaml", service.namespace, service.name), &object)?;
        self.slices(service)
    }

    /// Writes a Service's EndpointSlices alone.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn slices(&self, service: &Service) -> Result<()> {
        self.slice(service, "IPv4", IpAddr::is_ipv4)?;
        self.slice(service, "IPv6", IpAddr::is_ipv6)
    }

    /// Writes objects of any kind, given as YAML with `---` between them, each into a file of its own. What the API server would add to their
    /// metadata is added, where it is not there.
    ///
    /// # Errors
    /// As [`Self::node`], and if the text is no YAML of Kubernetes objects.
    pub fn objects(&self, yaml: &str) -> Result<()> {
        for document in serde_yaml_ng::Deserializer::from_str(yaml) {
            let mut object = Value::deserialize(document).context("the YAML of an object")?;
            let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
            let kind = text("/kind").context("an object has a kind")?;
            let name = text("/metadata/name").context("an object has a name")?;
            let namespace = text("/metadata/namespace").unwrap_or_default();
            let meta = object["metadata"].as_object_mut().context("metadata is a mapping")?;
            meta.entry("creationTimestamp").or_insert_with(|| json!(CREATED));
            meta.entry("generation").or_insert_with(|| json!(1));
            meta.entry("uid")
                .or_insert_with(|| json!(format!("uid-{kind}-{namespace}-{name}")));
            self.write(&object_file(&kind, &namespace, &name), &object)?;
        }
        Ok(())
    }

    /// Writes text as a file, all at once.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn text(&self, file: &str, text: &str) -> Result<()> {
        // a name that ends otherwise is no manifest
        let unfinished = self.file(&format!(".{file}.tmp"));
        fs::write(&unfinished, text).with_context(|| unfinished.display().to_string())?;
        fs::rename(&unfinished, self.file(file)).with_context(|| self.file(file).display().to_string())
    }

    /// Removes a file. One that is not there is fine.
    pub fn remove(&self, file: &str) {
        let _ = fs::remove_file(self.file(file));
    }

    fn slice(&self, service: &Service, family: &str, is_family: fn(&IpAddr) -> bool) -> Result<()> {
        let endpoints: Vec<Value> = service
            .endpoints
            .iter()
            .filter(|ip| is_family(ip))
            .map(endpoint)
            .collect();
        let ports: Vec<Value> = service
            .ports
            .iter()
            .map(|port| {
                let mut value = json!({"name": port.name, "port": port.target, "protocol": "TCP"});
                if let Some(protocol) = &port.app_protocol {
                    value["appProtocol"] = json!(protocol);
                }
                value
            })
            .collect();
        let name = format!("{}-{}", service.name, family.to_lowercase());
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata(Some(&service.namespace), &name, &[("kubernetes.io/service-name", &service.name)]),
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports,
        });
        self.write(&format!("endpointslice-{}-{name}.yaml", service.namespace), &object)
    }

    fn write(&self, file: &str, object: &Value) -> Result<()> {
        self.text(file, &serde_yaml_ng::to_string(object)?)
    }
}

/// The file of an object of any kind.
pub fn object_file(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}-{namespace}-{name}.yaml", kind.to_lowercase())
}

fn pod_file(namespace: &str, name: &str) -> String {
    format!("pod-{namespace}-{name}.yaml")
}

fn metadata(namespace: Option<&str>, name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: Map<String, Value> = labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let mut value = json!({
        "creationTimestamp": CREATED,
        "labels": labels,
        "name": name,
        "resourceVersion": "1",
        "uid": format!("uid-{}-{name}", namespace.unwrap_or("cluster")),
    });
    if let Some(namespace) = namespace {
        value["namespace"] = json!(namespace);
    }
    value
}

fn service_port(port: &Port) -> Value {
    let mut value = json!({"name": port.name, "port": port.port, "protocol": "TCP", "targetPort": port.target});
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(protocol);
    }
    value
}

fn endpoint(ip: &IpAddr) -> Value {
    json!({"addresses": [ip.to_string()], "conditions": {"ready": true, "serving": true, "terminating": false}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_holds_its_own_family_only() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::in_dir(dir.path()).unwrap();
        let endpoints = vec!["10.244.1.10".parse().unwrap(), "fd44:1::a".parse().unwrap()];
        let service = Service {
            namespace: "shop".into(),
            name: "web".into(),
            ips: vec!["10.96.0.10".parse().unwrap()],
            ports: vec![Port::new("http", 80, 8080)],
            endpoints,
        };
        manifests.service(&service).unwrap();
        let text = |file: &str| fs::read_to_string(manifests.file(file)).unwrap();
        let v4 = text("endpointslice-shop-web-ipv4.yaml");
        assert!(v4.contains("10.244.1.10") && !v4.contains("fd44"), "{v4}");
        let v6 = text("endpointslice-shop-web-ipv6.yaml");
        assert!(v6.contains("fd44:1::a") && !v6.contains("10.244"), "{v6}");
    }

    #[test]
    fn the_capture_label_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::in_dir(dir.path()).unwrap();
        let labelled = || {
            fs::read_to_string(manifests.namespace_file("shop"))
                .unwrap()
                .contains("weft.mesh/capture: enabled")
        };
        manifests.namespace("shop", Some("enabled")).unwrap();
        assert!(labelled());
        manifests.namespace("shop", None).unwrap();
        assert!(!labelled());
    }
}
