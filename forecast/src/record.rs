//! One stored forecast beside what came: in come the forecast, the exchange's sessions and the ticker's closes since, out goes a row of the record, or
//! why there is none.

use crate::{
    evaluate::{Said, holds, wis},
    issue::opens_at,
    student,
    track::NORMAL,
};
use chrono::NaiveDate;
use market::{Factor, Forecast, Scored};

/// A forecast whose session has been over for so many others without a close of its ticker is given up.
pub const GIVEN_UP_AFTER: usize = 20;
/// Points this near to the reference price, relative to it, claim no direction; the project's scorer has the same.
const NO_CALL: f64 = 1e-5;

/// What is known since a forecast was made.
#[derive(Debug, Clone, Copy)]
pub struct Since<'a> {
    /// The exchange's observed sessions after the forecast's as-of, oldest first.
    pub sessions: &'a [NaiveDate],
    /// The ticker's closes after it, oldest first.
    pub closes: &'a [(NaiveDate, f64)],
    /// The ticker's corporate actions, as known today.
    pub factors: &'a [Factor],
    /// Today's level of prices ÷ that of the forecast's last close; not 1 when the whole history was restated since, as for a split.
    pub level: f64,
}

/// What becomes of a forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Settled {
    /// Its session has not come, or its close is not known yet: ask again.
    NotYet {
        /// Sessions that the exchange has had since the one forecast.
        sessions_late: usize,
    },
    /// The ticker did not trade in that session.
    NotTraded,
    /// No close was ever seen.
    NoClose,
    /// It is scored.
    Scored(Scored),
}

/// Lays a forecast beside what came. A target that turned out to be no session counts for the next one; a session that nobody expected counts as
/// the target when it opened after the forecast was issued.
pub fn settle(forecast: &Forecast, hindcast: bool, since: &Since<'_>) -> Settled {
    let exchange = forecast.ticker.exchange();
    let aims_at = |session: &NaiveDate| {
        *session > forecast.as_of
            && if hindcast { *session >= forecast.target } else { opens_at(exchange, *session) > forecast.issued_at }
    };
    let Some(at) = since.sessions.iter().position(aims_at) else { return Settled::NotYet { sessions_late: 0 } };
    let (session, sessions_late) = (since.sessions[at], since.sessions.len() - 1 - at);
    match since.closes.iter().find(|(of, _)| *of >= session) {
        Some((of, close)) if *of == session => Settled::Scored(score(forecast, session, *close, since)),
        Some(_) => Settled::NotTraded,
        None if sessions_late >= GIVEN_UP_AFTER => Settled::NoClose,
        None => Settled::NotYet { sessions_late },
    }
}

fn score(forecast: &Forecast, session: NaiveDate, close: f64, since: &Since<'_>) -> Scored {
    let due = since.factors.iter().filter(|f| f.session > forecast.as_of && f.session <= session);
    let reference = forecast.last_close * since.level * due.map(|f| f.factor).product::<f64>();
    // Announced actions are in both; what is left is rounding to four decimals.
    let scale = reference / forecast.reference_price;
    scored_at(forecast, session, close, if (scale - 1.0).abs() < 1e-4 { 1.0 } else { scale })
}

/// Scores a forecast by a close. `scale`: reference price of that session ÷ the one that the forecast knew, 1 unless an action came unannounced.
pub fn scored_at(forecast: &Forecast, session: NaiveDate, close: f64, scale: f64) -> Scored {
    let reference = forecast.reference_price * scale;
    let said = |point: f64, of80: market::Interval, of95: market::Interval| {
        let scaled = |i: market::Interval| market::Interval { lo: i.lo * scale, hi: i.hi * scale };
        Said { point: point * scale, interval80: scaled(of80), interval95: scaled(of95) }
    };
    let ours = said(forecast.point, forecast.interval80, forecast.interval95);
    let naive = |baseline: &market::Baseline| said(baseline.point, baseline.interval80, baseline.interval95);
    let sign = |change: f64| if change > 0.0 { 1 } else { -i64::from(change < 0.0) };
    let call = match forecast.p_up {
        Some(p_up) => sign(p_up - 0.5),
        None if (ours.point - reference).abs() > NO_CALL * reference => sign(ours.point - reference),
        None => 0,
    };
    Scored {
        session,
        close,
        reference,
        scale,
        error: (close - ours.point) / reference,
        naive_error: (close - reference) / reference,
        wis: wis(&ours, close) / reference,
        wis_ewma: wis(&naive(&forecast.baseline), close) / reference,
        wis_eq: forecast.empirical.as_ref().map(|empirical| wis(&naive(empirical), close) / reference),
        in80: holds(&ours.interval80, close),
        in95: holds(&ours.interval95, close),
        pit: pit(&ours, close),
        call,
        came: sign(close - reference),
    }
}

/// Where `close` lies in the distribution that the five quantiles stand for, 0 to 1. Between them, and beyond, it is taken to be bent like the normal one:
/// straight lines would see humps where there are none.
fn pit(said: &Said, close: f64) -> f64 {
    let knots = [
        (said.interval95.lo, -NORMAL.1),
        (said.interval80.lo, -NORMAL.0),
        (said.point, 0.0),
        (said.interval80.hi, NORMAL.0),
        (said.interval95.hi, NORMAL.1),
    ];
    let last = knots.len() - 2;
    let at = knots.windows(2).position(|pair| close <= pair[1].0).unwrap_or(last);
    let [(low, below), (high, above)] = [knots[at], knots[at + 1]];
    let part = if high > low { (close - low) / (high - low) } else { 0.5 };
    student::normal_cdf(below + part * (above - below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Issued, MarketReturns, Models, issue};
    use market::{Doubts, RawBar, Series, Ticker};

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// 40 closes that alternate, the last on Friday 2024-02-23; issued on Saturday for Monday 2024-02-26.
    fn forecast() -> Forecast {
        let monday = day("2024-01-01");
        let bars = (0..40u64)
            .map(|n| (monday + chrono::Days::new(n / 5 * 7 + n % 5), 100.0 + (n % 2) as f64))
            .map(|(session, close)| {
                RawBar { session: Some(session), close: Some(close), ..RawBar::default() }.check().unwrap()
            })
            .collect();
        let series = Series::new(Ticker::parse("NASDAQ:AAPL").unwrap(), bars, vec![]).unwrap();
        let now = "2024-02-24T12:00:00Z".parse().unwrap();
        let Issued { predicted, hindcast, .. } =
            issue(Models::default(), &series, &MarketReturns::default(), None, now, &Doubts::default(), None).unwrap();
        assert!(!hindcast);
        predicted.served
    }

    fn after(forecast: &Forecast, sessions: &[&str], closes: &[(&str, f64)], factors: &[(&str, f64)]) -> Settled {
        let sessions: Vec<NaiveDate> = sessions.iter().map(|d| day(d)).collect();
        let closes: Vec<(NaiveDate, f64)> = closes.iter().map(|(d, close)| (day(d), *close)).collect();
        let factors: Vec<Factor> =
            factors.iter().map(|(d, factor)| Factor { session: day(d), factor: *factor }).collect();
        settle(forecast, false, &Since { sessions: &sessions, closes: &closes, factors: &factors, level: 1.0 })
    }

    #[test]
    fn a_close_is_scored_and_its_absence_has_a_reason() {
        let forecast = forecast();
        assert_eq!(forecast.target, day("2024-02-26"));
        assert_eq!(after(&forecast, &[], &[], &[]), Settled::NotYet { sessions_late: 0 });
        let late = after(&forecast, &["2024-02-26", "2024-02-27"], &[], &[]);
        assert_eq!(late, Settled::NotYet { sessions_late: 1 });
        let thin = after(&forecast, &["2024-02-26", "2024-02-27"], &[("2024-02-27", 101.0)], &[]);
        assert_eq!(thin, Settled::NotTraded);
        let Settled::Scored(row) = after(&forecast, &["2024-02-26"], &[("2024-02-26", 102.01)], &[]) else { panic!() };
        assert_eq!((row.session, row.close, row.reference, row.scale), (day("2024-02-26"), 102.01, 101.0, 1.0));
        assert!((row.error - 0.01).abs() < 1e-12 && row.error == row.naive_error && row.wis == row.wis_ewma);
        assert_eq!((row.call, row.came), (0, 1));
        assert!(row.pit > 0.5 && row.pit < 1.0);
        let gone: Vec<String> = (0..21).map(|n| (day("2024-02-26") + chrono::Days::new(n)).to_string()).collect();
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        assert_eq!(after(&forecast, &gone, &[], &[]), Settled::NoClose);
    }

    #[test]
    fn the_place_of_a_close_is_read_off_the_quantiles() {
        let interval = |d: f64| market::Interval { lo: 100.0 - d, hi: 100.0 + d };
        let said = Said { point: 100.0, interval80: interval(1.281_551_6), interval95: interval(1.959_964) };
        for (close, place) in
            [(100.0, 0.5), (98.718_448_4, 0.1), (101.959_964, 0.975), (100.674_489_8, 0.75), (97.0, 0.001_349_9)]
        {
            assert!((pit(&said, close) - place).abs() < 1e-6, "{close}: {}", pit(&said, close));
        }
        let nothing = Said { point: 100.0, interval80: interval(0.0), interval95: interval(0.0) };
        assert!((0.0..=1.0).contains(&pit(&nothing, 100.0)) && (0.0..=1.0).contains(&pit(&nothing, 120.0)));
    }

    #[test]
    fn the_session_is_the_first_that_opened_after_it_was_issued() {
        let forecast = forecast();
        let session = |settled| match settled {
            Settled::Scored(row) => row.session,
            other => panic!("{other:?}"),
        };
        // Monday turned out to be a holiday.
        let closed = after(&forecast, &["2024-02-27"], &[("2024-02-27", 101.0)], &[]);
        assert_eq!(session(closed), day("2024-02-27"));
        // A session on Sunday that nobody expected.
        let sunday = [("2024-02-25", 100.5), ("2024-02-26", 101.0)];
        assert_eq!(session(after(&forecast, &["2024-02-25", "2024-02-26"], &sunday, &[])), day("2024-02-25"));
    }

    #[test]
    fn an_action_that_nobody_announced_is_no_error_of_ours() {
        let forecast = forecast();
        let split = after(&forecast, &["2024-02-26"], &[("2024-02-26", 50.5)], &[("2024-02-26", 0.5)]);
        let Settled::Scored(row) = split else { panic!() };
        assert_eq!((row.reference, row.scale, row.error, row.in80), (50.5, 0.5, 0.0, true));
        // A source that adjusts its history tells the same split without a factor.
        let (sessions, closes) = ([day("2024-02-26")], [(day("2024-02-26"), 50.5)]);
        let restated = Since { sessions: &sessions, closes: &closes, factors: &[], level: 0.5 };
        assert_eq!(settle(&forecast, false, &restated), Settled::Scored(row));
    }
}
