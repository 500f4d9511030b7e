//! An object as the API server sends it, without the parts that are large and that nobody reads: managed fields, containers, images.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// An object without what [`skipped`] names. Anything that is JSON decodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Raw(pub(super) Value);

/// What is not even kept while an object is converted: of a Pod as kubelets report it, this is nine tenths.
fn skipped(section: &str) -> &'static [&'static str] {
    match section {
        "metadata" => &["managedFields"],
        "spec" => &[
            "affinity",
            "containers",
            "ephemeralContainers",
            "initContainers",
            "tolerations",
            "volumes",
        ],
        "status" => &[
            "containerStatuses",
            "ephemeralContainerStatuses",
            "images",
            "initContainerStatuses",
            "volumesAttached",
            "volumesInUse",
        ],
        _ => &[],
    }
}

impl Raw {
    /// A field of `metadata`; empty if it is missing or no text.
    pub(super) fn meta(&self, field: &str) -> &str {
        let found = self.0.get("metadata").and_then(|meta| meta.get(field));
        found.and_then(Value::as_str).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Level::Object).map(Self)
    }
}

/// Where in the object we are.
#[derive(Clone, Copy)]
enum Level {
    Object,
    Section(&'static [&'static str]),
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match self {
                Self::Object => map.next_value_seed(Self::Section(skipped(&key)))?,
                Self::Section(skipped) if skipped.contains(&key.as_str()) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Self::Section(_) => map.next_value::<Value>()?,
            };
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Value>()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_parts_are_gone_and_anything_else_stays() {
        for (given, kept) in [
            (
                json!({"metadata": {"name": "a", "managedFields": [{"x": [1]}]}, "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
                       "status": {"podIP": "10.0.0.1", "images": [], "conditions": [{"type": "Ready"}]}, "endpoints": [{"addresses": []}]}),
                json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready"}]},
                       "endpoints": [{"addresses": []}]}),
            ),
            (
                json!({"metadata": 1, "spec": "text", "status": null, "other": {"managedFields": true}}),
                json!({"metadata": 1, "spec": "text", "status": null, "other": {"managedFields": true}}),
            ),
            (json!([1, -1, 0.5, null]), json!([1, -1, 0.5, null])),
            (json!("text"), json!("text")),
        ] {
            let raw: Raw = serde_json::from_str(&given.to_string()).unwrap();
            assert_eq!(raw.0, kept);
        }
    }
}
