//! Programs on interfaces: level-triggered. Each call makes the node look like the model's attachments; what stands already is replaced in
//! place, so there is no moment without a program.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, SkLookup, TcAttachType,
        links::{FdLink, PinnedLink},
        sk_lookup::SkLookupLink,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use mesh_common::names::PROGRAM_REOPEN;

use super::{
    Error, filters,
    pins::{self, Pins},
};
use crate::{
    config::AttachMode,
    model::{Attachment, Program},
    telemetry::causes,
};

/// How programs are attached on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Pinned TCX links.
    Tcx,
    /// clsact filters.
    Clsact,
}

impl Way {
    /// What the administrator asked for, as far as this kernel has it.
    ///
    /// # Errors
    /// [`Error::NoTcx`] if TCX was asked for and is not there.
    pub fn choose(asked: AttachMode) -> Result<Self, Error> {
        match asked {
            AttachMode::Clsact => Ok(Self::Clsact),
            AttachMode::Auto | AttachMode::Tcx if kernel_has_tcx() => Ok(Self::Tcx),
            AttachMode::Auto => Ok(Self::Clsact),
            AttachMode::Tcx => Err(Error::NoTcx),
        }
    }
}

/// A kernel without TCX does not know the query either.
fn kernel_has_tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// What stands where, as far as this process knows.
#[derive(Debug)]
pub struct Attached {
    way: Way,
    pins: Pins,
    netlink: rtnetlink::Handle,
    standing: BTreeMap<u32, Attachment>,
    pruned: bool,
}

impl Attached {
    /// Nothing is known yet: the first call of [`Attached::apply`] replaces what a predecessor left, and removes what is not wanted.
    pub fn new(way: Way, pins: Pins, netlink: rtnetlink::Handle) -> Self {
        Self {
            way,
            pins,
            netlink,
            standing: BTreeMap::new(),
            pruned: false,
        }
    }

    /// Forgets what stands, so that the next call attaches everything anew: mends what somebody else removed.
    pub fn forget(&mut self) {
        self.standing.clear();
        self.pruned = false;
    }

    /// Attaches what is wanted and detaches what is not. Interfaces without pods come first: a pod's own program is the last, when every
    /// way back stands. Gives the interfaces that failed.
    pub async fn apply(&mut self, ebpf: &mut Ebpf, want: &BTreeMap<u32, Attachment>) -> Vec<(u32, Error)> {
        let mut failed = Vec::new();
        for last in [false, true] {
            for (ifindex, attachment) in want {
                let is_pod = attachment.program == Program::FromPod;
                if is_pod != last || self.standing.get(ifindex) == Some(attachment) {
                    continue;
                }
                match self.attach(ebpf, *ifindex, attachment).await {
                    Ok(()) => {
                        self.standing.insert(*ifindex, attachment.clone());
                    }
                    // it went while we looked: the facts will say so too
                    Err(error) if !is_there(*ifindex, &attachment.interface) => {
                        tracing::debug!(%error, "an interface is gone");
                    }
                    Err(error) => failed.push((*ifindex, error)),
                }
            }
        }
        if let Err(error) = self.prune(want).await {
            tracing::warn!(%error, "cannot remove programs that are not wanted any more; trying again at the next change");
        }
        failed
    }

    async fn attach(&self, ebpf: &mut Ebpf, ifindex: u32, attachment: &Attachment) -> Result<(), Error> {
        let name = attachment.program.name();
        let program = classifier(ebpf, name)?;
        match self.way {
            Way::Tcx => attach_tcx(&self.pins, program, name, ifindex, &attachment.interface),
            Way::Clsact => {
                filters::attach(&self.netlink, &self.pins, program, name, ifindex, &attachment.interface).await
            }
        }
    }

    /// Detaches what is not wanted: links by their pins, filters on interfaces that this process knew; on the first call everywhere.
    async fn prune(&mut self, want: &BTreeMap<u32, Attachment>) -> Result<(), Error> {
        for (ifindex, program, path) in self.pins.pinned_links() {
            let wanted = want
                .get(&ifindex)
                .is_some_and(|attachment| attachment.program.name() == program);
            if self.way != Way::Tcx || !wanted {
                pins::remove_file(&path)?;
            }
        }
        let first = !std::mem::replace(&mut self.pruned, true);
        let gone: Vec<u32> = self
            .standing
            .keys()
            .filter(|ifindex| !want.contains_key(ifindex))
            .copied()
            .collect();
        if first || (self.way == Way::Clsact && !gone.is_empty()) {
            for (ifindex, interface) in filters::interfaces(&self.netlink).await? {
                if self.way == Way::Tcx || !want.contains_key(&ifindex) {
                    filters::detach(&self.netlink, &self.pins, ifindex, &interface).await?;
                }
            }
        }
        for ifindex in gone {
            self.standing.remove(&ifindex);
        }
        Ok(())
    }
}

/// Whether the interface still exists under this name and index.
fn is_there(ifindex: u32, name: &str) -> bool {
    nix::net::if_::if_nametoindex(name) == Ok(ifindex)
}

/// The program of this name.
///
/// # Errors
/// [`Error::Missing`].
pub fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, Error> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(Error::Missing(name))
}

/// The sk_lookup program.
///
/// # Errors
/// [`Error::Missing`].
pub fn reopen(ebpf: &mut Ebpf) -> Result<&mut SkLookup, Error> {
    let program = ebpf.program_mut(PROGRAM_REOPEN);
    program
        .and_then(|program| program.try_into().ok())
        .ok_or(Error::Missing(PROGRAM_REOPEN))
}

/// Attaches the sk_lookup program to this network namespace for as long as the link lives: without a daemon it has no listener to name.
///
/// # Errors
/// [`Error::Attach`].
pub fn attach_reopen(ebpf: &mut Ebpf) -> Result<SkLookupLink, Error> {
    let refused = |error: &dyn std::error::Error| Error::Attach {
        program: PROGRAM_REOPEN,
        interface: "(network namespace)".to_owned(),
        reason: causes(error),
    };
    let namespace = pins::network_namespace().map_err(|error| refused(&error))?;
    let program = reopen(ebpf)?;
    let id = program.attach(namespace).map_err(|error| refused(&error))?;
    program.take_link(id).map_err(|error| refused(&error))
}

/// Replaces the program of the link that a predecessor pinned, or attaches anew and pins.
fn attach_tcx(
    pins: &Pins,
    program: &mut SchedClassifier,
    name: &'static str,
    ifindex: u32,
    interface: &str,
) -> Result<(), Error> {
    let path = pins.link(ifindex, name);
    if let Some(link) = pinned(&path) {
        match program.attach_to_link(link) {
            // the pin holds it; ours is dropped
            Ok(id) => {
                return program
                    .take_link(id)
                    .map(drop)
                    .map_err(|error| refused(name, interface, &error));
            }
            // the interface of that index is gone, or somebody detached it: attach anew
            Err(error) if is_defunct(&error) => pins::remove_file(&path)?,
            // whatever else it is, the predecessor's program still stands: unpinning would take it away
            Err(error) => return Err(refused(name, interface, &error)),
        }
    }
    let id = program
        .attach_with_options(
            interface,
            TcAttachType::Ingress,
            TcAttachOptions::TcxOrder(LinkOrder::default()),
        )
        .map_err(|error| refused(name, interface, &error))?;
    let link = program
        .take_link(id)
        .map_err(|error| refused(name, interface, &error))?;
    let link: FdLink = link.try_into().map_err(|error| refused(name, interface, &error))?;
    link.pin(&path)
        .map(drop)
        .map_err(|error| refused(name, interface, &error))
}

fn pinned(path: &std::path::Path) -> Option<SchedClassifierLink> {
    FdLink::from(PinnedLink::from_pin(path).ok()?).try_into().ok()
}

fn is_defunct(error: &ProgramError) -> bool {
    match error {
        ProgramError::SyscallError(error) => {
            matches!(
                error.io_error.raw_os_error(),
                Some(libc::ENOLINK | libc::ENOENT | libc::ENODEV)
            )
        }
        _ => false,
    }
}

fn refused(program: &'static str, interface: &str, error: &dyn std::error::Error) -> Error {
    Error::Attach {
        program,
        interface: interface.to_owned(),
        reason: causes(error),
    }
}
