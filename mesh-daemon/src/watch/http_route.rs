//! gateway.networking.k8s.io/v1 HTTPRoute: parents that are Services, and rules read piece by piece.
//!
//! The generated types of the Gateway API's crates are not used: one value that they do not know, such as a filter of a newer release, refuses
//! the whole object, while the standard wants the other rules to hold and the bad one to be told (`PartiallyInvalid`). So each list is taken out
//! as it is, and each of its items is read by itself. Fields that are not known are passed over, as an API server does.

mod faults;
mod filters;
mod matches;
mod rule;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use self::faults::{Faults, unsupported};
use super::{
    convert::{self, Reason, Refused},
    objects::Object,
};
use crate::model::{HttpRoute, RouteParent, RouteRule};

#[derive(Deserialize)]
struct Route {
    metadata: ObjectMeta,
}

/// The group of a parent that names none.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// One of `spec.parentRefs`. Absent means a Gateway.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentRef {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<i32>,
}

/// None for a route that has no Service as parent. Whatever its rules say, it is never refused as a whole: routes keep no last good version.
pub(super) fn convert(mut value: Value, parts: &mut Vec<Refused>) -> Result<Option<Object>, Refused> {
    let refs = convert::take_list(&mut value, &["spec", "parentRefs"]).unwrap_or_else(|refused| {
        parts.push(refused);
        Vec::new()
    });
    let rules = convert::take_list(&mut value, &["spec", "rules"]);
    let Route { metadata } = convert::typed(value)?;
    let name = convert::object_ref(&metadata)?;
    let mut parents = Vec::new();
    for parent in refs {
        match convert_parent(parent) {
            Ok(parent) => parents.extend(parent),
            Err(refused) => parts.push(refused),
        }
    }
    if parents.is_empty() {
        return Ok(None);
    }
    let route = HttpRoute {
        generation: metadata.generation.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0.as_second()),
        parents,
        rules: convert_rules(rules, &name.namespace),
    };
    Ok(Some(Object::HttpRoute(name, route)))
}

/// None for a parent that is no Service.
fn convert_parent(value: Value) -> Result<Option<RouteParent>, Refused> {
    let parent: ParentRef = convert::typed(value)
        .map_err(|refused| Refused::new(Reason::Malformed, format!("`spec.parentRefs`: {}", refused.detail)))?;
    let ParentRef {
        group,
        kind,
        namespace,
        name,
        section_name,
        port,
    } = parent;
    if kind.as_deref() != Some("Service") {
        return Ok(None);
    }
    match group.as_deref() {
        Some("") => {}
        // the standard's default: of all mistakes the first that people make, and nobody else would tell it
        None | Some(GATEWAY_GROUP) => {
            let detail = format!(
                "`spec.parentRefs`: group {GATEWAY_GROUP} has no kind Service; write `group: \"\"` for Service {name}"
            );
            return Err(Refused::new(Reason::InvalidParent, detail));
        }
        Some(_) => return Ok(None),
    }
    let port = port
        .map(|port| convert::port(port, "spec.parentRefs.port"))
        .transpose()?;
    Ok(Some(RouteParent {
        group,
        kind,
        namespace: namespace.filter(|namespace| !namespace.is_empty()),
        name,
        section_name: section_name.filter(|name| !name.is_empty()),
        port,
    }))
}

fn convert_rules(rules: Result<Vec<Value>, Refused>, namespace: &str) -> Vec<RouteRule> {
    match rules {
        // one rule that matches everything and goes nowhere, as the CRD's default has it
        Ok(rules) if rules.is_empty() => vec![rule::everything()],
        Ok(rules) => rules
            .into_iter()
            .enumerate()
            .map(|(i, rule)| rule::convert(i, rule, namespace))
            .collect(),
        Err(_) => {
            let mut faults = Faults::default();
            faults.add(unsupported("spec.rules", "is not a list"));
            vec![RouteRule {
                faults: faults.into(),
                ..rule::everything()
            }]
        }
    }
}
