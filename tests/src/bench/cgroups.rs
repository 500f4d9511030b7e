//! The cgroups of a run whose nodes are real: one folder in every hierarchy, v1 or v2, under which the kubelets put their pods; killed and removed as one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{HANG_GUARD, wait_for};

/// How the names of all our folders begin; what follows is the run's name.
const PREFIX: &str = "weft-";
/// What a new folder of the cpuset hierarchy lacks, and must have before a process may enter it.
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// What every folder of cgroup2 has, its root too, and none of cgroup v1.
const CGROUP2_FILE: &str = "cgroup.controllers";

/// The folder of a run, as a path inside each hierarchy.
pub fn of_run(id: &str) -> PathBuf {
    Path::new("/").join(format!("{PREFIX}{id}"))
}

/// Makes this folder in every hierarchy of the machine, with those above it.
///
/// # Errors
/// If the caller is not root, or no hierarchy is mounted.
pub fn create(path: &Path) -> Result<()> {
    let roots = roots()?;
    anyhow::ensure!(
        !roots.is_empty(),
        "no cgroup hierarchy is mounted; a node needs them for its pods"
    );
    for root in roots {
        let mut folder = root.clone();
        for part in path.strip_prefix("/").unwrap_or(path) {
            let parent = folder.clone();
            folder.push(part);
            match fs::create_dir(&folder) {
                // the other nodes' parents are the same
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("making {}; are you root?", folder.display()))?,
            }
            for file in CPUSET_FILES {
                // only cgroup v1 has it to be written: in v2 an empty one means the parent's
                if parent.join("tasks").exists()
                    && let Ok(value) = fs::read(parent.join(file))
                {
                    fs::write(folder.join(file), value)
                        .with_context(|| format!("writing {file} of {}", folder.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Where this folder is in the hierarchy of cgroup2.
///
/// # Errors
/// If the machine has none.
pub fn unified(path: &Path) -> Result<PathBuf> {
    let root = roots()?.into_iter().find(|root| root.join(CGROUP2_FILE).exists());
    let root = root.context("no cgroup2 is mounted")?;
    Ok(root.join(path.strip_prefix("/").unwrap_or(path)))
}

/// Kills what is in a run's folders and removes them. What is not there is fine; what cannot be removed is said.
pub(super) fn remove(id: &str) {
    let folders = folders_of(id).unwrap_or_default();
    let gone = wait_for("the end of the pods' processes", HANG_GUARD, || {
        folders.iter().for_each(|folder| kill_and_remove(folder));
        Ok(folders.iter().all(|folder| !folder.exists()).then_some(()))
    });
    if let Err(error) = gone {
        eprintln!("cgroups {} cannot be removed: {error:#}", of_run(id).display());
    }
}

/// The processes in a run's folders, or nothing if it has no folder.
///
/// # Errors
/// If no hierarchy can be read.
pub fn processes(id: &str) -> Result<Option<Vec<i32>>> {
    let folders = folders_of(id)?;
    Ok((!folders.is_empty()).then(|| folders.iter().flat_map(|folder| processes_below(folder)).collect()))
}

/// The names of all runs that have folders.
pub(super) fn runs() -> Vec<String> {
    let entries = roots().unwrap_or_default().into_iter().flat_map(fs::read_dir).flatten();
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| Some(name.strip_prefix(PREFIX)?.to_owned()))
        .collect()
}

/// A run's folders that exist, one of each hierarchy.
fn folders_of(id: &str) -> Result<Vec<PathBuf>> {
    let path = of_run(id);
    let folders = roots()?
        .into_iter()
        .map(|root| root.join(path.strip_prefix("/").unwrap_or(&path)));
    Ok(folders.filter(|folder| folder.exists()).collect())
}

fn processes_below(folder: &Path) -> Vec<i32> {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|pid| pid.parse().ok()).collect();
    pids.extend(folders_in(folder).flat_map(|inner| processes_below(&inner)));
    pids
}

fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

/// Where each hierarchy of the machine is mounted.
fn roots() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let mut roots: Vec<_> = mounts.lines().filter_map(cgroup_mount).collect();
    // one may be mounted twice
    roots.dedup();
    Ok(roots)
}

/// The mount point in a line of mountinfo, if it is a cgroup hierarchy.
fn cgroup_mount(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let kind = kind.split(' ').next()?;
    ["cgroup", "cgroup2"]
        .contains(&kind)
        .then(|| mount.split(' ').nth(4).map(PathBuf::from))?
}

/// Kills what is in a folder and below, and removes what is empty by now.
fn kill_and_remove(folder: &Path) {
    // a folder that is not a cgroup's has none of these: nothing below fails for a reason that matters
    let _ = fs::write(folder.join("cgroup.kill"), "1");
    let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    folders_in(folder).for_each(|inner| kill_and_remove(&inner));
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_and_other_mounts_are_not() {
        for (line, expected) in [
            (
                "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
                Some("/sys/fs/cgroup/cpu"),
            ),
            (
                "41 31 0:38 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw",
                Some("/sys/fs/cgroup"),
            ),
            (
                "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
                None,
            ),
            ("nonsense", None),
        ] {
            assert_eq!(cgroup_mount(line), expected.map(PathBuf::from), "{line}");
        }
    }
}
