//! A real Kubernetes 1.36 for tests and the demo: its programs, its control plane in a network namespace, and whole clusters of real nodes.

mod binaries;
pub mod cluster;
mod control_plane;
mod parts;

pub use binaries::Binaries;
pub use control_plane::ControlPlane;
pub use parts::{Components, ControlPlaneOptions, ExtraArgs, POD_CIDRS, SERVICE_CIDRS};
