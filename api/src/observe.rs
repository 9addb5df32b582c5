//! Seeing requests: an id for each, one line in the log, a counter and a histogram. Label values are bounded: route patterns, known
//! methods, statuses; never a path or a query.

use crate::routes::Routes;
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Endpoint, PathPattern, Request, Response};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

/// Counter of answered requests; labels `route`, `method`, `status`.
pub const REQUESTS_TOTAL: &str = "retainai_http_requests_total";
/// Histogram of seconds until the response's head; labels `route`, `method`.
pub const REQUEST_SECONDS: &str = "retainai_http_request_duration_seconds";

const REQUEST_ID: &str = "x-request-id";

/// The id of a request: the caller's, when it is sane, else ours.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    fn of(request: &Request) -> Self {
        let sane = |id: &&str| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        Self(request.header(REQUEST_ID).filter(sane).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }
}

/// The outermost layer.
pub(crate) async fn observe<E: Endpoint<Output = Response>>(
    next: Arc<E>,
    mut request: Request,
    routes: Arc<Routes>,
) -> poem::Result<Response> {
    let id = RequestId::of(&request);
    request.set_data(id.clone());
    let method = method_label(request.method());
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", id = id.0, method, path);
    let began = Instant::now();
    let mut response = next.get_response(request).instrument(span.clone()).await;
    if let Ok(value) = HeaderValue::try_from(id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, took) = (response.status(), began.elapsed());
    let route = route_label(&routes, &response);
    metrics::counter!(REQUESTS_TOTAL, "route" => route.clone(), "method" => method, "status" => status.as_str().to_owned())
        .increment(1);
    metrics::histogram!(REQUEST_SECONDS, "route" => route, "method" => method).record(took.as_secs_f64());
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if status.is_server_error() || method != "GET" {
            tracing::info!(status = status.as_u16(), duration_ms, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), duration_ms, "answered");
        }
    });
    Ok(response)
}

fn route_label(routes: &Routes, response: &Response) -> String {
    match routes.path(response.data::<PathPattern>()) {
        Some(path) => path.to_owned(),
        // A page that is not there; or a request refused at the door, whose path says nothing.
        None if response.status() == StatusCode::NOT_FOUND => "unknown".to_owned(),
        None => "refused".to_owned(),
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
