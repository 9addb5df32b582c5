//! How a whole month goes on PostgreSQL: its four partitions are detached and dropped in one transaction, and what must stay of it moves to the
//! default partition. All four tables are locked meanwhile, so this is short, and gives up soon when it does not get the locks.

use super::bundles;
use super::history::{Due, push_due};
use super::lines::{AttemptLine, EffectLine, Line, RunLine, StepLine};
use super::partitions::{TABLES, first_id};
use crate::db::{Db, Doing, Pools, Rows, StoreError, StoreResult, Tx};
use crate::ledger::BundleRow;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};
use sqlx::{AssertSqlSafe, PgPool, QueryBuilder};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// How long one lock is waited for. While it is, everybody else waits too; and it is less than the server's `deadlock_timeout` (1 s), so that
/// of two who wait for each other it is we who give up.
const LOCK_PATIENCE: &str = "set local lock_timeout = '300ms'";

/// A partition set by its month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Month(NaiveDate);

impl Month {
    fn of(suffix: &str) -> Option<Self> {
        let (year, month) = suffix.split_once('_')?;
        NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1).map(Month)
    }

    /// The name of its partition of a table.
    pub(crate) fn partition(self, table: &str) -> String {
        format!("{table}_{:04}_{:02}", self.0.year(), self.0.month())
    }

    /// The first instant after it.
    pub(crate) fn end(self) -> DateTime<Utc> {
        (self.0 + Months::new(1)).and_time(NaiveTime::MIN).and_utc()
    }

    /// The greatest id before it.
    pub(crate) fn before(self) -> Uuid {
        Uuid::from_u128(first_id(self.0).as_u128().saturating_sub(1))
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

/// Where the runs are: whole months, and other partitions of table run.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    /// Those that have a partition of every table, oldest first.
    pub(crate) months: Vec<Month>,
    /// The default partition, and months that are not whole because the default partition held rows of them already.
    pub(crate) others: Vec<String>,
}

/// What the catalogue says; on SQLite the one table.
pub(crate) async fn partitions(db: &Db) -> StoreResult<Partitions> {
    let Pools::Pg(pool) = &db.pools else {
        return Ok(Partitions { months: Vec::new(), others: vec!["run".to_owned()] });
    };
    let names: Vec<String> = sqlx::query_scalar(
        "select child.relname::text from pg_inherits join pg_class child on child.oid = inhrelid
         where inhparent in ('run'::regclass, 'step'::regclass, 'attempt'::regclass, 'effect'::regclass)",
    )
    .fetch_all(pool)
    .await
    .doing("list partitions")?;
    let mut sets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in &names {
        if let Some((table, suffix)) = name.split_once('_') {
            sets.entry(suffix).or_default().insert(table);
        }
    }
    let mut found = Partitions::default();
    for (suffix, tables) in sets {
        match Month::of(suffix).filter(|_| TABLES.iter().all(|table| tables.contains(table))) {
            Some(month) => found.months.push(month),
            None if tables.contains("run") => found.others.push(format!("run_{suffix}")),
            None => {}
        }
    }
    found.months.sort();
    Ok(found)
}

/// Which runs of a month go and which stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    /// How many are due.
    pub(crate) due: i64,
    /// The others, in order.
    pub(crate) staying: Vec<Uuid>,
}

/// Looks without a lock.
pub(crate) async fn split(db: &Db, month: Month, due: &Due) -> StoreResult<Split> {
    let Pools::Pg(pool) = &db.pools else { return Ok(Split { due: 0, staying: Vec::new() }) };
    let mut connection = pool.acquire().await.doing("look at a month")?;
    split_on(&mut connection, month, due).await
}

async fn split_on(connection: &mut sqlx::PgConnection, month: Month, due: &Due) -> StoreResult<Split> {
    let mut query = QueryBuilder::new(
        "select count(*) filter (where going), array_agg(id order by id) filter (where going is not true) from (select run.id, ",
    );
    push_due!(query, due);
    query.push(format!(" as going from {} as run) judged", month.partition("run")));
    let (due, staying): (i64, Option<Vec<Uuid>>) =
        query.build_query_as().fetch_one(connection).await.doing("see which runs of a month go")?;
    Ok(Split { due, staying: staying.unwrap_or_default() })
}

/// How many rows of a month belong to no run of it. There are none, unless somebody wrote by hand; they would be lost.
pub(crate) async fn orphans(db: &Db, month: Month) -> StoreResult<i64> {
    let Pools::Pg(pool) = &db.pools else { return Ok(0) };
    let mut found = 0;
    for table in &TABLES[1..] {
        let text = format!(
            "select count(*) from {} as child where not exists (select 1 from {} as run where run.id = child.run_id)",
            month.partition(table),
            month.partition("run")
        );
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(pool).await.doing("look for rows without a run")?;
        found += rows;
    }
    Ok(found)
}

/// What came of letting runs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// They are gone.
    Yes,
    /// Other runs are due than were put away, or the bundle was abandoned: nothing was changed.
    Changed,
    /// The tables are in use; nothing was changed.
    Busy,
}

/// Lets a month go, in one transaction: checks again what stays, moves that to the default partition, drops the rest, and notes the bundle
/// (none where no run was due).
pub(crate) async fn drop_month(
    db: &Db,
    made: Option<&BundleRow>,
    month: Month,
    expected: &Split,
    due: &Due,
) -> StoreResult<Dropped> {
    let Pools::Pg(pool) = &db.pools else { return Ok(Dropped::Changed) };
    if made.map_or(0, |made| made.runs) != expected.due {
        return Ok(Dropped::Changed);
    }
    match try_drop(pool, made, month, expected, due).await {
        // 55P03: the lock was not to be had. 40P01: nor would it have been.
        Err(StoreError::Database { source: sqlx::Error::Database(error), .. })
            if matches!(error.code().as_deref(), Some("55P03" | "40P01")) =>
        {
            tracing::debug!(%month, %error, "the locks to drop a month were not to be had");
            Ok(Dropped::Busy)
        }
        other => other,
    }
}

async fn try_drop(
    pool: &PgPool,
    made: Option<&BundleRow>,
    month: Month,
    expected: &Split,
    due: &Due,
) -> StoreResult<Dropped> {
    let mut tx = Tx::Pg(pool.begin().await.doing("begin a transaction")?);
    // Before the locks: who abandons bundles may be waited for.
    if let Some(made) = made
        && !bundles::keep(&mut tx, made).await?
    {
        tx.rollback().await?;
        return Ok(Dropped::Changed);
    }
    run(&mut tx, LOCK_PATIENCE.to_owned(), "limit the wait for locks").await?;
    // In the order in which claims and completions take them. Only the parents, through which everybody else goes: a vacuum of another month is
    // no reason to wait.
    let parents = TABLES.map(|table| format!("only {table}")).join(", ");
    run(&mut tx, format!("lock table {parents} in access exclusive mode"), "lock a month").await?;
    let Tx::Pg(pg) = &mut tx else { return Ok(Dropped::Changed) };
    let found = split_on(pg, month, due).await?;
    if found != *expected {
        tx.rollback().await?;
        return Ok(Dropped::Changed);
    }
    let (runs, staying) = (month.partition("run"), &expected.staying);
    let keys = format!(
        "delete from start_key using {runs} as run where start_key.key = run.idempotency_key and start_key.run_id = run.id and run.id <> all($1)"
    );
    let staged = format!("delete from staging using {runs} as run where staging.run_id = run.id and run.id <> all($1)");
    about(&mut tx, keys, staying, "drop the keys of a month").await?;
    about(&mut tx, staged, staying, "drop what a month staged").await?;
    for table in TABLES {
        let detach = format!("alter table {table} detach partition {}", month.partition(table));
        run(&mut tx, detach, "detach a month").await?;
    }
    let moves = [
        (RunLine::COLUMNS, "id"),
        (StepLine::COLUMNS, "run_id"),
        (AttemptLine::COLUMNS, "run_id"),
        (EffectLine::COLUMNS, "run_id"),
    ];
    for (table, (columns, key)) in TABLES.into_iter().zip(moves) {
        let columns = columns.join(", ");
        let from = month.partition(table);
        let text = format!("insert into {table} ({columns}) select {columns} from {from} where {key} = any($1)");
        about(&mut tx, text, staying, "move what stays of a month").await?;
    }
    let all = TABLES.map(|table| month.partition(table)).join(", ");
    run(&mut tx, format!("drop table {all}"), "drop a month").await?;
    tx.commit().await?;
    Ok(Dropped::Yes)
}

async fn run(tx: &mut Tx, text: String, doing: &'static str) -> StoreResult<()> {
    let Tx::Pg(pg) = tx else { return Ok(()) };
    // Names are made of numbers of ours.
    sqlx::query(AssertSqlSafe(text)).persistent(false).execute(&mut **pg).await.rows().doing(doing)?;
    Ok(())
}

async fn about(tx: &mut Tx, text: String, runs: &[Uuid], doing: &'static str) -> StoreResult<()> {
    let Tx::Pg(pg) = tx else { return Ok(()) };
    sqlx::query(AssertSqlSafe(text)).persistent(false).bind(runs).execute(&mut **pg).await.rows().doing(doing)?;
    Ok(())
}
