//! `retainai healthcheck`: asks a running API whether it is ready; for container probes.

use crate::client::http_client;
use crate::output::print_json;
use crate::settings::Settings;
use serde_json::{Value, json};
use std::time::Duration;

/// Exit 0 when ready, else 1 with the reason.
pub async fn run(settings: &Settings, json: bool) -> anyhow::Result<u8> {
    let client = http_client(Duration::from_secs(5))?;
    let url = format!("http://{}/health/ready", settings.listen);
    let (ready, document) = match client.get(&url).send().await {
        Ok(response) => (response.status().is_success(), response.json::<Value>().await.unwrap_or(Value::Null)),
        Err(error) => {
            (false, json!({ "status": "unreachable", "detail": format!("{url} could not be reached: {error}") }))
        }
    };
    if json {
        print_json(&document)?;
    } else if ready {
        crate::output::outln!("ready");
    } else {
        eprintln!("retainai: not ready: {document}");
    }
    Ok(u8::from(!ready))
}
