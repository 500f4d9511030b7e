//! The brain, pure: [`Inputs`] in, [`Content`] out. No I/O, no clock, no lock, no log, no async.

mod inputs;
mod snapshot;
mod tables;

pub use inputs::{
    AppProtocol, Endpoint, EndpointSlice, Facts, Inputs, Link, LinkKind, Namespace, Node, Pod, PodPhase, Service,
    ServicePort, SetAside, SlicePort, TargetPort,
};
pub use snapshot::{Capture, Content, NotCaptured, Snapshot, Upstream, UpstreamEndpoint, Workload};
pub use tables::{Attachment, Program, Tables};
mod diff;
pub use diff::Diff;
