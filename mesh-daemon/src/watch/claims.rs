//! What the statuses of routes and policies say in this mesh's name, as the API has it: what the writer of statuses compares with.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::objects::Kind;
use crate::ids::ObjectRef;

/// Who we are in `controllerName` of statuses (Gateway API: `GatewayController`; a domain and a path).
pub(super) const CONTROLLER_NAME: &str = "weft.mesh/mesh-daemon";

/// Every object of a kind that has such a status, by kind, namespace and name; also those that are of no use to the model, since an entry of
/// ours may have to go.
pub(super) type Claims = BTreeMap<(Kind, ObjectRef), Claim>;

/// What changed since it was asked for last: none for an object that is gone.
pub(super) type Changes = BTreeMap<(Kind, ObjectRef), Option<Claim>>;

/// One of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Claim {
    /// `metadata.uid`.
    pub(super) uid: String,
    /// `metadata.generation`; 0 if it has none.
    pub(super) generation: i64,
    /// The entries of `status.parents` (HTTPRoute) or `status.ancestors` (TrafficPolicy) whose `controllerName` is [`CONTROLLER_NAME`], as they
    /// stand there. Foreign ones are not kept.
    pub(super) entries: Vec<Value>,
}

/// The claim of an object; none for kinds whose status is not written in this way.
pub(super) fn of(kind: Kind, object: &Value) -> Option<Claim> {
    let list = match kind {
        Kind::HttpRoute => "/status/parents",
        Kind::TrafficPolicy => "/status/ancestors",
        Kind::Namespace | Kind::Node | Kind::Pod | Kind::Service | Kind::EndpointSlice => return None,
    };
    let entries = object.pointer(list).and_then(Value::as_array).into_iter().flatten();
    let is_own = |entry: &&Value| entry.get("controllerName").and_then(Value::as_str) == Some(CONTROLLER_NAME);
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    Some(Claim {
        uid: uid.unwrap_or_default().to_owned(),
        generation: generation.unwrap_or_default(),
        entries: entries.filter(is_own).cloned().collect(),
    })
}

/// Takes changes over into what is published; says whether they change anything. The table is copied only while somebody still reads the last
/// one: a copy for each change of a thousand routes would cost more than their conversion.
pub(super) fn apply(claims: &mut Arc<Claims>, changes: Changes) -> bool {
    let news: Vec<_> = changes
        .into_iter()
        .filter(|(key, claim)| claims.get(key) != claim.as_ref())
        .collect();
    if news.is_empty() {
        return false;
    }
    let claims = Arc::make_mut(claims);
    for (key, claim) in news {
        match claim {
            Some(claim) => drop(claims.insert(key, claim)),
            None => drop(claims.remove(&key)),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_own_entries_are_kept() {
        let entries = json!([
            {"controllerName": "example.net/other", "parentRef": {"name": "a"}},
            {"controllerName": CONTROLLER_NAME, "parentRef": {"name": "b"}},
            "nonsense",
        ]);
        let object = json!({
            "metadata": {"uid": "u", "generation": 3},
            "status": {"parents": entries, "ancestors": [{"controllerName": CONTROLLER_NAME}]},
        });
        let route = of(Kind::HttpRoute, &object).unwrap();
        assert_eq!((route.uid.as_str(), route.generation), ("u", 3));
        assert_eq!(
            route.entries,
            [json!({"controllerName": CONTROLLER_NAME, "parentRef": {"name": "b"}})]
        );
        let policy = of(Kind::TrafficPolicy, &object).unwrap();
        assert_eq!(policy.entries, [json!({"controllerName": CONTROLLER_NAME})]);
        assert_eq!(
            of(Kind::TrafficPolicy, &json!({"status": {"ancestors": 7}})),
            Some(Claim::default())
        );
        assert_eq!(of(Kind::Pod, &object), None);
    }

    #[test]
    fn only_what_is_new_is_published() {
        let key = || (Kind::HttpRoute, ObjectRef::new("shop", "a"));
        let claim = || Claim {
            uid: "u".to_owned(),
            ..Claim::default()
        };
        let mut claims = Arc::default();
        assert!(!apply(&mut claims, Changes::from([(key(), None)])));
        assert!(apply(&mut claims, Changes::from([(key(), Some(claim()))])));
        let read = Arc::clone(&claims);
        assert!(!apply(&mut claims, Changes::from([(key(), Some(claim()))])));
        assert!(apply(&mut claims, Changes::from([(key(), None)])));
        assert!(
            claims.is_empty() && read.len() == 1,
            "what is being read stays as it is"
        );
    }
}
