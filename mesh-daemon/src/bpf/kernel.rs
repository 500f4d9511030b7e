//! The loaded kernel half: made once at start, told the model's tables at every snapshot, and pinned so that it outlives the daemon.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    os::fd::AsRawFd,
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, Map, MapInfo, PerCpuArray, RingBuf, SockMap},
};
use mesh_common::{
    addr::Addr,
    capture::{IFACE_CAPTURED, IFACES_MAX, Iface, NODE_ADDRS_MAX, POD_RANGES_MAX},
    names,
    service::{SERVICES_MAX, ServiceKey, ServiceValue},
    settings::{LISTENER_SLOTS, Settings, listener_slot},
};

use super::{
    Error, Metrics, RoundTrips,
    attach::{self, Attached, Way},
    ear::{self, Ear},
    object,
    pins::{self, Pins},
    table::{KernelHash, KernelTrie, Table, reconcile},
};
use aya::programs::sk_lookup::SkLookupLink;

use crate::{config::KernelSettings, model::Tables, telemetry::causes};

/// The kernel half, loaded.
pub struct Kernel {
    ebpf: Ebpf,
    attached: Attached,
    pins: Pins,
    metrics: Metrics,
    settings: Array<aya::maps::MapData, Settings>,
    listeners: SockMap<aya::maps::MapData>,
    ifaces: KernelHash<u32, Iface>,
    services: KernelHash<ServiceKey, ServiceValue>,
    node_addrs: KernelHash<Addr, u32>,
    pod_ranges: KernelTrie,
    known: Known,
    /// What was handed over, for when somebody else changes it; and the attached sk_lookup program, which ends with this process.
    listening: Option<Listening>,
    /// Where the kernel has it.
    ear: Option<Ear>,
}

struct Listening {
    marks: Settings,
    workers: Vec<ListenerFds>,
    _reopen: SkLookupLink,
}

/// What the maps hold, as far as is known; `None` after a start or an error.
#[derive(Debug, Default)]
struct Known {
    ifaces: Option<BTreeMap<u32, Iface>>,
    services: Option<BTreeMap<ServiceKey, ServiceValue>>,
    node_addrs: Option<BTreeMap<Addr, u32>>,
    pod_ranges: Option<BTreeMap<(u32, Addr), u32>>,
}

/// A worker's listeners, as descriptors.
#[derive(Clone, Copy, Debug)]
pub struct ListenerFds {
    /// The IPv4 listener.
    pub v4: std::os::fd::RawFd,
    /// The IPv6 listener; `None` on a node without IPv6.
    pub v6: Option<std::os::fd::RawFd>,
}

/// What one application of the tables left undone.
#[derive(Debug, Default)]
pub struct Applied {
    /// Interfaces where no program could be attached, with the reason.
    pub failed: Vec<(u32, Error)>,
    /// Whether a way back is missing, so that capture was held back on every interface.
    pub held_back: bool,
}

impl Kernel {
    /// Loads maps and programs. Maps of a predecessor are taken over with their contents; nothing is attached yet.
    ///
    /// # Errors
    /// Each says what the kernel refused and what it needs.
    pub fn load(settings: &KernelSettings, netlink: rtnetlink::Handle, metrics: Metrics) -> Result<Self, Error> {
        let bytes = object::bytes()?;
        let way = Way::choose(settings.attach)?;
        let pins = Pins::new(&settings.pin_dir);
        pins.create()?;
        drop_misfits(&pins)?;
        let netns = ear::netns_cookie();
        let mut loader = EbpfLoader::new();
        loader.override_global(names::GLOBAL_NETNS, &netns, true);
        for name in names::MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
        let mut ebpf = loader.load(bytes).map_err(|error| Error::Load(causes(&error)))?;
        #[cfg(feature = "ebpf-log")]
        super::debug_log::start(&mut ebpf);
        for program in names::PROGRAMS {
            attach::classifier(&mut ebpf, program)?
                .load()
                .map_err(|error| Error::Program {
                    program,
                    reason: causes(&error),
                })?;
        }
        attach::reopen(&mut ebpf)?.load().map_err(|error| Error::Program {
            program: names::PROGRAM_REOPEN,
            reason: causes(&error),
        })?;
        let mut kernel = Self {
            attached: Attached::new(way, pins.clone(), netlink),
            pins,
            metrics,
            settings: take(&mut ebpf, names::MAP_SETTINGS)?,
            listeners: take(&mut ebpf, names::MAP_LISTENERS)?,
            ifaces: KernelHash::new(
                names::MAP_IFACES,
                IFACES_MAX,
                take::<HashMap<_, _, _>>(&mut ebpf, names::MAP_IFACES)?,
            ),
            services: KernelHash::new(
                names::MAP_SERVICES,
                SERVICES_MAX,
                take::<HashMap<_, _, _>>(&mut ebpf, names::MAP_SERVICES)?,
            ),
            node_addrs: KernelHash::new(
                names::MAP_NODE_ADDRS,
                NODE_ADDRS_MAX,
                take::<HashMap<_, _, _>>(&mut ebpf, names::MAP_NODE_ADDRS)?,
            ),
            pod_ranges: KernelTrie::new(
                names::MAP_POD_RANGES,
                POD_RANGES_MAX,
                take::<LpmTrie<_, _, _>>(&mut ebpf, names::MAP_POD_RANGES)?,
            ),
            ebpf,
            known: Known::default(),
            listening: None,
            ear: None,
        };
        // the marks must be known before a program stands; no listener is there yet
        kernel.tell(Settings {
            workers: 0,
            ..settings.marks
        })?;
        kernel.ear = Ear::try_start(&mut kernel.ebpf, netns, &kernel.metrics);
        Ok(kernel)
    }

    /// Takes the counters for the metrics endpoint; once.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Map`].
    pub fn take_counters(&mut self) -> Result<PerCpuArray<aya::maps::MapData, u64>, Error> {
        take(&mut self.ebpf, names::MAP_COUNTERS)
    }

    /// Takes the ring buffer of dropped packets; once.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Map`].
    pub fn take_events(&mut self) -> Result<RingBuf<aya::maps::MapData>, Error> {
        take(&mut self.ebpf, names::MAP_EVENTS)
    }

    /// Takes what the ear counts, for the metrics endpoint; once.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Map`].
    pub fn take_heard(&mut self) -> Result<PerCpuArray<aya::maps::MapData, u64>, Error> {
        take(&mut self.ebpf, names::MAP_HEARD)
    }

    /// What the kernel knows of the daemon's connections to endpoints.
    pub fn round_trips(&self) -> RoundTrips {
        self.ear.as_ref().map(Ear::round_trips).unwrap_or_default()
    }

    /// Forgets the round trips of every endpoint but these. That it failed is said: the next call tries again.
    pub fn retain_round_trips(&mut self, present: &HashSet<SocketAddr>) {
        if let Some(ear) = &mut self.ear
            && let Err(error) = ear.retain(present, &self.metrics)
        {
            tracing::warn!(%error, "cannot forget the round trips of endpoints that are gone; trying again later");
        }
    }

    /// Makes programs stand where the tables say. The first half of applying a snapshot: with it every way back stands, before the proxy
    /// learns of new endpoints and dials them.
    ///
    /// # Errors
    /// [`Error::Map`]: the node's own addresses must be known before a program stands.
    pub async fn attach(&mut self, tables: &Tables) -> Result<Applied, Error> {
        let node_addrs = tables.node_addrs.iter().map(|addr| (*addr, 1)).collect();
        sync(
            &mut self.node_addrs,
            &mut self.known.node_addrs,
            &node_addrs,
            &self.metrics,
        )?;
        let failed = self.attached.apply(&mut self.ebpf, &tables.attachments).await;
        self.metrics
            .attached(tables.attachments.len().saturating_sub(failed.len()), failed.len());
        Ok(Applied {
            held_back: !failed.is_empty(),
            failed,
        })
    }

    /// Makes the maps equal to the tables, what is captured last: the second half, after the proxy knows the snapshot. As long as a program
    /// is missing on an interface that exists, answers could come in there unseen, so no pod is captured.
    ///
    /// # Errors
    /// [`Error::Map`]; what was written stays, the next call goes on from what the maps then hold.
    pub fn capture(&mut self, tables: &Tables, applied: &Applied) -> Result<(), Error> {
        let pod_ranges = tables.pod_ranges.iter().map(|range| (*range, 1)).collect();
        sync(
            &mut self.pod_ranges,
            &mut self.known.pod_ranges,
            &pod_ranges,
            &self.metrics,
        )?;
        sync(
            &mut self.services,
            &mut self.known.services,
            &tables.services,
            &self.metrics,
        )?;
        let ifaces = capturing(tables, applied.held_back);
        sync(&mut self.ifaces, &mut self.known.ifaces, &ifaces, &self.metrics)
    }

    /// Lets the next [`Kernel::attach`] and [`Kernel::capture`] look at the kernel again instead of trusting what is known: mends what others changed.
    pub fn distrust(&mut self) {
        self.known = Known::default();
        self.attached.forget();
        if let Err(error) = self.write_listeners() {
            tracing::warn!(%error, "cannot hand the listeners over again; trying again later");
        }
    }

    /// Hands the workers' listeners to the kernel half: from here on new connections come to the daemon. The slots empty themselves when
    /// the listeners close.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Attach`].
    pub fn listen(&mut self, marks: Settings, workers: &[ListenerFds]) -> Result<(), Error> {
        let _reopen = attach::attach_reopen(&mut self.ebpf)?;
        self.listening = Some(Listening {
            marks,
            workers: workers.to_vec(),
            _reopen,
        });
        self.write_listeners()?;
        self.pins.prune_other_layouts();
        Ok(())
    }

    /// No new connection comes to the daemon from here on; they flow as if unmeshed. Running ones go on.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn stop_listening(&mut self, marks: Settings) -> Result<(), Error> {
        self.listening = None;
        self.tell(Settings { workers: 0, ..marks })
    }

    fn write_listeners(&mut self) -> Result<(), Error> {
        let Some(Listening { marks, workers, .. }) = &self.listening else {
            return Ok(());
        };
        let refused = |error| Error::map(names::MAP_LISTENERS, &error);
        for (worker, fds) in (0u32..).zip(workers) {
            self.listeners
                .set(listener_slot(worker, false), &Fd(fds.v4), 0)
                .map_err(refused)?;
            if let Some(v6) = fds.v6 {
                self.listeners
                    .set(listener_slot(worker, true), &Fd(v6), 0)
                    .map_err(refused)?;
            }
        }
        let workers = u32::try_from(workers.len()).unwrap_or(u32::MAX);
        self.tell(Settings { workers, ..*marks })
    }

    fn tell(&mut self, settings: Settings) -> Result<(), Error> {
        self.settings
            .set(0, settings, 0)
            .map_err(|error| Error::map(names::MAP_SETTINGS, &error))
    }
}

/// A borrowed descriptor in the form that aya asks for.
struct Fd(std::os::fd::RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0
    }
}

fn sync<K, V, T>(
    table: &mut T,
    known: &mut Option<BTreeMap<K, V>>,
    want: &BTreeMap<K, V>,
    metrics: &Metrics,
) -> Result<(), Error>
where
    K: Ord + Clone,
    V: PartialEq + Clone,
    T: Table<K, V>,
{
    let changed = reconcile(table, known, want).inspect_err(|_| metrics.write_failed(table.name()))?;
    metrics.synced(table.name(), &changed, want.len(), table.capacity());
    Ok(())
}

/// The interface table, with capture switched off everywhere if it is held back.
fn capturing(tables: &Tables, held_back: bool) -> BTreeMap<u32, Iface> {
    let mut ifaces = tables.ifaces.clone();
    if held_back {
        for iface in ifaces.values_mut() {
            iface.flags &= !IFACE_CAPTURED;
        }
    }
    ifaces
}

/// Unpins maps whose shape is not today's, although their folder says so: better an empty map than misread bytes.
fn drop_misfits(pins: &Pins) -> Result<(), Error> {
    // (name, key bytes, value bytes, entries); a trie's key starts with the prefix length
    let shapes = [
        (names::MAP_IFACES, 4, size_of::<Iface>(), IFACES_MAX),
        (
            names::MAP_SERVICES,
            size_of::<ServiceKey>(),
            size_of::<ServiceValue>(),
            SERVICES_MAX,
        ),
        (names::MAP_POD_RANGES, 4 + size_of::<Addr>(), 4, POD_RANGES_MAX),
        (names::MAP_NODE_ADDRS, size_of::<Addr>(), 4, NODE_ADDRS_MAX),
        (names::MAP_LISTENERS, 4, 4, LISTENER_SLOTS),
        (names::MAP_SETTINGS, 4, size_of::<Settings>(), 1),
        (names::MAP_COUNTERS, 4, 8, mesh_common::counter::COUNTERS),
        (names::MAP_EVENTS, 0, 0, mesh_common::event::EVENTS_BYTES),
    ];
    for (name, key, value, entries) in shapes {
        let path = pins.map(name);
        let Some(info) = pinned_map(&path) else { continue };
        let fits =
            info.key_size() as usize == key && info.value_size() as usize == value && info.max_entries() == entries;
        if !fits {
            tracing::warn!(map = name, "a pinned map has another shape; it is made anew");
            pins::remove_file(&path)?;
        }
    }
    Ok(())
}

fn pinned_map(path: &Path) -> Option<MapInfo> {
    MapInfo::from_pin(path).ok()
}

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<Map>,
    M::Error: std::error::Error + 'static,
{
    let map = ebpf.take_map(name).ok_or(Error::Missing(name))?;
    M::try_from(map).map_err(|error| Error::map(name, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_holds_every_capture_back_and_nothing_else() {
        let captured = Iface {
            flags: IFACE_CAPTURED,
            addr4: Addr([0, 0, 1, 1]),
            addr6: Addr::NONE,
        };
        let known = Iface { flags: 0, ..captured };
        let tables = Tables {
            ifaces: [(3, captured), (4, known)].into(),
            ..Tables::default()
        };
        assert_eq!(capturing(&tables, false), tables.ifaces);
        assert_eq!(capturing(&tables, true), [(3, known), (4, known)].into());
    }
}
