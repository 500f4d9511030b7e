//! What is pinned, and where: `<pin dir>/maps-v<layout>/<map>`, `<pin dir>/links/<ifindex>-<program>`. A folder
//! `<pin dir>/qdisc/<ifindex>` remembers that a clsact qdisc is ours: bpffs holds folders, and they go with the pins.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mesh_common::{layout, names};

use super::Error;

/// Paths below the pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Below this directory, which lies on a bpffs.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Creates the folders.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn create(&self) -> Result<(), Error> {
        for dir in [self.maps(), self.links(), self.qdiscs()] {
            fs::create_dir_all(&dir).map_err(|source| Error::Pin {
                action: "create the folder",
                path: dir,
                source,
            })?;
        }
        Ok(())
    }

    /// Where this layout's maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-v{}", layout::VERSION))
    }

    /// A map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where links are pinned.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// A link's pin.
    pub fn link(&self, ifindex: u32, program: &str) -> PathBuf {
        self.links().join(format!("{ifindex}-{program}"))
    }

    /// Where clsact qdiscs that we added are remembered.
    pub fn qdiscs(&self) -> PathBuf {
        self.root.join("qdisc")
    }

    /// The mark of a clsact qdisc that we added.
    pub fn qdisc(&self, ifindex: u32) -> PathBuf {
        self.qdiscs().join(ifindex.to_string())
    }

    /// Pinned links, as (interface index, program name, path). Files that are not ours by name are left alone.
    pub fn pinned_links(&self) -> Vec<(u32, &'static str, PathBuf)> {
        entries(&self.links())
            .filter_map(|path| {
                let (ifindex, program) = path.file_name()?.to_str()?.split_once('-')?;
                let program = names::PROGRAMS.iter().find(|name| **name == program)?;
                Some((ifindex.parse().ok()?, *program, path.clone()))
            })
            .collect()
    }

    /// Interfaces whose clsact qdisc we added.
    pub fn own_qdiscs(&self) -> Vec<u32> {
        entries(&self.qdiscs())
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect()
    }

    /// Whether nothing is pinned or remembered, of whatever layout: no daemon has run here since the last detach.
    pub fn is_empty(&self) -> bool {
        self.own_qdiscs().is_empty()
            && entries(&self.root)
                .flat_map(|folder| entries(&folder).collect::<Vec<_>>())
                .next()
                .is_none()
    }

    /// Removes maps of other layouts: their programs have been replaced.
    pub fn prune_other_layouts(&self) {
        let current = self.maps();
        for dir in entries(&self.root).filter(|path| *path != current) {
            if dir
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("maps-v"))
            {
                remove_tree(&dir);
            }
        }
    }

    /// Removes every pin and folder, and the pin directory itself.
    ///
    /// # Errors
    /// [`Error::Pin`] if something is still there afterwards.
    pub fn remove_all(&self) -> Result<(), Error> {
        remove_tree(&self.root);
        match fs::symlink_metadata(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => Err(Error::Pin {
                action: "remove",
                path: self.root.clone(),
                source: io::Error::other("something in it could not be removed"),
            }),
        }
    }
}

/// Removes a file; absent is fine.
///
/// # Errors
/// [`Error::Pin`].
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Pin {
            action: "unpin",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// This thread's network namespace, opened: what an sk_lookup program is attached to.
///
/// # Errors
/// If procfs is not there.
pub fn network_namespace() -> io::Result<fs::File> {
    fs::File::open("/proc/thread-self/ns/net")
}

/// Remembers, or forgets, that the interface's clsact qdisc is ours. Failing to remember leaves an empty qdisc behind, nothing worse.
pub fn remember_qdisc(pins: &Pins, ifindex: u32, ours: bool) {
    let mark = pins.qdisc(ifindex);
    let done = if ours {
        fs::create_dir_all(&mark)
    } else {
        fs::remove_dir(&mark)
    };
    if let Err(error) = done {
        tracing::debug!(path = %mark.display(), %error, "cannot update the mark of a qdisc");
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
}

/// bpffs knows no recursive removal of its own and at most two levels stand here.
fn remove_tree(dir: &Path) {
    for path in entries(dir) {
        if path.is_dir() {
            remove_tree(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    let _ = fs::remove_dir(dir);
}
