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
        outcome::{Failure, TimeoutField},
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
    /// Until when a connection must be there.
    connected_by: Instant,
    /// Until when everything must have ended.
    ends_by: Option<Instant>,
    settings: Arc<RequestSettings>,
}

/// The first attempt's connection, where one is there already.
pub(super) type Early = (Attempt, Option<Fresh>);

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
        mut early: Option<Early>,
        mut request: Request<Outgoing>,
        report: &mut Exchange,
    ) -> Result<Answer, Failure> {
        let mut last: Option<Result<Answer, Failure>> = None;
        loop {
            let next = early.take().map_or_else(|| chooser.next().map(|next| (next, None)), Ok);
            let (attempt, fresh) = match next {
                Ok(next) => next,
                Err(none) => return last.unwrap_or(Err(none)),
            };
            // only now: while no other attempt is under way, this is the answer
            drop(last.take());
            report.attempts += 1;
            let mut ended = match self.attempt(attempt, fresh, request).await {
                Ok(answer) => Ok(answer),
                Err(Untaken::Sent(failure)) => Err(failure),
                Err(Untaken::Whole(whole, failure)) if self.may_pass_on(&chooser) => {
                    // nothing was sent: another endpoint is no retry
                    (request, last) = (whole, Some(Err(failure)));
                    continue;
                }
                Err(Untaken::Whole(whole, failure)) => {
                    self.retries.unsent(whole);
                    Err(failure)
                }
            };
            match self.again(&mut ended, &mut chooser).await {
                Some(next) => (request, last) = (next, Some(ended)),
                None => return ended,
            }
        }
    }

    fn may_pass_on(&self, chooser: &Chooser<'_>) -> bool {
        let now = Instant::now();
        chooser.has_untried() && now < self.times.connected_by && self.times.is_before_end(now)
    }

    /// Asks one endpoint. What it says about the endpoint is settled here, except for a good head: its body may still break.
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

    /// The request once more, after its pause, if what became of it asks for that, it is safe, and there is budget and time.
    async fn again(
        &mut self,
        ended: &mut Result<Answer, Failure>,
        chooser: &mut Chooser<'_>,
    ) -> Option<Request<Outgoing>> {
        let end = match &*ended {
            Ok(answer) => Some(self.end_of(&answer.response)),
            Err(failure) => failure.attempt_end(),
        };
        let Some(end) = end.filter(|end| self.retries.wants(*end)) else {
            self.retries.give_up();
            return None;
        };
        let pause = self.retries.backoff(self.worker.random.borrow_mut().f64());
        let metrics = &self.worker.shared.metrics;
        let upstream = self.plan.group.as_ref().map(|group| &*group.upstream);
        if !self.times.is_before_end(Instant::now() + pause) {
            metrics.retried(upstream, end, Retried::NoTime);
            return None;
        }
        // asked before the budget is: that must not pay for what is not sent
        if !self.retries.is_possible() {
            metrics.retried(upstream, end, Retried::BodyTooLarge);
            return None;
        }
        if !self.plan.may_retry() {
            metrics.retried(upstream, end, Retried::BudgetExhausted);
            return None;
        }
        let next = self.retries.again()?;
        metrics.retried(upstream, end, Retried::Sent);
        if let Ok(answer) = ended {
            // nobody carries its body: its breaker would never hear of it
            answer.attempt.settle(self.worker, end);
        }
        sleep(pause).await;
        if !chooser.has_untried() {
            chooser.forget();
        }
        Some(next)
    }

    /// What a head says.
    fn end_of(&self, response: &Response<Incoming>) -> AttemptEnd {
        AttemptEnd::Answered {
            status: response.status().as_u16(),
            grpc: self.is_grpc.then(|| grpc::status(response.headers())).flatten(),
        }
    }
}
