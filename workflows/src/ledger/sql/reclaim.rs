//! Finding steps whose worker vanished: by their lease, or because their owner shows no sign of life. The reconciler then ends each as
//! `Outcome::Lost` through `complete`.

use crate::db::{Db, Doing, Pools, StoreResult, Ts, on_read};
use crate::ledger::words::{Abandoned, Claim, RunPart, SignsOfLife, StepPart, far_future};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use std::collections::HashMap;
use uuid::Uuid;

/// The abandoned steps, at most `limit`, as claims that can be completed as lost. Those of plans that this program does not know are left to
/// one that does.
pub(in crate::ledger) async fn abandoned(
    db: &Db,
    which: &Abandoned,
    now: DateTime<Utc>,
    limit: i64,
) -> StoreResult<Vec<Claim>> {
    let steps: Vec<StepPart> = on_read!(db, |c| {
        let mut query =
            QueryBuilder::new("select run_id, step, generation, attempt, max_attempts, losses, epoch, first_ready_at from step where state = 'running' and lease_until < ");
        match which {
            Abandoned::Lapsed => query.push_bind(Ts::from(now)),
            _ => query.push_bind(Ts::from(far_future())),
        };
        match which {
            Abandoned::Lapsed => {}
            Abandoned::NotOf(instance) => drop(query.push(" and lease_owner <> ").push_bind(*instance)),
            Abandoned::Of(owners) if owners.is_empty() => return Ok(Vec::new()),
            Abandoned::Of(owners) => {
                query.push(" and lease_owner in (");
                let mut list = query.separated(", ");
                for owner in owners {
                    list.push_bind(*owner);
                }
                query.push(")");
            }
        }
        // A value for each step that is found, and no join, which the planner would begin with all runs.
        query.push(" and (select run.plan || '/' || run.plan_version from run where run.id = step.run_id) in (");
        let mut known = query.separated(", ");
        for plan in db.plans() {
            known.push_bind(format!("{}/{}", plan.name, plan.version));
        }
        query.push(") order by lease_until limit ").push_bind(limit);
        query.build_query_as().fetch_all(c).await
    })
    .doing("look for abandoned steps")?;
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let runs: Vec<RunPart> = on_read!(db, |c| {
        let mut query = QueryBuilder::new(
            "select id, plan, plan_version, subject, session, offline, priority from run where id in (",
        );
        let mut ids = query.separated(", ");
        for step in &steps {
            ids.push_bind(step.run_id);
        }
        query.push(")");
        query.build_query_as().fetch_all(c).await
    })
    .doing("read the runs of abandoned steps")?;
    let runs: HashMap<Uuid, RunPart> =
        runs.into_iter().filter(|run| run.plan(db.plans()).is_some()).map(|run| (run.id, run)).collect();
    steps.into_iter().filter_map(|step| Some(step.clone().of(runs.get(&step.run_id)?, db.plans()))).collect()
}

/// Owners of running steps that hold no advisory lock, and since when the server runs. A worker process holds the lock of its instance on a
/// connection of its own: kill -9 closes that, and PostgreSQL lets the lock go at once.
pub(in crate::ledger) async fn signs_of_life(db: &Db) -> StoreResult<SignsOfLife> {
    let Pools::Pg(pool) = &db.pools else { return Ok(SignsOfLife::default()) };
    let (up_since,): (DateTime<Utc>,) =
        sqlx::query_as("select pg_postmaster_start_time()").fetch_one(pool).await.doing("say since when it runs")?;
    let owners: Vec<Uuid> =
        sqlx::query_scalar("select distinct lease_owner from step where state = 'running' and lease_owner is not null")
            .fetch_all(pool)
            .await
            .doing("list who holds steps")?;
    if owners.is_empty() {
        return Ok(SignsOfLife { silent: owners, up_since: Some(up_since) });
    }
    // A lock on one bigint shows as its two halves, with objsubid 1.
    let locked: Vec<i64> = sqlx::query_scalar(
        "select (classid::bigint << 32) | objid::bigint from pg_locks
         where locktype = 'advisory' and objsubid = 1 and granted and database = (select oid from pg_database where datname = current_database())",
    )
    .fetch_all(pool)
    .await
    .doing("list the signs of life")?;
    let silent = owners.into_iter().filter(|owner| !locked.contains(&life_lock(*owner))).collect();
    Ok(SignsOfLife { silent, up_since: Some(up_since) })
}

/// The advisory lock of a process instance: the first half of its random id.
pub(crate) fn life_lock(instance: Uuid) -> i64 {
    let (high, _) = instance.as_u64_pair();
    i64::from_be_bytes(high.to_be_bytes())
}
