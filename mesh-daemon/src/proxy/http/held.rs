//! How long a client kept an attempt waiting: with its request's body, or by not reading its answer's. A time that passes so says nothing about the
//! endpoint: else one client that stalls would open the breakers of all endpoints, for all clients of the node.

use std::{cell::RefCell, rc::Rc, task::Poll, time::Duration};

use tokio::time::Instant;

/// The time in which the client was waited for.
#[derive(Debug, Default)]
pub(super) struct Held {
    before: Duration,
    since: Option<Instant>,
}

impl Held {
    /// From here on the client is waited for; it may be already.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// It did what was waited for.
    pub(super) fn end(&mut self, now: Instant) {
        self.before = self.until(now);
        self.since = None;
    }

    /// Whether more than half of the time since `start` was the client's. Not only whether the client is waited for now: one that sends its last byte just
    /// before the end of the time leaves the endpoint none.
    pub(super) fn is_most_since(&self, start: Instant, now: Instant) -> bool {
        self.until(now) > now.saturating_duration_since(start) / 2
    }

    fn until(&self, now: Instant) -> Duration {
        let running = self.since.map(|since| now.saturating_duration_since(since));
        self.before + running.unwrap_or_default()
    }
}

/// How long one attempt has waited for its request's body. While the endpoint does not read, hyper does not ask for the body either, and that is not waiting.
#[derive(Clone, Debug, Default)]
pub(super) struct Upload(Rc<RefCell<Held>>);

impl Upload {
    /// hyper asked for more of the body.
    pub(super) fn polled<T>(&self, frame: &Poll<T>) {
        let now = Instant::now();
        let mut held = self.0.borrow_mut();
        if frame.is_pending() {
            held.begin(now);
        } else {
            held.end(now);
        }
    }

    /// Whether most of the time since `start` was the client's.
    pub(super) fn held_up_since(&self, start: Instant) -> bool {
        self.0.borrow().is_most_since(start, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn the_time_is_whose_more_than_half_of_it_was() {
        // (what the client is waited for, how long) in turn, and whether it was the client
        for (turns, expected) in [
            (&[(true, 250)][..], true),
            (&[(false, 250)], false),
            (&[], false),
            (&[(true, 100), (false, 150)], false),
            (&[(true, 249), (false, 1)], true),
            (&[(false, 60), (true, 50), (false, 70), (true, 70)], false),
            (&[(false, 60), (true, 70), (false, 50), (true, 70)], true),
        ] {
            let (start, upload) = (Instant::now(), Upload::default());
            for (is_pending, time_ms) in turns {
                let frame = if *is_pending { Poll::Pending } else { Poll::Ready(()) };
                upload.polled(&frame);
                // asking again changes nothing
                upload.polled(&frame);
                advance(*time_ms * MS).await;
            }
            assert_eq!(upload.held_up_since(start), expected, "{turns:?}");
        }
    }
}
