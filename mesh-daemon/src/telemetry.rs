//! Logging, and small helpers to register metrics. Metrics themselves belong to their room.

use prometheus::{Registry, core::Collector};

/// Registers a metric and hands it back.
///
/// # Panics
/// Never in a build that passed its tests: names and labels are constants, and every room's metrics are registered in one.
#[expect(
    clippy::expect_used,
    reason = "a name that is registered twice is a bug of the first start, caught by the scrape test"
)]
pub fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("metric names and labels are constants");
    registry
        .register(Box::new(metric.clone()))
        .expect("metric names are unique");
    metric
}
