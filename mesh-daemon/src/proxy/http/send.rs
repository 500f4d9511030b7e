//! Attempts to have one request answered: another endpoint where nothing was sent yet, a retry where the settings ask for one and it is safe, all
//! within their time.

use std::{rc::Rc, sync::Arc};

use hyper::{Request, Response, body::Incoming};
use tokio::time::{Instant, sleep};

use super::{
    client::{Asking, Untaken},
    grpc,
    replay::Outgoing,
    retry::Retries,
};
use crate::{
    model::{AttemptEnd, RequestSettings},
    proxy::{
        Worker,
        choose::{Attempt, Chooser},
        detect::Protocol,
        dial,
        identify::Connection,
        metrics::Retried,
        outcome::{Failure, Limit, TimeoutField},
        pool::{Fresh, Lease},
        report::Exchange,
        route::Plan,
    },
};

/// An answer, and what it still occupies.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) attempt: Attempt,
    /// Until when its last byte must be there.
    pub(super) until: Option<Instant>,
}

/// One request that is to be answered.
pub(super) struct Sending<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a Connection,
    pub(super) protocol: Protocol,
    pub(super) plan: &'a Plan,
    pub(super) is_grpc: bool,
    pub(super) times: Times,
    pub(super) retries: Retries,
}

/// The times that hold for one request.
pub(super) struct Times {
    /// Until when a connection must be there; each retry has the time anew.
    connected_by: Instant,
    /// Until when everything must have ended.
    ends_by: Option<Instant>,
    settings: Arc<RequestSettings>,
}

/// The first attempt's connection, where one is there already.
pub(super) type Early = (Attempt, Option<Fresh>);

impl Answer {
    /// The client gets another one: what this one occupies is free at once, since the next attempt may need it.
    fn discard(self) {
        let Self {
            response,
            lease,
            attempt,
            ..
        } = self;
        drop(response);
        lease.abandon(attempt.is_crowded());
    }
}

impl Times {
    pub(super) fn new(settings: &Arc<RequestSettings>) -> Self {
        Self {
            connected_by: dial::deadline(),
            ends_by: settings.timeout.map(|timeout| Instant::now() + timeout),
            settings: Arc::clone(settings),
        }
    }

    /// Until when an attempt that begins now must have ended, and what says so.
    fn of_attempt(&self) -> Option<(Instant, TimeoutField)> {
        let own = self
            .settings
            .attempt_timeout
            .map(|timeout| (Instant::now() + timeout, TimeoutField::Attempt));
        let all = self.ends_by.map(|by| (by, TimeoutField::Request));
        own.into_iter().chain(all).min_by_key(|(by, _)| *by)
    }

    fn is_before_end(&self, at: Instant) -> bool {
        self.ends_by.is_none_or(|by| at < by)
    }
}

impl Sending<'_> {
    /// Attempts until one is answered as it should be, or no other may be made: then the last one's end is the request's.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn send(
        &mut self,
        mut chooser: Chooser<'_>,
        early: Option<Early>,
        mut request: Request<Outgoing>,
        report: &mut Exchange,
    ) -> Result<Answer, Failure> {
        let (mut attempt, mut fresh) = match early {
            Some(early) => early,
            None => (chooser.next()?, None),
        };
        loop {
            report.attempts += 1;
            let asked = self.attempt(attempt, fresh, request).await;
            // nobody was dialled where no connection was allowed
            let is_refused = matches!(&asked, Err(Untaken::Whole(_, Failure::Overflow(_))));
            report.attempts -= u32::from(is_refused);
            let (ended, was_sent) = match asked {
                Ok(answer) => (Ok(answer), true),
                Err(Untaken::Sent(failure)) => (Err(failure), true),
                Err(Untaken::Whole(whole, failure)) => {
                    // nothing was sent: another endpoint is no retry. None has a connection where the whole Service has none left
                    let is_full = matches!(failure, Failure::Overflow(Limit::Connections));
                    if !is_full && let Some(next) = self.pass_on(&mut chooser) {
                        (attempt, fresh, request) = (next, None, whole);
                        continue;
                    }
                    self.retries.unsent(whole);
                    (Err(failure), false)
                }
            };
            let Some((next, again)) = self.again(&ended, was_sent, &mut chooser).await else {
                return ended;
            };
            if let Ok(answer) = ended {
                answer.discard();
            }
            (attempt, fresh, request) = (next, None, again);
        }
    }

    /// Counts what became of a retry that was wanted.
    fn count(&self, end: AttemptEnd, retried: Retried) {
        if let Some(group) = &self.plan.group {
            let upstream = &group.upstream;
            self.worker.shared.metrics.upstream.retried(upstream, end, retried);
        }
    }

    /// Another endpoint that was not tried, if there is one and time for it.
    fn pass_on(&self, chooser: &mut Chooser<'_>) -> Option<Attempt> {
        let now = Instant::now();
        let has_time = now < self.times.connected_by && self.times.is_before_end(now);
        has_time.then(|| chooser.next().ok()).flatten()
    }

    /// Asks one endpoint. What it says about the endpoint is settled here, except for a head that the client will get: its body may still break.
    async fn attempt(
        &self,
        mut attempt: Attempt,
        early: Option<Fresh>,
        request: Request<Outgoing>,
    ) -> Result<Answer, Untaken> {
        let answered_by = self.times.of_attempt();
        let asking = Asking {
            worker: self.worker,
            client: self.client,
            protocol: self.protocol,
            connected_by: self.times.connected_by,
            answered_by,
        };
        match asking.ask(&attempt, early, request).await {
            Ok((response, lease)) => {
                attempt.answered();
                let end = self.end_of(&response);
                if self.retries.wants(end, true) {
                    // before the pause: whoever asks meanwhile, and the next attempt, must know; and a trial's place is free
                    attempt.settle(self.worker, end);
                }
                Ok(Answer {
                    response,
                    lease,
                    attempt,
                    until: answered_by.map(|(by, _)| by),
                })
            }
            Err(Untaken::Sent(Failure::Unanswered(_, error))) if self.retries.is_body_broken() => {
                Err(Untaken::Sent(Failure::Unfinished(error)))
            }
            Err(untaken) => {
                let (Untaken::Whole(_, failure) | Untaken::Sent(failure)) = &untaken;
                if let Some(end) = failure.attempt_end() {
                    attempt.settle(self.worker, end);
                }
                Err(untaken)
            }
        }
    }

    /// The next attempt and the request once more, after its pause, if what became of it asks for that, it is safe, and there is budget, time and an endpoint.
    /// Until that is sure nothing is taken from the answer: it may be the client's.
    async fn again(
        &mut self,
        ended: &Result<Answer, Failure>,
        was_sent: bool,
        chooser: &mut Chooser<'_>,
    ) -> Option<(Attempt, Request<Outgoing>)> {
        let end = match ended {
            Ok(answer) => Some(self.end_of(&answer.response)),
            Err(failure) => failure.attempt_end(),
        };
        let Some(end) = end.filter(|end| self.retries.wants(*end, was_sent)) else {
            self.retries.give_up();
            return None;
        };
        let pause = self.retries.backoff(self.worker.random.borrow_mut().f64());
        if !self.times.is_before_end(Instant::now() + pause) {
            self.count(end, Retried::NoTime);
            return None;
        }
        if let Err(obstacle) = self.may_retry(Plan::has_budget) {
            self.count(end, obstacle);
            return None;
        }
        sleep(pause).await;
        self.times.connected_by = dial::deadline();
        let Ok(next) = chooser.again(ended.as_ref().ok().map(|answer| &answer.attempt)) else {
            self.count(end, Retried::NoEndpoint);
            return None;
        };
        // the budget comes last: it must not pay for what is not sent
        if let Err(obstacle) = self.may_retry(Plan::pay_retry) {
            self.count(end, obstacle);
            return None;
        }
        self.count(end, Retried::Sent);
        Some((next, self.retries.again()?))
    }

    /// Whether body and budget allow it.
    fn may_retry(&self, has_budget: impl FnOnce(&Plan) -> bool) -> Result<(), Retried> {
        if !self.retries.is_possible() {
            Err(Retried::BodyTooLarge)
        } else if !has_budget(self.plan) {
            Err(Retried::BudgetExhausted)
        } else {
            Ok(())
        }
    }

    /// What a head says.
    fn end_of(&self, response: &Response<Incoming>) -> AttemptEnd {
        AttemptEnd::Answered {
            status: response.status().as_u16(),
            grpc: self.is_grpc.then(|| grpc::status(response.headers())).flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn times(request: Option<Duration>, attempt: Option<Duration>) -> Times {
        Times::new(&Arc::new(RequestSettings {
            timeout: request,
            attempt_timeout: attempt,
            retry: None,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_ends_with_its_own_time_or_the_requests_whichever_is_first() {
        let begin = Instant::now();
        let both = times(Some(500 * MS), Some(400 * MS));
        assert_eq!(both.of_attempt(), Some((begin + 400 * MS, TimeoutField::Attempt)));
        advance(400 * MS).await;
        // a retry has the rest of the request's time, and it is the request's time that it exceeds
        assert_eq!(both.of_attempt(), Some((begin + 500 * MS, TimeoutField::Request)));
        assert!(both.is_before_end(begin + 499 * MS) && !both.is_before_end(begin + 500 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_not_set_ends_nothing() {
        let begin = Instant::now();
        assert_eq!(times(None, None).of_attempt(), None);
        assert!(times(None, Some(MS)).is_before_end(begin + 1000 * MS));
        let (request, attempt) = (times(Some(5 * MS), None), times(None, Some(5 * MS)));
        advance(MS).await;
        assert_eq!(request.of_attempt(), Some((begin + 5 * MS, TimeoutField::Request)));
        assert_eq!(attempt.of_attempt(), Some((begin + 6 * MS, TimeoutField::Attempt)));
    }
}
