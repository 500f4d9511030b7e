//! One of a route's rules: matches, filters, backends, timeouts, retries.

use serde::Deserialize;
use serde_json::Value;

use super::{
    super::convert,
    faults::{Faults, incompatible, unsupported},
    filters, matches,
};
use crate::{
    ids::ObjectRef,
    model::{BackendRef, BackendTarget, PathChange, PathMatch, RouteRetry, RouteRule, RouteTimeouts, RuleFault},
};

/// Largest weight (Gateway API, `BackendRef`).
const WEIGHT_MAX: u32 = 1_000_000;
/// Codes that may be retried (GEP-1731, `HTTPRouteRetryStatusCode`).
const CODES: std::ops::RangeInclusive<u16> = 400..=599;

/// A rule's pieces, each to be read by itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pieces {
    name: Option<Value>,
    matches: Option<Value>,
    filters: Option<Value>,
    backend_refs: Option<Value>,
    timeouts: Option<Value>,
    retry: Option<Value>,
    session_persistence: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Backend {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    name: String,
    port: Option<i32>,
    weight: Option<i64>,
    filters: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timeouts {
    request: Option<String>,
    backend_request: Option<String>,
}

#[derive(Deserialize)]
struct Retry {
    codes: Option<Vec<i64>>,
    attempts: Option<i64>,
    backoff: Option<String>,
}

/// A rule without anything matches everything.
pub(super) fn everything() -> RouteRule {
    RouteRule {
        matches: vec![matches::everything()],
        ..RouteRule::default()
    }
}

/// Reads the rule with this index of a route in this namespace.
pub(super) fn convert(index: usize, value: Value, namespace: &str) -> RouteRule {
    let field = format!("spec.rules[{index}]");
    let mut faults = Faults::default();
    let pieces: Option<Pieces> = faults.piece(Some(value), &field);
    let Some(pieces) = pieces else {
        return RouteRule {
            faults: faults.into(),
            ..everything()
        };
    };
    let mut rule = RouteRule {
        name: faults.piece(pieces.name, &format!("{field}.name")),
        matches: matches::convert(pieces.matches, &field, &mut faults),
        filters: filters::convert(pieces.filters, &field, &mut faults),
        backends: backends(pieces.backend_refs, &field, namespace, &mut faults),
        timeouts: timeouts(pieces.timeouts, &format!("{field}.timeouts"), &mut faults),
        retry: retry(pieces.retry, &format!("{field}.retry"), &mut faults),
        faults: Vec::new(),
    };
    if pieces.session_persistence.is_some_and(|value| !value.is_null()) {
        faults.add(unsupported(format!("{field}.sessionPersistence"), "is not supported"));
    }
    together(&rule, &field, &mut faults);
    rule.faults = faults.into();
    rule
}

/// What each piece may say and all of them together may not.
fn together(rule: &RouteRule, field: &str, faults: &mut Faults) {
    let at = format!("{field}.filters");
    if rule.filters.redirect.is_some() && !rule.backends.is_empty() {
        let detail = "`RequestRedirect` answers by itself and cannot stand beside `backendRefs`; remove one of them";
        faults.add(incompatible(&at, detail));
    }
    let is_prefix = |path: Option<&PathChange>| matches!(path, Some(PathChange::Prefix(_)));
    let all = std::iter::once(&rule.filters).chain(rule.backends.iter().map(|backend| &backend.filters));
    let replaces_prefix = all.into_iter().any(|filters| {
        is_prefix(filters.redirect.as_ref().and_then(|redirect| redirect.path.as_ref()))
            || is_prefix(filters.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()))
    });
    let has_prefix = |path: &PathMatch| matches!(path, PathMatch::Prefix(_));
    if replaces_prefix && !rule.matches.iter().all(|item| has_prefix(&item.path)) {
        let detail =
            "`ReplacePrefixMatch` needs a prefix that matched; make every match of the rule one of type `PathPrefix`";
        faults.add(incompatible(&at, detail));
    }
}

fn backends(value: Option<Value>, field: &str, namespace: &str, faults: &mut Faults) -> Vec<BackendRef> {
    let field = format!("{field}.backendRefs");
    let items: Vec<Value> = faults.piece(value, &field).unwrap_or_default();
    let mut backends = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        let field = format!("{field}[{i}]");
        let backend: Option<Backend> = faults.piece(Some(item), &field);
        backends.extend(backend.map(|backend| convert_backend(backend, &field, namespace, faults)));
    }
    backends
}

fn convert_backend(backend: Backend, field: &str, namespace: &str, faults: &mut Faults) -> BackendRef {
    let weight = backend.weight.unwrap_or(1);
    let checked = u32::try_from(weight).ok().filter(|weight| *weight <= WEIGHT_MAX);
    if checked.is_none() {
        let detail = format!("{weight} is not from 0 to {WEIGHT_MAX}");
        faults.add(unsupported(format!("{field}.weight"), detail));
    }
    let target = target(&backend, namespace);
    let filters = filters::convert(backend.filters, field, faults);
    if filters.redirect.is_some() {
        let detail = "`RequestRedirect` is for rules, not for a backend; move it to the rule's `filters`";
        faults.add(incompatible(format!("{field}.filters"), detail));
    }
    BackendRef {
        target,
        weight: checked.unwrap_or(1),
        filters: crate::model::Filters {
            redirect: None,
            ..filters
        },
    }
}

/// What is wrong with it is said without its field: whoever tells it begins with that.
fn target(backend: &Backend, namespace: &str) -> BackendTarget {
    let group = backend.group.as_deref().unwrap_or_default();
    let kind = backend.kind.as_deref().unwrap_or("Service");
    if !group.is_empty() || kind != "Service" {
        let of = if group.is_empty() { "the core group" } else { group };
        return BackendTarget::InvalidKind(format!("`kind` {kind} of {of} is no backend here; name a Service"));
    }
    let Some(port) = backend.port else {
        return BackendTarget::InvalidKind("`port` is missing: a Service needs one".to_owned());
    };
    match convert::port(port, "port") {
        Ok(port) => BackendTarget::Service {
            service: ObjectRef::new(backend.namespace.as_deref().unwrap_or(namespace), &backend.name),
            port,
        },
        Err(refused) => BackendTarget::InvalidKind(refused.detail),
    }
}

fn timeouts(value: Option<Value>, field: &str, faults: &mut Faults) -> RouteTimeouts {
    let Some(timeouts) = faults.piece::<Timeouts>(value, field) else {
        return RouteTimeouts::default();
    };
    let mut read = |text: Option<String>, name: &str| {
        let read = text.map(|text| duration(&text, &format!("{field}.{name}")));
        read.and_then(|read| faults.keep(read))
    };
    let timeouts = RouteTimeouts {
        request: read(timeouts.request, "request"),
        backend_request: read(timeouts.backend_request, "backendRequest"),
    };
    if let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
        && !request.is_zero()
        && backend > request
    {
        let detail = "is longer than `timeouts.request`, which would end it first; lower it";
        faults.add(unsupported(format!("{field}.backendRequest"), detail));
    }
    timeouts
}

fn retry(value: Option<Value>, field: &str, faults: &mut Faults) -> Option<RouteRetry> {
    let retry: Retry = faults.piece(value, field)?;
    let attempts = retry.attempts.map(|number| {
        let detail = || format!("{number} is no number of retries");
        u32::try_from(number).map_err(|_| unsupported(format!("{field}.attempts"), detail()))
    });
    let codes = retry.codes.map(|codes| {
        let checked = codes
            .into_iter()
            .enumerate()
            .map(|(i, number)| code(number, &format!("{field}.codes[{i}]")));
        checked.filter_map(|code| faults.keep(code)).collect()
    });
    let backoff = retry.backoff.map(|text| duration(&text, &format!("{field}.backoff")));
    Some(RouteRetry {
        codes,
        attempts: attempts.and_then(|attempts| faults.keep(attempts)),
        backoff: backoff.and_then(|backoff| faults.keep(backoff)),
    })
}

fn code(number: i64, field: &str) -> Result<u16, RuleFault> {
    let code = u16::try_from(number).ok().filter(|code| CODES.contains(code));
    let detail = || format!("{number} is no status from {} to {}", CODES.start(), CODES.end());
    code.ok_or_else(|| unsupported(field, detail()))
}

fn duration(text: &str, field: &str) -> Result<std::time::Duration, RuleFault> {
    convert::duration(text).map_err(|detail| unsupported(field, detail))
}
