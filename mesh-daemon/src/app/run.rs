//! `mesh-daemon run`: brings every room up in order, carries snapshots from the publisher to the proxy and the kernel, and drains.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinError, time::timeout};

use super::{apply::Applier, signal::Signals, views, workers::Workers};
use crate::{
    admin::{self, Bound},
    bpf,
    config::{self, Settings},
    drain,
    model::{Ack, Facts, Snapshot},
    proxy,
    ready::{Pending, Readiness},
    task, watch as objects,
};

/// How long the room of objects may take to write its state at the end: it is written while connections drain, and a disk that hangs must
/// not hold up the daemon's end.
const STATE_WRITE_MAX: Duration = Duration::from_secs(3);

/// Runs until SIGTERM or SIGINT, or until something that cannot go on.
///
/// # Errors
/// The first thing that could not be brought up; a node that was clean before is clean again.
pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    // from here on a signal is an orderly end, however little is up
    let signals = Signals::new()?;
    let registry = prometheus::Registry::new();
    let readiness = Readiness::default();
    let attached = readiness.wait_for("BPF programs attached");
    // ports before anything else: a second daemon, or a port in use, must not touch the kernel
    let admin = admin::bind(&settings)?;
    let netlink = netlink()?;
    let was_clean = bpf::Pins::new(&settings.kernel.pin_dir).is_empty();
    let done = serve(
        &settings,
        signals,
        registry,
        readiness,
        attached,
        admin,
        netlink.clone(),
    )
    .await;
    if done.is_err() && was_clean {
        // the first error is the one to tell
        let _ = bpf::detach::everything(&settings.kernel, &netlink).await;
    }
    done
}

async fn serve(
    settings: &Settings,
    mut signals: Signals,
    registry: prometheus::Registry,
    readiness: Readiness,
    attached: Pending,
    admin: Bound,
    netlink: rtnetlink::Handle,
) -> anyhow::Result<()> {
    let metrics = bpf::Metrics::new(&registry);
    let mut kernel = bpf::Kernel::load(&settings.kernel, netlink, metrics.clone())?;
    bpf::Decisions::register(&registry, kernel.take_counters()?)?;
    bpf::Heard::register(&registry, kernel.take_heard()?)?;
    task::spawn("drop events", bpf::log_drops(kernel.take_events()?));
    bpf::steering::install(&settings.kernel).await?;
    bpf::nftables::install(&settings.kernel).await?;
    let mut keeping = task::scoped("node set-up", bpf::keep(settings.kernel.clone(), metrics));

    let (facts, facts_seen) = watch::channel::<Option<Facts>>(None);
    let observing = task::scoped("facts", bpf::facts::observe(facts, say_noticed));
    let (publish, mut snapshots) = watch::channel::<Option<Arc<Snapshot>>>(None);
    let (ack, acks) = watch::channel::<Option<Ack>>(None);
    let ends = objects::Ends {
        facts: facts_seen,
        snapshots: publish,
        acks,
    };
    let mut watching = watch_objects(settings, ends, &registry, readiness.clone());

    let (signal, draining) = drain::channel();
    let proxy_options = proxy::Options {
        marks: settings.kernel.marks,
        transparent: true,
    };
    let (access_log, writer) = access_log(settings, &registry)?;
    let shared = proxy::Shared::with_borders(&registry, proxy_options, borders(&kernel, access_log));
    let workers = Workers::start(settings.workers, &proxy_options, &shared, &draining)?;
    let views = views::of(snapshots.clone(), Arc::clone(&shared));
    let says_draining = draining.observer();
    drop(draining);
    let serving = admin.serve(registry, readiness, views, move || says_draining.is_draining());
    let mut answering = task::scoped("admin", serving);

    let mut applier = Applier {
        settings,
        kernel,
        shared,
        listeners: Some(workers.listeners()),
        attached: Some(attached),
        ack,
        failures: Vec::new(),
    };
    tokio::select! {
        failed = applier.run(&mut snapshots) => return Err(failed.map_or_else(Into::into, |never| match never {})),
        done = &mut watching => return Err(ended(done, "the source of objects failed")),
        done = observing => return Err(ended(done, "the node's interfaces cannot be watched")),
        done = &mut keeping => return Err(ended(done, "the node's set-up cannot be watched")),
        done = &mut answering => return Err(ended(done, "metrics, health and the admin socket cannot be served")),
        () = signals.terminate() => {}
    }
    // `observing`, the one sender of facts, is gone with the select, so the room of objects ends by itself
    let drained = drain(settings, applier, &mut snapshots, &mut keeping, signal, &mut signals).await;
    written(watching).await;
    if let Some(writer) = writer {
        writer.finish().await;
    }
    drained
}

/// The facts about this node are others now.
fn say_noticed(noticed: bpf::Noticed) {
    tracing::debug!(
        noticed_by = noticed.name(),
        "this node's interfaces, addresses or routes have changed"
    );
}

/// What the proxy asks of others.
fn borders(kernel: &bpf::Kernel, access_log: Option<proxy::AccessLog>) -> proxy::Borders {
    proxy::Borders {
        ear: Box::new(Hears(kernel.round_trips())),
        access_log,
        ..proxy::Borders::default()
    }
}

/// The access log on stdout, if it is asked for.
fn access_log(
    settings: &Settings,
    registry: &prometheus::Registry,
) -> anyhow::Result<(Option<proxy::AccessLog>, Option<proxy::Writer>)> {
    if !settings.access_log {
        return Ok((None, None));
    }
    let (log, writer) =
        proxy::AccessLog::start(registry, std::io::stdout()).context("cannot start the access log's thread")?;
    Ok((Some(log), Some(writer)))
}

/// The kernel's ear as the proxy asks it.
struct Hears(bpf::RoundTrips);

impl proxy::Ear for Hears {
    fn round_trip(&self, endpoint: SocketAddr) -> Option<proxy::RoundTrip> {
        let heard = self.0.get(endpoint)?;
        Some(proxy::RoundTrip {
            smoothed: heard.smoothed,
            retransmits: heard.retransmits,
        })
    }
}

/// Starts the room of objects.
fn watch_objects(
    settings: &Settings,
    ends: objects::Ends,
    registry: &prometheus::Registry,
    readiness: Readiness,
) -> task::Scoped<Result<(), objects::Error>> {
    let options = objects::Options {
        node: settings.node.clone(),
        pod_cidrs: settings.pod_cidrs.clone(),
        debounce_after: settings.debounce_after,
        debounce_max: settings.debounce_max,
    };
    let metrics = objects::Metrics::new(registry);
    let running = objects::run(source(settings), options, ends, readiness, metrics);
    task::scoped("watch", running)
}

fn source(settings: &Settings) -> objects::Source {
    match settings.source.clone() {
        config::Source::Manifests(path) => objects::Source::Manifests(path),
        config::Source::Cluster {
            kubeconfig,
            state_dir,
            state_age_max,
        } => objects::Source::Cluster(objects::ClusterSource {
            kubeconfig,
            state_dir,
            state_age_max,
        }),
    }
}

/// Waits for the room of objects to leave its state, which it does once its sender of facts is gone.
async fn written(watching: task::Scoped<Result<(), objects::Error>>) {
    if timeout(STATE_WRITE_MAX, watching).await.is_err() {
        tracing::warn!("the last state is not written: the disk does not answer");
    }
}

/// Lets open connections end, within the drain timeout; what holds them up goes on being mended.
async fn drain(
    settings: &Settings,
    mut applier: Applier<'_>,
    snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>,
    keeping: &mut task::Scoped<Result<Infallible, bpf::nftables::KeepError>>,
    open: drain::Signal,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    applier.drain()?;
    tracing::info!(timeout = ?settings.drain_timeout, "draining: no new connections, open ones may end; signal again to end now");
    tokio::select! {
        drained = timeout(settings.drain_timeout, open.drain()) => match drained {
            Ok(()) => tracing::info!("every connection has ended"),
            Err(_) => tracing::warn!("the drain timeout has passed; connections that are still open end now"),
        },
        failed = applier.run(snapshots) => return Err(failed.map_or_else(Into::into, |never| match never {})),
        done = keeping => return Err(ended(done, "the node's set-up cannot be watched")),
        () = signals.terminate() => tracing::warn!("a second signal: connections that are still open end now"),
    }
    Ok(())
}

/// A task that ends only when it fails.
fn ended<T, E>(done: Result<Option<Result<T, E>>, JoinError>, what: &'static str) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    match done {
        Ok(Some(Err(error))) => anyhow::Error::new(error).context(what),
        Err(panicked) => anyhow::Error::new(panicked).context(what),
        Ok(_) => anyhow::anyhow!("{what}: it ended by itself, which is a bug"),
    }
}

/// A netlink connection of the node's namespace, served by a task of its own.
pub(super) fn netlink() -> anyhow::Result<rtnetlink::Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
    task::spawn("netlink", connection);
    Ok(handle)
}
