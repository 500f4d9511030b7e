//! Readiness: every part that must be up before the node is ready holds a [`Pending`] and drops it when it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What was waited for since the start, and whether it still is.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    items: Arc<Mutex<BTreeMap<String, State>>>,
}

/// How one thing stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Still waited for, and why if that is known: one sentence for people.
    Pending(Option<String>),
    /// Up; a note where it is not as it should be, and serves all the same.
    Ready(Option<String>),
}

/// One thing that readiness asks for and whose standing changes, in both directions. Unlike [`Pending`], dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Item {
    what: String,
    readiness: Readiness,
}

/// Held while something is not ready; dropping it says that it is.
#[derive(Debug)]
pub struct Pending {
    what: String,
    readiness: Readiness,
}

impl Readiness {
    /// Starts to wait for `what`, in words that `/readyz` shows: `list of Services`.
    #[must_use]
    pub fn wait_for(&self, what: impl Into<String>) -> Pending {
        let Item { what, readiness } = self.item(what);
        Pending { what, readiness }
    }

    /// Starts to wait for `what`, which may come and go.
    #[must_use]
    pub fn item(&self, what: impl Into<String>) -> Item {
        let what = what.into();
        self.lock().insert(what.clone(), State::Pending(None));
        Item {
            what,
            readiness: self.clone(),
        }
    }

    /// What is still waited for, in order; empty when ready.
    pub fn pending(&self) -> Vec<String> {
        let items = self.lock();
        items
            .iter()
            .filter(|(_, state)| matches!(state, State::Pending(_)))
            .map(|(what, _)| what.clone())
            .collect()
    }

    /// Everything that was ever waited for, in order.
    pub fn items(&self) -> Vec<(String, State)> {
        self.lock()
            .iter()
            .map(|(what, state)| (what.clone(), state.clone()))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, State>> {
        // a map of words has no half-done state worth refusing
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(state) = self.readiness.lock().get_mut(&self.what) {
            *state = State::Ready(None);
        }
    }
}

impl Item {
    /// It is waited for, and why.
    pub fn wait(&self, why: impl Into<String>) {
        self.set(State::Pending(Some(why.into())));
    }

    /// It is up.
    pub fn ready(&self) {
        self.set(State::Ready(None));
    }

    /// It serves, and is not as it should be: the note says what is wrong.
    pub fn ready_but(&self, note: impl Into<String>) {
        self.set(State::Ready(Some(note.into())));
    }

    /// Whether it is up.
    pub fn is_ready(&self) -> bool {
        matches!(self.readiness.lock().get(&self.what), Some(State::Ready(_)))
    }

    fn set(&self, state: State) {
        self.readiness.lock().insert(self.what.clone(), state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_guard_is_gone() {
        let readiness = Readiness::default();
        let pods = readiness.wait_for("list of Pods");
        let bpf = readiness.wait_for("BPF programs");
        assert_eq!(readiness.pending(), ["BPF programs", "list of Pods"]);
        drop(pods);
        assert_eq!(readiness.pending(), ["BPF programs"]);
        let items = readiness.items();
        assert_eq!(
            items,
            [
                ("BPF programs".into(), State::Pending(None)),
                ("list of Pods".into(), State::Ready(None))
            ]
        );
        drop(bpf);
        assert!(readiness.pending().is_empty());
    }

    #[test]
    fn an_item_comes_and_goes_with_its_reason() {
        let readiness = Readiness::default();
        let nodes = readiness.item("list of Nodes");
        assert_eq!(readiness.pending(), ["list of Nodes"]);
        nodes.wait("refused");
        assert_eq!(
            readiness.items(),
            [("list of Nodes".into(), State::Pending(Some("refused".into())))]
        );
        nodes.ready_but("old");
        assert!(nodes.is_ready() && readiness.pending().is_empty());
        assert_eq!(
            readiness.items(),
            [("list of Nodes".into(), State::Ready(Some("old".into())))]
        );
        nodes.ready();
        assert_eq!(readiness.items(), [("list of Nodes".into(), State::Ready(None))]);
    }
}
