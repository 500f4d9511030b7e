//! The data path: one connection, told as a story. In reading order: accept → identify → detect → the outbound spine → route → choose (live,
//! balance, breaker, limits) → dial → pool → copy | http → outcome → report.
//!
//! Nothing is shared between workers but the tables and atomics.

pub mod bounds;
mod accept;
mod places;
mod identify;
mod detect;
mod outbound;
mod ear;
mod route;
mod live;
mod balance;
mod breaker;
mod limits;
mod budget;
mod choose;
mod dial;
mod pool;
mod copy;
mod http;
mod socket;
mod outcome;
mod report;
mod access_log;
mod metrics;
mod gauges;
mod view;

use std::{
    cell::{Cell, RefCell},
    fmt,
    hash::{BuildHasher, Hasher},
    rc::Rc,
    sync::Arc,
};

use arc_swap::ArcSwap;

pub use accept::{Listeners, serve};
pub use access_log::{AccessLog, Writer};
pub use ear::{Deaf, Ear, RoundTrip};
pub use identify::{FromSocket, Origin};
pub use view::{BreakerView, EndpointView, EndpointsView, PortView};

use crate::{
    drain,
    ids::Generation,
    model::{Content, Snapshot},
    telemetry::register,
};
use live::Tables;

/// What the data path needs to know for life.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Marks of the daemon's sockets.
    pub marks: mesh_common::settings::Settings,
    /// Whether sockets are transparent and marked, which needs `CAP_NET_ADMIN`. Without it nothing can be captured; tests live with that.
    pub transparent: bool,
}

/// What all workers share: the tables, and counters.
pub struct Shared {
    tables: ArcSwap<Tables>,
    options: Options,
    borders: Borders,
    metrics: metrics::Metrics,
}

/// What the data path asks of others.
pub struct Borders {
    /// Who a connection is from, and where it was going.
    pub origin: Box<dyn Origin>,
    /// What the kernel hears of endpoints.
    pub ear: Box<dyn Ear>,
    /// Where the access log is left; none while it is off.
    pub access_log: Option<AccessLog>,
}

impl Default for Borders {
    fn default() -> Self {
        Self {
            origin: Box::new(FromSocket),
            ear: Box::new(Deaf),
            access_log: None,
        }
    }
}

impl fmt::Debug for Borders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borders").finish_non_exhaustive()
    }
}

/// One worker's own state; its tasks share it without a lock.
struct Worker {
    shared: Arc<Shared>,
    pool: pool::Pool,
    buffers: copy::Buffers,
    /// Where the search for a local port starts next.
    dial_port: Cell<u16>,
    /// Chance, for balancers, weights and jitter.
    random: RefCell<fastrand::Rng>,
    drain: drain::Watch,
}

impl Shared {
    /// With empty tables, generation 0.
    pub fn new(registry: &prometheus::Registry, options: Options) -> Arc<Self> {
        Self::with_borders(registry, options, Borders::default())
    }

    /// As [`Shared::new`], with others to ask.
    pub fn with_borders(registry: &prometheus::Registry, options: Options, borders: Borders) -> Arc<Self> {
        let empty = Arc::new(Snapshot {
            generation: Generation::default(),
            content: Content::default(),
        });
        let shared = Arc::new(Self {
            tables: ArcSwap::from_pointee(Tables::next(empty, None)),
            options,
            borders,
            metrics: metrics::Metrics::new(registry),
        });
        register(registry, gauges::LiveGauges::new(Arc::downgrade(&shared)));
        shared
    }

    /// Replaces the tables. Only the one publisher calls this: two at once could lose live state.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let previous = self.tables.load();
        let next = Tables::next(snapshot, Some(&previous));
        next.forgive(&previous, |upstream, endpoint, transition| {
            let metrics = &self.metrics.upstream;
            metrics.moved(upstream, endpoint, transition, choose::POLICY_GONE);
        });
        self.tables.store(Arc::new(next));
    }

    /// The generation that new connections and requests use.
    pub fn generation(&self) -> Generation {
        self.tables.load().snapshot.generation
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("generation", &self.generation())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, drain: drain::Watch) -> Rc<Self> {
        // workers start at different ports, so that they hardly meet
        let [low, high, ..] = std::hash::RandomState::new().build_hasher().finish().to_le_bytes();
        let range = bounds::DIAL_PORTS;
        let start = range.start() + u16::from_le_bytes([low, high]) % (range.end() - range.start() + 1);
        Rc::new(Self {
            pool: pool::Pool::default(),
            buffers: copy::Buffers::default(),
            dial_port: Cell::new(start),
            random: RefCell::new(fastrand::Rng::new()),
            shared,
            drain,
        })
    }
}
