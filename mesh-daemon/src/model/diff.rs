//! stub
use std::collections::BTreeMap;
pub struct Diff<K, V> {
    pub upserts: Vec<(K, V)>,
    pub deletes: Vec<K>,
}
impl<K: Ord + Clone, V: PartialEq + Clone> Diff<K, V> {
    pub fn between(_: &BTreeMap<K, V>, _: &BTreeMap<K, V>) -> Self {
        Self {
            upserts: vec![],
            deletes: vec![],
        }
    }
}
