//! The rows of a run as they are put away: one struct per table, whose fields are its columns, read from either database, written back to
//! either, and as a line of CSV the same text from both.

use super::CHUNK;
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use crate::rows::{Cell, PushRows, row};
use chrono::NaiveDate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// A row of one table.
pub(crate) trait Line: Serialize + DeserializeOwned + Send + 'static {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, all of them.
    const COLUMNS: &'static [&'static str];
    /// The values, in the order of the columns.
    fn cells(&self) -> Vec<Cell>;
}

macro_rules! line {
    ($name:ident, $table:literal, { $($(#[$attribute:meta])* $column:ident : $type:ty),+ $(,)? }) => {
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
        pub(crate) struct $name { $($(#[$attribute])* pub(crate) $column: $type),+ }

        impl Line for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];
            fn cells(&self) -> Vec<Cell> {
                row![$(self.$column.clone()),+]
            }
        }
    };
}

line!(RunLine, "run", {
    id: Uuid,
    plan: String,
    plan_version: i64,
    subject: String,
    #[serde(with = "text")]
    exchange: Option<String>,
    #[serde(with = "text")]
    ticker: Option<String>,
    session: NaiveDate,
    aimed_session: NaiveDate,
    #[serde(with = "text")]
    schedule_id: Option<String>,
    backfill_id: Option<Uuid>,
    priority: i64,
    offline: bool,
    #[serde(with = "text")]
    idempotency_key: Option<String>,
    lineage: Option<Uuid>,
    state: String,
    #[serde(with = "text")]
    verdict: Option<String>,
    #[serde(with = "text")]
    reason: Option<String>,
    pinned: bool,
    created_at: Ts,
    started_at: Option<Ts>,
    finished_at: Option<Ts>,
});

line!(StepLine, "step", {
    run_id: Uuid,
    step: String,
    seq: i64,
    queue: String,
    state: String,
    generation: i64,
    attempt: i64,
    max_attempts: i64,
    losses: i64,
    epoch: i64,
    first_ready_at: Ts,
    due_at: Ts,
    sent_at: Option<Ts>,
    lease_owner: Option<Uuid>,
    lease_until: Option<Ts>,
    #[serde(with = "text")]
    wait_for: Option<String>,
    #[serde(with = "text")]
    note: Option<String>,
    #[serde(with = "text")]
    error: Option<String>,
    finished_at: Option<Ts>,
});

line!(AttemptLine, "attempt", {
    run_id: Uuid,
    step: String,
    epoch: i64,
    attempt: i64,
    worker: String,
    started_at: Ts,
    finished_at: Option<Ts>,
    outcome: String,
    #[serde(with = "text")]
    error_kind: Option<String>,
    #[serde(with = "text")]
    detail: Option<String>,
});

line!(EffectLine, "effect", { run_id: Uuid, step: String, epoch: i64, applied_at: Ts, detail: String });

/// Some runs with all that belongs to them.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) runs: Vec<RunLine>,
    pub(crate) steps: Vec<StepLine>,
    pub(crate) attempts: Vec<AttemptLine>,
    pub(crate) effects: Vec<EffectLine>,
}

/// Lines of one table.
pub(crate) enum Lines {
    Runs(Vec<RunLine>),
    Steps(Vec<StepLine>),
    Attempts(Vec<AttemptLine>),
    Effects(Vec<EffectLine>),
}

/// The rows of these runs, in an order that does not depend on the database.
pub(crate) async fn read(db: &Db, runs: &[Uuid]) -> StoreResult<Page> {
    let (Some(first), Some(last)) = (runs.iter().min().copied(), runs.iter().max().copied()) else {
        return Ok(Page::default());
    };
    macro_rules! of {
        ($type:ty, $key:literal) => {{
            // The range tells PostgreSQL which partitions and which stretch of the index it is about.
            let text = format!("select {} from {} where {} >= ", <$type>::COLUMNS.join(", "), <$type>::TABLE, $key);
            let found: Vec<$type> = on_read!(db, |c| {
                let mut query = QueryBuilder::new(text);
                query.push_bind(first).push(format!(" and {} <= ", $key)).push_bind(last);
                query.push(format!(" and {} in (", $key));
                query.push_rows(runs.iter().map(|run| row![*run]).collect()).push(")");
                query.build_query_as().fetch_all(c).await
            })
            .doing("read runs that are to be put away")?;
            found
        }};
    }
    let mut page = Page {
        runs: of!(RunLine, "id"),
        steps: of!(StepLine, "run_id"),
        attempts: of!(AttemptLine, "run_id"),
        effects: of!(EffectLine, "run_id"),
    };
    // Not by the databases: they may sort words differently.
    page.runs.sort_by_key(|line| line.id);
    page.steps.sort_by(|a, b| (a.run_id, a.seq, &a.step).cmp(&(b.run_id, b.seq, &b.step)));
    page.attempts.sort_by(|a, b| (a.run_id, &a.step, a.epoch).cmp(&(b.run_id, &b.step, b.epoch)));
    page.effects.sort_by(|a, b| (a.run_id, &a.step).cmp(&(b.run_id, &b.step)));
    Ok(page)
}

/// Writes lines where they are missing; how many were. Runs come back pinned, or the next sweep would take them away again.
pub(crate) async fn write(tx: &mut Tx, lines: Lines) -> StoreResult<u64> {
    match lines {
        Lines::Runs(mut runs) => {
            runs.iter_mut().for_each(|run| run.pinned = true);
            let written = insert(tx, &runs).await?;
            take_keys(tx, &runs).await?;
            Ok(written)
        }
        Lines::Steps(steps) => insert(tx, &steps).await,
        Lines::Attempts(attempts) => insert(tx, &attempts).await,
        Lines::Effects(effects) => insert(tx, &effects).await,
    }
}

async fn insert<L: Line>(tx: &mut Tx, lines: &[L]) -> StoreResult<u64> {
    let mut written = 0;
    for chunk in lines.chunks(CHUNK) {
        let head = format!("insert into {} ({}) ", L::TABLE, L::COLUMNS.join(", "));
        written += on_tx!(&mut *tx, |c| {
            let mut query = QueryBuilder::new(head);
            query.push_rows(chunk.iter().map(Line::cells).collect()).push(" on conflict do nothing");
            query.build().execute(c).await.rows()
        })
        .doing("bring runs back")?;
    }
    Ok(written)
}

/// Their idempotency keys, as far as nobody took them meanwhile.
async fn take_keys(tx: &mut Tx, runs: &[RunLine]) -> StoreResult<()> {
    let keyed: Vec<Vec<Cell>> =
        runs.iter().filter_map(|run| Some(row![run.idempotency_key.clone()?, run.id, run.created_at])).collect();
    for chunk in keyed.chunks(CHUNK) {
        on_tx!(&mut *tx, |c| {
            let mut query = QueryBuilder::new("insert into start_key (key, run_id, created_at) ");
            query.push_rows(chunk.to_vec()).push(" on conflict do nothing");
            query.build().execute(c).await.rows()
        })
        .doing("bring idempotency keys back")?;
    }
    Ok(())
}

/// A text that may be absent. CSV has one empty field for both: absent is empty, the empty text is `\`, and a text that begins with `\` gets
/// one more in front.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde hands it over so")]
    pub(super) fn serialize<S: Serializer>(value: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            None => to.serialize_str(""),
            Some(text) if text.is_empty() || text.starts_with('\\') => to.serialize_str(&format!("\\{text}")),
            Some(text) => to.serialize_str(text),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.strip_prefix('\\') {
            None if text.is_empty() => None,
            None => Some(text),
            Some(rest) => Some(rest.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn written(line: &AttemptLine) -> String {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        writer.write_record(AttemptLine::COLUMNS).unwrap();
        writer.serialize(line).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    fn attempt(worker: String, detail: Option<String>, micros: i64) -> AttemptLine {
        let at = Ts(DateTime::from_timestamp_micros(micros).unwrap());
        AttemptLine {
            run_id: Uuid::from_u128(1),
            step: "scrape".into(),
            epoch: 1,
            attempt: 2,
            worker,
            started_at: at,
            finished_at: None,
            outcome: "done".into(),
            error_kind: None,
            detail,
        }
    }

    #[test]
    fn a_line_is_plain_text() {
        let line = attempt("host, 1".into(), Some(String::new()), 1_709_676_000_000_250);
        assert_eq!(
            written(&line),
            "run_id,step,epoch,attempt,worker,started_at,finished_at,outcome,error_kind,detail\n\
             00000000-0000-0000-0000-000000000001,scrape,1,2,\"host, 1\",2024-03-05T22:00:00.000250Z,,done,,\\\n"
        );
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_was(worker in ".*", detail in proptest::option::of("(?s).*"), micros in 0i64..4_000_000_000_000_000) {
            let line = attempt(worker, detail, micros);
            let text = written(&line);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let read: Vec<AttemptLine> = reader.deserialize().map(Result::unwrap).collect();
            prop_assert_eq!(read, vec![line]);
        }
    }
}
