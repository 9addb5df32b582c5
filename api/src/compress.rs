//! Smaller answers for those who take them. Not where an ETag names the exact bytes, and never on an event stream, which must flow.

use poem::http::{HeaderMap, HeaderValue, header};
use poem::web::{Compress, CompressionAlgo, CompressionLevel};
use poem::{Endpoint, IntoResponse, Request, Response};
use std::sync::Arc;

/// Below this, headers weigh more than what is saved.
const WORTH_BYTES: usize = 1024;

/// The layer that compresses.
pub(crate) async fn compress<E: Endpoint<Output = Response>>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let wanted = accepted(request.headers());
    let mut response = next.call(request).await?;
    if !may_shrink(&response) {
        return Ok(response);
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(algorithm) = wanted else { return Ok(response) };
    let bytes = response.take_body().into_bytes().await.map_err(poem::error::InternalServerError)?;
    let large = bytes.len() >= WORTH_BYTES;
    response.set_body(bytes);
    if !large {
        return Ok(response);
    }
    Ok(Compress::new(response, algorithm).with_quality(CompressionLevel::Fastest).into_response())
}

fn may_shrink(response: &Response) -> bool {
    let headers = response.headers();
    let text = response.content_type().is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.ends_with("json") || matches!(essence, "text/html" | "text/css" | "text/javascript" | "image/svg+xml")
    });
    text && !headers.contains_key(header::ETAG) && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Brotli, else gzip; `q=0` means no.
fn accepted(headers: &HeaderMap) -> Option<CompressionAlgo> {
    let offers = |name: &str| {
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(
            |offer| {
                let (coding, q) = offer.split_once(';').unwrap_or((offer, ""));
                let refused = q.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
                coding.trim().eq_ignore_ascii_case(name) && !refused
            },
        )
    };
    [("br", CompressionAlgo::BR), ("gzip", CompressionAlgo::GZIP)]
        .into_iter()
        .find(|(name, _)| offers(name))
        .map(|(_, algorithm)| algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_chooses() {
        let chosen = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(text).unwrap());
            accepted(&headers)
        };
        assert_eq!(chosen("gzip, deflate, br"), Some(CompressionAlgo::BR));
        assert_eq!(chosen("br;q=0, GZIP"), Some(CompressionAlgo::GZIP));
        assert_eq!(chosen("identity"), None);
    }
}
