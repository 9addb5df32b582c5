//! Who may ask: keys, scopes, logins, anonymous readers, limits; and requests that are sent again under their Idempotency-Key.

use crate::{Answer, World, ask, csv, weekdays};
use api::{Access, ApiState, Bootstrap};
use poem::Body;
use poem::http::Method;
use serde_json::{Value, json};

const RUNS: &str = "/v1/runs";
const FORECASTS: &str = "/v1/forecasts";
const BARS: &str = "/v1/tickers/NASDAQ/AAPL/bars";

async fn locked(change: impl FnOnce(&mut Access)) -> World {
    let mut access = Access { keys: true, local_token: Some("t".repeat(64)), ..Access::default() };
    change(&mut access);
    World::with(|state| ApiState { access, ..state }).await
}

/// The key that is made at the first start.
async fn first_key(world: &World) -> String {
    let Bootstrap::Made(key) = api::bootstrap(&world.engine, &world.stores).await.unwrap() else {
        panic!("there was a key already")
    };
    key
}

async fn send(world: &World, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    let all = [headers, &[("content-type", "application/json")]].concat();
    ask(&world.app, method, path, &all, Body::from(body.to_string())).await
}

async fn with_key(world: &World, key: &str, path: &str) -> Answer {
    world.get_with(path, &[("authorization", &format!("Bearer {key}"))]).await
}

async fn new_key(world: &World, admin: &str, scopes: Value) -> (String, String) {
    let bearer = format!("Bearer {admin}");
    let body = json!({ "name": "a bot", "scopes": scopes });
    let made = send(world, Method::POST, "/v1/keys", &[("authorization", &bearer)], body).await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.text());
    let made = made.json();
    (made["key"].as_str().unwrap().to_owned(), made["about"]["id"].as_str().unwrap().to_owned())
}

async fn import(world: &World) {
    let headers = [("x-api-key", "t".repeat(64)), ("content-type", "text/csv".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let done = ask(&world.app, Method::PUT, BARS, &headers, Body::from(csv(&weekdays(40)))).await;
    assert_eq!(done.ok()["new"], 40);
}

#[tokio::test]
async fn without_a_key_nothing_is_told() {
    let world = locked(|_| ()).await;
    for path in [FORECASTS, RUNS, BARS, "/v1/audit", "/metrics", "/v1/no-such-thing"] {
        let refused = world.get(path).await;
        assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"retainai\"", "{path}");
        refused.problem(401, "key_needed");
    }
    assert_eq!(world.get("/health/live").await.status.as_u16(), 200);
    assert_eq!(world.get("/openapi.json").await.status.as_u16(), 200);
    assert_eq!(world.get("/v1/login").await.ok()["kind"], "anonymous");
    for shown in ["Bearer", "Bearer nonsense", &format!("Bearer rtn_00000000_{}", "0".repeat(64)), "Basic YTpi"] {
        let refused = world.get_with(FORECASTS, &[("authorization", shown)]).await;
        assert_eq!(refused.status.as_u16(), 401, "{shown}");
    }
    // Any name may be asked for: rebinding gains nothing where a key is needed.
    let named = ask(&world.app, Method::GET, "/v1/login", &[("host", "retainai.example.org")], Body::empty()).await;
    assert_eq!(named.status.as_u16(), 200);
}

#[tokio::test]
async fn a_key_opens_its_scopes_until_it_is_revoked() {
    let world = locked(|_| ()).await;
    let admin = first_key(&world).await;
    assert!(matches!(api::bootstrap(&world.engine, &world.stores).await.unwrap(), Bootstrap::There));
    let (reader, id) = new_key(&world, &admin, json!(["forecasts:read"])).await;
    assert_eq!(with_key(&world, &reader, FORECASTS).await.status.as_u16(), 200);
    assert_eq!(world.get_with(FORECASTS, &[("x-api-key", &reader)]).await.status.as_u16(), 200);
    let refused = with_key(&world, &reader, RUNS).await.problem(403, "missing_scope");
    assert!(refused["detail"].as_str().unwrap().contains("runs:read"), "{refused}");
    let bearer = format!("Bearer {reader}");
    send(&world, Method::POST, RUNS, &[("authorization", &bearer)], json!({})).await.problem(403, "missing_scope");
    for path in ["/v1/keys", "/v1/%6beys", "/v1/key%73", "/v1/keys/", "/v1/keys?limit=1"] {
        with_key(&world, &reader, path).await.problem(403, "missing_scope");
    }
    // What is listed opens nothing.
    let listed = with_key(&world, &admin, "/v1/keys").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(&reader[13..]) && listed["items"][1]["last_used_at"].is_string(), "{listed}");
    let admin = format!("Bearer {admin}");
    for _ in 0..2 {
        let path = format!("/v1/keys/{id}");
        let revoked = ask(&world.app, Method::DELETE, &path, &[("authorization", &admin)], Body::empty()).await;
        assert_eq!(revoked.status.as_u16(), 204);
    }
    with_key(&world, &reader, FORECASTS).await.problem(401, "unknown_key");
    let audit = world.get_with("/v1/audit", &[("authorization", &admin)]).await.ok();
    let said: Vec<&str> = audit["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(said, ["key_revoke", "key_create", "key_create"], "{audit}");
    assert!(audit["items"][0]["who"].as_str().unwrap().starts_with("bootstrap ("), "{audit}");
    assert!(!audit.to_string().contains(&reader[13..]));
}

#[tokio::test]
async fn a_browser_logs_in_once_and_changes_things_from_our_pages_only() {
    let world = locked(|_| ()).await;
    let key = first_key(&world).await;
    let origin = ("origin", "http://localhost:8080");
    send(&world, Method::POST, "/v1/login", &[origin], json!({ "key": "rtn_x" })).await.problem(401, "unknown_key");
    let logged_in = send(&world, Method::POST, "/v1/login", &[origin], json!({ "key": key })).await;
    let cookie = logged_in.header("set-cookie").to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(logged_in.ok()["kind"], "login");
    let cookie = ("cookie", cookie.as_str());
    assert_eq!(world.get_with(RUNS, &[("cookie", "other=1"), cookie]).await.status.as_u16(), 200);
    let pause = "/v1/pauses/exchange/NEPSE";
    send(&world, Method::PUT, pause, &[cookie], json!({})).await.problem(403, "origin_needed");
    let foreign = ("origin", "https://evil.example");
    send(&world, Method::PUT, pause, &[cookie, foreign], json!({})).await.problem(403, "foreign_origin");
    assert_eq!(send(&world, Method::PUT, pause, &[cookie, origin], json!({})).await.status.as_u16(), 200);
    let audit = world.get_with("/v1/audit", &[cookie]).await.ok();
    assert_eq!(audit["items"][0]["door"], "dashboard");
    let out = ask(&world.app, Method::DELETE, "/v1/login", &[cookie, origin], Body::empty()).await;
    assert!(out.status.as_u16() == 204 && out.header("set-cookie").contains("Max-Age=0"));
    world.get_with(RUNS, &[cookie]).await.problem(401, "key_needed");
}

#[tokio::test]
async fn a_public_site_shows_forecasts_but_no_prices_of_others() {
    let world = locked(|access| access.anonymous_reads = true).await;
    let token = "t".repeat(64);
    import(&world).await;
    assert_eq!(world.get(FORECASTS).await.status.as_u16(), 200);
    world.get(BARS).await.problem(401, "bars_not_public");
    world.get(RUNS).await.problem(401, "key_needed");
    assert_eq!(with_key(&world, &token, BARS).await.ok()["items"].as_array().unwrap().len(), 40);
    let world = locked(|access| (access.anonymous_reads, access.publish_bars) = (true, true)).await;
    import(&world).await;
    assert_eq!(world.get(BARS).await.status.as_u16(), 200);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let world = locked(|access| (access.anonymous_requests_per_minute, access.anonymous_reads) = (3, true)).await;
    for left in ["2", "1", "0"] {
        let answer = world.get(FORECASTS).await;
        assert_eq!(answer.header("ratelimit-policy"), "\"default\";q=3;w=60");
        assert!(answer.header("ratelimit").contains(&format!("r={left};")), "{left}");
    }
    let refused = world.get(FORECASTS).await;
    assert!((1..=21).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    refused.problem(429, "rate_limited");
    // Guesses count too; a key has a count of its own.
    world.get_with(FORECASTS, &[("x-api-key", "rtn_guess")]).await.problem(429, "rate_limited");
    assert_eq!(with_key(&world, &"t".repeat(64), FORECASTS).await.status.as_u16(), 200);
}

#[tokio::test]
async fn named_pages_of_other_sites_may_ask_with_a_key() {
    let world = locked(|access| access.cors_origins = vec!["https://app.example.org".to_owned()]).await;
    let key = first_key(&world).await;
    let asked = [
        ("origin", "https://app.example.org"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let before = ask(&world.app, Method::OPTIONS, FORECASTS, &asked, Body::empty()).await;
    assert_eq!(before.status.as_u16(), 200, "{}", before.text());
    assert_eq!(before.header("access-control-allow-origin"), "https://app.example.org");
    let bearer = format!("Bearer {key}");
    let headers = [asked[0], ("authorization", bearer.as_str()), ("sec-fetch-site", "cross-site")];
    let answer = world.get_with(FORECASTS, &headers).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, asked[0].1));
    let other = world.get_with(FORECASTS, &[("origin", "https://evil.example"), headers[1]]).await;
    assert_eq!(other.status.as_u16(), 403);
}

#[tokio::test]
async fn the_document_says_what_is_needed() {
    let open: Value = serde_json::from_str(&api::openapi_document_for(&Access::default())).unwrap();
    assert!(
        open["components"].get("securitySchemes").is_none()
            && open["paths"]["/v1/runs"]["get"].get("security").is_none()
    );
    let locked: Value = serde_json::from_str(&api::openapi_document()).unwrap();
    assert_eq!(locked["paths"]["/v1/runs"]["post"]["x-scope"], "runs:write");
    assert_eq!(locked["paths"]["/v1/login"]["post"]["security"], json!([]));
    assert!(locked["paths"]["/v1/keys"]["get"]["responses"]["401"].is_object());
}

const BACKFILLS: &str = "/v1/backfills";

fn backfill() -> Value {
    json!({ "exchange": "NASDAQ", "from": "2024-01-22", "to": "2024-01-26" })
}

#[tokio::test]
async fn the_same_request_under_its_key_happens_once() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let key = [("idempotency-key", "monday")];
    let first = world.post_with(BACKFILLS, &key, backfill()).await;
    let again = world.post_with(BACKFILLS, &key, backfill()).await;
    assert_eq!((first.status, again.status.as_u16()), (again.status, 202));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert!(!first.header("location").is_empty() && first.header("location") == again.header("location"));
    assert_eq!(first.json(), again.json());
    let mut other = backfill();
    other["max_active"] = json!(3);
    world.post_with(BACKFILLS, &key, other.clone()).await.problem(409, "idempotency_conflict");
    world.post_with(BACKFILLS, &[("idempotency-key", "tuesday")], other).await;
    assert_eq!(world.get(BACKFILLS).await.ok()["items"].as_array().unwrap().len(), 2);
    // What was refused had no effect and may be asked for again.
    let wrong = json!({ "exchange": "LSE", "from": "2024-01-22", "to": "2024-01-26" });
    for _ in 0..2 {
        world.post_with(BACKFILLS, &[("idempotency-key", "x")], wrong.clone()).await.problem(422, "bad_body");
    }
    let long = "k".repeat(201);
    world.post_with(BACKFILLS, &[("idempotency-key", &long)], backfill()).await.problem(400, "bad_parameter");
}

#[tokio::test]
async fn the_same_idempotency_key_of_two_callers_is_two() {
    let world = locked(|_| ()).await;
    let admin = first_key(&world).await;
    import(&world).await;
    let (bot, _) = new_key(&world, &admin, json!(["runs:write"])).await;
    let start = async |key: &str| {
        let headers = [("authorization", format!("Bearer {key}")), ("idempotency-key", "monday".to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let wanted = json!({ "exchange": "NASDAQ", "ticker": "AAPL" });
        send(&world, Method::POST, RUNS, &headers, wanted).await.ok()["id"].clone()
    };
    let (one, again, other) = (start(&admin).await, start(&admin).await, start(&bot).await);
    assert!(one == again && one != other, "{one} {again} {other}");
}

#[tokio::test]
async fn the_answer_that_shows_a_key_is_not_kept() {
    let world = World::new().await;
    let key = [("idempotency-key", "k")];
    let body = json!({ "name": "a bot", "scopes": ["runs:read"] });
    assert_eq!(world.post_with("/v1/keys", &key, body.clone()).await.status.as_u16(), 201);
    world.post_with("/v1/keys", &key, body).await.problem(409, "answer_lost");
    assert_eq!(world.get("/v1/keys").await.ok()["items"].as_array().unwrap().len(), 1);
}
