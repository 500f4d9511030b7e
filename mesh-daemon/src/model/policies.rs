//! Which TrafficPolicy holds for which Service, and what each is told (GEP-713: a policy is accepted or not for each target; of several for one target the
//! oldest holds, whole).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    AppliedPolicy, Condition, Content, PolicyVerdict, RequestSettings, RouteTimeouts, ServiceKind, TrafficPolicy,
    ValidPolicy, View,
};
use crate::ids::ObjectRef;

/// Targets that a policy is told about: as many as `targetRefs` may have, and as many as its status has room for (GEP-713: `ancestors`). Only a spec that
/// was not refused in time, or one that is invalid and targets others than the one that serves, has more.
const ANCESTORS_MAX: usize = 16;

/// The policies that hold.
pub(super) struct Policies {
    /// By Service, whether there is such a Service or not.
    by_service: BTreeMap<ObjectRef, Held>,
    /// What holds where no policy does.
    default: Arc<RequestSettings>,
}

/// A policy that holds, and what it makes of requests that meet no route. Its targets share both.
#[derive(Clone)]
struct Held {
    policy: Arc<AppliedPolicy>,
    settings: Arc<RequestSettings>,
    created: Option<i64>,
}

/// How a valid spec and one of its targets stand to each other.
enum Standing<'a> {
    /// It holds.
    Holds,
    /// There is no such Service.
    Missing,
    /// The Service is a name outside of the cluster: it has no endpoints that could be balanced.
    ExternalName,
    /// Another policy holds.
    Conflicted(&'a Held),
    /// It is no target of the valid spec.
    NoTarget,
}

impl Policies {
    /// Of each Service the oldest policy that had a valid spec, by `creationTimestamp` (absent is youngest), then by name. What an earlier content had and is
    /// equal is shared.
    pub(super) fn of(inputs: &View<'_>, earlier: Option<&Content>) -> Self {
        let default = default_settings(earlier);
        let mut by_service = BTreeMap::new();
        if !inputs.policies.is_empty() {
            let known = known(earlier);
            for (name, policy) in by_age(inputs) {
                let Some(valid) = &policy.valid else { continue };
                let held = Held::of(name, policy.created, valid, &default, known.get(name));
                for target in &valid.targets {
                    let service = ObjectRef::new(&name.namespace, target);
                    by_service.entry(service).or_insert_with(|| held.clone());
                }
            }
        }
        Self { by_service, default }
    }

    /// The policy of a Service.
    pub(super) fn applied(&self, service: &ObjectRef) -> Option<&Arc<AppliedPolicy>> {
        self.by_service.get(service).map(|held| &held.policy)
    }

    /// What holds for requests to a Service that meet no route.
    pub(super) fn settings(&self, service: &ObjectRef) -> &Arc<RequestSettings> {
        self.by_service
            .get(service)
            .map_or(&self.default, |held| &held.settings)
    }

    /// What each policy is told.
    pub(super) fn verdicts(&self, inputs: &View<'_>) -> BTreeMap<ObjectRef, PolicyVerdict> {
        let verdict = |(name, policy): (&ObjectRef, &TrafficPolicy)| {
            let ancestors = targets(name, policy).into_iter().map(|service| {
                let condition = self.condition(inputs, name, policy, &service);
                (service, vec![condition])
            });
            let verdict = PolicyVerdict {
                generation: policy.generation,
                ancestors: ancestors.collect(),
            };
            (name.clone(), verdict)
        };
        inputs.policies.iter().map(verdict).collect()
    }

    fn condition(&self, inputs: &View<'_>, name: &ObjectRef, policy: &TrafficPolicy, service: &ObjectRef) -> Condition {
        let standing = self.standing(inputs, name, policy, service);
        let (reason, message) = match (&policy.invalid, &standing) {
            (Some(fault), _) => (
                "Invalid",
                format!(
                    "{}; {}",
                    fault.trim_end_matches('.'),
                    what_serves(policy, &standing, service)
                ),
            ),
            (None, Standing::Holds) => ("Accepted", format!("It holds for Service {service}")),
            (None, Standing::Missing | Standing::ExternalName | Standing::NoTarget) => (
                "TargetNotFound",
                format!("spec.targetRefs: {}", standing.sentence(policy, service)),
            ),
            (None, Standing::Conflicted(_)) => (
                "Conflicted",
                format!("spec.targetRefs: {}", standing.sentence(policy, service)),
            ),
        };
        Condition {
            kind: "Accepted",
            is_true: reason == "Accepted",
            reason,
            message,
        }
    }

    fn standing(
        &self,
        inputs: &View<'_>,
        name: &ObjectRef,
        policy: &TrafficPolicy,
        service: &ObjectRef,
    ) -> Standing<'_> {
        let is_target = |valid: &ValidPolicy| valid.targets.contains(&service.name);
        if !policy.valid.as_ref().is_some_and(is_target) {
            return Standing::NoTarget;
        }
        match inputs.services.get(service).map(|service| service.kind) {
            None => Standing::Missing,
            Some(ServiceKind::ExternalName) => Standing::ExternalName,
            Some(ServiceKind::ClusterIp | ServiceKind::Headless | ServiceKind::LeftToKubeProxy) => {
                match self.by_service.get(service) {
                    Some(held) if held.policy.name != *name => Standing::Conflicted(held),
                    _ => Standing::Holds,
                }
            }
        }
    }
}

impl Held {
    fn of(
        name: &ObjectRef,
        created: Option<i64>,
        valid: &ValidPolicy,
        default: &Arc<RequestSettings>,
        known: Option<&(&Arc<AppliedPolicy>, &Arc<RequestSettings>)>,
    ) -> Self {
        let policy = AppliedPolicy {
            name: name.clone(),
            generation: valid.generation,
            spec: valid.spec.clone(),
        };
        let settings = RequestSettings::of(RouteTimeouts::default(), None, Some(&valid.spec));
        Self {
            policy: shared(policy, known.map(|(policy, _)| *policy)),
            settings: shared(
                settings,
                [default].into_iter().chain(known.map(|(_, settings)| *settings)),
            ),
            created,
        }
    }
}

impl Standing<'_> {
    /// Goes on after what it is about; for a policy that holds there is nothing to tell.
    fn sentence(&self, policy: &TrafficPolicy, service: &ObjectRef) -> String {
        match self {
            Self::Holds => format!("it holds for Service {service}"),
            Self::Missing => format!("there is no Service {service}"),
            Self::ExternalName => {
                format!("Service {service} is of type ExternalName and has no endpoints that a policy could hold for")
            }
            Self::NoTarget => format!("Service {service} is no target of it"),
            Self::Conflicted(held) => {
                let why = if held.created == policy.created {
                    "is as old and comes first by name"
                } else {
                    "is older"
                };
                format!(
                    "for Service {service} TrafficPolicy {} holds, which {why}",
                    held.policy.name
                )
            }
        }
    }
}

/// What goes on while the last spec is invalid.
fn what_serves(policy: &TrafficPolicy, standing: &Standing<'_>, service: &ObjectRef) -> String {
    let Some(valid) = &policy.valid else {
        return "no valid spec was seen before, so the policy does not hold".to_owned();
    };
    let serves = format!(
        "the last valid spec, of generation {}, goes on serving",
        valid.generation
    );
    match standing {
        Standing::Holds => serves,
        _ => format!("{serves}, but {}", standing.sentence(policy, service)),
    }
}

/// The Services that a policy is told about: targets of the last spec in its order, then those of the one that serves, if that is another. Each once.
fn targets(name: &ObjectRef, policy: &TrafficPolicy) -> Vec<ObjectRef> {
    let valid = policy.valid.iter().flat_map(|valid| &valid.targets);
    let mut seen = BTreeSet::new();
    let each_once = policy.targets.iter().chain(valid).filter(|target| seen.insert(*target));
    each_once
        .take(ANCESTORS_MAX)
        .map(|target| ObjectRef::new(&name.namespace, target))
        .collect()
}

fn by_age<'a>(inputs: &View<'a>) -> Vec<(&'a ObjectRef, &'a TrafficPolicy)> {
    let mut policies: Vec<_> = inputs.policies.iter().collect();
    policies.sort_by_key(|(name, policy)| (policy.created.is_none(), policy.created, *name));
    policies
}

/// What an earlier content had of each policy.
fn known(earlier: Option<&Content>) -> BTreeMap<&ObjectRef, (&Arc<AppliedPolicy>, &Arc<RequestSettings>)> {
    let upstreams = earlier.into_iter().flat_map(|earlier| {
        let backends = earlier.backends.values();
        earlier.upstreams.values().chain(backends)
    });
    upstreams
        .filter_map(|upstream| {
            let policy = upstream.policy.as_ref()?;
            Some((&policy.name, (policy, &upstream.settings)))
        })
        .collect()
}

fn default_settings(earlier: Option<&Content>) -> Arc<RequestSettings> {
    let default = RequestSettings::default();
    let mut upstreams = earlier.into_iter().flat_map(|earlier| earlier.upstreams.values());
    let known = upstreams.find(|upstream| *upstream.settings == default);
    known.map_or_else(|| Arc::new(default), |upstream| Arc::clone(&upstream.settings))
}

/// The value, as one of those that are there already if it is equal.
fn shared<'a, T: PartialEq + 'a>(value: T, known: impl IntoIterator<Item = &'a Arc<T>>) -> Arc<T> {
    let known = known.into_iter().find(|known| ***known == value);
    known.map_or_else(|| Arc::new(value), Arc::clone)
}
