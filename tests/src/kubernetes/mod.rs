//! A real Kubernetes 1.36 for tests and the demo: its programs, its control plane in a network namespace, whole clusters of real nodes; a
//! chaos proxy before it, and a shop whose objects live there.

mod binaries;
pub mod chaos;
pub mod cluster;
mod control_plane;
mod crds;
mod parts;
pub mod shop;

pub use binaries::Binaries;
pub use control_plane::ControlPlane;
pub use parts::{Components, ControlPlaneOptions, ExtraArgs, POD_CIDRS, SERVICE_CIDRS};
