//! What a successful step asks to be written. A body never writes by itself: its effects join the transaction that completes it,
//! so a worker that has lost its step changes nothing.

use crate::db::{Doing, Rows, StoreResult, Tx, on_tx};
use crate::ledger::Claim;
use crate::stores::made_with::{self, Made};
use crate::stores::{archive, forecasts, globals, market_days, models, quarantine, record, staging};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Batch, Exchange, Forecast, MarketDay};

/// One effect.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Keeps the scraped batch until it is archived.
    Stage(Batch),
    /// The run turned out to be for this session.
    RunSession(NaiveDate),
    /// What a reader of the run should know although it succeeded.
    Remark(String),
    /// A new model of the ticker's own; the newest is judged against the global one.
    Model(models::NewModel),
    /// A new global model of an exchange, which serves from then on.
    Global(globals::NewGlobal),
    /// What the ticker adds to the market's return of its newest sessions.
    Seen(Vec<market_days::Change>),
    /// The market's returns of the past, from whole series.
    MarketDays(Exchange, Vec<MarketDay>),
    /// A forecast to be kept for good.
    Forecast {
        /// The forecast.
        forecast: Box<Forecast>,
        /// How it counts.
        how: forecasts::How,
    },
    /// Forecasts of an exchange scored, and what that alarms about.
    Settled(Box<record::Settlement>),
    /// What the step's result was made with, for a replay.
    MadeWith(Box<Made>),
    /// Sets rows or the whole batch aside, or takes in what is confirmed.
    SetAside(Box<quarantine::SetAside>),
    /// A batch of this source agrees with the archive: what waits of it as a whole is overtaken.
    Agrees(String),
    /// Moves the run's staged batch into the archive.
    ArchiveStaged,
    /// Deletes the run's staging.
    DropStaging,
}

impl Effect {
    /// Writes it, inside the completing transaction.
    pub(crate) async fn apply(&self, tx: &mut Tx, claim: &Claim, now: DateTime<Utc>) -> StoreResult<()> {
        match self {
            Effect::Stage(batch) => staging::put(tx, claim.run, batch, now).await,
            Effect::RunSession(session) => {
                on_tx!(tx, |c| {
                    sqlx::query("update run set session = $2 where id = $1")
                        .bind(claim.run)
                        .bind(session)
                        .execute(c)
                        .await
                        .rows()
                })
                .doing("correct the session of a run")?;
                Ok(())
            }
            Effect::Remark(text) => {
                on_tx!(tx, |c| {
                    sqlx::query("update run set reason = coalesce(reason, $2) where id = $1")
                        .bind(claim.run)
                        .bind(text)
                        .execute(c)
                        .await
                        .rows()
                })
                .doing("write the remark of a run")?;
                Ok(())
            }
            Effect::Model(model) => models::put(tx, model, Some(claim.run), now).await,
            Effect::Global(model) => globals::put(tx, model, Some(claim.run), now).await,
            Effect::Seen(changes) => market_days::see(tx, claim.ticker(), changes, now).await,
            Effect::MarketDays(exchange, days) => market_days::fill(tx, *exchange, days, now).await.map(|_| ()),
            Effect::Forecast { forecast, how } => {
                forecasts::put(tx, forecast, *how, Some(claim.run), now).await.map(|_| ())
            }
            Effect::Settled(settlement) => record::put(tx, settlement, claim.run, now).await,
            Effect::MadeWith(made) => made_with::put(tx, claim.run, claim.step, made, now).await,
            Effect::SetAside(what) => quarantine::put(tx, what, Some(claim.run), now).await,
            Effect::Agrees(source) => quarantine::overtake(tx, claim.ticker(), source, now).await,
            Effect::ArchiveStaged => match staging::get_in(tx, claim.run).await? {
                Some(batch) => {
                    let series = archive::put(tx, &batch, now).await?.version;
                    made_with::put(tx, claim.run, claim.step, &Made::Archived { series }, now).await
                }
                None => Ok(()),
            },
            Effect::DropStaging => {
                on_tx!(tx, |c| sqlx::query("delete from staging where run_id = $1")
                    .bind(claim.run)
                    .execute(c)
                    .await
                    .rows())
                .doing("delete the staging of a run")?;
                Ok(())
            }
        }
    }
}
