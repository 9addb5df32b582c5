//! The OpenAPI document and the routes it describes. poem-openapi writes the document; what it gets wrong is mended here, once.

use crate::bars::Bars;
use crate::exchanges::Exchanges;
use crate::factors::Factors;
use crate::forecasts::Forecasts;
use crate::health::Health;
use crate::pages;
use crate::runs::Runs;
use crate::schedules::Schedules;
use crate::tickers::Tickers;
use poem::{Route, get};
use poem_openapi::OpenApiService;
use serde_json::{Value, json};

type Resources = (Forecasts, Tickers, Bars, Exchanges, Factors, Runs, Schedules, Health);

fn api() -> OpenApiService<Resources, ()> {
    let resources = (Forecasts, Tickers, Bars, Exchanges, Factors, Runs, Schedules, Health);
    OpenApiService::new(resources, "RetainAI", env!("CARGO_PKG_VERSION"))
        .description("Forecasts of the next session's close of equities on NASDAQ and NEPSE, and the runs that make them. Errors are RFC 9457 problems with a stable `code`.")
        .license(poem_openapi::LicenseObject::new("MIT").identifier("MIT"))
}

/// Every route: the resources, and the pages beside them.
pub(crate) fn service() -> Route {
    Route::new()
        .nest("/", api())
        .at("/", get(pages::start))
        .at("/docs", get(pages::show_docs))
        .at("/openapi.json", get(pages::show_document))
        .at("/metrics", get(pages::show_metrics))
}

/// The page that shows the document, everything inside it.
pub(crate) fn docs_html() -> String {
    api().swagger_ui_html()
}

/// The OpenAPI document as JSON. Needs no state, so `retainai openapi` prints it without a server.
pub fn document() -> String {
    let mut document: Value = serde_json::from_str(&api().spec()).unwrap_or_default();
    // Without a server the document is invalid for strict readers; everything is relative to where it was got.
    document["servers"] = json!([{ "url": "/" }]);
    mend(&mut document);
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// Formats and media types as every client generator knows them.
fn mend(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("format").and_then(Value::as_str) == Some("naive-date") {
                map.insert("format".to_owned(), json!("date"));
            }
            if let Some(Value::Object(content)) = map.get_mut("content") {
                let plain = std::mem::take(content)
                    .into_iter()
                    .map(|(kind, body)| (kind.split(';').next().unwrap_or_default().to_owned(), body));
                *content = plain.collect();
            }
            map.values_mut().for_each(mend);
        }
        Value::Array(items) => items.iter_mut().for_each(mend),
        _ => {}
    }
}
