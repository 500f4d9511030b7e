//! The text of one manifest file → objects. YAML or JSON, many documents, lists expanded; memory is bounded whatever aliases expand to.

use std::{cell::Cell, collections::BTreeSet, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{
    convert::{self, Reason, Refused},
    endpoint_slice, http_route, namespace, node,
    objects::{Kind, Object},
    pod, service, traffic_policy,
};
use crate::model::SetAside;

/// Most memory, in bytes, that a file's values may take once aliases are expanded. A file of the largest size as kubectl prints it takes
/// about 40 MiB; a few lines of nested aliases would take more than any machine has.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    /// In the order of the file.
    pub(super) objects: Vec<Object>,
    /// Objects that did not convert as a whole; an earlier version of them serves on.
    pub(super) lost: BTreeSet<(Kind, String)>,
    /// What was refused, of these and of others.
    pub(super) refused: BTreeSet<SetAside>,
    /// Objects of kinds that are not read.
    pub(super) unknown: u64,
}

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Yaml,
    Json,
}

/// Reads the text of the file `path`.
///
/// # Errors
/// What is wrong, and where, if it does not parse.
pub(super) fn parse(path: &str, text: &str, syntax: Syntax) -> Result<Document, String> {
    let mut document = Document::default();
    for value in values(text, syntax)? {
        add(&mut document, path, value);
    }
    Ok(document)
}

fn add(document: &mut Document, path: &str, value: Value) {
    if value.is_null() {
        // nothing between two `---`
        return;
    }
    let field = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    if kind.is_empty() {
        let refused = Refused::new(
            Reason::NotAnObject,
            "a document is not a Kubernetes object: `kind` is missing",
        );
        document.refused.insert(set_aside("File", path, refused));
        return;
    }
    if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
        let mut value = value;
        // depth is bounded by the parsers' own recursion limits
        for item in convert::take_list(&mut value, &["items"]).unwrap_or_default() {
            add(document, path, item);
        }
        return;
    }
    match Kind::of(&api_version, &kind) {
        Some(kind) => add_object(document, kind, value),
        None => document.unknown += 1,
    }
}

fn add_object(document: &mut Document, kind: Kind, value: Value) {
    let Converted {
        name,
        object,
        refused,
        is_lost,
    } = convert_object(kind, value);
    document.objects.extend(object);
    document.refused.extend(refused);
    if is_lost {
        document.lost.insert((kind, name));
    }
}

/// What one object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Converted {
    /// As it is reported: `namespace/name`, or a name.
    pub(super) name: String,
    /// None if it says nothing to us, or did not convert.
    pub(super) object: Option<Object>,
    /// What of it was refused.
    pub(super) refused: Vec<SetAside>,
    /// Whether it did not convert as a whole; an earlier version of it serves on.
    pub(super) is_lost: bool,
}

/// Converts one object, whatever its `apiVersion` and `kind` say.
pub(super) fn convert_object(kind: Kind, value: Value) -> Converted {
    let name = convert::reported_name(&value, kind.is_namespaced());
    let mut parts = Vec::new();
    let converted = match kind {
        Kind::Namespace => namespace::convert(value).map(Some),
        Kind::Node => node::convert(value, &mut parts).map(Some),
        Kind::Pod => pod::convert(value, &mut parts).map(Some),
        Kind::Service => service::convert(value, &mut parts).map(Some),
        Kind::EndpointSlice => endpoint_slice::convert(value, &mut parts),
        Kind::HttpRoute => http_route::convert(value, &mut parts),
        Kind::TrafficPolicy => traffic_policy::convert(value, &mut parts).map(Some),
    };
    let is_lost = converted.is_err();
    let object = converted.unwrap_or_else(|refused| {
        parts.push(refused);
        None
    });
    let refused = parts.into_iter().map(|refused| set_aside(kind.name(), &name, refused));
    Converted {
        refused: refused.collect(),
        name,
        object,
        is_lost,
    }
}

pub(super) fn set_aside(kind: &str, name: &str, refused: Refused) -> SetAside {
    SetAside {
        kind: kind.to_owned(),
        name: name.to_owned(),
        reason: refused.reason.name(),
        detail: refused.detail,
    }
}

fn values(text: &str, syntax: Syntax) -> Result<Vec<Value>, String> {
    let budget = Cell::new(EXPANDED_BYTES_MAX);
    let mut values = Vec::new();
    match syntax {
        Syntax::Yaml => {
            for document in serde_yaml_ng::Deserializer::from_str(text) {
                values.push(Bounded(&budget).deserialize(document).map_err(|e| e.to_string())?);
            }
        }
        Syntax::Json => {
            let mut stream = serde_json::Deserializer::from_str(text);
            while stream.end().is_err() {
                values.push(Bounded(&budget).deserialize(&mut stream).map_err(|e| e.to_string())?);
            }
        }
    }
    Ok(values)
}

/// Builds a value as long as the budget, in bytes, lasts.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Cell<usize>);

impl Bounded<'_> {
    fn charge<E: serde::de::Error>(self, text_bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(size_of::<Value>() + text_bytes);
        self.0
            .set(left.ok_or_else(|| E::custom("too large in memory, its aliases expanded"))?);
        Ok(())
    }

    fn scalar<E: serde::de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.charge(0)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value as JSON has them")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    // a document of comments only
    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.charge(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.charge(0)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.charge(0)?;
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.charge(key.len())?;
            let value = map.next_value_seed(self)?;
            if fields.contains_key(&key) {
                // two meanings: neither is surely meant
                return Err(A::Error::custom(format_args!("the key {key:?} stands there twice")));
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
