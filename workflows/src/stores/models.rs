//! The model registry: every model that was ever made, with its lineage; weights of the champion, its parent and the last three.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::Ticker;
use sqlx::types::Json;
use uuid::Uuid;

/// A model of a ticker's own, to be registered. Being the newest, it is the one that is judged against the global model.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// SHA-256 of `weights`, hex.
    pub hash: String,
    /// Whose.
    pub ticker: Ticker,
    /// The model it continues.
    pub parent: Option<String>,
    /// Name and version of the recipe.
    pub recipe: String,
    /// Seed of its training.
    pub seed: u64,
    /// Newest session it was trained on.
    pub as_of: NaiveDate,
    /// Hash of the series it was trained on.
    pub input_hash: String,
    /// What training measured.
    pub metrics: serde_json::Value,
    /// The safetensors file.
    pub weights: Vec<u8>,
}

/// Registers the model and makes it the champion. Registering the same bytes twice is registering them once.
pub(crate) async fn put(tx: &mut Tx, model: &NewModel, run: Option<Uuid>, now: DateTime<Utc>) -> StoreResult<()> {
    let (exchange, symbol) = (model.ticker.exchange().as_str(), model.ticker.symbol());
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into model (hash, exchange, ticker, parent, recipe, seed, as_of, input_hash, metrics, weights, run_id, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             on conflict (hash) do update set weights = excluded.weights",
        )
        .bind(&model.hash)
        .bind(exchange)
        .bind(symbol)
        .bind(&model.parent)
        .bind(&model.recipe)
        .bind(model.seed.cast_signed())
        .bind(model.as_of)
        .bind(&model.input_hash)
        .bind(Json(&model.metrics))
        .bind(&model.weights)
        .bind(run)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("register a model")?;
    on_tx!(tx, |c| {
        sqlx::query("update ticker set champion = $3 where exchange = $1 and ticker = $2")
            .bind(exchange)
            .bind(symbol)
            .bind(&model.hash)
            .execute(c)
            .await
            .rows()
    })
    .doing("name the champion")?;
    // The champion and its parent are among the newest four, for each model continues the last.
    on_tx!(tx, |c| {
        sqlx::query(
            "update model set weights = null where exchange = $1 and ticker = $2 and weights is not null
                and hash <> $3 and hash <> $4
                and hash not in (select hash from model where exchange = $1 and ticker = $2 order by created_at desc, hash limit 4)",
        )
        .bind(exchange)
        .bind(symbol)
        .bind(&model.hash)
        .bind(model.parent.as_deref().unwrap_or_default())
        .execute(c)
        .await
        .rows()
    })
    .doing("drop the weights of old models")?;
    Ok(())
}

/// Hash of the model that serves the ticker.
pub async fn champion(db: &Db, ticker: &Ticker) -> StoreResult<Option<String>> {
    let found: Option<Option<String>> = on_read!(db, |c| {
        sqlx::query_scalar("select champion from ticker where exchange = $1 and ticker = $2")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .fetch_optional(c)
            .await
    })
    .doing("look up the champion")?;
    Ok(found.flatten())
}

/// The weights file of a model, or `None` when it is unknown or its weights were dropped.
pub async fn weights(db: &Db, hash: &str) -> StoreResult<Option<Vec<u8>>> {
    let found: Option<Option<Vec<u8>>> =
        on_read!(db, |c| sqlx::query_scalar("select weights from model where hash = $1")
            .bind(hash)
            .fetch_optional(c)
            .await)
        .doing("read a model's weights")?;
    Ok(found.flatten())
}
