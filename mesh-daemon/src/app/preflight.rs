//! What must be true before anything is touched: a daemon that fails halfway leaves a mess, one that refuses leaves a sentence.

/// This process's own state, capabilities among it (proc_pid_status(5)).
const STATUS: &str = "/proc/self/status";

/// A capability (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capability {
    NetAdmin,
    SysAdmin,
    Perfmon,
    Bpf,
}

/// What the daemon may not do without, and what stands for it.
const NEEDED: [(Capability, &str, Option<Capability>); 3] = [
    // attach TC programs, write rules, routes and nftables, set marks, open transparent sockets
    (Capability::NetAdmin, "CAP_NET_ADMIN", None),
    // load programs, make maps
    (Capability::Bpf, "CAP_BPF", Some(Capability::SysAdmin)),
    // without it the verifier limits pointer arithmetic and comparison as for unprivileged programs
    (Capability::Perfmon, "CAP_PERFMON", Some(Capability::SysAdmin)),
];

/// What is read of this process and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    /// Effective capabilities, one bit each.
    capabilities: u64,
    /// The kernel's release, for people.
    kernel: String,
}

/// Why the daemon refuses to start.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Something the daemon may not do.
    #[error(
        "{missing} missing on kernel {kernel}: run as root, or add {what} to the container's securityContext.capabilities",
        missing = verb(.missing),
        what = .missing.join(", ")
    )]
    Capabilities {
        /// The capabilities' names.
        missing: Vec<&'static str>,
        /// The kernel's release.
        kernel: String,
    },
    /// The kernel does not say what this process may do.
    #[error("cannot read the capabilities of this process from {STATUS} ({0}): mount procfs at /proc")]
    Unreadable(std::io::Error),
}

/// Checks that this process may do what the daemon does.
///
/// # Errors
/// Names what is missing.
pub fn check() -> Result<(), PreflightError> {
    may_run(read()?)
}

fn may_run(facts: Facts) -> Result<(), PreflightError> {
    let Facts { capabilities, kernel } = facts;
    let has = |capability: Capability| capabilities & capability.bit() != 0;
    let missing: Vec<_> = NEEDED
        .into_iter()
        .filter(|(capability, _, substitute)| !has(*capability) && !substitute.is_some_and(has))
        .map(|(_, name, _)| name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(PreflightError::Capabilities { missing, kernel })
    }
}

fn read() -> Result<Facts, PreflightError> {
    let status = std::fs::read_to_string(STATUS).map_err(PreflightError::Unreadable)?;
    let capabilities = effective_capabilities(&status)
        .ok_or_else(|| PreflightError::Unreadable(std::io::Error::other("no line CapEff")))?;
    let kernel = nix::sys::utsname::uname().map(|uts| uts.release().to_string_lossy().into_owned());
    Ok(Facts {
        capabilities,
        kernel: kernel.unwrap_or_else(|_| "of unknown release".to_owned()),
    })
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn verb(missing: &[&str]) -> String {
    format!(
        "{} {}",
        missing.join(", "),
        if missing.len() == 1 { "is" } else { "are" }
    )
}

impl Capability {
    /// Numbers of include/uapi/linux/capability.h.
    const fn bit(self) -> u64 {
        1 << match self {
            Self::NetAdmin => 12,
            Self::SysAdmin => 21,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        for (status, expected) in [
            (
                "Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n",
                Some(0x1ff_feff_ffff),
            ),
            ("CapEff:\t0000000000000000\n", Some(0)),
            ("CapPrm:\t0000000000000001\n", None),
            ("CapEff:\tmany\n", None),
            ("", None),
        ] {
            assert_eq!(effective_capabilities(status), expected, "{status:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        use Capability as C;
        let all = C::NetAdmin.bit() | C::Bpf.bit() | C::Perfmon.bit();
        for (capabilities, expected) in [
            (all, None),
            (u64::MAX, None),
            (C::NetAdmin.bit() | C::SysAdmin.bit(), None),
            (
                0,
                Some("CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON are missing on kernel 6.1.0"),
            ),
            (C::SysAdmin.bit(), Some("CAP_NET_ADMIN is missing")),
            (all & !C::Perfmon.bit(), Some("CAP_PERFMON is missing")),
            (all & !C::Bpf.bit(), Some("add CAP_BPF to the container's")),
        ] {
            let result = may_run(Facts {
                capabilities,
                kernel: "6.1.0".to_owned(),
            });
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
                (result, _) => panic!("{capabilities:#x}: {result:?}"),
            }
        }
    }

    #[test]
    fn this_process_can_be_read() {
        let facts = read().unwrap();
        assert!(facts.kernel.starts_with(|c: char| c.is_ascii_digit()), "{facts:?}");
    }
}
