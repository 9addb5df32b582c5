//! Statistics of the big tables on PostgreSQL. A statement is planned once per connection: a plan made while its table was small reads it from end to
//! end, and stays until the table is analysed. PostgreSQL looks once a minute; a fan-out fills a fresh ledger in seconds.

use super::partitions::TABLES;
use crate::db::{Db, Doing, Pools, StoreResult};

/// Analyses those of the big tables that have more than doubled since they were analysed last; how many.
pub(in crate::ledger) async fn analyse_grown(db: &Db) -> StoreResult<usize> {
    let Pools::Pg(pool) = &db.pools else { return Ok(0) };
    let grown: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c
         where (c.oid in (select inhrelid from pg_inherits where inhparent = any($1::text[]::regclass[])) or c.oid = 'active'::regclass)
               and pg_relation_size(c.oid) > (2 * greatest(c.relpages, 0) + 50) * current_setting('block_size')::bigint",
    )
    .bind(TABLES.map(str::to_owned).to_vec())
    .fetch_all(pool)
    .await
    .doing("look for tables that have grown")?;
    for table in &grown {
        sqlx::query(sqlx::AssertSqlSafe(format!("analyze {table}"))).execute(pool).await.doing("analyse a table")?;
    }
    Ok(grown.len())
}
