//! The story that the demo and most tests start from: a namespace `shop`, a client, a Service `web` of servers on both nodes, one daemon per
//! node, kube-proxy's stand-in beneath it all.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context, Result};

use crate::{
    announce::Announce,
    bench::{Bench, Options, Pod, wait_for},
    client::{self, Load, Tally, Version},
    daemon::{Daemon, DaemonOptions, HANG_GUARD, REQUESTS},
    kube_proxy,
    manifests::{Manifests, PodManifest, Port, Service},
    metrics::Metrics,
    process::Process,
    tcp,
};

/// The namespace of everything.
pub const NAMESPACE: &str = "shop";
/// Where servers speak HTTP.
pub const HTTP_PORT: u16 = 8080;
/// Where servers echo bytes.
pub const ECHO_PORT: u16 = 9000;
/// Where servers speak first.
pub const BANNER_PORT: u16 = 9100;
/// The Service's ports for these three.
pub const SERVICE_PORTS: [u16; 3] = [80, 9000, 9100];
/// The Service's address.
pub const SERVICE_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The Service's address.
pub const SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10);
/// The Service, over IPv4, HTTP.
pub const WEB4: SocketAddr = SocketAddr::new(IpAddr::V4(SERVICE_V4), 80);
/// The Service, over IPv6, HTTP.
pub const WEB6: SocketAddr = SocketAddr::new(IpAddr::V6(SERVICE_V6), 80);

/// The story's world. Fields are dropped in order: daemons and servers before the ground they stand on.
#[derive(Debug)]
pub struct Shop<A = Manifests> {
    /// One per node; none before [`Shop::start_daemons`].
    pub daemons: [Option<Daemon>; 2],
    /// Servers by name.
    pub servers: BTreeMap<String, Server>,
    /// The client, on node 1.
    pub client: Pod,
    /// Where everything is announced to the daemons.
    pub objects: A,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// The ground.
    pub bench: Bench,
}

/// A server in its pod.
#[derive(Debug)]
pub struct Server {
    /// The pod.
    pub pod: Pod,
    /// The process; none while it is down.
    pub process: Option<Process>,
}

impl Shop {
    /// Sets up nodes, client, and servers on the given nodes, named `web-1` and up. No daemon yet, nothing captured.
    ///
    /// # Errors
    /// If the bench cannot be laid out.
    pub fn open(options: Options, server_nodes: &[usize]) -> Result<Self> {
        Self::open_with(options, server_nodes, |bench| {
            Manifests::in_dir(bench.dir().join("manifests"))
        })
    }

    /// The usual shop: three servers on both nodes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn usual() -> Result<Self> {
        Self::open(Options::default(), &[0, 1, 1])
    }

    /// The usual shop with daemons on both nodes and capture on.
    ///
    /// # Errors
    /// As [`Self::open`], and if a daemon does not get ready.
    pub fn captured() -> Result<Self> {
        Self::captured_with(Options::default(), &DaemonOptions::default())
    }

    /// As [`Self::captured`], with options.
    ///
    /// # Errors
    /// As [`Self::captured`].
    pub fn captured_with(options: Options, daemon: &DaemonOptions) -> Result<Self> {
        let mut shop = Self::open(options, &[0, 1, 1])?;
        match shop.start_daemons(daemon).and_then(|()| shop.capture()) {
            Ok(()) => Ok(shop),
            Err(error) => {
                shop.bench.show_logs();
                Err(error)
            }
        }
    }
}

impl<A: Announce> Shop<A> {
    /// Sets up nodes, client, and servers on the given nodes, announced where `announce` says. No daemon yet, nothing captured.
    ///
    /// # Errors
    /// If the bench cannot be laid out, or nothing can be announced.
    pub fn open_with(
        options: Options,
        server_nodes: &[usize],
        announce: impl FnOnce(&Bench) -> Result<A>,
    ) -> Result<Self> {
        let mut bench = Bench::start(options)?;
        let objects = announce(&bench)?;
        for (number, node) in bench.nodes.iter().enumerate() {
            let number = number + 1;
            let cidrs = [format!("10.244.{number}.0/24"), format!("fd44:{number}::/64")];
            objects.node(&node.name, &node.ips(), &cidrs)?;
        }
        objects.namespace(NAMESPACE, None)?;
        let client = bench.add_pod(0, "client")?;
        let mut shop = Self {
            daemons: [None, None],
            servers: BTreeMap::new(),
            client,
            objects,
            services: [("web".to_owned(), web())].into(),
            bench,
        };
        shop.announce(&shop.client)?;
        for node in server_nodes {
            shop.add_server(*node)?;
        }
        shop.publish()?;
        Ok(shop)
    }

    /// Starts a daemon on each node and waits until both are ready.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start_daemons(&mut self, options: &DaemonOptions) -> Result<()> {
        for node in [0, 1] {
            self.daemons[node] = Some(Daemon::spawn(&self.bench, node, &self.objects, options)?);
        }
        self.daemons.iter_mut().flatten().try_for_each(Daemon::wait_ready)
    }

    /// Starts the daemon of one node, in place of whatever was there, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start_daemon(&mut self, node: usize, options: &DaemonOptions) -> Result<()> {
        self.daemons[node] = Some(Daemon::start(&self.bench, node, &self.objects, options)?);
        Ok(())
    }

    /// The daemon of a node.
    ///
    /// # Errors
    /// If it was not started.
    pub fn daemon(&mut self, node: usize) -> Result<&mut Daemon> {
        self.daemons[node].as_mut().context("this node has no daemon")
    }

    /// Labels the namespace and waits until the client's requests pass the daemon.
    ///
    /// # Errors
    /// If they do not.
    pub fn capture(&mut self) -> Result<()> {
        self.objects.namespace(NAMESPACE, Some("enabled"))?;
        self.wait_captured(true)
    }

    /// Takes the label away and waits until the client's requests pass no daemon.
    ///
    /// # Errors
    /// If they still do.
    pub fn release(&mut self) -> Result<()> {
        self.objects.namespace(NAMESPACE, None)?;
        self.wait_captured(false)
    }

    /// Waits until requests of the client over both families are counted by a daemon, or are not.
    ///
    /// # Errors
    /// If the state is not reached.
    pub fn wait_captured(&self, expected: bool) -> Result<()> {
        wait_for(
            if expected { "capture" } else { "the end of capture" },
            HANG_GUARD,
            || {
                for target in [WEB4, WEB6] {
                    let before = self.metrics()?;
                    client::once(&self.client.netns, Version::Http1, target, "/")?;
                    // the kernel half counts a connection before it is accepted, so that an answered one is always seen
                    let seen = captured_connections(&self.metrics()?.since(&before)) > 0.0;
                    if seen != expected {
                        return Ok(None);
                    }
                }
                Ok(Some(()))
            },
        )
    }

    /// What all running daemons' metrics say together.
    ///
    /// # Errors
    /// If one does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        self.daemons
            .iter()
            .flatten()
            .try_fold(Metrics::default(), |sum, daemon| Ok(sum.plus(&daemon.metrics()?)))
    }

    /// Metrics since an earlier moment, once at least so many requests are counted: a request is counted when its last byte has passed,
    /// which the client may see a moment earlier.
    ///
    /// # Errors
    /// If they are not.
    pub fn counted_since(&self, before: &Metrics, requests: u64) -> Result<Metrics> {
        wait_for("the daemons' count of requests", HANG_GUARD, || {
            let since = self.metrics()?.since(before);
            let counted = since.sum(REQUESTS, &[]);
            anyhow::ensure!(to_count(counted) >= requests, "{counted} of {requests} are counted");
            Ok(Some(since))
        })
    }

    /// Sends requests from the client.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn send(&self, load: &Load, requests: u64) -> Result<Tally> {
        client::send(&self.client.netns, load, requests)
    }

    /// A new pod with a running server, announced as a Pod and put behind the Service `web`; [`Self::publish`] makes the latter known.
    ///
    /// # Errors
    /// If the server does not start.
    pub fn add_server(&mut self, node: usize) -> Result<String> {
        let name = format!("web-{}", self.servers.len() + 1);
        let pod = self.bench.add_pod(node, &name)?;
        let mut manifest = self.pod_manifest(&pod);
        "web".clone_into(&mut manifest.app);
        self.objects.pod(&manifest)?;
        if let Some(web) = self.services.get_mut("web") {
            web.endpoints.extend(pod.ips());
        }
        self.servers.insert(name.clone(), Server { pod, process: None });
        self.start_server(&name)?;
        Ok(name)
    }

    /// Starts the server of a pod.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start_server(&mut self, name: &str) -> Result<()> {
        let log = self.bench.dir().join(format!("{name}.log"));
        let server = self
            .servers
            .get_mut(name)
            .with_context(|| format!("no server {name}"))?;
        server.process = Some(start_server(&server.pod, &log)?);
        Ok(())
    }

    /// Makes a server answer otherwise: JSON as `PUT /behaviour` of our server takes it, `{}` for well again. Asked from within its pod, past the mesh.
    ///
    /// # Errors
    /// If it does not take it.
    pub fn behave(&self, name: &str, behaviour: &serde_json::Value) -> Result<()> {
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
        let load = Load::fresh(Version::Http1, own)
            .path("/behaviour")
            .body(behaviour.to_string());
        let answer = client::ask(&self.server(name)?.pod.netns, &load)?;
        anyhow::ensure!(answer.status == 200, "{name}: {}", answer.text());
        Ok(())
    }

    /// How many requests a server has answered (or refused to) since it began.
    ///
    /// # Errors
    /// If it does not say.
    pub fn served(&self, name: &str) -> Result<u64> {
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
        let answer = client::once(&self.server(name)?.pod.netns, Version::Http1, own, "/counters")?;
        answer.echoed()?["served"].as_u64().context("no count of requests")
    }

    /// Kills the server of a pod; its manifest stays.
    pub fn kill_server(&mut self, name: &str) {
        if let Some(server) = self.servers.get_mut(name) {
            // dropping kills
            server.process = None;
        }
    }

    /// The server of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn server(&self, name: &str) -> Result<&Server> {
        self.servers.get(name).with_context(|| format!("no server {name}"))
    }

    /// Announces a pod.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn announce(&self, pod: &Pod) -> Result<()> {
        self.objects.pod(&self.pod_manifest(pod))
    }

    /// What is announced of a pod, to be changed before it is.
    pub fn pod_manifest(&self, pod: &Pod) -> PodManifest {
        PodManifest::running(NAMESPACE, &pod.name, &self.bench.nodes[pod.node].name, &pod.ips())
    }

    /// Announces all Services and their endpoints, and writes kube-proxy's rules.
    ///
    /// # Errors
    /// If a Service cannot be announced or `nft` refuses the rules.
    pub fn publish(&self) -> Result<()> {
        for service in self.services.values() {
            self.objects.service(service)?;
        }
        self.bench
            .nodes
            .iter()
            .try_for_each(|node| kube_proxy::apply(&node.netns, self.services.values()))
    }

    /// Lets everything live on after this process.
    pub fn keep(mut self) {
        self.servers
            .values_mut()
            .filter_map(|server| server.process.as_mut())
            .for_each(Process::keep);
        self.daemons
            .iter_mut()
            .flatten()
            .for_each(|daemon| daemon.process.keep());
        self.bench.keep();
    }
}

/// The Service of all servers; none yet.
fn web() -> Service {
    Service {
        namespace: NAMESPACE.to_owned(),
        name: "web".to_owned(),
        ips: vec![SERVICE_V4.into(), SERVICE_V6.into()],
        ports: vec![
            Port::new("web", SERVICE_PORTS[0], HTTP_PORT),
            Port::new("echo", SERVICE_PORTS[1], ECHO_PORT),
            Port::new("banner", SERVICE_PORTS[2], BANNER_PORT),
        ],
        endpoints: Vec::new(),
    }
}

/// Starts our server in a pod and waits until it listens.
///
/// # Errors
/// If it was not built or does not listen.
pub fn start_server(pod: &Pod, log: &std::path::Path) -> Result<Process> {
    let (http, echo, banner) = (HTTP_PORT.to_string(), ECHO_PORT.to_string(), BANNER_PORT.to_string());
    let args = [
        "--name",
        &pod.name,
        "--port",
        &http,
        "--tcp-port",
        &echo,
        "--banner-port",
        &banner,
    ];
    let process = Process::in_namespace(&pod.netns, "weft-server", &args, log)?;
    // the HTTP port is bound last
    let own = SocketAddr::new(pod.v4.into(), HTTP_PORT);
    let listens = wait_for("the server", HANG_GUARD, || tcp::connect(&pod.netns, own).map(Some));
    listens.with_context(|| format!("{} printed: {}", pod.name, process.output()))?;
    Ok(process)
}

/// Connections that the kernel half handed to a daemon.
pub fn captured_connections(metrics: &Metrics) -> f64 {
    metrics.sum(
        crate::daemon::DECISIONS,
        &[("decision", mesh_common::counter::Counter::Captured.name())],
    )
}

/// A counter's value as the whole number that it is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole, positive and small"
)]
pub fn to_count(value: f64) -> u64 {
    value.round().max(0.0) as u64
}
