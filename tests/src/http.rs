//! Plain HTTP to the program under test.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;

/// Reads a JSON document; any status but 2xx is an error that shows the body.
pub async fn get_json(url: &str) -> Result<Value> {
    answer(client().get(url)).await.with_context(|| format!("GET {url}"))
}

/// Sends a JSON document and reads the one that answers; any status but 2xx is an error that shows the body.
pub async fn post_json(url: &str, body: &Value) -> Result<Value> {
    answer(client().post(url).json(body)).await.with_context(|| format!("POST {url}"))
}

/// The status alone, or none where nobody answers.
pub async fn status(url: &str) -> Option<u16> {
    Some(client().get(url).send().await.ok()?.status().as_u16())
}

/// The client behind these functions, for tests that need headers or other methods.
pub fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Only the first of a process is taken; a second is no fault.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No proxy and no pool: nothing of the machine's settings, and no connection into a process that was killed.
        Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client")
    })
}

async fn answer(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.text().await?;
    ensure!(status.is_success(), "answered {status}: {body}");
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&body).with_context(|| format!("no JSON: {body}"))
}
