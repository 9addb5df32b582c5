//! What is not a resource: the first page, the document and its reader, and the metrics. They are not in the document themselves.

use crate::Shared;
use crate::problem::Problem;
use poem::http::header;
use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::payload::Binary;
use poem_openapi::{ApiResponse, OpenApi};
use std::sync::Arc;

/// Until the dashboard stands here.
const FIRST_PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>RetainAI</title></head>
<body>
<h1>RetainAI</h1>
<ul>
<li><a href="/v1/forecasts">Forecasts</a></li>
<li><a href="/docs">The API, to read and to try</a></li>
<li><a href="/health/ready">Health</a></li>
</ul>
<p>A statistical estimate, not financial advice.</p>
</body>
</html>
"#;

/// The reader's script and style stand inside the page; it loads nothing from elsewhere and talks to this server only.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:; \
                           connect-src 'self'; frame-ancestors 'none'";

/// A page of our own making, as it is.
struct Page(Response);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Page {
    fn meta() -> poem_openapi::registry::MetaResponses {
        <Binary<Vec<u8>> as ApiResponse>::meta()
    }

    fn register(_: &mut poem_openapi::registry::Registry) {}
}

impl Page {
    fn of(content_type: &str, body: String) -> Self {
        Self(Response::builder().content_type(content_type).body(body))
    }
}

/// Swagger UI over the document, in one file.
pub(crate) fn docs(document: &str) -> String {
    // Inside a script element only `</` could end it; in JSON a slash may be escaped.
    crate::openapi::reader(&document.replace("</", "<\\/"))
}

pub(crate) struct Pages;

#[OpenApi]
impl Pages {
    #[oai(path = "/", method = "get", hidden)]
    async fn first(&self) -> Page {
        Page::of("text/html; charset=utf-8", FIRST_PAGE.to_owned())
    }

    #[oai(path = "/docs", method = "get", hidden)]
    async fn docs(&self, shared: Data<&Arc<Shared>>) -> Page {
        let mut page = Page::of("text/html; charset=utf-8", shared.docs.clone());
        let policy = poem::http::HeaderValue::from_static(DOCS_POLICY);
        page.0.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        page
    }

    #[oai(path = "/openapi.json", method = "get", hidden)]
    async fn document(&self, shared: Data<&Arc<Shared>>) -> Page {
        Page::of("application/json", shared.openapi.clone())
    }

    #[oai(path = "/metrics", method = "get", hidden)]
    async fn metrics(&self, shared: Data<&Arc<Shared>>) -> Result<Page, Problem> {
        let Some(metrics) = &shared.state.metrics else {
            let detail = "This process keeps no metrics.";
            return Err(Problem::not_found("no_metrics", "There are no metrics here", detail));
        };
        Ok(Page::of("text/plain; version=0.0.4; charset=utf-8", metrics.render()))
    }
}
