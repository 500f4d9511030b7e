//! v1 Namespace: only whether its pods are captured.

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::{
    convert::{self, Refused},
    objects::Object,
};
use crate::model::Namespace;

pub(super) fn convert(value: Value) -> Result<Object, Refused> {
    let namespace: v1::Namespace = convert::typed(value)?;
    let capture_label = convert::capture_label(&namespace.metadata);
    Ok(Object::Namespace(
        convert::name(&namespace.metadata)?,
        Namespace { capture_label },
    ))
}
