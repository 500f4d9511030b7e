//! An API server with its last good state beside it: the state serves while the first lists do not come, and follows them once they have.

use std::{io, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Metrics,
    cluster::Cluster,
    objects::Objects,
    start::{GRACE, Serves, Start},
    state::{Answer, Keeper, Loaded, Place},
    until,
};
use crate::ready::{Item, Readiness};

/// Least time between two writes of the state: a restart finds what was true seconds ago, and a busy cluster does not wear out the disk.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Fastest rate at which the state is written, in bytes a second: a large cluster changes all the time, and its megabytes are written less
/// often. At this rate it is under 9 GB a day.
const SAVE_RATE_MAX: u64 = 100_000;
/// How soon a write that failed is tried again: a full disk is rarely emptied sooner.
const SAVE_RETRY: Duration = Duration::from_secs(60);
/// Longest time that an unchanged state keeps its old date while the API server answers: its age says how long nobody has confirmed it.
const SAVE_AGAIN: Duration = Duration::from_secs(10 * 60);

/// The watches, as this part of the room sees them: what its tests stand in for.
pub(super) trait Lists {
    /// Returns once the objects may say something new. Cancel-safe.
    async fn changed(&mut self);
    /// Whether every kind has had its first full list.
    fn is_complete(&self) -> bool;
    /// What the lists say now.
    fn objects(&self) -> &Objects;
    /// What is wrong now, if anything, in one sentence.
    fn trouble(&self) -> Option<String>;
    /// The missing lists are no reason not to be ready: the note says what serves instead.
    fn excuse(&mut self, note: &str);
    /// Lets go what other nodes may wait for.
    async fn close(&mut self);
    /// Takes over what only the saved objects know: last valid specs. Says whether there was any.
    fn inherit(&mut self, saved: &Objects) -> bool;
}

impl Lists for Cluster {
    async fn changed(&mut self) {
        Self::changed(self).await;
    }

    fn is_complete(&self) -> bool {
        Self::is_complete(self)
    }

    fn objects(&self) -> &Objects {
        Self::objects(self)
    }

    fn trouble(&self) -> Option<String> {
        Self::trouble(self)
    }

    fn excuse(&mut self, note: &str) {
        Self::excuse(self, note);
    }

    async fn close(&mut self) {
        Self::close(self).await;
    }

    fn inherit(&mut self, saved: &Objects) -> bool {
        Self::inherit(self, saved)
    }
}

/// Lists and state.
pub(super) struct Kept<L> {
    lists: L,
    start: Start,
    place: Place,
    keeper: Option<Keeper>,
    loading: Option<oneshot::Receiver<Answer>>,
    /// What became of the question, until it is known whether the state is needed; none in it if the thread has died.
    answer: Option<Option<Answer>>,
    state: Option<Loaded>,
    /// What the state was excused with.
    excuse: Option<String>,
    refused: Option<Item>,
    save: Save,
    readiness: Readiness,
    metrics: Metrics,
}

/// When the state is written.
struct Save {
    /// Whether there is anything that is not written.
    dirty: bool,
    /// Not before.
    not_before: Option<Instant>,
    /// When it was last handed over.
    last: Option<Instant>,
    /// Longest time without a write.
    again: Duration,
    /// Being written.
    saving: Option<oneshot::Receiver<io::Result<u64>>>,
    /// Whether the last write failed, which is said once.
    failed: bool,
}

impl<L: Lists> Kept<L> {
    /// Around watches that were just started.
    pub(super) fn new(lists: L, place: Place, readiness: Readiness, metrics: Metrics) -> Self {
        let keeper = match Keeper::start(place.clone()) {
            Ok(keeper) => Some(keeper),
            Err(error) => {
                tracing::warn!(%error, "cannot start the thread that keeps the state: a restart while the API server is away will serve nothing");
                None
            }
        };
        let mut kept = Self {
            lists,
            start: Start::new(Instant::now()),
            // at once, also where the lists come in time: it alone may know the last valid spec of a policy
            loading: keeper.as_ref().map(Keeper::load),
            answer: None,
            keeper,
            state: None,
            excuse: None,
            refused: None,
            save: Save {
                dirty: false,
                not_before: None,
                last: None,
                // a state must not be refused for its age while the daemon that writes it is well
                again: SAVE_AGAIN.min(place.age_max / 4).max(SAVE_EVERY),
                saving: None,
                failed: false,
            },
            place,
            readiness,
            metrics,
        };
        kept.listed();
        kept
    }

    /// Returns once the objects may say something new. Cancel-safe: what happens here happens between two awaits.
    pub(super) async fn changed(&mut self) {
        loop {
            let now = Instant::now();
            // looked at by hand, since a source that always has something new may leave a timer no turn
            if self.save_at().is_some_and(|at| at <= now) {
                self.save_now(now);
            }
            let (grace_ends, save_at) = (self.start.grace_ends(), self.save_at());
            tokio::select! {
                () = self.lists.changed() => {
                    self.save.dirty = true;
                    self.listed();
                    return;
                }
                () = until(grace_ends) => {
                    self.start.late();
                    if let Some(answer) = self.answer.take() && self.loaded(answer) {
                        return;
                    }
                }
                answer = answered(&mut self.loading) => if self.read(answer) {
                    return;
                },
                answer = answered(&mut self.save.saving) => self.saved(answer),
                () = until(save_at) => {}
            }
        }
    }

    /// Whether there is something to publish: every list, or the state instead.
    pub(super) fn is_complete(&self) -> bool {
        self.start.serves() != Serves::Nothing
    }

    /// The lists or the state, never a mixture.
    pub(super) fn objects(&self) -> &Objects {
        match &self.state {
            Some(state) => &state.objects,
            None => self.lists.objects(),
        }
    }

    /// Lets go what others wait for, and writes what is not written yet, at the daemon's orderly end.
    pub(super) async fn close(mut self) {
        self.lists.close().await;
        if self.save.saving.is_some() {
            let answer = answered(&mut self.save.saving).await;
            self.saved(answer);
        }
        if self.start.serves() == Serves::Live && self.save.dirty && !self.save.failed {
            self.save_now(Instant::now());
            let answer = answered(&mut self.save.saving).await;
            self.saved(answer);
        }
    }

    /// The lists may be complete now, or in another trouble than before.
    fn listed(&mut self) {
        if !self.lists.is_complete() {
            if self.state.is_some() {
                self.tell_excuse();
            }
            return;
        }
        match self.start.complete() {
            Serves::Live => return,
            Serves::State => {
                tracing::info!("the API server's lists are complete: its objects replace the saved state");
            }
            Serves::Nothing => {}
        }
        let now = Instant::now();
        let saved = match self.answer.take() {
            Some(Some(Ok(saved))) => saved,
            _ => self.state.take(),
        };
        if let Some(saved) = saved {
            self.lists.inherit(&saved.objects);
        }
        self.state = None;
        self.metrics.serves_state(false);
        if let Some(refused) = self.refused.take() {
            refused.ready();
        }
        self.save.dirty = true;
        self.save.last = Some(now);
        self.save.not_before = Some(now + SAVE_EVERY);
    }

    /// The state was read. Says whether there is something new to publish.
    fn read(&mut self, answer: Option<Answer>) -> bool {
        if self.start.grace_ends().is_some() {
            self.answer = Some(answer);
            return false;
        }
        match (self.start.serves(), answer) {
            (Serves::Live, Some(Ok(Some(saved)))) => self.lists.inherit(&saved.objects),
            (Serves::Live, _) => false,
            (_, answer) => self.loaded(answer),
        }
    }

    /// The state is needed. Says whether there is something new to publish.
    fn loaded(&mut self, answer: Option<Answer>) -> bool {
        let file = self.place.file();
        let file = file.display();
        let trouble = self.trouble();
        match answer {
            Some(Ok(Some(state))) => {
                if !self.start.loaded() {
                    return false;
                }
                tracing::warn!(state = state.when, %trouble, "the API server's lists have not come in {GRACE:?}: serving the saved state");
                self.state = Some(state);
                self.metrics.serves_state(true);
                self.tell_excuse();
                return true;
            }
            Some(Ok(None)) => {
                tracing::warn!(%trouble, "the API server's lists have not come in {GRACE:?}, and there is no saved state {file}: waiting for them");
            }
            Some(Err(refused)) => {
                tracing::warn!(%trouble, "the API server's lists have not come in {GRACE:?}, and the saved state {file} is not used: {refused}");
                let item = self.readiness.item("saved state");
                item.ready_but(format!("{file} is not used: {refused}"));
                self.refused = Some(item);
            }
            None => tracing::error!("the thread that reads the saved state {file} has ended, which is a bug"),
        }
        false
    }

    fn tell_excuse(&mut self) {
        let Some(state) = &self.state else { return };
        let excuse = format!("serves the state {} at the start: {}", state.when, self.trouble());
        if self.excuse.as_ref() != Some(&excuse) {
            self.lists.excuse(&excuse);
            self.excuse = Some(excuse);
        }
    }

    fn trouble(&self) -> String {
        let trouble = self.lists.trouble();
        trouble.unwrap_or_else(|| "the API server's lists are not complete yet".to_owned())
    }

    /// When to write the state; none while it is being written, or if nothing asks for it.
    fn save_at(&self) -> Option<Instant> {
        if self.keeper.is_none() || self.start.serves() != Serves::Live || self.save.saving.is_some() {
            return None;
        }
        // what is written before the last state was read would lack the last valid specs that it alone knows
        if self.loading.is_some() {
            return None;
        }
        let not_before = self.save.not_before?;
        if self.save.dirty {
            return Some(not_before);
        }
        // what nobody confirms keeps its date
        let confirmed = self.lists.trouble().is_none();
        let again = self.save.last.filter(|_| confirmed)? + self.save.again;
        Some(again.max(not_before))
    }

    fn save_now(&mut self, now: Instant) {
        let Some(keeper) = &self.keeper else { return };
        self.save.saving = Some(keeper.save(&self.place.node, self.lists.objects()));
        self.save.dirty = false;
        self.save.last = Some(now);
        self.save.not_before = Some(now + SAVE_EVERY);
    }

    fn saved(&mut self, answer: Option<io::Result<u64>>) {
        let now = Instant::now();
        let file = self.place.file();
        let file = file.display();
        let answer = answer.unwrap_or_else(|| Err(io::Error::other("its thread has ended, which is a bug")));
        self.metrics.state_written(answer.is_ok());
        match answer {
            Ok(length) => {
                let pause = SAVE_EVERY.max(Duration::from_secs(length / SAVE_RATE_MAX));
                self.save.not_before = Some(now + pause);
                tracing::debug!(length, "the state {file} is written");
                if std::mem::take(&mut self.save.failed) {
                    tracing::info!("the state {file} can be written again");
                }
            }
            Err(error) => {
                self.save.dirty = true;
                self.save.not_before = Some(now + SAVE_RETRY);
                if !std::mem::replace(&mut self.save.failed, true) {
                    tracing::warn!(
                        %error,
                        "cannot write the state {file}: make room or make it writable, or name another directory with --state-dir; \
                         everything serves on, and a restart while the API server is away will serve an older state or none"
                    );
                }
            }
        }
    }
}

/// The answer, once; none if it will never come. For ever without a question.
async fn answered<T>(question: &mut Option<oneshot::Receiver<T>>) -> Option<T> {
    let answer = match question {
        Some(answer) => answer.await.ok(),
        None => std::future::pending().await,
    };
    *question = None;
    answer
}

#[cfg(test)]
mod tests;
