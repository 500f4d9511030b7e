//! What `/readyz` is told while the watches come up, fail, and come up again.

use std::{fs, time::Duration};

use prometheus::{Registry, TextEncoder};
use serde_json::json;
use tokio::{sync::watch, task::LocalSet};

use super::{
    super::{Cluster, kind::Said, raw::Raw, trouble::Trouble},
    pod,
};
use crate::{
    ids::NodeName,
    ready::{Readiness, State},
    watch::{ClusterSource, Echo, Metrics, Options, objects::Kind},
};

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                          contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n\
                          users: [{name: u, user: {token: t}}]\n";

pub(super) struct Opened {
    pub(super) cluster: Cluster,
    readiness: Readiness,
    pub(super) registry: Registry,
    _tasks: LocalSet,
}

pub(super) async fn open() -> Opened {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let source = ClusterSource {
        kubeconfig: Some(kubeconfig),
        state_dir: dir.path().to_owned(),
        state_age_max: Duration::from_secs(60),
    };
    let options = Options {
        node: NodeName("n1".into()),
        pod_cidrs: Vec::new(),
        debounce_after: Duration::ZERO,
        debounce_max: Duration::ZERO,
    };
    let (readiness, registry) = (Readiness::default(), Registry::new());
    let echo = Echo {
        snapshots: watch::channel(None).1,
        acks: watch::channel(None).1,
    };
    let metrics = Metrics::new(&registry);
    // the status writer is spawned there, and has nothing to do here
    let tasks = LocalSet::new();
    let _entered = tasks.enter();
    let cluster = Cluster::open(source, &options, echo, &readiness, &metrics)
        .await
        .unwrap();
    Opened {
        cluster,
        readiness,
        registry,
        _tasks: tasks,
    }
}

impl Opened {
    pub(super) fn state(&self, what: &str) -> State {
        let items = self.readiness.items();
        items.into_iter().find(|(name, _)| name == what).unwrap().1
    }

    pub(super) fn list(&mut self, kind: Kind, objects: Vec<Raw>) -> bool {
        assert!(!self.cluster.take(kind, Said::Listing));
        for object in objects {
            assert!(!self.cluster.take(kind, Said::Listed(object)));
        }
        self.cluster.take(kind, Said::Complete { stands: true })
    }

    fn fail(&mut self, kind: Kind, sentence: &str) {
        self.fail_for(kind, "unreachable", sentence);
    }

    fn fail_for(&mut self, kind: Kind, reason: &'static str, sentence: &str) {
        // news only as long as something else may serve, and say why
        let is_news = !self.cluster.is_complete();
        assert_eq!(self.fail_with(kind, reason, sentence), is_news);
    }

    /// Says whether that was news.
    pub(super) fn fail_with(&mut self, kind: Kind, reason: &'static str, sentence: &str) -> bool {
        let trouble = Trouble {
            reason,
            sentence: sentence.to_owned(),
            retry_after: None,
        };
        self.cluster.take(kind, Said::Failed(trouble))
    }
}

fn node(name: &str) -> Raw {
    Raw(json!({"metadata": {"name": name, "resourceVersion": "1"}}))
}

pub(super) fn ready() -> State {
    State::Ready(None)
}

#[tokio::test]
async fn each_kind_is_pending_with_its_reason_until_its_first_list() {
    let mut opened = open().await;
    assert_eq!(opened.readiness.pending().len(), Kind::ALL.len() + 1);
    assert_eq!(opened.state("list of Pods"), State::Pending(None));
    opened.fail(Kind::Pod, "refused");
    assert_eq!(opened.state("list of Pods"), State::Pending(Some("refused".into())));
    assert_eq!(opened.cluster.trouble().as_deref(), Some("refused"));
    assert!(opened.list(Kind::Pod, vec![pod("a", "1", 1, "10.0.0.1")]));
    assert_eq!(opened.state("list of Pods"), ready());
    assert_eq!(opened.cluster.trouble(), None);
    // from here on it serves, whatever happens
    opened.fail(Kind::Pod, "away");
    let note = "away; what it said last holds on".to_owned();
    assert_eq!(opened.state("list of Pods"), State::Ready(Some(note)));
    assert!(!opened.cluster.take(Kind::Pod, Said::Up));
    assert_eq!(opened.state("list of Pods"), ready());
    assert!(!opened.cluster.is_complete());
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
        opened.list(kind, Vec::new());
    }
    assert!(opened.cluster.is_complete());
    opened.list(Kind::Pod, Vec::new());
    let scrape = TextEncoder::new().encode_to_string(&opened.registry.gather()).unwrap();
    for line in [
        "weft_watch_up{kind=\"Pod\"} 1",
        "weft_watch_relists_total{kind=\"Pod\"} 1",
        "weft_watch_relists_total{kind=\"Node\"} 0",
        "weft_watch_failures_total{kind=\"Pod\",reason=\"unreachable\"} 2",
        "weft_watch_events_total{kind=\"Pod\"} 1",
    ] {
        assert!(scrape.contains(line), "{line}\n{scrape}");
    }
}

#[tokio::test]
async fn a_node_name_that_no_node_has_is_told_with_those_that_are_there() {
    let mut opened = open().await;
    let waits = |opened: &Opened, why: &str| {
        assert_eq!(opened.state("Node n1"), State::Pending(Some(why.to_owned())));
    };
    opened.list(Kind::Node, Vec::new());
    waits(&opened, "no Node is named n1; there are none; set --node-name");
    opened.list(Kind::Node, vec![node("b"), node("a")]);
    waits(&opened, "no Node is named n1; there are: a, b; set --node-name");
    opened.list(Kind::Node, ["a", "b", "c", "d", "e", "f"].map(node).into());
    waits(
        &opened,
        "no Node is named n1; there are: a, b, c, d, e, …; set --node-name",
    );
    opened.cluster.take(Kind::Node, Said::Applied(node("n1")));
    assert_eq!(opened.state("Node n1"), ready());
    opened.cluster.take(Kind::Node, Said::Deleted(node("n1")));
    assert!(!opened.readiness.pending().is_empty());
}

#[tokio::test]
async fn what_is_excused_is_ready_until_it_is_known() {
    let mut opened = open().await;
    opened.list(Kind::Service, Vec::new());
    opened.fail(Kind::Pod, "unreachable");
    opened.cluster.excuse("the last state serves");
    assert!(opened.readiness.pending().is_empty());
    let excused = State::Ready(Some("the last state serves".into()));
    assert_eq!(opened.state("list of Pods"), excused);
    assert_eq!(opened.state("Node n1"), excused);
    assert_eq!(opened.state("list of Services"), ready());
    // a retry that fails changes nothing
    opened.fail(Kind::Pod, "unreachable");
    assert_eq!(opened.state("list of Pods"), excused);
    opened.list(Kind::Pod, Vec::new());
    assert_eq!(opened.state("list of Pods"), ready());
}

#[tokio::test]
async fn what_people_must_mend_is_not_excused() {
    for reason in ["unauthorized", "forbidden", "not_found"] {
        let mut opened = open().await;
        let pending = State::Pending(Some("mend it".into()));
        opened.fail_for(Kind::Pod, reason, "mend it");
        opened.cluster.excuse("the last state serves");
        assert_eq!(opened.readiness.pending(), ["list of Pods"]);
        assert_eq!(opened.state("list of Pods"), pending);
        // also where it is found out later, until the server is away again
        opened.fail_for(Kind::Service, reason, "mend it");
        assert_eq!(opened.state("list of Services"), pending);
        for passing in ["unreachable", "server_error", "timeout", "too_many_requests"] {
            opened.fail_for(Kind::Service, passing, "away");
            let excused = State::Ready(Some("the last state serves".into()));
            assert_eq!(opened.state("list of Services"), excused, "{passing}");
        }
    }
}

#[tokio::test]
async fn a_list_without_a_watch_is_not_enough() {
    let mut opened = open().await;
    let listed = |opened: &mut Opened, kind| {
        opened.cluster.take(kind, Said::Listing);
        assert!(opened.cluster.take(kind, Said::Complete { stands: false }));
    };
    listed(&mut opened, Kind::Pod);
    assert_eq!(opened.state("list of Pods"), State::Pending(None));
    opened.fail_for(Kind::Pod, "forbidden", "may not watch");
    assert_eq!(
        opened.state("list of Pods"),
        State::Pending(Some("may not watch".into()))
    );
    opened.cluster.take(Kind::Pod, Said::Up);
    assert_eq!(opened.state("list of Pods"), ready());
    opened.fail_for(Kind::Pod, "forbidden", "may not watch");
    let holds_on = |why: &str| State::Ready(Some(format!("{why}; what it said last holds on")));
    assert_eq!(opened.state("list of Pods"), holds_on("may not watch"));
    // what was ready by its excuse stays so while its watch does not come at once
    opened.cluster.excuse("the last state serves");
    listed(&mut opened, Kind::Service);
    opened.fail(Kind::Service, "away");
    assert_eq!(opened.state("list of Services"), holds_on("away"));
    opened.fail_for(Kind::Service, "forbidden", "may not watch");
    assert_eq!(
        opened.state("list of Services"),
        State::Pending(Some("may not watch".into()))
    );
}

#[tokio::test]
async fn local_pods_are_published_when_they_change() {
    let mut opened = open().await;
    let mut seen = opened.cluster.local.subscribe();
    opened.list(Kind::Pod, vec![pod("a", "1", 1, "10.0.0.1")]);
    assert!(seen.has_changed().unwrap());
    assert_eq!(seen.borrow_and_update().len(), 1);
    opened
        .cluster
        .take(Kind::Pod, Said::Applied(pod("a", "1", 2, "10.0.0.2")));
    assert!(!seen.has_changed().unwrap());
    opened
        .cluster
        .take(Kind::Pod, Said::Deleted(pod("a", "1", 3, "10.0.0.2")));
    assert!(seen.borrow_and_update().is_empty());
}
