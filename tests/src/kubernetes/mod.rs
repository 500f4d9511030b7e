//! A real Kubernetes 1.36 for tests and the demo: its programs, and its control plane in a network namespace.

mod binaries;
mod control_plane;
mod parts;

pub use binaries::Binaries;
pub use control_plane::ControlPlane;
pub use parts::{Components, ControlPlaneOptions, ExtraArgs, POD_CIDRS, SERVICE_CIDRS};
