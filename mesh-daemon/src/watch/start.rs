//! What is served at the start: what the API server lists, or the saved state if the lists do not come. Pure; never a mixture of both.

use std::time::Duration;

use tokio::time::Instant;

/// How long the first full lists may take before the saved state is served. An API server that is there answers ten thousand pods in less,
/// so that a restart does not flap through an old state; one that is not there costs a restarted daemon no more than this.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// What is served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// Nothing yet.
    Nothing,
    /// The saved state.
    State,
    /// What the API server says.
    Live,
}

/// The choice.
#[derive(Debug)]
pub(super) struct Start {
    serves: Serves,
    /// Until when the lists are waited for alone; none once that is over.
    grace_ends: Option<Instant>,
}

impl Start {
    /// From the moment at which the watches start.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            serves: Serves::Nothing,
            grace_ends: Some(now + GRACE),
        }
    }

    /// What is served now.
    pub(super) fn serves(&self) -> Serves {
        self.serves
    }

    /// Until when the lists are waited for alone, if they still are.
    pub(super) fn grace_ends(&self) -> Option<Instant> {
        self.grace_ends
    }

    /// They did not come in time.
    pub(super) fn late(&mut self) {
        self.grace_ends = None;
    }

    /// There is a state that may be used. Says whether it is to be served: the lists may have come meanwhile.
    pub(super) fn loaded(&mut self) -> bool {
        let wanted = self.serves == Serves::Nothing;
        if wanted {
            self.serves = Serves::State;
        }
        wanted
    }

    /// Every list is complete, from now on for good. Says what was served before.
    pub(super) fn complete(&mut self) -> Serves {
        self.grace_ends = None;
        std::mem::replace(&mut self.serves, Serves::Live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_come_in_time() {
        let now = Instant::now();
        let mut start = Start::new(now);
        assert_eq!(
            (start.serves(), start.grace_ends()),
            (Serves::Nothing, Some(now + GRACE))
        );
        assert_eq!(start.complete(), Serves::Nothing);
        assert_eq!((start.serves(), start.grace_ends()), (Serves::Live, None));
    }

    #[test]
    fn the_state_serves_until_the_lists_come() {
        let mut start = Start::new(Instant::now());
        start.late();
        assert_eq!((start.serves(), start.grace_ends()), (Serves::Nothing, None));
        assert!(start.loaded());
        assert_eq!(start.serves(), Serves::State);
        assert_eq!(start.complete(), Serves::State);
        assert_eq!(start.complete(), Serves::Live, "once live, always live");
    }

    #[test]
    fn lists_that_come_while_the_state_is_read_win() {
        let mut start = Start::new(Instant::now());
        start.late();
        start.complete();
        assert!(!start.loaded());
        assert_eq!(start.serves(), Serves::Live);
    }
}
