//! Writes pending runs straight into the ledger's tables, shaped as a schedule's tick writes them: a million through the engine's own door
//! would take longer than everything that is measured. Follows the tables of `migrations/`.

use anyhow::Context;
use sqlx::{Connection, PgConnection, SqliteConnection};

/// Runs a statement on SQLite, so that its log stays small.
const CHUNK: i64 = 20_000;

/// Tops the pending runs up to `wanted`; how many were written.
pub async fn fill(database: &str, wanted: i64) -> anyhow::Result<i64> {
    if database.starts_with("postgres") { postgres(database, wanted).await } else { sqlite(database, wanted).await }
}

const PG_SCHEDULE: &str = "insert into schedule (id, exchange, plan, local_time, catch_up, paused)
    values ('measured', 'NASDAQ', 'ticker', '18:15:00', 'skip', true) on conflict do nothing";

/// `$1`: how many; `$2`: from which number on. Ids are time-ordered, as UUIDv7 are. The 5,000 runs of a session start at one instant, as
/// by a tick; the sessions follow each other by a second. Each is of a ticker of its own, so that none waits for another.
const PG_RUNS: &str = "insert into run (id, plan, plan_version, subject, exchange, ticker, session, aimed_session, schedule_id, priority, offline, state, created_at)
    select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint + n / 100), 12, '0') || '7' || substr(md5(n::text), 1, 3)
            || '8' || substr(md5(n::text), 4, 15))::uuid,
           'ticker', 1, 'NASDAQ:P' || n, 'NASDAQ', 'P' || n, date '1900-01-01' + (n / 5000)::int, date '1900-01-01' + (n / 5000)::int,
           'measured', 0, true, 'queued', now() - interval '1 second' * (($2::bigint + $1::bigint - 1 - n) / 5000)
    from generate_series($2::bigint, $2::bigint + $1::bigint - 1) n";

const PG_STEPS: &str =
    "insert into step (run_id, step, seq, queue, state, generation, max_attempts, first_ready_at, due_at)
    select run.id, 'scrape', 0, 'scrape', 'ready', 1, 8, run.created_at, run.created_at
    from run where run.state = 'queued' and not exists (select from step where step.run_id = run.id)
    order by run.id";

const PG_ACTIVE: &str = "insert into active (plan, subject, run_id) select plan, subject, id from run where state = 'queued' on conflict do nothing";

async fn postgres(url: &str, wanted: i64) -> anyhow::Result<i64> {
    let mut c = PgConnection::connect(url).await.context("PostgreSQL does not answer")?;
    let there: i64 = sqlx::query_scalar("select count(*) from run where state = 'queued'").fetch_one(&mut c).await?;
    let from: i64 = sqlx::query_scalar("select count(*) from run").fetch_one(&mut c).await?;
    let missing = (wanted - there).max(0);
    if missing > 0 {
        let mut tx = c.begin().await?;
        sqlx::query(PG_SCHEDULE).execute(&mut *tx).await?;
        sqlx::query(PG_RUNS).bind(missing).bind(from).execute(&mut *tx).await?;
        sqlx::query(PG_STEPS).execute(&mut *tx).await?;
        sqlx::query(PG_ACTIVE).execute(&mut *tx).await?;
        tx.commit().await?;
        // What autovacuum and the checkpointer would do at a moment of their own choosing is done before the window.
        for after in ["vacuum (analyze) run", "vacuum (analyze) step", "vacuum (analyze) active", "checkpoint"] {
            sqlx::query(after).execute(&mut c).await?;
        }
    }
    c.close().await?;
    Ok(missing)
}

const LITE_SCHEDULE: &str = "insert into schedule (id, exchange, plan, local_time, catch_up, paused)
    values ('measured', 'NASDAQ', 'ticker', '18:15:00', 'skip', 1) on conflict do nothing";

/// `$1`: how many; `$2`: from which number on; `$3`: now in milliseconds; `$4`: the last number of all chunks.
const LITE_RUNS: &str = "insert into run (id, plan, plan_version, subject, exchange, ticker, session, aimed_session, schedule_id, priority, offline, state, created_at)
    with recursive numbers (n) as (select $2 union all select n + 1 from numbers where n < $2 + $1 - 1)
    select unhex(printf('%012x', $3 + n / 100) || '7' || printf('%03x', n % 4096) || '80' || hex(randomblob(7))), 'ticker', 1, 'NASDAQ:P' || n, 'NASDAQ', 'P' || n,
           date('1900-01-01', (n / 5000) || ' days'), date('1900-01-01', (n / 5000) || ' days'), 'measured', 0, 1, 'queued', ($3 - ($4 - n) / 5000 * 1000) * 1000
    from numbers";

const LITE_STEPS: &str =
    "insert into step (run_id, step, seq, queue, state, generation, max_attempts, first_ready_at, due_at)
    select run.id, 'scrape', 0, 'scrape', 'ready', 1, 8, run.created_at, run.created_at
    from run where run.state = 'queued' and not exists (select 1 from step where step.run_id = run.id)
    order by run.id";

const LITE_ACTIVE: &str = "insert into active (plan, subject, run_id) select plan, subject, id from run where state = 'queued' on conflict do nothing";

async fn sqlite(file: &str, wanted: i64) -> anyhow::Result<i64> {
    let mut c = SqliteConnection::connect(&format!("sqlite://{file}")).await.context("the file cannot be opened")?;
    let there: i64 = sqlx::query_scalar("select count(*) from run where state = 'queued'").fetch_one(&mut c).await?;
    let first: i64 = sqlx::query_scalar("select count(*) from run").fetch_one(&mut c).await?;
    let now_ms: i64 =
        sqlx::query_scalar("select cast(unixepoch('subsec') * 1000 as integer)").fetch_one(&mut c).await?;
    let missing = (wanted - there).max(0);
    let mut written = 0;
    while written < missing {
        let count = CHUNK.min(missing - written);
        let mut tx = c.begin().await?;
        sqlx::query(LITE_SCHEDULE).execute(&mut *tx).await?;
        let last = first + missing - 1;
        sqlx::query(LITE_RUNS).bind(count).bind(first + written).bind(now_ms).bind(last).execute(&mut *tx).await?;
        sqlx::query(LITE_STEPS).execute(&mut *tx).await?;
        sqlx::query(LITE_ACTIVE).execute(&mut *tx).await?;
        tx.commit().await?;
        written += count;
    }
    if missing > 0 {
        sqlx::query("analyze").execute(&mut c).await?;
        sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut c).await?;
    }
    c.close().await?;
    Ok(missing)
}
