//! The brain, pure: [`Inputs`] in, [`Content`] out. No I/O, no clock, no lock, no log, no async.

mod ack;
mod inputs;
mod http_route;
mod traffic_policy;
mod build;
mod owners;
mod interfaces;
mod upstreams;
mod routing;
mod request_settings;
mod policies;
mod verdict;
mod ranges;
mod bounded;
mod plain;
mod snapshot;
mod tables;
mod diff;
mod dump;
mod view;
#[cfg(test)]
mod tests;

pub use ack::Ack;
pub use build::{build, build_after};
pub use diff::Diff;
pub use dump::{dump, dump_tables};
pub use http_route::{
    BackendRef, BackendTarget, Filters, HeaderChanges, HttpRoute, PathChange, PathMatch, Redirect, Rewrite, RouteMatch,
    RouteParent, RouteRetry, RouteRule, RouteTimeouts, RuleFault, RuleFaultReason, ValueMatch, ValuePattern,
};
pub use inputs::{
    AppProtocol, Endpoint, EndpointSlice, Facts, Inputs, Link, LinkKind, Namespace, Node, Pod, PodPhase, Service,
    ServiceKind, ServicePort, SetAside, SlicePort, TargetPort, View, WEIGHT_DEFAULT,
};
pub use plain::plain;
pub use request_settings::{
    ATTEMPTS_DEFAULT, BACKOFF_DEFAULT, BUDGET_DEFAULT, RETRY_ON_DEFAULT, RequestSettings, RetrySettings,
};
pub use routing::{
    Action, Backends, Edits, HeaderEdits, Matched, Patterns, RouteBackend, RouteTable, Routes, Rule, RuleFailure,
    ServiceRoutes, Target,
};
pub use snapshot::{
    AppliedPolicy, Capture, Content, Family, NotCaptured, Snapshot, Upstream, UpstreamEndpoint, UpstreamKey, Workload,
};
pub use tables::{Attachment, Program, Tables};
pub use traffic_policy::{
    AttemptEnd, CircuitBreaker, FailureClass, HashKey, Limits, LoadBalancer, PolicySpec, RetryBudget, RetryPolicy,
    TimeoutPolicy, TrafficPolicy, ValidPolicy, WhenAllOpen,
};
pub use verdict::{Condition, PolicyVerdict, RouteVerdict};
pub use view::{
    ActionView, BackendView, ConditionView, FilterView, FromView, HeaderView, NoSuchService, ParentView,
    PathChangeView, PoliciesView, PolicyRef, PolicyStatusView, PolicyTargetsView, PolicyView, RouteView, RoutesView,
    RuleSettingsView, RuleView, SettingView, TargetView, balancer_name, policies_view, policy_view, routes_view,
    services,
};
