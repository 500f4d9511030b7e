//! What runs on the clusters of the tests: a web server on every node behind a Service of all its families.

use std::net::IpAddr;

use anyhow::{Context, Result};
use mesh_tests::kubernetes::cluster::{Cluster, Family};

/// The image of what runs in pods.
const IMAGE: &str = "weft.mesh/testkit:1";
/// How long a rollout may take, as kubectl takes it; 3 s were seen.
const ROLLOUT_GUARD: &str = "--timeout=120s";

/// A pod of it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name, which it answers.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses, IPv4 first.
    pub ips: Vec<IpAddr>,
}

/// The server in a namespace of its own.
#[derive(Debug)]
pub struct Web<'a> {
    pub cluster: &'a Cluster,
    pub namespace: String,
}

impl<'a> Web<'a> {
    /// Starts one pod on each node and waits until both are ready.
    pub fn start(cluster: &'a Cluster, namespace: &str) -> Result<Self> {
        let families = match cluster.family() {
            Family::Dual => "RequireDualStack",
            Family::Ipv4 => "SingleStack",
        };
        cluster.apply(&manifest(namespace, families))?;
        let web = Self {
            cluster,
            namespace: namespace.to_owned(),
        };
        web.kubectl(&["rollout", "status", "deployment/web", ROLLOUT_GUARD])?;
        Ok(web)
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.namespace], args].concat())
    }

    /// Its pods in the order of their nodes.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        let path = r#"jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name} {.status.podIPs[*].ip}{"\n"}{end}"#;
        let text = self.kubectl(&["get", "pods", "--output", path])?;
        let mut pods = text.lines().map(pod).collect::<Result<Vec<_>>>()?;
        pods.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(pods)
    }

    /// The Service's addresses, IPv4 first.
    pub fn service_ips(&self) -> Result<Vec<IpAddr>> {
        let text = self.kubectl(&["get", "service", "web", "--output", "jsonpath={.spec.clusterIPs[*]}"])?;
        text.split_whitespace().map(|ip| Ok(ip.parse()?)).collect()
    }

    /// What a pod gets from a URL.
    pub fn get(&self, from: &Pod, url: &str) -> Result<String> {
        // no timeout of its own: Debian's static busybox crashes of that flag
        let command = ["wget", "-q", "-O", "-", url];
        let said = self.cluster.exec(&self.namespace, &from.name, &command);
        Ok(said
            .with_context(|| format!("{url} from {}", from.node))?
            .trim()
            .to_owned())
    }
}

/// `http://` and this address.
pub fn url(ip: IpAddr, port: u16) -> String {
    format!("http://{}/", std::net::SocketAddr::new(ip, port))
}

fn pod(line: &str) -> Result<Pod> {
    let mut words = line.split_whitespace();
    let (node, name) = words.next().zip(words.next()).context("a pod without a node")?;
    let ips = words.map(|ip| Ok(ip.parse()?)).collect::<Result<_>>()?;
    Ok(Pod {
        name: name.to_owned(),
        node: node.to_owned(),
        ips,
    })
}

fn manifest(namespace: &str, families: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {namespace}}}
spec: {{ipFamilyPolicy: {families}, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {namespace}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {{matchLabels: {{app: web}}}}}}
      containers:
      - name: web
        image: {IMAGE}
        imagePullPolicy: Never
        command: [sh, -c, 'echo "this is $NAME"; exec weft-server --name "$NAME"']
        env: [{{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
        readinessProbe: {{httpGet: {{port: 8080, path: /}}, periodSeconds: 1}}
"#
    )
}
