//! Logging, errors in words, and small helpers to register metrics. Metrics themselves belong to their room.

use std::{error::Error, fmt, str::FromStr};

use prometheus::{Registry, core::Collector};
use tracing_subscriber::EnvFilter;

/// Which log lines are written: a level, or directives as `RUST_LOG` has them. Checked: it always makes a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line each, for people.
    Text,
    /// One JSON object each, for log collectors.
    Json,
}

/// Why a filter was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a log filter: use error, warn, info, debug or trace, for all or per module, as in `info,mesh_daemon::watch=debug`"
)]
pub struct LogFilterError;

/// What stands before every filter, so that the filter may say otherwise: the Kubernetes client logs each failed attempt as an error, where
/// the watches tell a trouble once.
const QUIET: &str = "kube_client=off";

/// Starts logging to stderr. A second call changes nothing: tests share one process.
pub fn init(filter: &LogFilter, format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter.to_env_filter());
    let started = match format {
        // colours only where a person looks
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

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

impl LogFilter {
    fn to_env_filter(&self) -> EnvFilter {
        // checked when the value was made; were it wrong after all, the default level is the safe choice
        EnvFilter::try_new(format!("{QUIET},{}", self.0)).unwrap_or_else(|_| EnvFilter::new("info"))
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        // EnvFilter takes any bare word for a module's name: `inof` would silence everything
        let known = |directive: &str| {
            directive.contains(['=', '[', ':']) || directive.parse::<tracing::metadata::LevelFilter>().is_ok()
        };
        if text.is_empty() || !text.split(',').all(known) {
            return Err(LogFilterError);
        }
        EnvFilter::try_new(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|_| LogFilterError)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error and what caused it, as one line, each said once: libraries differ in whether an error repeats its source.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn every_cause_is_said_once() {
        for (texts, expected) in [
            (&["no route"][..], "no route"),
            (&["cannot connect", "no route"], "cannot connect: no route"),
            (&["cannot connect: no route", "no route"], "cannot connect: no route"),
            (&["a", "b", "b", "c"], "a: b: c"),
        ] {
            let link = texts
                .iter()
                .rev()
                .fold(None, |source, text| Some(Box::new(Link { text, source })));
            assert_eq!(causes(&*link.unwrap()), expected);
        }
    }

    #[test]
    fn the_client_library_is_quiet_unless_asked() {
        for (text, loud) in [
            ("info", false),
            ("kube_client=debug", true),
            ("info,kube_client::client=warn", true),
        ] {
            let filter = text.parse::<LogFilter>().unwrap().to_env_filter();
            let directives = filter.to_string();
            assert_eq!(
                !directives.contains("kube_client=off") || directives.contains("::client=warn"),
                loud,
                "{directives}"
            );
        }
    }

    #[test]
    fn filters_are_checked_when_made() {
        for (text, ok) in [
            ("info", true),
            ("off", true),
            ("DEBUG", true),
            ("info,mesh_daemon::watch=debug", true),
            ("warn, hyper=trace", false),
            ("inof", false),
            ("", false),
            ("hyper=loud", false),
        ] {
            assert_eq!(text.parse::<LogFilter>().is_ok(), ok, "{text:?}");
        }
    }
}
