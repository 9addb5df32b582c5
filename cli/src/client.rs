//! How operator commands reach the product: always through the public API's types. Over HTTP to `api_url` or to the `up` that owns the data folder,
//! or by calling the same API inside this process. Out come JSON documents, or the problem that the API answered.

use crate::assemble::{Assembled, Work, assemble, history, politeness, work};
use crate::data_folder::{DataFolder, Taken};
use crate::settings::Settings;
use anyhow::Context;
use api::ApiState;
use poem::http::{Method, StatusCode};
use poem::{Endpoint, Request};
use serde_json::Value;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Says in the audit that it was the command line.
const DOOR: (&str, &str) = ("x-retainai-door", "cli");
/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The same inside this process.
const INSIDE_LIMIT: Duration = Duration::from_secs(30);

/// A way to the API.
pub struct Client {
    way: Way,
    stop: CancellationToken,
    working: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    stores: Option<workflows::Stores>,
    _folder: Option<DataFolder>,
}

enum Way {
    Http { base: String, client: reqwest::Client, key: Option<String> },
    Inside(api::App),
}

/// What the API answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The document, or the problem.
    pub body: Value,
}

impl Answer {
    /// Whether it is a document and not a problem.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The document; a problem becomes an error in its own words.
    pub fn ok(self) -> anyhow::Result<Value> {
        anyhow::ensure!(self.is_ok(), "{}", self.problem());
        Ok(self.body)
    }

    /// The problem as a sentence.
    pub fn problem(&self) -> String {
        let text = |key: &str| self.body[key].as_str().unwrap_or_default();
        match (text("detail"), text("title")) {
            ("", "") => format!("the API answered {}", self.status),
            ("", title) => title.to_owned(),
            (detail, _) => detail.to_owned(),
        }
    }
}

/// An HTTP client with limits; TLS by rustls.
pub fn http_client(limit: Duration) -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(limit)
        .connect_timeout(Duration::from_secs(5))
        .no_proxy()
        .build()
        .context("an HTTP client could not be built")
}

impl Client {
    /// To the owner of the data folder if there is one, else to an API inside this process. With `working`, the latter also carries out
    /// runs (for the embedded store; with PostgreSQL and Redis the worker processes do).
    pub async fn connect(settings: &Settings, working: bool) -> anyhow::Result<Self> {
        Self::connect_for(settings, working, INSIDE_LIMIT).await
    }

    /// The same for requests that may take so long inside this process.
    pub async fn connect_for(settings: &Settings, working: bool, time_limit: Duration) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        if let Some(base) = &settings.api_url {
            return Self::over_http(base.clone(), settings.api_key.clone(), stop);
        }
        let folder = match settings.is_embedded() {
            true => match DataFolder::take(&settings.data_dir, None)? {
                Taken::Ours(folder) => Some(folder),
                Taken::Theirs(owner) => {
                    let listen = owner.listen.with_context(|| {
                        format!(
                            "the data folder {} belongs to process {}, which serves no API: wait for its end",
                            settings.data_dir.display(),
                            owner.pid
                        )
                    })?;
                    return Self::over_http(format!("http://{listen}"), owner.token, stop);
                }
            },
            false => None,
        };
        let Assembled { engine, stores, flow, folder, .. } = assemble(settings, folder, None, &stop).await?;
        let state = ApiState::new(engine.clone(), stores.clone(), env!("CARGO_PKG_VERSION"));
        let state = ApiState {
            history: history(settings, &engine),
            politeness: politeness(settings, &flow),
            time_limit,
            ..state
        };
        let working = (working && settings.is_embedded()).then(|| {
            let what = Work { steps: workers::steps::CARRIED_OUT.to_vec(), schedules: false, migrates: true };
            tokio::spawn(work(engine.clone(), stores.clone(), flow, settings.clone(), what, stop.clone()))
        });
        Ok(Self { way: Way::Inside(api::app(state)), stop, working, stores: Some(stores), _folder: folder })
    }

    fn over_http(base: String, key: Option<String>, stop: CancellationToken) -> anyhow::Result<Self> {
        let way = Way::Http { base, client: http_client(ANSWER_LIMIT)?, key };
        Ok(Self { way, stop, working: None, stores: None, _folder: None })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(("application/json", body.to_string()))).await
    }

    /// PUT with a body of the given type.
    pub async fn put(&self, path: &str, content_type: &'static str, body: String) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, Some((content_type, body))).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<(&'static str, String)>) -> anyhow::Result<Answer> {
        let (status, bytes) = match &self.way {
            Way::Http { base, client, key } => {
                let mut request = client.request(method, format!("{base}{path}")).header(DOOR.0, DOOR.1);
                if let Some(key) = key {
                    request = request.bearer_auth(key);
                }
                if let Some((content_type, body)) = body {
                    request = request.header("content-type", content_type).body(body);
                }
                let response = request.send().await.with_context(|| format!("{base} could not be reached"))?;
                (response.status().as_u16(), response.bytes().await?.to_vec())
            }
            Way::Inside(app) => {
                let mut request =
                    Request::builder().method(method).uri_str(path).header("host", "localhost").header(DOOR.0, DOOR.1);
                if let Some((content_type, _)) = &body {
                    request = request.header("content-type", *content_type);
                }
                let request = match body {
                    Some((_, body)) => request.body(body),
                    None => request.finish(),
                };
                let response = match app.call(request).await {
                    Ok(response) => response,
                    Err(error) => error.into_response(),
                };
                let status = response.status();
                let bytes =
                    if status == StatusCode::NO_CONTENT { Vec::new() } else { response.into_body().into_vec().await? };
                (status.as_u16(), bytes)
            }
        };
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).context("the API answered something that is not JSON")?
        };
        Ok(Answer { status, body })
    }

    /// Lets what runs inside this process finish or hand back, and closes the stores.
    pub async fn close(self) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(working) = self.working {
            working.await??;
        }
        if let Some(stores) = self.stores {
            stores.db.close().await;
        }
        Ok(())
    }
}
