//! `Idempotency-Key`: a request that is sent again under the same key is carried out once and answered the same. In comes a POST, out comes its first
//! answer. That it was carried out is written with what it did, so that no crash makes it happen twice.

use crate::Shared;
use crate::auth::Caller;
use crate::problem::Problem;
use chrono::TimeDelta;
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, Request, Response};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use workflows::stores::answered::{self, Answer, Claimed};

const KEY: &str = "idempotency-key";
/// Tells that an answer is an earlier one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Headers that belong to an answer.
const KEPT: [HeaderName; 2] = [header::CONTENT_TYPE, header::LOCATION];
/// Longer than any request may take: whoever claimed one before has stopped.
const STALE: TimeDelta = TimeDelta::minutes(3);
/// A larger answer is not kept.
const MOST_KEPT: usize = 256 << 10;

/// Which POSTs pass by: a run is started under its key by the ledger itself, for as long as the run is kept; a login is nobody else's.
const PASSING: [&str; 2] = ["/v1/runs", "/v1/login"];
/// Whose answer is shown once and kept nowhere.
const SECRET: &str = "/v1/keys";

/// The layer around the resources. Bodies are whole by now.
pub(crate) async fn once<E: Endpoint<Output = Response>>(
    next: Arc<E>,
    mut request: Request,
    shared: Arc<Shared>,
) -> poem::Result<Response> {
    let path = request.uri().path().to_owned();
    let Some(key) = request.headers().get(KEY).cloned() else { return next.call(request).await };
    if request.method() != Method::POST || PASSING.contains(&path.as_str()) || !path.starts_with("/v1/") {
        return next.call(request).await;
    }
    let key = key.to_str().ok().filter(|key| (1..=200).contains(&key.len()));
    let key = key.ok_or_else(|| Problem::bad_parameter("Idempotency-Key", "use 1 to 200 visible characters"))?;
    let caller = request.data::<Caller>().map_or_else(String::new, Caller::name);
    let under = answered::Request { caller, key: key.to_owned() };
    let hash = hash(&mut request).await?;
    let db = &shared.stores().db;
    let now = shared.engine().ledger.now();
    match answered::claim(db, &under, hash, now, now - STALE).await.map_err(Problem::from)? {
        Claimed::Now => {}
        Claimed::Before(answer) => return Ok(say_again(answer)),
        claimed => return Err(refusal(&claimed).into()),
    }
    request.set_data(under.clone());
    let answer = next.call(request).await;
    let done = answer.as_ref().is_ok_and(|response| response.status().is_success());
    if !done || path == SECRET {
        // Whatever failed has had no effect, or has said in its own transaction that it had.
        if let Err(error) = answered::let_go(db, &under, now - STALE).await {
            tracing::warn!(%error, "a claim under an Idempotency-Key could not be ended; it ends by itself");
        }
        return answer;
    }
    let (parts, body) = answer?.into_parts();
    let body = body.into_bytes().await.map_err(|error| Problem::internal(&error))?;
    let headers: serde_json::Map<String, serde_json::Value> = KEPT
        .iter()
        .filter_map(|name| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.into())))
        .collect();
    let headers = serde_json::Value::Object(headers).to_string();
    let kept = match body.len() <= MOST_KEPT {
        true => {
            let answer = Answer { status: parts.status.as_u16(), headers, body: body.to_vec() };
            answered::answer(db, &under, &answer).await
        }
        false => answered::let_go(db, &under, now - STALE).await,
    };
    if let Err(error) = kept {
        tracing::warn!(%error, "an answer under an Idempotency-Key could not be kept");
    }
    Ok(Response::from_parts(parts, body.into()))
}

/// Of method, path, query and body.
async fn hash(request: &mut Request) -> Result<[u8; 32], Problem> {
    let body = request.take_body().into_bytes().await.map_err(|error| Problem::internal(&error))?;
    let mut hash = Sha256::new();
    for part in [request.method().as_str().as_bytes(), request.uri().to_string().as_bytes(), &body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    request.set_body(body);
    Ok(hash.finalize().into())
}

fn say_again(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = Response::builder().status(status).body(answer.body);
    let headers: serde_json::Value = serde_json::from_str(&answer.headers).unwrap_or_default();
    for name in KEPT {
        if let Some(value) = headers[name.as_str()].as_str().and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn refusal(claimed: &Claimed) -> Problem {
    match claimed {
        Claimed::OfAnother => {
            let detail = "Under this Idempotency-Key something else was asked for. Take another key.";
            Problem::conflict("idempotency_conflict", "The key belongs to another request", detail)
        }
        Claimed::AnswerLost => Problem::answer_lost(),
        _ => {
            let detail =
                "The same request is being carried out just now. Ask again, under the same key, for its answer.";
            Problem::conflict("under_way", "The request is under way", detail).retry_after(1)
        }
    }
}
