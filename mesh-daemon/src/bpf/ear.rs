//! The kernel's ear: a sockops program on the daemon's own cgroup keeps what the kernel knows of connections to endpoints. The daemon goes
//! on without it where the kernel does not have it: nothing but figures is lost.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::Arc,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData},
    programs::{CgroupAttachMode, SockOps, sock_ops::SockOpsLink},
};
use mesh_common::{
    names,
    round_trip::{self, EndpointKey, ROUND_TRIPS_MAX, UNITS_PER_MICRO},
};
// sockopt_impl is made of getsockopt_impl and does not name where it is
use nix::{getsockopt_impl, sockopt_impl};

use super::{
    Error, Metrics, cgroup,
    table::{Changed, KernelHash, Table},
};
use crate::telemetry::causes;

/// Nanoseconds in a microsecond.
const NANOS_PER_MICRO: u64 = 1000;

sockopt_impl!(
    /// The number of a socket's network namespace that no other one ever has on this machine (`SO_NETNS_COOKIE`, Linux 5.14).
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// What the kernel heard of the connections to one endpoint, running and ended ones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Smoothed round trip of the network (RFC 6298): from a segment to its acknowledgement. One that waits for the answer to travel with
    /// it (RFC 1122, 4.2.3.2; Linux waits 40 ms at most) counts the server's time too.
    pub smoothed: Duration,
    /// Round trips that went into it, about one for each that a connection makes.
    pub samples: u64,
    /// Segments that were sent again, those of handshakes among them.
    pub retransmits: u64,
}

type Heard = HashMap<MapData, EndpointKey, round_trip::RoundTrip>;

/// What the kernel heard, by endpoint. Cheap to clone, readable from every thread; empty where there is no ear.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    map: Option<Arc<Heard>>,
}

/// The attached program and the right to forget. Neither is pinned: both end with the process, as the connections do that they are about.
#[derive(Debug)]
pub struct Ear {
    table: KernelHash<EndpointKey, round_trip::RoundTrip>,
    round_trips: RoundTrips,
    _link: SockOpsLink,
}

/// The cookie of this thread's network namespace; 0 where the kernel does not tell it, and then there is no ear.
pub fn netns_cookie() -> u64 {
    let cookie = std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)))
        .and_then(|socket| Ok(nix::sys::socket::getsockopt(&socket, NetnsCookie)?));
    cookie.unwrap_or_default()
}

impl Ear {
    /// Loads the program and attaches it to the daemon's own cgroup, or says in the log why not.
    pub fn try_start(ebpf: &mut Ebpf, cookie: u64, metrics: &Metrics) -> Option<Self> {
        let started = Self::start(ebpf, cookie);
        metrics.hears(started.is_ok());
        started
            .inspect_err(|error| tracing::warn!(%error, "going on without the kernel's round trips"))
            .ok()
    }

    fn start(ebpf: &mut Ebpf, cookie: u64) -> Result<Self, Error> {
        if cookie == 0 {
            return Err(Error::Ear(
                "this kernel tells no cookie of a network namespace (it came with 5.14)".to_owned(),
            ));
        }
        let map = ebpf
            .take_map(names::MAP_ROUND_TRIPS)
            .ok_or(Error::Missing(names::MAP_ROUND_TRIPS))?;
        let program: &mut SockOps = ebpf
            .program_mut(names::PROGRAM_EAR)
            .and_then(|program| program.try_into().ok())
            .ok_or(Error::Missing(names::PROGRAM_EAR))?;
        let refused = |error: &dyn std::error::Error| Error::Ear(causes(error));
        program.load().map_err(|error| refused(&error))?;
        let (path, cgroup) = cgroup::own().map_err(|error| refused(&error))?;
        // the kernel lets any number of links stand on a cgroup; the mode is for kernels without links
        let link = program
            .attach(cgroup, CgroupAttachMode::Single)
            .and_then(|id| program.take_link(id))
            .map_err(|error| Error::Ear(format!("cgroup {}: {}", path.display(), causes(&error))))?;
        tracing::debug!(cgroup = %path.display(), "the kernel's round trips are heard");
        Ok(Self {
            round_trips: RoundTrips::of(again(&map)?)?,
            table: KernelHash::new(names::MAP_ROUND_TRIPS, ROUND_TRIPS_MAX, opened(map)?),
            _link: link,
        })
    }

    /// What is heard.
    pub fn round_trips(&self) -> RoundTrips {
        self.round_trips.clone()
    }

    /// Forgets every endpoint but these. A connection that still runs does not bring one back; a new one does.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn retain(&mut self, present: &HashSet<SocketAddr>, metrics: &Metrics) -> Result<(), Error> {
        let have = self.table.read()?;
        let gone: Vec<_> = have.keys().filter(|key| !present.contains(&address(**key))).collect();
        for key in &gone {
            self.table.delete(key)?;
        }
        let changed = Changed {
            upserts: 0,
            deletes: gone.len() as u64,
        };
        metrics.synced(
            self.table.name(),
            &changed,
            have.len() - gone.len(),
            self.table.capacity(),
        );
        Ok(())
    }
}

impl RoundTrips {
    fn of(map: Map) -> Result<Self, Error> {
        Ok(Self {
            map: Some(Arc::new(opened(map)?)),
        })
    }

    /// What was heard of the connections to this endpoint; `None` before the first round trip.
    pub fn get(&self, endpoint: SocketAddr) -> Option<RoundTrip> {
        self.map.as_ref()?.get(&key(endpoint), 0).ok().and_then(heard)
    }

    /// Everything that was heard. A look-up in the kernel for each entry: for people, not for the data path.
    pub fn all(&self) -> BTreeMap<SocketAddr, RoundTrip> {
        let entries = self.map.iter().flat_map(|map| map.iter().flatten());
        entries
            .filter_map(|(key, value)| Some((address(key), heard(value)?)))
            .collect()
    }
}

/// A second handle of the same map, so that readers need not wait for the one who forgets.
fn again(map: &Map) -> Result<Map, Error> {
    let Map::HashMap(data) = map else {
        return Err(Error::Missing(names::MAP_ROUND_TRIPS));
    };
    let refused = |error: &dyn std::error::Error| Error::Ear(causes(error));
    let descriptor = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| refused(&error))?;
    MapData::from_fd(descriptor)
        .map(Map::HashMap)
        .map_err(|error| refused(&error))
}

fn opened(map: Map) -> Result<Heard, Error> {
    map.try_into()
        .map_err(|error| Error::map(names::MAP_ROUND_TRIPS, &error))
}

fn key(endpoint: SocketAddr) -> EndpointKey {
    EndpointKey {
        addr: endpoint.ip().into(),
        port: u32::from(endpoint.port()),
    }
}

fn address(key: EndpointKey) -> SocketAddr {
    // ports have 16 bits; what else somebody wrote there names no endpoint
    SocketAddr::new(key.addr.into(), u16::try_from(key.port).unwrap_or_default())
}

fn heard(value: round_trip::RoundTrip) -> Option<RoundTrip> {
    let round_trip::RoundTrip {
        smoothed,
        samples,
        retransmits,
    } = value;
    (samples > 0).then(|| RoundTrip {
        smoothed: Duration::from_nanos(smoothed.saturating_mul(NANOS_PER_MICRO / UNITS_PER_MICRO)),
        samples,
        retransmits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_map_is_told_in_time_and_none_before_the_first_sample() {
        let value = |smoothed, samples, retransmits| round_trip::RoundTrip {
            smoothed,
            samples,
            retransmits,
        };
        for (value, expected) in [
            (value(8 * 250, 3, 2), Some((Duration::from_micros(250), 3, 2))),
            (value(1, 1, 0), Some((Duration::from_nanos(125), 1, 0))),
            (value(0, 0, 4), None),
            (value(u64::MAX, 1, 0), Some((Duration::from_nanos(u64::MAX), 1, 0))),
        ] {
            let told = heard(value).map(|heard| (heard.smoothed, heard.samples, heard.retransmits));
            assert_eq!(told, expected, "{value:?}");
        }
    }

    #[test]
    fn an_endpoint_and_its_key_are_the_same_address() {
        for text in ["10.1.0.2:80", "[fd00::2]:65535"] {
            let endpoint: SocketAddr = text.parse().unwrap();
            assert_eq!(address(key(endpoint)), endpoint);
        }
    }

    #[test]
    fn without_an_ear_nothing_is_heard() {
        let round_trips = RoundTrips::default();
        assert_eq!(round_trips.get("10.1.0.2:80".parse().unwrap()), None);
        assert!(round_trips.all().is_empty());
    }

    #[test]
    fn this_namespace_has_a_cookie_and_keeps_it() {
        let cookie = netns_cookie();
        assert_ne!(cookie, 0);
        assert_eq!(cookie, netns_cookie());
    }
}
