//! Monthly partitions of the big tables on PostgreSQL. The key is the run's id: a UUIDv7 begins with its milliseconds, so a month is a range
//! of ids. SQLite has none: there old rows are deleted.

use crate::db::{Db, Doing, Pools, StoreResult};
use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use uuid::Uuid;

/// The partitioned tables.
pub(crate) const TABLES: [&str; 4] = ["run", "step", "attempt", "effect"];
/// How many months ahead are made.
const AHEAD: u32 = 2;

/// The first id of the month that `day` is in.
pub(crate) fn first_id(day: NaiveDate) -> Uuid {
    let month = day.with_day(1).unwrap_or(day).and_time(chrono::NaiveTime::MIN).and_utc();
    let millis = u128::try_from(month.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

/// Makes the partitions of this month and the next ones, where they are missing; how many were made. A month for which the default
/// partition has rows already keeps them there, and one that was put away as a whole is not made again, whatever the clock says.
pub(in crate::ledger) async fn ensure_partitions(db: &Db, now: DateTime<Utc>) -> StoreResult<usize> {
    let Pools::Pg(pool) = &db.pools else { return Ok(0) };
    let gone: Vec<String> = sqlx::query_scalar(
        "select month from bundle where month is not null and state = 'made' order by month desc limit 100",
    )
    .fetch_all(pool)
    .await
    .doing("list the months that went")?;
    let mut made = 0;
    for ahead in 0..=AHEAD {
        let month = now.date_naive().with_day(1).unwrap_or_default() + Months::new(ahead);
        let next = month + Months::new(1);
        if gone.contains(&month.format("%Y-%m").to_string()) {
            continue;
        }
        for table in TABLES {
            let name = format!("{table}_{}", month.format("%Y_%m"));
            let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
                .bind(&name)
                .fetch_one(pool)
                .await
                .doing("look for a partition")?;
            if there {
                continue;
            }
            // Names and bounds are made of numbers of ours.
            let text = format!(
                "create table if not exists {name} partition of {table} for values from ('{}') to ('{}')",
                first_id(month),
                first_id(next)
            );
            match sqlx::query(sqlx::AssertSqlSafe(text)).execute(pool).await {
                Ok(_) => made += 1,
                // 23514: the default partition holds rows of this month. 42P07: another process made it meanwhile.
                Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("23514" | "42P07" | "42P17")) => {
                    tracing::debug!(partition = name, error = %e, "a partition was not made");
                }
                Err(error) => return Err(error).doing("make a partition"),
            }
        }
    }
    Ok(made)
}
