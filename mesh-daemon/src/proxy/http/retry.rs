//! Whether a request may be tried again, when, and with what body. Only what is safe to send again is: what nobody has seen, what is idempotent
//! (RFC 9110, 9.2.2), and gRPC calls that ended with a status for which the settings ask by name.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use hyper::{Method, Request, body::Incoming};

use super::replay::{Outgoing, Replay, Replayed};
use crate::model::{AttemptEnd, RequestSettings, RetrySettings};

/// Largest backoff, as a multiple of its base: as Envoy has it.
const BACKOFF_FACTOR_MAX: u32 = 10;

/// The retries of one request.
pub(super) struct Retries {
    settings: Arc<RequestSettings>,
    is_idempotent: bool,
    is_grpc: bool,
    /// Retries that were made.
    made: u32,
    again: Again,
}

/// What a retry would send.
enum Again {
    /// Nothing: the request goes out as it comes in.
    Nothing,
    /// Head and body, as far as it was kept.
    Kept(Parts, Replayed),
    /// The request itself, of which nobody has seen anything.
    Unsent(Request<Outgoing>),
}

impl Retries {
    /// For a request that is about to be sent first; hands it back in the form in which it is sent. Upgrades are sent once: what they switch to cannot be
    /// kept.
    pub(super) fn new(
        settings: &Arc<RequestSettings>,
        request: Request<Incoming>,
        is_grpc: bool,
        is_upgrade: bool,
    ) -> (Self, Request<Outgoing>) {
        let is_idempotent = is_idempotent(request.method());
        let (parts, body) = request.into_parts();
        let keeps = settings.retry.is_some() && !is_upgrade && (is_idempotent || is_grpc);
        let (again, body) = if keeps {
            let (body, handle) = Replay::new(body);
            (Again::Kept(parts.clone(), handle), Outgoing::replay(body))
        } else {
            (Again::Nothing, Outgoing::plain(body))
        };
        let retries = Self {
            settings: Arc::clone(settings),
            is_idempotent,
            is_grpc,
            made: 0,
            again,
        };
        (retries, Request::from_parts(parts, body))
    }

    /// The request was not sent at all. Where its body is kept anyway, what is kept serves further retries too.
    pub(super) fn unsent(&mut self, request: Request<Outgoing>) {
        if !matches!(self.again, Again::Kept(..)) {
            self.again = Again::Unsent(request);
        }
    }

    /// Whether an attempt that ended so should be followed by another, as far as settings and safety go.
    pub(super) fn wants(&self, end: AttemptEnd, was_sent: bool) -> bool {
        let Some(settings) = &self.settings.retry else {
            return false;
        };
        let is_safe = match &self.again {
            Again::Unsent(_) => true,
            Again::Nothing => false,
            Again::Kept(..) => !was_sent || self.is_idempotent || is_status_of_call(self.is_grpc, end),
        };
        is_safe && self.made < settings.attempts && is_wanted(settings, end)
    }

    /// How long to wait before the next; `random` is from 0 to 1.
    pub(super) fn backoff(&self, random: f64) -> Duration {
        let base = self.settings.retry.as_ref().map(|retry| retry.backoff);
        backoff(base.unwrap_or_default(), self.made, random)
    }

    /// Whether [`Self::again`] has anything to give.
    pub(super) fn is_possible(&self) -> bool {
        match &self.again {
            Again::Nothing => false,
            Again::Unsent(_) => true,
            Again::Kept(_, handle) => handle.is_kept(),
        }
    }

    /// The request once more; none if too much of its body is gone.
    pub(super) fn again(&mut self) -> Option<Request<Outgoing>> {
        let request = match std::mem::replace(&mut self.again, Again::Nothing) {
            Again::Nothing => return None,
            Again::Unsent(request) => request,
            Again::Kept(parts, handle) => {
                let request = Request::from_parts(parts.clone(), Outgoing::replay(handle.again()?));
                self.again = Again::Kept(parts, handle);
                request
            }
        };
        self.made += 1;
        Some(request)
    }

    /// Whether the client's body broke off: then a failed attempt is not the endpoint's doing.
    pub(super) fn is_body_broken(&self) -> bool {
        matches!(&self.again, Again::Kept(_, handle) if handle.is_broken())
    }

    /// Nothing is sent again from here on: what was kept for it goes.
    pub(super) fn give_up(&self) {
        if let Again::Kept(_, handle) = &self.again {
            handle.give_up();
        }
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

/// A call of gRPC that the endpoint itself ended without an answer: by its status it says what the client may do.
fn is_status_of_call(is_grpc: bool, end: AttemptEnd) -> bool {
    is_grpc && matches!(end, AttemptEnd::Answered { grpc: Some(_), .. })
}

fn is_wanted(settings: &RetrySettings, end: AttemptEnd) -> bool {
    let by_code = match end {
        AttemptEnd::Answered { status, .. } => settings.codes.contains(&status),
        _ => false,
    };
    by_code || end.is_in(&settings.on)
}

/// The base is the least time (GEP-1731); it doubles with each retry up to a bound, and up to half of it is added, so that clients of one outage do not
/// come back together.
fn backoff(base: Duration, made: u32, random: f64) -> Duration {
    let factor = 2_u32.saturating_pow(made).min(BACKOFF_FACTOR_MAX);
    let least = base.saturating_mul(factor);
    least + least.mul_f64(random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BUDGET_DEFAULT, FailureClass};

    fn settings(codes: &[u16], on: &[FailureClass]) -> RetrySettings {
        RetrySettings {
            attempts: 2,
            codes: codes.iter().copied().collect(),
            on: on.iter().copied().collect(),
            backoff: Duration::from_millis(25),
            budget: BUDGET_DEFAULT,
        }
    }

    fn answered(status: u16, grpc: Option<u8>) -> AttemptEnd {
        AttemptEnd::Answered { status, grpc }
    }

    #[test]
    fn what_is_wanted() {
        use FailureClass::{ConnectFailure, GatewayError, Grpc, Http5xx, Reset, Timeout};
        for (codes, on, end, expected) in [
            (&[503][..], &[][..], answered(503, None), true),
            (&[503], &[], answered(500, None), false),
            (&[], &[Http5xx], answered(599, None), true),
            (&[], &[Http5xx], answered(429, None), false),
            (&[429], &[], answered(429, None), true),
            (&[], &[GatewayError], answered(500, None), false),
            (&[], &[GatewayError], answered(502, None), true),
            (&[], &[Grpc(14)], answered(200, Some(14)), true),
            (&[], &[Grpc(14)], answered(200, Some(13)), false),
            (&[], &[Reset], AttemptEnd::Reset, true),
            (&[], &[Reset], AttemptEnd::Timeout, false),
            (&[], &[Timeout], AttemptEnd::Timeout, true),
            (&[], &[ConnectFailure], AttemptEnd::ConnectFailure, true),
            (&[200], &[], AttemptEnd::ConnectFailure, false),
        ] {
            assert_eq!(
                is_wanted(&settings(codes, on), end),
                expected,
                "{codes:?} {on:?} {end:?}"
            );
        }
    }

    #[test]
    fn only_a_call_that_the_endpoint_ended_itself_says_so_by_status() {
        assert!(is_status_of_call(true, answered(200, Some(14))));
        assert!(!is_status_of_call(false, answered(200, Some(14))));
        assert!(!is_status_of_call(true, answered(503, None)));
        assert!(!is_status_of_call(true, AttemptEnd::Reset));
    }

    #[test]
    fn methods_that_may_be_sent_twice() {
        let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        for (method, expected) in idempotent
            .map(|method| (method, true))
            .into_iter()
            .chain(["POST", "PATCH", "CONNECT", "BREW"].map(|method| (method, false)))
        {
            assert_eq!(is_idempotent(&method.parse().unwrap()), expected, "{method}");
        }
    }

    #[test]
    fn the_backoff_doubles_to_a_bound_and_is_never_below_its_base() {
        let base = Duration::from_millis(100);
        for (made, random, expected_ms) in [
            (0, 0.0, 100),
            (0, 1.0, 150),
            (1, 0.0, 200),
            (2, 0.5, 500),
            (3, 0.0, 800),
            (4, 0.0, 1000),
            (40, 1.0, 1500),
        ] {
            assert_eq!(
                backoff(base, made, random),
                Duration::from_millis(expected_ms),
                "{made} {random}"
            );
        }
        assert_eq!(backoff(Duration::ZERO, 3, 1.0), Duration::ZERO);
    }
}
