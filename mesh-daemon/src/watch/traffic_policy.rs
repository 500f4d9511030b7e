//! weft.mesh/v1alpha1 TrafficPolicy: its API, its CustomResourceDefinition, and what a spec says if it holds.

pub mod api;
mod bounds;
mod check;
mod rules;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt as _;
use serde::Deserialize;
use serde_json::Value;

use self::api::TrafficPolicyObject;
use super::{
    convert::{self, Reason, Refused},
    objects::Object,
};
use crate::model::{TrafficPolicy, ValidPolicy};

/// The CustomResourceDefinition, as `deploy/daemonset/crds.yaml` has it.
///
/// # Errors
/// If the types make no JSON, which a test would have found.
pub fn crd() -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(TrafficPolicyObject::crd())?;
    plain(&mut crd);
    Ok(crd)
}

/// An optional field is one that may be missing: one that is there and null would be neither, and no rule expects it. Bounds are whole numbers.
fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            fields.retain(|key, value| key != "default" || !value.is_null());
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Number(number) => {
            let text = number.to_string();
            if let Some(whole) = text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

#[derive(Deserialize)]
struct Policy {
    metadata: ObjectMeta,
}

/// Whatever its spec says, a policy is never refused as a whole: one that does not hold says why, and its last valid spec stays.
pub(super) fn convert(mut value: Value, parts: &mut Vec<Refused>) -> Result<Object, Refused> {
    let spec = value.get_mut("spec").map(Value::take).unwrap_or_default();
    let Policy { metadata } = convert::typed(value)?;
    let name = convert::object_ref(&metadata)?;
    let generation = metadata.generation.unwrap_or_default();
    let mut policy = TrafficPolicy {
        generation,
        created: metadata.creation_timestamp.map(|time| time.0.as_second()),
        targets: check::named_targets(&spec),
        invalid: None,
        valid: None,
    };
    match check::check(spec) {
        Ok((targets, spec)) => {
            policy.valid = Some(ValidPolicy {
                generation,
                targets,
                spec,
            });
        }
        Err(sentence) => {
            parts.push(Refused::new(Reason::InvalidPolicy, sentence.clone()));
            policy.invalid = Some(sentence);
        }
    }
    Ok(Object::TrafficPolicy(name, Box::new(policy)))
}
