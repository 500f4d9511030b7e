//! Readiness: every part that must be up before the node is ready holds a [`Pending`] and drops it when it is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// What is still waited for.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeSet<String>>>,
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
        self.lock().insert(what.clone());
        Pending {
            what,
            readiness: self.clone(),
        }
    }

    /// What is still waited for, in order; empty when ready.
    pub fn pending(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        // a set of strings has no half-done state worth refusing
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.readiness.lock().remove(&self.what);
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
        drop(bpf);
        assert!(readiness.pending().is_empty());
    }
}
