//! How long a watch waits for its server, and what it takes for a failure.

use std::time::Duration;

use super::backoff::{FIRST_MAX, share};

/// How long an answer may take to begin, and how long a list may go without an object. A busy server answers within some seconds; one that
/// lets a byte through now and then must not hold up the node.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long a watch may be silent before it is opened again from where it was, which costs one request. Servers send a bookmark about every
/// minute where etcd tells them how far it is, and about every ten minutes where not: silence once is no failure.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(120);
/// How many times that watches may say nothing, however they end, before the kind is listed again: after a restored backup a server takes a version that it has not reached for
/// one of the future, and says nothing until it is reached.
pub(super) const SILENT_MAX: u32 = 2;
/// How long a server keeps a watch open: between these two, so that the watches of many nodes do not end together. Below five minutes, which
/// is where load balancers cut at the latest.
const WATCH_MIN: Duration = Duration::from_secs(180);
const WATCH_MAX: Duration = Duration::from_secs(290);
/// A watch that ends sooner than this by itself did not end because its time was over: it is opened again with backoff.
const WATCH_SHORT: Duration = Duration::from_secs(10);
/// Short watches in a row from which on it is a failure: one alone is a server that goes down in order.
pub(super) const SHORT_MAX: u32 = 2;
/// Server errors in a row, without a line in between, after which a watch's version is given up for a list: the version may be the cause.
pub(super) const REOPENED_MAX: u32 = 3;
/// The first list begins within this time, so that nodes that start together do not ask at the same moment; short, since readiness waits for it.
const FIRST_LIST_WITHIN: Duration = Duration::from_millis(200);
/// A watch that ended before its time is opened again within this time: a server that goes down in order ends those of all nodes together.
const REOPENED_WITHIN: Duration = Duration::from_secs(1);

/// How long a kind that the server does not have is left alone on average: somebody who installs its CustomResourceDefinition does not wait long
/// for it, and a thousand nodes without it ask some 130 times a second for two such kinds, which a server refuses from memory.
const ABSENT_AGAIN: Duration = Duration::from_secs(15);

/// What happened again and again without a line of a watch in between.
#[derive(Default)]
pub(super) struct InARow {
    /// Watches that ended right after they began: here lines between them do not count.
    pub(super) short: u32,
    /// Server errors where a watch was opened.
    pub(super) errors: u32,
}

/// How long is waited for a server: a test has less time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the beginning of an answer, and for each object of a list.
    pub(super) stalled: Duration,
    /// For anything of a watch.
    pub(super) silent: Duration,
    /// A watch that ends sooner ended too early.
    pub(super) short: Duration,
    /// Longest wait after the first failure.
    pub(super) first_wait: Duration,
    /// Longest wait before the first list.
    pub(super) first_list: Duration,
    /// Longest wait after a watch that ended before its time, without a failure.
    pub(super) reopened: Duration,
    /// Between two questions for a kind that the server does not have, on average.
    pub(super) absent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stalled: STALLED_AFTER,
            silent: SILENT_AFTER,
            short: WATCH_SHORT,
            first_wait: FIRST_MAX,
            first_list: FIRST_LIST_WITHIN,
            reopened: REOPENED_WITHIN,
            absent: ABSENT_AGAIN,
        }
    }
}

/// For how long to ask for a watch, in seconds.
pub(super) fn watch_time(random: u64) -> u32 {
    let time = WATCH_MIN + share(WATCH_MAX - WATCH_MIN, random);
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// A time in a sentence.
pub(super) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
