//! One daemon's part before the API server of these tests, and what is asked of both.

use std::{future::Future, sync::Arc, time::Duration};

use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::{
    sync::{oneshot, watch},
    task::LocalSet,
    time::{sleep, timeout},
};

use super::{
    super::{Sight, run},
    accepted, content,
    server::Server,
    verdict,
};
use crate::{
    ids::{Generation, NodeName},
    model::{Content, Snapshot},
    task,
    watch::Metrics,
};

pub(super) const PATH: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/r";
pub(super) const THEN: &str = "2026-01-01T00:00:00Z";
/// In which a lonely candidate has long been elected.
pub(super) const ELECTED: Duration = Duration::from_secs(10);
/// Far more turned time than anything takes; only a broken build waits so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);

/// One daemon's part.
pub(super) struct Daemon {
    pub(super) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    pub(super) nodes: watch::Sender<usize>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) registry: Registry,
    pub(super) task: task::Scoped<()>,
}

impl Daemon {
    pub(super) fn start(server: &Server, node: &str) -> Self {
        let (snapshots, published) = watch::channel(None);
        let (nodes, counted) = watch::channel(2);
        let (stop, stopped) = oneshot::channel();
        let registry = Registry::new();
        let sight = Sight {
            snapshots: published,
            claims: server.claims(),
            nodes: counted,
        };
        let metrics = Metrics::new(&registry);
        let running = run(server.api.client(), NodeName(node.into()), sight, metrics, stopped);
        Self {
            snapshots,
            nodes,
            stop: Some(stop),
            registry,
            task: task::scoped("elected", running),
        }
    }

    pub(super) fn publish(&self, content: Content) {
        self.snapshots.send_replace(Some(Arc::new(Snapshot {
            generation: Generation(1),
            content,
        })));
    }

    pub(super) fn metric(&self, sample: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }

    pub(super) fn leads(&self) -> bool {
        self.metric("weft_status_leader ") == 1
    }

    pub(super) fn writes(&self, object: &str, result: &str) -> u64 {
        self.metric(&format!(
            "weft_status_writes_total{{object=\"{object}\",result=\"{result}\"}} "
        ))
    }

    /// As an orderly end.
    pub(super) async fn stop(&mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, &mut self.task).await.unwrap().unwrap();
    }
}

pub(super) fn route(generation: i64, parents: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"namespace": "shop", "name": "r", "uid": "u", "generation": generation},
        "spec": {"rules": [{"name": "x"}]},
        "status": {"parents": parents},
    })
}

pub(super) fn holds(generation: i64) -> Content {
    content([("r", verdict(generation, &["a"], &accepted(true, "It holds.")))])
}

/// A server with the route, and a daemon that is elected before anything is published.
pub(super) async fn with<F: Future<Output = ()>>(object: Value, test: impl FnOnce(Server, Daemon) -> F) {
    let body = async {
        let server = Server::new();
        server.change(|objects| objects.put(PATH, object));
        let daemon = Daemon::start(&server, "n1");
        sleep(ELECTED).await;
        assert!(daemon.leads());
        test(server, daemon).await;
    };
    LocalSet::new().run_until(body).await;
}

pub(super) fn parents(server: &Server) -> Vec<Value> {
    let object = server.object(PATH).unwrap();
    object["status"]["parents"].as_array().unwrap().clone()
}

/// Our entries, with times that only show whether they are new.
pub(super) fn shown(server: &Server) -> Vec<Value> {
    let mut parents = parents(server);
    for condition in parents
        .iter_mut()
        .flat_map(|parent| parent["conditions"].as_array_mut().unwrap())
    {
        if condition["lastTransitionTime"] != THEN {
            condition["lastTransitionTime"] = json!("now");
        }
    }
    parents
}
