//! What holds for one request, field by field: the rule's word, then the policy's, then the default; zero means none and is not the same as absent.

use core::time::Duration;

use super::super::{
    ATTEMPTS_DEFAULT, BACKOFF_DEFAULT, BUDGET_DEFAULT, FailureClass, PolicySpec, RETRY_ON_DEFAULT, RequestSettings,
    RetryBudget, RetryPolicy, RetrySettings, RouteRetry, RouteTimeouts, TimeoutPolicy,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A policy with nothing but these timeouts.
fn timeouts(request: Option<Duration>, backend_request: Option<Duration>) -> PolicySpec {
    PolicySpec {
        timeout: Some(TimeoutPolicy {
            request,
            backend_request,
        }),
        ..PolicySpec::default()
    }
}

/// A policy with nothing but this `retry`.
fn retries(retry: RetryPolicy) -> PolicySpec {
    PolicySpec {
        retry: Some(retry),
        ..PolicySpec::default()
    }
}

#[test]
fn timeouts_of_the_rule_come_before_those_of_the_policy() {
    let zero = Some(Duration::ZERO);
    for (rule, policy, expected) in [
        (None, None, None),
        (Some(ms(1)), None, Some(ms(1))),
        (None, Some(ms(2)), Some(ms(2))),
        (Some(ms(1)), Some(ms(2)), Some(ms(1))),
        (zero, None, None),
        (None, zero, None),
        (zero, Some(ms(2)), None),
        (Some(ms(1)), zero, Some(ms(1))),
    ] {
        let row = format!("{rule:?} over {policy:?}");
        let of_request = RouteTimeouts {
            request: rule,
            backend_request: None,
        };
        let settings = RequestSettings::of(of_request, None, Some(&timeouts(policy, Some(ms(7)))));
        assert_eq!(settings.timeout, expected, "request: {row}");
        assert_eq!(
            settings.attempt_timeout,
            Some(ms(7)),
            "request says nothing of backendRequest: {row}"
        );
        let of_attempt = RouteTimeouts {
            request: None,
            backend_request: rule,
        };
        let settings = RequestSettings::of(of_attempt, None, Some(&timeouts(Some(ms(7)), policy)));
        assert_eq!(settings.attempt_timeout, expected, "backendRequest: {row}");
        assert_eq!(
            settings.timeout,
            Some(ms(7)),
            "backendRequest says nothing of request: {row}"
        );
    }
}

#[test]
fn without_a_word_nothing_is_timed_or_retried() {
    let nothing = RequestSettings::default();
    assert_eq!(RequestSettings::of(RouteTimeouts::default(), None, None), nothing);
    let empty = PolicySpec::default();
    assert_eq!(
        RequestSettings::of(RouteTimeouts::default(), None, Some(&empty)),
        nothing
    );
    let other = timeouts(Some(ms(1)), None);
    let settings = RequestSettings::of(RouteTimeouts::default(), None, Some(&other));
    assert_eq!(settings.retry, None, "a timeout is no wish for retries");
}

/// What `retry` becomes, where it is asked for and every field is left to its default.
fn default_retry() -> RetrySettings {
    RetrySettings {
        attempts: ATTEMPTS_DEFAULT,
        codes: [].into(),
        on: RETRY_ON_DEFAULT.into(),
        backoff: BACKOFF_DEFAULT,
        budget: BUDGET_DEFAULT,
    }
}

fn retry_of(rule: Option<&RouteRetry>, policy: Option<RetryPolicy>) -> Option<RetrySettings> {
    let policy = policy.map(retries);
    RequestSettings::of(RouteTimeouts::default(), rule, policy.as_ref()).retry
}

#[test]
fn each_field_of_retry_is_the_rules_or_the_policys_or_the_default() {
    let budget = RetryBudget {
        percent: 50,
        ..BUDGET_DEFAULT
    };
    let rule = RouteRetry {
        attempts: Some(2),
        codes: Some(vec![503, 500]),
        backoff: Some(ms(10)),
    };
    let policy = RetryPolicy {
        attempts: Some(5),
        codes: Some(vec![429]),
        retry_on: Some([FailureClass::Http5xx].into()),
        backoff: Some(ms(99)),
        budget: Some(budget),
    };
    let of_rule = RetrySettings {
        attempts: 2,
        codes: [500, 503].into(),
        backoff: ms(10),
        ..default_retry()
    };
    let of_policy = RetrySettings {
        attempts: 5,
        codes: [429].into(),
        on: [FailureClass::Http5xx].into(),
        backoff: ms(99),
        budget,
    };
    let of_both = RetrySettings {
        on: of_policy.on.clone(),
        budget,
        ..of_rule.clone()
    };
    let (no_rule, no_policy) = (RouteRetry::default(), RetryPolicy::default());
    for (rule, policy, expected) in [
        (Some(&no_rule), None, default_retry()),
        (None, Some(&no_policy), default_retry()),
        (Some(&rule), None, of_rule.clone()),
        (Some(&rule), Some(&no_policy), of_rule.clone()),
        (None, Some(&policy), of_policy.clone()),
        (Some(&no_rule), Some(&policy), of_policy.clone()),
        (Some(&rule), Some(&policy), of_both),
    ] {
        assert_eq!(
            retry_of(rule, policy.cloned()),
            Some(expected),
            "{rule:?} over {policy:?}"
        );
    }
}

#[test]
fn fields_are_taken_one_by_one() {
    let policy = RetryPolicy {
        attempts: Some(5),
        codes: Some(vec![429]),
        retry_on: None,
        backoff: Some(ms(99)),
        budget: None,
    };
    let of_policy = RetrySettings {
        attempts: 5,
        codes: [429].into(),
        backoff: ms(99),
        ..default_retry()
    };
    let none = RouteRetry::default();
    let attempts = RouteRetry {
        attempts: Some(2),
        ..none.clone()
    };
    let codes = RouteRetry {
        codes: Some(vec![]),
        ..none.clone()
    };
    let backoff = RouteRetry {
        backoff: Some(ms(1)),
        ..none
    };
    let with = |change: fn(&mut RetrySettings)| {
        let mut settings = of_policy.clone();
        change(&mut settings);
        settings
    };
    for (rule, expected) in [
        (&attempts, with(|settings| settings.attempts = 2)),
        (&codes, with(|settings| settings.codes.clear())),
        (&backoff, with(|settings| settings.backoff = ms(1))),
    ] {
        assert_eq!(retry_of(Some(rule), Some(policy.clone())), Some(expected), "{rule:?}");
    }
}

#[test]
fn no_attempts_are_no_retry() {
    let rule = |attempts| RouteRetry {
        attempts,
        ..RouteRetry::default()
    };
    let policy = |attempts| RetryPolicy {
        attempts,
        ..RetryPolicy::default()
    };
    for (of_rule, of_policy, expected) in [
        (Some(0), Some(3), None),
        (Some(3), Some(0), Some(3)),
        (None, Some(0), None),
        (Some(0), None, None),
        (None, None, Some(ATTEMPTS_DEFAULT)),
    ] {
        let settings = retry_of(Some(&rule(of_rule)), Some(policy(of_policy)));
        let attempts = settings.map(|settings| settings.attempts);
        assert_eq!(attempts, expected, "{of_rule:?} over {of_policy:?}");
    }
}
