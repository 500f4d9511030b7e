//! A named network namespace. Never `ip netns exec`: it remounts /sys and hides bpffs and cgroup2.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{HANG_GUARD, shell, wait_for};

/// Where iproute2 keeps named namespaces.
pub(super) const NETNS_DIR: &str = "/run/netns";

/// A named network namespace, by name: cloning does not make another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The namespace of this name, which need not exist yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Creates it, with `lo` up.
    ///
    /// # Errors
    /// If it exists or the caller is not root.
    pub fn create(&self) -> Result<()> {
        shell::run("ip", &["netns", "add", &self.name])?;
        self.ip("link set lo up\n")
    }

    /// Kills what runs in it and removes it. What does not exist is fine.
    pub fn remove(&self) {
        // what is started between a look and its kills is seen by the next look
        let empty = wait_for("the end of what runs in it", HANG_GUARD, || {
            let pids = self.pids();
            for pid in &pids {
                // it may have ended by itself
                let _ = kill(*pid, Signal::SIGKILL);
            }
            Ok(pids.is_empty().then_some(()))
        });
        if let Err(error) = empty {
            eprintln!("network namespace {}: {error:#}", self.name);
        }
        if self.path().exists() {
            let _ = shell::run("ip", &["netns", "del", &self.name]);
        }
    }

    /// The name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NETNS_DIR).join(&self.name)
    }

    /// A command that runs in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a program in it to its end and hands back what it printed.
    ///
    /// # Errors
    /// As [`shell::run`].
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        shell::output(self.command(program).args(args), "")
    }

    /// Runs lines of `ip` in it.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        shell::output(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines).map(drop)
    }

    /// Writes sysctls of it: `("net/ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// If one of them does not exist.
    pub fn sysctl(&self, values: &[(&str, &str)]) -> Result<()> {
        self.inside(|| {
            for (key, value) in values {
                fs::write(format!("/proc/sys/{key}"), value).with_context(|| format!("{key}={value}"))?;
            }
            Ok(())
        })?
    }

    /// Runs `f` on a fresh thread in it. Sockets that `f` makes stay in it, wherever they are used later.
    ///
    /// # Errors
    /// If the namespace does not exist.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("network namespace {}", self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.name))?;
                Ok(f())
            });
            thread
                .join()
                .map_err(|_| anyhow!("the work inside {} panicked", self.name))?
        })
    }

    /// Processes whose main thread is in it.
    pub fn pids(&self) -> Vec<Pid> {
        let Ok(own) = fs::metadata(self.path()) else {
            return Vec::new();
        };
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                fs::metadata(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|seen| (seen.dev(), seen.ino()) == (own.dev(), own.ino()))
            })
            .map(Pid::from_raw)
            .collect()
    }
}
