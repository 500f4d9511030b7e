//! The flags as clap reads them. What each line says here is what `mesh-daemon --help` shows.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use ipnet::IpNet;

use super::{AttachMode, OutputFormat, help, value};
use crate::telemetry::{LogFilter, LogFormat};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "mesh-daemon",
    version,
    about = "Weft's node daemon: carries the connections of captured pods into the mesh",
    long_about = help::ABOUT,
    after_help = help::AFTER_SHORT,
    after_long_help = help::AFTER_LONG,
    override_usage = help::USAGE,
    args_conflicts_with_subcommands = true,
    max_term_width = help::WIDTH_MAX
)]
pub(super) struct Cli {
    /// `run` when none is given.
    #[command(subcommand)]
    pub(super) command: Option<Sub>,
    /// What `run` takes.
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Sub {
    /// Run the daemon; this is what happens when no command is given
    #[command(after_help = help::AFTER_SHORT, after_long_help = help::AFTER_RUN)]
    Run(Box<RunArgs>),
    /// Remove everything that Weft ever pinned or wrote into this node's kernel
    #[command(long_about = help::DETACH, after_help = help::AFTER_SHORT)]
    Detach(DetachArgs),
    /// Show the rules that requests meet, in the order of precedence, and what became of each HTTPRoute
    #[command(long_about = help::ROUTES, after_help = help::AFTER_SHORT)]
    Routes(ServicesArgs),
    /// Show a Service's endpoints as this node knows them: state, breaker, load, latency
    #[command(long_about = help::ENDPOINTS, after_help = help::AFTER_SHORT)]
    Endpoints(EndpointsArgs),
    /// Show every setting that holds for a Service, and which object says so
    #[command(long_about = help::POLICY, after_help = help::AFTER_SHORT)]
    Policy(ServicesArgs),
}

/// Flags of `run`.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Directory of Kubernetes manifests to take as the cluster's state
    ///
    /// Each file `*.yaml`, `*.yml` or `*.json` holds objects as `kubectl get -o yaml` prints them: Namespaces, Nodes, Pods with status,
    /// Services, EndpointSlices, HTTPRoutes, TrafficPolicies. Files are read again when they change. An object that cannot be used is set
    /// aside with a reason in the log and in a metric; all others work.
    #[arg(long, env = "WEFT_MANIFESTS", hide_env = true, value_name = "DIR", help_heading = help::SOURCE)]
    pub(super) manifests: Option<PathBuf>,

    /// Kubeconfig file of the API server to watch [default: the pod's ServiceAccount, in a cluster]
    ///
    /// Without it and without --manifests, a daemon that runs as a pod uses its ServiceAccount. An API server that does not answer is tried
    /// again and again; meanwhile the last good state serves.
    #[arg(long, env = "WEFT_KUBECONFIG", hide_env = true, value_name = "FILE", help_heading = help::SOURCE)]
    pub(super) kubeconfig: Option<PathBuf>,

    /// Directory where the last good state of the API server's objects is kept
    ///
    /// A daemon that starts while the API server is away serves from it. Made if absent. Not used with --manifests.
    #[arg(long, env = "WEFT_STATE_DIR", hide_env = true, value_name = "DIR", default_value = "/var/lib/weft", help_heading = help::SOURCE)]
    pub(super) state_dir: PathBuf,

    /// Oldest state that is still served from, up to 30d
    ///
    /// A number with the unit s, m, h or d.
    #[arg(long, env = "WEFT_STATE_AGE_MAX", hide_env = true, value_name = "TIME", default_value = "24h", value_parser = value::age,
        help_heading = help::SOURCE)]
    pub(super) state_age_max: Duration,

    /// How long it must be quiet before changes are applied, up to 60m
    ///
    /// Merges a burst of changes into one. A number with the unit ms, s or m.
    #[arg(long, env = "WEFT_DEBOUNCE_AFTER", hide_env = true, value_name = "TIME", default_value = "10ms", value_parser = value::duration,
        help_heading = help::SOURCE)]
    pub(super) debounce_after: Duration,

    /// Longest time that a change waits for quiet, up to 60m
    ///
    /// Not less than --debounce-after.
    #[arg(long, env = "WEFT_DEBOUNCE_MAX", hide_env = true, value_name = "TIME", default_value = "100ms", value_parser = value::duration,
        help_heading = help::SOURCE)]
    pub(super) debounce_max: Duration,

    /// Name of this node's Node object [default: $NODE_NAME, else the host name in lower case]
    ///
    /// Only pods of this node are captured. Give it when the Node object is named otherwise than the host; in a DaemonSet, set the
    /// variable NODE_NAME from the field `spec.nodeName`.
    #[arg(long, env = "WEFT_NODE_NAME", hide_env = true, value_name = "NAME", help_heading = help::SOURCE)]
    pub(super) node_name: Option<String>,

    /// Pod range of the cluster, beside those that Node objects announce; may be repeated
    ///
    /// Give it when the CNI takes pod addresses from ranges that `spec.podCIDRs` of the Nodes do not show. Several ranges may stand in
    /// one value with commas between them.
    #[arg(long, env = "WEFT_POD_CIDR", hide_env = true, value_name = "CIDR", value_delimiter = ',', value_parser = value::cidr,
        help_heading = help::SOURCE)]
    pub(super) pod_cidr: Vec<IpNet>,

    /// Worker threads, 1 to 64 [default: one per available CPU]
    ///
    /// Each worker carries its share of the connections on a thread of its own. Fewer leave more of the node to the pods.
    #[arg(long, env = "WEFT_WORKERS", hide_env = true, value_name = "N", value_parser = value::workers, help_heading = help::DAEMON)]
    pub(super) workers: Option<u32>,

    /// Where to serve Prometheus metrics: GET /metrics
    ///
    /// Plain HTTP without authentication: open it to other hosts (0.0.0.0:9490) only where the network is trusted.
    #[arg(long, env = "WEFT_METRICS_ADDR", hide_env = true, value_name = "IP:PORT", value_parser = value::address, default_value = "127.0.0.1:9490",
        help_heading = help::DAEMON)]
    pub(super) metrics_addr: SocketAddr,

    /// Where to serve GET /healthz and /readyz
    ///
    /// `/healthz` answers 200 as long as the daemon lives. `/readyz` answers 200 once every kind of object has been listed and the BPF
    /// programs are attached, else 503 with a line for each thing that is waited for.
    #[arg(long, env = "WEFT_HEALTH_ADDR", hide_env = true, value_name = "IP:PORT", value_parser = value::address, default_value = "127.0.0.1:9491",
        help_heading = help::DAEMON)]
    pub(super) health_addr: SocketAddr,

    /// Unix socket for questions to the running daemon
    ///
    /// Made with mode 0600; its directory is made if absent. At most 107 bytes long.
    #[arg(long, env = "WEFT_ADMIN_SOCKET", hide_env = true, value_name = "PATH", default_value = "/run/weft/admin.sock",
        help_heading = help::DAEMON)]
    pub(super) admin_socket: PathBuf,

    /// How long open connections may go on after SIGTERM, up to 60m
    ///
    /// A number with the unit ms, s or m. Keep it below the pod's terminationGracePeriodSeconds, 30 by default, or the kubelet kills the
    /// daemon first.
    #[arg(long, env = "WEFT_DRAIN_TIMEOUT", hide_env = true, value_name = "TIME", default_value = "25s", value_parser = value::duration,
        help_heading = help::DAEMON)]
    pub(super) drain_timeout: Duration,

    /// What is written into the kernel.
    #[command(flatten)]
    pub(super) kernel: KernelArgs,

    /// Write a line of JSON for each request and each opaque connection to stdout
    ///
    /// When it has ended: who asked whom for what, the route, rule and policy, the endpoint, attempts, outcome and time. Without the query of the
    /// URL. Lines that nobody reads fast enough are dropped and counted (weft_access_log_dropped_total); no request waits for them.
    #[arg(long, env = "WEFT_ACCESS_LOG", hide_env = true, help_heading = help::LOG)]
    pub(super) access_log: bool,

    /// What is logged.
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Flags of `detach`.
#[derive(Args, Debug)]
pub(super) struct DetachArgs {
    /// What was written into the kernel.
    #[command(flatten)]
    pub(super) kernel: KernelArgs,

    /// What is logged.
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Flags of `routes` and `policy`.
#[derive(Args, Debug)]
pub(super) struct ServicesArgs {
    /// The Service: a name, or namespace/name [default: all]
    #[arg(value_name = "SERVICE")]
    pub(super) service: Option<String>,

    /// Whom to ask, and how to show the answer.
    #[command(flatten)]
    pub(super) ask: AskArgs,
}

/// Flags of `endpoints`.
#[derive(Args, Debug)]
pub(super) struct EndpointsArgs {
    /// The Service: a name, or namespace/name
    #[arg(value_name = "SERVICE")]
    pub(super) service: String,

    /// Whom to ask, and how to show the answer.
    #[command(flatten)]
    pub(super) ask: AskArgs,
}

/// Whom to ask, and how to show the answer.
#[derive(Args, Debug)]
pub(super) struct AskArgs {
    /// Namespace of a Service that is given by its name alone [default: default]
    #[arg(short, long, env = "WEFT_NAMESPACE", hide_env = true, value_name = "NAME")]
    pub(super) namespace: Option<String>,

    /// Form of the answer
    #[arg(
        short,
        long,
        env = "WEFT_OUTPUT",
        hide_env = true,
        value_name = "FORM",
        value_enum,
        default_value = "table"
    )]
    pub(super) output: OutputFormat,

    /// The running daemon's socket, as `run` has it
    #[arg(
        long,
        env = "WEFT_ADMIN_SOCKET",
        hide_env = true,
        value_name = "PATH",
        default_value = "/run/weft/admin.sock"
    )]
    pub(super) admin_socket: PathBuf,
}

/// What is written into the node's kernel.
#[derive(Args, Debug)]
pub(super) struct KernelArgs {
    /// How the TC programs are attached
    ///
    /// auto: TCX links where the kernel has them (6.6 and later), else clsact filters. Choose one only to work around a problem.
    #[arg(long, env = "WEFT_ATTACH", hide_env = true, value_name = "HOW", value_enum, default_value = "auto", help_heading = help::KERNEL)]
    pub(super) attach: AttachMode,

    /// Directory on a bpffs where links and maps are pinned
    ///
    /// Made if absent. It is also what makes sure that only one daemon runs on the node. Change it only where bpffs is mounted elsewhere.
    #[arg(long, env = "WEFT_BPFFS_DIR", hide_env = true, value_name = "DIR", default_value = "/sys/fs/bpf/weft", help_heading = help::KERNEL)]
    pub(super) bpffs_dir: PathBuf,

    /// Bits of the packet mark that are Weft's
    ///
    /// Change the four marks together, and only if something else on the node uses these bits. kube-proxy has 0x4000 and 0x8000, Istio
    /// and Cilium 0x0fff, Calico 0xffff0000.
    #[arg(long, env = "WEFT_MARK_MASK", hide_env = true, value_name = "BITS", default_value = "0x3000", value_parser = value::mark,
        help_heading = help::KERNEL)]
    pub(super) mark_mask: u32,

    /// Mark of packets that are steered to the daemon
    #[arg(long, env = "WEFT_MARK_STEER", hide_env = true, value_name = "BITS", default_value = "0x1000", value_parser = value::mark,
        help_heading = help::KERNEL)]
    pub(super) mark_steer: u32,

    /// Mark of the daemon's sockets that speak with a pod's address
    #[arg(long, env = "WEFT_MARK_TRANSPARENT", hide_env = true, value_name = "BITS", default_value = "0x2000", value_parser = value::mark,
        help_heading = help::KERNEL)]
    pub(super) mark_transparent: u32,

    /// Mark of the daemon's connections from the node's own address
    #[arg(long, env = "WEFT_MARK_OWN", hide_env = true, value_name = "BITS", default_value = "0x3000", value_parser = value::mark,
        help_heading = help::KERNEL)]
    pub(super) mark_own: u32,

    /// Routing table that delivers steered packets locally
    ///
    /// The daemon owns the whole table. Change it if another program uses the same number.
    #[arg(long, env = "WEFT_ROUTE_TABLE", hide_env = true, value_name = "N", default_value = "100", value_parser = value::number, help_heading = help::KERNEL)]
    pub(super) route_table: u32,

    /// Preference of the first of three consecutive routing rules
    ///
    /// All three must come before the main table's rule, 32766, and before any rule of the CNI that would route steered packets.
    #[arg(long, env = "WEFT_RULE_PREFERENCE", hide_env = true, value_name = "N", default_value = "8", value_parser = value::number, help_heading = help::KERNEL)]
    pub(super) rule_preference: u32,
}

/// What is logged, to stderr.
#[derive(Args, Clone, Debug)]
pub(super) struct LogArgs {
    /// What to log: error, warn, info, debug or trace [default: $RUST_LOG, else info]
    ///
    /// Or directives per module, as in `info,mesh_daemon::watch=debug`.
    #[arg(long, env = "WEFT_LOG_LEVEL", hide_env = true, value_name = "LEVEL", help_heading = help::LOG)]
    pub(super) log_level: Option<LogFilter>,

    /// Form of the log lines, on stderr
    #[arg(long, env = "WEFT_LOG_FORMAT", hide_env = true, value_name = "FORM", value_enum, default_value = "text", help_heading = help::LOG)]
    pub(super) log_format: LogFormat,
}

impl ValueEnum for OutputFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Table, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Table => PossibleValue::new("table").help("For people"),
            Self::Json => PossibleValue::new("json").help("For scripts; its field names stay"),
        })
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Text => PossibleValue::new("text").help("One line each, for people"),
            Self::Json => PossibleValue::new("json").help("One JSON object each, for log collectors"),
        })
    }
}
