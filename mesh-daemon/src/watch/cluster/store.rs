//! Events of the watches → objects. Lists are gathered aside and take effect as a whole; what comes twice, late or not at all does no harm.

use std::collections::BTreeMap;

use super::{
    super::{
        claims::{self, Claim},
        convert::DEFAULT_NAMESPACE,
        document::{self, Converted},
        local::{CONDITION_TYPE, Condition, LocalPod, LocalPods},
        objects::{Kind, Objects},
    },
    raw::Raw,
};
use crate::{
    ids::{NodeName, ObjectRef},
    model::SetAside,
};

/// What the API server has said so far.
#[derive(Debug)]
pub(super) struct Store {
    node: NodeName,
    objects: Objects,
    kinds: BTreeMap<Kind, Shelf>,
    local: LocalPods,
    /// Not taken yet.
    claims: claims::Changes,
}

/// One kind.
#[derive(Debug, Default)]
struct Shelf {
    known: BTreeMap<ObjectRef, Known>,
    /// A list that has begun and is not complete.
    list: Option<BTreeMap<ObjectRef, Seen>>,
    was_listed: bool,
}

/// What is held of one object beside what it says.
#[derive(Debug)]
struct Known {
    uid: Box<str>,
    /// `metadata.resourceVersion`; 0 if it is no number.
    version: u64,
    refused: Vec<SetAside>,
}

/// One object as it was sent.
#[derive(Debug)]
struct Seen {
    uid: Box<str>,
    version: u64,
    converted: Converted,
    local: Option<LocalPod>,
    claim: Option<Claim>,
}

impl Store {
    pub(super) fn new(node: NodeName) -> Self {
        Self {
            node,
            objects: Objects::default(),
            kinds: Kind::ALL.map(|kind| (kind, Shelf::default())).into(),
            local: LocalPods::new(),
            claims: claims::Changes::new(),
        }
    }

    /// What complete lists and the events since then say.
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// This node's pods.
    pub(super) fn local(&self) -> &LocalPods {
        &self.local
    }

    /// What the statuses say in our name, as far as that may have changed since the last call.
    pub(super) fn take_claims(&mut self) -> claims::Changes {
        std::mem::take(&mut self.claims)
    }

    /// Takes over what only earlier objects know.
    pub(super) fn inherit(&mut self, before: &Objects) -> bool {
        self.objects.inherit(before)
    }

    /// Whether a full list of the kind was ever there.
    pub(super) fn was_listed(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|shelf| shelf.was_listed)
    }

    /// Whether every kind was.
    pub(super) fn is_complete(&self) -> bool {
        self.kinds.values().all(|shelf| shelf.was_listed)
    }

    /// A list begins; one that was under way is forgotten. Nothing changes before it is complete.
    pub(super) fn begin(&mut self, kind: Kind) {
        self.shelf(kind).list = Some(BTreeMap::new());
    }

    /// An object of the list under way.
    pub(super) fn listed(&mut self, kind: Kind, raw: Raw) {
        let (name, seen) = self.read(kind, raw);
        let list = self.shelf(kind).list.get_or_insert_default();
        list.insert(name, seen);
    }

    /// The list is complete: what it has not is gone. Says whether anything changed.
    pub(super) fn complete(&mut self, kind: Kind) -> bool {
        let shelf = self.shelf(kind);
        let mut changed = !std::mem::replace(&mut shelf.was_listed, true);
        let list = shelf.list.take().unwrap_or_default();
        let gone: Vec<ObjectRef> = shelf
            .known
            .keys()
            .filter(|name| !list.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            changed |= self.forget(kind, &name);
        }
        for (name, seen) in list {
            changed |= self.put(kind, name, seen);
        }
        changed
    }

    /// An object is there, or is another now. Says whether anything changed.
    pub(super) fn applied(&mut self, kind: Kind, raw: Raw) -> bool {
        let (name, seen) = self.read(kind, raw);
        let known = self.shelf(kind).known.get(&name);
        // told twice, the older version late
        if known.is_some_and(|known| seen.version != 0 && seen.version < known.version) {
            return false;
        }
        self.put(kind, name, seen)
    }

    /// An object is gone. Says whether anything changed.
    pub(super) fn deleted(&mut self, kind: Kind, raw: &Raw) -> bool {
        let name = name_of(kind, raw);
        let (uid, version) = (raw.meta("uid"), version_of(raw));
        // a late word about an object whose name another has taken means nothing
        let is_meant = |held: &str, held_version| {
            (uid.is_empty() || held.is_empty() || held == uid) && (version == 0 || version >= held_version)
        };
        let shelf = self.shelf(kind);
        if let Some(list) = &mut shelf.list {
            if list.get(&name).is_some_and(|seen| is_meant(&seen.uid, seen.version)) {
                list.remove(&name);
            }
            // what was there before goes when the list is complete
            return false;
        }
        if !shelf
            .known
            .get(&name)
            .is_some_and(|known| is_meant(&known.uid, known.version))
        {
            return false;
        }
        self.forget(kind, &name)
    }

    fn shelf(&mut self, kind: Kind) -> &mut Shelf {
        self.kinds.entry(kind).or_default()
    }

    fn read(&self, kind: Kind, raw: Raw) -> (ObjectRef, Seen) {
        let name = name_of(kind, &raw);
        let seen = Seen {
            uid: raw.meta("uid").into(),
            version: version_of(&raw),
            local: (kind == Kind::Pod).then(|| local(&raw, &self.node)).flatten(),
            claim: claims::of(kind, &raw.0),
            converted: document::convert_object(kind, raw.0),
        };
        (name, seen)
    }

    fn put(&mut self, kind: Kind, name: ObjectRef, seen: Seen) -> bool {
        let Seen {
            uid,
            version,
            converted,
            local,
            claim,
        } = seen;
        if claim.is_some() {
            self.claims.insert((kind, name.clone()), claim);
        }
        if kind == Kind::Pod {
            match local {
                Some(local) => drop(self.local.insert(name.clone(), local)),
                None => drop(self.local.remove(&name)),
            }
        }
        let known = self.shelf(kind).known.get(&name);
        // what did not convert keeps its last good version, as long as it is the same object
        let is_same = known.is_some_and(|known| known.uid == uid);
        let is_kept = converted.is_lost && is_same;
        // nor does another object of the name inherit a valid spec
        let is_gone = kind == Kind::TrafficPolicy && !is_same && self.objects.remove(kind, &name);
        let mut changed = match converted.object {
            Some(object) => self.objects.put(object),
            None if is_kept => false,
            None => self.objects.remove(kind, &name),
        };
        changed |= is_gone;
        let known = Known {
            uid,
            version,
            refused: converted.refused,
        };
        let added = known.refused.clone();
        let before = self.shelf(kind).known.insert(name, known);
        let before = before.map_or_else(Vec::new, |before| before.refused);
        if before != added {
            changed = true;
            for item in &before {
                self.objects.refused.remove(item);
            }
            self.objects.refused.extend(added);
        }
        changed
    }

    fn forget(&mut self, kind: Kind, name: &ObjectRef) -> bool {
        let known = self.shelf(kind).known.remove(name);
        if kind == Kind::Pod {
            self.local.remove(name);
        }
        if matches!(kind, Kind::HttpRoute | Kind::TrafficPolicy) {
            self.claims.insert((kind, name.clone()), None);
        }
        let mut changed = self.objects.remove(kind, name);
        for item in known.map_or_else(Vec::new, |known| known.refused) {
            changed |= self.objects.refused.remove(&item);
        }
        changed
    }
}

/// Namespace and name as they stand there, good or not; the namespace is empty for kinds that have none.
fn name_of(kind: Kind, raw: &Raw) -> ObjectRef {
    let namespace = match raw.meta("namespace") {
        _ if !kind.is_namespaced() => "",
        "" => DEFAULT_NAMESPACE,
        namespace => namespace,
    };
    ObjectRef::new(namespace, raw.meta("name"))
}

/// The object's `metadata.resourceVersion`; 0 if it is no number.
fn version_of(raw: &Raw) -> u64 {
    raw.meta("resourceVersion").parse().unwrap_or(0)
}

/// A pod of this node, as far as the status writer cares.
fn local(raw: &Raw, node: &NodeName) -> Option<LocalPod> {
    let text = |pointer| raw.0.pointer(pointer).and_then(serde_json::Value::as_str);
    if text("/spec/nodeName") != Some(node.0.as_str()) {
        return None;
    }
    let list = |pointer| raw.0.pointer(pointer).and_then(serde_json::Value::as_array);
    let field = |item: &serde_json::Value, key: &str| {
        let found = item.get(key).and_then(serde_json::Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let mut gates = list("/spec/readinessGates").into_iter().flatten();
    let mut conditions = list("/status/conditions").into_iter().flatten();
    let captured = conditions.find(|condition| field(condition, "type") == CONDITION_TYPE);
    Some(LocalPod {
        uid: raw.meta("uid").to_owned(),
        is_gated: gates.any(|gate| field(gate, "conditionType") == CONDITION_TYPE),
        captured: captured.map(|condition| Condition {
            status: field(condition, "status"),
            reason: field(condition, "reason"),
            message: field(condition, "message"),
        }),
    })
}
