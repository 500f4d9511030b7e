//! What remains of the demo after its last row: everything, with words what to try, or nothing.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    bench::{Run, wait_for},
    daemon::{HANG_GUARD, HEALTH_ADDR, METRICS_ADDR},
    manifests::CAPTURE_LABEL,
    process::binary,
    shop::{HTTP_PORT, NAMESPACE, SERVICE_V4, SERVICE_V6, Shop},
};

/// Where the demo keeps its files.
const DIR: &str = "/run/weft-demo";
/// The line of the owner's file that says that the demo is kept.
const KEPT: &str = "kept";
/// Says whose demo it is, as lines `pid …`, `checkout …`, `since …`, and `kept` once it is; `cargo xtask demo` reads it too.
const OWNER: &str = "owner";

/// The run of the demo: its name does not change, so that people can type it.
pub(super) fn run() -> Run {
    Run::named("demo", DIR)
}

/// Removes everything that a demo left, and says so; one that is still being told is ended first.
pub fn down() {
    let run = run();
    let existed = run.exists();
    let running = Owner::read().filter(Owner::is_running);
    if let Some(Owner { pid, .. }) = &running
        && let Ok(number) = pid.parse()
    {
        // its own end removes most; what it cannot, the next line does
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), nix::sys::signal::Signal::SIGTERM);
        let gone = || Ok((!Path::new("/proc").join(pid).exists()).then_some(()));
        let _ = wait_for("the end of the demo that was running", HANG_GUARD, gone);
        println!("Ended the demo that was running (pid {pid}).");
    }
    run.remove();
    if existed {
        println!("The demo is gone: its processes, network namespaces, bpffs and {DIR}.");
    } else {
        println!("No demo is running; nothing to remove.");
    }
}

/// Refuses a start beside another demo; what a crashed one left is removed.
///
/// # Errors
/// If a demo is kept or being told.
pub(super) fn refuse_second() -> Result<()> {
    if let Some(owner) = Owner::read() {
        let Owner {
            pid,
            checkout,
            since,
            kept,
        } = &owner;
        if *kept {
            bail!(
                "a demo of {checkout} (pid {pid}, since {since}) is kept in {DIR}: use it, or remove it with `cargo xtask demo --down`"
            );
        }
        if owner.is_running() {
            bail!(
                "a demo of {checkout} (pid {pid}, since {since}) is running: wait for its end, or end it with `cargo xtask demo --down`"
            );
        }
    }
    run().remove();
    fs::create_dir_all(DIR)?;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("?"));
    let since = Command::new("date").arg("+%F %T").output()?.stdout;
    let state = format!(
        "pid {}\ncheckout {}\nsince {}\n",
        std::process::id(),
        checkout.display(),
        String::from_utf8_lossy(&since).trim()
    );
    fs::write(Path::new(DIR).join(OWNER), state)?;
    Ok(())
}

/// Whose demo it is.
struct Owner {
    pid: String,
    checkout: String,
    since: String,
    kept: bool,
}

impl Owner {
    /// The owner of the demo that is there, if there is one.
    fn read() -> Option<Self> {
        let state = fs::read_to_string(Path::new(DIR).join(OWNER)).ok()?;
        let field = |key: &str| {
            let found = state.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or("?").to_owned()
        };
        Some(Self {
            pid: field("pid "),
            checkout: field("checkout "),
            since: field("since "),
            kept: state.lines().any(|line| line == KEPT),
        })
    }

    /// Whether it is still being told. The pid of a kept one may be another's by now, so the program's name must fit too.
    fn is_running(&self) -> bool {
        let name = fs::read_to_string(Path::new("/proc").join(&self.pid).join("comm"));
        !self.kept && name.is_ok_and(|name| name.trim() == "weft-demo")
    }
}

/// Leaves everything running and prints what to try.
///
/// # Errors
/// If the state cannot be written.
pub(super) fn leave(shop: Shop) -> Result<()> {
    let state = Path::new(DIR).join(OWNER);
    let text = fs::read_to_string(&state)?;
    fs::write(&state, format!("{text}{KEPT}\n"))?;
    let file = shop.objects.namespace_file(NAMESPACE);
    let (file, client, node) = (
        file.display(),
        shop.client.netns.path(),
        shop.bench.nodes[0].netns.path(),
    );
    let (client, node) = (client.display(), node.display());
    let socket = Path::new(DIR).join(format!("{}.sock", shop.bench.nodes[0].name));
    let socket = socket.display();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let (demo, manifests) = (demo.display(), shop.objects.dir().display());
    let program = binary("mesh-daemon")?;
    let program = program.display();
    let server = shop.server("web-1")?.pod.netns.path();
    let server = server.display();
    println!(
        "
Everything is left running, not captured at the moment. Try, in this order:
  1. a request from the client, over IPv4 and IPv6: no daemon sees it
     nsenter --net={client} curl -s http://{SERVICE_V4}/
     nsenter --net={client} curl -s 'http://[{SERVICE_V6}]/'
  2. capture the namespace: this adds the label {CAPTURE_LABEL}=enabled to its manifest
     sed -i 's|^\\( *\\)kubernetes.io/metadata.name: {NAMESPACE}$|&\\n\\1{CAPTURE_LABEL}: enabled|' {file}
  3. ask again, five times: the answers come from one server after the other
     for i in 1 2 3 4 5; do nsenter --net={client} curl -s http://{SERVICE_V4}/; done
  4. what the client's daemon counted, whether it is ready, and what it captures
     nsenter --net={node} curl -s http://{METRICS_ADDR}/metrics | grep ^weft_requests_total
     nsenter --net={node} curl -s 'http://{HEALTH_ADDR}/readyz?verbose'
     curl -s --unix-socket {socket} http://weft/snapshot | grep capture
  5. a route: one of ten requests goes to the Service web-v2, as the client's daemon says; the other files beside it are worth a try, too
     cp {demo}/split.yaml {manifests}/try.yaml
     for i in 1 2 3 4 5 6 7 8 9 10; do nsenter --net={client} curl -s http://{SERVICE_V4}/; done
     {program} routes shop/web --admin-socket {socket}
     rm {manifests}/try.yaml
  6. a policy, and a server that is ill: after five answers of 500 in a row it is left out, but for one trial each second
     cp {demo}/breaker.yaml {manifests}/try.yaml
     nsenter --net={server} curl -s -X PUT -d '{{\"status\": 500}}' http://127.0.0.1:{HTTP_PORT}/behaviour
     for i in $(seq 40); do nsenter --net={client} curl -s -o /dev/null -w '%{{http_code}} ' http://{SERVICE_V4}/; done; echo
     {program} endpoints shop/web --admin-socket {socket}
     {program} policy shop/web --admin-socket {socket}
     nsenter --net={server} curl -s -X PUT -d '{{}}' http://127.0.0.1:{HTTP_PORT}/behaviour
     rm {manifests}/try.yaml
  7. let the namespace go again
     sed -i '\\|{CAPTURE_LABEL}|d' {file}
Logs and manifests are in {DIR}. Remove it all with `cargo xtask demo --down`."
    );
    shop.keep();
    Ok(())
}
