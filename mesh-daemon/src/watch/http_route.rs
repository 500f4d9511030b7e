//! gateway.networking.k8s.io/v1 HTTPRoute.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::{
    convert::{self, Refused},
    objects::Object,
};
use crate::model::{HttpRoute, RouteParent};

#[derive(Deserialize)]
struct Route {
    metadata: ObjectMeta,
}

/// None for a route that has no Service as parent.
pub(super) fn convert(mut value: Value) -> Result<Option<Object>, Refused> {
    let parents = convert::take_list(&mut value, &["spec", "parentRefs"])?;
    let Route { metadata } = convert::typed(value)?;
    let name = convert::object_ref(&metadata)?;
    let parents: Vec<RouteParent> = parents.into_iter().filter_map(parent).collect();
    let route = HttpRoute {
        generation: metadata.generation.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0.as_second()),
        parents,
        rules: Vec::new(),
    };
    Ok((!route.parents.is_empty()).then_some(Object::HttpRoute(name, route)))
}

fn parent(value: Value) -> Option<RouteParent> {
    let parent: RouteParent = serde_json::from_value(value).ok()?;
    (parent.kind.as_deref() == Some("Service")).then_some(parent)
}
