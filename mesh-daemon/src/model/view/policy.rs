//! `/policy`: every setting that holds for a Service, and who says so.

use std::collections::BTreeSet;

use super::{
    super::{
        Action, AppliedPolicy, CircuitBreaker, Condition, Content, Limits, RequestSettings, RetryBudget, RetrySettings,
        Rule, Snapshot,
    },
    FromView, NoSuchService, PoliciesView, PolicyRef, PolicyStatusView, PolicyTargetsView, PolicyView,
    RuleSettingsView, SettingView, TargetView, conditions, services, tables,
    words::{balancer_name, class, count, duration, hash_key, list, time, when_all_open},
};
use crate::ids::ObjectRef;

/// What holds for a Service.
///
/// # Errors
/// If the Service is known neither as such nor as a target of a policy.
pub fn policy_view(snapshot: &Snapshot, service: &ObjectRef) -> Result<PolicyView, NoSuchService> {
    let content = &snapshot.content;
    let policies = statuses(content, service);
    let is_known = services(content).contains(service) || policies.iter().any(is_about_a_service);
    if policies.is_empty() && !is_known {
        return Err(NoSuchService::new(service, content));
    }
    let upstreams = content.upstreams.values().chain(content.backends.values());
    let upstream = upstreams.into_iter().find(|upstream| upstream.service == *service);
    let policy = upstream.and_then(|upstream| upstream.policy.as_deref());
    let default = RequestSettings::default();
    let sources = Sources { policy, rule: None };
    let mut settings = Vec::new();
    if is_known {
        settings.extend(sources.of_endpoints());
        settings.extend(sources.of_requests(upstream.map_or(&default, |upstream| &upstream.settings)));
    }
    Ok(PolicyView {
        snapshot: snapshot.generation.0,
        service: service.clone(),
        is_known,
        policy: policy.map(|policy| PolicyRef {
            name: policy.name.clone(),
            generation: policy.generation,
        }),
        settings,
        rules: rules(content, service, policy),
        policies,
    })
}

/// What became of all TrafficPolicies, or those of one namespace: a target that is misspelled shows here.
pub fn policies_view(snapshot: &Snapshot, namespace: Option<&str>) -> PoliciesView {
    let verdicts = snapshot.content.policy_verdicts.iter();
    let own = verdicts.filter(|(name, _)| namespace.is_none_or(|namespace| name.namespace == namespace));
    let view = own.map(|(name, verdict)| PolicyTargetsView {
        policy: name.clone(),
        generation: verdict.generation,
        targets: verdict.ancestors.iter().map(target).collect(),
    });
    PoliciesView {
        snapshot: snapshot.generation.0,
        policies: view.collect(),
    }
}

fn target((service, told): &(ObjectRef, Vec<Condition>)) -> TargetView {
    TargetView {
        service: service.clone(),
        conditions: conditions(told),
    }
}

/// Services without an address of their own have no table here; what was decided about a policy says that there is one.
fn is_about_a_service(policy: &PolicyStatusView) -> bool {
    let mut reasons = policy.conditions.iter().map(|condition| condition.reason.as_str());
    reasons.any(|reason| ["Accepted", "Conflicted"].contains(&reason))
}

fn rules(content: &Content, service: &ObjectRef, policy: Option<&AppliedPolicy>) -> Vec<RuleSettingsView> {
    let mut seen = BTreeSet::new();
    let mut views = Vec::new();
    for ((_, _, clients), same) in tables(content, Some(service)) {
        let rules = same.iter().flat_map(|(table, _)| &table.rules);
        for rule in rules.filter(|rule| matches!(rule.action, Action::Forward(_))) {
            if !seen.insert((clients, &rule.route, rule.index)) {
                continue;
            }
            let sources = Sources {
                policy,
                rule: Some(&**rule),
            };
            views.push(RuleSettingsView {
                route: rule.route.clone(),
                generation: rule.generation,
                rule: rule.index,
                rule_name: rule.name.clone(),
                clients: clients.map(str::to_owned),
                settings: sources.of_requests(&rule.settings),
            });
        }
    }
    views
}

fn statuses(content: &Content, service: &ObjectRef) -> Vec<PolicyStatusView> {
    let views = content.policy_verdicts.iter().filter_map(|(name, verdict)| {
        let (_, told) = verdict.ancestors.iter().find(|(target, _)| target == service)?;
        Some(PolicyStatusView {
            policy: name.clone(),
            generation: verdict.generation,
            conditions: conditions(told),
        })
    });
    views.collect()
}

/// Who may have said something.
struct Sources<'a> {
    policy: Option<&'a AppliedPolicy>,
    rule: Option<&'a Rule>,
}

/// Who did.
#[derive(Clone, Copy)]
struct Said {
    /// The rule, which wins.
    by_rule: bool,
    /// The policy.
    by_policy: bool,
}

impl Sources<'_> {
    fn setting(&self, field: &str, value: String, said: Said) -> SettingView {
        SettingView {
            field: field.to_owned(),
            value,
            from: self.from(said),
        }
    }

    fn from(&self, said: Said) -> FromView {
        let (kind, name, generation) = match (self.rule, self.policy) {
            (Some(rule), _) if said.by_rule => ("HTTPRoute", Some(&rule.route), Some(rule.generation)),
            (_, Some(policy)) if said.by_policy => ("TrafficPolicy", Some(&policy.name), Some(policy.generation)),
            _ => ("default", None, None),
        };
        FromView {
            kind: kind.to_owned(),
            name: name.cloned(),
            generation,
        }
    }

    /// What holds for whatever goes to its endpoints.
    fn of_endpoints(&self) -> Vec<SettingView> {
        let spec = self.policy.map(|policy| &policy.spec);
        let of_policy = |field: &str, value: String, by_policy| {
            self.setting(
                field,
                value,
                Said {
                    by_rule: false,
                    by_policy,
                },
            )
        };
        let balancer = spec.and_then(|spec| spec.load_balancer.as_ref());
        let mut settings = vec![of_policy(
            "loadBalancer.type",
            balancer_name(balancer).to_owned(),
            balancer.is_some(),
        )];
        settings.extend(hash_key(balancer).map(|key| of_policy("loadBalancer.hashKey", key, true)));
        match spec.and_then(|spec| spec.circuit_breaker.as_ref()) {
            None => settings.push(of_policy("circuitBreaker", count(None), false)),
            Some(breaker) => {
                let told = of_breaker(breaker).map(|(field, value)| of_policy(field, value, true));
                settings.extend(told);
            }
        }
        let limits = spec.and_then(|spec| spec.limits).unwrap_or_default();
        let told = of_limits(limits).map(|(field, limit)| of_policy(field, count(limit), limit.is_some()));
        settings.extend(told);
        settings
    }

    /// What holds for requests: the values are those that are used, and this says only whose they are.
    fn of_requests(&self, held: &RequestSettings) -> Vec<SettingView> {
        let RequestSettings {
            timeout,
            attempt_timeout,
            retry,
        } = held;
        let by_rule = self.rule.map(|rule| rule.timeouts).unwrap_or_default();
        let spec = self.policy.map(|policy| &policy.spec);
        let by_policy = spec.and_then(|spec| spec.timeout).unwrap_or_default();
        let said = |rule: Option<_>, policy: Option<_>| Said {
            by_rule: rule.is_some(),
            by_policy: policy.is_some(),
        };
        let mut settings = vec![
            self.setting(
                "timeout.request",
                time(*timeout),
                said(by_rule.request, by_policy.request),
            ),
            self.setting(
                "timeout.backendRequest",
                time(*attempt_timeout),
                said(by_rule.backend_request, by_policy.backend_request),
            ),
        ];
        settings.extend(self.of_retry(retry.as_ref()));
        settings
    }

    fn of_retry(&self, held: Option<&RetrySettings>) -> Vec<SettingView> {
        let rule = self.rule.and_then(|rule| rule.retry.as_ref());
        let policy = self.policy.and_then(|policy| policy.spec.retry.as_ref());
        let Some(held) = held else {
            let said = Said {
                by_rule: rule.is_some(),
                by_policy: policy.is_some(),
            };
            return vec![self.setting("retry", count(None), said)];
        };
        let RetrySettings {
            attempts,
            codes,
            on,
            backoff,
            budget,
        } = held;
        let said = |by_rule, by_policy| Said { by_rule, by_policy };
        let rule_or = |rule_has: bool, policy_has: bool| said(rule_has, policy_has);
        let policy_has_budget = policy.is_some_and(|policy| policy.budget.is_some());
        let mut settings = vec![
            self.setting(
                "retry.attempts",
                attempts.to_string(),
                rule_or(
                    rule.is_some_and(|rule| rule.attempts.is_some()),
                    policy.is_some_and(|policy| policy.attempts.is_some()),
                ),
            ),
            self.setting(
                "retry.codes",
                list(codes.iter().map(ToString::to_string)),
                rule_or(
                    rule.is_some_and(|rule| rule.codes.is_some()),
                    policy.is_some_and(|policy| policy.codes.is_some()),
                ),
            ),
            self.setting(
                "retry.retryOn",
                list(on.iter().map(|on| class(*on))),
                said(false, policy.is_some_and(|policy| policy.retry_on.is_some())),
            ),
            self.setting(
                "retry.backoff",
                duration(*backoff),
                rule_or(
                    rule.is_some_and(|rule| rule.backoff.is_some()),
                    policy.is_some_and(|policy| policy.backoff.is_some()),
                ),
            ),
        ];
        let budget = of_budget(budget).map(|(field, value)| self.setting(field, value, said(false, policy_has_budget)));
        settings.extend(budget);
        settings
    }
}

fn of_breaker(breaker: &CircuitBreaker) -> [(&'static str, String); 7] {
    let CircuitBreaker {
        failure_threshold,
        success_threshold,
        timeout,
        half_open_requests,
        failure_on,
        max_ejection_percent,
        when_all_open: all_open,
    } = breaker;
    [
        ("circuitBreaker.failureThreshold", failure_threshold.to_string()),
        ("circuitBreaker.successThreshold", success_threshold.to_string()),
        ("circuitBreaker.timeout", duration(*timeout)),
        ("circuitBreaker.halfOpenRequests", half_open_requests.to_string()),
        ("circuitBreaker.failureOn", list(failure_on.iter().map(|on| class(*on)))),
        ("circuitBreaker.maxEjectionPercent", max_ejection_percent.to_string()),
        ("circuitBreaker.whenAllOpen", when_all_open(*all_open).to_owned()),
    ]
}

fn of_limits(limits: Limits) -> [(&'static str, Option<u32>); 4] {
    let Limits {
        max_connections,
        max_requests,
        max_connections_per_endpoint,
        max_requests_per_endpoint,
    } = limits;
    [
        ("limits.maxConnections", max_connections),
        ("limits.maxRequests", max_requests),
        ("limits.maxConnectionsPerEndpoint", max_connections_per_endpoint),
        ("limits.maxRequestsPerEndpoint", max_requests_per_endpoint),
    ]
}

fn of_budget(budget: &RetryBudget) -> [(&'static str, String); 3] {
    let RetryBudget {
        percent,
        interval,
        min_retry_count,
        min_retry_interval,
    } = budget;
    let rate = format!("{min_retry_count}/{}", duration(*min_retry_interval));
    [
        ("retry.budget.percent", percent.to_string()),
        ("retry.budget.interval", duration(*interval)),
        ("retry.budget.minRetryRate", rate),
    ]
}
