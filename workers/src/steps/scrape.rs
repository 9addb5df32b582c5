//! Scrape: asks the exchange's sources in order for what is new, and stages it. In comes the newest archived bars, out goes a batch, or the
//! word that there has been no new session.

use super::judged::{self, Sifted};
use super::{Workshop, store_failed};
use crate::sources::{Ask, Retry, SourceError, SourceErrorKind};
use async_trait::async_trait;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use market::{Bar, Batch, DayState, Series, TargetBasis, is_final};
use std::sync::Arc;
use std::time::Duration;
use workflows::db::StoreResult;
use workflows::ledger::{self, Claim};
use workflows::stores::{archive, forecasts, market_days, quarantine, sessions};
use workflows::{Attempt, Effect, Outcome, Report, StepBody};

/// How many archived bars a source is shown, to check that it speaks of the same security.
const OVERLAP: usize = 10;

pub(super) struct Scrape(pub Arc<Workshop>);

#[async_trait]
impl StepBody for Scrape {
    async fn run(&self, attempt: &Attempt) -> Report {
        let claim = &attempt.claim;
        let db = &self.0.stores.db;
        let archived = match archive::series(db, claim.ticker()).await {
            Ok(series) => series,
            Err(error) => return store_failed(&error),
        };
        let now = self.0.engine.market_clock.now();
        let came = if claim.offline || self.0.offline {
            None
        } else {
            let fetched = tokio::select! {
                fetched = self.fetch(claim, archived.as_ref(), now) => fetched,
                () = attempt.cancel.cancelled() => return Report::interrupted(),
            };
            let sifted = match fetched {
                Ok(Fetched::Batch(batch)) => self.sift(only_final(batch, now), archived.as_ref(), now).await,
                Ok(Fetched::Another { source, why }) => Ok(judged::refused(claim.ticker(), &source, why, now)),
                Err(report) => return report,
            };
            match sifted {
                Ok(sifted) => Some(sifted),
                Err(error) => return store_failed(&error),
            }
        };
        let forecast = match self.standing_forecast(claim, now).await {
            Ok(latest) => latest,
            Err(error) => return store_failed(&error),
        };
        answer(claim, archived.as_ref(), came, forecast, now)
    }
}

/// What the sources had to say.
enum Fetched {
    /// Rows.
    Batch(Batch),
    /// That they know another security by this name, with archived closes to tell it by.
    Another { source: String, why: String },
}

impl Scrape {
    async fn sift(&self, batch: Batch, archived: Option<&Series>, now: DateTime<Utc>) -> StoreResult<Sifted> {
        let db = &self.0.stores.db;
        let standing = quarantine::standing(db, &batch.ticker).await?;
        // From the bar on which the batch follows.
        let known = archived.map(Series::bars).unwrap_or_default();
        let first = batch.bars.first().map_or(now.date_naive(), |bar| bar.session);
        let since = known.iter().rfind(|bar| bar.session < first).map_or(first, |bar| bar.session);
        let sessions = archive::observed_sessions(db, batch.ticker.exchange(), since).await?;
        Ok(judged::sift(batch, archived, &sessions, &standing, now))
    }

    /// As-of and target of the newest forecast of a run. One whose target is known by now to be no session stands no longer, while the next session can
    /// still be forecast in time.
    async fn standing_forecast(
        &self,
        claim: &Claim,
        now: DateTime<Utc>,
    ) -> StoreResult<Option<(NaiveDate, NaiveDate)>> {
        let (db, exchange) = (&self.0.stores.db, claim.ticker().exchange());
        let Some((as_of, target)) = forecasts::latest_of_a_run(db, claim.ticker()).await? else { return Ok(None) };
        let calendar = sessions::calendar(db, exchange, as_of).await?;
        let day = calendar.day(target);
        let newest = calendar.newest().map_or(as_of, |newest| newest.max(as_of));
        let (next, _) = calendar.outlook(newest).next_after(newest);
        let known_closed = day.state == DayState::Closed && day.basis <= TargetBasis::Observed;
        let replaced = known_closed && now < forecast::opens_at(exchange, next);
        Ok((!replaced).then_some((as_of, target)))
    }

    /// The first source that answers; else a report made of what all of them said.
    async fn fetch(&self, claim: &Claim, archived: Option<&Series>, now: DateTime<Utc>) -> Result<Fetched, Report> {
        let bars = archived.map(Series::bars).unwrap_or_default();
        let ask = Ask {
            ticker: claim.ticker().clone(),
            known: bars[bars.len().saturating_sub(OVERLAP)..].to_vec(),
            now,
            history_from: now.date_naive() - Days::new(self.0.history_days),
        };
        let paused = match ledger::paused(&self.0.stores.db).await {
            Ok(paused) => paused,
            Err(error) => return Err(store_failed(&error)),
        };
        let (mut failures, mut held_up) = (Vec::new(), None);
        for source in self.0.sources.for_exchange(claim.ticker().exchange()) {
            if paused.iter().any(|pause| pause.kind == "source" && pause.value == source.id()) {
                held_up = Some(source.id().to_owned());
                continue;
            }
            let error = match source.fetch(&ask).await {
                Ok(batch) => return Ok(Fetched::Batch(batch)),
                Err(error) => error,
            };
            match error.retry() {
                // It was not asked: nothing failed.
                Retry::Wait(_) => tracing::debug!(source = source.id(), %error, "a source must wait"),
                _ => tracing::warn!(source = source.id(), %error, "a source failed"),
            }
            let its_turn_comes = error.kind.waits_for_its_turn();
            failures.push((source.id().to_owned(), error));
            if its_turn_comes {
                break;
            }
        }
        if let Some(another) = another(&failures).filter(|_| !bars.is_empty() && held_up.is_none()) {
            return Ok(another);
        }
        let now = self.0.engine.ledger.now();
        Err(match held_up {
            Some(source) if failures.is_empty() => {
                let condition = Some(format!("pause:source:{source}"));
                Report::wait(format!("the source {source} is paused"), condition, now + PAUSED_AT_MOST)
            }
            _ => all_failed(claim, &failures, now),
        })
    }
}

/// The first source that speaks of another security, where no other may still answer.
fn another(failures: &[(String, SourceError)]) -> Option<Fetched> {
    let heals = |(_, error): &(String, SourceError)| !matches!(error.retry(), Retry::Never);
    let of_another = |(source, error): &(String, SourceError)| {
        let named = matches!(error.kind, SourceErrorKind::Identity { .. });
        named.then(|| Fetched::Another { source: source.clone(), why: error.to_string() })
    };
    if failures.iter().any(heals) { None } else { failures.iter().find_map(of_another) }
}

/// A resume ends the wait; this is for the case that nobody ever does.
const PAUSED_AT_MOST: TimeDelta = TimeDelta::days(30);

/// What all sources said, as one failure. It may heal if any of them may; the plan knows which kinds do. Where nobody was asked, it is no
/// failure: the run gives its slot back until the first may be.
fn all_failed(claim: &Claim, failures: &[(String, SourceError)], now: DateTime<Utc>) -> Report {
    let Some((_, last)) = failures.last() else {
        return Report::give_up(format!("no source is configured for {}", claim.ticker().exchange()));
    };
    let said: Vec<String> = failures.iter().map(|(source, error)| format!("{source}: {error}")).collect();
    let said = said.join("; ");
    let (mut later, mut turn): (Option<(&'static str, Option<Duration>)>, Option<Duration>) = (None, None);
    for (_, error) in failures {
        match error.retry() {
            Retry::Wait(wait) => turn = Some(turn.map_or(wait, |turn| turn.min(wait))),
            Retry::Later(wait) => later = Some((error.kind.word(), later.and_then(|(_, after)| after).max(wait))),
            Retry::Never => {}
        }
    }
    match (later, turn) {
        (Some((kind, after)), _) => Report::retry(kind, said, after),
        (None, Some(turn)) => Report::wait(said, None, now + TimeDelta::from_std(turn).unwrap_or(TimeDelta::hours(1))),
        (None, None) => Report::retry(last.kind.word(), said, None),
    }
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
    came: Option<Sifted>,
    forecast: Option<(NaiveDate, NaiveDate)>,
    now: DateTime<Utc>,
) -> Report {
    let asked = came.is_some();
    let Sifted { batch, effects: aside, said } = came.unwrap_or_default();
    let known = archived.map(Series::bars).unwrap_or_default();
    let fresh = batch.as_ref().map_or(0, |batch| batch.bars.iter().filter(|bar| differs(known, bar)).count());
    let staged_last = batch.as_ref().and_then(|batch| batch.bars.last()).map(|bar| bar.session);
    let newest = known.last().map(|bar| bar.session).max(staged_last);
    let Some(newest) = newest else {
        let why = match &batch {
            None if asked => format!("{} has no archived closes to go on with: {said}", claim.ticker()),
            None => format!(
                "{} has no archived closes, and this run sends no request: import prices, or run it online",
                claim.ticker()
            ),
            Some(batch) => {
                format!(
                    "{} answered, but gave no sound bar of {}{}{}",
                    batch.source,
                    claim.ticker(),
                    refused(batch),
                    after(&said)
                )
            }
        };
        return Report::give_up(why);
    };
    // The session is the exchange's: a thin ticker that did not trade in it has an older newest bar.
    let page = batch
        .as_ref()
        .and_then(|batch| batch.page_session)
        .filter(|day| is_final(claim.ticker().exchange(), *day, now));
    let session = page.map_or(newest, |page| page.max(newest));
    // As-of and target of the newest forecast: it must know every close, and look beyond the exchange's newest session.
    if fresh == 0 && forecast.is_some_and(|(as_of, target)| as_of >= newest && target > session) {
        let reason = format!(
            "{newest} is archived and forecast already, and there has been no session since {session}{}",
            after(&said)
        );
        let effects = [Effect::RunSession(session)].into_iter().chain(aside).collect();
        return Report { outcome: Outcome::NoNewSession(reason), effects };
    }
    let note = match &batch {
        None if asked => format!("{said}; nothing of it is kept, the archive reaches {newest}"),
        None => format!("no request sent; the archive reaches {newest}"),
        Some(batch) => format!(
            "{fresh} new or changed of {} bars from {}, up to {newest}{}{}",
            batch.bars.len(),
            batch.source,
            refused(batch),
            after(&said)
        ),
    };
    let mut effects = vec![Effect::RunSession(session)];
    if asked && batch.is_none() {
        effects.push(Effect::Remark(note.clone()));
    }
    effects.extend(aside);
    effects.extend(batch.as_ref().and_then(|batch| seen(archived, batch, session)));
    effects.extend(batch.filter(|batch| !batch.bars.is_empty()).map(Effect::Stage));
    Report::done(note, effects)
}

/// What the ticker adds to the market's return of its newest sessions, also that it did not trade in `session`; those that are complete already
/// ignore it.
fn seen(archived: Option<&Series>, batch: &Batch, session: NaiveDate) -> Option<Effect> {
    let series = match archived {
        Some(archived) => archived.with(&batch.bars, &batch.factors),
        None => Series::new(batch.ticker.clone(), batch.bars.clone(), batch.factors.clone()).ok()?,
    };
    let changes = market::changes(&series, market_days::REPORTED);
    let idle = (series.last_session()? < session).then_some((session, None));
    Some(Effect::Seen(changes.into_iter().map(|(session, change)| (session, Some(change))).chain(idle).collect()))
}

fn differs(known: &[Bar], bar: &Bar) -> bool {
    known.binary_search_by_key(&bar.session, |b| b.session).map_or(true, |at| known[at] != *bar)
}

/// What is said after something else.
fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; {said}") }
}

/// The first refused rows in words, so that a reader of the run sees what was wrong with the page.
fn refused(batch: &Batch) -> String {
    if batch.refused.is_empty() {
        return String::new();
    }
    let first: Vec<&str> = batch.refused.iter().take(3).map(String::as_str).collect();
    format!("; refused {} rows ({})", batch.refused.len(), first.join("; "))
}
