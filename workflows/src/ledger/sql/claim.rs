//! Taking steps: one statement decides who holds them. In come messages, out goes a claim for each, or nothing for a message that is a
//! duplicate, stale, cancelled, paused or of a plan that this program does not know. Also the renewal of leases.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use crate::ledger::words::{Claim, Key, RunPart, StepPart, far_future};
use crate::message::Message;
use crate::plan::Step;
use crate::rows::{PushRows, row};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::QueryBuilder;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// How long a step waits that was offered to a program that does not know its plan.
pub(in crate::ledger) const PUT_OFF: TimeDelta = TimeDelta::seconds(10);

/// Claims what the messages name for `owner` until `lease_until`. Other writers of a step: complete, cancel, the reconciler.
pub(in crate::ledger) async fn claim(
    db: &Db,
    messages: &[Message],
    owner: Uuid,
    worker: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> StoreResult<Vec<Option<Claim>>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin().await?;
    let runs = read_runs(&mut tx, messages).await?;
    let pauses = pauses(&mut tx).await?;
    let mut wanted = BTreeSet::new();
    let (mut parked, mut foreign) = (Vec::new(), Vec::new());
    for message in messages {
        let Some(run) = runs.get(&message.run) else { continue };
        // A plan that we do not know stays for a program that does.
        if run.plan(db.plans()).is_none() {
            foreign.push(message);
            continue;
        }
        match pauses.iter().find(|pause| pause.holds(message.step, &run.subject)) {
            Some(pause) => parked.push((message, pause.key())),
            None => drop(wanted.insert((message.run, message.step, message.generation))),
        }
    }
    // All in one order, also those that are set aside: a reclaim or a renewal that wants some of them waits, and nobody waits for each other.
    let touched = wanted.iter().map(|(run, step, _)| (*run, *step));
    let aside = parked.iter().map(|(message, _)| *message).chain(foreign.iter().copied());
    super::lock_steps(&mut tx, touched.chain(aside.map(|message| (message.run, message.step)))).await?;
    park(&mut tx, &parked).await?;
    put_off(&mut tx, &foreign, now + PUT_OFF).await?;
    let held = take(&mut tx, &wanted, owner, lease_until).await?;
    if held.is_empty() && parked.is_empty() && foreign.is_empty() {
        tx.rollback().await?;
        return Ok(messages.iter().map(|_| None).collect());
    }
    let mut claims = HashMap::with_capacity(held.len());
    for part in held {
        let Some(run) = runs.get(&part.run_id) else { continue };
        let generation = part.generation;
        let claim = part.of(run, db.plans())?;
        claims.insert((claim.run, claim.step, generation), claim);
    }
    begin_runs(&mut tx, claims.values(), now).await?;
    record_attempts(&mut tx, claims.values(), worker, now).await?;
    tx.commit().await?;
    Ok(messages.iter().map(|message| claims.remove(&(message.run, message.step, message.generation))).collect())
}

async fn read_runs(tx: &mut Tx, messages: &[Message]) -> StoreResult<HashMap<Uuid, RunPart>> {
    let rows: Vec<RunPart> = on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(
            "select id, plan, plan_version, subject, session, offline, priority from run where id in (",
        );
        query.push_rows(messages.iter().map(|message| row![message.run]).collect());
        query.push(")");
        query.build_query_as().fetch_all(c).await
    })
    .doing("read the runs of steps to be claimed")?;
    Ok(rows.into_iter().map(|run| (run.id, run)).collect())
}

/// Something that is paused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub(in crate::ledger) struct PausePart {
    pub kind: String,
    pub value: String,
}

impl PausePart {
    /// Whether it holds up this step of a run about `subject`. A paused source does not: the step asks another one, or waits by itself.
    pub(in crate::ledger) fn holds(&self, step: Step, subject: &str) -> bool {
        match self.kind.as_str() {
            "step" => self.value == step.as_str(),
            "exchange" => {
                subject == self.value || subject.strip_prefix(&self.value).is_some_and(|rest| rest.starts_with(':'))
            }
            "ticker" => self.value == subject,
            _ => false,
        }
    }

    /// What the steps that it holds up wait for.
    pub(in crate::ledger) fn key(&self) -> String {
        format!("pause:{}:{}", self.kind, self.value)
    }
}

async fn pauses(tx: &mut Tx) -> StoreResult<Vec<PausePart>> {
    on_tx!(tx, |c| sqlx::query_as("select kind, value from pause").fetch_all(c).await).doing("read what is paused")
}

/// What is paused does not stay in the queue, where it would take the place of others: it waits for the resume.
async fn park(tx: &mut Tx, parked: &[(&Message, String)]) -> StoreResult<()> {
    for (message, key) in parked {
        on_tx!(tx, |c| {
            sqlx::query(
                "update step set state = 'waiting', wait_for = $4, due_at = $5, sent_at = null
                 where run_id = $1 and step = $2 and generation = $3 and state = 'ready'",
            )
            .bind(message.run)
            .bind(message.step.as_str())
            .bind(message.generation)
            .bind(key)
            .bind(Ts::from(far_future()))
            .execute(c)
            .await
            .rows()
        })
        .doing("set aside a paused step")?;
    }
    Ok(())
}

/// What only another program knows goes to the end of the line, or what we know would never come to its turn behind it.
async fn put_off(tx: &mut Tx, foreign: &[&Message], until: DateTime<Utc>) -> StoreResult<()> {
    for message in foreign {
        on_tx!(tx, |c| {
            sqlx::query(
                "update step set due_at = $4, sent_at = null where run_id = $1 and step = $2 and generation = $3 and state = 'ready'",
            )
            .bind(message.run)
            .bind(message.step.as_str())
            .bind(message.generation)
            .bind(Ts::from(until))
            .execute(c)
            .await
            .rows()
        })
        .doing("put off a step of a plan that this program does not know")?;
    }
    Ok(())
}

async fn take(
    tx: &mut Tx,
    wanted: &BTreeSet<(Uuid, Step, i64)>,
    owner: Uuid,
    lease_until: DateTime<Utc>,
) -> StoreResult<Vec<StepPart>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("with wanted (w_run, w_step, w_generation) as (");
        query.push_rows(wanted.iter().map(|(run, step, generation)| row![*run, step.as_str(), *generation]).collect());
        query.push(") update step set state = 'running', attempt = attempt + 1, epoch = epoch + 1, sent_at = null, lease_owner = ");
        query.push_bind(owner).push(", lease_until = ").push_bind(Ts::from(lease_until));
        query.push(
            " from wanted where run_id = w_run and step = w_step and generation = w_generation and state = 'ready'
              returning run_id, step, generation, attempt, max_attempts, losses, epoch, first_ready_at",
        );
        query.build_query_as().fetch_all(c).await
    })
    .doing("claim steps")
}

async fn begin_runs(tx: &mut Tx, claims: impl Iterator<Item = &Claim>, now: DateTime<Utc>) -> StoreResult<()> {
    // Only a first attempt can find its run queued.
    let first: Vec<Uuid> = claims.filter(|claim| claim.epoch == 1).map(|claim| claim.run).collect();
    if first.is_empty() {
        return Ok(());
    }
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("update run set state = 'running', started_at = ");
        query.push_bind(Ts::from(now)).push(" where state = 'queued' and id in (");
        query.push_rows(first.iter().map(|run| row![*run]).collect());
        query.push(")");
        query.build().execute(c).await.rows()
    })
    .doing("begin runs")?;
    Ok(())
}

async fn record_attempts(
    tx: &mut Tx,
    claims: impl Iterator<Item = &Claim>,
    worker: &str,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    let mut claims = claims.peekable();
    if claims.peek().is_none() {
        return Ok(());
    }
    on_tx!(tx, |c| {
        let mut query =
            QueryBuilder::new("insert into attempt (run_id, step, epoch, attempt, worker, started_at, outcome) ");
        query.push_rows(
            claims
                .map(|claim| {
                    row![
                        claim.run,
                        claim.step.as_str(),
                        claim.epoch,
                        claim.attempt,
                        worker.to_owned(),
                        Ts::from(now),
                        "running"
                    ]
                })
                .collect(),
        );
        query.build().execute(c).await.rows()
    })
    .doing("record attempts")?;
    Ok(())
}

/// Renews the leases of `held` steps and answers which of them are still ours; the others were taken over or cancelled.
pub(in crate::ledger) async fn renew(
    db: &Db,
    owner: Uuid,
    held: &[Key],
    lease_until: DateTime<Utc>,
) -> StoreResult<Vec<Key>> {
    let mut ours = Vec::with_capacity(held.len());
    for chunk in held.chunks(super::CHUNK) {
        let mut tx = db.begin().await?;
        super::lock_steps(&mut tx, chunk.iter().map(|(run, step, _)| (*run, *step))).await?;
        let rows: Vec<(Uuid, String, i64)> = on_tx!(&mut tx, |c| {
            let mut query = QueryBuilder::new("update step set lease_until = ");
            query.push_bind(Ts::from(lease_until)).push(" where state = 'running' and lease_owner = ").push_bind(owner);
            query.push(" and (run_id, step, epoch) in (");
            // PostgreSQL and SQLite both take row values; SQLite wants them from a VALUES list.
            query.push_rows(chunk.iter().map(|(run, step, epoch)| row![*run, step.as_str(), *epoch]).collect());
            query.push(") returning run_id, step, epoch");
            query.build_query_as().fetch_all(c).await
        })
        .doing("renew leases")?;
        tx.commit().await?;
        ours.extend(rows.into_iter().filter_map(key));
    }
    Ok(ours)
}

/// What `owner` holds, by the ledger: a cheap look between two renewals, so that a cancelled step stops soon.
pub(in crate::ledger) async fn held_by(db: &Db, owner: Uuid) -> StoreResult<Vec<Key>> {
    let rows: Vec<(Uuid, String, i64)> = on_read!(db, |c| {
        sqlx::query_as("select run_id, step, epoch from step where state = 'running' and lease_owner = $1")
            .bind(owner)
            .fetch_all(c)
            .await
    })
    .doing("look at what is held")?;
    Ok(rows.into_iter().filter_map(key).collect())
}

fn key((run, step, epoch): (Uuid, String, i64)) -> Option<Key> {
    Some((run, step.parse().ok()?, epoch))
}
