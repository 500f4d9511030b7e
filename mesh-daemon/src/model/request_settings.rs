//! What holds for one request: the settings of its route's rule over those of the policy of the Service that the client addressed, field by field.

use std::collections::BTreeSet;

use core::time::Duration;

use super::{
    http_route::{RouteRetry, RouteTimeouts},
    traffic_policy::{FailureClass, PolicySpec, RetryBudget},
};

/// What is retried where a retry is asked for and `retryOn` is not given: what the standard wants retried (GEP-1731, connection errors), and timeouts of an attempt.
pub const RETRY_ON_DEFAULT: [FailureClass; 3] =
    [FailureClass::ConnectFailure, FailureClass::Reset, FailureClass::Timeout];
/// Retries where a retry is asked for and `attempts` is not given: one finds another endpoint; more multiply the load of an outage.
pub const ATTEMPTS_DEFAULT: u32 = 1;
/// Base of the backoff where it is not given: what Envoy has, far below what a person notices.
pub const BACKOFF_DEFAULT: Duration = Duration::from_millis(25);
/// The budget where none is given (GEP-3388, XBackendTrafficPolicy).
pub const BUDGET_DEFAULT: RetryBudget = RetryBudget {
    percent: 20,
    interval: Duration::from_secs(10),
    min_retry_count: 10,
    min_retry_interval: Duration::from_secs(1),
};

/// The settings of one request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RequestSettings {
    /// Time for all attempts, the answer's last byte included.
    pub timeout: Option<Duration>,
    /// Time for one attempt.
    pub attempt_timeout: Option<Duration>,
    /// Whether and how often it is tried again.
    pub retry: Option<RetrySettings>,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Retries at most; the first try is none. Never 0.
    pub attempts: u32,
    /// HTTP statuses that are retried.
    pub codes: BTreeSet<u16>,
    /// What else is.
    pub on: BTreeSet<FailureClass>,
    /// Base of the exponential backoff.
    pub backoff: Duration,
    /// The budget of the Service.
    pub budget: RetryBudget,
}

impl RequestSettings {
    /// Rule over policy, field by field.
    pub fn of(timeouts: RouteTimeouts, retry: Option<&RouteRetry>, policy: Option<&PolicySpec>) -> Self {
        let timeout = policy.and_then(|policy| policy.timeout).unwrap_or_default();
        Self {
            timeout: some_time(timeouts.request.or(timeout.request)),
            attempt_timeout: some_time(timeouts.backend_request.or(timeout.backend_request)),
            retry: RetrySettings::of(retry, policy),
        }
    }
}

impl RetrySettings {
    fn of(rule: Option<&RouteRetry>, policy: Option<&PolicySpec>) -> Option<Self> {
        let policy = policy.and_then(|policy| policy.retry.as_ref());
        if rule.is_none() && policy.is_none() {
            return None;
        }
        let rule = rule.cloned().unwrap_or_default();
        let policy = policy.cloned().unwrap_or_default();
        let attempts = rule.attempts.or(policy.attempts).unwrap_or(ATTEMPTS_DEFAULT);
        (attempts > 0).then(|| Self {
            attempts,
            codes: rule.codes.or(policy.codes).unwrap_or_default().into_iter().collect(),
            on: policy.retry_on.unwrap_or_else(|| RETRY_ON_DEFAULT.into()),
            backoff: rule.backoff.or(policy.backoff).unwrap_or(BACKOFF_DEFAULT),
            budget: policy.budget.unwrap_or(BUDGET_DEFAULT),
        })
    }
}

/// Zero means none (GEP-1742).
fn some_time(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}
