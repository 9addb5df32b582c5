//! Ending attempts: fence, effects, what comes next and the attempt rows, many endings in one transaction. Each keeps its own fence: what one
//! no longer holds is not written, and the others are.

use super::{become_active, insert_steps};
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_tx, on_write};
use crate::ledger::words::{
    Claim, Completed, Completion, Consequence, Ending, Key, NewStep, WAITS_FOR_ACTIVE, far_future,
};
use crate::message::Message;
use crate::plan::Step;
use crate::rows::{PushRows, row};
use crate::state::{RunState, Verdict};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Ends the attempts. The answers are in the order of `endings`; an error of the whole means that nothing of any was written.
pub(in crate::ledger) async fn complete(
    db: &Db,
    endings: &[Ending],
    now: DateTime<Utc>,
) -> StoreResult<Vec<Completed>> {
    if endings.is_empty() {
        return Ok(Vec::new());
    }
    let consequences: Vec<Consequence> = endings.iter().map(|ending| Consequence::of(ending, now)).collect();
    let mut tx = db.begin().await?;
    lock_runs(&mut tx, endings).await?;
    let left = leave(&mut tx, endings, &consequences, now).await?;
    let ours: Vec<(&Ending, &Consequence)> =
        endings.iter().zip(&consequences).filter(|(ending, _)| left.contains(&ending.claim.key())).collect();
    if ours.is_empty() {
        tx.rollback().await?;
    } else {
        apply(&mut tx, &ours, now).await?;
        close_attempts(&mut tx, &ours, now).await?;
        give_verdicts(&mut tx, &ours).await?;
        let next: Vec<NewStep> =
            ours.iter().filter_map(|(ending, consequence)| next_step(ending, consequence.next?, now)).collect();
        let born = insert_steps(&mut tx, &next).await?;
        let (ended, woken) = finish(&mut tx, &ours, now).await?;
        tx.commit().await?;
        let mut messages: HashMap<Uuid, Vec<Message>> = HashMap::new();
        for step in next.iter().filter(|step| step.sent && born.contains(&(step.run, step.step))) {
            messages.entry(step.run).or_default().push(step.message());
        }
        for (after, message) in woken {
            messages.entry(after).or_default().push(message);
        }
        return answer(db, endings, consequences, &left, &ended, messages, now).await;
    }
    answer(db, endings, consequences, &left, &HashMap::new(), HashMap::new(), now).await
}

/// The run rows come first, in one order: so that a cancellation is either seen by the fence, or sees the steps that follow.
async fn lock_runs(tx: &mut Tx, endings: &[Ending]) -> StoreResult<()> {
    let Tx::Pg(pg) = tx else { return Ok(()) };
    let runs: Vec<Uuid> = endings.iter().map(|ending| ending.claim.run).collect();
    sqlx::query("select id from run where id = any($1) order by id for no key update")
        .bind(runs)
        .execute(&mut **pg)
        .await
        .doing("lock the runs of steps to be completed")?;
    super::lock_steps(tx, endings.iter().map(|ending| (ending.claim.run, ending.claim.step))).await
}

/// The fence: moves the steps out of `running`, those that are still ours; answers which.
async fn leave(
    tx: &mut Tx,
    endings: &[Ending],
    consequences: &[Consequence],
    now: DateTime<Utc>,
) -> StoreResult<HashSet<Key>> {
    let rows: Vec<(Uuid, String, i64)> = on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(
            "with ending (e_run, e_step, e_epoch, e_state, e_due, e_again, e_forgive, e_lost, e_wait, e_note, e_error, e_finished, e_lapse) as (",
        );
        query.push_rows(endings.iter().zip(consequences).map(|(ending, what)| {
            // Only the reconciler looks at the lease; a worker whose lease lapsed but whom nobody replaced still holds the step.
            let lapse = ending.lapsed_before.unwrap_or_else(far_future);
row![ending.claim.run, ending.claim.step.as_str(), ending.claim.epoch, what.state.as_str(), Ts::from(what.due_at), i64::from(what.again), i64::from(what.forgive), i64::from(what.lost), what.wait_for.clone(), what.note.clone(), what.error.clone(), what.over.then_some(Ts::from(now)), Ts::from(lapse)] }).collect());
        query.push(
            ") update step set state = e_state, due_at = e_due, generation = generation + e_again, attempt = attempt - e_forgive, losses = losses + e_lost,
                      sent_at = null, lease_owner = null, lease_until = null, wait_for = e_wait, note = e_note, error = e_error, finished_at = e_finished
               from ending where run_id = e_run and step = e_step and epoch = e_epoch and state = 'running'
                             and (lease_until is null or lease_until < e_lapse)
               returning run_id, step, epoch",
        );
        query.build_query_as().fetch_all(c).await
    })
    .doing("complete steps")?;
    Ok(rows.into_iter().filter_map(|(run, step, epoch)| Some((run, step.parse().ok()?, epoch))).collect())
}

async fn apply(tx: &mut Tx, ours: &[(&Ending, &Consequence)], now: DateTime<Utc>) -> StoreResult<()> {
    let succeeded: Vec<&Ending> =
        ours.iter().map(|(ending, _)| *ending).filter(|ending| ending.outcome.succeeded()).collect();
    if succeeded.is_empty() {
        return Ok(());
    }
    for ending in &succeeded {
        for effect in &ending.effects {
            effect.apply(tx, &ending.claim, now).await?;
        }
    }
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("insert into effect (run_id, step, epoch, applied_at, detail) ");
        query.push_rows(
            succeeded
                .iter()
                .map(|ending| {
                    row![
                        ending.claim.run,
                        ending.claim.step.as_str(),
                        ending.claim.epoch,
                        Ts::from(now),
                        ending.outcome.text().to_owned()
                    ]
                })
                .collect(),
        );
        query.build().execute(c).await.rows()
    })
    .doing("record that effects were applied")?;
    Ok(())
}

async fn close_attempts(tx: &mut Tx, ours: &[(&Ending, &Consequence)], now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("with ending (e_run, e_step, e_epoch, e_outcome, e_kind, e_detail) as (");
        query.push_rows(
            ours.iter()
                .map(|(ending, what)| {
                    row![
                        ending.claim.run,
                        ending.claim.step.as_str(),
                        ending.claim.epoch,
                        ending.outcome.attempt_word(&what.decision),
                        ending.outcome.error_kind(),
                        ending.outcome.text().to_owned()
                    ]
                })
                .collect(),
        );
        query.push(") update attempt set outcome = e_outcome, error_kind = e_kind, detail = e_detail, finished_at = ");
        query.push_bind(Ts::from(now)).push(" from ending where run_id = e_run and step = e_step and epoch = e_epoch");
        query.build().execute(c).await.rows()
    })
    .doing("close attempts")?;
    Ok(())
}

/// Records how runs will end whose closing step comes next.
async fn give_verdicts(tx: &mut Tx, ours: &[(&Ending, &Consequence)]) -> StoreResult<()> {
    for (ending, what) in ours.iter().filter(|(_, what)| !what.run_ends) {
        let Some((verdict, reason)) = &what.verdict else { continue };
        on_tx!(tx, |c| {
            sqlx::query("update run set verdict = $2, reason = $3 where id = $1")
                .bind(ending.claim.run)
                .bind(verdict.as_str())
                .bind(reason)
                .execute(c)
                .await
                .rows()
        })
        .doing("record how a run will end")?;
    }
    Ok(())
}

/// The step after this one. If the caller pushes its message right after the commit, it counts as sent already; if that one dies in between, the
/// reconciler finds the message overdue.
fn next_step(ending: &Ending, step: Step, now: DateTime<Utc>) -> Option<NewStep> {
    let claim = &ending.claim;
    claim.plan.policy(step)?;
    Some(NewStep::ready(claim.plan, claim.run, step, claim.priority, now, ending.sends_next))
}

/// How many waiting runs of a subject are tried: one that is cancelled at the same moment makes way for another.
const SUCCESSORS_TRIED: usize = 3;

type Finished = (HashMap<Uuid, RunState>, Vec<(Uuid, Message)>);

/// Ends runs, and wakes the next run of each of their subjects. Answers the final states, and the woken messages under the run they waited for.
async fn finish(tx: &mut Tx, ours: &[(&Ending, &Consequence)], now: DateTime<Utc>) -> StoreResult<Finished> {
    let ending: Vec<_> = ours
        .iter()
        .filter(|(_, what)| what.run_ends)
        .map(|(ending, what)| (ending.claim.run, what.verdict.clone()))
        .collect();
    end_runs(tx, &ending, now).await
}

/// The same for runs given by id, with the verdict of those that have none yet.
pub(super) async fn end_runs(
    tx: &mut Tx,
    ending: &[(Uuid, Option<(Verdict, String)>)],
    now: DateTime<Utc>,
) -> StoreResult<Finished> {
    if ending.is_empty() {
        return Ok(Finished::default());
    }
    let states: Vec<(Uuid, String)> = on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("with ending (e_run, e_verdict, e_reason) as (");
        query.push_rows(ending.iter().map(|(run, verdict)| row![*run, verdict.as_ref().map(|(verdict, _)| verdict.as_str()), verdict.as_ref().map(|(_, reason)| reason.clone())]).collect());
        query.push(") update run set verdict = coalesce(verdict, e_verdict), reason = coalesce(reason, e_reason), state = coalesce(verdict, e_verdict, 'succeeded'), finished_at = ");
        query.push_bind(Ts::from(now)).push(" from ending where id = e_run returning id, state");
        query.build_query_as().fetch_all(c).await
    })
    .doing("end runs")?;
    let states = states.into_iter().filter_map(|(run, state)| Some((run, RunState::from_word(&state)?))).collect();
    let freed: Vec<(String, String, Uuid)> = on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("delete from active where run_id in (");
        query.push_rows(ending.iter().map(|(run, _)| row![*run]).collect());
        query.push(") returning plan, subject, run_id");
        query.build_query_as().fetch_all(c).await
    })
    .doing("free the subjects of ended runs")?;
    Ok((states, wake_successors(tx, &freed, now).await?))
}

/// The most urgent, then oldest waiting run of each freed subject becomes its active one.
async fn wake_successors(
    tx: &mut Tx,
    freed: &[(String, String, Uuid)],
    now: DateTime<Utc>,
) -> StoreResult<Vec<(Uuid, Message)>> {
    let mut woken = Vec::new();
    let mut freed: Vec<_> = freed.iter().collect();
    for _ in 0..SUCCESSORS_TRIED {
        let next = successors(tx, &freed).await?;
        if next.is_empty() {
            break;
        }
        let mut again = Vec::new();
        for (subject, run) in next {
            let (plan, name, ended) = subject;
            let Some((step, generation, queue)) = first_step(tx, run).await? else { continue };
            if become_active(tx, run, step, plan, name, now).await? {
                woken.push((*ended, Message { run, step, generation: generation + 1, queue }));
            } else {
                // Cancelled this very moment: then another one comes.
                again.push(subject);
            }
        }
        freed = again;
    }
    Ok(woken)
}

type Freed = (String, String, Uuid);

/// The run that comes next for each of these subjects: one look into the index each, however many wait.
async fn successors<'a>(tx: &mut Tx, freed: &[&'a Freed]) -> StoreResult<Vec<(&'a Freed, Uuid)>> {
    if freed.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<(Uuid, Option<Uuid>)> = on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("with freed (f_plan, f_subject, f_run) as (");
        query.push_rows(freed.iter().map(|(plan, subject, run)| row![plan.clone(), subject.clone(), *run]).collect());
        query.push(
            ") select f_run, (select id from run where plan = f_plan and subject = f_subject and state = 'queued' and verdict is null
                              order by priority desc, id limit 1) from freed",
        );
        query.build_query_as().fetch_all(c).await
    })
    .doing("find the runs that waited for ended ones")?;
    let next: HashMap<Uuid, Uuid> = found.into_iter().filter_map(|(ended, next)| Some((ended, next?))).collect();
    Ok(freed.iter().filter_map(|freed| Some((*freed, *next.get(&freed.2)?))).collect())
}

/// The step that a waiting run begins with. All its steps are read and chosen from here: the index of what waits is as long as the backlog.
async fn first_step(tx: &mut Tx, run: Uuid) -> StoreResult<Option<(Step, i64, String)>> {
    let rows: Vec<(String, i64, String, Option<String>)> = on_tx!(tx, |c| {
        sqlx::query_as("select step, generation, queue, wait_for from step where run_id = $1")
            .bind(run)
            .fetch_all(c)
            .await
    })
    .doing("find the first step of a run that waited")?;
    let waiting = rows.into_iter().find(|(.., wait_for)| wait_for.as_deref() == Some(WAITS_FOR_ACTIVE));
    Ok(waiting.and_then(|(step, generation, queue, _)| Some((step.parse().ok()?, generation, queue))))
}

async fn answer(
    db: &Db,
    endings: &[Ending],
    consequences: Vec<Consequence>,
    left: &HashSet<Key>,
    ended: &HashMap<Uuid, RunState>,
    mut messages: HashMap<Uuid, Vec<Message>>,
    now: DateTime<Utc>,
) -> StoreResult<Vec<Completed>> {
    let mut answers = Vec::with_capacity(endings.len());
    for (ending, what) in endings.iter().zip(consequences) {
        let run = ending.claim.run;
        if left.contains(&ending.claim.key()) {
            let messages = messages.remove(&run).unwrap_or_default();
            answers.push(Ok(Completion { messages, run_ended: ended.get(&run).copied(), decision: what.decision }));
            continue;
        }
        if ending.lapsed_before.is_none() {
            // A word for the reader of the run; the truth is written already.
            if let Err(error) = mark_fenced(db, &ending.claim, now).await {
                tracing::debug!(%error, "an attempt could not be marked as fenced");
            }
        }
        answers.push(Err(StoreError::Fenced));
    }
    Ok(answers)
}

async fn mark_fenced(db: &Db, claim: &Claim, now: DateTime<Utc>) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "update attempt set outcome = 'fenced', finished_at = $4
             where run_id = $1 and step = $2 and epoch = $3 and outcome in ('running', 'lost')",
        )
        .bind(claim.run)
        .bind(claim.step.as_str())
        .bind(claim.epoch)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("mark an attempt as fenced")?;
    Ok(())
}
