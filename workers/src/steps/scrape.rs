//! Scrape: asks the exchange's sources in order for what is new, and stages it. In comes the newest archived bars, out goes a batch, or the
//! word that there has been no new session.

use super::{Workshop, store_failed};
use crate::sources::{Ask, Retry, SourceError};
use async_trait::async_trait;
use chrono::{DateTime, Days, NaiveDate, Utc};
use market::{Bar, Batch, Series, is_final};
use std::sync::Arc;
use std::time::Duration;
use workflows::ledger::Claim;
use workflows::stores::{archive, forecasts};
use workflows::{Attempt, Effect, Outcome, Report, StepBody};

/// How many archived bars a source is shown, to check that it speaks of the same security.
const OVERLAP: usize = 10;

pub(super) struct Scrape(pub Arc<Workshop>);

#[async_trait]
impl StepBody for Scrape {
    async fn run(&self, attempt: &Attempt) -> Report {
        let claim = &attempt.claim;
        let db = &self.0.engine.db;
        let archived = match archive::series(db, &claim.ticker).await {
            Ok(series) => series,
            Err(error) => return store_failed(&error),
        };
        let now = self.0.engine.market_clock.now();
        let batch = if claim.offline || self.0.offline {
            None
        } else {
            let fetched = tokio::select! {
                fetched = self.fetch(claim, archived.as_ref(), now) => fetched,
                () = attempt.cancel.cancelled() => return Report::interrupted(),
            };
            match fetched {
                Ok(batch) => Some(only_final(batch, now)),
                Err(report) => return report,
            }
        };
        let forecast = match forecasts::latest_of_a_run(db, &claim.ticker).await {
            Ok(latest) => latest,
            Err(error) => return store_failed(&error),
        };
        answer(claim, archived.as_ref(), batch, forecast, now)
    }
}

impl Scrape {
    /// The first source that answers; else a report made of what all of them said.
    async fn fetch(&self, claim: &Claim, archived: Option<&Series>, now: DateTime<Utc>) -> Result<Batch, Report> {
        let bars = archived.map(Series::bars).unwrap_or_default();
        let ask = Ask {
            ticker: claim.ticker.clone(),
            known: bars[bars.len().saturating_sub(OVERLAP)..].to_vec(),
            now,
            history_from: now.date_naive() - Days::new(self.0.history_days),
        };
        let mut said = Vec::new();
        let mut wait: Option<Option<Duration>> = None;
        for source in self.0.sources.for_exchange(claim.ticker.exchange()) {
            match source.fetch(&ask).await {
                Ok(batch) => return Ok(batch),
                Err(error) => {
                    tracing::warn!(source = source.id(), %error, "a source failed");
                    if let Retry::Later(after) = error.retry() {
                        wait = Some(wait.flatten().max(after));
                    }
                    said.push(describe(source.id(), &error));
                }
            }
        }
        if said.is_empty() {
            return Err(Report::give_up(format!("no source is configured for {}", claim.ticker.exchange())));
        }
        Err(match wait {
            Some(after) => Report::retry(said.join("; "), after),
            None => Report::give_up(said.join("; ")),
        })
    }
}

fn describe(source: &str, error: &SourceError) -> String {
    format!("{source}: {error}")
}

/// A source must not hand us unfinished days; this is the last gate before they would be stored as closes.
fn only_final(mut batch: Batch, now: DateTime<Utc>) -> Batch {
    let exchange = batch.ticker.exchange();
    batch.bars.retain(|bar| is_final(exchange, bar.session, now));
    batch
}

/// Decides what the run has to do, from what is archived, what came, and how far the forecasts reach: pure.
fn answer(
    claim: &Claim,
    archived: Option<&Series>,
    batch: Option<Batch>,
    forecast: Option<(NaiveDate, NaiveDate)>,
    now: DateTime<Utc>,
) -> Report {
    let known = archived.map(Series::bars).unwrap_or_default();
    let fresh = batch.as_ref().map_or(0, |batch| batch.bars.iter().filter(|bar| differs(known, bar)).count());
    let staged_last = batch.as_ref().and_then(|batch| batch.bars.last()).map(|bar| bar.session);
    let newest = known.last().map(|bar| bar.session).max(staged_last);
    let Some(newest) = newest else {
        let why = match &batch {
            None => format!(
                "{} has no archived closes, and this run sends no request: import prices, or run it online",
                claim.ticker
            ),
            Some(batch) => {
                format!("{} answered, but gave no sound bar of {}{}", batch.source, claim.ticker, refused(batch))
            }
        };
        return Report::give_up(why);
    };
    // The session is the exchange's: a thin ticker that did not trade in it has an older newest bar.
    let page =
        batch.as_ref().and_then(|batch| batch.page_session).filter(|day| is_final(claim.ticker.exchange(), *day, now));
    let session = page.map_or(newest, |page| page.max(newest));
    // As-of and target of the newest forecast: it must know every close, and look beyond the exchange's newest session.
    if fresh == 0 && forecast.is_some_and(|(as_of, target)| as_of >= newest && target > session) {
        let reason =
            format!("{newest} is archived and forecast already, and there has been no session since {session}");
        return Report { outcome: Outcome::NoNewSession(reason), effects: vec![Effect::RunSession(session)] };
    }
    let note = match &batch {
        None => format!("no request sent; the archive reaches {newest}"),
        Some(batch) => format!(
            "{fresh} new or changed of {} bars from {}, up to {newest}{}",
            batch.bars.len(),
            batch.source,
            refused(batch)
        ),
    };
    let mut effects = vec![Effect::RunSession(session)];
    effects.extend(batch.filter(|batch| !batch.bars.is_empty()).map(Effect::Stage));
    Report::done(note, effects)
}

fn differs(known: &[Bar], bar: &Bar) -> bool {
    known.binary_search_by_key(&bar.session, |b| b.session).map_or(true, |at| known[at] != *bar)
}

/// The first refused rows in words, so that a reader of the run sees what was wrong with the page.
fn refused(batch: &Batch) -> String {
    if batch.refused.is_empty() {
        return String::new();
    }
    let first: Vec<&str> = batch.refused.iter().take(3).map(String::as_str).collect();
    format!("; refused {} rows ({})", batch.refused.len(), first.join("; "))
}
