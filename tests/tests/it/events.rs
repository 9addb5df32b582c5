//! The stream of changes across processes: two API servers on one PostgreSQL tell the same, and a client that loses one goes on at the other.

use crate::installation::{Installation, LIMIT};
use product_tests::{free_port, http};
use serde_json::Value;

/// Opens a stream. Everything that is committed from now on is on it.
async fn open(url: &str, last: Option<&str>) -> reqwest::Response {
    let mut request = http::client().get(url);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.timeout(LIMIT).send().await.expect("a stream");
    assert_eq!(response.status(), 200);
    response
}

/// Reads events until one is wanted; each with its id.
async fn read(mut response: reqwest::Response, until: impl Fn(&Value) -> bool) -> Vec<(String, Value)> {
    let (mut text, mut seen) = (String::new(), Vec::new());
    while let Some(bytes) = response.chunk().await.expect("more of the stream") {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
            text = rest;
            let field = |name: &str| event.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            let (Some(id), Some(data)) = (field("id:"), field("data:")) else { continue };
            let body: Value = serde_json::from_str(&data).unwrap();
            let done = until(&body);
            seen.push((id, body));
            if done {
                return seen;
            }
        }
    }
    panic!("the stream ended: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_tell_the_same_changes() {
    let Some(installation) = Installation::on_servers(&["NASDAQ:AAPL"]).await else { return };
    let _processes = installation.start(&[]).await;
    installation.runs_ended(1).await;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let _second = installation.retainai(&["api", "--listen", &address]).spawn();
    product_tests::eventually("the second server", LIMIT, || async {
        (http::status(&format!("http://{address}/health/ready")).await? == 200).then_some(())
    })
    .await;
    let of_runs = "/v1/events?kind=run,step&exchange=NASDAQ&ticker=AAPL";
    let (first, second) = (installation.url(of_runs), format!("http://{address}{of_runs}"));
    let ended =
        |body: &Value| body["kind"] == "run" && matches!(body["state"].as_str(), Some("succeeded" | "no_new_session"));
    let (one, other) = (open(&first, None).await, open(&second, None).await);
    installation.next_session().await;
    let (one, other) = tokio::join!(read(one, ended), read(other, ended));
    assert_eq!(one, other, "the same, in the same order");
    let words: Vec<String> = one
        .iter()
        .map(|(_, body)| format!("{} {}", body["subject"].as_str().unwrap_or("run"), body["state"].as_str().unwrap()))
        .collect();
    let at = |word: &str| words.iter().position(|said| said == word).unwrap_or_else(|| panic!("no {word}: {words:?}"));
    assert!(
        ["run queued", "scrape running", "scrape done", "cache running", "archive done", "run succeeded"]
            .map(at)
            .is_sorted(),
        "{words:?}"
    );
    // A client that lost the first server goes on at the second.
    let rest = read(open(&second, Some(&one[2].0)).await, ended).await;
    assert_eq!(rest, one[3..]);
}
