//! A set of programs that are built from Go modules together, once, into a folder whose name says what they were built from.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{
    folders,
    go::{self, Go},
};
use crate::{command, setup::TOOLS};

/// The Go sources, one folder for each program or for those that share their modules.
const SOURCES: &str = "tests/kubernetes";
/// Held while a build runs: a second one waits, and finds the work done. One for all sets, since they fetch the same Go.
const LOCK: &str = "kubernetes.lock";
/// Minutes without a word look like a hang.
const PROGRESS_PAUSE: Duration = Duration::from_secs(30);
/// Digits of the sum in the folder's name.
const SUM_DIGITS: usize = 12;

/// Programs that are built together.
pub struct Set {
    /// What people call it.
    pub title: &'static str,
    /// How the folders of finished builds begin, whatever they were built from. That of an unfinished one does not, and nobody takes it for a build.
    pub prefix: &'static str,
    /// The version that the folder's name says after the prefix.
    pub version: String,
    /// What is built, in this order.
    pub programs: &'static [Program],
    /// The flags of every build.
    pub flags: Vec<String>,
    /// What the compiler wants of the machine beside time.
    pub memory: &'static str,
    /// Whatever else decides what is in the folder.
    pub also: Vec<&'static str>,
}

/// One program of a set.
pub struct Program {
    /// Its file's name.
    pub name: &'static str,
    /// The folder of its `go.mod`, below that of all Go sources.
    pub folder: &'static str,
    /// What decides the program, within its folder.
    pub files: &'static [&'static str],
    /// What is built there.
    pub package: Package,
    /// Minutes that two idle cores take to build it from nothing.
    pub minutes: u32,
}

/// What a build makes a program of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// The folder's own `main`.
    Main,
    /// The folder's tests, as a program that runs them.
    Tests,
    /// A `main` of a module that the folder's `go.mod` asks for.
    Of(&'static str),
}

impl Set {
    /// Builds the set, unless exactly it is there, and returns its folder; builds of other sources are removed. `finish` puts what else belongs
    /// to it into the folder of the new build.
    ///
    /// # Errors
    /// If Go cannot be fetched, a build fails, or `finish` does.
    pub fn build(&self, finish: impl FnOnce(&Go, &Path) -> Result<()>) -> Result<PathBuf> {
        let tools = command::workspace().join(TOOLS);
        fs::create_dir_all(&tools).with_context(|| format!("could not make {}", tools.display()))?;
        let dir = tools.join(self.folder_of(&self.sum()?));
        let lock = File::create(tools.join(LOCK)).context("could not make the lock of builds from Go modules")?;
        lock.lock()
            .context("could not wait for another build from Go modules")?;
        if dir.exists() {
            return Ok(dir);
        }
        let minutes: u32 = self.programs.iter().map(|program| program.minutes).sum();
        println!(
            "   building {} into {}, once, from Go modules: about {} on two cores, {}",
            self.title,
            dir.display(),
            counted(minutes),
            self.memory
        );
        let go = Go::fetch(&tools)?;
        let unfinished = folders::empty(&tools.join(format!("building-{}", self.prefix.trim_end_matches('-'))))?;
        for (step, program) in (1..).zip(self.programs) {
            let what = format!("step {step} of {}, {}", self.programs.len(), program.name);
            with_progress(
                &what,
                program.minutes,
                &mut program.build(&go, &self.flags, &unfinished),
            )?;
        }
        finish(&go, &unfinished)?;
        fs::rename(&unfinished, &dir).with_context(|| format!("could not move the build to {}", dir.display()))?;
        folders::remove_others(&tools, self.prefix, &dir);
        Ok(dir)
    }

    /// The folder of a build with this sum.
    pub fn folder_of(&self, sum: &str) -> String {
        format!("{}{}-{}", self.prefix, self.version, &sum[..SUM_DIGITS])
    }

    /// The sum over everything that decides what is built.
    ///
    /// # Errors
    /// If a source cannot be read.
    pub fn sum(&self) -> Result<String> {
        let mut sum = Sha256::new();
        let mut add = |part: &[u8]| {
            // with its length, so that no two lists of parts read the same
            sum.update(part.len().to_le_bytes());
            sum.update(part);
        };
        for program in self.programs {
            add(program.name.as_bytes());
            for file in program.files {
                let path = source_folder(program.folder).join(file);
                add(&fs::read(&path).with_context(|| format!("could not read {}", path.display()))?);
            }
            if let Package::Of(package) = program.package {
                add(package.as_bytes());
            }
        }
        for flag in &self.flags {
            add(flag.as_bytes());
        }
        add(go::VERSION.as_bytes());
        for part in &self.also {
            add(part.as_bytes());
        }
        Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Program {
    fn build(&self, go: &Go, flags: &[String], into: &Path) -> Command {
        let (verb, package): (&[&str], _) = match self.package {
            Package::Main => (&["build"], "."),
            Package::Tests => (&["test", "-c"], "."),
            Package::Of(package) => (&["build"], package),
        };
        let mut build = go.command(&source_folder(self.folder));
        build
            .args(verb)
            .args(flags)
            .arg("-o")
            .arg(into.join(self.name))
            .arg(package);
        build
    }
}

/// The folder of a `go.mod`.
pub fn source_folder(name: &str) -> PathBuf {
    command::workspace().join(SOURCES).join(name)
}

/// The flags of every build: no debug information, the same bytes from any folder, and these values of variables (`package.name=value`).
pub fn flags(variables: &[String]) -> Vec<String> {
    let set: String = variables.iter().map(|variable| format!(" -X {variable}")).collect();
    vec![
        "-mod=readonly".to_owned(),
        "-buildvcs=false".to_owned(),
        "-trimpath".to_owned(),
        "-ldflags".to_owned(),
        format!("-s -w{set}"),
    ]
}

/// Runs a command of minutes and says now and then that it still runs.
fn with_progress(what: &str, minutes: u32, command: &mut Command) -> Result<()> {
    let expected = counted(minutes);
    println!("   {what}: about {expected}");
    let started = Instant::now();
    let (running, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            // the receiver belongs to this thread alone
            let ended = ended;
            while ended.recv_timeout(PROGRESS_PAUSE) == Err(RecvTimeoutError::Timeout) {
                println!("   {what}: {:.1} of about {expected}", in_minutes(started));
            }
        });
        let result = command::run(command);
        // the reporter sees it go, and ends
        drop(running);
        result
    })?;
    println!("   {what}: built in {:.1} minutes", in_minutes(started));
    Ok(())
}

fn counted(minutes: u32) -> String {
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    format!("{minutes} {unit}")
}

fn in_minutes(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() / 60.0
}
