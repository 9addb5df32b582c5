//! What is counted when all is over: the engine's tables, the triggers' table and the books, held against each other.

use crate::books::{Books, Pages};
use crate::calendar::{self, Calendar};
use crate::recovery::{Lost, Recovery, percentile};
use crate::triggers::KINDS;
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use uuid::Uuid;
use workflows::plan::Step;

/// Attempts of a wrong run that are shown, and wrong runs.
const SHOWN: i64 = 20;

/// A run that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Which; none for what is counted by ticker or key.
    pub run: Option<Uuid>,
    /// Why.
    pub why: String,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Runs that were acknowledged and are not there, or that ended otherwise than in success, or that lack an effect.
    pub lost: Vec<Wrong>,
    /// Effects that were committed more than once, and keys that started more than one run.
    pub duplicated: Vec<Wrong>,
    /// Runs that have not ended.
    pub stuck: Vec<Wrong>,
    /// Attempts that were fenced.
    pub fenced: i64,
    /// Steps that ended in success.
    pub steps: i64,
    /// When the last of them did.
    pub last_us: Option<i64>,
    /// Attempts by outcome.
    pub attempts: Vec<(String, i64)>,
    /// What the store said when it refused to write the effects of an attempt, and how often.
    pub refused: Vec<(String, i64)>,
    /// The most attempts that a step of a run needed.
    pub most_attempts: i64,
    /// How many runs there are.
    pub runs: usize,
    /// How many ticks the schedule had.
    pub ticks: usize,
}

impl Verdict {
    /// Whether the run is as promised.
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.stuck.is_empty()
    }

    /// Everything that is wrong.
    pub fn wrong(&self) -> impl Iterator<Item = (&'static str, &Wrong)> {
        let lists = [("lost", &self.lost), ("duplicated", &self.duplicated), ("stuck", &self.stuck)];
        lists.into_iter().flat_map(|(name, list)| list.iter().map(move |wrong| (name, wrong)))
    }
}

/// The last line of a fault run.
#[derive(Debug)]
pub struct LastLine<'a> {
    /// What was counted.
    pub verdict: &'a Verdict,
    /// The recoveries.
    pub recovery: &'a Recovery,
    /// From the first offer to the last step, in seconds.
    pub took_s: f64,
}

impl fmt::Display for LastLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { lost, duplicated, stuck, fenced, steps, .. } = self.verdict;
        let recovery = |share| percentile(&self.recovery.clean_ms, share).unwrap_or(0);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a few hundred")]
        let steps_per_s = (*steps as f64 / self.took_s.max(0.001)).floor() as i64;
        write!(
            f,
            "lost={} duplicated={} stuck={} fenced={fenced} recovery_p50_ms={} recovery_p99_ms={} steps_per_s={steps_per_s}",
            lost.len(),
            duplicated.len(),
            stuck.len(),
            recovery(0.5),
            recovery(0.99),
        )
    }
}

/// A run as the engine's table has it.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    id: Uuid,
    idempotency_key: Option<String>,
    state: String,
    reason: Option<String>,
}

/// How often each kind of effect was committed, by run.
type Committed = HashMap<(String, String), i64>;

/// Counts.
pub async fn reach(pool: &PgPool, books: &Books, calendar: Calendar) -> sqlx::Result<Verdict> {
    let rows: Vec<Row> = sqlx::query_as("select id, idempotency_key, state, reason from run").fetch_all(pool).await?;
    let committed: Vec<(String, String, i64)> =
        sqlx::query_as("select about, kind, count(*) from chaos_effect where kind <> 'series' group by 1, 2")
            .fetch_all(pool)
            .await?;
    let committed = committed.into_iter().map(|(about, kind, count)| ((about, kind), count)).collect();
    let mut verdict = judge(&rows, &committed, &books.pages());
    verdict.duplicated.extend(series_written_twice(pool).await?);
    ticks(pool, calendar, &mut verdict).await?;
    (verdict.steps, verdict.last_us) = {
        let (steps, last): (i64, Option<DateTime<Utc>>) =
            sqlx::query_as("select count(*), max(finished_at) from step where state in ('done', 'skipped')")
                .fetch_one(pool)
                .await?;
        (steps, last.map(|at| at.timestamp_micros()))
    };
    verdict.attempts =
        sqlx::query_as("select outcome, count(*) from attempt group by 1 order by 2 desc").fetch_all(pool).await?;
    verdict.fenced = verdict.attempts.iter().find(|(outcome, _)| outcome == "fenced").map_or(0, |(_, count)| *count);
    verdict.refused = sqlx::query_as(
        "select coalesce(detail, ''), count(*) from attempt where error_kind = 'store' group by 1 order by 2 desc limit 10",
    )
    .fetch_all(pool)
    .await?;
    verdict.most_attempts = sqlx::query_scalar("select coalesce(max(attempt), 0) from step").fetch_one(pool).await?;
    Ok(verdict)
}

/// Holds the runs against what was committed and what was acknowledged: pure.
fn judge(rows: &[Row], committed: &Committed, pages: &Pages) -> Verdict {
    let mut verdict = Verdict { runs: rows.len(), ..Verdict::default() };
    let mut by_key: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for row in rows {
        let wrong = |why: String| Wrong { run: Some(row.id), why };
        if let Some(key) = &row.idempotency_key {
            by_key.entry(key).or_default().push(row.id);
        }
        match row.state.as_str() {
            "succeeded" => {}
            "queued" | "running" => verdict.stuck.push(wrong(format!("still {}", row.state))),
            ended => {
                verdict.lost.push(wrong(format!("{ended}: {}", row.reason.as_deref().unwrap_or("no reason given"))))
            }
        }
        for kind in KINDS {
            match committed.get(&(row.id.to_string(), kind.to_owned())).copied().unwrap_or(0) {
                0 if row.state == "succeeded" => {
                    verdict.lost.push(wrong(format!("succeeded without the effect `{kind}`")))
                }
                0 | 1 => {}
                times => verdict.duplicated.push(wrong(format!("the effect `{kind}` was committed {times} times"))),
            }
        }
    }
    for (key, runs) in by_key.into_iter().filter(|(_, runs)| runs.len() > 1) {
        verdict.duplicated.push(Wrong { run: runs.first().copied(), why: format!("the key {key} started {runs:?}") });
    }
    for key in &pages.twice {
        verdict.duplicated.push(Wrong { run: None, why: format!("the key {key} was acknowledged with two runs") });
    }
    let known: BTreeSet<Uuid> = rows.iter().map(|row| row.id).collect();
    for (key, run) in pages.started.iter().filter(|(_, run)| !known.contains(run)) {
        verdict.lost.push(Wrong { run: Some(*run), why: format!("acknowledged under {key}, and not in the ledger") });
    }
    verdict
}

/// The ticks of the schedule: each session has one, each tick one run for every ticker, and all of them have fired.
async fn ticks(pool: &PgPool, calendar: Calendar, verdict: &mut Verdict) -> sqlx::Result<()> {
    let ticks: Vec<(NaiveDate, i64, String)> =
        sqlx::query_as("select session, nth, state from tick where schedule_id = $1 order by session, nth")
            .bind(calendar::SCHEDULE)
            .fetch_all(pool)
            .await?;
    let runs: Vec<(NaiveDate, String, i64)> =
        sqlx::query_as("select aimed_session, subject, count(*) from run where schedule_id = $1 group by 1, 2")
            .bind(calendar::SCHEDULE)
            .fetch_all(pool)
            .await?;
    let started = runs.into_iter().map(|(session, subject, count)| ((session, subject), count)).collect();
    judge_ticks(&ticks, &started, calendar, verdict);
    Ok(())
}

fn judge_ticks(
    ticks: &[(NaiveDate, i64, String)],
    started: &BTreeMap<(NaiveDate, String), i64>,
    calendar: Calendar,
    verdict: &mut Verdict,
) {
    let wrong = |why: String| Wrong { run: None, why };
    let Some((first, ..)) = ticks.first() else { return };
    verdict.ticks = ticks.len();
    for (session, nth, state) in ticks.iter().filter(|(_, nth, state)| *nth != 0 || state != "fired") {
        verdict.stuck.push(wrong(format!("tick {session}/{nth} is {state}")));
    }
    let made: BTreeSet<NaiveDate> = ticks.iter().map(|(session, ..)| *session).collect();
    for session in calendar.sessions_since(*first) {
        if !made.contains(&session) {
            verdict.lost.push(wrong(format!("the session {session} had no tick")));
        }
        for ticker in calendar::tickers() {
            match started.get(&(session, ticker.to_string())).copied().unwrap_or(0) {
                0 => verdict.lost.push(wrong(format!("the tick of {session} started no run of {ticker}"))),
                1 => {}
                times => {
                    verdict.duplicated.push(wrong(format!("the tick of {session} started {times} runs of {ticker}")))
                }
            }
        }
    }
}

/// Tickers whose series was written more often than their runs were archived.
async fn series_written_twice(pool: &PgPool) -> sqlx::Result<Vec<Wrong>> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select subject, written, archived from
           (select about as subject, count(*) as written from chaos_effect where kind = 'series' group by 1) w
           join (select run.subject, count(*) as archived from run join step on step.run_id = run.id
                 where step.step = 'archive' and step.state = 'done' group by 1) a using (subject)
         where written > archived",
    )
    .fetch_all(pool)
    .await?;
    let wrong = rows.into_iter().map(|(subject, written, archived)| Wrong {
        run: None,
        why: format!("the series of {subject} was written {written} times for {archived} archivings"),
    });
    Ok(wrong.collect())
}

/// Run, step, epoch, worker and end of an attempt.
type Ended = (Uuid, String, i64, String, Option<DateTime<Utc>>);

/// The attempts that the ledger calls lost.
pub async fn lost_attempts(pool: &PgPool) -> sqlx::Result<Vec<Lost>> {
    let rows: Vec<Ended> =
        sqlx::query_as("select run_id, step, epoch, worker, finished_at from attempt where outcome = 'lost'")
            .fetch_all(pool)
            .await?;
    let lost = rows.into_iter().filter_map(|(run, step, epoch, node, at)| {
        Some(Lost {
            run,
            step: step.parse().ok()?,
            epoch,
            node,
            at_us: at.map_or(i64::MAX, |at| at.timestamp_micros()),
        })
    });
    Ok(lost.collect())
}

/// The story of a run: its steps and attempts, a line each, and what the nodes said of it.
pub async fn story(pool: &PgPool, books: &Books, run: Uuid) -> sqlx::Result<Vec<String>> {
    let steps: Vec<(String,)> = sqlx::query_as(
        "select format('  step %s %s attempt %s of %s, losses %s, generation %s, epoch %s, due %s, sent %s, lease until %s, waits for %s, %s',
                       step, state, attempt, max_attempts, losses, generation, epoch, due_at, sent_at, lease_until, wait_for, coalesce(error, note))
         from step where run_id = $1 order by seq",
    )
    .bind(run)
    .fetch_all(pool)
    .await?;
    let attempts: Vec<(String,)> = sqlx::query_as(
        "select format('  attempt of %s epoch %s on %s: %s … %s %s: %s', step, epoch, worker, started_at, finished_at, outcome, detail)
         from attempt where run_id = $1 order by started_at limit $2",
    )
    .bind(run)
    .bind(SHOWN)
    .fetch_all(pool)
    .await?;
    let pages = books.pages();
    let time = |at_us| DateTime::from_timestamp_micros(at_us).map(|at| at.format("%H:%M:%S%.3f").to_string());
    let told = Step::of_the_chain().flat_map(|step| {
        let told = pages.steps.get(&(run, step)).map_or(&[][..], Vec::as_slice);
        told.iter().map(move |told| {
            let (began, ended) = (time(told.began_us), told.ended_us.and_then(time));
            format!(
                "  {} said of {step} epoch {}: {} … {}",
                told.node,
                told.epoch,
                began.unwrap_or_default(),
                ended.unwrap_or_default()
            )
        })
    });
    Ok(steps.into_iter().chain(attempts).map(|(line,)| line).chain(told).collect())
}

/// The runs in which an attempt ended otherwise than in success.
pub async fn troubled(pool: &PgPool) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select distinct run_id from attempt where outcome not in ('done', 'skipped')")
        .fetch_all(pool)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u128, state: &str) -> Row {
        Row { id: Uuid::from_u128(n), idempotency_key: Some(format!("k{n}")), state: state.to_owned(), reason: None }
    }

    fn all_of(rows: &[Row]) -> Committed {
        rows.iter().flat_map(|row| KINDS.map(|kind| ((row.id.to_string(), kind.to_owned()), 1))).collect()
    }

    #[test]
    fn a_run_that_left_each_effect_once_is_good() {
        let rows = [row(1, "succeeded"), row(2, "succeeded")];
        assert!(judge(&rows, &all_of(&rows), &Pages::default()).is_good());
    }

    #[test]
    fn what_is_missing_twice_or_open_is_found() {
        let rows = [row(1, "succeeded"), row(2, "succeeded"), row(3, "running"), row(4, "failed")];
        let mut committed = all_of(&rows[..2]);
        committed.remove(&(rows[0].id.to_string(), "archive".to_owned()));
        committed.insert((rows[1].id.to_string(), "cache".to_owned()), 2);
        let mut pages = Pages::default();
        pages.acknowledge("k5".to_owned(), Uuid::from_u128(5));
        let verdict = judge(&rows, &committed, &pages);
        let runs =
            |list: &[Wrong]| list.iter().map(|wrong| wrong.run.map_or(0, |run| run.as_u128())).collect::<Vec<_>>();
        assert_eq!(
            (runs(&verdict.lost), runs(&verdict.duplicated), runs(&verdict.stuck)),
            (vec![1, 4, 5], vec![2], vec![3])
        );
    }

    #[test]
    fn a_tick_starts_each_ticker_once() {
        let calendar = Calendar { from_us: 0, until_us: 10_000_000 };
        let first: NaiveDate = "2024-01-02".parse().unwrap();
        let all = || calendar::tickers().into_iter().map(|ticker| ((first, ticker.to_string()), 1));
        let judged = |started: BTreeMap<(NaiveDate, String), i64>, state: &str| {
            let mut verdict = Verdict::default();
            judge_ticks(&[(first, 0, state.to_owned())], &started, calendar, &mut verdict);
            (verdict.lost.len(), verdict.duplicated.len(), verdict.stuck.len())
        };
        assert_eq!(judged(all().collect(), "fired"), (0, 0, 0));
        assert_eq!(
            judged(all().skip(2).chain(all().skip(5).take(1).map(|(key, _)| (key, 2))).collect(), "firing"),
            (2, 1, 1)
        );
    }

    #[test]
    fn the_last_line_has_its_shape() {
        let verdict = Verdict { fenced: 4, steps: 1_000, ..Verdict::default() };
        let recovery = Recovery { clean_ms: vec![700, 900, 1_100], ..Recovery::default() };
        assert_eq!(
            LastLine { verdict: &verdict, recovery: &recovery, took_s: 3.0 }.to_string(),
            "lost=0 duplicated=0 stuck=0 fenced=4 recovery_p50_ms=900 recovery_p99_ms=1100 steps_per_s=333"
        );
    }
}
