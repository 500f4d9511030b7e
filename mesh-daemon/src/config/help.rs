//! The longer texts of `--help`: what a man page has beside its list of flags.

/// Widest line of help, in columns: text that is wider than this is hard to read, whatever the terminal.
pub(super) const WIDTH_MAX: usize = 100;

pub(super) const SOURCE: &str = "What to carry";
pub(super) const DAEMON: &str = "The daemon";
pub(super) const KERNEL: &str = "The node's kernel";
pub(super) const LOG: &str = "Log";

pub(super) const USAGE: &str = "mesh-daemon [run] [--kubeconfig FILE | --manifests DIR] [OPTIONS]\n       mesh-daemon detach [OPTIONS]\n       \
mesh-daemon routes [SERVICE] | endpoints SERVICE | policy [SERVICE] [-n NAME] [-o table|json]";

pub(super) const ABOUT: &str = "\
Weft's node daemon. One runs on each node of a Kubernetes cluster, as root or with the capabilities below, in the node's network \
namespace. It learns from the API server, by watches, which pods are captured, attaches small BPF programs to the interfaces of the node, and \
carries the TCP connections that captured pods open to Services and other pods: it detects the protocol (HTTP/1, HTTP/2 or plain TCP), \
routes requests by HTTPRoutes, spreads, retries, times and limits them over the ready endpoints as TrafficPolicies say, and measures them. Nothing \
changes inside the pods.

A pod is captured if its namespace has the label weft.mesh/capture=enabled; the same label on the pod, enabled or disabled, wins. Pods \
on the host's network are never captured.

Without a flag, a daemon that runs as a pod watches its own cluster's API server; elsewhere, name one with --kubeconfig, or a directory of \
manifests with --manifests. An API server that does not answer is tried again and again, and never ends the daemon: what is known serves on. \
The last good state is kept in --state-dir, so that a daemon that starts while the API server is away serves from it.";

pub(super) const DETACH: &str = "\
Removes everything that Weft ever pinned or wrote into this node's kernel: BPF links, filters and maps, routes, routing rules and the \
nftables table `inet weft`. Captured connections end; new ones flow as if Weft had never been there. It refuses while a daemon runs on the \
node. Give it the same flags for the kernel as the daemon had.";

pub(super) const ROUTES: &str = "\
Asks the running daemon for the rules that requests of this node's pods meet, by Service, port and clients, in the order of precedence: what a \
request must be like, what is done with it, and which rule of which HTTPRoute in which generation says so. ACTION tells what a rule changes before \
`->` and what a backend changes behind its name, of headers by their names. Below them stands what became of each HTTPRoute at each Service that it \
names, as conditions.

With -o json: {snapshot, rules: [{service, port, addresses, clients, match, action, filters, route, generation, rule, ruleName}], routes: [{route, \
generation, parents: [{service, sectionName, port, conditions}]}]}; `clients` is the namespace whose clients the rule holds for, or null for all; \
`filters`, of rules and of backends: [{type: RequestHeaderModifier or ResponseHeaderModifier, set: [{name, value}], add, remove}, {type: URLRewrite, \
hostname, path: {type, value}}].";

pub(super) const ENDPOINTS: &str = "\
Asks the running daemon for the ready endpoints of a Service and what this node knows of each: whether its circuit breaker lets requests \
through, requests and connections that are under way from this node, the moving average of its answers' latency as the last sample left it (with that \
sample's age from a second on: a server that hangs gives none), and the kernel's round trip and segments sent again. Other nodes have counts of \
their own. BREAKER says `open, trial due` when the breaker's timeout is over: the next request is its half-open trial.

With -o json: {snapshot, service, requestsInFlight, connections, ports: [{port, family, loadBalancer, endpoints: [{address, pod, node, weight, \
state, breaker: {state, failures, successes, openForMs}, requestsInFlight, opaqueConnections, connections, latencyMs, latencyAgeMs, roundTripMs, \
retransmits}]}]}; what is not known is null.";

pub(super) const POLICY: &str = "\
Asks the running daemon for every setting that holds for a Service and who says so: its TrafficPolicy, with the generation of the spec that \
serves; a rule of an HTTPRoute, for the requests that meet it; or the default. Below them stands what became of each TrafficPolicy that names \
the Service, as conditions: also of those that lost to an older one, and of specs that do not hold. Without a Service: what became of every \
TrafficPolicy at each of its targets, which shows a target that is misspelled.

With -o json: {snapshot, service, isKnown, policy: {name, generation}, settings: [{field, value, from: {kind, name, generation}}], rules: [{route, \
generation, rule, ruleName, clients, settings}], policies: [{policy, generation, conditions}]}; without a Service: {snapshot, \
policies: [{policy, generation, targets: [{service, conditions}]}]}.";

pub(super) const AFTER_SHORT: &str = "`--help` says more: defaults and their reasons, files, signals, exit status.";

pub(super) const AFTER_RUN: &str = "`mesh-daemon --help` says more: examples, files, signals, exit status.";

pub(super) const AFTER_LONG: &str = "\
EXAMPLES
  Run as a pod of a DaemonSet, with NODE_NAME from the field spec.nodeName:
      mesh-daemon

  Run beside a kubelet, with a kubeconfig of its own:
      mesh-daemon --kubeconfig /etc/weft/kubeconfig --node-name node-a

  Run on a node with a directory of manifests as the cluster:
      mesh-daemon --manifests /etc/weft/manifests --node-name node-a

  The same, with two workers, metrics for the whole network, and a log for machines:
      mesh-daemon --manifests /etc/weft/manifests --workers 2 --metrics-addr 0.0.0.0:9490 \\
          --log-format json

  See whether it is ready, and what it waits for if it is not:
      curl 'http://127.0.0.1:9491/readyz?verbose'

  Ask the running daemon what it does, and everything that it knows:
      mesh-daemon routes shop/web
      mesh-daemon endpoints web -n shop
      mesh-daemon policy shop/web -o json
      curl --unix-socket /run/weft/admin.sock http://weft/snapshot

  A log line for each request:
      mesh-daemon --manifests /etc/weft/manifests --access-log

  Take Weft off the node:
      mesh-daemon detach

FILES
  /sys/fs/bpf/weft        pinned BPF links and maps (--bpffs-dir); they outlive the daemon, so that
                          a restart does not end capture; removed by detach
  /run/weft/admin.sock    admin socket (--admin-socket); removed when the daemon ends
  /var/lib/weft           the last good state of the API server's objects (--state-dir), in
                          objects.json, for root only; it may be removed at any time
  Besides files, in the node's network namespace: TC programs weft_from_... on its interfaces,
  routing rules 8, 9 and 10 (--rule-preference), routing table 100 (--route-table), and nftables
  table `inet weft`. The daemon leaves them for its successor; detach removes them.

SIGNALS
  SIGTERM, SIGINT   accept no more connections, tell HTTP clients to go elsewhere, wait for the open
                    ones up to --drain-timeout, then end; capture stays attached
  SIGKILL           capture stays attached; new connections flow as if unmeshed until a daemon runs

EXIT STATUS
  0   ended as asked
  1   failed to start, could not go on, or a question has no answer; one line on stderr says why
      and what to do
  2   a wrong flag or value

ENVIRONMENT
  Every flag has a variable: WEFT_ and the flag's name in capitals, as in WEFT_METRICS_ADDR for
  --metrics-addr. The flag wins.
  NODE_NAME   the node's name if neither --node-name nor WEFT_NODE_NAME is set
  RUST_LOG    what to log if neither --log-level nor WEFT_LOG_LEVEL is set
  KUBERNETES_SERVICE_HOST   set by Kubernetes in every pod: without --kubeconfig and --manifests,
                            the ServiceAccount's API server is watched

CAPABILITIES
  CAP_NET_ADMIN   to attach programs, write rules and open transparent sockets
  CAP_BPF         to load programs and make maps
  CAP_PERFMON     to have the programs verified without the limits set for unprivileged ones
  CAP_SYS_ADMIN stands for the last two.";
