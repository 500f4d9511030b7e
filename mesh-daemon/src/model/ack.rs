//! What flows back from those who act: the snapshot that is applied, and which interfaces did not take part.

use std::{collections::BTreeMap, sync::Arc};

use super::Snapshot;

/// Kernel and proxy hold this snapshot.
#[derive(Clone, Debug)]
pub struct Ack {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Interfaces of this node without their program, by index, and why, as one sentence. Pods behind them are not captured yet.
    pub unattached: BTreeMap<u32, String>,
    /// Whether a way back is missing, so that no pod of this node is captured for now.
    pub held_back: bool,
}
