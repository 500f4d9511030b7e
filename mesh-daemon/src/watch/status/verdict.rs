//! The one table of what is said about a pod's capture: status, reason and message of its condition, and when an Event tells it.

use crate::model::{Ack, Capture, NotCaptured};

/// What is said about one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The condition's status.
    pub(super) is_captured: bool,
    /// One word in camel case.
    pub(super) reason: &'static str,
    /// One sentence: what is so, and what to do.
    pub(super) message: String,
    /// Whether an Event tells it as well.
    pub(super) tell: Tell,
}

/// When an Event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tell {
    /// Never: nobody asked for anything.
    Never,
    /// At once: it does not pass by itself.
    Now,
    /// Once it has lasted: it often passes by itself within a moment, as while a pod starts.
    IfItLasts,
}

/// The verdict, unless there is nothing to say: a finished pod is left alone.
pub(super) fn verdict(capture: Capture, ack: &Ack) -> Option<Verdict> {
    let verdict = match capture {
        Capture::Captured(interface) => captured(interface, ack),
        Capture::Not(NotCaptured::Finished) => return None,
        Capture::Not(reason) => not_captured(reason),
    };
    Some(verdict)
}

fn captured(interface: u32, ack: &Ack) -> Verdict {
    if let Some(why) = ack.unattached.get(&interface) {
        let message = format!(
            "Interface {interface} of the pod has no program yet: {}; it is tried again and again, so look at the log of \
             mesh-daemon on this node if it stays.",
            why.trim_end_matches('.')
        );
        return refusal("ProgramNotAttached", message, Tell::IfItLasts);
    }
    if ack.held_back {
        let message = "Nothing is captured on this node for now, since a program is missing on an interface that answers may come in \
                       by: look at the log of mesh-daemon on this node if it stays.";
        return refusal("HeldBack", message, Tell::IfItLasts);
    }
    Verdict {
        is_captured: true,
        reason: "Captured",
        message: "Connections of this pod go through the mesh; nothing needs to be done.".to_owned(),
        tell: Tell::Now,
    }
}

fn not_captured(reason: NotCaptured) -> Verdict {
    let (reason, message, tell) = match reason {
        NotCaptured::NotLabelled | NotCaptured::Finished => (
            "NotEnabled",
            "Capture is not asked for: label the pod or its namespace with weft.mesh/capture=enabled.",
            Tell::Never,
        ),
        NotCaptured::HostNetwork => (
            "HostNetwork",
            "The pod shares the node's network, where its connections cannot be told from others: set hostNetwork to false, or label \
             the pod with weft.mesh/capture=disabled.",
            Tell::Now,
        ),
        NotCaptured::BridgePort => (
            "BridgePort",
            "The pod's interface is a port of a bridge, which is not supported yet: use a network plugin that routes to pods, or label \
             the pod with weft.mesh/capture=disabled.",
            Tell::Now,
        ),
        NotCaptured::SharedInterface => (
            "SharedInterface",
            "Another pod is reached through the same interface, so who sent a packet could not be told: give each pod an interface of \
             its own in the network plugin.",
            Tell::IfItLasts,
        ),
        NotCaptured::NoAddress => (
            "NoAddress",
            "The pod has no address yet, or another pod owns it: wait for the pod to start, and see the Events of the pod if this stays.",
            Tell::IfItLasts,
        ),
        NotCaptured::NoInterface => (
            "NoInterface",
            "No single interface of this node leads to the pod's addresses yet: wait for the network plugin, and look at the node's \
             routes if this stays.",
            Tell::IfItLasts,
        ),
    };
    refusal(reason, message, tell)
}

fn refusal(reason: &'static str, message: impl Into<String>, tell: Tell) -> Verdict {
    Verdict {
        is_captured: false,
        reason,
        message: message.into(),
        tell,
    }
}
