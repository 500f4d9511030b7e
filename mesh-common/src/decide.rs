//! What happens to a packet: pure verdicts over plain views. The kernel half looks things up and acts; it decides nothing that is not here.
//!
//! A packet walks through the steps in the order of this file. Each step says [`Step::Done`] with a verdict, or [`Step::Next`] with what
//! the kernel half shall look up for the step after it: look-ups cost time, so none is made before its answer matters.

use crate::{addr::Addr, capture::Iface, counter::Counter};

/// What a TC program does with a packet, and the counter that says why.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: whatever else stands on the interface has its say, then the kernel.
    Pass(Counter),
    /// To the local stack, to the socket that was assigned (for an ICMP error: that the stack finds).
    Steer(Counter),
    /// Ends here.
    Drop(Counter),
}

/// A verdict, or what is needed for the next step.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// No further look-up is needed.
    Done(Verdict),
    /// Look this up and go on.
    Next(T),
}

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP that opens a connection: SYN without ACK.
    Syn,
    /// Any other TCP.
    Segment,
    /// An ICMP error (v4 types 3, 11, 12; v6 types 1 to 4) that quotes a TCP connection.
    IcmpError,
}

/// A packet as far as a verdict needs it. For an ICMP error these are the addresses and ports that the *peer* of the quoted connection
/// would send from and to, so that one look-up serves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What kind of packet it is.
    pub kind: Kind,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
}

/// What to do if the packet belongs to a running connection of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfFound {
    /// Assign its socket.
    Assign,
    /// Only send it to the local stack, which finds the socket by the quoted header.
    Deliver,
    /// Drop it: it claims an address that is not the pod's own.
    Drop,
}

/// The kernel's TCP state of a looked-up socket, as far as it matters (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// The look-up falls back to listeners; they are found by slot, not here.
    Listen,
    /// Has no readable mark.
    TimeWait,
    /// Has the mark that was read from it, or, for a request socket, from its listener.
    Marked(u32),
    /// Nothing readable.
    Unreadable,
}

/// What the look-up of a running connection gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No socket of the daemon's.
    None,
    /// The daemon's, and not assigned because that was not asked.
    Ours,
    /// The daemon's, and assigned.
    Assigned,
    /// The daemon's, and the kernel refused to assign it.
    Failed,
}

/// What the attempt to hand a new connection to a worker's listener gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The slot is empty: no daemon runs.
    Absent,
    /// Assigned.
    Assigned,
    /// The kernel refused.
    Failed,
}

/// First step on a pod's interface. `to_node`: the destination is one of the node's own addresses. Such packets are never looked up: a
/// host firewall that saw only half of a connection would cut it.
#[inline(always)]
pub fn arrival_from_pod(packet: &Packet, iface: &Iface, to_node: bool) -> Step<IfFound> {
    if to_node {
        return Step::Done(Verdict::Pass(Counter::PassNodeAddress));
    }
    let own = iface.owns(&packet.source);
    match packet.kind {
        // a pod may report trouble only about connections to itself
        Kind::IcmpError if !own => Step::Done(Verdict::Pass(Counter::PassNotTcp)),
        Kind::IcmpError => Step::Next(IfFound::Deliver),
        Kind::Syn | Kind::Segment if iface.captured() && !own => Step::Next(IfFound::Drop),
        Kind::Syn | Kind::Segment => Step::Next(IfFound::Assign),
    }
}

/// First step on any other interface.
#[inline(always)]
pub fn arrival_from_net(packet: &Packet, to_node: bool) -> Step<IfFound> {
    if to_node {
        return Step::Done(Verdict::Pass(Counter::PassNodeAddress));
    }
    Step::Next(match packet.kind {
        Kind::IcmpError => IfFound::Deliver,
        Kind::Syn | Kind::Segment => IfFound::Assign,
    })
}

/// Whether a looked-up socket is one of the daemon's transparent ones. The look-up finds every socket of the node, the kubelet's probes and
/// the daemon's own tracked dials among them; steering those would take their replies away from conntrack.
#[inline(always)]
pub fn is_ours(state: SocketState, mark_mask: u32, mark_transparent: u32) -> bool {
    match state {
        SocketState::Listen | SocketState::Unreadable => false,
        // the node's own addresses were passed before the look-up, and only the daemon has sockets on others. A SYN too: the stack knows
        // whether it may open a new connection over the old one's remains, and asks the sk_lookup program for the listener. Passed on, it
        // would be dropped: early demux finds the same socket, and what has a socket is not forwarded
        SocketState::TimeWait => true,
        // before the daemon has said what its mark is, no socket has it
        SocketState::Marked(mark) => mark_mask != 0 && mark & mark_mask == mark_transparent,
    }
}

/// Second step, after the look-up of a running connection.
#[inline(always)]
pub fn running(asked: IfFound, found: Found) -> Step<()> {
    match (found, asked) {
        (Found::None, _) => Step::Next(()),
        (Found::Assigned, _) => Step::Done(Verdict::Steer(Counter::Established)),
        (Found::Failed, _) => Step::Done(Verdict::Drop(Counter::DropAssignFailed)),
        (Found::Ours, IfFound::Drop) => Step::Done(Verdict::Drop(Counter::DropSpoofedSource)),
        (Found::Ours, IfFound::Deliver | IfFound::Assign) => Step::Done(Verdict::Steer(Counter::IcmpError)),
    }
}

/// Third step on a pod's interface: is it a new connection of a captured pod? Next: look up whether the destination is the mesh's business.
#[inline(always)]
pub fn opens_captured(packet: &Packet, iface: &Iface) -> Step<()> {
    match packet.kind {
        Kind::Syn if iface.captured() => Step::Next(()),
        Kind::Syn => Step::Done(Verdict::Pass(Counter::PassUncaptured)),
        Kind::Segment | Kind::IcmpError => Step::Done(Verdict::Pass(Counter::PassNotOurs)),
    }
}

/// Fourth step: `to_mesh` says that the destination is a service with endpoints or a route, or lies in a pod range. Next: the worker's listener.
#[inline(always)]
pub fn destination(packet: &Packet, iface: &Iface, to_mesh: bool) -> Step<()> {
    if !to_mesh {
        Step::Done(Verdict::Pass(Counter::PassNotMesh))
    } else if iface.owns(&packet.source) {
        Step::Next(())
    } else {
        Step::Done(Verdict::Drop(Counter::DropSpoofedSource))
    }
}

/// Last step of a new connection.
#[inline(always)]
pub fn handed_over(listener: Listener) -> Verdict {
    match listener {
        Listener::Absent => Verdict::Pass(Counter::PassNoListener),
        Listener::Assigned => Verdict::Steer(Counter::Captured),
        Listener::Failed => Verdict::Drop(Counter::DropAssignFailed),
    }
}

/// Whether the listener may be given to a SYN that the stack took up over a TIME_WAIT socket: by the rules of a new connection. `iface` is
/// the interface that it came in through. Next: look up whether the destination is the mesh's business.
#[inline(always)]
pub fn reopens(iface: Option<&Iface>, to_node: bool) -> bool {
    !to_node && iface.is_some_and(Iface::captured)
}

/// Last step on an interface that captures nothing.
#[inline(always)]
pub fn nobody() -> Verdict {
    Verdict::Pass(Counter::PassNotOurs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::IFACE_CAPTURED;

    const POD: Addr = Addr([0, 0, 1, 1]);
    const OTHER: Addr = Addr([0, 0, 1, 2]);

    fn iface(flags: u32) -> Iface {
        Iface {
            flags,
            addr4: Addr::NONE,
            addr6: POD,
        }
    }

    fn packet(kind: Kind, source: Addr) -> Packet {
        Packet {
            kind,
            source,
            destination: OTHER,
            source_port: 40000,
            destination_port: 80,
        }
    }

    fn done<T>(verdict: Verdict) -> Step<T> {
        Step::Done(verdict)
    }

    #[test]
    fn arrival_from_a_pod() {
        use {IfFound as F, Kind as K};
        let uncaptured = 0;
        for (flags, kind, source, to_node, expected) in [
            (IFACE_CAPTURED, K::Syn, POD, false, Step::Next(F::Assign)),
            (IFACE_CAPTURED, K::Segment, POD, false, Step::Next(F::Assign)),
            (IFACE_CAPTURED, K::Syn, OTHER, false, Step::Next(F::Drop)),
            (IFACE_CAPTURED, K::Segment, OTHER, false, Step::Next(F::Drop)),
            (IFACE_CAPTURED, K::IcmpError, POD, false, Step::Next(F::Deliver)),
            (
                IFACE_CAPTURED,
                K::IcmpError,
                OTHER,
                false,
                done(Verdict::Pass(Counter::PassNotTcp)),
            ),
            (uncaptured, K::Segment, POD, false, Step::Next(F::Assign)),
            (uncaptured, K::Segment, OTHER, false, Step::Next(F::Assign)),
            (
                uncaptured,
                K::IcmpError,
                OTHER,
                false,
                done(Verdict::Pass(Counter::PassNotTcp)),
            ),
            (
                IFACE_CAPTURED,
                K::Syn,
                POD,
                true,
                done(Verdict::Pass(Counter::PassNodeAddress)),
            ),
            (
                IFACE_CAPTURED,
                K::Syn,
                OTHER,
                true,
                done(Verdict::Pass(Counter::PassNodeAddress)),
            ),
        ] {
            assert_eq!(
                arrival_from_pod(&packet(kind, source), &iface(flags), to_node),
                expected,
                "{flags} {kind:?}"
            );
        }
    }

    #[test]
    fn arrival_from_elsewhere() {
        assert_eq!(
            arrival_from_net(&packet(Kind::Segment, OTHER), false),
            Step::Next(IfFound::Assign)
        );
        assert_eq!(
            arrival_from_net(&packet(Kind::IcmpError, OTHER), false),
            Step::Next(IfFound::Deliver)
        );
        assert_eq!(
            arrival_from_net(&packet(Kind::Segment, OTHER), true),
            done(Verdict::Pass(Counter::PassNodeAddress))
        );
    }

    #[test]
    fn only_transparent_sockets_are_ours() {
        use SocketState as S;
        for (state, mask, transparent, expected) in [
            (S::Marked(0x2000), 0x3000, 0x2000, true),
            (S::Marked(0x2000 | 0x4000), 0x3000, 0x2000, true),
            (S::Marked(0x3000), 0x3000, 0x2000, false),
            (S::Marked(0x1000), 0x3000, 0x2000, false),
            (S::Marked(0), 0x3000, 0x2000, false),
            (S::Marked(0), 0, 0, false),
            (S::TimeWait, 0x3000, 0x2000, true),
            (S::Listen, 0x3000, 0x2000, false),
            (S::Unreadable, 0x3000, 0x2000, false),
        ] {
            assert_eq!(is_ours(state, mask, transparent), expected, "{state:?} {mask:#x}");
        }
    }

    #[test]
    fn a_running_connection() {
        for (asked, found, expected) in [
            (IfFound::Assign, Found::None, Step::Next(())),
            (IfFound::Drop, Found::None, Step::Next(())),
            (
                IfFound::Assign,
                Found::Assigned,
                done(Verdict::Steer(Counter::Established)),
            ),
            (
                IfFound::Assign,
                Found::Failed,
                done(Verdict::Drop(Counter::DropAssignFailed)),
            ),
            (IfFound::Deliver, Found::Ours, done(Verdict::Steer(Counter::IcmpError))),
            (
                IfFound::Drop,
                Found::Ours,
                done(Verdict::Drop(Counter::DropSpoofedSource)),
            ),
        ] {
            assert_eq!(running(asked, found), expected, "{asked:?} {found:?}");
        }
    }

    #[test]
    fn only_a_captured_pods_syn_opens() {
        for (flags, kind, expected) in [
            (IFACE_CAPTURED, Kind::Syn, Step::Next(())),
            (0, Kind::Syn, done(Verdict::Pass(Counter::PassUncaptured))),
            (IFACE_CAPTURED, Kind::Segment, done(Verdict::Pass(Counter::PassNotOurs))),
            (
                IFACE_CAPTURED,
                Kind::IcmpError,
                done(Verdict::Pass(Counter::PassNotOurs)),
            ),
        ] {
            assert_eq!(
                opens_captured(&packet(kind, POD), &iface(flags)),
                expected,
                "{flags} {kind:?}"
            );
        }
    }

    #[test]
    fn only_a_captured_pods_connection_is_reopened() {
        for (iface, to_node, expected) in [
            (Some(iface(IFACE_CAPTURED)), false, true),
            (Some(iface(IFACE_CAPTURED)), true, false),
            (Some(iface(0)), false, false),
            (None, false, false),
        ] {
            assert_eq!(reopens(iface.as_ref(), to_node), expected, "{iface:?} {to_node}");
        }
    }

    #[test]
    fn a_foreign_source_is_dropped_only_where_it_would_be_steered() {
        for (source, to_mesh, expected) in [
            (POD, true, Step::Next(())),
            (POD, false, done(Verdict::Pass(Counter::PassNotMesh))),
            (OTHER, true, done(Verdict::Drop(Counter::DropSpoofedSource))),
            (OTHER, false, done(Verdict::Pass(Counter::PassNotMesh))),
        ] {
            assert_eq!(
                destination(&packet(Kind::Syn, source), &iface(IFACE_CAPTURED), to_mesh),
                expected
            );
        }
    }

    #[test]
    fn without_a_daemon_traffic_flows_as_if_unmeshed() {
        assert_eq!(handed_over(Listener::Absent), Verdict::Pass(Counter::PassNoListener));
        assert_eq!(handed_over(Listener::Assigned), Verdict::Steer(Counter::Captured));
        assert_eq!(handed_over(Listener::Failed), Verdict::Drop(Counter::DropAssignFailed));
        assert_eq!(nobody(), Verdict::Pass(Counter::PassNotOurs));
    }
}
