//! A worker of the data path in a thread, tables that lead to the test's own servers, and clients.

use std::{future::Future, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use mesh_daemon::{
    drain,
    ids::{Generation, ObjectRef},
    model::{AppProtocol, AppliedPolicy, Content, PolicySpec, RequestSettings, Snapshot, Upstream, UpstreamEndpoint},
    proxy::{self, Borders, Ear, EndpointView, EndpointsView, Options, Origin, Shared},
};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for the slowest machine; reached only by a test that hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// The Service that clients ask for.
pub(crate) fn service() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

struct Fixed(SocketAddr);

impl Origin for Fixed {
    fn ends(&self, socket: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((socket.peer_addr()?, self.0))
    }
}

/// A running data path.
pub(crate) struct Bench {
    /// Where clients connect to, as if captured.
    pub address: SocketAddr,
    pub registry: prometheus::Registry,
    pub shared: Arc<Shared>,
    pub drain: Option<drain::Signal>,
    pub served: Rc<std::cell::RefCell<Option<tokio::task::JoinHandle<()>>>>,
}

impl Bench {
    pub(crate) fn new(protocol: AppProtocol, endpoints: &[SocketAddr]) -> Self {
        Self::with_origin(protocol, endpoints, Box::new(Fixed(service())))
    }

    pub(crate) fn with_origin(protocol: AppProtocol, endpoints: &[SocketAddr], origin: Box<dyn Origin>) -> Self {
        let borders = Borders {
            origin,
            ..Borders::default()
        };
        Self::with_borders(snapshot(1, protocol, endpoints), borders)
    }

    /// Whose Service has a policy, and whose kernel is heard by `ear`.
    pub(crate) fn governed(protocol: AppProtocol, endpoints: &[SocketAddr], policy: Policy, ear: Box<dyn Ear>) -> Self {
        let borders = Borders {
            origin: Box::new(Fixed(service())),
            ear,
            ..Borders::default()
        };
        Self::with_borders(governed(1, protocol, endpoints, policy), borders)
    }

    fn with_borders(first: Arc<Snapshot>, borders: Borders) -> Self {
        let registry = prometheus::Registry::new();
        let marks = mesh_common::settings::Settings::DEFAULT_MARKS;
        let options = Options {
            marks,
            transparent: false,
        };
        let shared = Shared::with_borders(&registry, options, borders);
        shared.publish(first);
        let listeners = proxy::Listeners::bind(&options).unwrap();
        let address = listeners.addresses().unwrap().0;
        let (signal, watch) = drain::channel();
        let served = tokio::task::spawn_local(proxy::serve(Arc::clone(&shared), listeners, watch));
        Self {
            address,
            registry,
            shared,
            drain: Some(signal),
            served: Rc::new(std::cell::RefCell::new(Some(served))),
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The Service as the node knows it.
    pub(crate) fn view(&self) -> EndpointsView {
        self.shared.endpoints(&name()).unwrap()
    }

    /// One of its endpoints.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> EndpointView {
        let endpoints = self.view().ports.remove(0).endpoints;
        endpoints
            .into_iter()
            .find(|endpoint| endpoint.address == address)
            .unwrap()
    }

    /// Waits until what is known of an endpoint is so.
    pub(crate) async fn until_endpoint(&self, address: SocketAddr, is: impl Fn(&EndpointView) -> bool) {
        while !is(&self.endpoint(address)) {
            tokio::task::yield_now().await;
        }
    }

    /// The sum of a counter's children whose labels contain all of `labels`.
    pub(crate) fn counter(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let metrics = families
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(|family| family.get_metric());
        let has = |metric: &prometheus::proto::Metric, (name, value): &(&str, &str)| {
            metric
                .get_label()
                .iter()
                .any(|label| label.name() == *name && label.value() == *value)
        };
        metrics
            .filter(|metric| labels.iter().all(|label| has(metric, label)))
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    /// Waits until the counter has the value.
    pub(crate) async fn until(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        #[expect(clippy::float_cmp, reason = "counters hold whole numbers")]
        while self.counter(name, labels) != value {
            tokio::task::yield_now().await;
        }
    }
}

/// What governs a Service.
#[derive(Clone, Default)]
pub(crate) struct Policy {
    pub spec: PolicySpec,
    pub settings: RequestSettings,
}

fn name() -> ObjectRef {
    ObjectRef::new("shop", "web")
}

pub(crate) fn snapshot(generation: u64, app_protocol: AppProtocol, endpoints: &[SocketAddr]) -> Arc<Snapshot> {
    governed(generation, app_protocol, endpoints, Policy::default())
}

fn governed(generation: u64, app_protocol: AppProtocol, endpoints: &[SocketAddr], policy: Policy) -> Arc<Snapshot> {
    let endpoints = endpoints
        .iter()
        .map(|address| UpstreamEndpoint {
            address: *address,
            workload: None,
        })
        .collect();
    let upstream = Upstream {
        family: mesh_daemon::model::Family::V4,
        policy: Some(Arc::new(AppliedPolicy {
            name: name(),
            generation: 1,
            spec: policy.spec,
        })),
        settings: Arc::new(policy.settings),
        service: name(),
        port: 80,
        app_protocol,
        endpoints,
    };
    let content = Content {
        upstreams: [(service(), Arc::new(upstream))].into(),
        ..Content::default()
    };
    Arc::new(Snapshot {
        generation: Generation(generation),
        content,
    })
}

/// Runs a test on one thread, as a worker does.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(HANG, test).await.expect("the test hangs");
    });
}

/// A listener, and its address.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens; it is kept, so that no other test of this process does.
pub(crate) fn refusing() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}

/// An address that answers no SYN: a listener whose queue is full. It lives as long as what is handed out with it.
pub(crate) async fn silent() -> (SocketAddr, impl Sized) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // a queue of 0 holds one
    let queued = TcpStream::connect(address).await.unwrap();
    (address, (listener, queued))
}

/// Makes the coming close a reset.
pub(crate) fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
}
