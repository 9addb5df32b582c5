//! Issuing a forecast: which session comes next, what a reader must be told, and the prediction itself. In come a model, a series and the
//! market's time, out goes what is stored and served; workers and the API say the same because both ask here.

use crate::{Ask, ForecastError, MarketReturns, Models, Predicted, predict};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Doubts, Exchange, Flag, MIN_CLOSES, Outlook, Series, next_session};

/// A forecast, the others beside it, and how they may be counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    /// What is served, and what the others say.
    pub predicted: Predicted,
    /// Its target session had opened already: it is served, flagged, and never counts in the record.
    pub hindcast: bool,
    /// When its target session opens: stored later than that it is hindsight too.
    pub opens_at: DateTime<Utc>,
}

/// How many of the newest sessions the week is learnt from where only the ticker's own are known.
const WEEK_FROM: usize = 40;

/// Forecasts the session after the newest bar, at the market's time `now`. A model that has seen sessions which this series lacks (its bars were
/// never archived) does not speak.
///
/// `session`: the newest that the exchange is known to have had; a thin ticker that did not trade in it has an older newest bar. `doubts`: what the
/// public record has against its models. `outlook`: what the exchange's calendar says of the days to come; without it the ticker's own sessions tell the week.
///
/// # Errors
/// Those of [`predict()`]; fewer than 16 closes is [`ForecastError::TooFewCloses`].
pub fn issue(
    models: Models<'_>,
    series: &Series,
    market: &MarketReturns,
    session: Option<NaiveDate>,
    now: DateTime<Utc>,
    doubts: &Doubts,
    outlook: Option<&Outlook>,
) -> Result<Issued, ForecastError> {
    let exchange = series.ticker().exchange();
    let observed: Vec<NaiveDate> = series.bars().iter().rev().take(WEEK_FROM).rev().map(|bar| bar.session).collect();
    let Some(as_of) = observed.last().copied() else {
        return Err(ForecastError::TooFewCloses { ticker: series.ticker().clone(), have: 0, need: MIN_CLOSES });
    };
    let newest = session.map_or(as_of, |session| session.max(as_of));
    let (target, target_basis) = match outlook {
        Some(outlook) => outlook.next_after(newest),
        None => next_session(exchange, newest, &observed),
    };
    let opens_at = opens_at(exchange, target);
    let hindcast = now >= opens_at;
    let flags = if hindcast { vec![Flag::StaleData] } else { Vec::new() };
    let models = Models {
        own: models.own.filter(|own| own.as_of() <= as_of),
        global: models.global.filter(|global| global.cutoff() <= as_of),
    };
    let ask = Ask { target, target_basis, issued_at: now, flags, doubts: doubts.clone() };
    Ok(Issued { predicted: predict(models, series, market, &ask)?, hindcast, opens_at })
}

/// The instant at which the session opens; from then on a forecast of it is hindsight.
pub fn opens_at(exchange: Exchange, session: NaiveDate) -> DateTime<Utc> {
    let local = session.and_time(exchange.opens());
    local.and_local_timezone(exchange.zone()).earliest().map_or_else(|| local.and_utc(), |t| t.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;
    use market::{Bar, Calendar, RawBar, TargetBasis, Ticker, Witness, Word};

    fn series(count: u64) -> Series {
        let monday: NaiveDate = "2024-01-01".parse().unwrap();
        let bars: Vec<Bar> = (0..count)
            .map(|n| monday + Days::new(n / 5 * 7 + n % 5))
            .map(|session| RawBar { session: Some(session), close: Some(100.0), ..RawBar::default() }.check().unwrap())
            .collect();
        Series::new(Ticker::parse("NASDAQ:AAPL").unwrap(), bars, vec![]).unwrap()
    }

    #[test]
    fn the_target_is_the_next_session_and_hindsight_is_said() {
        // 20 sessions end on Friday 2024-01-26; Monday opens at 09:30 in New York.
        let before = issue(
            Models::default(),
            &series(20),
            &MarketReturns::default(),
            None,
            "2024-01-29T14:29:59Z".parse().unwrap(),
            &Doubts::default(),
            None,
        )
        .unwrap();
        assert_eq!(before.predicted.served.target, "2024-01-29".parse::<NaiveDate>().unwrap());
        assert!(!before.hindcast && !before.predicted.served.flags.contains(&Flag::StaleData));
        let after = issue(
            Models::default(),
            &series(20),
            &MarketReturns::default(),
            None,
            "2024-01-29T14:30:00Z".parse().unwrap(),
            &Doubts::default(),
            None,
        )
        .unwrap();
        assert!(after.hindcast && after.predicted.served.flags.contains(&Flag::StaleData));
        assert_eq!(before.predicted.served.input_hash, after.predicted.served.input_hash);
    }

    #[test]
    fn a_day_that_is_known_to_be_closed_is_no_target() {
        // 30 sessions end on Friday 2024-02-09.
        let series = series(30);
        let seen = || series.bars().iter().map(|bar| bar.session);
        let closed = Word {
            session: "2024-02-12".parse().unwrap(),
            open: false,
            by: Witness::Operator,
            why: "a storm".to_owned(),
        };
        let now = "2024-02-10T12:00:00Z".parse().unwrap();
        let target = |words: Vec<Word>| {
            let outlook = Calendar::new(Exchange::Nasdaq, seen(), words).outlook(series.last_session().unwrap());
            let models = Models::default();
            let market = MarketReturns::default();
            let issued = issue(models, &series, &market, None, now, &Doubts::default(), Some(&outlook)).unwrap();
            (issued.predicted.served.target.to_string(), issued.predicted.served.target_basis)
        };
        assert_eq!(target(vec![]), ("2024-02-12".to_owned(), TargetBasis::CalendarHint));
        assert_eq!(target(vec![closed]), ("2024-02-13".to_owned(), TargetBasis::Operator));
    }

    #[test]
    fn too_few_closes_are_told() {
        for count in [0, 1, 15] {
            let refused = issue(
                Models::default(),
                &series(count),
                &MarketReturns::default(),
                None,
                "2024-01-29T12:00:00Z".parse().unwrap(),
                &Doubts::default(),
                None,
            );
            assert!(matches!(refused, Err(ForecastError::TooFewCloses { need: MIN_CLOSES, .. })), "{count}");
        }
    }
}
