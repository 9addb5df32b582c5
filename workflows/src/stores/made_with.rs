//! What a step's result was made with. In comes a record beside the result, out it comes again when a run is replayed.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use crate::plan::Step;
use chrono::{DateTime, NaiveDate, Utc};
use market::{Batch, Doubts, Outlook};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use std::collections::HashMap;
use uuid::Uuid;

/// Which program did the arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The program's version.
    pub program: String,
    /// The version of the kernel's arithmetic; 0 for the reference kernel.
    pub kernel: u32,
    /// Name and version of the recipe; `None` where no model took part.
    pub recipe: Option<String>,
}

/// Which closes of a ticker a step knew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The version of the archived series; `None` when there was none.
    pub series: Option<i64>,
    /// The run's own batch, laid over it.
    pub staged: Option<Staged>,
}

/// The bars that a run had staged, which its archive step stored later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Who gave them.
    pub source: String,
    /// Their first session.
    pub first: NaiveDate,
    /// Their last.
    pub last: NaiveDate,
}

impl Staged {
    /// What is noted of a batch; `None` when it has no bars.
    pub fn of(batch: &Batch) -> Option<Self> {
        let (first, last) = (batch.bars.first()?.session, batch.bars.last()?.session);
        Some(Self { source: batch.source.clone(), first, last })
    }
}

/// One of the series that a pre-training read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The symbol.
    pub ticker: String,
    /// The version of its series.
    pub series: i64,
    /// Whether it was learnt from; all count in the market's return.
    pub learnt: bool,
}

/// What was made, and all that it takes to make it again. Hashes are SHA-256, hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "made", rename_all = "snake_case")]
pub enum Made {
    /// A ticker's own model.
    Model {
        /// By which arithmetic.
        version: Version,
        /// From which closes.
        known: Known,
        /// Hash of the market's returns up to the last close.
        market_hash: String,
        /// Hash of the closes and the market beside them.
        input_hash: String,
        /// The global model beside it.
        global: String,
        /// The model that it continues.
        parent: Option<String>,
        /// Seed of the training.
        seed: u64,
        /// Its hash.
        model: String,
    },
    /// The served forecast of a ticker, and what the others said.
    Forecasts {
        /// By which arithmetic.
        version: Version,
        /// From which closes.
        known: Known,
        /// Hash of the market's returns up to the last close.
        market_hash: String,
        /// Hash of the closes and the market beside them.
        input_hash: String,
        /// The exchange's newest session that was known.
        session: NaiveDate,
        /// What the public record had against the models.
        #[serde(default)]
        doubts: Doubts,
        /// What the calendar said of the days to come; `None`: the ticker's own sessions told the week, before there was a calendar.
        #[serde(default)]
        outlook: Option<Outlook>,
        /// The global model asked.
        global: Option<String>,
        /// The ticker's own model asked.
        own: Option<String>,
        /// Ids of the forecasts.
        forecasts: Vec<Uuid>,
    },
    /// A global model of an exchange.
    Global {
        /// By which arithmetic.
        version: Version,
        /// From which series, in the order in which they were read.
        read: Vec<Read>,
        /// Hash of the market's returns.
        market_hash: String,
        /// Hash of the series learnt from and the market.
        input_hash: String,
        /// Seed of the training.
        seed: u64,
        /// Its hash.
        global: String,
    },
    /// The run's staged bars, archived as this version of the series.
    Archived {
        /// The version.
        series: i64,
    },
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What it says.
    pub made: Made,
    /// When the step was completed: it read nothing that was committed later.
    pub made_at: DateTime<Utc>,
}

/// Keeps the record of one step; a second writing changes nothing.
pub(crate) async fn put(tx: &mut Tx, run: Uuid, step: Step, made: &Made, now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into made_with (run_id, step, record, made_at) values ($1, $2, $3, $4) on conflict do nothing",
        )
        .bind(run)
        .bind(step.as_str())
        .bind(Json(made))
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("record what a result was made with")?;
    Ok(())
}

/// The records of a run, by step.
pub async fn of_run(db: &Db, run: Uuid) -> StoreResult<HashMap<String, Written>> {
    let rows: Vec<(String, Json<Made>, Ts)> = on_read!(db, |c| {
        sqlx::query_as("select step, record, made_at from made_with where run_id = $1").bind(run).fetch_all(c).await
    })
    .doing("read what a run's results were made with")?;
    Ok(rows.into_iter().map(|(step, made, at)| (step, Written { made: made.0, made_at: at.0 })).collect())
}
