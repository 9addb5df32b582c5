//! The way to a Redis: in come a URL and, for a private authority, its certificate file; out comes a connection that mends itself.

use super::QueueError;
use crate::db::without_password;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, TlsCertificates};
use std::path::Path;
use std::time::Duration;

/// redis-rs gives up after 500 ms by default, which kills an apalis worker (D12).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a Redis is, and whom to trust about it. It has no `Debug`, for the URL may hold a password.
#[derive(Clone, Copy)]
pub struct RedisServer<'a> {
    /// redis:// or rediss://, with user and password where there are any.
    pub url: &'a str,
    /// The certificate of a private authority (PEM). It counts where the URL is rediss://; without it the public authorities do.
    pub ca_file: Option<&'a Path>,
}

impl<'a> From<&'a str> for RedisServer<'a> {
    fn from(url: &'a str) -> Self {
        Self { url, ca_file: None }
    }
}

impl<'a> From<&'a String> for RedisServer<'a> {
    fn from(url: &'a String) -> Self {
        url.as_str().into()
    }
}

/// A client; nothing is sent yet.
pub(super) fn client(server: RedisServer<'_>) -> Result<Client, QueueError> {
    let broken = |e: redis::RedisError| QueueError::Url { url: without_password(server.url), why: e.to_string() };
    let Some(file) = server.ca_file.filter(|_| server.url.starts_with("rediss://")) else {
        return Client::open(server.url).map_err(broken);
    };
    let unusable = |why: String| QueueError::CaFile { file: file.display().to_string(), why };
    let pem = std::fs::read(file).map_err(|e| unusable(e.to_string()))?;
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(unusable("it holds no certificate in PEM form".to_owned()));
    }
    Client::open(server.url).map_err(broken)?;
    Client::build_with_tls(server.url, TlsCertificates { client_tls: None, root_cert: Some(pem) })
        .map_err(|e| unusable(e.to_string()))
}

/// Host and port, for messages.
pub(super) fn address(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

/// A connection that is made on first use and made again whenever it breaks.
pub fn connection<'a>(server: impl Into<RedisServer<'a>>) -> Result<(Client, ConnectionManager), QueueError> {
    let server = server.into();
    let client = client(server)?;
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(CONNECTION_TIMEOUT))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_millis(500));
    let manager = ConnectionManager::new_lazy_with_config(client.clone(), config)
        .map_err(|e| QueueError::Url { url: without_password(server.url), why: e.to_string() })?;
    Ok((client, manager))
}
