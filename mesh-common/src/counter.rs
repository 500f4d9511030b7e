//! Every exit of the kernel half, counted. The names become metric labels.

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Index into the per-CPU counter array.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// Every counter, in the order of its index.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The metric label, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// A new connection was handed to the daemon's listener.
    Captured => "captured",
    /// A new connection over the TIME_WAIT of an old one was given to the daemon's listener. Counted beside `established`, which its SYN is
    /// counted as.
    Reopened => "reopened",
    /// A packet of a running connection was handed to the daemon's socket.
    Established => "established",
    /// An ICMP error about one of the daemon's connections was sent to the local stack.
    IcmpError => "icmp_error",
    /// Passed: neither TCP nor an ICMP error about TCP, or not parseable as such.
    PassNotTcp => "pass_not_tcp",
    /// Passed: the interface is not in the interface map (yet).
    PassUnknownInterface => "pass_unknown_interface",
    /// Passed: addressed to the node itself.
    PassNodeAddress => "pass_node_address",
    /// Passed: a packet of a connection that is not the daemon's: older than the capture, or never the mesh's business.
    PassNotOurs => "pass_not_ours",
    /// Passed: a new connection of a pod that is not captured.
    PassUncaptured => "pass_uncaptured",
    /// Passed: a new connection to an address that is neither a service with endpoints nor in a pod range.
    PassNotMesh => "pass_not_mesh",
    /// Passed, as if unmeshed: no daemon listens.
    PassNoListener => "pass_no_listener",
    /// Dropped: a captured pod sent what would be steered from an address that is not its own.
    DropSpoofedSource => "drop_spoofed_source",
    /// Dropped: the kernel refused to assign the socket.
    DropAssignFailed => "drop_assign_failed",
    /// Not a verdict: an event was lost because the ring buffer is full.
    EventLost => "event_lost",
}

/// Entries of the counter array.
#[expect(clippy::cast_possible_truncation, reason = "a handful of counters")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// The counter with this index.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_indexes_follow_the_order() {
        let names: BTreeSet<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for (i, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, i);
            assert_eq!(Counter::from_index(u32::try_from(i).unwrap()), Some(*counter));
        }
        assert_eq!(Counter::from_index(COUNTERS), None);
    }
}
