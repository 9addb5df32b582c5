//! The OpenAPI document: a snapshot, and sane.

use crate::World;
use serde_json::Value;
use std::path::Path;

fn document() -> Value {
    serde_json::from_str(&api::openapi_document()).unwrap()
}

/// Every value in the document with the key it stands under.
fn each<'a>(value: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, see)),
        Value::Object(fields) => fields.iter().for_each(|(key, field)| {
            see(key, field);
            each(field, see);
        }),
        _ => {}
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the one setting of this test: whether to write the snapshot")]
fn the_snapshot_is_what_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, api::openapi_document()).unwrap();
    }
    let snapshot = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        snapshot == api::openapi_document(),
        "api/openapi.json is not what is served: if the change is meant, run `UPDATE_OPENAPI=1 cargo nextest run -p api the_snapshot` and commit it"
    );
}

#[tokio::test]
async fn it_is_served_as_it_is() {
    let world = World::new().await;
    let served = world.get("/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.text(), api::openapi_document_for(&api::Access::default()));
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut seen = 0;
    each(&document, &mut |key, value| {
        if key == "$ref" {
            let pointer = value.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            seen += 1;
        }
    });
    assert!(seen > 50);
}

#[test]
fn it_is_openapi_3_0_without_the_frameworks_mistakes() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
    assert_eq!(document["servers"], serde_json::json!([{ "url": "/" }]));
    assert!(document.get("webhooks").is_none());
    let text = document.to_string();
    each(&document, &mut |key, value| assert!(!value.is_null(), "{key} is null"));
    for wrong in ["naive-", "charset", "ETAG", "LOCATION"] {
        assert!(!text.contains(wrong), "{wrong}");
    }
    let run = &document["components"]["schemas"]["StartRun"];
    assert_eq!(
        (&run["additionalProperties"], &run["properties"]["session"]["format"]),
        (&false.into(), &"date".into())
    );
}

#[test]
fn every_operation_is_named_told_and_fails_as_a_problem() {
    let document = document();
    let mut ids = std::collections::HashSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect(&name)), "{name}");
            assert!(operation["summary"].as_str().is_some_and(|s| s.ends_with('.')), "{name}");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
            for (status, response) in responses.iter().filter(|_| path.starts_with("/v1/")) {
                assert!(response["description"].is_string(), "{name} {status}");
                if status.starts_with(['4', '5', 'd']) {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
                }
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let placeholder = format!("{{{}}}", parameter["name"].as_str().unwrap());
                assert_eq!(parameter["in"] == "path", path.contains(&placeholder), "{name}: {placeholder}");
            }
        }
    }
    assert!(ids.len() >= 17, "{ids:?}");
}
