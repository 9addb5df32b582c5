//! `retainai keys list|create|revoke`: who may ask the API for what. A new key is shown once, on stdout.

use super::failed;
use crate::client::Client;
use crate::output::{cell, items_table, print_json};
use crate::settings::Settings;
use chrono::{DateTime, NaiveDate, Utc};
use clap::Subcommand;
use serde_json::json;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// The keys there are, revoked ones among them.
    List,
    /// Make a key; it is shown this once.
    Create {
        /// Who or what will use it.
        name: String,
        /// What it opens: forecasts:read, runs:read, runs:write, admin. A wider one opens what the narrower ones do.
        #[arg(long, value_delimiter = ',', default_value = "forecasts:read", value_name = "SCOPES")]
        scopes: Vec<String>,
        /// The first day (UTC) on which it is refused.
        #[arg(long, value_name = "YYYY-MM-DD")]
        expires: Option<NaiveDate>,
    },
    /// Revoke keys, for good.
    Revoke {
        /// Their ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<uuid::Uuid>,
    },
}

const COLUMNS: [&str; 8] = ["id", "name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at"];

/// Does it.
pub async fn run(settings: &Settings, what: Keys, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let code = ask(&client, what, as_json).await;
    client.close().await?;
    code
}

async fn ask(client: &Client, what: Keys, as_json: bool) -> anyhow::Result<u8> {
    match what {
        Keys::List => {
            let answer = client.get("/v1/keys?limit=200").await?;
            if !answer.is_ok() {
                return failed(&answer, as_json);
            }
            if as_json {
                print_json(&answer.body)?
            } else {
                crate::output::outln!("{}", items_table(&COLUMNS, &answer.body))
            }
        }
        Keys::Create { name, scopes, expires } => {
            let expires: Option<DateTime<Utc>> = expires.map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc());
            let mut body = json!({ "name": name, "scopes": scopes });
            if let Some(expires) = expires {
                body["expires_at"] = json!(expires);
            }
            let answer = client.post("/v1/keys", &body).await?;
            if !answer.is_ok() {
                return failed(&answer, as_json);
            }
            if as_json { print_json(&answer.body)? } else { crate::output::outln!("{}", cell(&answer.body, "key")) }
        }
        Keys::Revoke { ids } => {
            for id in ids {
                let answer = client.delete(&format!("/v1/keys/{id}")).await?;
                if !answer.is_ok() {
                    return failed(&answer, as_json);
                }
            }
            if as_json {
                print_json(&json!({ "revoked": true }))?;
            }
        }
    }
    Ok(0)
}
