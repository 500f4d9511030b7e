//! The CustomResourceDefinition: the file that is applied is the one that the types make, and every field of it is explained.

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::super::crd;

/// What the file begins with.
const HEAD: &str =
    "# Made from mesh-daemon/src/watch/traffic_policy/api.rs: WEFT_BLESS=1 cargo test -p mesh-daemon definition\n---\n";

/// `WEFT_BLESS=1 cargo test -p mesh-daemon definition` rewrites the file.
#[test]
fn the_file_is_what_the_types_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/daemonset/crds.yaml");
    let made = format!("{HEAD}{}", serde_yaml_ng::to_string(&crd().unwrap()).unwrap());
    if std::env::var_os("WEFT_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let file = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == made,
        "{} is not what the types make; bless with WEFT_BLESS=1 if this is meant",
        path.display()
    );
}

fn schema() -> Value {
    crd().unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `look` with each field below a schema, by its path.
fn walk(path: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, field);
        walk(&path, field, look);
        walk(&format!("{path}[]"), &field["items"], look);
    }
}

#[test]
fn every_field_is_explained_and_bounded() {
    let schema = schema();
    let mut fields = 0;
    walk("", &schema, &mut |path, field| {
        fields += 1;
        let text = field["description"].as_str().unwrap_or_default();
        assert!(text.ends_with('.') && text.len() > 4, "{path}: {text:?}");
        assert!(
            field.get("nullable").is_none() && field.get("anyOf").is_none(),
            "{path}: {field}"
        );
        let items = &field["items"];
        for bounded in [field, items].into_iter().filter(|_| path.starts_with(".spec")) {
            let of = |key: &str| bounded.get(key).is_some();
            let is_bounded = match bounded["type"].as_str() {
                Some("string") => of("enum") || of("maxLength"),
                Some("integer") => of("minimum") && of("maximum"),
                Some("array") => of("maxItems") && of("x-kubernetes-list-type"),
                _ => true,
            };
            assert!(is_bounded, "{path}: {bounded}");
        }
    });
    // a walk that finds nothing would pass
    assert!(fields > 50, "{fields}");
}

#[test]
fn defaults_stand_in_the_schema() {
    let schema = schema();
    for (pointer, expected) in [
        ("circuitBreaker/properties/failureThreshold", "5"),
        ("circuitBreaker/properties/successThreshold", "3"),
        ("circuitBreaker/properties/timeout", "\"30s\""),
        ("circuitBreaker/properties/halfOpenRequests", "1"),
        (
            "circuitBreaker/properties/failureOn",
            "[\"connect-failure\",\"reset\",\"timeout\",\"5xx\"]",
        ),
        ("circuitBreaker/properties/maxEjectionPercent", "100"),
        ("circuitBreaker/properties/whenAllOpen", "\"FailFast\""),
        ("retry/properties/budget/properties/percent", "20"),
        ("retry/properties/budget/properties/interval", "\"10s\""),
        (
            "retry/properties/budget/properties/minRetryRate",
            "{\"count\":10,\"interval\":\"1s\"}",
        ),
        ("retry/properties/budget/properties/minRetryRate/properties/count", "10"),
        (
            "retry/properties/budget/properties/minRetryRate/properties/interval",
            "\"1s\"",
        ),
        ("targetRefs/items/properties/group", "\"\""),
        ("targetRefs/items/properties/kind", "\"Service\""),
    ] {
        let found = schema.pointer(&format!("/properties/spec/properties/{pointer}/default"));
        assert_eq!(found.map(Value::to_string).as_deref(), Some(expected), "{pointer}");
    }
}

#[test]
fn it_is_found_by_its_short_name_and_told_in_columns() {
    let crd: CustomResourceDefinition = serde_json::from_value(crd().unwrap()).unwrap();
    let names = &crd.spec.names;
    assert_eq!(
        (crd.spec.group.as_str(), names.plural.as_str()),
        ("weft.mesh", "trafficpolicies")
    );
    assert_eq!(names.short_names.as_deref(), Some(["tp".to_owned()].as_slice()));
    let version = &crd.spec.versions[0];
    assert_eq!(
        (version.name.as_str(), version.served, version.storage),
        ("v1alpha1", true, true)
    );
    assert!(
        version
            .subresources
            .as_ref()
            .is_some_and(|subresources| subresources.status.is_some())
    );
    let columns: Vec<_> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(columns, ["Target", "Load balancer", "Accepted", "Age"]);
}
