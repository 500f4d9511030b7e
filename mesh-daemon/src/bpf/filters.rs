//! clsact filters: the way to attach where the kernel has no TCX. One filter per interface at a fixed priority and handle, replaced in
//! place; nobody else's filter or qdisc is touched.

use aya::programs::{
    SchedClassifier, TcAttachType,
    links::Link as _,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcOption};

use super::{
    Error,
    pins::{self, Pins},
};
use crate::telemetry::causes;

/// Priority of our filter. Low numbers run first; 1 to 48 are left to CNIs, which use the first few.
pub const PRIORITY: u16 = 49;
/// Handle of our filter.
pub const HANDLE: u32 = 1;
/// What every program of ours is called like.
const NAME_PREFIX: &str = "weft_";

/// A filter that stands on an interface's ingress or egress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its priority.
    pub priority: u16,
    /// Its handle.
    pub handle: u32,
    /// The BPF program's name, if it is a BPF filter.
    pub program: Option<String>,
}

impl Filter {
    /// Whether it is one of Weft's.
    pub fn is_ours(&self) -> bool {
        self.program
            .as_deref()
            .is_some_and(|name| name.starts_with(NAME_PREFIX))
    }
}

/// Attaches the program, or replaces the one that stands at our priority and handle.
///
/// # Errors
/// [`Error::ForeignFilter`] if somebody else's filter stands there; [`Error::Attach`].
pub async fn attach(
    netlink: &rtnetlink::Handle,
    pins: &Pins,
    program: &mut SchedClassifier,
    name: &'static str,
    ifindex: u32,
    interface: &str,
) -> Result<(), Error> {
    let refused = |error: &dyn std::error::Error| Error::Attach {
        program: name,
        interface: interface.to_owned(),
        reason: causes(error),
    };
    let standing = on_ingress(netlink, ifindex).await?;
    let slot = standing
        .iter()
        .find(|filter| filter.priority == PRIORITY && filter.handle == HANDLE);
    let link = match slot {
        Some(filter) if filter.is_ours() => program
            .attach_to_link(own_link(interface).map_err(|error| refused(&error))?)
            .map_err(|error| refused(&error))?,
        Some(_) => {
            return Err(Error::ForeignFilter {
                interface: interface.to_owned(),
                priority: PRIORITY,
                handle: HANDLE,
            });
        }
        None => {
            add_qdisc(pins, ifindex, interface).map_err(|error| refused(&error))?;
            let options = NlOptions {
                priority: PRIORITY,
                handle: TcHandle::from(HANDLE),
                ..NlOptions::default()
            };
            program
                .attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
                .map_err(|error| refused(&error))?
        }
    };
    // dropped, the link would take the filter with it; the filter must outlive this process
    std::mem::forget(program.take_link(link).map_err(|error| refused(&error))?);
    Ok(())
}

/// Removes our filters from an interface, and its clsact qdisc if we added it and nobody else uses it.
///
/// # Errors
/// [`Error::Attach`] or [`Error::Netlink`].
pub async fn detach(netlink: &rtnetlink::Handle, pins: &Pins, ifindex: u32, interface: &str) -> Result<(), Error> {
    for filter in on_ingress(netlink, ifindex)
        .await?
        .iter()
        .filter(|filter| filter.is_ours())
    {
        let handle = TcHandle::from(filter.handle);
        SchedClassifierLink::attached(interface, TcAttachType::Ingress, filter.priority, handle, None)
            .map_err(aya::programs::ProgramError::from)
            .and_then(SchedClassifierLink::detach)
            .map_err(|error| Error::Attach {
                program: "no program",
                interface: interface.to_owned(),
                reason: causes(&error),
            })?;
    }
    if pins.own_qdiscs().contains(&ifindex) {
        if is_unused(netlink, ifindex).await? {
            delete_qdisc(netlink, ifindex).await?;
        }
        pins::remember_qdisc(pins, ifindex, false);
    }
    Ok(())
}

/// Filters on an interface's ingress; none where it has no qdisc for them.
///
/// # Errors
/// [`Error::Netlink`].
pub async fn on_ingress(netlink: &rtnetlink::Handle, ifindex: u32) -> Result<Vec<Filter>, Error> {
    let netlink = netlink.clone();
    read(netlink.traffic_filter(netlink_index(ifindex)).get().ingress().execute()).await
}

async fn on_egress(netlink: &rtnetlink::Handle, ifindex: u32) -> Result<Vec<Filter>, Error> {
    let netlink = netlink.clone();
    read(netlink.traffic_filter(netlink_index(ifindex)).get().egress().execute()).await
}

async fn is_unused(netlink: &rtnetlink::Handle, ifindex: u32) -> Result<bool, Error> {
    Ok(on_ingress(netlink, ifindex).await?.is_empty() && on_egress(netlink, ifindex).await?.is_empty())
}

async fn read(
    messages: impl futures_util::Stream<Item = Result<rtnetlink::packet_route::tc::TcMessage, rtnetlink::Error>>,
) -> Result<Vec<Filter>, Error> {
    let mut filters = Vec::new();
    let mut messages = std::pin::pin!(messages);
    while let Some(message) = messages.next().await {
        let message = match message {
            Ok(message) => message,
            // no clsact qdisc, or the interface is gone: no filters
            Err(rtnetlink::Error::NetlinkError(refused))
                if refused
                    .code
                    .is_some_and(|code| matches!(-code.get(), libc::EINVAL | libc::ENOENT | libc::ENODEV)) =>
            {
                break;
            }
            Err(error) => {
                return Err(Error::Netlink {
                    action: "list TC filters",
                    reason: error.to_string(),
                });
            }
        };
        let handle = u32::from(message.header.handle);
        // a filter without a handle is the header of its priority, not a filter
        if handle != 0 {
            let priority = u16::try_from(message.header.info >> 16).unwrap_or_default();
            filters.push(Filter {
                priority,
                handle,
                program: program_name(&message.attributes),
            });
        }
    }
    Ok(filters)
}

fn program_name(attributes: &[TcAttribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name.clone()),
            _ => None,
        }),
        _ => None,
    })
}

fn add_qdisc(pins: &Pins, ifindex: u32, interface: &str) -> Result<(), TcError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => {
            pins::remember_qdisc(pins, ifindex, true);
            Ok(())
        }
        // somebody else's clsact serves as well
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn delete_qdisc(netlink: &rtnetlink::Handle, ifindex: u32) -> Result<(), Error> {
    use rtnetlink::packet_route::tc::TcHandle;
    let netlink = netlink.clone();
    let mut request = netlink.qdisc().del(netlink_index(ifindex));
    let message = request.message_mut();
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle::from(0xffff_0000);
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    request.execute().await.map_err(|error| Error::Netlink {
        action: "remove the clsact qdisc",
        reason: error.to_string(),
    })
}

fn own_link(interface: &str) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, TcHandle::from(HANDLE), None)
}

fn netlink_index(ifindex: u32) -> i32 {
    // the kernel's interface indexes are positive ints
    i32::try_from(ifindex).unwrap_or(i32::MAX)
}

/// Interfaces of this namespace by index.
///
/// # Errors
/// [`Error::Netlink`].
pub async fn interfaces(netlink: &rtnetlink::Handle) -> Result<Vec<(u32, String)>, Error> {
    use rtnetlink::packet_route::link::LinkAttribute;
    let links: Vec<_> = netlink
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|error| Error::Netlink {
            action: "list interfaces",
            reason: error.to_string(),
        })?;
    Ok(links
        .into_iter()
        .filter_map(|link| {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })?;
            Some((link.header.index, name))
        })
        .collect())
}
