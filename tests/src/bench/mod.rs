//! Two nodes as network namespaces, joined by a veth; pods as namespaces behind them, as a point-to-point CNI makes them; an outside
//! network. Dual stack throughout. Everything lives in namespaces of its own; the machine's own network is never touched.

pub mod cgroups;
mod netns;
mod run;
pub mod shell;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

pub use netns::Netns;
pub use run::{RUNS_DIR, Run};

/// The MAC of every host-side interface: pods have a fixed neighbour entry for their gateway.
const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// The gateway that pods see, on no interface (as Calico and ptp-like CNIs do).
const GATEWAY_V4: &str = "169.254.1.1";
/// A host in the outside network.
pub const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// A host in the outside network.
pub const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 2);
/// Pause between two looks at a condition.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// Guard against a hang, for what takes milliseconds: a busy machine must not fail a test.
const HANG_GUARD: Duration = Duration::from_secs(30);
/// Lines of each log that are shown when a test fails.
const LOG_TAIL_LINES: usize = 60;

/// How the bench is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// `rp_filter` of every interface of the nodes.
    pub rp_filter: u8,
    /// The run.
    pub run: Run,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rp_filter: 0,
            run: Run::of_this_process(),
        }
    }
}

/// The bench. Dropping it removes everything, after showing the logs if the thread panics.
#[derive(Debug)]
pub struct Bench {
    /// Node 1 and node 2.
    pub nodes: [Node; 2],
    /// A host beyond node 1 that is not part of the cluster.
    pub outside: Netns,
    options: Options,
    next_pod: [u16; 2],
    kept: bool,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name as a Kubernetes Node.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Its address on the uplink.
    pub v4: Ipv4Addr,
    /// Its address on the uplink.
    pub v6: Ipv6Addr,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its node: 0 or 1.
    pub node: usize,
    /// Its namespace.
    pub netns: Netns,
    /// Its interface on the node.
    pub interface: String,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
}

impl Bench {
    /// Lays out both nodes and the outside network.
    ///
    /// # Errors
    /// If the caller is not root or a tool is missing.
    pub fn start(options: Options) -> Result<Self> {
        let run = options.run.clone();
        let node = |index: u8| Node {
            name: format!("n{index}"),
            netns: run.netns(&format!("n{index}")),
            v4: Ipv4Addr::new(172, 31, 0, index),
            v6: Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, u16::from(index)),
        };
        // from here on Drop removes whatever was made, also if a later line fails
        let bench = Self {
            nodes: [node(1), node(2)],
            outside: run.netns("outside"),
            options,
            next_pod: [10, 10],
            kept: false,
        };
        run.begin()?;
        bench.join_nodes()?;
        bench.join_outside()?;
        Ok(bench)
    }

    /// Directory of the bench's files.
    pub fn dir(&self) -> &Path {
        self.options.run.dir()
    }

    /// The directory for a node's pins, on the private bpffs; the daemon makes it.
    pub fn pin_dir(&self, node: usize) -> PathBuf {
        self.options.run.bpffs().join(&self.nodes[node].name)
    }

    /// A new pod with an address of each family on a node.
    ///
    /// # Errors
    /// If a namespace of its name exists.
    pub fn add_pod(&mut self, node: usize, name: &str) -> Result<Pod> {
        let number = self.next_pod[node];
        self.next_pod[node] += 1;
        let (Ok(node8), Ok(number8)) = (u8::try_from(node + 1), u8::try_from(number)) else {
            bail!("node {node} is full: its range holds no pod number {number}");
        };
        let pod = Pod {
            name: name.to_owned(),
            node,
            netns: self.options.run.netns(name),
            interface: format!("pod{number}"),
            v4: Ipv4Addr::new(10, 244, node8, number8),
            v6: Ipv6Addr::new(0xfd44, u16::from(node8), 0, 0, 0, 0, 0, number),
        };
        self.join_pod(&pod)?;
        Ok(pod)
    }

    /// Removes a pod's namespace and all that runs in it.
    pub fn remove_pod(&self, pod: &Pod) {
        pod.netns.remove();
    }

    /// Lets everything live on after this process.
    pub fn keep(mut self) {
        self.options.run.keep();
        self.kept = true;
    }

    fn join_nodes(&self) -> Result<()> {
        let rp_filter = self.options.rp_filter.to_string();
        for node in &self.nodes {
            node.netns.create()?;
            node.netns.sysctl(&[
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv6/conf/default/forwarding", "1"),
                ("net/ipv6/conf/default/accept_dad", "0"),
                ("net/ipv4/conf/all/rp_filter", &rp_filter),
                ("net/ipv4/conf/default/rp_filter", &rp_filter),
            ])?;
        }
        let [one, two] = &self.nodes;
        one.netns.ip(&format!(
            "link add uplink type veth peer name uplink netns {}\n",
            two.netns.name()
        ))?;
        for (node, peer, peer_number) in [(one, two, 2), (two, one, 1)] {
            node.netns.ip(&format!(
                "addr add {}/24 dev uplink\naddr add {}/64 dev uplink nodad\nlink set uplink up\n\
                 route add 10.244.{peer_number}.0/24 via {}\nroute add fd44:{peer_number}::/64 via {}\n",
                node.v4, node.v6, peer.v4, peer.v6
            ))?;
        }
        Ok(())
    }

    fn join_outside(&self) -> Result<()> {
        self.outside.create()?;
        self.nodes[0].netns.ip(&format!(
            "link add outside type veth peer name eth0 netns {}\naddr add 198.51.100.1/24 dev outside\n\
             addr add fd98::1/64 dev outside nodad\nlink set outside up\n\
             route add default via {OUTSIDE_V4}\nroute add default via {OUTSIDE_V6}\n",
            self.outside.name()
        ))?;
        // service addresses are on no interface: without a default route a node would refuse them before kube-proxy's rules see them
        let [one, two] = &self.nodes;
        two.netns.ip(&format!(
            "route add default via {}\nroute add default via {}\n",
            one.v4, one.v6
        ))?;
        self.outside.ip(&format!(
            "addr add {OUTSIDE_V4}/24 dev eth0\naddr add {OUTSIDE_V6}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add 172.31.0.0/24 via 198.51.100.1\nroute add fd31::/64 via fd98::1\n"
        ))
    }

    fn join_pod(&self, pod: &Pod) -> Result<()> {
        let node = &self.nodes[pod.node].netns;
        let Pod {
            netns,
            interface,
            v4,
            v6,
            ..
        } = pod;
        netns.create()?;
        node.ip(&format!(
            "link add {interface} address {GATEWAY_MAC} type veth peer name eth0 netns {}\n\
             link set {interface} up\naddr add fe80::1/64 dev {interface} nodad\n\
             route add {v4}/32 dev {interface} scope link\nroute add {v6}/128 dev {interface}\n",
            netns.name()
        ))?;
        node.sysctl(&[
            (&format!("net/ipv4/conf/{interface}/proxy_arp"), "1"),
            (
                &format!("net/ipv4/conf/{interface}/rp_filter"),
                &self.options.rp_filter.to_string(),
            ),
        ])?;
        netns.ip(&format!(
            "addr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\nlink set eth0 up\n\
             route add {GATEWAY_V4} dev eth0 scope link\nneigh add {GATEWAY_V4} lladdr {GATEWAY_MAC} dev eth0\n\
             route add default via {GATEWAY_V4} dev eth0\nroute add default via fe80::1 dev eth0\n"
        ))
    }

    /// Prints the end of every log of the bench, for people who look at a failure.
    pub fn show_logs(&self) {
        show_logs_in(self.dir());
    }
}

/// Prints the end of every log in a directory, for people who look at a failure.
pub fn show_logs_in(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
    {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if !lines.is_empty() {
            eprintln!("---- end of {}", path.display());
            lines
                .iter()
                .skip(lines.len().saturating_sub(LOG_TAIL_LINES))
                .for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if std::thread::panicking() {
            self.show_logs();
        }
        self.options.run.remove();
    }
}

impl Node {
    /// Its addresses.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

impl Pod {
    /// Its addresses.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// Its address of the family of `like`.
    pub fn ip(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }
}

/// Looks at a condition until it gives a value.
///
/// # Errors
/// If it does not within the guard, with what was waited for and what `look` said last.
pub fn wait_for<T>(what: &str, guard: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + guard;
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            let last = seen
                .err()
                .map_or_else(String::new, |error| format!("; last: {error:#}"));
            bail!("{what}: not within {guard:?}{last}");
        }
        std::thread::sleep(POLL_PAUSE);
    }
}
