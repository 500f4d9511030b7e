//! One BPF map as an ordered table: read whole, written entry by entry. A fake stands in for it where no kernel is needed.

use std::collections::BTreeMap;

use aya::maps::{HashMap, LpmTrie, MapData, lpm_trie::Key};
use mesh_common::addr::Addr;

use super::Error;
use crate::model::Diff;

/// What reconciliation needs of a map.
pub trait Table<K, V> {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Most entries it can hold.
    fn capacity(&self) -> u32;
    /// Everything in it.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn read(&self) -> Result<BTreeMap<K, V>, Error>;
    /// Inserts or replaces.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn upsert(&mut self, key: &K, value: &V) -> Result<(), Error>;
    /// Deletes; deleting the absent is fine.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn delete(&mut self, key: &K) -> Result<(), Error>;
}

/// What one reconciliation of one map did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Entries written.
    pub upserts: u64,
    /// Entries deleted.
    pub deletes: u64,
}

/// Makes the map hold exactly `want`. `have` is what it holds, as far as is known; `None` reads it first. Deletes come first, so that a
/// full map can change its contents.
///
/// # Errors
/// The first refused write; `have` is then unknown again.
pub fn reconcile<K, V, T>(
    table: &mut T,
    have: &mut Option<BTreeMap<K, V>>,
    want: &BTreeMap<K, V>,
) -> Result<Changed, Error>
where
    K: Ord + Clone,
    V: PartialEq + Clone,
    T: Table<K, V>,
{
    let known = match have.take() {
        Some(known) => known,
        None => table.read()?,
    };
    let Diff { upserts, deletes } = Diff::between(&known, want);
    for key in &deletes {
        table.delete(key)?;
    }
    for (key, value) in &upserts {
        table.upsert(key, value)?;
    }
    *have = Some(want.clone());
    Ok(Changed {
        upserts: upserts.len() as u64,
        deletes: deletes.len() as u64,
    })
}

/// A hash map in the kernel.
#[derive(Debug)]
pub struct KernelHash<K, V> {
    name: &'static str,
    capacity: u32,
    map: HashMap<MapData, K, V>,
}

impl<K: aya::Pod, V: aya::Pod> KernelHash<K, V> {
    /// Of an opened map.
    pub fn new(name: &'static str, capacity: u32, map: HashMap<MapData, K, V>) -> Self {
        Self { name, capacity, map }
    }
}

impl<K: aya::Pod + Ord, V: aya::Pod> Table<K, V> for KernelHash<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn read(&self) -> Result<BTreeMap<K, V>, Error> {
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| Error::map(self.name, &error))
    }

    fn upsert(&mut self, key: &K, value: &V) -> Result<(), Error> {
        self.map
            .insert(*key, *value, 0)
            .map_err(|error| Error::map(self.name, &error))
    }

    fn delete(&mut self, key: &K) -> Result<(), Error> {
        absent_is_fine(self.map.remove(key)).map_err(|error| Error::map(self.name, &error))
    }
}

/// A longest-prefix trie over [`Addr`] in the kernel; its key is (prefix length in bits, network).
#[derive(Debug)]
pub struct KernelTrie {
    name: &'static str,
    capacity: u32,
    map: LpmTrie<MapData, Addr, u32>,
}

impl KernelTrie {
    /// Of an opened map.
    pub fn new(name: &'static str, capacity: u32, map: LpmTrie<MapData, Addr, u32>) -> Self {
        Self { name, capacity, map }
    }
}

impl Table<(u32, Addr), u32> for KernelTrie {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn read(&self) -> Result<BTreeMap<(u32, Addr), u32>, Error> {
        self.map
            .iter()
            .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value)))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::map(self.name, &error))
    }

    fn upsert(&mut self, (bits, network): &(u32, Addr), value: &u32) -> Result<(), Error> {
        self.map
            .insert(&Key::new(*bits, *network), *value, 0)
            .map_err(|error| Error::map(self.name, &error))
    }

    fn delete(&mut self, (bits, network): &(u32, Addr)) -> Result<(), Error> {
        absent_is_fine(self.map.remove(&Key::new(*bits, *network))).map_err(|error| Error::map(self.name, &error))
    }
}

fn absent_is_fine(done: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    use aya::maps::MapError;
    match done {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
