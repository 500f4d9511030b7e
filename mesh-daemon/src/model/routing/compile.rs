//! A route's rules as requests meet them, apart from which Service they are attached to: matches, action and edits ready to be used, and what of a rule
//! cannot be applied.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{
    super::{
        HttpRoute,
        http_route::{
            BackendRef, Filters, HeaderChanges, PathMatch, RouteMatch, RouteRule, RuleFault, RuleFaultReason,
            ValueMatch, ValuePattern,
        },
    },
    Action, Backends, Edits, HeaderEdits, RouteBackend, RuleFailure, Target,
    backends::{Resolver, Unresolved},
    matcher::{Matcher, PathMatcher, ValueMatcher},
    pattern::Pattern,
    patterns::{Compiler, RouteCompiler},
};

/// A route, compiled.
pub(super) struct Compiled {
    pub(super) rules: Vec<CompiledRule>,
    /// Backends that nobody can be sent to, in the order of the spec.
    pub(super) unresolved: Vec<Unresolved>,
}

/// One of its rules.
pub(super) struct CompiledRule {
    pub(super) matchers: Vec<Arc<Matcher>>,
    pub(super) action: Action,
    pub(super) edits: Edits,
    /// Why it cannot be applied; its action is to fail then.
    pub(super) faults: Vec<RuleFault>,
}

impl Compiled {
    /// Compiles all rules of a route.
    pub(super) fn of(route: &HttpRoute, patterns: &mut Compiler<'_>, backends: &mut Resolver<'_>) -> Self {
        let mut unresolved = Vec::new();
        let mut patterns = patterns.route();
        let rules = (0..)
            .zip(&route.rules)
            .map(|(index, rule)| compile(index, rule, &mut patterns, backends, &mut unresolved))
            .collect();
        Self { rules, unresolved }
    }

    /// Whether there is a rule that can be applied, or none that cannot: otherwise the route is no use to anybody, and does not attach.
    pub(super) fn attaches(&self) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.faults.is_empty())
    }
}

fn compile(
    index: usize,
    rule: &RouteRule,
    patterns: &mut RouteCompiler<'_, '_>,
    backends: &mut Resolver<'_>,
    unresolved: &mut Vec<Unresolved>,
) -> CompiledRule {
    let field = format!("spec.rules[{index}]");
    let mut faults = rule.faults.clone();
    let matchers = matchers(&field, rule, patterns, &mut faults);
    let edits = edits(&format!("{field}.filters"), &rule.filters, &mut faults);
    let list = (0..)
        .zip(&rule.backends)
        .map(|(at, backend)| {
            let field = format!("{field}.backendRefs[{at}]");
            route_backend(&field, backend, backends, &mut faults, unresolved)
        })
        .collect();
    CompiledRule {
        action: action(rule, list, &faults),
        matchers,
        edits,
        faults,
    }
}

fn action(rule: &RouteRule, list: Vec<RouteBackend>, faults: &[RuleFault]) -> Action {
    if !faults.is_empty() {
        return Action::Fail(RuleFailure::Unsupported);
    }
    if let Some(redirect) = &rule.filters.redirect {
        return Action::Redirect(redirect.clone());
    }
    let total_weight = list.iter().map(|backend| u64::from(backend.weight)).sum();
    match (list.is_empty(), total_weight) {
        (true, _) => Action::Fail(RuleFailure::NoBackend),
        (false, 0) => Action::Fail(RuleFailure::NoWeight),
        (false, _) => Action::Forward(Backends { list, total_weight }),
    }
}

fn route_backend(
    field: &str,
    backend: &BackendRef,
    backends: &mut Resolver<'_>,
    faults: &mut Vec<RuleFault>,
    unresolved: &mut Vec<Unresolved>,
) -> RouteBackend {
    let target = backends.target(field, &backend.target).unwrap_or_else(|reason| {
        let name = reason.name.clone();
        unresolved.push(reason);
        Target::Unresolved { name }
    });
    RouteBackend {
        weight: backend.weight,
        target,
        edits: edits(&format!("{field}.filters"), &backend.filters, faults),
    }
}

/// The matches that can be compiled; what is wrong with the others makes the whole rule one that cannot be applied.
fn matchers(
    field: &str,
    rule: &RouteRule,
    patterns: &mut RouteCompiler<'_, '_>,
    faults: &mut Vec<RuleFault>,
) -> Vec<Arc<Matcher>> {
    // where the border has left out matches, the others' places are not known any more
    let places_known = rule.faults.is_empty();
    let mut matchers = Vec::with_capacity(rule.matches.len());
    for (at, one) in (0..).zip(&rule.matches) {
        match matcher(one, patterns) {
            Ok(matcher) => matchers.push(Arc::new(matcher)),
            Err((part, detail)) => {
                let place: &dyn std::fmt::Display = if places_known { &at as &i32 } else { &"" };
                faults.push(fault(format!("{field}.matches[{place}].{part}"), detail));
            }
        }
    }
    matchers
}

/// Which field of a match is at fault, and what is wrong with it.
type MatchFault = (&'static str, String);

fn matcher(one: &RouteMatch, patterns: &mut RouteCompiler<'_, '_>) -> Result<Matcher, MatchFault> {
    let RouteMatch {
        path,
        method,
        headers,
        query,
    } = one;
    let path = match path {
        PathMatch::Exact(path) => PathMatcher::Exact(path.clone()),
        PathMatch::Prefix(path) => PathMatcher::Prefix(path.clone()),
        PathMatch::Regex(text) => {
            let pattern = patterns.pattern(text);
            PathMatcher::Regex(pattern.map_err(|detail| ("path.value", detail))?)
        }
    };
    Ok(Matcher {
        path,
        method: method.clone(),
        headers: headers
            .iter()
            .map(|header| Ok((header_name(header)?, value("headers", header, patterns)?)))
            .collect::<Result<_, _>>()?,
        query: query
            .iter()
            .map(|parameter| Ok((parameter.name.clone(), value("queryParams", parameter, patterns)?)))
            .collect::<Result<_, _>>()?,
    })
}

fn header_name(header: &ValueMatch) -> Result<HeaderName, MatchFault> {
    let name = HeaderName::from_bytes(header.name.as_bytes());
    name.map_err(|_| ("headers", format!("`{}` is no name of a header", header.name)))
}

fn value(
    field: &'static str,
    of: &ValueMatch,
    patterns: &mut RouteCompiler<'_, '_>,
) -> Result<ValueMatcher, MatchFault> {
    match &of.value {
        ValuePattern::Exact(exact) => Ok(ValueMatcher::Exact(exact.clone())),
        ValuePattern::Regex(text) => {
            let pattern: Result<Arc<Pattern>, _> = patterns.pattern(text);
            let pattern = pattern.map_err(|detail| (field, format!("of `{}`: {detail}", of.name)))?;
            Ok(ValueMatcher::Regex(pattern))
        }
    }
}

fn edits(field: &str, filters: &Filters, faults: &mut Vec<RuleFault>) -> Edits {
    let Filters {
        request_headers,
        response_headers,
        redirect: _,
        rewrite,
    } = filters;
    let mut headers = |changes, kind| {
        header_edits(changes).unwrap_or_else(|what| {
            faults.push(fault(field.to_owned(), format!("{kind}: HTTP cannot carry {what}")));
            HeaderEdits::default()
        })
    };
    Edits {
        request: headers(request_headers, "requestHeaderModifier"),
        response: headers(response_headers, "responseHeaderModifier"),
        rewrite: rewrite.clone(),
    }
}

/// The border has looked at names and values already; what does not parse all the same is told, and never sent.
fn header_edits(changes: &HeaderChanges) -> Result<HeaderEdits, String> {
    let HeaderChanges { set, add, remove } = changes;
    let fields = |list: &[(String, String)]| list.iter().map(field).collect::<Result<Vec<_>, _>>();
    Ok(HeaderEdits {
        set: fields(set)?,
        add: fields(add)?,
        remove: remove.iter().map(|one| name(one)).collect::<Result<_, _>>()?,
    })
}

fn field((key, value): &(String, String)) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = HeaderValue::from_bytes(value.as_bytes());
    Ok((name(key)?, parsed.map_err(|_| format!("the value of `{key}`"))?))
}

fn name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("the name `{text}`"))
}

fn fault(field: String, detail: String) -> RuleFault {
    RuleFault {
        reason: RuleFaultReason::UnsupportedValue,
        field,
        detail,
    }
}
