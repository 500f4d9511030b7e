//! A run: the name that everything of one bench carries, so that all of it can be found and removed, also after a crash.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use nix::{
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use super::{
    cgroups,
    netns::{NETNS_DIR, Netns},
};

/// Where benches keep their manifests, logs, sockets and bpffs.
pub const RUNS_DIR: &str = "/run/weft-bench";
/// Numbers the benches of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Runs of this process that a signal must remove.
static LIVE: Mutex<BTreeSet<Run>> = Mutex::new(BTreeSet::new());
/// The exit code after a signal, as shells have it for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// A run. Dropping it removes nothing: see [`Run::remove`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    id: String,
    dir: PathBuf,
}

impl Run {
    /// A new run of this process: the id holds its pid, so that a later process sees whether the owner lives.
    pub fn of_this_process() -> Self {
        let id = format!("p{}c{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(RUNS_DIR).join(&id);
        Self { id, dir }
    }

    /// A run with a name of its own that outlives its process.
    pub fn named(id: &str, dir: impl Into<PathBuf>) -> Self {
        Self {
            id: id.to_owned(),
            dir: dir.into(),
        }
    }

    /// The name that everything of it carries.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The namespace that this run calls `name`.
    pub fn netns(&self, name: &str) -> Netns {
        Netns::named(format!("{}{name}", self.prefix()))
    }

    /// Makes the directory and mounts a bpffs in it, since the machine may have none. SIGINT and SIGTERM remove the run from now on.
    ///
    /// # Errors
    /// If the caller is not root, or the directory cannot be made.
    pub fn begin(&self) -> Result<()> {
        remove_stale();
        on_signal();
        on_exit();
        live().insert(self.clone());
        let bpffs = self.bpffs();
        fs::create_dir_all(&bpffs).with_context(|| format!("{}; are you root?", bpffs.display()))?;
        mount(Some("bpffs"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a bpffs at {}; are you root?", bpffs.display()))
    }

    /// The run's private bpffs.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpffs")
    }

    /// Leaves it to live on after this process.
    pub fn keep(&self) {
        live().remove(self);
    }

    /// Kills its processes, removes its namespaces, mounts and files. What is not there is fine.
    pub fn remove(&self) {
        for name in namespaces().iter().filter(|name| name.starts_with(&self.prefix())) {
            Netns::named(name.as_str()).remove();
        }
        // pods have namespaces of their own, which have no name: what ran in them is found here
        cgroups::remove(&self.id);
        // busy only if somebody looks around in it: detached, it goes with him
        let _ = umount2(&self.bpffs(), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(&self.dir);
        // the last one takes the folder of all with it; another run's keeps it
        let _ = fs::remove_dir(RUNS_DIR);
        live().remove(self);
    }

    /// Whether anything of it is there.
    pub fn exists(&self) -> bool {
        self.dir.exists()
            || namespaces().iter().any(|name| name.starts_with(&self.prefix()))
            || cgroups::runs().contains(&self.id)
    }

    fn prefix(&self) -> String {
        format!("weft-{}-", self.id)
    }
}

/// Removes runs whose owner is dead.
fn remove_stale() {
    let of_namespaces = namespaces()
        .into_iter()
        .filter_map(|name| Some(name.strip_prefix("weft-")?.split('-').next()?.to_owned()));
    let of_dirs = names_in(RUNS_DIR);
    let ids: BTreeSet<String> = of_namespaces.chain(of_dirs).chain(cgroups::runs()).collect();
    for id in ids {
        if owner(&id).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let dir = Path::new(RUNS_DIR).join(&id);
            Run { id, dir }.remove();
        }
    }
}

/// The pid in an id of [`Run::of_this_process`].
fn owner(id: &str) -> Option<u32> {
    id.strip_prefix('p')?.split_once('c')?.0.parse().ok()
}

/// SIGINT and SIGTERM remove all runs of this process and end it.
fn on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let waiting = std::thread::Builder::new().name("signals".into()).spawn(|| {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                eprintln!("interrupted: removing what was set up");
                let runs: Vec<Run> = live().iter().cloned().collect();
                runs.iter().for_each(Run::remove);
                std::process::exit(EXIT_INTERRUPTED);
            });
        });
        if let Err(error) = waiting {
            eprintln!("signals are not watched, Ctrl-C will leave namespaces behind: {error}");
        }
    });
}

/// The end of the process removes what nobody dropped: values in statics, which the tests of a program may share.
fn on_exit() {
    extern "C" fn remove_all() {
        let runs: Vec<Run> = live().iter().cloned().collect();
        runs.iter().for_each(Run::remove);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function lives as long as the program, takes nothing, and lets no panic out
        let refused = unsafe { libc::atexit(remove_all) };
        if refused != 0 {
            eprintln!("the end of this process is not watched: what is shared in it stays behind");
        }
    });
}

fn live() -> std::sync::MutexGuard<'static, BTreeSet<Run>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn namespaces() -> Vec<String> {
    names_in(NETNS_DIR)
}

fn names_in(dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_from_the_id_and_a_named_run_has_none() {
        for (id, expected) in [
            ("p12c0", Some(12)),
            ("demo", None),
            ("p12", None),
            ("pxc1", None),
            ("", None),
        ] {
            assert_eq!(owner(id), expected, "{id}");
        }
        assert_eq!(owner(&Run::of_this_process().id), Some(std::process::id()));
    }
}
