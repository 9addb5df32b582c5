//! How much and how long: bodies are read up to a cap (chunked ones too) and must be of a type that no plain web form can send;
//! every request ends in time.

use crate::problem::Problem;
use poem::error::ReadBodyError;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, Request, Response};
use std::sync::Arc;
use std::time::Duration;

/// The most a body may hold.
const BODY_CAP: usize = 1 << 20;
/// The most an imported file may hold.
const IMPORT_CAP: usize = 16 << 20;

/// The innermost layer before the resources.
pub(crate) async fn limit<E: Endpoint<Output = Response>>(
    next: Arc<E>,
    mut request: Request,
    time_limit: Duration,
) -> poem::Result<Response> {
    let time_limit = if is_import(&request) { time_limit * 4 } else { time_limit };
    let answer = async {
        if !request.method().is_safe() {
            read_body(&mut request).await?;
        }
        next.call(request).await
    };
    tokio::time::timeout(time_limit, answer).await.unwrap_or_else(|_| {
        let detail = format!("It took longer than {} s. Ask for less, or try again.", time_limit.as_secs());
        let title = "The answer took too long";
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", title, detail).retry_after(5).into())
    })
}

fn is_import(request: &Request) -> bool {
    request.method() == Method::PUT
}

/// Reads the body whole, so that what comes after never waits for the network and never holds more than the cap.
async fn read_body(request: &mut Request) -> Result<(), Problem> {
    let cap = if is_import(request) { IMPORT_CAP } else { BODY_CAP };
    let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
    if announced > cap as u64 {
        return Err(Problem::too_large(cap));
    }
    if request.header(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::unsupported_media_type("Compressed bodies are not taken; send it as it is."));
    }
    let bytes = request.take_body().into_bytes_limit(cap).await.map_err(|error| match error {
        ReadBodyError::PayloadTooLarge => Problem::too_large(cap),
        _ => Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The body broke off", "Send the request again."),
    })?;
    if bytes.is_empty() && request.content_type().is_none() {
        // "No body" is JSON's null: an operation whose body is optional takes it.
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    } else if !request.content_type().is_some_and(needs_our_consent) {
        // A page of any site may send a form or plain text without asking us first; JSON and CSV it may not.
        return Err(Problem::unsupported_media_type("Bodies are application/json or text/csv."));
    }
    request.set_body(Body::from(bytes));
    Ok(())
}

fn needs_our_consent(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/csv" || essence.ends_with("+json")
}
