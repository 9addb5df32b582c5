//! Staging: a run's scraped batch between scrape and archive, as gzipped JSON under the run's id.
//! A worker pod must not rely on another pod's disk, so the batch waits in the database.

use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, Utc};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use market::Batch;
use std::io::{Read, Write};
use uuid::Uuid;

/// Stages the batch; a second scrape of the same run replaces it.
pub(crate) async fn put(tx: &mut Tx, run: Uuid, batch: &Batch, now: DateTime<Utc>) -> StoreResult<()> {
    let packed = pack(batch)?;
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into staging (run_id, exchange, ticker, staged_at, batch) values ($1, $2, $3, $4, $5)
             on conflict (run_id) do update set staged_at = excluded.staged_at, batch = excluded.batch",
        )
        .bind(run)
        .bind(batch.ticker.exchange().as_str())
        .bind(batch.ticker.symbol())
        .bind(Ts::from(now))
        .bind(packed)
        .execute(c)
        .await
        .rows()
    })
    .doing("stage a batch")?;
    Ok(())
}

/// The batch staged under the run, if any.
pub async fn get(db: &Db, run: Uuid) -> StoreResult<Option<Batch>> {
    let packed: Option<Vec<u8>> = on_read!(db, |c| sqlx::query_scalar("select batch from staging where run_id = $1")
        .bind(run)
        .fetch_optional(c)
        .await)
    .doing("read a staged batch")?;
    packed.as_deref().map(unpack).transpose()
}

pub(crate) async fn get_in(tx: &mut Tx, run: Uuid) -> StoreResult<Option<Batch>> {
    let packed: Option<Vec<u8>> = on_tx!(tx, |c| sqlx::query_scalar("select batch from staging where run_id = $1")
        .bind(run)
        .fetch_optional(c)
        .await)
    .doing("read a staged batch")?;
    packed.as_deref().map(unpack).transpose()
}

/// How many batches are staged: 0 when no run is open.
pub async fn count(db: &Db) -> StoreResult<i64> {
    on_read!(db, |c| sqlx::query_scalar("select count(*) from staging").fetch_one(c).await).doing("count the staging")
}

pub(super) fn pack(batch: &Batch) -> StoreResult<Vec<u8>> {
    let broken = |why: String| StoreError::Unreadable { what: "batch to be staged", why };
    let json = serde_json::to_vec(batch).map_err(|e| broken(e.to_string()))?;
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&json).and_then(|()| packer.finish()).map_err(|e| broken(e.to_string()))
}

pub(super) fn unpack(packed: &[u8]) -> StoreResult<Batch> {
    let broken = |why: String| StoreError::Unreadable { what: "staged batch", why };
    let mut json = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut json).map_err(|e| broken(e.to_string()))?;
    serde_json::from_slice(&json).map_err(|e| broken(e.to_string()))
}
