//! The watches, tried: what servers do wrong, what the store makes of events, and that their order never matters.

mod optional;
mod order;
mod readiness;
mod reopened;
mod server;
mod stored;
mod troubles;

use serde_json::{Value, json};

use super::raw::Raw;

/// An object of the namespace `shop`.
fn object(name: &str, uid: &str, version: u64, mut rest: Value) -> Raw {
    rest["metadata"]["name"] = json!(name);
    rest["metadata"]["namespace"] = json!("shop");
    rest["metadata"]["uid"] = json!(uid);
    rest["metadata"]["resourceVersion"] = json!(version.to_string());
    Raw(rest)
}

/// A Pod of the node `n1`.
fn pod(name: &str, uid: &str, version: u64, ip: &str) -> Raw {
    let rest = json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running", "podIP": ip}});
    object(name, uid, version, rest)
}
