//! The content of an image: files, directories and links, as a tar archive whose bytes depend on nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// Permissions of directories that nobody asked for by name.
const DIRECTORY_MODE: u32 = 0o755;
/// Permissions of a symbolic link, as Linux shows them.
const LINK_MODE: u32 = 0o777;

/// Everything under the root, by path without the leading slash: parents come before their children.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link { target: String },
}

impl Layer {
    /// With a directory, owned by root.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.with(path, Node::Directory { mode })
    }

    /// With a file, owned by root.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: Vec<u8>) -> Self {
        self.with(path, Node::File { mode, bytes })
    }

    /// With a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        let target = target.to_owned();
        self.with(path, Node::Link { target })
    }

    /// The layer as an uncompressed tar archive. The same content gives the same bytes, whenever, wherever and in whatever order it was
    /// put together.
    ///
    /// # Errors
    /// If a path is longer than the format allows.
    pub fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            node.append(&mut tar, path)
                .with_context(|| format!("/{path} does not fit into the layer"))?;
        }
        Ok(tar.into_inner()?)
    }

    fn with(mut self, path: &str, node: Node) -> Self {
        let path = path.trim_matches('/');
        for (slash, _) in path.match_indices('/') {
            self.nodes
                .entry(path[..slash].to_owned())
                .or_insert(Node::Directory { mode: DIRECTORY_MODE });
        }
        self.nodes.insert(path.to_owned(), node);
        self
    }
}

impl Node {
    fn append(&self, tar: &mut Builder<Vec<u8>>, path: &str) -> Result<()> {
        match self {
            Self::Directory { mode } => {
                let mut header = header(EntryType::Directory, *mode, 0);
                tar.append_data(&mut header, format!("{path}/"), &[][..])?;
            }
            Self::File { mode, bytes } => {
                let mut header = header(EntryType::Regular, *mode, bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
            Self::Link { target } => {
                let mut header = header(EntryType::Symlink, LINK_MODE, 0);
                tar.append_link(&mut header, path, target)?;
            }
        }
        Ok(())
    }
}

/// A header that says the same on every machine and at every time: owned by root, of the epoch.
pub(super) fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, kind, mode, owner, group, time and content or target of each entry, in order.
    fn list(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            let (kind, mode) = (header.entry_type(), header.mode().unwrap());
            let numbers = [header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()];
            let target = entry.link_name().unwrap().map(|target| target.display().to_string());
            let path = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
            format!("{path} {kind:?} {mode:o} {numbers:?} {}", target.unwrap_or(content))
        });
        entries.collect()
    }

    #[test]
    fn parents_come_first_and_everything_is_roots_and_of_the_epoch() {
        let layer = Layer::default()
            .file("/usr/bin/program", 0o755, b"code".into())
            .link("/bin/sh", "busybox")
            .directory("/tmp", 0o1777);
        assert_eq!(
            list(&layer.tar().unwrap()),
            [
                "bin/ Directory 755 [0, 0, 0] ",
                "bin/sh Symlink 777 [0, 0, 0] busybox",
                "tmp/ Directory 1777 [0, 0, 0] ",
                "usr/ Directory 755 [0, 0, 0] ",
                "usr/bin/ Directory 755 [0, 0, 0] ",
                "usr/bin/program Regular 755 [0, 0, 0] code",
            ]
        );
    }

    #[test]
    fn the_order_of_putting_together_does_not_matter() {
        let (a, b) = (b"a".to_vec(), b"b".to_vec());
        let forth = Layer::default()
            .directory("/d", 0o700)
            .file("/d/a", 0o644, a.clone())
            .file("/b", 0o644, b.clone());
        let back = Layer::default()
            .file("/b", 0o644, b)
            .file("/d/a", 0o644, a)
            .directory("/d", 0o700);
        assert_eq!(forth.tar().unwrap(), back.tar().unwrap());
    }
}
