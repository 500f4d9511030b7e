//! weft.mesh/v1alpha1 TrafficPolicy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::{
    convert::{self, Refused},
    objects::Object,
};
use crate::model::TrafficPolicy;

#[derive(Deserialize)]
struct Policy {
    metadata: ObjectMeta,
}

pub(super) fn convert(value: Value) -> Result<Object, Refused> {
    let Policy { metadata } = convert::typed(value)?;
    let name = convert::object_ref(&metadata)?;
    let policy = TrafficPolicy {
        generation: metadata.generation.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0.as_second()),
        targets: Vec::new(),
        invalid: Some("is not read yet".to_owned()),
        valid: None,
    };
    Ok(Object::TrafficPolicy(name, policy))
}
