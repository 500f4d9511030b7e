//! The files that may break a rule, each with its reason. An entry that nothing needs any more is itself a finding.

use super::{Finding, Rule};

/// One file that may break one rule.
pub(super) struct Exception {
    /// The rule.
    pub(super) rule: Rule,
    /// The file, from the workspace's root.
    pub(super) path: &'static str,
    /// Why it must.
    pub(super) reason: &'static str,
}

/// All exceptions.
pub(super) const EXCEPTIONS: [Exception; 7] = [
    Exception {
        rule: Rule::Files,
        path: "mesh-daemon/src/bpf/pins.rs",
        reason: "pins are files of bpffs",
    },
    Exception {
        rule: Rule::Files,
        path: "mesh-daemon/src/bpf/cgroup.rs",
        reason: "the kernel tells a process's cgroup in /proc/self, and a cgroup is a directory",
    },
    Exception {
        rule: Rule::Files,
        path: "mesh-daemon/src/app/lock.rs",
        reason: "one daemon per node: the lock is a file",
    },
    Exception {
        rule: Rule::Files,
        path: "mesh-daemon/src/app/preflight.rs",
        reason: "the kernel tells a process's capabilities in /proc/self/status",
    },
    Exception {
        rule: Rule::Files,
        path: "mesh-daemon/src/admin/socket.rs",
        reason: "a Unix socket is a file: made, guarded and removed",
    },
    Exception {
        rule: Rule::FunctionLength,
        path: "mesh-daemon/src/admin/tests.rs",
        reason: "one table of requests and answers",
    },
    Exception {
        rule: Rule::FunctionLength,
        path: "mesh-daemon/src/config/usage/tests.rs",
        reason: "one table of wrong command lines and their sentences",
    },
];

impl Exception {
    pub(super) fn covers(&self, finding: &Finding) -> bool {
        self.rule == finding.rule && self.path == finding.path
    }

    pub(super) fn stale(&self) -> Finding {
        Finding {
            rule: Rule::Stale,
            path: self.path.to_owned(),
            line: 1,
            message: format!(
                "the exception from {:?} (\"{}\") is not needed any more; remove it",
                self.rule, self.reason
            ),
        }
    }
}
