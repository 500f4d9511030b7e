//! Raw flags → [`Settings`]: a pure function of the flags and what is known of the host. What it hands out needs no second check.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU32,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_common::settings::WORKERS_MAX;

use super::{
    KernelSettings, LogSettings, Question, Settings, Source, Subject,
    args::{AskArgs, EndpointsArgs, KernelArgs, LogArgs, RunArgs, ServicesArgs},
};
use crate::{
    ids::{NodeName, ObjectRef},
    telemetry::{LogFilter, LogFilterError},
};

/// Longest path of a unix socket in bytes: `sun_path` has 108, one of them for the final zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Where a Service is that is given by its name alone, as kubectl has it.
const NAMESPACE_DEFAULT: &str = "default";
/// Longest name of a Node in bytes: a DNS-1123 subdomain.
const NODE_NAME_MAX: usize = 253;
/// Longest label of a DNS-1123 subdomain in bytes.
const LABEL_MAX: usize = 63;
/// kube-proxy's marks: masquerade (0x4000) and drop (0x8000).
const KUBE_PROXY_MARKS: u32 = 0xc000;
/// Tables that the kernel gives a meaning: unspecified, default, main, local (rtnetlink(7)).
const RESERVED_TABLES: [u32; 4] = [0, 253, 254, 255];
/// Preference of the rule that asks the main table (ip-rule(8)).
const MAIN_RULE: u32 = 32766;
/// Consecutive preferences that the daemon's rules take.
const RULES: u32 = 3;

/// What is known of the host, read by the caller so that the check stays pure.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// The variable NODE_NAME.
    pub(super) node_name: Option<String>,
    /// The host name.
    pub(super) host_name: String,
    /// CPUs that this process may use.
    pub(super) cpus: u32,
    /// The variable RUST_LOG.
    pub(super) rust_log: Option<String>,
    /// Whether Kubernetes runs this process: the variable KUBERNETES_SERVICE_HOST is set.
    pub(super) in_cluster: bool,
    /// Names of all variables that are set.
    pub(super) variables: BTreeSet<String>,
}

/// Why the flags do not make settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No Service can have the name.
    #[error("{0:?} names no Service: give its name, or namespace/name, as in `web` or `shop/web`")]
    Service(String),
    /// The command line names two namespaces.
    #[error(
        "the Service is given as {service} and the namespace as {flag}: name one namespace, before the `/` or with --namespace"
    )]
    TwoNamespaces {
        /// The Service, as it was given.
        service: String,
        /// The flag's value.
        flag: String,
    },
    /// No namespace can have the name.
    #[error("{0:?} names no namespace: give it in lower case, as in `--namespace shop` or `shop/web`")]
    Namespace(String),
    /// Nothing says where objects come from.
    #[error(
        "no source of Kubernetes objects, and this is no pod: name a kubeconfig with --kubeconfig FILE, or a directory of manifests with --manifests DIR"
    )]
    NoSource,
    /// Objects cannot come from both.
    #[error(
        "--manifests {} and --kubeconfig {} are two sources of Kubernetes objects: leave one of them out (the variables WEFT_MANIFESTS and WEFT_KUBECONFIG count as well)",
        .manifests.display(), .kubeconfig.display()
    )]
    TwoSources {
        /// `--manifests`.
        manifests: PathBuf,
        /// `--kubeconfig`.
        kubeconfig: PathBuf,
    },
    /// There is no such file, or it is closed to us.
    #[error("cannot read --kubeconfig {}: {what}; name the kubeconfig of this node's daemon", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        what: String,
    },
    /// A directory where one file is expected.
    #[error("--kubeconfig {} is a directory: name the file in it", .0.display())]
    KubeconfigDirectory(PathBuf),
    /// One file where a directory is expected.
    #[error("--state-dir {} is a file: name a directory, which is made if absent", .0.display())]
    StateFile(PathBuf),
    /// The bound is below what it bounds.
    #[error("--debounce-max {max:?} is less than --debounce-after {after:?}: raise the one or lower the other")]
    Debounce {
        /// `--debounce-after`.
        after: Duration,
        /// `--debounce-max`.
        max: Duration,
    },
    /// The Node's name is not one that Kubernetes would take.
    #[error(
        "the node name {0:?} cannot be a Node's: set --node-name to lower-case letters, digits, `-` and `.`, at most 253 bytes"
    )]
    NodeName(String),
    /// It would be a Node's in lower case.
    #[error("the node name {0:?} has upper-case letters, and a Node's name has none: use {lower}", lower = .0.to_lowercase())]
    NodeNameCase(String),
    /// One file where a directory is expected.
    #[error("--manifests {path} is a file: name the directory that holds it, {dir}", path = .0.display(), dir = directory_of(.0).display())]
    ManifestsFile(PathBuf),
    /// Metrics and health would share a port.
    #[error("--metrics-addr {0} and --health-addr {1} are the same port: change one of them")]
    SameAddress(SocketAddr, SocketAddr),
    /// The socket's path does not fit.
    #[error("--admin-socket {path} is {length} bytes long and the kernel takes {SOCKET_PATH_MAX}: use a shorter path", path = .0.display(), length = .0.as_os_str().len())]
    SocketPath(PathBuf),
    /// A path depends on where the daemon was started.
    #[error("{flag} {path:?} is not an absolute path: begin it with /")]
    RelativePath {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A mark has no bit of the mask, or others.
    #[error("{flag} {mark:#x} must have bits of --mark-mask {mask:#x} and no others: change one of them")]
    MarkOutside {
        /// The flag.
        flag: &'static str,
        /// Its value.
        mark: u32,
        /// The mask.
        mask: u32,
    },
    /// Two marks cannot be told apart.
    #[error(
        "{0} and {1} are both {2:#x}: each mark needs bits of its own under the mask, as in 0x1000, 0x2000, 0x3000"
    )]
    SameMark(&'static str, &'static str, u32),
    /// The mask takes kube-proxy's bits.
    #[error("--mark-mask {0:#x} takes bits of kube-proxy's marks 0x4000 and 0x8000: leave those out")]
    KubeProxyMark(u32),
    /// The kernel uses this table itself.
    #[error("--route-table {0} belongs to the kernel, as do 0, 253, 254 and 255: use another number, as in 100")]
    RouteTable(u32),
    /// The rules would come too late or too early.
    #[error(
        "--rule-preference {0} leaves no room for three rules between the local table's, 0, and the main table's, 32766: use 1 to 32763"
    )]
    RulePreference(u32),
    /// RUST_LOG is not a filter.
    #[error("the variable RUST_LOG is {0:?}, {1}")]
    RustLog(String, LogFilterError),
}

/// What `run` needs.
pub(super) fn run(args: RunArgs, host: &Host) -> Result<Settings, ConfigError> {
    let RunArgs {
        manifests,
        kubeconfig,
        state_dir,
        state_age_max,
        debounce_after,
        debounce_max,
        node_name,
        pod_cidr,
        workers,
        metrics_addr,
        health_addr,
        admin_socket,
        drain_timeout,
        access_log,
        kernel,
        log: _,
    } = args;
    if same_port(metrics_addr, health_addr) {
        return Err(ConfigError::SameAddress(metrics_addr, health_addr));
    }
    socket_path(&admin_socket)?;
    absolute("--admin-socket", &admin_socket)?;
    absolute("--state-dir", &state_dir)?;
    if debounce_max < debounce_after {
        let (after, max) = (debounce_after, debounce_max);
        return Err(ConfigError::Debounce { after, max });
    }
    let source = match (manifests, kubeconfig) {
        (Some(manifests), Some(kubeconfig)) => return Err(ConfigError::TwoSources { manifests, kubeconfig }),
        (Some(manifests), None) => Source::Manifests(manifests),
        (None, None) if !host.in_cluster => return Err(ConfigError::NoSource),
        (None, kubeconfig) => Source::Cluster {
            kubeconfig,
            state_dir,
            state_age_max,
        },
    };
    Ok(Settings {
        source,
        debounce_after,
        debounce_max,
        node: node(node_name, host)?,
        pod_cidrs: pod_cidr,
        workers: NonZeroU32::new(workers.unwrap_or(host.cpus).min(WORKERS_MAX)).unwrap_or(NonZeroU32::MIN),
        metrics_addr,
        health_addr,
        admin_socket,
        access_log,
        drain_timeout,
        kernel: self::kernel(kernel)?,
    })
}

/// What a question is about that needs no Service.
pub(super) struct About {
    /// One Service.
    pub(super) one: fn(ObjectRef) -> Subject,
    /// A namespace.
    pub(super) namespace: fn(String) -> Subject,
    /// Everything.
    pub(super) all: Subject,
}

/// The question of `routes` and `policy`.
pub(super) fn of_services(args: ServicesArgs, about: About) -> Result<Question, ConfigError> {
    let ServicesArgs { service, ask } = args;
    let subject = match (service, &ask.namespace) {
        (Some(service), namespace) => (about.one)(self::service(&service, namespace.as_deref())?),
        (None, Some(namespace)) => (about.namespace)(self::namespace(namespace)?),
        (None, None) => about.all,
    };
    question(subject, ask)
}

/// The question of `endpoints`.
pub(super) fn endpoints(args: EndpointsArgs) -> Result<Question, ConfigError> {
    let EndpointsArgs { service, ask } = args;
    let service = self::service(&service, ask.namespace.as_deref())?;
    question(Subject::Endpoints(service), ask)
}

/// A namespace that is written twice must be the same one. What a variable says is only where to look by default.
pub(super) fn one_namespace(service: &str, flag: &str) -> Result<(), ConfigError> {
    match service.split_once('/') {
        Some((namespace, _)) if namespace != flag => Err(ConfigError::TwoNamespaces {
            service: service.to_owned(),
            flag: flag.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn question(subject: Subject, ask: AskArgs) -> Result<Question, ConfigError> {
    let AskArgs {
        namespace: _,
        output,
        admin_socket,
    } = ask;
    socket_path(&admin_socket)?;
    Ok(Question {
        subject,
        admin_socket,
        output,
    })
}

/// `name` or `namespace/name`; what is written there wins over the variable.
fn service(text: &str, namespace: Option<&str>) -> Result<ObjectRef, ConfigError> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (namespace.unwrap_or(NAMESPACE_DEFAULT), text),
    };
    if is_dns_subdomain(name) {
        Ok(ObjectRef::new(self::namespace(namespace)?, name))
    } else {
        Err(ConfigError::Service(text.to_owned()))
    }
}

fn namespace(name: &str) -> Result<String, ConfigError> {
    if is_dns_subdomain(name) {
        Ok(name.to_owned())
    } else {
        Err(ConfigError::Namespace(name.to_owned()))
    }
}

fn socket_path(path: &Path) -> Result<(), ConfigError> {
    if path.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
        Err(ConfigError::SocketPath(path.to_owned()))
    } else {
        Ok(())
    }
}

/// What is written into the kernel.
pub(super) fn kernel(args: KernelArgs) -> Result<KernelSettings, ConfigError> {
    let KernelArgs {
        attach,
        bpffs_dir,
        mark_mask,
        mark_steer,
        mark_transparent,
        mark_own,
        route_table,
        rule_preference,
    } = args;
    absolute("--bpffs-dir", &bpffs_dir)?;
    if RESERVED_TABLES.contains(&route_table) {
        return Err(ConfigError::RouteTable(route_table));
    }
    if !(1..=MAIN_RULE - RULES).contains(&rule_preference) {
        return Err(ConfigError::RulePreference(rule_preference));
    }
    let marks = mesh_common::settings::Settings {
        mark_mask,
        mark_steer,
        mark_transparent,
        mark_own,
        workers: 0,
    };
    Ok(KernelSettings {
        pin_dir: bpffs_dir,
        attach,
        marks: self::marks(marks)?,
        route_table,
        rule_preference,
    })
}

/// What is logged.
pub(super) fn log(args: LogArgs, host: &Host) -> Result<LogSettings, ConfigError> {
    let LogArgs { log_level, log_format } = args;
    let text = host
        .rust_log
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or("info");
    let filter = match log_level {
        Some(filter) => filter,
        None => text
            .parse::<LogFilter>()
            .map_err(|e| ConfigError::RustLog(text.to_owned(), e))?,
    };
    Ok(LogSettings {
        filter,
        format: log_format,
    })
}

fn node(flag: Option<String>, host: &Host) -> Result<NodeName, ConfigError> {
    let from_variable = || host.node_name.clone().filter(|name| !name.is_empty());
    let name = flag
        .or_else(from_variable)
        .unwrap_or_else(|| host.host_name.to_lowercase());
    if is_dns_subdomain(&name) {
        Ok(NodeName(name))
    } else if is_dns_subdomain(&name.to_lowercase()) {
        Err(ConfigError::NodeNameCase(name))
    } else {
        Err(ConfigError::NodeName(name))
    }
}

/// The directory that holds this file.
fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// RFC 1123 as Kubernetes reads it.
fn is_dns_subdomain(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.len() <= LABEL_MAX
            && bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
            && bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric)
    };
    name.len() <= NODE_NAME_MAX && name.split('.').all(label)
}

fn marks(marks: mesh_common::settings::Settings) -> Result<mesh_common::settings::Settings, ConfigError> {
    let mask = marks.mark_mask;
    if mask & KUBE_PROXY_MARKS != 0 {
        return Err(ConfigError::KubeProxyMark(mask));
    }
    let flags = [
        ("--mark-steer", marks.mark_steer),
        ("--mark-transparent", marks.mark_transparent),
        ("--mark-own", marks.mark_own),
    ];
    for (i, (flag, mark)) in flags.into_iter().enumerate() {
        if mark == 0 || mark & !mask != 0 {
            return Err(ConfigError::MarkOutside { flag, mark, mask });
        }
        if let Some((other, _)) = flags[..i].iter().find(|(_, earlier)| *earlier == mark) {
            return Err(ConfigError::SameMark(other, flag, mark));
        }
    }
    Ok(marks)
}

fn absolute(flag: &'static str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(ConfigError::RelativePath {
            flag,
            path: path.to_owned(),
        })
    }
}

/// Whether the second would find the first's port taken. Port 0 lets the kernel choose.
fn same_port(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
