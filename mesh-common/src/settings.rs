//! What the daemon tells the kernel half once per start: marks, workers; and where a worker's listener stands in the SOCKMAP.

/// Most workers that one daemon may run: bounds the listener SOCKMAP. 64 covers the largest nodes at one worker per two cores.
pub const WORKERS_MAX: u32 = 64;
/// Slots of the listener SOCKMAP: one per worker and address family.
pub const LISTENER_SLOTS: u32 = WORKERS_MAX * 2;

/// Packet marks and the number of workers. Marks are compared under `mark_mask` only: the other bits belong to kube-proxy and the CNI.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bits of the mark that are Weft's.
    pub mark_mask: u32,
    /// Steered packets: delivered locally by rule, not tracked by conntrack.
    pub mark_steer: u32,
    /// The daemon's transparent sockets: listeners, accepted connections, dials from a pod's address. Not tracked.
    pub mark_transparent: u32,
    /// The daemon's dials from the node's own address: tracked as any host connection, never steered.
    pub mark_own: u32,
    /// Running workers, 1 to [`WORKERS_MAX`]. 0 means that no daemon has ever run: nothing is steered.
    pub workers: u32,
}

impl Settings {
    /// The marks of the design: two bits that neither kube-proxy (0x4000, 0x8000), Istio and Cilium (0x0fff) nor Calico (0xffff0000) use.
    pub const DEFAULT_MARKS: Self = Self {
        mark_mask: 0x3000,
        mark_steer: 0x1000,
        mark_transparent: 0x2000,
        mark_own: 0x3000,
        workers: 0,
    };
}

/// The SOCKMAP slot of a worker's listener.
#[inline(always)]
pub const fn listener_slot(worker: u32, v6: bool) -> u32 {
    worker % WORKERS_MAX + if v6 { WORKERS_MAX } else { 0 }
}

/// Which worker takes a new connection: by its source port, which clients spread well, so that no state is needed.
/// `None` when no daemon has said how many there are.
#[inline(always)]
pub const fn worker_of(source_port: u16, workers: u32) -> Option<u32> {
    if workers == 0 || workers > WORKERS_MAX {
        return None;
    }
    // Linux hands out ephemeral ports of one parity to connect(): drop the lowest bit, or half of the workers would idle
    Some((source_port as u32 >> 1) % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_different_workers_and_families_never_meet() {
        let mut seen = [false; LISTENER_SLOTS as usize];
        for worker in 0..WORKERS_MAX {
            for v6 in [false, true] {
                let slot = listener_slot(worker, v6) as usize;
                assert!(!seen[slot], "slot {slot} twice");
                seen[slot] = true;
            }
        }
    }

    #[test]
    fn even_source_ports_reach_every_worker() {
        let mut seen = [false; 4];
        for port in (32768..32784).step_by(2) {
            seen[worker_of(port, 4).unwrap() as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn no_workers_or_too_many_take_nothing() {
        assert_eq!(worker_of(1, 0), None);
        assert_eq!(worker_of(1, WORKERS_MAX + 1), None);
    }
}
