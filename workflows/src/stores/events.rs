//! What changed, in the order in which it was committed. The database writes it while somebody listens (`migrations/…/0013`); in comes a position in that
//! order, out comes what follows it.

use crate::db::{Db, Doing, Pools, Rows, StoreResult, Ts, on_write};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// A place in the order: transaction, then order within it. Nothing is ever committed before a place that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The transaction; 0 with the embedded store.
    pub tx: i64,
    /// Order within it.
    pub id: i64,
}

/// A change.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table event, described there")]
pub struct EventRow {
    pub tx: i64,
    pub id: i64,
    pub at: Ts,
    pub kind: String,
    pub run_id: Option<Uuid>,
    pub exchange: Option<String>,
    pub ticker: Option<String>,
    pub subject: Option<String>,
    pub state: Option<String>,
    pub plan: Option<String>,
}

impl EventRow {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { tx: self.tx, id: self.id }
    }
}

/// Changes are written for so long after somebody was listening, so that who comes back misses nothing.
pub const REMEMBERED: TimeDelta = TimeDelta::minutes(10);
/// What was written is kept so long.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// Somebody listens: changes are written from now on. Lets go of old ones. By the database's own clock, which the triggers read. The answer is since when
/// changes have been written without a pause and are kept.
pub async fn listen(db: &Db) -> StoreResult<DateTime<Utc>> {
    const PG: &str = "update listening set until = clock_timestamp() + make_interval(secs => $1),
            since = case when until < clock_timestamp() then clock_timestamp() else greatest(since, clock_timestamp() - make_interval(secs => $2)) end
         returning since";
    const LITE: &str = "update listening set until = cast((unixepoch('subsec') + $1) * 1000000 as integer),
            since = case when until < unixepoch('subsec') * 1000000 then cast(unixepoch('subsec') * 1000000 as integer)
                         else max(since, cast((unixepoch('subsec') - $2) * 1000000 as integer)) end
         returning since";
    let (until, kept) = (REMEMBERED.num_seconds() as f64, KEPT.num_seconds() as f64);
    let since: Ts = match &db.pools {
        Pools::Pg(pool) => sqlx::query_scalar(PG).bind(until).bind(kept).fetch_one(pool).await,
        Pools::Lite { write, .. } => sqlx::query_scalar(LITE).bind(until).bind(kept).fetch_one(write).await,
    }
    .doing("begin to listen")?;
    on_write!(db, |c| sqlx::query("delete from event where at < $1").bind(since).execute(c).await.rows())
        .doing("forget old events")?;
    Ok(since.0)
}

// Transactions below the oldest open one are all committed or gone: what is read up to there stays as it was read.
const PG: &str =
    "select e.tx::text::bigint as tx, e.id, e.at, e.kind, e.run_id, coalesce(e.exchange, r.exchange) as exchange,
        coalesce(e.ticker, r.ticker) as ticker, e.subject, e.state, r.plan
     from event e left join run r on r.id = e.run_id
     where (e.tx, e.id) > ($1::text::xid8, $2) and e.tx < pg_snapshot_xmin(pg_current_snapshot())
     order by e.tx, e.id limit $3";
const LITE: &str = "select e.tx, e.id, e.at, e.kind, e.run_id, coalesce(e.exchange, r.exchange) as exchange,
        coalesce(e.ticker, r.ticker) as ticker, e.subject, e.state, r.plan
     from event e left join run r on r.id = e.run_id
     where e.id > $2 order by e.id limit $3";

/// What follows `after`, at most `limit`.
pub async fn after(db: &Db, after: Place, limit: i64) -> StoreResult<Vec<EventRow>> {
    match &db.pools {
        Pools::Pg(pool) => {
            sqlx::query_as(PG).bind(after.tx.to_string()).bind(after.id).bind(limit).fetch_all(pool).await
        }
        Pools::Lite { read, .. } => {
            sqlx::query_as(LITE).bind(after.tx).bind(after.id).bind(limit).fetch_all(read).await
        }
    }
    .doing("read what changed")
}

/// The newest place: what is committed from now on comes after it.
pub async fn newest(db: &Db) -> StoreResult<Place> {
    let (tx, id): (i64, i64) = match &db.pools {
        // Just below the oldest open transaction.
        Pools::Pg(pool) => {
            sqlx::query_as("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1, 9223372036854775807")
                .fetch_one(pool)
                .await
        }
        Pools::Lite { read, .. } => {
            sqlx::query_as("select 0, coalesce((select seq from sqlite_sequence where name = 'event'), 0)")
                .fetch_one(read)
                .await
        }
    }
    .doing("find the newest event")?;
    Ok(Place { tx, id })
}
