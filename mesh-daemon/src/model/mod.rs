//! The brain, pure: [`Inputs`] in, [`Content`] out. No I/O, no clock, no lock, no log, no async.

mod ack;
mod inputs;
mod build;
mod owners;
mod interfaces;
mod upstreams;
mod ranges;
mod bounded;
mod snapshot;
mod tables;
mod diff;
mod dump;
#[cfg(test)]
mod tests;

pub use ack::Ack;
pub use build::{build, build_after};
pub use diff::Diff;
pub use dump::{dump, dump_tables};
pub use inputs::{
    AppProtocol, Endpoint, EndpointSlice, Facts, Inputs, Link, LinkKind, Namespace, Node, Pod, PodPhase, Service,
    ServicePort, SetAside, SlicePort, TargetPort, View,
};
pub use snapshot::{Capture, Content, NotCaptured, Snapshot, Upstream, UpstreamEndpoint, Workload};
pub use tables::{Attachment, Program, Tables};
