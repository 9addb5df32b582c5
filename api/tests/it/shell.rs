//! What stands around every resource: guards, limits, problems, ids, compression, pages, and the socket.

use crate::{World, ask};
use futures::stream;
use poem::Body;
use poem::http::Method;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn only_loopback_names_are_answered() {
    let world = World::with(|state| api::ApiState { hosts: vec!["192.168.1.5:8080".to_owned()], ..state }).await;
    for host in ["localhost", "127.0.0.1:8080", "[::1]:9", "192.168.1.5:8080"] {
        assert_eq!(world.get_with("/v1/tickers", &[("host", host)]).await.status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.168.1.5", ""] {
        world.get_with("/v1/tickers", &[("host", host)]).await.problem(403, "bad_host");
    }
    let absolute = world.get_with("http://evil.example/v1/tickers", &[("host", "localhost")]).await;
    absolute.problem(403, "bad_host");
    assert_eq!(world.get_with("/health/live", &[("host", "10.1.2.3:8080")]).await.status, 200, "probes name pods");
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let world = World::new().await;
    let cancel = "/v1/runs/018cffff-0000-7000-8000-000000000000/cancel";
    for origin in ["http://evil.example", "null", "http://localhost:3000", "https://localhost", "localhost:8080"] {
        world.post_with(cancel, &[("origin", origin)], json!({})).await.problem(403, "foreign_origin");
        world.get_with("/v1/tickers", &[("origin", origin)]).await.problem(403, "foreign_origin");
    }
    world.post_with(cancel, &[("origin", "http://localhost:8080")], json!({})).await.problem(404, "unknown_run");
    world.post_with(cancel, &[("sec-fetch-site", "cross-site")], json!({})).await.problem(403, "foreign_origin");
    world.get_with("/v1/tickers", &[("sec-fetch-site", "cross-site")]).await.problem(403, "foreign_origin");
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(world.get_with("/", &link).await.status, 200);
    world.post_with(cancel, &link, json!({})).await.problem(403, "foreign_origin");
}

#[tokio::test]
async fn what_a_web_form_can_send_is_refused() {
    let world = World::new().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        let sent = ask(&world.app, Method::POST, "/v1/runs", &[("content-type", kind)], Body::from("{}")).await;
        sent.problem(415, "unsupported_media_type");
    }
    let zipped = [JSON, ("content-encoding", "gzip")];
    let sent = ask(&world.app, Method::POST, "/v1/runs", &zipped, Body::from("{}")).await;
    sent.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn bodies_are_capped_however_they_come() {
    let world = World::new().await;
    let big = vec![b' '; (1 << 20) + 1];
    ask(&world.app, Method::POST, "/v1/runs", &[JSON], Body::from(big)).await.problem(413, "body_too_large");
    let announced = [JSON, ("content-length", "9999999999")];
    ask(&world.app, Method::POST, "/v1/runs", &announced, Body::empty()).await.problem(413, "body_too_large");
    let csv = [("content-type", "text/csv")];
    let path = "/v1/tickers/NASDAQ/AAPL/bars";
    let endless = || stream::iter((0..).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10])));
    let sent = ask(&world.app, Method::PUT, path, &csv, Body::from_bytes_stream(endless())).await;
    assert!(sent.problem(413, "body_too_large")["detail"].as_str().unwrap().contains("16384 KiB"));
    let two_mib = format!("date,close\n{}", "2024-01-26,5.00\n".repeat(1 << 17));
    assert_eq!(world.put_csv(path, two_mib).await.ok()["new"], 1);
    let broken = stream::iter([Ok(b"date".to_vec()), Err(std::io::Error::other("gone"))]);
    ask(&world.app, Method::PUT, path, &csv, Body::from_bytes_stream(broken)).await.problem(400, "bad_request");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let world = World::new().await;
    for path in ["/nope", "/v1", "/v1/forecasts/NASDAQ", "/v1/runs/not-a-uuid", "/v1/tickers/%ff/A"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/runs", "GET, HEAD, POST"),
        (Method::OPTIONS, "/v1/runs/018cffff-0000-7000-8000-000000000000/cancel", "POST"),
        (Method::POST, "/v1/tickers/NASDAQ/AAPL/bars", "GET, HEAD, PUT"),
        (Method::PATCH, "/v1/exchanges/NASDAQ/factors", "PUT"),
        (Method::DELETE, "/docs", "GET, HEAD"),
    ] {
        let answer = ask(&world.app, method.clone(), path, &[], Body::empty()).await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    assert_eq!(ask(&world.app, Method::HEAD, "/v1/tickers", &[], Body::empty()).await.status, 200);
}

#[tokio::test]
async fn request_ids_are_kept_when_sane() {
    let world = World::new().await;
    let kept = world.get_with("/v1/tickers", &[("x-request-id", "trace-42.a_B")]).await;
    assert_eq!(kept.header("x-request-id"), "trace-42.a_B");
    let long = "x".repeat(65);
    for odd in ["a b", "<script>", long.as_str()] {
        let made = world.get_with("/nope", &[("x-request-id", odd)]).await;
        assert_eq!(made.header("x-request-id").len(), 36);
        made.problem(404, "not_found");
    }
}

#[tokio::test]
async fn every_answer_is_hardened_and_none_is_shared() {
    let world = World::new().await;
    for path in ["/", "/docs", "/v1/tickers", "/nope"] {
        let answer = world.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{path}");
    }
}

#[tokio::test]
async fn large_answers_shrink_for_those_who_ask() {
    let world = World::new().await;
    let plain = world.get("/openapi.json").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    let small = world.get_with("/openapi.json", &[("accept-encoding", "gzip")]).await;
    assert_eq!(small.header("content-encoding"), "gzip");
    assert!(small.bytes.len() * 4 < plain.bytes.len());
    let tiny = world.get_with("/v1/tickers", &[("accept-encoding", "gzip")]).await;
    assert_eq!(tiny.header("content-encoding"), "");
}

#[tokio::test]
async fn pages_stand_alone() {
    let world = World::new().await;
    let first = world.get("/").await;
    assert!(first.header("content-type").starts_with("text/html") && !first.text().contains("<script"));
    let docs = world.get("/docs").await.text();
    assert!(docs.contains("SwaggerUIBundle") && docs.contains("/v1/forecasts/{exchange}/{ticker}"));
    assert!(docs.contains("\"format\": \"date\"") && !docs.contains("naive-date"), "the corrected document");
    assert!(!docs.contains("<script src") && !docs.contains("<link rel"), "nothing from elsewhere");
    world.get("/metrics").await.problem(404, "no_metrics");
}

#[tokio::test]
async fn metrics_are_rendered_with_few_labels() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let world = World::with(|state| api::ApiState { metrics: Some(handle), ..state }).await;
    for n in 0..20 {
        world.get(&format!("/random/{n}?q={n}")).await;
        world.get(&format!("/v1/tickers/NASDAQ/T{n}")).await;
        world.get_with("/v1/tickers", &[("host", "evil.example")]).await;
    }
    let text = world.get("/metrics").await.text();
    for line in [
        r#"retainai_http_requests_total{route="/v1/tickers/{exchange}/{ticker}",method="GET",status="404"} 20"#,
        r#"retainai_http_requests_total{route="unknown",method="GET",status="404"} 20"#,
        r#"retainai_http_requests_total{route="refused",method="GET",status="403"} 20"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.contains("retainai_http_request_duration_seconds") && !text.contains("random"));
}

#[tokio::test]
async fn a_request_ends_in_time() {
    let world = World::with(|state| api::ApiState { time_limit: Duration::from_millis(200), ..state }).await;
    let never = Body::from_bytes_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let answer = ask(&world.app, Method::POST, "/v1/runs", &[JSON], never).await;
    answer.problem(503, "timed_out");
    assert_eq!(answer.header("retry-after"), "5");
}

#[tokio::test]
async fn the_server_answers_and_stops() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(api::serve(world.app.clone(), listener, stop.clone()));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    // Chunked and too large: refused while it still comes in.
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        if connection.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    // An idle connection does not hold it up.
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    idle.write_all(format!("GET /health/live HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 200");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(11), serving).await.expect("it stops").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
