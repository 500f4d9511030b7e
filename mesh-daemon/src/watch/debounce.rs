//! When to publish: once it was quiet for a while, soon enough under constant fire, and never so often that nothing else gets a turn.

use std::time::Duration;

use tokio::time::Instant;

/// How long the publisher rests after a publication, as a multiple of what that took: with 1 it takes half of the control thread at most,
/// and the other half is left for the watches, the kernel's maps and the probes, however large the cluster is and however fast it changes.
const REST_PER_PUBLICATION: u32 = 1;

/// Merges a burst of changes into one publication. Pure: it is told of every moment and has no clock of its own.
#[derive(Clone, Debug)]
pub(super) struct Debounce {
    after: Duration,
    max: Duration,
    /// The first and the latest change that are not published yet.
    pending: Option<(Instant, Instant)>,
    /// When the last publication's rest ends; none before the first publication, which waits for nothing.
    rested_at: Option<Instant>,
}

impl Debounce {
    /// Publishes after `after` without a change, and at the latest `max` after the first one.
    pub(super) fn new(after: Duration, max: Duration) -> Self {
        Self {
            after,
            max,
            pending: None,
            rested_at: None,
        }
    }

    /// Something may be new. Says whether it is the first since the last publication.
    pub(super) fn changed(&mut self, now: Instant) -> bool {
        let first = self.pending.map(|(first, _)| first);
        self.pending = Some((first.unwrap_or(now), now));
        first.is_none()
    }

    /// When to publish; never as long as nothing changes.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, latest) = self.pending?;
        let Some(rested_at) = self.rested_at else {
            return Some(first);
        };
        Some((latest + self.after).min(first + self.max).max(rested_at))
    }

    /// Everything that changed was looked at, though nothing could be published yet: the next change is again not delayed.
    pub(super) fn looked(&mut self) {
        self.pending = None;
    }

    /// Everything that changed was published.
    pub(super) fn published(&mut self, started: Instant, ended: Instant) {
        self.pending = None;
        self.rested_at = Some(ended + ended.duration_since(started) * REST_PER_PUBLICATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(100);

    /// What happens, at a moment in milliseconds.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Changed(u64),
        /// From, to.
        Published(u64, u64),
        Looked,
    }
    use Event::{Changed, Looked, Published};

    fn due(events: &[Event]) -> Option<u64> {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut debounce = Debounce::new(AFTER, MAX);
        for event in events {
            match *event {
                Changed(ms) => drop(debounce.changed(at(ms))),
                Published(from, to) => debounce.published(at(from), at(to)),
                Looked => debounce.looked(),
            }
        }
        let due = debounce.due()?.duration_since(began);
        Some(u64::try_from(due.as_millis()).unwrap())
    }

    #[test]
    fn when_it_is_due() {
        let first = Published(0, 0);
        for (events, expected, why) in [
            (&[][..], None, "nothing changed"),
            (&[Changed(5)], Some(5), "the first publication waits for nothing"),
            (&[Changed(5), Changed(9)], Some(5), "nor for quiet"),
            (&[Changed(5), Looked], None, "looked at"),
            (
                &[Changed(5), Looked, Changed(50)],
                Some(50),
                "and the first publication is still to come",
            ),
            (&[first], None, "everything is published"),
            (&[first, Changed(5)], Some(15), "quiet after one change"),
            (
                &[first, Changed(5), Changed(12)],
                Some(22),
                "quiet after the latest one",
            ),
            (
                &[first, Changed(5), Changed(100)],
                Some(105),
                "at the latest the longest wait after the first",
            ),
            (
                &[Published(0, 40), Changed(45)],
                Some(80),
                "rest for as long as it took",
            ),
            (&[Published(0, 40), Changed(75)], Some(85), "rested meanwhile"),
            (
                &[Published(0, 300), Changed(301)],
                Some(600),
                "rest, even beyond the longest wait",
            ),
        ] {
            assert_eq!(due(events), expected, "{why}: {events:?}");
        }
    }

    #[test]
    fn the_first_change_is_told_from_those_after_it() {
        let now = Instant::now();
        let mut debounce = Debounce::new(AFTER, MAX);
        assert!(debounce.changed(now));
        assert!(!debounce.changed(now));
        debounce.published(now, now);
        assert!(debounce.changed(now));
    }

    /// Runs a clock in steps of `step` for `for_ms`, with a change at each, and says when it was published. A publication takes `takes_ms`.
    fn published_at(step: Duration, for_ms: u64, takes_ms: u64) -> Vec<u64> {
        let began = Instant::now();
        let mut debounce = Debounce::new(AFTER, MAX);
        debounce.published(began, began);
        let (mut now, mut published) = (began, Vec::new());
        while now < began + Duration::from_millis(for_ms) {
            debounce.changed(now);
            if debounce.due().is_some_and(|due| due <= now) {
                published.push(u64::try_from(now.duration_since(began).as_millis()).unwrap());
                let ended = now + Duration::from_millis(takes_ms);
                debounce.published(now, ended);
                now = ended;
            }
            now += step;
        }
        published
    }

    #[test]
    fn constant_fire_is_published_at_the_longest_wait_and_leaves_half_of_the_time() {
        let at = published_at(Duration::from_millis(1), 1_000, 0);
        assert_eq!(&at[..3], [100, 201, 302], "{at:?}");
        assert_eq!(at.len(), 9, "{at:?}");
        let slow = published_at(Duration::from_millis(1), 10_000, 400);
        assert!(slow.len() <= 13, "{slow:?}");
        assert!(slow.windows(2).all(|pair| pair[1] - pair[0] >= 800), "{slow:?}");
    }
}
