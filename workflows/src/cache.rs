//! The cache: newest forecasts and model weights, kept a while. Redis in production, memory in the embedded default.
//! Never the truth: writes are compare-and-set on a version, so an older writer never overwrites a newer one, and every entry ends by itself.

use crate::queue::{QueueError, RedisServer, connection};
use crate::stores::forecasts::StoredForecast;
use crate::unreached::{Advice, Unreached};
use market::Ticker;
use redis::aio::ConnectionManager;
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A forecast is worth keeping until well after its target session; then the archive answers.
const FORECAST_TTL: Duration = Duration::from_secs(36 * 3600);
/// Weights are named by their hash and never change.
const MODEL_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The cache did not answer; callers go to the archive instead.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Redis refused, or did not answer.
    #[error("the cache in Redis could not {doing}: {why}")]
    Redis {
        /// What was attempted.
        doing: &'static str,
        /// What was said.
        why: String,
    },
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] QueueError),
}

/// Either cache. Cheap to clone.
#[derive(Clone)]
pub enum Cache {
    /// Inside this process.
    Memory {
        /// Newest forecast by ticker, with its version.
        forecasts: moka::sync::Cache<Ticker, Arc<StoredForecast>>,
        /// Weights by hash; at most 64 MiB.
        models: moka::sync::Cache<String, Arc<Vec<u8>>>,
    },
    /// Shared by all processes.
    Redis {
        /// The connection.
        connection: ConnectionManager,
        /// Prefix of every key.
        prefix: String,
    },
}

/// Sets the entry unless a newer version stands there. The version is text that sorts by time.
static PUT: LazyLock<redis::Script> = LazyLock::new(|| {
    redis::Script::new(
        r"local version = redis.call('HGET', KEYS[1], 'version')
          if version and version > ARGV[1] then return 0 end
          redis.call('HSET', KEYS[1], 'version', ARGV[1], 'body', ARGV[2])
          redis.call('EXPIRE', KEYS[1], ARGV[3])
          return 1",
    )
});

/// Orders two forecasts of one ticker: the one from newer data, then the one stored later.
fn version(stored: &StoredForecast) -> String {
    format!("{}|{:020}", stored.forecast.as_of, stored.stored_at.timestamp_micros())
}

impl Cache {
    /// The in-process cache.
    pub fn memory() -> Self {
        let models = moka::sync::Cache::builder()
            .weigher(|_: &String, bytes: &Arc<Vec<u8>>| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .max_capacity(64 << 20)
            .time_to_live(MODEL_TTL)
            .build();
        let forecasts = moka::sync::Cache::builder().max_capacity(50_000).time_to_live(FORECAST_TTL).build();
        Cache::Memory { forecasts, models }
    }

    /// The cache in Redis. Must be made inside a tokio runtime.
    pub fn redis<'a>(server: impl Into<RedisServer<'a>>, prefix: &str) -> Result<Self, CacheError> {
        let (_, connection) = connection(server)?;
        Ok(Cache::Redis { connection, prefix: prefix.to_owned() })
    }

    /// The ticker's forecast, if it is here.
    pub async fn forecast(&self, ticker: &Ticker) -> Result<Option<StoredForecast>, CacheError> {
        match self {
            Cache::Memory { forecasts, .. } => Ok(forecasts.get(ticker).map(|f| (*f).clone())),
            Cache::Redis { connection, prefix } => {
                let body: Option<Vec<u8>> = redis::cmd("HGET")
                    .arg(format!("{prefix}:forecast:{ticker}"))
                    .arg("body")
                    .query_async(&mut connection.clone())
                    .await
                    .map_err(failed("read a forecast"))?;
                // What cannot be read was written by another version: as good as absent.
                Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
            }
        }
    }

    /// Puts the forecast there unless a newer one stands there already.
    pub async fn put_forecast(&self, stored: &StoredForecast) -> Result<(), CacheError> {
        match self {
            Cache::Memory { forecasts, .. } => {
                let fresh = Arc::new(stored.clone());
                forecasts.entry(stored.forecast.ticker.clone()).and_upsert_with(|old| match old {
                    Some(old) if version(old.value()) > version(&fresh) => old.into_value(),
                    _ => fresh,
                });
                Ok(())
            }
            Cache::Redis { connection, prefix } => {
                let body = serde_json::to_vec(stored)
                    .map_err(|e| CacheError::Redis { doing: "encode a forecast", why: e.to_string() })?;
                PUT.key(format!("{prefix}:forecast:{}", stored.forecast.ticker))
                    .arg(version(stored))
                    .arg(body)
                    .arg(FORECAST_TTL.as_secs())
                    .invoke_async::<i64>(&mut connection.clone())
                    .await
                    .map_err(failed("keep a forecast"))?;
                Ok(())
            }
        }
    }

    /// A model's weights, if they are here and are what their hash says.
    pub async fn model(&self, hash: &str) -> Result<Option<Vec<u8>>, CacheError> {
        let bytes = match self {
            Cache::Memory { models, .. } => models.get(hash).map(|bytes| (*bytes).clone()),
            Cache::Redis { connection, prefix } => redis::cmd("GET")
                .arg(format!("{prefix}:model:{hash}"))
                .query_async::<Option<Vec<u8>>>(&mut connection.clone())
                .await
                .map_err(failed("read a model"))?,
        };
        Ok(bytes.filter(|bytes| hex::encode(Sha256::digest(bytes)) == hash))
    }

    /// Keeps a model's weights under their hash.
    pub async fn put_model(&self, hash: &str, bytes: &[u8]) -> Result<(), CacheError> {
        match self {
            Cache::Memory { models, .. } => {
                models.insert(hash.to_owned(), Arc::new(bytes.to_vec()));
                Ok(())
            }
            Cache::Redis { connection, prefix } => redis::cmd("SET")
                .arg(format!("{prefix}:model:{hash}"))
                .arg(bytes)
                .arg("EX")
                .arg(MODEL_TTL.as_secs())
                .query_async(&mut connection.clone())
                .await
                .map_err(failed("keep a model")),
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), CacheError> {
        match self {
            Cache::Memory { .. } => Ok(()),
            Cache::Redis { connection, .. } => {
                let mut connection = connection.clone();
                let answer = tokio::time::timeout(
                    Duration::from_secs(2),
                    redis::cmd("PING").query_async::<String>(&mut connection),
                )
                .await;
                match answer {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(e)) => Err(failed("be reached")(e)),
                    Err(_) => Err(CacheError::Redis { doing: "be reached", why: "no answer within 2 s".to_owned() }),
                }
            }
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(redis::RedisError) -> CacheError {
    move |e| CacheError::Redis { doing, why: format!("{e}{}", Advice(Unreached::of_redis(&e))) }
}
