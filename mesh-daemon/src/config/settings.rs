//! The checked, typed settings: what the rest of the daemon reads instead of flags.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::{
    ids::{NodeName, ObjectRef},
    telemetry::{LogFilter, LogFormat},
};

/// Everything that `mesh-daemon run` needs, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node's name, as its Node object has it.
    pub node: NodeName,
    /// Where objects come from.
    pub source: Source,
    /// Pod ranges beside those that Node objects announce in `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// How long it must be quiet before changes are published.
    pub debounce_after: Duration,
    /// Longest time that a change waits for quiet; not below `debounce_after`.
    pub debounce_max: Duration,
    /// Workers: one current-thread runtime each.
    pub workers: NonZeroU32,
    /// Where `/metrics` is served.
    pub metrics_addr: SocketAddr,
    /// Where `/healthz` and `/readyz` are served.
    pub health_addr: SocketAddr,
    /// The admin socket's path.
    pub admin_socket: PathBuf,
    /// Whether each request and opaque connection leaves a line on stdout.
    pub access_log: bool,
    /// How long after SIGTERM open connections may go on.
    pub drain_timeout: Duration,
    /// What the kernel half needs.
    pub kernel: KernelSettings,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of Kubernetes manifests.
    Manifests(PathBuf),
    /// An API server.
    Cluster {
        /// A kubeconfig file; none for the ServiceAccount that Kubernetes mounts into a pod.
        kubeconfig: Option<PathBuf>,
        /// Directory of the last good state.
        state_dir: PathBuf,
        /// A state older than this is refused.
        state_age_max: Duration,
    },
}

/// What is written into the node's kernel; `detach` reads the same flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSettings {
    /// Directory on a bpffs where links and maps are pinned.
    pub pin_dir: PathBuf,
    /// How TC programs are attached.
    pub attach: AttachMode,
    /// Marks; `workers` is filled in when the daemon starts.
    pub marks: mesh_common::settings::Settings,
    /// Routing table that delivers steered packets locally.
    pub route_table: u32,
    /// Preference of the first of three consecutive routing rules.
    pub rule_preference: u32,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Which lines are written.
    pub filter: LogFilter,
    /// Their form.
    pub format: LogFormat,
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AttachMode {
    /// TCX links where the kernel has them (6.6 and later), else clsact filters.
    Auto,
    /// TCX links or nothing.
    Tcx,
    /// clsact filters with a fixed handle and priority.
    Clsact,
}

/// A question to the running daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub subject: Subject,
    /// The running daemon's socket.
    pub admin_socket: PathBuf,
    /// How the answer is shown.
    pub output: OutputFormat,
}

/// What is asked of the running daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The rules of all Services.
    Routes,
    /// Those of the Services of a namespace.
    RoutesIn(String),
    /// Those of one Service.
    RoutesOf(ObjectRef),
    /// The endpoints of a Service.
    Endpoints(ObjectRef),
    /// The settings of a Service.
    Policy(ObjectRef),
    /// All TrafficPolicies.
    Policies,
    /// Those of a namespace.
    PoliciesIn(String),
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Columns, for people.
    Table,
    /// As the daemon gives it.
    Json,
}
