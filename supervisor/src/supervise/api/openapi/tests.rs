//! The document is the router's, whole, and the published copy is fresh.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::super::caller::Role;
use super::super::routes;
use super::*;

fn parsed() -> Value {
    serde_json::from_str(text()).unwrap()
}

/// All `method path` that the document describes.
fn described(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let routed: BTreeSet<String> = routes()
        .iter()
        .map(|route| format!("{} {}", route.method, route.path.replace("{*", "{")))
        .collect();
    assert!(routed.len() > 10, "the table of routes has moved: this test must follow it");
    assert_eq!(described(&parsed()), routed);
}

#[test]
fn every_route_is_named_and_says_what_it_gives_and_when_it_refuses() {
    let document = parsed();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let shown = format!("{method} {path}: {operation}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{shown}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{shown}");
            let refusal = &responses["403"]["content"]["application/problem+json"]["schema"];
            assert_eq!(refusal["$ref"], "#/components/schemas/Problem", "{shown}");
            let named = path.matches('{').count();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, named, "{shown}");
            assert_eq!(operation.get(CODES), None, "{shown}");
        }
    }
}

#[test]
fn references_lead_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| walk(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = parsed();
    let mut found = Vec::new();
    walk(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

/// Whoever may only read changes nothing and is shown nothing that a plugin keeps or writes.
#[test]
fn what_changes_something_or_shows_data_is_for_admins() {
    for route in routes() {
        let private = ["/state", "/logs", "/audit", "/audit/verify"]
            .iter()
            .any(|end| route.path.ends_with(end));
        let admin = route.method != axum::http::Method::GET || private;
        let expected = if admin { Role::Admin } else { Role::Reader };
        assert_eq!(route.role, expected, "{} {}", route.method, route.path);
    }
}

#[test]
fn the_published_copy_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text(),
        "docs/openapi.json is stale: write it with `BLESS=1 cargo test -p bulkhead-supervisor openapi`"
    );
}
