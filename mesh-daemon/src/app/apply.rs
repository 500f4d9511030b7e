//! Carries snapshots from the publisher to the kernel and the proxy, in the order that loses nothing: programs first, then the proxy's
//! tables, then capture.

use std::{collections::HashSet, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    bpf::{self, Applied, Kernel, ListenerFds},
    config::Settings,
    model::{Ack, Capture, Content, Snapshot},
    proxy,
    ready::Pending,
};

/// How often the kernel's maps and programs are compared with what they should be: mends what others changed. Half a minute of wrong state
/// is what the administrator who removed a program by hand will notice, a comparison costs milliseconds.
const RESYNC_EVERY: Duration = Duration::from_secs(30);
/// How soon after a failed application the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The one who applies snapshots.
pub(super) struct Applier<'a> {
    pub(super) settings: &'a Settings,
    pub(super) kernel: Kernel,
    pub(super) shared: Arc<proxy::Shared>,
    /// Handed over after the first application; gone once the daemon drains.
    pub(super) listeners: Option<Vec<ListenerFds>>,
    /// Dropped when every program stands and the listeners are handed over.
    pub(super) attached: Option<Pending>,
    /// Where it says what is applied.
    pub(super) ack: watch::Sender<Option<Ack>>,
    /// What was last said about interfaces without a program: a retry every second must not fill the log.
    pub(super) failures: Vec<String>,
}

impl Applier<'_> {
    /// Applies every snapshot; what failed is tried again, and now and then everything is compared with the kernel.
    ///
    /// # Errors
    /// If the listeners cannot be handed over.
    pub(super) async fn run(
        &mut self,
        snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Result<Infallible, bpf::Error> {
        let mut resync = interval_at(Instant::now() + RESYNC_EVERY, RESYNC_EVERY);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry_at = None;
        loop {
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() {
                    // the publisher ended, and its own task says why
                    std::future::pending::<()>().await;
                },
                _ = resync.tick() => {
                    self.kernel.distrust();
                    let snapshot = snapshots.borrow().clone();
                    self.kernel.retain_round_trips(&endpoints(snapshot.as_deref()));
                }
                () = until(retry_at) => {}
            }
            let Some(snapshot) = snapshots.borrow_and_update().clone() else {
                continue;
            };
            retry_at = self.apply(&snapshot).await?;
        }
    }

    /// No new connection comes from here on; running ones go on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn drain(&mut self) -> Result<(), bpf::Error> {
        self.listeners = None;
        self.kernel.stop_listening(self.settings.kernel.marks)
    }

    /// Says when to try again, if something is missing.
    async fn apply(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<Instant>, bpf::Error> {
        let tables = &snapshot.content.tables;
        let attached = self.kernel.attach(tables).await;
        self.shared.publish(Arc::clone(snapshot));
        tracing::debug!(generation = %snapshot.generation, "the proxy has the snapshot");
        let applied = match attached.and_then(|applied| self.kernel.capture(tables, &applied).map(|()| applied)) {
            Ok(applied) => applied,
            Err(error) => {
                tracing::error!(generation = %snapshot.generation, %error, "cannot write the kernel's maps; trying again");
                return Ok(Some(Instant::now() + RETRY_AFTER));
            }
        };
        tracing::debug!(generation = %snapshot.generation, held_back = applied.held_back, "the kernel has the snapshot");
        self.report(&applied);
        self.acknowledge(snapshot, &applied);
        if let Some(listeners) = &self.listeners
            && let Some(pending) = self.attached.take_if(|_| !applied.held_back)
        {
            self.kernel.listen(self.settings.kernel.marks, listeners)?;
            drop(pending);
            self.say_ready(&snapshot.content);
        }
        Ok((!applied.failed.is_empty()).then(|| Instant::now() + RETRY_AFTER))
    }

    /// Only what the maps hold is acknowledged: a write that failed has returned before.
    fn acknowledge(&self, snapshot: &Arc<Snapshot>, applied: &Applied) {
        let unattached = applied.failed.iter().map(|(index, error)| (*index, error.to_string()));
        self.ack.send_replace(Some(Ack {
            snapshot: Arc::clone(snapshot),
            unattached: unattached.collect(),
            held_back: applied.held_back,
        }));
    }

    fn report(&mut self, applied: &Applied) {
        let now: Vec<String> = applied.failed.iter().map(|(_, error)| error.to_string()).collect();
        if now != self.failures {
            for error in &now {
                tracing::warn!(%error, held_back = applied.held_back, "an interface is without its program; trying again");
            }
            self.failures = now;
        }
    }

    fn say_ready(&self, content: &Content) {
        let captured = content
            .captures
            .values()
            .filter(|capture| matches!(capture, Capture::Captured(_)));
        tracing::info!(
            node = %self.settings.node,
            pods = content.captures.len(),
            captured = captured.count(),
            interfaces = content.tables.attachments.len(),
            metrics = %self.settings.metrics_addr,
            health = %self.settings.health_addr,
            "ready"
        );
    }
}

/// Every endpoint that a connection may be balanced to.
fn endpoints(snapshot: Option<&Snapshot>) -> HashSet<SocketAddr> {
    let upstreams = snapshot.into_iter().flat_map(|snapshot| {
        snapshot
            .content
            .upstreams
            .values()
            .chain(snapshot.content.backends.values())
    });
    upstreams
        .flat_map(|upstream| upstream.endpoints.iter().map(|endpoint| endpoint.address))
        .collect()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Generation, ObjectRef},
        model::{AppProtocol, Family, Upstream, UpstreamEndpoint},
    };

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn upstream(name: &str, endpoints: &[u8]) -> Arc<Upstream> {
        let endpoint = |last: &u8| UpstreamEndpoint {
            address: address(*last),
            workload: None,
        };
        Arc::new(Upstream {
            service: ObjectRef::new("shop", name),
            port: 80,
            family: Family::V4,
            app_protocol: AppProtocol::Detect,
            endpoints: endpoints.iter().map(endpoint).collect(),
            policy: None,
            settings: Arc::default(),
        })
    }

    #[test]
    fn round_trips_are_kept_of_services_and_of_what_only_routes_lead_to() {
        let only_routed = upstream("headless", &[3]);
        let content = Content {
            upstreams: [(address(100), upstream("web", &[1, 2]))].into(),
            backends: [(only_routed.key(), only_routed)].into(),
            ..Content::default()
        };
        let snapshot = Snapshot {
            generation: Generation(1),
            content,
        };
        assert_eq!(endpoints(Some(&snapshot)), [1, 2, 3].map(address).into());
        assert_eq!(endpoints(None), HashSet::new());
    }
}
