//! A cluster that outlives its process: `cargo xtask cluster up` leaves one running, `cargo xtask cluster down` removes it.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
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
    bench::{RUNS_DIR, Run, wait_for},
    process::{self, Process},
};

/// The name of the cluster that people use; with it, its folder is /run/weft-cluster.
pub const NAME: &str = "cluster";
/// Says whose cluster it is, as lines `pid …`, `program …`, `checkout …`, `since …`, and `up` once it is.
const OWNER: &str = "owner";
/// The line of the owner's file that says that the cluster is up.
const UP: &str = "up";
/// The program that sets it up, as the kernel shows it.
const PROGRAM: &str = "weft-cluster";
/// The other one that does: the demo.
const DEMO: &str = "weft-demo";
/// What ends by itself within a second; the machine may be busy.
const GUARD: Duration = Duration::from_secs(60);

/// A cluster that outlives the process that sets it up, by its name.
#[derive(Debug)]
pub struct Kept {
    run: Run,
}

impl Kept {
    /// The cluster of this name, whether it is up or not.
    pub fn named(name: &str) -> Self {
        let dir = match name {
            NAME => Path::new("/run/weft-cluster").to_owned(),
            // a test's: with the other runs, where the next one removes what a dead one left
            _ => Path::new(RUNS_DIR).join(name),
        };
        Self {
            run: Run::named(name, dir),
        }
    }

    /// Where its state, logs and kubeconfig are.
    pub fn dir(&self) -> &Path {
        self.run.dir()
    }

    /// A kubeconfig that works from the machine's ordinary network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    /// Refuses a start beside another, before minutes are spent on a build for it.
    ///
    /// # Errors
    /// If it is up, or being set up.
    pub fn refuse_second(&self) -> Result<()> {
        let Some(owner) = self.owner() else {
            return Ok(());
        };
        let Owner {
            pid, checkout, since, ..
        } = &owner;
        if self.is_up(&owner) {
            bail!(
                "a cluster of {checkout} (since {since}) is up already: use it with KUBECONFIG={}, or remove it with `cargo xtask cluster down`",
                self.kubeconfig().display()
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

    /// Sets it up and leaves it running.
    ///
    /// # Errors
    /// If it is up or being set up, or as [`Cluster::up`].
    pub fn up(&self, options: ClusterOptions) -> Result<()> {
        self.start(options)?.leave()
    }

    /// Sets it up for this process: it is removed when what is handed back is dropped, or by a signal.
    ///
    /// # Errors
    /// As [`Kept::up`].
    pub fn start(&self, options: ClusterOptions) -> Result<Held> {
        self.refuse_second()?;
        self.run.remove();
        fs::create_dir_all(self.dir()).with_context(|| format!("{}; are you root?", self.dir().display()))?;
        let owner = self.dir().join(OWNER);
        let state = owner_now()?;
        fs::write(&owner, &state)?;
        let cluster = Cluster::up(&ClusterOptions {
            run: self.run.clone(),
            ..options
        })?;
        let forward = self.reach(&cluster)?;
        Ok(Held {
            cluster,
            forward,
            up: (owner, format!("{state}{UP}\n")),
        })
    }

    /// Refuses to take a cluster that somebody set up by itself for one of the demo.
    ///
    /// # Errors
    /// If it is not the demo's.
    pub fn refuse_unless_of_the_demo(&self) -> Result<()> {
        match self.owner() {
            Some(Owner { program, since, .. }) if program == PROGRAM => bail!(
                "the cluster that is up (since {since}) is not the demo's, nothing was removed; `cargo xtask cluster down` removes it"
            ),
            _ => Ok(()),
        }
    }

    /// Removes it, also one that came up half. Returns whether there was anything.
    ///
    /// # Errors
    /// If something is left.
    pub fn down(&self) -> Result<bool> {
        let existed = self.run.exists();
        if let Some(owner) = self.owner().filter(Owner::is_setting_up)
            && let Ok(pid) = owner.pid.parse()
        {
            // its own end removes most; what it cannot, the next line does
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let gone = || Ok((!owner.is_setting_up()).then_some(()));
            wait_for("the end of the `up` that was running", GUARD, gone)?;
        }
        self.run.remove();
        if self.run.exists() {
            bail!(
                "something of the cluster is left; see {}, `ip netns`, and weft-{} below /sys/fs/cgroup",
                self.dir().display(),
                self.run.id()
            );
        }
        Ok(existed)
    }

    /// Opens the way from the machine's loopback, and writes the kubeconfig for it.
    fn reach(&self, cluster: &Cluster) -> Result<Process> {
        let text = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--output=json"])?;
        let mut config: Value = serde_json::from_str(&text).context("the administrator's kubeconfig")?;
        let target = &mut config["clusters"][0]["cluster"];
        let server = target["server"].as_str().unwrap_or_default();
        let to: SocketAddr = server
            .trim_start_matches("https://")
            .trim_end_matches('/')
            .parse()
            .with_context(|| format!("the API server's address {server:?}"))?;
        let mut command = Command::new(process::binary(PROGRAM)?);
        command
            .arg("forward")
            .arg(cluster.node(1).netns.path())
            .arg(to.to_string());
        let forward = Process::start(command, &self.dir().join("forward.log"))?;
        let port = wait_for("a port of the loopback for the API server", GUARD, || {
            Ok(forward.output().trim().parse::<u16>().ok())
        })
        .with_context(|| forward.output())?;
        target["server"] = format!("https://127.0.0.1:{port}").into();
        // the server's certificate names the address it has in the namespace
        target["tls-server-name"] = to.ip().to_string().into();
        let path = self.kubeconfig();
        // the administrator's token is in it
        write_secret(&path, &format!("{config:#}\n")).with_context(|| path.display().to_string())?;
        Ok(forward)
    }

    fn owner(&self) -> Option<Owner> {
        Some(Owner::parse(&fs::read_to_string(self.dir().join(OWNER)).ok()?))
    }

    /// Whether it is there: after the machine's own restart, only the file may be.
    fn is_up(&self, owner: &Owner) -> bool {
        owner.up && self.run.netns("n1").path().exists()
    }
}

/// A cluster that may yet be left running. Dropping it removes it.
#[derive(Debug)]
pub struct Held {
    /// The cluster.
    pub cluster: Cluster,
    forward: Process,
    /// The owner's file, and what it says once the cluster is left.
    up: (PathBuf, String),
}

impl Held {
    /// Leaves it running after this process.
    ///
    /// # Errors
    /// If that cannot be written down; then it is removed.
    pub fn leave(self) -> Result<()> {
        let Self {
            cluster,
            mut forward,
            up: (owner, text),
        } = self;
        fs::write(&owner, text).with_context(|| owner.display().to_string())?;
        forward.keep();
        cluster.keep();
        Ok(())
    }
}

/// Writes a file that only its owner reads.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn owner_now() -> Result<String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("?"));
    let since = Command::new("date").arg("+%F %T").output()?.stdout;
    Ok(format!(
        "pid {}\nprogram {}\ncheckout {}\nsince {}\n",
        std::process::id(),
        fs::read_to_string("/proc/self/comm")?.trim(),
        checkout.display(),
        String::from_utf8_lossy(&since).trim()
    ))
}

/// Whose cluster it is.
struct Owner {
    pid: String,
    program: String,
    checkout: String,
    since: String,
    up: bool,
}

impl Owner {
    fn parse(state: &str) -> Self {
        let field = |key: &str| {
            let found = state.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or("?").to_owned()
        };
        Self {
            pid: field("pid "),
            program: field("program "),
            checkout: field("checkout "),
            since: field("since "),
            up: state.lines().any(|line| line == UP),
        }
    }

    /// Whether it is still being set up. The pid may be another's by now, so the program's name must fit too.
    fn is_setting_up(&self) -> bool {
        let name = fs::read_to_string(Path::new("/proc").join(&self.pid).join("comm"));
        !self.up && name.is_ok_and(|name| [PROGRAM, DEMO].contains(&name.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_and_one_that_died_sets_nothing_up() {
        // beyond the largest pid that the kernel gives
        let owner = Owner::parse("pid 4194305\ncheckout /w\nsince noon\n");
        assert_eq!(
            (owner.checkout.as_str(), owner.since.as_str(), owner.up),
            ("/w", "noon", false)
        );
        assert!(!owner.is_setting_up());
        assert!(Owner::parse("pid 1\ncheckout /w\nsince noon\nup\n").up);
    }
}
