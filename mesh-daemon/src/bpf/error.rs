//! What can go wrong at the border to the kernel, each as one sentence that says what, where and what to do.

use std::{io, path::PathBuf};

use crate::telemetry::causes;

/// An error of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary carries no kernel half.
    #[error("this mesh-daemon was built without its kernel half: run `cargo xtask build-ebpf` and build it again")]
    NoObject,
    /// The kernel did not take the object.
    #[error(
        "the kernel refused Weft's BPF object: {0}; it needs kernel 6.1 or later with BPF and BTF, and CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Load(String),
    /// A program was refused.
    #[error("the kernel refused the BPF program {program}: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's words, the verifier's last lines among them.
        reason: String,
    },
    /// The object lacks something that this daemon expects.
    #[error("the embedded BPF object has no {0}: build both halves from one checkout with `cargo xtask build-ebpf`")]
    Missing(&'static str),
    /// A map could not be read or written.
    #[error("BPF map {map}: {reason}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// A program could not be attached.
    #[error("cannot attach {program} to interface {interface}: {reason}")]
    Attach {
        /// The program's name.
        program: &'static str,
        /// The interface's name.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// Somebody else's filter stands where ours would.
    #[error(
        "interface {interface} already has a filter with priority {priority} and handle {handle} that is not Weft's: \
         remove it (`tc filter show dev {interface} ingress`) or run with --attach=tcx"
    )]
    ForeignFilter {
        /// The interface's name.
        interface: String,
        /// The filter's priority.
        priority: u16,
        /// The filter's handle.
        handle: u32,
    },
    /// TCX was asked for and is not there.
    #[error("this kernel has no TCX links (they came with 6.6): run with --attach=auto or --attach=clsact")]
    NoTcx,
    /// The kernel's ear cannot be attached.
    #[error("cannot hear the kernel's round trips: {0}")]
    Ear(String),
    /// A file on the bpffs.
    #[error("cannot {action} {path}: {source}")]
    Pin {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error(
        "netlink request to {action} failed: {reason}; the daemon needs CAP_NET_ADMIN in the node's network namespace"
    )]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// The routing rules.
    #[error(transparent)]
    Steering(#[from] super::steering::SteeringError),
    /// The nftables table.
    #[error(transparent)]
    Nftables(#[from] super::nftables::NftablesError),
}

impl Error {
    /// With an aya error's whole chain of causes in words.
    pub(super) fn map(map: &'static str, error: &dyn std::error::Error) -> Self {
        Self::Map {
            map,
            reason: causes(error),
        }
    }
}
