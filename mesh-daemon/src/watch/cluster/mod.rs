//! An API server as the source of objects: one watch per kind, relists swapped in whole, troubles told in sentences.

mod backoff;
mod client;
mod kind;
mod lines;
mod metrics;
mod patience;
mod raw;
mod store;
mod trouble;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{SelectAll, select_all},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use self::{kind::Said, patience::Patience, store::Store, trouble::Trouble};
use super::{
    ClusterSource, Echo, Error, Options,
    claims::{self, Claims},
    local::LocalPods,
    objects::{Kind, Objects},
    status,
};
use crate::{
    ids::NodeName,
    ready::{Item, Readiness},
    task,
};

pub(super) use self::metrics::Metrics;

/// Most node names in a sentence: enough to see what names look like here.
const NODES_NAMED_MAX: usize = 5;

/// How long letting the lease go may take at the end. A healthy API server has long answered, and without it the term ends by itself.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// The watches, and what they have said.
pub(super) struct Cluster {
    events: SelectAll<kind::Events>,
    store: Store,
    node: NodeName,
    lists: BTreeMap<Kind, List>,
    /// Whether this node's Node is there.
    node_item: Item,
    /// Why what is pending is told as ready all the same.
    excuse: Option<String>,
    /// Sentences of present troubles that were logged.
    told: BTreeSet<String>,
    metrics: Metrics,
    local: watch::Sender<Arc<LocalPods>>,
    claims: watch::Sender<Arc<Claims>>,
    /// How many nodes there are, once every list is complete.
    nodes: watch::Sender<usize>,
    /// Writes back what became of pods, as long as the watches live.
    _status: task::Scoped<()>,
    /// Writes the statuses of routes and policies, if this node is elected.
    elected: task::Scoped<()>,
    /// Gone when it is to stop.
    stand: Option<oneshot::Sender<()>>,
}

/// How the watch of one kind stands.
struct List {
    item: Item,
    trouble: Option<Trouble>,
    was_begun: bool,
    /// Whether its watch stood once: a list alone, of an account that may list and not watch, is not enough to be ready.
    has_stood: bool,
    /// Whether the server was found not to know it.
    is_absent: bool,
}

impl List {
    /// Whether it may come by itself.
    fn may_pass(&self) -> bool {
        self.trouble.as_ref().is_none_or(Trouble::may_pass)
    }
}

impl Cluster {
    /// Makes the client and starts to watch. An API server that does not answer is no error: it is tried again and again.
    pub(super) async fn open(
        source: ClusterSource,
        options: &Options,
        echo: Echo,
        readiness: &Readiness,
        metrics: &super::Metrics,
    ) -> Result<Self, Error> {
        let lists = Kind::ALL.map(|kind| {
            let list = List {
                item: readiness.item(format!("list of {}", kind.plural())),
                trouble: None,
                was_begun: false,
                has_stood: false,
                is_absent: false,
            };
            (kind, list)
        });
        let node_item = readiness.item(format!("Node {}", options.node));
        let server = Rc::new(client::connect(source.kubeconfig.as_deref()).await?);
        let (local, seen) = watch::channel(Arc::default());
        let (claims, claimed) = watch::channel(Arc::default());
        let client = server.client.clone();
        let status = status::run(client.clone(), options.node.clone(), echo.acks, seen, metrics.clone());
        let (nodes, counted) = watch::channel(0);
        let (stand, stop) = oneshot::channel();
        let sight = status::Sight {
            snapshots: echo.snapshots,
            claims: claimed,
            nodes: counted,
        };
        let elected = status::run_elected(client, options.node.clone(), sight, metrics.clone(), stop);
        let metrics = metrics.cluster.clone();
        for kind in Kind::ALL {
            metrics.watching(kind);
        }
        tracing::info!(url = &*server.url, "watching the API server");
        Ok(Self {
            events: select_all(Kind::ALL.map(|kind| kind::watch(Rc::clone(&server), kind, Patience::default()))),
            store: Store::new(options.node.clone()),
            node: options.node.clone(),
            lists: lists.into(),
            node_item,
            excuse: None,
            told: BTreeSet::new(),
            metrics,
            local,
            claims,
            nodes,
            _status: task::scoped("status", status),
            elected: task::scoped("elected status", elected),
            stand: Some(stand),
        })
    }

    /// Returns once the objects say something new, or are complete. Cancel-safe: what was read is held.
    pub(super) async fn changed(&mut self) {
        // the watches never end
        while let Some((kind, said)) = self.events.next().await {
            if self.take(kind, said) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Whether every kind has had its first full list.
    pub(super) fn is_complete(&self) -> bool {
        self.store.is_complete()
    }

    /// What a list of every kind would say now.
    pub(super) fn objects(&self) -> &Objects {
        self.store.objects()
    }

    /// Tells what is still pending as ready, with this note: something else serves in its place. Not so what only people can mend: it stays
    /// pending with its sentence.
    pub(super) fn excuse(&mut self, note: &str) {
        self.excuse = Some(note.to_owned());
        let lists = self.lists.values().filter(|list| list.may_pass());
        for item in lists.map(|list| &list.item).chain([&self.node_item]) {
            if !item.is_ready() {
                item.ready_but(note);
            }
        }
    }

    /// Takes over what only earlier objects know; says whether there was any.
    pub(super) fn inherit(&mut self, before: &Objects) -> bool {
        self.store.inherit(before)
    }

    /// What is wrong with the watches now, if anything is: one sentence. What is gone without, until somebody mends it, is told elsewhere: the
    /// other lists are as good as ever.
    pub(super) fn trouble(&self) -> Option<String> {
        let lists = self
            .lists
            .iter()
            .filter(|(kind, list)| !kind.is_optional() || list.may_pass());
        let mut troubles = lists.filter_map(|(_, list)| list.trouble.as_ref());
        troubles.next().map(|trouble| trouble.sentence.clone())
    }

    /// Says whether the objects say something new.
    fn take(&mut self, kind: Kind, said: Said) -> bool {
        let changed = match said {
            Said::Listing => {
                self.store.begin(kind);
                self.begun(kind);
                return false;
            }
            Said::Listed(object) => {
                self.metrics.event(kind);
                self.store.listed(kind, object);
                return false;
            }
            Said::Absent => self.absent(kind),
            Said::Complete { stands } => {
                self.present(kind);
                let changed = self.store.complete(kind);
                if stands {
                    self.up(kind);
                }
                changed
            }
            Said::Applied(object) => {
                self.metrics.event(kind);
                self.store.applied(kind, object)
            }
            Said::Deleted(object) => {
                self.metrics.event(kind);
                self.store.deleted(kind, &object)
            }
            Said::Up => {
                self.up(kind);
                return false;
            }
            Said::Failed(trouble) => {
                let changed = self.go_without(kind, &trouble);
                self.failed(kind, trouble);
                self.publish_claims();
                // as long as something else serves, it says why
                return changed || !self.store.is_complete();
            }
        };
        match kind {
            Kind::Pod => self.publish_local(),
            Kind::Node => self.look_for_node(),
            Kind::Namespace | Kind::Service | Kind::EndpointSlice | Kind::HttpRoute | Kind::TrafficPolicy => {}
        }
        self.publish_claims();
        changed
    }

    /// A kind without a CustomResourceDefinition has no objects, and that is all there is to know. Says whether anything changed.
    fn absent(&mut self, kind: Kind) -> bool {
        self.metrics.absent(kind, true);
        self.up(kind);
        if let Some(list) = self.lists.get_mut(&kind) {
            // asked again and again, which is no relist
            list.was_begun = false;
            if !std::mem::replace(&mut list.is_absent, true) {
                tracing::info!(
                    "the API server has no {}; they are read as soon as their CustomResourceDefinition is there",
                    kind.plural()
                );
            }
        }
        self.store.begin(kind);
        self.store.complete(kind)
    }

    fn present(&mut self, kind: Kind) {
        let list = self.lists.get_mut(&kind);
        if list.is_some_and(|list| std::mem::replace(&mut list.is_absent, false)) {
            self.metrics.absent(kind, false);
            tracing::info!("the API server has {} now", kind.plural());
        }
    }

    /// Whoever updates the DaemonSet before the ClusterRole gets daemons that may not read the new kinds. They serve as those before them did, and
    /// say so: if they waited, the update would end what captures now, for the sake of objects that nobody can have relied on. What was listed
    /// once holds on, as with other kinds. Says whether anything changed.
    fn go_without(&mut self, kind: Kind, trouble: &Trouble) -> bool {
        if !kind.is_optional() || trouble.reason != "forbidden" || self.store.was_listed(kind) {
            return false;
        }
        self.store.begin(kind);
        self.store.complete(kind)
    }

    fn begun(&mut self, kind: Kind) {
        let list = self.lists.get_mut(&kind);
        if list.is_some_and(|list| std::mem::replace(&mut list.was_begun, true)) {
            self.metrics.relist(kind);
        }
    }

    fn up(&mut self, kind: Kind) {
        self.metrics.up(kind, true);
        if let Some(list) = self.lists.get_mut(&kind) {
            list.item.ready();
            list.has_stood = true;
            list.trouble = None;
        }
        self.tell();
    }

    fn failed(&mut self, kind: Kind, trouble: Trouble) {
        self.metrics.up(kind, false);
        self.metrics.failure(kind, trouble.reason);
        let was_listed = self.store.was_listed(kind);
        if let Some(list) = self.lists.get_mut(&kind) {
            let excuse = self.excuse.as_ref().filter(|_| trouble.may_pass());
            match excuse {
                _ if kind.is_optional() && trouble.reason == "forbidden" && !list.has_stood => {
                    let note = format!("{}; none of them is applied until then", trouble.sentence);
                    list.item.ready_but(note);
                }
                // what was excused does not become unready because its list came before its watch
                _ if list.has_stood || was_listed && excuse.is_some() => {
                    let note = format!("{}; what it said last holds on", trouble.sentence);
                    list.item.ready_but(note);
                }
                Some(excuse) => list.item.ready_but(excuse),
                None => list.item.wait(&trouble.sentence),
            }
            list.trouble = Some(trouble);
        }
        self.tell();
    }

    /// Logs troubles that are new, and those that are over: each once, however often it is tried again.
    fn tell(&mut self) {
        let troubles = self.lists.values().filter_map(|list| list.trouble.as_ref());
        let now: BTreeSet<String> = troubles.map(|trouble| trouble.sentence.clone()).collect();
        for new in now.difference(&self.told) {
            tracing::warn!("{new}; trying again");
        }
        for over in self.told.difference(&now) {
            tracing::info!("over: {over}");
        }
        self.told = now;
    }

    fn publish_local(&mut self) {
        self.local.send_if_modified(|published| {
            if **published == *self.store.local() {
                return false;
            }
            *published = Arc::new(self.store.local().clone());
            true
        });
    }

    /// Not before every list is complete: what is published until then is a saved state, and comparing the two would tell of changes that are none.
    fn publish_claims(&mut self) {
        if !self.store.is_complete() {
            return;
        }
        let changes = self.store.take_claims();
        self.claims
            .send_if_modified(|published| claims::apply(published, changes));
        // a share of the cluster is at least one node's
        let nodes = self.store.objects().nodes.len().max(1);
        self.nodes
            .send_if_modified(|published| std::mem::replace(published, nodes) != nodes);
    }

    /// Lets go what other nodes may wait for. Bounded: an API server that is away holds up no end.
    pub(super) async fn close(&mut self) {
        drop(self.stand.take());
        let _ = timeout(RELEASE_WITHIN, &mut self.elected).await;
    }

    /// A node name that no Node has captures nothing and looks like a quiet node: it is not ready, and says so.
    fn look_for_node(&mut self) {
        if !self.store.was_listed(Kind::Node) {
            return;
        }
        let nodes = &self.store.objects().nodes;
        if nodes.contains_key(&self.node.0) {
            self.node_item.ready();
            return;
        }
        let mut names: Vec<&str> = nodes.keys().take(NODES_NAMED_MAX).map(String::as_str).collect();
        if nodes.len() > names.len() {
            names.push("…");
        }
        let there_are = if names.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        };
        self.node_item
            .wait(format!("no Node is named {}; {there_are}; set --node-name", self.node));
    }
}

#[cfg(test)]
mod tests;
