//! The global models: one per exchange and pre-training, the newest serves. Rows stay, weights of the newest four are kept.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::Exchange;
use sqlx::types::Json;
use uuid::Uuid;

/// A global model to be registered; it serves from then on.
#[derive(Debug, Clone)]
pub struct NewGlobal {
    /// SHA-256 of `weights`, hex.
    pub hash: String,
    /// Whose tickers it was trained on.
    pub exchange: Exchange,
    /// Name and version of the recipe.
    pub recipe: String,
    /// Seed of its training.
    pub seed: u64,
    /// Newest session that existed when it was trained.
    pub as_of: NaiveDate,
    /// Newest session that it has learnt from.
    pub cutoff: NaiveDate,
    /// What training measured.
    pub metrics: serde_json::Value,
    /// The safetensors file.
    pub weights: Vec<u8>,
}

/// The global model that serves, without its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalRow {
    /// SHA-256 of its weights file, hex.
    pub hash: String,
    /// Name and version of the recipe.
    pub recipe: String,
    /// Newest session that existed when it was trained.
    pub as_of: NaiveDate,
    /// Newest session that it has learnt from.
    pub cutoff: NaiveDate,
}

/// The condition that comes true when an exchange has its first global model.
pub fn condition(exchange: Exchange) -> String {
    format!("global:{exchange}")
}

/// Registers the model; the same bytes twice are registered once, and serve again. Steps that wait for a first model go on.
pub(crate) async fn put(tx: &mut Tx, model: &NewGlobal, run: Option<Uuid>, now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into global_model (hash, exchange, recipe, seed, as_of, cutoff, metrics, weights, run_id, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             on conflict (hash) do update set weights = excluded.weights, created_at = excluded.created_at",
        )
        .bind(&model.hash)
        .bind(model.exchange.as_str())
        .bind(&model.recipe)
        .bind(model.seed.cast_signed())
        .bind(model.as_of)
        .bind(model.cutoff)
        .bind(Json(&model.metrics))
        .bind(&model.weights)
        .bind(run)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("register a global model")?;
    on_tx!(tx, |c| {
        sqlx::query(
            "update global_model set weights = null where exchange = $1 and weights is not null
                and hash not in (select hash from global_model where exchange = $1 order by created_at desc, hash limit 4)",
        )
        .bind(model.exchange.as_str())
        .execute(c)
        .await
        .rows()
    })
    .doing("drop the weights of old global models")?;
    on_tx!(tx, |c| {
        sqlx::query("insert into condition (key, value, met_at) values ($1, $2, $3) on conflict (key) do nothing")
            .bind(condition(model.exchange))
            .bind(&model.hash)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("say that there is a global model")?;
    Ok(())
}

/// The global model that serves an exchange.
pub async fn newest(db: &Db, exchange: Exchange) -> StoreResult<Option<GlobalRow>> {
    let found: Option<(String, String, NaiveDate, NaiveDate)> = on_read!(db, |c| {
        sqlx::query_as("select hash, recipe, as_of, cutoff from global_model where exchange = $1 order by created_at desc, hash limit 1")
            .bind(exchange.as_str())
            .fetch_optional(c)
            .await
    })
    .doing("look up the global model")?;
    Ok(found.map(|(hash, recipe, as_of, cutoff)| GlobalRow { hash, recipe, as_of, cutoff }))
}

/// The weights file of a global model, or `None` when it is unknown or its weights were dropped.
pub async fn weights(db: &Db, hash: &str) -> StoreResult<Option<Vec<u8>>> {
    let found: Option<Option<Vec<u8>>> = on_read!(db, |c| {
        sqlx::query_scalar("select weights from global_model where hash = $1").bind(hash).fetch_optional(c).await
    })
    .doing("read a global model's weights")?;
    Ok(found.flatten())
}

/// When the open pre-training of the exchange was asked for, queued or running; `None` when there is none.
pub async fn in_the_making_since(db: &Db, exchange: Exchange) -> StoreResult<Option<DateTime<Utc>>> {
    let since: Option<Ts> = on_read!(db, |c| {
        sqlx::query_scalar(
            "select run.created_at from active join run on run.id = active.run_id where active.plan = 'pretrain' and active.subject = $1",
        )
        .bind(exchange.as_str())
        .fetch_optional(c)
        .await
    })
    .doing("look for a pre-training")?;
    Ok(since.map(|since| since.0))
}
