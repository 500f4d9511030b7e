//! Load from inside a pod, and what came of it as JSON: what `weft-client` does there, and what the test outside reads.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use hyper::Uri;
use serde::{Deserialize, Serialize};

use crate::client::{Load, Tally, Version, send_while};

/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Requests in all; without end if none.
    pub requests: Option<u64>,
    /// How long; without end if none.
    pub duration: Option<Duration>,
    /// Requests under way at once, each on a connection of its own.
    pub concurrency: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Requests without an answer, or with a status other than 200.
    pub failed: u64,
    /// Answers by their text: the pod's name.
    pub by_body: BTreeMap<String, u64>,
    /// Half of the answers came within this many microseconds.
    pub p50_us: Option<u64>,
    /// All answers but one in a hundred came within this many microseconds.
    pub p99_us: Option<u64>,
    /// Failures by their text; texts beyond the first few are left out.
    pub errors: BTreeMap<String, u64>,
}

/// The requests that a URL asks for, to the first address that its name has now.
///
/// # Errors
/// If it is not an `http://` URL, or the name has no address.
pub fn to_url(url: &str, version: Version) -> Result<Load> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        bail!("{url:?} is not a URL as http://NAME[:PORT]/PATH");
    };
    let target = resolve(authority.host(), authority.port_u16().unwrap_or(HTTP_PORT))?;
    Ok(Load {
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        authority: Some(authority.to_string()),
        ..Load::reused(version, target)
    })
}

/// The first address of a name, as any program of the pod finds it.
///
/// # Errors
/// If there is none.
pub fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (bare, port)
        .to_socket_addrs()
        .with_context(|| format!("{host} cannot be resolved; see /etc/resolv.conf"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

/// Sends the load from where this process is. It ends with the first limit that is reached.
///
/// # Errors
/// If a thread cannot be had. Requests that fail are counted.
pub fn run(load: &Load, amount: Amount) -> Result<Tally> {
    let taken = AtomicU64::new(0);
    let end = amount.duration.map(|duration| Instant::now() + duration);
    let more = || {
        let in_time = end.is_none_or(|end| Instant::now() < end);
        let left = |requests| taken.fetch_add(1, Ordering::Relaxed) < requests;
        in_time && amount.requests.is_none_or(left)
    };
    let mut all = Tally::default();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..amount.concurrency.max(1))
            .map(|_| thread::Builder::new().spawn_scoped(scope, || send_while(load, more)))
            .collect::<Result<_, _>>()?;
        for thread in threads {
            all.merge(thread.join().map_err(|_| anyhow!("a thread of the load panicked"))??);
        }
        Ok(())
    })?;
    Ok(all)
}

impl From<&Tally> for Report {
    fn from(tally: &Tally) -> Self {
        let quantile = |percent| u64::try_from(tally.quantile(percent)?.as_micros()).ok();
        Self {
            sent: tally.sent,
            failed: tally.failed,
            by_body: tally.by_body.clone(),
            p50_us: quantile(50),
            p99_us: quantile(99),
            errors: tally.errors.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_and_what_for() {
        for (url, target, authority, path) in [
            ("http://127.0.0.1/", "127.0.0.1:80", "127.0.0.1", "/"),
            (
                "http://127.0.0.1:8080/a?b=c",
                "127.0.0.1:8080",
                "127.0.0.1:8080",
                "/a?b=c",
            ),
            ("http://[::1]:81", "[::1]:81", "[::1]:81", "/"),
        ] {
            let load = to_url(url, Version::Http1).unwrap();
            assert_eq!(load.target.to_string(), target, "{url}");
            assert_eq!(
                (load.authority.as_deref(), load.path.as_str()),
                (Some(authority), path),
                "{url}"
            );
        }
        for url in ["127.0.0.1", "https://127.0.0.1/", "http://", "/path"] {
            assert!(to_url(url, Version::Http1).is_err(), "{url}");
        }
    }

    #[test]
    fn a_report_keeps_what_a_tally_counted() {
        let tally = Tally {
            sent: 3,
            failed: 1,
            by_body: [("web-1".to_owned(), 2)].into(),
            latencies: vec![Duration::from_micros(30), Duration::from_micros(10)],
            errors: [("status 503: no".to_owned(), 1)].into(),
            last_failure: None,
        };
        let report = Report::from(&tally);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(
            json,
            r#"{"sent":3,"failed":1,"by_body":{"web-1":2},"p50_us":10,"p99_us":10,"errors":{"status 503: no":1}}"#
        );
    }
}
