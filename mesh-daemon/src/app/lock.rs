//! One daemon per node: whoever holds both locks may write into the node's kernel. The pin directory's keeps two daemons from one set of
//! links and maps; the network namespace's keeps two from one set of rules, tables and interfaces, wherever they pin.

use std::{
    fs::{DirBuilder, File},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{DirBuilderExt, MetadataExt},
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// Only root reads and writes what is pinned.
const PIN_DIR_MODE: u32 = 0o700;
/// Name of the abstract socket that the one daemon of a network namespace holds.
const NAMESPACE_LOCK: &str = "weft.mesh/mesh-daemon";
/// How often the directory may vanish between opening and locking it (a `detach` that ends at this moment) before we give up.
const ATTEMPTS_MAX: u32 = 3;

/// The right to write into this node's kernel. Given back when dropped, and by the kernel if the process dies.
#[derive(Debug)]
pub struct NodeLock {
    _directory: Flock<File>,
    _namespace: Option<UnixDatagram>,
}

/// Why the right was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "another mesh-daemon runs on this node (it holds {}): stop it first, or wait until its drain has ended",
        .0.display()
    )]
    Held(PathBuf),
    /// Somebody has it, with another pin directory.
    #[error(
        "another mesh-daemon runs in this network namespace (it holds the abstract socket @weft.mesh/mesh-daemon): stop it first, \
         or wait until its drain has ended"
    )]
    NamespaceHeld,
    /// The kernel gives no socket.
    #[error("cannot lock this network namespace ({0}): check the limit of open files")]
    Namespace(io::Error),
    /// Not a place where links and maps can be pinned.
    #[error(
        "{} is not on a bpffs: run `mount -t bpf bpf /sys/fs/bpf`, or name a directory on one with --bpffs-dir",
        .0.display()
    )]
    NotBpffs(PathBuf),
    /// The directory cannot be made, opened or locked.
    #[error("cannot use {} as pin directory ({source}): run as root, or name another with --bpffs-dir", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes the node's lock. The pin directory is made if absent.
///
/// # Errors
/// If another daemon or `detach` has it, or the directory cannot be used.
pub fn take(pin_dir: &Path) -> Result<NodeLock, LockError> {
    if !on_bpffs(pin_dir) {
        return Err(LockError::NotBpffs(pin_dir.to_owned()));
    }
    // the namespace first: a directory that is made for a daemon that may not run would stay
    let namespace = lock_namespace()?;
    let mut lock = lock_directory(pin_dir)?;
    lock._namespace = Some(namespace);
    Ok(lock)
}

/// An abstract socket belongs to the network namespace and goes with the process, however it ends (unix(7)).
fn lock_namespace() -> Result<UnixDatagram, LockError> {
    SocketAddr::from_abstract_name(NAMESPACE_LOCK)
        .and_then(|address| UnixDatagram::bind_addr(&address))
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => LockError::NamespaceHeld,
            _ => LockError::Namespace(error),
        })
}

fn lock_directory(path: &Path) -> Result<NodeLock, LockError> {
    let failed = |source: io::Error| LockError::Io {
        path: path.to_owned(),
        source,
    };
    for _ in 0..ATTEMPTS_MAX {
        DirBuilder::new()
            .recursive(true)
            .mode(PIN_DIR_MODE)
            .create(path)
            .map_err(failed)?;
        let directory = File::open(path).map_err(failed)?;
        let locked = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((_, Errno::EWOULDBLOCK)) => return Err(LockError::Held(path.to_owned())),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        // a lock on a directory that `detach` has just removed would keep nobody out
        let now = std::fs::metadata(path).map(|now| (now.dev(), now.ino())).ok();
        let held = locked.metadata().map_err(failed)?;
        if now == Some((held.dev(), held.ino())) {
            return Ok(NodeLock {
                _directory: locked,
                _namespace: None,
            });
        }
    }
    Err(failed(io::Error::other("it vanishes again and again")))
}

/// Whether the directory lies on a bpffs, or would if it were made.
fn on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|existing| statfs(existing).ok())
        .is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let pin_dir = dir.path().join("a/weft");
        let first = lock_directory(&pin_dir).unwrap();
        let refused = lock_directory(&pin_dir).unwrap_err();
        assert!(
            matches!(&refused, LockError::Held(path) if *path == pin_dir),
            "{refused}"
        );
        drop(first);
        lock_directory(&pin_dir).unwrap();
    }

    #[test]
    fn a_directory_that_was_removed_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let pin_dir = dir.path().join("weft");
        let removed = lock_directory(&pin_dir).unwrap();
        std::fs::remove_dir(&pin_dir).unwrap();
        let _next = lock_directory(&pin_dir).unwrap();
        drop(removed);
        assert!(matches!(lock_directory(&pin_dir), Err(LockError::Held(_))));
    }

    #[test]
    fn only_a_bpffs_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let pin_dir = dir.path().join("not/there");
        let refused = take(&pin_dir).unwrap_err();
        assert!(matches!(refused, LockError::NotBpffs(_)));
        assert!(refused.to_string().contains("mount -t bpf bpf /sys/fs/bpf"));
        assert!(!pin_dir.exists());
    }

    #[test]
    fn what_cannot_be_a_directory_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = lock_directory(&file.path().join("weft")).unwrap_err();
        assert!(matches!(refused, LockError::Io { .. }), "{refused}");
    }
}
