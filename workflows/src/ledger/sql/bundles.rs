//! Table `bundle`: what was put away, under which name. A bundle is announced before its folder is made, is `made` by the very transaction that
//! drops its runs here, and is abandoned when that never came.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A bundle whose runs are here no more.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table bundle, described there")]
pub struct BundleRow {
    pub name: String,
    pub month: Option<String>,
    pub runs: i64,
    pub bytes: i64,
    pub manifest_sha256: String,
    pub oldest: Ts,
    pub newest: Ts,
    pub first_run: Uuid,
    pub last_run: Uuid,
    pub created_at: Ts,
}

const COLUMNS: &str = "name, month, runs, bytes, manifest_sha256, oldest, newest, first_run, last_run, created_at";

/// Says that a folder of this name is about to be made.
pub(crate) async fn announce(db: &Db, name: &str, month: Option<&str>, now: DateTime<Utc>) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query("insert into bundle (name, state, month, created_at) values ($1, 'making', $2, $3)")
            .bind(name)
            .bind(month)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("announce a bundle")?;
    Ok(())
}

/// The bundle is whole and takes the place of its runs, in the transaction that drops them; false when somebody abandoned it meanwhile.
pub(super) async fn keep(tx: &mut Tx, made: &BundleRow) -> StoreResult<bool> {
    let rows = on_tx!(&mut *tx, |c| {
        sqlx::query(
            "update bundle set state = 'made', runs = $2, bytes = $3, manifest_sha256 = $4, oldest = $5, newest = $6, first_run = $7, last_run = $8
             where name = $1 and state = 'making'",
        )
        .bind(&made.name)
        .bind(made.runs)
        .bind(made.bytes)
        .bind(&made.manifest_sha256)
        .bind(made.oldest)
        .bind(made.newest)
        .bind(made.first_run)
        .bind(made.last_run)
        .execute(c)
        .await
        .rows()
    })
    .doing("note a bundle")?;
    Ok(rows == 1)
}

/// The bundles that somebody began and did not finish; from now on nobody can. Waits for a transaction that is finishing one just now.
pub(crate) async fn abandon(db: &Db) -> StoreResult<Vec<String>> {
    let open: bool = on_read!(db, |c| sqlx::query_scalar("select exists (select 1 from bundle where state <> 'made')")
        .fetch_one(c)
        .await)
    .doing("look for abandoned bundles")?;
    if !open {
        return Ok(Vec::new());
    }
    on_write!(db, |c| sqlx::query_scalar("update bundle set state = 'abandoned' where state <> 'made' returning name")
        .fetch_all(c)
        .await)
    .doing("abandon bundles")
}

/// The folder of an abandoned bundle is gone.
pub(crate) async fn forget(db: &Db, name: &str) -> StoreResult<()> {
    on_write!(db, |c| sqlx::query("delete from bundle where name = $1 and state = 'abandoned'")
        .bind(name)
        .execute(c)
        .await
        .rows())
    .doing("forget an abandoned bundle")?;
    Ok(())
}

/// The bundles, newest first, at most `limit`; those before `before` where it is given.
pub(in crate::ledger) async fn bundles(
    db: &Db,
    before: Option<(DateTime<Utc>, &str)>,
    limit: i64,
) -> StoreResult<Vec<BundleRow>> {
    on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new("select ");
        query.push(COLUMNS).push(" from bundle where state = 'made'");
        if let Some((at, name)) = before {
            query.push(" and (created_at, name) < (").push_bind(Ts::from(at)).push(", ").push_bind(name).push(")");
        }
        query.push(" order by created_at desc, name desc limit ").push_bind(limit);
        query.build_query_as().fetch_all(c).await
    })
    .doing("list bundles")
}

/// One bundle.
pub(in crate::ledger) async fn bundle(db: &Db, name: &str) -> StoreResult<Option<BundleRow>> {
    on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new("select ");
        query.push(COLUMNS).push(" from bundle where state = 'made' and name = ").push_bind(name);
        query.build_query_as().fetch_optional(c).await
    })
    .doing("read a bundle")
}

/// The bundles in which a run may be, by the range of their ids, at most five; the narrowest first, for it is the likeliest.
pub(in crate::ledger) async fn bundles_around(db: &Db, run: Uuid) -> StoreResult<Vec<String>> {
    on_read!(db, |c| {
        sqlx::query_scalar(
            "select name from bundle where state = 'made' and last_run >= $1 and first_run <= $1 order by last_run, first_run desc limit 5",
        )
        .bind(run)
        .fetch_all(c)
        .await
    })
    .doing("look for the bundle of a run")
}
