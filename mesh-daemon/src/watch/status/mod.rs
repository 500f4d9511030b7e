//! Writes back what became of objects, at a bounded rate, only when changed: of this node's pods the condition `weft.mesh/Captured` and Events; of
//! routes and policies, on the one node that is elected, their status.

mod verdict;
mod desired;
mod tellers;
mod ledger;
mod bucket;
mod exchange;
mod write;
mod log;
mod elected;
mod metrics;

use std::{
    future::pending,
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub(super) use elected::{Sight, run as run_elected};
pub(super) use metrics::Metrics as StatusMetrics;

use self::{
    bucket::{Bucket, TOKEN_EVERY, TOKENS_MAX},
    ledger::{Ledger, Next},
    log::Log,
};
use super::{Metrics, local::LocalPods};
use crate::{ids::NodeName, model::Ack};

/// Least time between two looks at what changed: a burst of changes costs a few looks, and only its last state is written.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Writes what became of this node's pods, and of what is set aside, for as long as it is polled.
pub(super) async fn run(
    client: kube::Client,
    node: NodeName,
    mut acks: watch::Receiver<Option<Ack>>,
    mut local: watch::Receiver<Arc<LocalPods>>,
    metrics: Metrics,
) {
    let metrics = metrics.status();
    let mut ledger = Ledger::new(random);
    let mut bucket = Bucket::new(TOKEN_EVERY, TOKENS_MAX, Instant::now());
    let mut log = Log::default();
    loop {
        let looked = Instant::now();
        let desired = desired::desired(&node, acks.borrow_and_update().as_ref(), &local.borrow_and_update());
        ledger.observe(desired, looked);
        metrics.pending(ledger.pending(looked));
        let next = match ledger.next(looked) {
            Next::Write(write) => match bucket.take(write.requests(), looked) {
                Ok(()) => Next::Write(write),
                Err(free_at) => Next::At(free_at),
            },
            next => next,
        };
        let until = match next {
            Next::Write(write) => {
                let outcome = write::send(&client, &node, &write).await;
                let object = write.key().object();
                metrics.wrote(object, outcome.name());
                let is_well = ledger.settle(&write, &outcome, Instant::now());
                log.tell(object, outcome.trouble(), is_well);
                continue;
            }
            Next::At(at) => Some(at),
            Next::Idle => None,
        };
        tokio::select! {
            () = changed(&mut acks) => sleep_until(looked + LOOK_EVERY).await,
            () = changed(&mut local) => sleep_until(looked + LOOK_EVERY).await,
            () = reached(until) => {}
        }
    }
}

/// Never returns once the sender is gone: what is due is still written.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// From 0 to 1, different in each process and call.
fn random() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    let [a, b, c, d, ..] = bits.to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
