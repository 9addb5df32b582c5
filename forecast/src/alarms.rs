//! What a record is alarmed about: in come its newest rows, out go alarms in words. The limits are 2.3 standard errors wide and more, so that a
//! sound forecaster seldom raises one.

use market::{AlarmKind, Scored, Sums};

/// Realised sessions that are judged.
pub const ALARM_SESSIONS: usize = 60;
/// A forecast without a score for more sessions than this after its own is an alarm.
pub const UNSCORED_AFTER: usize = 3;
/// Shares of closes that 80 % intervals of one ticker may hold over [`ALARM_SESSIONS`].
const COVERAGE: (f64, f64) = (0.68, 0.92);
/// The same of a whole exchange.
const COVERAGE_POOLED: (f64, f64) = (0.75, 0.85);
/// Intervals may be so much worse than the baseline's.
const WIS_RATIO: f64 = 1.05;
/// Points may be so much worse than "tomorrow = today".
const RMSE_RATIO: f64 = 1.02;
/// The mean place of the closes may be so far from the middle.
const PIT: f64 = 0.10;
/// Misses of the 95 % interval among the newest five that are too many.
const MISSES: (usize, usize) = (3, 5);

/// What one line of models of one ticker is alarmed about; `newest`: its rows, newest first, at most [`ALARM_SESSIONS`] are looked at.
pub fn alarms_of(newest: &[Scored]) -> Vec<(AlarmKind, String)> {
    let newest = &newest[..newest.len().min(ALARM_SESSIONS)];
    let mut alarms = vec![];
    let missed = newest.iter().take(MISSES.1).filter(|row| !row.in95).count();
    if missed >= MISSES.0 {
        alarms.push((
            AlarmKind::Misses,
            format!("{missed} of the newest {} closes lay outside the 95 % interval", MISSES.1),
        ));
    }
    if newest.len() < ALARM_SESSIONS {
        return alarms;
    }
    let mut sums = Sums::default();
    newest.iter().for_each(|row| sums.add(row));
    let over = format!("over {} sessions", sums.n);
    if sums.cov80() < COVERAGE.0 || sums.cov80() > COVERAGE.1 {
        alarms.push((
            AlarmKind::Coverage,
            format!("the 80 % interval held {:.0} % of the closes {over}", 100.0 * sums.cov80()),
        ));
    }
    if sums.wis_ratio() > WIS_RATIO {
        let why = format!("intervals {:.1} % worse than the baseline's {over}", 100.0 * (sums.wis_ratio() - 1.0));
        alarms.push((AlarmKind::IntervalsWorse, why));
    }
    if sums.rmse_ratio() > RMSE_RATIO {
        let why = format!("points {:.1} % worse than the reference price {over}", 100.0 * (sums.rmse_ratio() - 1.0));
        alarms.push((AlarmKind::PointsWorse, why));
    }
    if (sums.mean_pit() - 0.5).abs() > PIT {
        let side = if sums.mean_pit() > 0.5 { "above" } else { "below" };
        alarms.push((
            AlarmKind::OffCentre,
            format!("closes lay {side} the forecasts {over}: mean place {:.2}", sums.mean_pit()),
        ));
    }
    alarms
}

/// What an exchange's served forecasts are alarmed about together; `sessions`: sums of each session, newest first.
pub fn alarms_of_exchange(sessions: &[Sums]) -> Vec<(AlarmKind, String)> {
    let mut sums = Sums::default();
    sessions.iter().take(ALARM_SESSIONS).for_each(|session| sums.plus(session));
    let held = sums.cov80();
    let off = sessions.len() >= ALARM_SESSIONS && (held < COVERAGE_POOLED.0 || held > COVERAGE_POOLED.1);
    let why =
        || format!("the 80 % intervals held {:.1} % of {} closes over {ALARM_SESSIONS} sessions", 100.0 * held, sums.n);
    off.then(|| (AlarmKind::Coverage, why())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(change: impl FnOnce(&mut Scored)) -> Scored {
        let mut row = Scored {
            session: "2024-02-26".parse().unwrap(),
            close: 100.0,
            reference: 100.0,
            scale: 1.0,
            error: 0.01,
            naive_error: 0.01,
            wis: 0.01,
            wis_ewma: 0.01,
            wis_eq: None,
            in80: true,
            in95: true,
            pit: 0.5,
            call: 0,
            came: 1,
        };
        change(&mut row);
        row
    }

    fn kinds(count: usize, of: impl Fn(usize) -> Scored) -> Vec<AlarmKind> {
        alarms_of(&(0..count).map(of).collect::<Vec<_>>()).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn each_limit_raises_its_alarm_and_nothing_else_does() {
        let sound = |n: usize| row(|row| row.in80 = !n.is_multiple_of(5));
        assert!(kinds(60, sound).is_empty());
        assert_eq!(kinds(60, |_| row(|_| {})), [AlarmKind::Coverage], "holds every close: too wide");
        let of = |n: usize, change: fn(&mut Scored)| {
            let mut row = sound(n);
            change(&mut row);
            row
        };
        assert_eq!(kinds(60, |n| of(n, |row| row.wis = 0.0106)), [AlarmKind::IntervalsWorse]);
        assert_eq!(kinds(60, |n| of(n, |row| row.error = 0.0103)), [AlarmKind::PointsWorse]);
        assert_eq!(kinds(60, |n| of(n, |row| row.pit = 0.61)), [AlarmKind::OffCentre]);
        assert_eq!(
            kinds(60, |n| row(|row| {
                row.in80 = !n.is_multiple_of(5);
                row.in95 = n >= 3
            })),
            [AlarmKind::Misses]
        );
        assert!(kinds(59, |n| of(n, |row| row.wis = 0.02)).is_empty(), "too few to judge by");
        assert_eq!(kinds(5, |_| row(|row| row.in95 = false)), [AlarmKind::Misses]);
    }

    #[test]
    fn an_exchange_is_judged_over_whole_sessions() {
        let session = |in80| Sums { n: 100, in80, ..Sums::default() };
        assert!(alarms_of_exchange(&[session(80); 60]).is_empty());
        assert_eq!(alarms_of_exchange(&[session(70); 60])[0].0, AlarmKind::Coverage);
        assert!(alarms_of_exchange(&[session(70); 59]).is_empty());
    }
}
