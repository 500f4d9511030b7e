//! Which nodes tell of an object that every node sees: a few for each object, and the same few whoever reckons. Rendezvous hashing. Pure.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::ids::{NodeName, ObjectRef};

/// How many nodes tell of an object: one may have no daemon and another be cut off from the API server. All write the same Event, so that
/// the second and the third hear that it exists; if every node told it, a thousand would ask the API server for one Event.
pub(super) const TELLERS: usize = 3;

/// The nodes among which tellers are chosen.
pub(super) struct Tellers {
    nodes: Vec<u64>,
}

impl Tellers {
    /// All nodes that are known, each any number of times.
    pub(super) fn new<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> Self {
        let nodes: BTreeSet<&NodeName> = nodes.collect();
        Self {
            nodes: nodes.into_iter().map(|node| digest([node.0.as_str()])).collect(),
        }
    }

    /// Whether this node, which need not be known, is one of those with the lowest weights for this Event.
    pub(super) fn has_to_tell(&self, own: &NodeName, event: &ObjectRef) -> bool {
        let event = digest([event.namespace.as_str(), event.name.as_str()]);
        let own = weight(digest([own.0.as_str()]), event);
        let lower = self.nodes.iter().filter(|node| weight(**node, event) < own);
        lower.take(TELLERS).count() < TELLERS
    }
}

/// The same in every daemon, whatever it was built with.
fn digest<const PARTS: usize>(parts: [&str; PARTS]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        // no byte of UTF-8: parts cannot run into each other
        hash.update([0xff]);
    }
    let bytes = hash.finalize();
    bytes
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Two digests to a third, cheaply, since there is one for each node and object: each bit moves every other (Vigna's SplitMix64).
fn weight(node: u64, event: u64) -> u64 {
    let mut mixed = node ^ event;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
