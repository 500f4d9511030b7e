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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Still waited for.
    Pending,
    /// Up.
    Ready,
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
        let what = what.into();
        self.lock().insert(what.clone(), State::Pending);
        Pending {
            what,
            readiness: self.clone(),
        }
    }

    /// What is still waited for, in order; empty when ready.
    pub fn pending(&self) -> Vec<String> {
        let items = self.lock();
        items
            .iter()
            .filter(|(_, state)| **state == State::Pending)
            .map(|(what, _)| what.clone())
            .collect()
    }

    /// Everything that was ever waited for, in order.
    pub fn items(&self) -> Vec<(String, State)> {
        self.lock().iter().map(|(what, state)| (what.clone(), *state)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, State>> {
        // a map of words has no half-done state worth refusing
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(state) = self.readiness.lock().get_mut(&self.what) {
            *state = State::Ready;
        }
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
                ("BPF programs".into(), State::Pending),
                ("list of Pods".into(), State::Ready)
            ]
        );
        drop(bpf);
        assert!(readiness.pending().is_empty());
    }
}
