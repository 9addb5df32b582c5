//! What is not a resource: the start page until the dashboard lands, the document and its viewer, metrics.

use crate::Shared;
use crate::problem::Problem;
use poem::http::{HeaderValue, header};
use poem::web::Data;
use poem::{Response, handler};
use std::sync::Arc;

const START: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>RetainAI</title></head>
<body><h1>RetainAI</h1>
<p>Forecasts of the next session's close of equities on NASDAQ and NEPSE. A statistical estimate, not financial advice.</p>
<ul>
<li><a href=\"/v1/forecasts\">Forecasts</a></li>
<li><a href=\"/v1/runs\">Runs</a></li>
<li><a href=\"/v1/tickers\">Tickers</a></li>
<li><a href=\"/docs\">The API, explained</a> (<a href=\"/openapi.json\">OpenAPI document</a>)</li>
<li><a href=\"/health/ready\">Health</a>, <a href=\"/metrics\">metrics</a></li>
</ul></body></html>
";

/// The viewer brings its scripts and styles inside the page.
const VIEWER_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'",
);

#[handler]
pub(crate) fn start() -> Response {
    page("text/html; charset=utf-8", START.to_owned())
}

#[handler]
pub(crate) fn show_docs(shared: Data<&Arc<Shared>>) -> Response {
    let mut response = page("text/html; charset=utf-8", shared.docs.clone());
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, VIEWER_POLICY);
    response
}

#[handler]
pub(crate) fn show_document(shared: Data<&Arc<Shared>>) -> Response {
    page("application/json", shared.openapi.clone())
}

#[handler]
pub(crate) fn show_metrics(shared: Data<&Arc<Shared>>) -> Result<Response, Problem> {
    let Some(metrics) = &shared.state.metrics else {
        return Err(Problem::not_found("no_metrics", "There are no metrics here", "This process records none."));
    };
    Ok(page("text/plain; version=0.0.4; charset=utf-8", metrics.render()))
}

fn page(content_type: &str, body: String) -> Response {
    Response::builder().content_type(content_type).body(body)
}
