//! The shop with its objects in a real API server: Pods that no kubelet runs but network namespaces, EndpointSlices by the real controller,
//! daemons with the rights that `deploy/` gives them, one of them behind the chaos proxy.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, Pod, Service as ServiceObject, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{ControlPlane, ControlPlaneOptions, chaos::Chaos};
use crate::{
    announce::Announce,
    bench::{Bench, OUTSIDE_V4, Options, wait_for},
    daemon::{DaemonOptions, HANG_GUARD},
    manifests::{CAPTURE_LABEL, PodManifest, Port, Service},
    shop::{NAMESPACE, Shop},
};

/// Where the chaos proxy listens, beside the API server.
const CHAOS_PORT: u16 = 7443;
/// The node whose daemon comes through the chaos proxy; the other one's goes to the API server itself.
pub const CHAOS_NODE: usize = 0;
/// What the tests' writes are known by, where objects have several writers.
const MANAGER: &str = "bench";
/// What of `deploy/daemonset` a daemon needs that no DaemonSet starts: its definitions and its rights.
const INSTALLED: [&str; 4] = ["namespace.yaml", "crds.yaml", "service-account.yaml", "rbac.yaml"];
/// The definition among them.
const DEFINITION: &str = "customresourcedefinition/trafficpolicies.weft.mesh";
/// The daemon's ServiceAccount there: namespace and name.
const ACCOUNT: (&str, &str) = ("weft-system", "mesh-daemon");
/// The controllers that run. Nodes have no kubelet whose silence would be judged, and nothing is to be evicted.
const CONTROLLERS: &str = "--controllers=endpointslice-controller,serviceaccount-controller";

/// The shop in a cluster.
pub type ClusterShop = Shop<Cluster>;

/// A control plane in the bench's outside network, and the proxy before it. Fields are dropped in order.
#[derive(Debug)]
pub struct Cluster {
    /// What the daemon of [`CHAOS_NODE`] sees of the API server.
    pub chaos: Chaos,
    /// The control plane.
    pub plane: ControlPlane,
    /// The daemons' kubeconfigs, by node.
    kubeconfigs: [PathBuf; 2],
    dir: PathBuf,
}

impl Shop<Cluster> {
    /// The usual shop in a cluster: three servers on both nodes. No daemon yet, nothing captured.
    ///
    /// # Errors
    /// If the bench cannot be laid out or the control plane does not come up.
    pub fn in_cluster() -> Result<Self> {
        Self::open_with(Options::default(), &[0, 1, 1], Cluster::start)
    }

    /// The usual shop in a cluster with daemons on both nodes and capture on.
    ///
    /// # Errors
    /// As [`Self::in_cluster`], and if a daemon does not get ready.
    pub fn captured_in_cluster() -> Result<Self> {
        let mut shop = Self::in_cluster()?;
        let options = DaemonOptions::default();
        match shop.start_daemons(&options).and_then(|()| shop.capture()) {
            Ok(()) => Ok(shop),
            Err(error) => {
                shop.bench.show_logs();
                Err(error)
            }
        }
    }
}

impl Cluster {
    /// Starts the control plane in the bench's outside network, and the proxy before it.
    ///
    /// # Errors
    /// If one of them does not come up, or the daemon's rights cannot be given.
    pub fn start(bench: &Bench) -> Result<Self> {
        let mut options = ControlPlaneOptions::new(&bench.outside, bench.dir().join("plane"), OUTSIDE_V4);
        options.components.scheduler = false;
        options.extra_args.controller_manager = vec![CONTROLLERS.to_owned()];
        let plane = ControlPlane::start(options)?;
        for file in INSTALLED {
            let path = deploy().join(file);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            plane.apply(&text)?;
        }
        // or the first list might not find the kind, and it would be missing for a while
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", DEFINITION])?;
        let token = plane.token(ACCOUNT.0, ACCOUNT.1)?;
        let direct = plane.kubeconfig_for("mesh-daemon", None, &token)?;
        let listen = SocketAddr::new(OUTSIDE_V4.into(), CHAOS_PORT);
        let chaos = Chaos::start(Some(&bench.outside), listen, config(&direct)?)?;
        let through = bench.dir().join("chaos.kubeconfig");
        fs::write(&through, chaos.kubeconfig()?)?;
        Ok(Self {
            chaos,
            plane,
            kubeconfigs: [through, direct],
            dir: bench.dir().to_owned(),
        })
    }

    /// Where the daemon of a node keeps its state.
    pub fn state_dir(&self, node: &str) -> PathBuf {
        self.dir.join(format!("state-{node}"))
    }

    /// Deletes a pod of the shop at once, as the kubelet does when its containers have ended.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn delete_pod(&self, name: &str) -> Result<()> {
        self.plane.with_client(|client| async move {
            let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
            pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
            Ok(())
        })
    }

    /// The object of a Pod, and its status.
    pub fn pod_objects(pod: &PodManifest) -> (Value, Value) {
        let mut labels = json!({"app": pod.app});
        if let Some(capture) = &pod.capture {
            labels[CAPTURE_LABEL] = json!(capture);
        }
        let annotations: serde_json::Map<_, _> = pod.annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let head = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "labels": labels, "annotations": annotations},
            "spec": {
                "containers": [{"name": "main", "image": "registry.example/main:1"}],
                "nodeName": pod.node,
                "hostNetwork": pod.host_network,
            },
        });
        let ips: Vec<Value> = pod.ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
        let status = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "status": {
                "phase": pod.phase,
                "podIP": pod.ips.first().map(ToString::to_string),
                "podIPs": ips,
                "startTime": pod.start_time,
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": pod.start_time}],
            },
        });
        (head, status)
    }

    /// Waits until the controller has listed these endpoints, and no others, as ready.
    fn wait_listed(&self, service: &Service) -> Result<()> {
        let expected: BTreeSet<String> = service.endpoints.iter().map(ToString::to_string).collect();
        wait_for("the controller's EndpointSlices", HANG_GUARD, || {
            let listed = self.plane.with_client(|client| ready_endpoints(client, service))?;
            anyhow::ensure!(listed == expected, "{listed:?} are listed, {expected:?} should be");
            Ok(Some(()))
        })
    }
}

impl Announce for Cluster {
    fn node(&self, name: &str, ips: &[IpAddr], pod_cidrs: &[String]) -> Result<()> {
        let addresses: Vec<Value> = ips
            .iter()
            .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
            .collect();
        let head = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs},
        });
        let status = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Bench", "message": "its pods are namespaces"}],
            },
        });
        self.plane.with_client(|client| async move {
            let nodes: Api<Node> = Api::all(client);
            apply(&nodes, name, &head).await?;
            // two addresses of one type are more than server-side apply can tell apart
            nodes
                .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
                .await?;
            Ok(())
        })
    }

    fn namespace(&self, name: &str, capture: Option<&str>) -> Result<()> {
        let mut labels = json!({});
        if let Some(capture) = capture {
            labels[CAPTURE_LABEL] = json!(capture);
        }
        let head = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.plane
            .with_client(|client| async move { apply(&Api::<Namespace>::all(client), name, &head).await })?;
        // pods are refused before
        wait_for("the namespace's service account", HANG_GUARD, || {
            self.plane.with_client(|client| async move {
                let accounts: Api<ServiceAccount> = Api::namespaced(client, name);
                Ok(accounts.get_opt("default").await?.map(drop))
            })
        })
    }

    fn pod(&self, pod: &PodManifest) -> Result<()> {
        let (head, status) = Self::pod_objects(pod);
        self.plane.with_client(|client| async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace);
            apply(&pods, &pod.name, &head).await?;
            apply_status(&pods, &pod.name, &status).await
        })
    }

    fn service(&self, service: &Service) -> Result<()> {
        let ips: Vec<String> = service.ips.iter().map(ToString::to_string).collect();
        let ports: Vec<Value> = service.ports.iter().map(port).collect();
        let head = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service.name, "namespace": service.namespace},
            "spec": {
                "clusterIP": ips.first(),
                "clusterIPs": ips,
                "ipFamilyPolicy": "PreferDualStack",
                "ports": ports,
                "selector": {"app": service.name},
            },
        });
        self.plane.with_client(|client| async move {
            let services: Api<ServiceObject> = Api::namespaced(client, &service.namespace);
            apply(&services, &service.name, &head).await
        })?;
        self.wait_listed(service)
    }

    fn apply(&self, yaml: &str) -> Result<()> {
        self.plane.apply(yaml)
    }

    fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let args = ["delete", kind, name, "--namespace", namespace, "--ignore-not-found"];
        self.plane.kubectl(&args).map(drop)
    }

    fn daemon_args(&self, node: &str) -> Result<Vec<OsString>> {
        let [through, direct] = &self.kubeconfigs;
        let is_behind_chaos = node == format!("n{}", CHAOS_NODE + 1);
        let kubeconfig = if is_behind_chaos { through } else { direct };
        Ok(vec![
            "--kubeconfig".into(),
            kubeconfig.into(),
            "--state-dir".into(),
            self.state_dir(node).into(),
        ])
    }
}

/// What a kubeconfig says.
fn config(kubeconfig: &Path) -> Result<Config> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()))?)
}

/// Server-side apply: what of the object is ours becomes so.
async fn apply<K>(api: &Api<K>, name: &str, value: &Value) -> Result<()>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(value))
        .await
        .with_context(|| format!("applying {name}"))?;
    Ok(())
}

async fn apply_status<K>(api: &Api<K>, name: &str, value: &Value) -> Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(value))
        .await
        .with_context(|| format!("applying the status of {name}"))?;
    Ok(())
}

async fn ready_endpoints(client: Client, service: &Service) -> Result<BTreeSet<String>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &service.namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={}", service.name));
    let endpoints = slices
        .list(&of_service)
        .await?
        .items
        .into_iter()
        .flat_map(|slice| slice.endpoints);
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.is_some_and(|conditions| conditions.ready == Some(true))
    });
    Ok(ready.flat_map(|endpoint| endpoint.addresses).collect())
}

fn port(port: &Port) -> Value {
    let mut value = json!({"name": port.name, "port": port.port, "protocol": "TCP", "targetPort": port.target});
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(protocol);
    }
    value
}

/// The manifests that users apply.
fn deploy() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join("deploy/daemonset")
}
