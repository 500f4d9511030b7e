//! `/metrics` in Prometheus' text format, and the metrics that belong to no other room: build info, panics.

use hyper::{StatusCode, header::HeaderValue};
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::http::{Get, Reply};
use crate::{task, telemetry::register};

/// Version 0.0.4 of the text format (prometheus.io/docs/instrumenting/exposition_formats).
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The room's own metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    panics: IntCounter,
    tasks: IntGauge,
}

impl Metrics {
    /// Registers them; build info never changes.
    pub(super) fn register(registry: &Registry) -> Self {
        let build = Opts::new("weft_build_info", "Always 1; its label says which version runs.");
        let build = register(registry, IntGaugeVec::new(build, &["version"]));
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let help = "Tasks that panicked and ended alone; more than 0 is a bug worth reporting.";
        Self {
            panics: register(registry, IntCounter::new("weft_task_panics_total", help)),
            tasks: register(
                registry,
                IntGauge::new(
                    "weft_tasks",
                    "Tasks that are running now: a few, and some for each connection.",
                ),
            ),
        }
    }

    /// Tasks are counted where no registry is known: fetch their numbers before each scrape.
    fn refresh(&self) {
        self.panics.inc_by(task::panics().saturating_sub(self.panics.get()));
        self.tasks.set(task::running());
    }
}

/// Answers a request to the metrics port.
pub(super) fn answer(get: &Get, registry: &Registry, own: &Metrics) -> Option<Reply> {
    match get.path.as_str() {
        "/" => Some(Reply::text("/metrics  Prometheus metrics\n")),
        "/metrics" => Some(scrape(registry, own)),
        _ => None,
    }
}

fn scrape(registry: &Registry, own: &Metrics) -> Reply {
    own.refresh();
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(body) => Reply {
            status: StatusCode::OK,
            content_type: CONTENT_TYPE,
            body,
        },
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written as text");
            Reply {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Reply::text(format!("{error}\n"))
            }
        }
    }
}
