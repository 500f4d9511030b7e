//! The one cluster of this machine that people use: `cargo xtask cluster up` leaves it running, `cargo xtask cluster down` removes it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Cluster, ClusterOptions};
use crate::{
    bench::{Run, wait_for},
    process::Process,
};

/// Where its state, logs and kubeconfig are.
pub const DIR: &str = "/run/weft-cluster";
/// Says whose cluster it is, as lines `pid …`, `checkout …`, `since …`, and `up` once it is.
const OWNER: &str = "owner";
/// The line of the owner's file that says that the cluster is up.
const UP: &str = "up";
/// The program that sets it up, as the kernel shows it.
const PROGRAM: &str = "weft-cluster";
/// What ends by itself within a second; the machine may be busy.
const GUARD: Duration = Duration::from_secs(60);

/// Its run: the name does not change, so that people can type it.
pub fn run() -> Run {
    Run::named("cluster", DIR)
}

/// Sets it up and leaves it running. Hands back the path of a kubeconfig that works from the machine's ordinary network.
///
/// # Errors
/// If one is up or being set up, or as [`Cluster::up`].
pub fn up(options: ClusterOptions) -> Result<PathBuf> {
    refuse_second()?;
    let run = run();
    run.remove();
    fs::create_dir_all(DIR).with_context(|| format!("{DIR}; are you root?"))?;
    let owner = Path::new(DIR).join(OWNER);
    let state = owner_now()?;
    fs::write(&owner, &state)?;
    let cluster = Cluster::up(&ClusterOptions { run, ..options })?;
    let (kubeconfig, mut forward) = reach(&cluster)?;
    fs::write(&owner, format!("{state}{UP}\n"))?;
    forward.keep();
    cluster.keep();
    Ok(kubeconfig)
}

/// Removes it, also one that came up half. Returns whether there was anything.
///
/// # Errors
/// If something is left.
pub fn down() -> Result<bool> {
    let run = run();
    let existed = run.exists();
    if let Some(owner) = Owner::read().filter(Owner::is_setting_up)
        && let Ok(pid) = owner.pid.parse()
    {
        // its own end removes most; what it cannot, the next line does
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let gone = || Ok((!owner.is_setting_up()).then_some(()));
        wait_for("the end of the `up` that was running", GUARD, gone)?;
    }
    run.remove();
    if run.exists() {
        bail!("something of the cluster is left; see {DIR}, `ip netns`, and `weft-cluster` below /sys/fs/cgroup");
    }
    Ok(existed)
}

fn refuse_second() -> Result<()> {
    let Some(owner) = Owner::read() else {
        return Ok(());
    };
    let Owner {
        pid, checkout, since, ..
    } = &owner;
    if owner.is_up() {
        bail!(
            "a cluster of {checkout} (since {since}) is up already: use it with KUBECONFIG={}, or remove it with `cargo xtask cluster down`",
            kubeconfig().display()
        );
    }
    if owner.is_setting_up() {
        bail!(
            "a cluster of {checkout} (pid {pid}, since {since}) is being set up: wait for it, or end it with `cargo xtask cluster down`"
        );
    }
    // one that crashed on its way: what it left is removed before the next one starts
    Ok(())
}

/// Opens the way from the machine's loopback, and writes the kubeconfig for it.
fn reach(cluster: &Cluster) -> Result<(PathBuf, Process)> {
    let text = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--output=json"])?;
    let mut config: Value = serde_json::from_str(&text).context("the administrator's kubeconfig")?;
    let target = &mut config["clusters"][0]["cluster"];
    let server = target["server"].as_str().unwrap_or_default();
    let to: SocketAddr = server
        .trim_start_matches("https://")
        .trim_end_matches('/')
        .parse()
        .with_context(|| format!("the API server's address {server:?}"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("forward")
        .arg(cluster.node(1).netns.path())
        .arg(to.to_string());
    let forward = Process::start(command, &cluster.dir().join("forward.log"))?;
    let port = wait_for("a port of the loopback for the API server", GUARD, || {
        Ok(forward.output().trim().parse::<u16>().ok())
    })
    .with_context(|| forward.output())?;
    target["server"] = format!("https://127.0.0.1:{port}").into();
    // the server's certificate names the address it has in the namespace
    target["tls-server-name"] = to.ip().to_string().into();
    let path = kubeconfig();
    fs::write(&path, format!("{config:#}\n")).with_context(|| path.display().to_string())?;
    Ok((path, forward))
}

fn kubeconfig() -> PathBuf {
    Path::new(DIR).join("kubeconfig")
}

fn owner_now() -> Result<String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("?"));
    let since = Command::new("date").arg("+%F %T").output()?.stdout;
    Ok(format!(
        "pid {}\ncheckout {}\nsince {}\n",
        std::process::id(),
        checkout.display(),
        String::from_utf8_lossy(&since).trim()
    ))
}

/// Whose cluster it is.
struct Owner {
    pid: String,
    checkout: String,
    since: String,
    up: bool,
}

impl Owner {
    /// The owner of the cluster that is there, if there is one.
    fn read() -> Option<Self> {
        Some(Self::parse(&fs::read_to_string(Path::new(DIR).join(OWNER)).ok()?))
    }

    fn parse(state: &str) -> Self {
        let field = |key: &str| {
            let found = state.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or("?").to_owned()
        };
        Self {
            pid: field("pid "),
            checkout: field("checkout "),
            since: field("since "),
            up: state.lines().any(|line| line == UP),
        }
    }

    /// Whether it is there: after the machine's own restart, only the file may be.
    fn is_up(&self) -> bool {
        self.up && run().netns("n1").path().exists()
    }

    /// Whether it is still being set up. The pid may be another's by now, so the program's name must fit too.
    fn is_setting_up(&self) -> bool {
        let name = fs::read_to_string(Path::new("/proc").join(&self.pid).join("comm"));
        !self.up && name.is_ok_and(|name| name.trim() == PROGRAM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_and_one_that_died_sets_nothing_up() {
        // beyond the largest pid that the kernel gives
        let owner = Owner::parse("pid 4194305\ncheckout /w\nsince noon\n");
        assert_eq!((owner.checkout.as_str(), owner.since.as_str(), owner.up), ("/w", "noon", false));
        assert!(!owner.is_setting_up());
        assert!(Owner::parse("pid 1\ncheckout /w\nsince noon\nup\n").up);
    }
}
