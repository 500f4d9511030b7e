//! What is true now and not in any object: live state per upstream, kept across snapshots. Published together with the snapshot.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::model::Snapshot;

/// One view of the world: what the objects say, and the live state that belongs to it.
#[derive(Debug)]
pub(super) struct Tables {
    /// What the objects say.
    pub snapshot: Arc<Snapshot>,
    /// By service address and port.
    live: HashMap<SocketAddr, Arc<UpstreamLive>>,
}

/// Live state of one upstream, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct UpstreamLive {
    cursor: AtomicUsize,
}

impl Tables {
    /// The tables of `snapshot`; upstreams that stay keep their live state.
    pub(super) fn next(snapshot: Arc<Snapshot>, previous: Option<&Self>) -> Self {
        let live = snapshot.content.upstreams.keys().map(|address| {
            let kept = previous.and_then(|tables| tables.live.get(address)).cloned();
            (*address, kept.unwrap_or_default())
        });
        Self {
            live: live.collect(),
            snapshot,
        }
    }

    /// The live state of the upstream at a service address and port.
    pub(super) fn live(&self, address: SocketAddr) -> Option<&Arc<UpstreamLive>> {
        self.live.get(&address)
    }
}

impl UpstreamLive {
    /// The round-robin cursor's next value.
    pub(super) fn turn(&self) -> usize {
        self.cursor.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Generation, ObjectRef},
        model::{AppProtocol, Content, Upstream},
    };

    fn snapshot(ports: &[u16]) -> Arc<Snapshot> {
        let upstreams = ports.iter().map(|&port| {
            let upstream = Upstream {
                family: crate::model::Family::V4,
                policy: None,
                settings: Arc::default(),
                service: ObjectRef::new("shop", "web"),
                port,
                app_protocol: AppProtocol::Detect,
                endpoints: vec![],
            };
            (SocketAddr::from(([10, 0, 0, 1], port)), Arc::new(upstream))
        });
        Arc::new(Snapshot {
            generation: Generation(1),
            content: Content {
                upstreams: upstreams.collect(),
                ..Content::default()
            },
        })
    }

    #[test]
    fn the_cursor_survives_a_new_snapshot() {
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let first = Tables::next(snapshot(&[80, 81]), None);
        assert_eq!(first.live(at(80)).unwrap().turn(), 0);
        let second = Tables::next(snapshot(&[80, 82]), Some(&first));
        assert_eq!(second.live(at(80)).unwrap().turn(), 1);
        assert_eq!(second.live(at(82)).unwrap().turn(), 0);
        assert!(
            second.live(at(81)).is_none(),
            "state of a service that is gone is dropped"
        );
    }
}
