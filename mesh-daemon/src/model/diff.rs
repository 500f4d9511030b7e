//! What must change for one ordered table to become another.

use std::collections::BTreeMap;

/// The writes that turn one table into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff<K, V> {
    /// Entries that are absent or differ, in the order of their keys.
    pub upserts: Vec<(K, V)>,
    /// Keys that are not wanted, in order.
    pub deletes: Vec<K>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Diff<K, V> {
    /// From what is there to what is wanted.
    pub fn between(have: &BTreeMap<K, V>, want: &BTreeMap<K, V>) -> Self {
        let upserts = want
            .iter()
            .filter(|(key, value)| have.get(key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let deletes = have.keys().filter(|key| !want.contains_key(key)).cloned().collect();
        Self { upserts, deletes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_differs_and_deletes_what_is_not_wanted() {
        let table = |entries: &[(u32, char)]| entries.iter().copied().collect::<BTreeMap<_, _>>();
        for (have, want, upserts, deletes) in [
            (table(&[]), table(&[]), vec![], vec![]),
            (table(&[]), table(&[(1, 'a')]), vec![(1, 'a')], vec![]),
            (table(&[(1, 'a')]), table(&[(1, 'a')]), vec![], vec![]),
            (table(&[(1, 'a')]), table(&[(1, 'b')]), vec![(1, 'b')], vec![]),
            (table(&[(1, 'a'), (2, 'b')]), table(&[(2, 'b')]), vec![], vec![1]),
            (table(&[(1, 'a')]), table(&[(2, 'a')]), vec![(2, 'a')], vec![1]),
        ] {
            assert_eq!(
                Diff::between(&have, &want),
                Diff { upserts, deletes },
                "{have:?} → {want:?}"
            );
        }
    }
}
