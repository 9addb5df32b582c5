//! The document: what poem-openapi writes, corrected where it is wrong or says too little. Made without any state, so that the command
//! line can print it. `api/openapi.json` is its snapshot.

use crate::problem::PROBLEM_JSON;
use crate::{accuracy, audit, backfills, dead_letters, history, pauses, quarantine, queues, schedules, workers};
use crate::{bars, exchanges, factors, forecasts, health, pages, replays, runs, sessions, tickers};
use poem_openapi::{LicenseObject, OpenApiService, ServerObject};
use serde_json::{Map, Value, json};
use workflows::plan::Step;

type Resources = (
    (forecasts::Forecasts, accuracy::Accuracy),
    tickers::Tickers,
    bars::Bars,
    factors::Factors,
    (exchanges::Exchanges, sessions::Sessions),
    Past,
    Steering,
    health::Health,
    pages::Pages,
);

type Past = (runs::Runs, replays::Replays, history::History);

type Steering = (
    schedules::Schedules,
    backfills::Backfills,
    dead_letters::DeadLetters,
    quarantine::Quarantine,
    queues::Queues,
    pauses::Pauses,
    workers::Workers,
    audit::Audit,
);

const ABOUT: &str = "Forecasts of next-session closes for NASDAQ and NEPSE tickers, and the runs that make them. \
    Errors are problems (RFC 9457) with a stable `code`. Lists are paged by an opaque cursor. \
    Every answer carries `X-Request-Id`. A statistical estimate, not financial advice.";

/// All resources, ready to be routed.
pub(crate) fn service() -> OpenApiService<Resources, ()> {
    let resources = (
        (forecasts::Forecasts, accuracy::Accuracy),
        tickers::Tickers,
        bars::Bars,
        factors::Factors,
        (exchanges::Exchanges, sessions::Sessions),
        (runs::Runs, replays::Replays, history::History),
        (
            schedules::Schedules,
            backfills::Backfills,
            dead_letters::DeadLetters,
            quarantine::Quarantine,
            queues::Queues,
            pauses::Pauses,
            workers::Workers,
            audit::Audit,
        ),
        health::Health,
        pages::Pages,
    );
    OpenApiService::new(resources, "RetainAI", "1")
        .description(ABOUT)
        .license(LicenseObject::new("MIT").url("https://opensource.org/license/mit"))
        .server(ServerObject::new("/"))
}

/// The OpenAPI 3.0 document, as it is served.
pub fn document() -> String {
    let mut document: Value = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    mend(&mut document);
    narrow(&mut document);
    say_problems(&mut document);
    let mut text = serde_json::to_string_pretty(&document).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// Swagger UI with `document` instead of the uncorrected one.
pub(crate) fn reader(document: &str) -> String {
    let service = service();
    service.swagger_ui_html().replacen(&service.spec(), document, 1)
}

/// Header names as people write them; poem-openapi prints them in capitals.
const HEADER_NAMES: [(&str, &str); 3] =
    [("ETAG", "ETag"), ("CACHE-CONTROL", "Cache-Control"), ("LOCATION", "Location")];

/// Bodies that refuse unknown fields say so.
const CLOSED_SCHEMAS: [&str; 9] = [
    "SetSession",
    "SettleQuarantined",
    "StartRun",
    "RerunRun",
    "SetPause",
    "ChangeSchedule",
    "TriggerSchedule",
    "StartBackfill",
    "RequeueDeadLetters",
];

/// Corrects formats, media types and header names everywhere.
fn mend(document: &mut Value) {
    walk(document);
    for name in CLOSED_SCHEMAS {
        document["components"]["schemas"][name]["additionalProperties"] = json!(false);
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| format == "naive-date") {
                fields.insert("format".to_owned(), json!("date"));
            }
            for (from, to) in [("application/json; charset=utf-8", "application/json")].iter().chain(&HEADER_NAMES) {
                if let Some(inner) = fields.remove(*from) {
                    fields.insert((*to).to_owned(), inner);
                }
            }
            fields.values_mut().for_each(walk);
        }
        _ => {}
    }
}

/// Says which texts a parameter or field takes. What is read is wider (case does not matter), so that people may type; programs
/// get the words.
fn narrow(document: &mut Value) {
    let words = |name: &str| match name {
        "exchange" => json!({ "$ref": "#/components/schemas/Exchange" }),
        "ticker" => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9-]*([.][A-Za-z0-9-]+)*$", "maxLength": 16 })
        }
        "state" => {
            let state = "(queued|running|succeeded|failed|cancelled|no_new_session)";
            json!({ "type": "string", "pattern": format!("^{state}(,{state})*$") })
        }
        "cursor" => json!({ "type": "string", "pattern": "^([0-9a-f]{2})+$" }),
        "from" | "step" => json!({ "type": "string", "enum": Step::ALL.map(Step::as_str) }),
        "kind" => json!({ "type": "string", "enum": pauses::KINDS }),
        _ => Value::Null,
    };
    let operations = document["paths"].as_object_mut().into_iter().flatten().flat_map(|(_, path)| path.as_object_mut());
    for parameter in operations.flatten().filter_map(|(_, o)| o.get_mut("parameters")?.as_array_mut()).flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        // Only a path's `kind` is one of a pause.
        let schema = if name == "kind" && parameter["in"] != "path" { Value::Null } else { words(name) };
        // The `from` of a range of sessions is a date already.
        if !schema.is_null() && parameter["schema"].get("format").is_none() {
            parameter["schema"] = schema;
        }
    }
    for name in CLOSED_SCHEMAS {
        let fields = document["components"]["schemas"][name]["properties"].as_object_mut();
        // The `from` of a range of sessions is a date already.
        for (field, schema) in fields.into_iter().flatten().filter(|(_, schema)| schema.get("format").is_none()) {
            let description = schema["description"].take();
            match words(field) {
                Value::Null => schema["description"] = description,
                reference if reference.get("$ref").is_some() => {
                    *schema = json!({ "allOf": [reference], "description": description });
                }
                narrowed => {
                    *schema = narrowed;
                    schema["description"] = description;
                }
            }
        }
    }
}

/// Names the problems that each operation can answer with, beside the `default` that every one has.
fn say_problems(document: &mut Value) {
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": { PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } }
        })
    };
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, operations) in paths.iter_mut().filter(|(path, _)| path.starts_with("/v1/")) {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            let has_body = operation.get("requestBody").is_some();
            let names_something = path.contains('{') || has_body && !path.contains('{') && method == "post";
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            for response in responses.values_mut().filter(|response| response["description"] == "") {
                response["description"] = json!("What was asked for.");
            }
            let mut add = |status: &str, description: &str| insert(responses, status, problem(description));
            add("400", "A parameter or the body cannot be read.");
            add("403", "The request names another host or comes from another site.");
            if names_something {
                add("404", "What the request names does not exist.");
            }
            if method == "post" {
                add("409", "It does not fit the state that things are in.");
            }
            if has_body {
                add("413", "The body is too large.");
                add("415", "The body is of a type that is not taken here.");
                add("422", "The body was read, but cannot be used.");
            }
            add(
                "503",
                "The database does not answer, or the answer took too long. Come again after `Retry-After` seconds.",
            );
        }
    }
}

fn insert(responses: &mut Map<String, Value>, status: &str, response: Value) {
    responses.entry(status.to_owned()).or_insert(response);
}
