//! Settle: lays an exchange's forecasts beside the closes that have come, and looks whether the record is alarming. In come forecasts without a
//! score, out go scores, the reasons of those that get none, and changes of alarms.

use super::{Workshop, store_failed};
use async_trait::async_trait;
use chrono::NaiveDate;
use forecast::{ALARM_SESSIONS, Settled, Since, UNSCORED_AFTER, alarms_of, alarms_of_exchange, settle};
use market::{AlarmKind, Exchange, MadeBy, Scored, Sums, Ticker};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;
use workflows::db::StoreResult;
use workflows::stores::alarms::{self, About, Alarm, Changes, NewAlarm};
use workflows::stores::record::{self, Known, Line, NewScore, Settlement, Unscored, Unsettled};
use workflows::stores::skill;
use workflows::{Attempt, Db, Effect, Report, StepBody};

pub(super) struct Settle(pub Arc<Workshop>);

/// Forecasts in one settlement; what is left is found by the next.
const AT_ONCE: i64 = 20_000;

#[async_trait]
impl StepBody for Settle {
    async fn run(&self, attempt: &Attempt) -> Report {
        let Some(exchange) = attempt.claim.subject.exchange() else {
            return Report::give_up("a settlement is about an exchange");
        };
        match settlement(&self.0.stores.db, exchange, attempt.claim.session).await {
            Ok(None) => Report::skip("no forecast without a score has a close by now", vec![]),
            Ok(Some(settlement)) => {
                let note = format!(
                    "{exchange}: {} forecasts scored, {} without a close to score by, {} alarms hold",
                    settlement.scores.len(),
                    settlement.unscored.len(),
                    settlement.alarms.hold.len()
                );
                Report::done(note, vec![Effect::Settled(Box::new(settlement))])
            }
            Err(error) => store_failed(&error),
        }
    }
}

/// What is to be written; `None` when there is nothing.
async fn settlement(db: &Db, exchange: Exchange, newest: NaiveDate) -> StoreResult<Option<Settlement>> {
    let unsettled = record::unsettled(db, exchange, newest, AT_ONCE).await?;
    let Some(first) = unsettled.iter().map(|one| one.stored.forecast.as_of).min() else { return Ok(None) };
    let sessions = record::sessions(db, exchange, first).await?;
    let open: Vec<Alarm> = alarms::open_in(db, exchange).await?;
    let mut whole = Settlement { exchange, scores: vec![], unscored: vec![], alarms: Changes::default() };
    let mut held = BTreeSet::new();
    let mut looked_at = BTreeSet::new();
    for of_ticker in unsettled.chunk_by(|a, b| a.stored.forecast.ticker == b.stored.forecast.ticker) {
        let Some(ticker) = of_ticker.first().map(|one| one.stored.forecast.ticker.clone()) else { continue };
        let since = of_ticker.iter().map(|one| one.stored.forecast.as_of).min().unwrap_or(first);
        let settled = judge(of_ticker, &sessions, &record::since(db, &ticker, since).await?);
        let late = settled.latest > UNSCORED_AFTER;
        if late || !settled.scores.is_empty() || !settled.unscored.is_empty() {
            for alarm in alarming(db, &ticker, &settled, newest).await? {
                held.insert(alarm.about.clone());
                whole.alarms.hold.push(alarm);
            }
            looked_at.insert(Some(ticker));
        }
        whole.scores.extend(settled.scores);
        whole.unscored.extend(settled.unscored);
    }
    if whole.scores.is_empty() && whole.unscored.is_empty() && whole.alarms.hold.is_empty() {
        return Ok(None);
    }
    for alarm in alarming_exchange(db, exchange, &whole.scores, newest).await? {
        held.insert(alarm.about.clone());
        whole.alarms.hold.push(alarm);
    }
    looked_at.insert(None);
    let known: BTreeSet<&About> = open.iter().map(|alarm| &alarm.alarm.about).collect();
    for NewAlarm { about, detail, .. } in whole.alarms.hold.iter().filter(|alarm| !known.contains(&alarm.about)) {
        let ticker = about.ticker.as_ref().map(Ticker::symbol);
        tracing::warn!(%exchange, ticker, line = about.line, kind = %about.kind, detail, "an alarm of the public record is raised");
    }
    // That no session comes is not seen here, but where sessions are looked for.
    let ours = |about: &About| about.kind != AlarmKind::NoSession && looked_at.contains(&about.ticker);
    let gone = open.into_iter().map(|alarm| alarm.alarm.about);
    whole.alarms.cleared = gone.filter(|about| ours(about) && !held.contains(about)).collect();
    Ok(Some(whole))
}

/// What becomes of a ticker's forecasts.
#[derive(Debug, Default)]
struct OfTicker {
    scores: Vec<NewScore>,
    unscored: Vec<(Uuid, Unscored)>,
    /// For how many sessions the oldest of those that wait has been waiting.
    latest: usize,
}

/// Scores a ticker's forecasts, in order of storing. Of several that one line of models made of the same session the last counts, and of those
/// that were served the last was served.
fn judge(forecasts: &[Unsettled], sessions: &[NaiveDate], known: &Known) -> OfTicker {
    let mut of = OfTicker::default();
    let mut last_of_line: BTreeMap<(NaiveDate, bool, &'static str), usize> = BTreeMap::new();
    let mut last_served: BTreeMap<(NaiveDate, bool), usize> = BTreeMap::new();
    for Unsettled { stored, served, scored } in forecasts {
        let from = |all: &[NaiveDate]| all.partition_point(|session| *session <= stored.forecast.as_of);
        let since = Since {
            sessions: &sessions[from(sessions)..],
            closes: &known.closes[known.closes.partition_point(|(session, _)| *session <= stored.forecast.as_of)..],
            factors: &known.factors,
            level: known.level_since(stored.stored_at),
        };
        let row = match settle(&stored.forecast, stored.hindcast, &since) {
            Settled::Scored(row) => row,
            Settled::NotTraded => {
                of.unscored.push((stored.id, Unscored::NotTraded));
                continue;
            }
            Settled::NoClose => {
                of.unscored.push((stored.id, Unscored::NoClose));
                continue;
            }
            Settled::NotYet { sessions_late } => {
                of.latest = of.latest.max(sessions_late);
                continue;
            }
        };
        let made_by = stored.forecast.made_by.as_str();
        let mut score = NewScore {
            forecast: stored.id,
            revision: 0,
            ticker: stored.forecast.ticker.clone(),
            made_by,
            served: *served,
            hindcast: stored.hindcast,
            scored: row,
        };
        if let Some(counted) = scored {
            // Scored once, it keeps its standing; only the close has changed.
            of.scores.push(NewScore { revision: counted.revision + 1, served: counted.served, ..score });
            continue;
        }
        let at = of.scores.len();
        if *served && let Some(before) = last_served.insert((row.session, stored.hindcast), at) {
            of.scores[before].served = false;
            // The baseline has its record in every row; as a line of its own it counts only where it was served.
            if of.scores[before].made_by == MadeBy::Baseline.as_str() {
                of.unscored.push((of.scores[before].forecast, Unscored::Superseded));
            }
        }
        if let Some(before) = last_of_line.insert((row.session, stored.hindcast, made_by), at) {
            of.unscored.push((of.scores[before].forecast, Unscored::Superseded));
        }
        score.served = *served;
        of.scores.push(score);
    }
    let superseded: BTreeSet<Uuid> =
        of.unscored.iter().filter(|(_, why)| *why == Unscored::Superseded).map(|(id, _)| *id).collect();
    of.unscored.sort_unstable_by_key(|(id, _)| *id);
    of.unscored.dedup_by_key(|(id, _)| *id);
    of.scores.retain(|score| !superseded.contains(&score.forecast));
    of
}

/// The ticker's alarms once its new scores count.
async fn alarming(db: &Db, ticker: &Ticker, settled: &OfTicker, newest: NaiveDate) -> StoreResult<Vec<NewAlarm>> {
    let exchange = ticker.exchange();
    let mut alarms = vec![];
    let mut raise = |line: &str, kind: AlarmKind, detail: String| {
        let about = About { exchange, ticker: Some(ticker.clone()), line: line.to_owned(), kind };
        alarms.push(NewAlarm { about, detail, session: newest });
    };
    if settled.latest > UNSCORED_AFTER {
        let why = format!("a forecast has waited for its close for {} sessions", settled.latest);
        raise("", AlarmKind::Unscored, why);
    }
    for line in Line::ALL {
        let rows = with_new(skill::newest(db, ticker, line, ALARM_SESSIONS as i64).await?, line, &settled.scores);
        // Of what was not served only what decides whether it may be served matters.
        let matters = |kind| line == Line::Served || matches!(kind, AlarmKind::IntervalsWorse | AlarmKind::PointsWorse);
        for (kind, detail) in alarms_of(&rows).into_iter().filter(|(kind, _)| matters(*kind)) {
            raise(line.as_str(), kind, detail);
        }
    }
    Ok(alarms)
}

/// Stored rows with the new ones laid over them, newest first.
fn with_new(stored: Vec<Scored>, line: Line, new: &[NewScore]) -> Vec<Scored> {
    let mut by_session: BTreeMap<NaiveDate, Scored> = stored.into_iter().map(|row| (row.session, row)).collect();
    by_session.extend(new.iter().filter(|score| counts(score, line)).map(|score| (score.scored.session, score.scored)));
    by_session.into_values().rev().collect()
}

fn counts(score: &NewScore, line: Line) -> bool {
    !score.hindcast && if line == Line::Served { score.served } else { score.made_by == line.as_str() }
}

/// The exchange's own alarms. A session whose scores are only now coming in is judged by what is there.
async fn alarming_exchange(
    db: &Db,
    exchange: Exchange,
    new: &[NewScore],
    newest: NaiveDate,
) -> StoreResult<Vec<NewAlarm>> {
    let stored = skill::days(db, exchange, Line::Served, ALARM_SESSIONS as i64).await?;
    let mut days: BTreeMap<NaiveDate, Sums> = stored.into_iter().collect();
    for score in new.iter().filter(|score| score.revision == 0 && counts(score, Line::Served)) {
        days.entry(score.scored.session).or_default().add(&score.scored);
    }
    let days: Vec<Sums> = days.into_values().rev().collect();
    let raise = |(kind, detail)| {
        let about = About { exchange, ticker: None, line: Line::Served.as_str().to_owned(), kind };
        NewAlarm { about, detail, session: newest }
    };
    Ok(alarms_of_exchange(&days).into_iter().map(raise).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Days, Utc};
    use market::{Bar, Doubts, RawBar, Series};
    use workflows::stores::forecasts::StoredForecast;

    const FRIDAY: &str = "2024-02-23";

    /// The baseline's forecast of Monday 2024-02-26, as if `made_by` had said it.
    fn stored(made_by: MadeBy, at: u128, served: bool) -> Unsettled {
        let last: NaiveDate = FRIDAY.parse().unwrap();
        let bars: Vec<Bar> = (0..40u64)
            .rev()
            .map(|n| last - Days::new(n / 5 * 7 + n % 5))
            .map(|session| RawBar { session: Some(session), close: Some(100.0), ..RawBar::default() }.check().unwrap())
            .collect();
        let series = Series::new(Ticker::parse("NASDAQ:AAPL").unwrap(), bars, vec![]).unwrap();
        let now: DateTime<Utc> = "2024-02-24T12:00:00Z".parse().unwrap();
        let issued = forecast::issue(
            forecast::Models::default(),
            &series,
            &forecast::MarketReturns::default(),
            None,
            now,
            &Doubts::default(),
            None,
        )
        .unwrap();
        let mut forecast = issued.predicted.served;
        forecast.made_by = made_by;
        let stored = StoredForecast { id: Uuid::from_u128(at), ..StoredForecast::unstored(forecast, false, now) };
        Unsettled { stored, served, scored: None }
    }

    fn closes(of: &[(NaiveDate, f64)]) -> Known {
        Known { closes: of.to_vec(), ..Known::default() }
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn of_several_forecasts_of_a_session_the_last_of_each_line_counts() {
        let all = [
            stored(MadeBy::Baseline, 1, true),
            stored(MadeBy::Global, 2, true),
            stored(MadeBy::Own, 3, false),
            stored(MadeBy::Global, 4, true),
        ];
        let monday = day("2024-02-26");
        let of = judge(&all, &[monday], &closes(&[(monday, 101.0)]));
        let counted: Vec<(u128, bool)> = of.scores.iter().map(|s| (s.forecast.as_u128(), s.served)).collect();
        assert_eq!(counted, [(3, false), (4, true)]);
        let superseded: Vec<u128> = of.unscored.iter().map(|(id, _)| id.as_u128()).collect();
        assert_eq!(superseded, [1, 2]);
        assert!(of.unscored.iter().all(|(_, why)| *why == Unscored::Superseded));
    }

    #[test]
    fn a_revised_close_is_another_revision_with_the_same_standing() {
        let again = Unsettled {
            scored: Some(record::Counted { revision: 2, served: false }),
            ..stored(MadeBy::Global, 1, true)
        };
        let monday = day("2024-02-26");
        let of = judge(&[again], &[monday], &closes(&[(monday, 102.0)]));
        assert_eq!((of.scores[0].revision, of.scores[0].served, of.scores[0].scored.close), (3, false, 102.0));
    }

    #[test]
    fn a_split_that_restates_the_history_is_no_error() {
        let monday = day("2024-02-26");
        let before = stored(MadeBy::Global, 1, true);
        let split = (before.stored.stored_at + chrono::TimeDelta::days(2), 0.5);
        let known = Known { restated: vec![split], ..closes(&[(monday, 50.0)]) };
        let of = judge(&[before], &[monday], &known);
        assert_eq!((of.scores[0].scored.error, of.scores[0].scored.scale), (0.0, 0.5));
        assert_eq!(known.level_since(split.0), 1.0, "what was stored afterwards stands on the new level");
    }

    #[test]
    fn a_close_that_does_not_come_is_waited_for_and_told() {
        let sessions: Vec<NaiveDate> = ["2024-02-26", "2024-02-27", "2024-02-28"].map(day).to_vec();
        let of = judge(&[stored(MadeBy::Global, 1, true)], &sessions, &Known::default());
        assert!(of.scores.is_empty() && of.unscored.is_empty());
        assert_eq!(of.latest, 2);
        let thin = judge(&[stored(MadeBy::Global, 1, true)], &sessions, &closes(&[(sessions[1], 101.0)]));
        assert_eq!(thin.unscored, [(Uuid::from_u128(1), Unscored::NotTraded)]);
    }

    #[test]
    fn new_scores_lie_over_the_stored_ones() {
        let monday = day("2024-02-26");
        let of = judge(&[stored(MadeBy::Global, 1, true)], &[monday], &closes(&[(monday, 101.0)]));
        let old = Scored { close: 99.0, ..of.scores[0].scored };
        let before = Scored { session: day(FRIDAY), ..old };
        let rows = with_new(vec![old, before], Line::Served, &of.scores);
        assert_eq!(
            rows.iter().map(|row| (row.session, row.close)).collect::<Vec<_>>(),
            [(monday, 101.0), (day(FRIDAY), 99.0)]
        );
        assert_eq!(with_new(vec![old], Line::Own, &of.scores)[0].close, 99.0);
    }
}
