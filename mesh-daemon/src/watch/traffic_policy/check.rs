//! A spec as it came → the model's settings, or the first thing that is wrong with it: what the API server refuses, told once more for manifests
//! and for specs that slipped past it.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    super::convert,
    api::{
        BudgetSpec, CircuitBreakerSpec, HashKeySpec, LimitsSpec, LoadBalancerSpec, RateSpec, RetrySpec, TargetRef,
        TimeoutSpec,
    },
    bounds::{
        ALL_OPEN, BALANCERS, CODE_MAX, CODE_MIN, CODES_MAX, COUNT_MAX, FAILURES, HASH_KEYS, NAME_CHARS_MAX,
        RETRIES_MAX, TARGETS_MAX, THRESHOLD_MAX, TIME_SECONDS_MAX, TOKEN_CHARS_MAX, WINDOW_SECONDS_MIN,
    },
    rules::{self, Rule},
};
use crate::model::{
    CircuitBreaker, FailureClass, HashKey, Limits, LoadBalancer, PolicySpec, RetryBudget, RetryPolicy, TimeoutPolicy,
    WhenAllOpen,
};

/// The longest pause, window and time of an open breaker.
const TIME_MAX: Duration = Duration::from_secs(TIME_SECONDS_MAX);
/// The shortest window of a budget.
const WINDOW_MIN: Duration = Duration::from_secs(WINDOW_SECONDS_MIN);

/// What is read, or the field and what is wrong with it in one sentence.
type Checked<T> = Result<T, String>;

/// A spec's pieces, each to be read by itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pieces {
    target_refs: Option<Value>,
    load_balancer: Option<Value>,
    circuit_breaker: Option<Value>,
    limits: Option<Value>,
    retry: Option<Value>,
    timeout: Option<Value>,
}

/// The names of the targets as far as they can be read, right or wrong.
pub(super) fn named_targets(spec: &Value) -> Vec<String> {
    let refs = spec.get("targetRefs").and_then(Value::as_array).into_iter().flatten();
    let names = refs.filter_map(|target| target.get("name").and_then(Value::as_str));
    names.take(TARGETS_MAX).map(str::to_owned).collect()
}

/// Checks a whole spec.
pub(super) fn check(spec: Value) -> Checked<(Vec<String>, PolicySpec)> {
    let pieces: Pieces = piece(Some(spec), "spec")?.unwrap_or_default();
    let targets = targets(piece(pieces.target_refs, "spec.targetRefs")?.unwrap_or_default())?;
    let spec = PolicySpec {
        load_balancer: section(pieces.load_balancer, "spec.loadBalancer", load_balancer)?,
        circuit_breaker: section(pieces.circuit_breaker, "spec.circuitBreaker", circuit_breaker)?,
        limits: section(pieces.limits, "spec.limits", limits)?,
        retry: section(pieces.retry, "spec.retry", retry)?,
        timeout: section(pieces.timeout, "spec.timeout", timeout)?,
    };
    holds(spec != PolicySpec::default(), rules::SOMETHING, "spec")?;
    Ok((targets, spec))
}

fn piece<T: DeserializeOwned>(value: Option<Value>, field: &str) -> Checked<Option<T>> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| format!("{field}: cannot be read: {error}"))
}

fn section<T: DeserializeOwned, M>(
    value: Option<Value>,
    field: &str,
    read: fn(T, &str) -> Checked<M>,
) -> Checked<Option<M>> {
    piece(value, field)?.map(|piece| read(piece, field)).transpose()
}

fn targets(refs: Vec<TargetRef>) -> Checked<Vec<String>> {
    let field = "spec.targetRefs";
    if refs.is_empty() {
        return Err(format!("{field}: is missing or empty: name at least one Service"));
    }
    if refs.len() > TARGETS_MAX {
        return Err(format!(
            "{field}: has {} entries; {TARGETS_MAX} are the most",
            refs.len()
        ));
    }
    for (i, TargetRef { group, kind, name }) in refs.iter().enumerate() {
        if !group.is_empty() {
            return Err(format!(
                "{field}[{i}].group: {group:?} is not the core group: leave it empty"
            ));
        }
        word(kind, &["Service"], &format!("{field}[{i}].kind"))?;
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(format!("{field}[{i}].name: {name:?} is not the name of a Service"));
        }
    }
    let names: Vec<String> = refs.into_iter().map(|target| target.name).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    holds(distinct.len() == names.len(), rules::TARGETS_ONCE, field)?;
    Ok(names)
}

fn load_balancer(spec: LoadBalancerSpec, field: &str) -> Checked<LoadBalancer> {
    let LoadBalancerSpec { kind, hash_key } = spec;
    word(&kind, &BALANCERS, &format!("{field}.type"))?;
    let key = hash_key
        .map(|key| hash_key_of(key, &format!("{field}.hashKey")))
        .transpose()?;
    let hashes = matches!(kind.as_str(), "RingHash" | "Maglev");
    holds(hashes || key.is_none(), rules::KEY_FORBIDDEN, field)?;
    match (kind.as_str(), key) {
        ("WeightedRoundRobin", _) => Ok(LoadBalancer::WeightedRoundRobin),
        ("LeastRequest", _) => Ok(LoadBalancer::LeastRequest),
        ("Random", _) => Ok(LoadBalancer::Random),
        ("PowerOfTwoChoices", _) => Ok(LoadBalancer::PowerOfTwoChoices),
        ("PeakEwma", _) => Ok(LoadBalancer::PeakEwma),
        ("RingHash", Some(key)) => Ok(LoadBalancer::RingHash(key)),
        ("Maglev", Some(key)) => Ok(LoadBalancer::Maglev(key)),
        ("RingHash" | "Maglev", None) => Err(broken(rules::KEY_NEEDED, field)),
        _ => Ok(LoadBalancer::RoundRobin),
    }
}

fn hash_key_of(spec: HashKeySpec, field: &str) -> Checked<HashKey> {
    let HashKeySpec { kind, name } = spec;
    word(&kind, &HASH_KEYS, &format!("{field}.type"))?;
    let Some(name) = name else {
        holds(kind == "SourceAddress", rules::NAME_NEEDED, field)?;
        return Ok(HashKey::SourceAddress);
    };
    holds(kind != "SourceAddress", rules::NAME_FORBIDDEN, field)?;
    // a header's name is a token as a cookie's is
    if name.len() > TOKEN_CHARS_MAX || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!(
            "{field}.name: {name:?} is not a name of at most {TOKEN_CHARS_MAX} letters, digits and marks"
        ));
    }
    Ok(match kind.as_str() {
        "Header" => HashKey::Header(name.to_ascii_lowercase()),
        _ => HashKey::Cookie(name),
    })
}

fn circuit_breaker(spec: CircuitBreakerSpec, field: &str) -> Checked<CircuitBreaker> {
    let CircuitBreakerSpec {
        failure_threshold,
        success_threshold,
        timeout,
        half_open_requests,
        failure_on,
        max_ejection_percent,
        when_all_open,
    } = spec;
    let threshold = |number, name| whole(number, 1, THRESHOLD_MAX, &format!("{field}.{name}"));
    word(&when_all_open, &ALL_OPEN, &format!("{field}.whenAllOpen"))?;
    let at = format!("{field}.failureOn");
    let failure_on = failures(&failure_on, &at)?;
    if failure_on.is_empty() {
        return Err(format!(
            "{at}: is empty: a breaker that counts nothing never opens; remove the field, or name failures"
        ));
    }
    Ok(CircuitBreaker {
        failure_threshold: threshold(failure_threshold, "failureThreshold")?,
        success_threshold: threshold(success_threshold, "successThreshold")?,
        timeout: time(
            &timeout,
            &format!("{field}.timeout"),
            is_above_zero,
            rules::BREAKER_TIME,
        )?,
        half_open_requests: threshold(half_open_requests, "halfOpenRequests")?,
        failure_on,
        max_ejection_percent: percent(max_ejection_percent, &format!("{field}.maxEjectionPercent"))?,
        when_all_open: match when_all_open.as_str() {
            "Panic" => WhenAllOpen::Panic,
            _ => WhenAllOpen::FailFast,
        },
    })
}

fn limits(spec: LimitsSpec, field: &str) -> Checked<Limits> {
    let LimitsSpec {
        max_connections,
        max_requests,
        max_connections_per_endpoint,
        max_requests_per_endpoint,
    } = spec;
    let limit = |number: Option<i64>, name| {
        let read = number.map(|number| whole(number, 1, COUNT_MAX, &format!("{field}.{name}")));
        read.transpose()
    };
    let limits = Limits {
        max_connections: limit(max_connections, "maxConnections")?,
        max_requests: limit(max_requests, "maxRequests")?,
        max_connections_per_endpoint: limit(max_connections_per_endpoint, "maxConnectionsPerEndpoint")?,
        max_requests_per_endpoint: limit(max_requests_per_endpoint, "maxRequestsPerEndpoint")?,
    };
    holds(limits != Limits::default(), rules::SOME_LIMIT, field)?;
    Ok(limits)
}

fn retry(spec: RetrySpec, field: &str) -> Checked<RetryPolicy> {
    let RetrySpec {
        attempts,
        codes,
        retry_on,
        backoff,
        budget,
    } = spec;
    let attempts = attempts.map(|number| whole(number, 0, RETRIES_MAX, &format!("{field}.attempts")));
    let retry_on = retry_on.map(|words| failures(&words, &format!("{field}.retryOn")));
    let at_most = |time: Duration| time <= TIME_MAX;
    let backoff = backoff.map(|text| time(&text, &format!("{field}.backoff"), at_most, rules::BACKOFF_TIME));
    Ok(RetryPolicy {
        attempts: attempts.transpose()?,
        codes: codes
            .map(|codes| codes_of(&codes, &format!("{field}.codes")))
            .transpose()?,
        retry_on: retry_on.transpose()?,
        backoff: backoff.transpose()?,
        budget: budget
            .map(|budget| budget_of(budget, &format!("{field}.budget")))
            .transpose()?,
    })
}

fn codes_of(codes: &[i64], field: &str) -> Checked<Vec<u16>> {
    if codes.len() > CODES_MAX {
        return Err(format!(
            "{field}: has {} entries; {CODES_MAX} are the most",
            codes.len()
        ));
    }
    let mut known = Vec::new();
    for (i, code) in codes.iter().enumerate() {
        let refused = || format!("{field}[{i}]: {code} is not from {CODE_MIN} to {CODE_MAX}");
        let in_range = Some(*code).filter(|code| (CODE_MIN..=CODE_MAX).contains(code));
        let code = in_range.and_then(|code| u16::try_from(code).ok()).ok_or_else(refused)?;
        if known.contains(&code) {
            return Err(format!("{field}[{i}]: {code} stands there twice"));
        }
        known.push(code);
    }
    Ok(known)
}

fn budget_of(spec: BudgetSpec, field: &str) -> Checked<RetryBudget> {
    let BudgetSpec {
        percent: share,
        interval,
        min_retry_rate: RateSpec { count, interval: rate },
    } = spec;
    let is_window = |time: Duration| (WINDOW_MIN..=TIME_MAX).contains(&time);
    let at = format!("{field}.minRetryRate");
    Ok(RetryBudget {
        percent: percent(share, &format!("{field}.percent"))?,
        interval: time(&interval, &format!("{field}.interval"), is_window, rules::BUDGET_TIME)?,
        min_retry_count: whole(count, 1, COUNT_MAX, &format!("{at}.count"))?,
        min_retry_interval: time(&rate, &format!("{at}.interval"), is_above_zero, rules::RATE_TIME)?,
    })
}

fn timeout(spec: TimeoutSpec, field: &str) -> Checked<TimeoutPolicy> {
    let read =
        |text: Option<String>, name: &str| text.map(|text| duration(&text, &format!("{field}.{name}"))).transpose();
    let request = read(spec.request, "request")?;
    let backend_request = read(spec.backend_request, "backendRequest")?;
    holds(
        request.is_some() || backend_request.is_some(),
        rules::SOME_TIMEOUT,
        field,
    )?;
    if let (Some(request), Some(backend)) = (request, backend_request) {
        holds(request.is_zero() || backend <= request, rules::TIMEOUT_ORDER, field)?;
    }
    Ok(TimeoutPolicy {
        request,
        backend_request,
    })
}

fn failures(words: &[String], field: &str) -> Checked<BTreeSet<FailureClass>> {
    let mut classes = BTreeSet::new();
    for (i, text) in words.iter().enumerate() {
        let field = format!("{field}[{i}]");
        word(text, &FAILURES, &field)?;
        if !classes.insert(failure(text)) {
            return Err(format!("{field}: {text} stands there twice"));
        }
    }
    Ok(classes)
}

/// One of [`FAILURES`]; numbers are those of grpc-status.
fn failure(word: &str) -> FailureClass {
    match word {
        "connect-failure" => FailureClass::ConnectFailure,
        "reset" => FailureClass::Reset,
        "timeout" => FailureClass::Timeout,
        "gateway-error" => FailureClass::GatewayError,
        "cancelled" => FailureClass::Grpc(1),
        "deadline-exceeded" => FailureClass::Grpc(4),
        "resource-exhausted" => FailureClass::Grpc(8),
        "internal" => FailureClass::Grpc(13),
        "unavailable" => FailureClass::Grpc(14),
        _ => FailureClass::Http5xx,
    }
}

fn holds(is: bool, rule: Rule, field: &str) -> Checked<()> {
    if is { Ok(()) } else { Err(broken(rule, field)) }
}

fn broken(rule: Rule, field: &str) -> String {
    format!("{field}: {}", rule.message)
}

fn word(text: &str, known: &[&str], field: &str) -> Checked<()> {
    if known.contains(&text) {
        return Ok(());
    }
    Err(format!("{field}: {text:?} is none of {}", known.join(", ")))
}

fn whole(number: i64, min: i64, max: i64, field: &str) -> Checked<u32> {
    let in_range = Some(number).filter(|number| (min..=max).contains(number));
    let refused = || format!("{field}: {number} is not from {min} to {max}");
    in_range
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(refused)
}

fn percent(number: i64, field: &str) -> Checked<u8> {
    let refused = || format!("{field}: {number} is not from 0 to 100");
    u8::try_from(number)
        .ok()
        .filter(|number| *number <= 100)
        .ok_or_else(refused)
}

fn is_above_zero(time: Duration) -> bool {
    !time.is_zero() && time <= TIME_MAX
}

fn time(text: &str, field: &str, is: fn(Duration) -> bool, rule: Rule) -> Checked<Duration> {
    let time = duration(text, field)?;
    holds(is(time), rule, field)?;
    Ok(time)
}

fn duration(text: &str, field: &str) -> Checked<Duration> {
    convert::duration(text).map_err(|detail| format!("{field}: {detail}"))
}
