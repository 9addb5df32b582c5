//! How anything that goes wrong is said: RFC 9457 `application/problem+json` with a stable `code`. In comes any error, out goes a
//! response that tells the reader what to do and never what our libraries said.

use crate::observe::RequestId;
use crate::routes::Routes;
use poem::error::{MethodNotAllowedError, NotFoundError, ReadBodyError, ResponseError};
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Endpoint, Error, PathPattern, Request, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::{ToJSON, Type};
use poem_openapi::{ApiResponse, Object};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use workflows::db::StoreError;

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Something went wrong; said once, here, in words for the caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{title}: {detail}")]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    // Boxed, so that a result with a problem in it stays small.
    detail: Box<str>,
    errors: Vec<FieldError>,
    state: Option<Box<str>>,
    headers: Vec<(HeaderName, String)>,
}

/// What is wrong with one field of the request.
#[derive(Debug, Clone, Object)]
pub(crate) struct FieldError {
    /// The parameter, body field or column.
    field: String,
    /// What is wrong with it.
    reason: String,
}

/// An error (RFC 9457).
#[derive(Debug, Object)]
#[oai(rename = "Problem", skip_serializing_if_is_none, skip_serializing_if_is_empty)]
pub(crate) struct ProblemBody {
    /// A URN that names the kind of problem; ends with `code`.
    r#type: String,
    /// The kind of problem in words; the same for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do about it.
    detail: Option<String>,
    /// The kind of problem for programs; stable.
    code: String,
    /// Which fields are at fault, where it is about fields.
    #[oai(default)]
    errors: Vec<FieldError>,
    /// The state that the thing is in, where that is why it was refused.
    state: Option<String>,
    /// Name this request when you report the problem.
    request_id: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into().into_boxed_str();
        Self { status, code, title, detail, errors: Vec::new(), state: None, headers: Vec::new() }
    }

    /// Names a field at fault.
    pub(crate) fn field(mut self, field: impl Into<String>, reason: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), reason: reason.into() });
        self
    }

    /// Names the state that the thing is in.
    pub(crate) fn state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into().into_boxed_str());
        self
    }

    /// A fault of a parameter, as one of the body's field of the same name.
    pub(crate) fn in_the_body(self) -> Self {
        self.errors.into_iter().next().map_or_else(
            || Self::bad_field("body", "it cannot be used"),
            |FieldError { field, reason }| Self::bad_field(&field, reason),
        )
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Asks the caller to come again.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, seconds.to_string())
    }

    pub(crate) fn not_found(code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, title, detail)
    }

    pub(crate) fn conflict(code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, title, detail)
    }

    pub(crate) fn answer_lost() -> Self {
        let detail = "It was carried out, once; what was answered is not kept. Look at what it was to change.";
        Self::conflict("answer_lost", "The request was carried out before", detail)
    }

    pub(crate) fn bad_parameter(field: &str, reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", "A parameter cannot be used", format!("See `{field}`."))
            .field(field, reason)
    }

    pub(crate) fn bad_field(field: &str, reason: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_body", "The body cannot be used", format!("See `{field}`."))
            .field(field, reason)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("At most {} KiB are taken here.", limit / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    pub(crate) fn unsupported_media_type(detail: &str) -> Self {
        let title = "The body is of a type that is not taken here";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", title, detail)
    }

    /// A fault of ours. What it was goes to the log and nowhere else.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed for a reason that is ours");
        let detail = "It is not your fault. The log has more under the request id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something broke on our side", detail)
    }

    /// The response, with the id of its request.
    fn render(self, request_id: &str) -> Response {
        let body = ProblemBody {
            r#type: format!("urn:retainai:problem:{}", self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: Some(String::from(self.detail)).filter(|detail| !detail.is_empty()),
            code: self.code.to_owned(),
            errors: self.errors,
            state: self.state.map(String::from),
            request_id: request_id.to_owned(),
        };
        let mut response =
            Response::builder().status(self.status).content_type(PROBLEM_JSON).body(body.to_json_string());
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::CarriedOut { .. }) {
            return Self::answer_lost();
        }
        if !error.is_transient() {
            return Self::internal(&error);
        }
        tracing::warn!(%error, "a request could not be answered: the database is away");
        let detail = "Nothing was changed unless a later answer says so. Try again shortly.";
        let title = "The database does not answer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", title, detail).retry_after(2)
    }
}

/// For every operation: "anything else is a problem". The document's statuses are filled in by `openapi`.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: PROBLEM_JSON, schema: ProblemBody::schema_ref() }];
        let description = "A problem (RFC 9457).";
        let default = MetaResponse { description, status: None, status_range: None, content, headers: Vec::new() };
        MetaResponses { responses: vec![default] }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

/// The layer in which every error becomes a problem; a panic too.
pub(crate) async fn say<E: Endpoint<Output = Response>>(
    next: Arc<E>,
    request: Request,
    routes: Arc<Routes>,
) -> poem::Result<Response> {
    use futures::FutureExt;
    let request_id = request.data::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let error = match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => return Ok(response),
        Ok(Err(error)) => error,
        Err(_) => Problem::internal(&"a handler panicked").into(),
    };
    let pattern = error.data::<PathPattern>().cloned();
    let mut response = translate(error, routes.allow(pattern.as_ref())).render(&request_id);
    if let Some(pattern) = pattern {
        response.set_data(pattern);
    }
    Ok(response)
}

/// Ours as they are; the framework's in our words.
fn translate(error: Error, allow: &str) -> Problem {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.clone();
    }
    if let Some(e) = error.downcast_ref::<ParseParamError>() {
        return Problem::bad_parameter(e.name, plain(&e.reason));
    }
    if let Some(e) = error.downcast_ref::<ParseRequestPayloadError>() {
        return unreadable_body(&e.reason);
    }
    if let Some(e) = error.downcast_ref::<ContentTypeError>() {
        return Problem::unsupported_media_type(match e {
            ContentTypeError::ExpectContentType => "Send a Content-Type header.",
            ContentTypeError::NotSupported { .. } => "The API's document (/openapi.json) says which type is.",
        });
    }
    if error.is::<MethodNotAllowedError>() {
        let detail = format!("Here one may: {allow}.");
        let title = "This method is not for this path";
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail)
            .header(header::ALLOW, allow);
    }
    if error.is::<NotFoundError>() || error.is::<ParsePathError>() || error.is::<poem::error::ParsePathError>() {
        let detail = "The path names nothing that exists. /openapi.json lists what does.";
        return Problem::not_found("not_found", "Not found", detail);
    }
    if let Some(ReadBodyError::Utf8(_)) = error.downcast_ref::<ReadBodyError>() {
        return Problem::bad_field("body", "not UTF-8");
    }
    if error.is::<ReadBodyError>() || error.status().is_client_error() {
        return Problem::new(error.status(), "bad_request", "The request cannot be read", "");
    }
    Problem::internal(&error)
}

/// A body that is no JSON is a 400, one that is JSON of another shape a 422.
fn unreadable_body(reason: &str) -> Problem {
    match reason.rfind(" at line ") {
        Some(at) if reason.contains(" column ") => {
            let detail = format!("It breaks off or goes wrong{}.", &reason[at..]);
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", "The body is not JSON", detail)
        }
        _ => Problem::bad_field("body", plain(reason)),
    }
}

/// The framework's reasons without its own words around them.
fn plain(reason: &str) -> String {
    let reason = reason.split(" (occurred while parsing").next().unwrap_or(reason);
    let reason = match reason.strip_prefix("failed to parse \"") {
        Some(rest) => rest.split_once("\": ").map_or(rest, |(_, said)| said),
        None => reason,
    };
    reason.strip_prefix("verification failed. ").unwrap_or(reason).replace(", exclusive: false", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_lose_the_frameworks_words() {
        assert_eq!(
            plain("failed to parse \"string_naive-date\": input contains invalid characters"),
            "input contains invalid characters"
        );
        assert_eq!(plain("verification failed. maximum(200, exclusive: false)"), "maximum(200)");
        assert_eq!(
            plain("Type \"x\" expects an input value. (occurred while parsing \"Y\")"),
            "Type \"x\" expects an input value."
        );
    }
}
