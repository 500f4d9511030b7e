//! Programs that run in a namespace beside the test: started, watched, killed, their output kept in a file.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use crate::bench::{Netns, wait_for};

/// `USER_HZ`, the unit of times in `/proc`: 100 on every architecture that Linux is usual on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    kept: bool,
}

impl Process {
    /// Starts a prepared command; what it prints is appended to the file.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C is for the one who started us; he removes what he started
            .process_group(0)
            .spawn()
            .with_context(|| format!("{command:?} cannot be started"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
            kept: false,
        })
    }

    /// Starts one of this workspace's programs in a namespace.
    ///
    /// # Errors
    /// If it was not built, or cannot be started.
    pub fn in_namespace(netns: &Netns, name: &str, args: &[&str], log: &Path) -> Result<Self> {
        let mut command = netns.command(binary(name)?);
        command.args(args);
        Self::start(command, log)
    }

    /// Its pid (nsenter replaces itself by the program).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid()) {
            // one that has ended needs none
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its exit status, once it has one.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it runs longer than the guard.
    pub fn wait(&mut self, guard: Duration) -> Result<ExitStatus> {
        let status = wait_for("the end of the process", guard, || Ok(self.child.try_wait()?));
        status.with_context(|| format!("it printed: {}", self.output()))
    }

    /// Lets it live on after this process.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// A number from `/proc/<pid>/status`, such as `VmHWM` or `VmRSS` (in KiB).
    ///
    /// # Errors
    /// If it has ended, or the kernel has no such line.
    pub fn status(&self, key: &str) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = value
            .and_then(|value| value.split_whitespace().next())
            .with_context(|| format!("no {key}"))?;
        Ok(number.parse()?)
    }

    /// CPU time that it has used so far, its own and the kernel's for it, in seconds.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // the name may hold spaces and ends with the last parenthesis; the state is field 3, user and system time are 14 and 15 (proc(5))
        let (_, rest) = text.rsplit_once(") ").context("no name in stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 = fields
            .get(11..13)
            .context("no times in stat")?
            .iter()
            .map(|ticks| ticks.parse::<f64>())
            .sum::<Result<f64, _>>()?;
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// The same to the nanosecond, threads that have ended included.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(self.pid())?))?;
        Ok(clock_gettime(clock)?.into())
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// If it has ended.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            self.kill();
        }
    }
}

/// A program of this workspace: in `WEFT_BIN_DIR` if that is set and has it, else beside this one.
///
/// # Errors
/// If it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("WEFT_BIN_DIR")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    let own = std::env::current_exe()?;
    // tests stand in target/<profile>/deps, programs in target/<profile>
    places.extend(own.ancestors().skip(1).take(2).map(Path::to_owned));
    match places.iter().map(|place| place.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => {
            bail!("{name} was not found in {places:?}: build it with `cargo build --workspace`, or set WEFT_BIN_DIR")
        }
    }
}
