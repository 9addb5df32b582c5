//! The polite client against sites of one test each.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use workflows::flow::NotNowReason;

fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

#[test]
fn a_status_becomes_a_typed_error() {
    let judge = |code: u16| judge_status(StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
    assert_eq!(judge(200), Ok(()));
    assert_eq!(judge(404), Err(Kind::NotFound));
    assert_eq!(judge(429), Err(Kind::RateLimited { retry_after: None }));
    assert_eq!(judge(419), Err(Kind::SessionExpired));
    assert!(matches!(judge(403), Err(Kind::Blocked(_))));
    assert!(matches!(judge(503), Err(Kind::Transport(_))));
    assert!(matches!(judge(405), Err(Kind::LayoutChanged { .. })));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let seconds = headers(&[(header::RETRY_AFTER, "120")]);
    assert_eq!(retry_after(&seconds), Some(Duration::from_secs(120)));
    let date = headers(&[
        (header::DATE, "Wed, 21 Oct 2026 07:28:00 GMT"),
        (header::RETRY_AFTER, "Wed, 21 Oct 2026 07:29:30 GMT"),
    ]);
    assert_eq!(retry_after(&date), Some(Duration::from_secs(90)));
    assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "soon")])), None);
}

#[test]
fn addresses_are_web_addresses() {
    assert_eq!(address("http://127.0.0.1:1/", "/x").unwrap().as_str(), "http://127.0.0.1:1/x");
    assert!(address("file:///etc", "/passwd").is_err());
    assert!(address("", "/x").is_err());
}

/// A site of one test without a robots.txt: answers every request alike and counts them.
async fn site(answer: &'static str) -> (Url, Arc<AtomicUsize>) {
    site_with("HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", answer).await
}

async fn site_with(robots: &'static str, answer: &'static str) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked_for = [0; 4096];
            let length = stream.read(&mut asked_for).await.unwrap_or_default();
            if asked_for[..length].starts_with(b"GET /robots.txt") {
                let _ = stream.write_all(robots.as_bytes()).await;
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

fn client(limit: Limit, flow: &Flow) -> PoliteClient {
    PoliteClient::new(Manners { limit, ..Manners::default() }, flow.clone()).unwrap()
}

fn flow() -> Flow {
    Flow::memory("2026-03-04T12:00:00Z".parse().unwrap())
}

#[tokio::test]
async fn a_host_that_asks_for_quiet_is_not_asked_by_any_client() {
    let (url, asked) =
        site("HTTP/1.1 429 Too Many\r\nretry-after: 90\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let (flow, limit) = (flow(), Limit::paced(Duration::ZERO));
    let rest = Some(Duration::from_secs(90));
    let first = client(limit, &flow).ask(Question::get(url.clone())).await;
    assert_eq!(first, Err(Kind::RateLimited { retry_after: rest }));
    let second = client(limit, &flow).ask(Question::get(url.clone())).await.unwrap_err();
    let Kind::NotNow { wait, why: NotNowReason::Blocked } = second else { panic!("{second}") };
    assert!(wait > Duration::from_secs(60) && wait <= Duration::from_secs(90), "{wait:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_host_that_fails_again_and_again_is_left_alone() {
    let (url, asked) = site("HTTP/1.1 503 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let client = client(Limit::paced(Duration::ZERO), &flow());
    for _ in 0..5 {
        assert!(matches!(client.ask(Question::get(url.clone())).await, Err(Kind::Transport(_))));
    }
    let left = client.ask(Question::get(url.clone())).await;
    assert!(matches!(left, Err(Kind::NotNow { why: NotNowReason::BreakerOpen, .. })), "{left:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_visit_goes_on_while_others_are_sent_away() {
    let (url, _) = site("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npage").await;
    let (flow, limit) = (flow(), Limit::paced(Duration::from_millis(50)));
    let client = client(limit, &flow);
    let mut visit = client.visit();
    for _ in 0..4 {
        assert_eq!(visit.ask(Question::get(url.clone())).await, Ok("page".to_owned()));
        let other = flow.acquire(url.authority(), &limit, Duration::ZERO).await;
        assert_eq!(other.err().map(|not_now| not_now.why), Some(NotNowReason::Busy));
    }
    drop(visit);
    assert_eq!(client.ask(Question::get(url)).await, Ok("page".to_owned()));
}

#[tokio::test]
async fn a_redirection_stays_within_the_site() {
    let away = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/other?key=1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, _) = site(away).await;
    let client = client(Limit::paced(Duration::ZERO), &flow());
    let moved = client.ask(Question::get(url)).await;
    assert_eq!(moved, Err(Kind::Moved { to: "http://127.0.0.1:9".to_owned() }), "without its path and query");
    let round = "HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, asked) = site(round).await;
    assert!(matches!(client.ask(Question::get(url)).await, Err(Kind::Blocked(_))));
    assert_eq!(asked.load(Ordering::SeqCst), 1 + MOST_REDIRECTS);
    let same = |from: &str, to: &str| same_site(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
    assert!(same("https://a.example/x", "https://a.example/y") && same("http://a.example/x", "https://a.example/x"));
    for (from, to) in [
        ("https://a.example", "http://a.example"),
        ("https://a.example", "https://b.a.example"),
        ("https://a.example", "https://a.example:8443"),
        ("http://a.example:8080", "https://a.example"),
    ] {
        assert!(!same(from, to), "{from} {to}");
    }
}

#[tokio::test]
async fn a_host_is_asked_at_its_own_pace_where_that_is_slower() {
    let robots =
        "HTTP/1.1 200 OK\r\ncontent-length: 31\r\nconnection: close\r\n\r\nUser-agent: *\nCrawl-delay: 20 \n\n";
    let (url, asked) = site_with(robots, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npage").await;
    let flow = flow();
    let client = client(Limit::paced(Duration::ZERO), &flow);
    assert_eq!(client.ask(Question::get(url.clone())).await, Ok("page".to_owned()));
    let next = client.ask(Question::get(url.clone())).await;
    let Err(Kind::NotNow { wait, why: NotNowReason::Rate }) = next else { panic!("{next:?}") };
    assert!(wait > Duration::from_secs(15) && asked.load(Ordering::SeqCst) == 1, "{wait:?}");
    let host = url.authority().to_owned();
    let heard = flow.heard(std::slice::from_ref(&host)).await.remove(&host).unwrap();
    assert!(heard.last_success_at.is_some() && heard.last_error.is_none(), "{heard:?}");
    assert_eq!(heard.pause, Some(Duration::from_secs(20)));
}
