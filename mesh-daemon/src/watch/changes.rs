//! When to read the directory again: after changes have settled, and now and then in any case.

use std::{future::pending, path::PathBuf, time::Duration};

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::time::{Instant, sleep_until};

use super::Error;

/// A burst of changes is over after this silence: longer than a shell needs between two files, too short to be noticed.
const QUIET: Duration = Duration::from_millis(20);
/// A burst that does not end is read at the latest after this: label to captured stays well below a second.
const SETTLE_MAX: Duration = Duration::from_millis(200);
/// Level-triggered: what inotify cannot tell (targets of links, network file systems) is seen after this.
const REREAD_EVERY: Duration = Duration::from_secs(30);
/// The same while the directory is away: nothing tells when it is back.
const REREAD_GONE_EVERY: Duration = Duration::from_secs(1);
/// Room for events, in bytes: a few dozen with names of the longest kind. What overflows is an event too.
const EVENT_BYTES: usize = 16 << 10;

/// Changes of one directory.
pub(super) struct Changes {
    path: PathBuf,
    /// None after it failed: the periodic reading goes on.
    events: Option<EventStream<[u8; EVENT_BYTES]>>,
    watched: Option<WatchDescriptor>,
    /// First and last change that was not told yet. Kept here, so that a dropped `next` forgets nothing.
    burst: Option<(Instant, Instant)>,
    reread_at: Instant,
}

impl Changes {
    /// Watches the directory.
    pub(super) fn of(path: PathBuf) -> Result<Self, Error> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotADirectory => {
                Error::Directory {
                    path: path.clone(),
                    source,
                }
            }
            _ => Error::Inotify {
                path: path.clone(),
                source,
            },
        };
        let inotify = Inotify::init().map_err(failed)?;
        let watched = inotify.watches().add(&path, mask()).map_err(failed)?;
        let events = inotify.into_event_stream([0; EVENT_BYTES]).map_err(failed)?;
        Ok(Self {
            path,
            events: Some(events),
            watched: Some(watched),
            burst: None,
            reread_at: Instant::now() + REREAD_EVERY,
        })
    }

    /// Waits until the directory should be read again. May be dropped and called again.
    pub(super) async fn next(&mut self) {
        loop {
            let settled_at = self
                .burst
                .map_or(self.reread_at, |(first, last)| (first + SETTLE_MAX).min(last + QUIET));
            tokio::select! {
                biased;
                () = sleep_until(settled_at.min(self.reread_at)) => {
                    self.burst = None;
                    return;
                }
                event = event(&mut self.events) => match event {
                    Some(Ok(_)) => {
                        let now = Instant::now();
                        self.burst = Some((self.burst.map_or(now, |(first, _)| first), now));
                    }
                    Some(Err(error)) => self.give_up(&error.to_string()),
                    None => self.give_up("the stream of events ended"),
                },
            }
        }
    }

    /// After each reading: the directory at the path may be another one than before.
    pub(super) fn renew(&mut self, gone: bool) {
        self.reread_at = Instant::now() + if gone { REREAD_GONE_EVERY } else { REREAD_EVERY };
        let Some(events) = &self.events else { return };
        let mut watches = events.watches();
        // adding the same directory again gives the same descriptor
        let Ok(watched) = watches.add(&self.path, mask()) else {
            return;
        };
        if self.watched.as_ref() == Some(&watched) {
            return;
        }
        if let Some(stale) = self.watched.replace(watched) {
            // it is gone already if its directory was deleted
            let _ = watches.remove(stale);
        }
        // what happened between the reading and now was not told
        let now = Instant::now();
        self.burst = Some((now, now));
    }

    fn give_up(&mut self, error: &str) {
        tracing::warn!(dir = %self.path.display(), error, every = ?REREAD_EVERY, "cannot see changes of manifests; reading them periodically");
        self.events = None;
    }
}

async fn event(events: &mut Option<EventStream<[u8; EVENT_BYTES]>>) -> Option<std::io::Result<inotify::EventOwned>> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}

fn mask() -> WatchMask {
    // CREATE is for links, which nobody closes; reading a file raises none of these
    WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}
