//! `mesh-daemon run`: brings every room up in order, carries snapshots from the publisher to the proxy and the kernel, and drains.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    task::JoinError,
    time::{Instant, MissedTickBehavior},
};

use super::{signal::Signals, workers::Workers};
use crate::{
    admin::{self, Bound},
    bpf,
    config::Settings,
    drain,
    model::{Facts, Snapshot},
    proxy,
    ready::{Pending, Readiness},
    task, watch as objects,
};

/// How often the kernel's maps and programs are compared with what they should be: mends what others changed. A minute of wrong state is
/// what the administrator who removed a program by hand will notice, a comparison costs milliseconds.
const RESYNC_EVERY: Duration = Duration::from_secs(30);
/// How soon after a failed application the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, or until something that cannot go on.
///
/// # Errors
/// The first thing that could not be brought up; a node that was clean before is clean again.
pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let registry = prometheus::Registry::new();
    let readiness = Readiness::default();
    let attached = readiness.wait_for("BPF programs attached");
    // ports before anything else: a second daemon, or a port in use, must not touch the kernel
    let admin = admin::bind(&settings)?;
    let netlink = netlink()?;
    let was_clean = bpf::Pins::new(&settings.kernel.pin_dir).is_empty();
    let done = serve(&settings, registry, readiness, attached, admin, netlink.clone()).await;
    if done.is_err() && was_clean {
        // the first error is the one to tell
        let _ = bpf::detach::everything(&settings.kernel, &netlink).await;
    }
    done
}

async fn serve(
    settings: &Settings,
    registry: prometheus::Registry,
    readiness: Readiness,
    attached: Pending,
    admin: Bound,
    netlink: rtnetlink::Handle,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let metrics = bpf::Metrics::new(&registry);
    let mut kernel = bpf::Kernel::load(&settings.kernel, netlink, metrics.clone())?;
    bpf::Decisions::register(&registry, kernel.take_counters()?)?;
    task::spawn("drop events", bpf::log_drops(kernel.take_events()?));
    bpf::steering::install(&settings.kernel).await?;
    bpf::nftables::install(&settings.kernel).await?;
    let keeping = task::scoped("node set-up", bpf::keep(settings.kernel.clone(), metrics));

    let (facts, facts_seen) = watch::channel::<Option<Facts>>(None);
    let observing = task::scoped("facts", bpf::facts::observe(facts));
    let (publish, snapshots) = watch::channel::<Option<Arc<Snapshot>>>(None);
    let source = objects::Source::Manifests(settings.manifests.clone());
    let options = objects::Options {
        node: settings.node.clone(),
        pod_cidrs: settings.pod_cidrs.clone(),
    };
    let pending = objects::pending(&readiness);
    let object_metrics = objects::Metrics::new(&registry);
    let watching = task::scoped(
        "watch",
        objects::run(source, options, facts_seen, publish, pending, object_metrics),
    );

    let (signal, draining) = drain::channel();
    let proxy_options = proxy::Options {
        marks: settings.kernel.marks,
        transparent: true,
    };
    let shared = proxy::Shared::new(&registry, proxy_options);
    let workers = Workers::start(settings.workers, &proxy_options, &shared, &draining)?;
    let dump = snapshots.clone();
    let says_draining = draining.observer();
    drop(draining);
    task::spawn(
        "admin",
        admin.serve(
            registry,
            readiness,
            move || dump_of(&dump),
            move || says_draining.is_draining(),
        ),
    );

    let applying = apply(settings, &mut kernel, &shared, &workers, snapshots, attached);
    tokio::select! {
        done = applying => done?,
        done = watching => return Err(ended(done, "the source of objects failed")),
        done = observing => return Err(ended(done, "the node's interfaces cannot be watched")),
        done = keeping => return Err(ended(done, "the node's set-up cannot be watched")),
        () = signals.terminate() => {}
    }
    kernel.stop_listening(settings.kernel.marks)?;
    tracing::info!(timeout = ?settings.drain_timeout, "draining: no new connections; capture stays attached for the successor");
    if tokio::time::timeout(settings.drain_timeout, signal.drain())
        .await
        .is_err()
    {
        tracing::warn!("the drain timeout has passed; connections that are still open end now");
    }
    Ok(())
}

/// Carries each snapshot to the proxy, then to the kernel: make before break. After the first one the workers' listeners are handed over.
async fn apply(
    settings: &Settings,
    kernel: &mut bpf::Kernel,
    shared: &Arc<proxy::Shared>,
    workers: &Workers,
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    attached: Pending,
) -> anyhow::Result<()> {
    let mut attached = Some(attached);
    let mut resync = tokio::time::interval_at(Instant::now() + RESYNC_EVERY, RESYNC_EVERY);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retry_at: Option<Instant> = None;
    let mut failures = Failures::default();
    loop {
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() {
                // the publisher ended, and its own task says why
                std::future::pending::<()>().await;
            },
            _ = resync.tick() => kernel.distrust(),
            () = until(retry_at) => {}
        }
        let Some(snapshot) = snapshots.borrow_and_update().clone() else {
            continue;
        };
        shared.publish(Arc::clone(&snapshot));
        retry_at = match kernel.apply(&snapshot.content.tables).await {
            Ok(applied) => {
                tracing::debug!(generation = %snapshot.generation, "applied to the kernel");
                failures.report(&applied);
                if let Some(pending) = attached.take_if(|_| !applied.held_back) {
                    kernel.listen(settings.kernel.marks, &workers.listeners())?;
                    tracing::info!(generation = %snapshot.generation, "ready: capture is on");
                    drop(pending);
                }
                (!applied.failed.is_empty()).then(|| Instant::now() + RETRY_AFTER)
            }
            Err(error) => {
                tracing::error!(generation = %snapshot.generation, %error, "cannot write the kernel's maps; trying again");
                Some(Instant::now() + RETRY_AFTER)
            }
        };
    }
}

/// What was last said about interfaces without a program: a retry every second must not fill the log.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn report(&mut self, applied: &bpf::Applied) {
        let now: Vec<String> = applied.failed.iter().map(|(_, error)| error.to_string()).collect();
        if now != self.0 {
            for error in &now {
                tracing::warn!(%error, held_back = applied.held_back, "an interface is without its program; trying again");
            }
            self.0 = now;
        }
    }
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

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn dump_of(snapshots: &watch::Receiver<Option<Arc<Snapshot>>>) -> String {
    match &*snapshots.borrow() {
        Some(snapshot) => format!(
            "generation {}\n{}",
            snapshot.generation,
            crate::model::dump(&snapshot.content)
        ),
        None => "no snapshot yet\n".to_owned(),
    }
}

/// A netlink connection of the node's namespace, served by a task of its own.
pub(super) fn netlink() -> anyhow::Result<rtnetlink::Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
    task::spawn("netlink", connection);
    Ok(handle)
}
