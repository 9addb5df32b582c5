//! The days of the week on which an exchange trades, learnt from its last four weeks: in come sessions, out goes the week. Sound against make-up
//! sessions, single days off and closures of weeks; a change of the week is learnt in two.

use crate::Exchange;
use chrono::{Datelike, Days, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

/// Weeks that tell the exchange's week.
const WEEKS: usize = 4;
/// A week with fewer sessions tells nothing: the exchange was closed in it.
const TELLING: usize = 3;
/// Both exchanges have always traded on five or six days: a week with fewer days is one that holidays have thinned.
const DAYS: usize = 5;
/// Half a year: no closure was longer than eight weeks.
pub(super) const FURTHEST_BACK_WEEKS: u64 = 26;

/// The days of the week on which an exchange trades.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Week {
    /// Monday first.
    pub days: Vec<Weekday>,
    /// Whether it was learnt; otherwise it is every day on which the exchange may trade.
    pub learnt: bool,
}

impl Week {
    /// Every day on which the exchange may trade: what is taken before anything is learnt.
    pub fn usual(exchange: Exchange) -> Self {
        Self { days: all().filter(|day| exchange.may_trade_on(*day)).collect(), learnt: false }
    }

    /// Whether the exchange trades on that day of the week.
    pub fn has(&self, day: Weekday) -> bool {
        self.days.contains(&day)
    }

    /// The week as it is after the session `newest`. `traded`: whether there was a session on a day; `excused`: a day off that says nothing of the week
    /// (an operator or a list of holidays explains it).
    ///
    /// Looked at are stretches of seven days that end with `newest`, so that each holds every day of the week once. A day belongs to the week when
    /// the exchange traded on it in two of the four newest telling weeks, and in one of the newest two. Where holidays have left fewer than five days,
    /// the week before is asked, and so on.
    pub(super) fn learnt(
        exchange: Exchange,
        newest: NaiveDate,
        traded: impl Fn(NaiveDate) -> bool,
        excused: impl Fn(NaiveDate) -> bool,
    ) -> Option<Self> {
        let stretch = |back: u64| -> Vec<NaiveDate> { (0..7).map(|n| newest - Days::new(7 * back + n)).collect() };
        let telling: Vec<Vec<NaiveDate>> = (0..FURTHEST_BACK_WEEKS)
            .map(stretch)
            .filter(|days| days.iter().filter(|day| traded(**day)).count() >= TELLING)
            .collect();
        (0..telling.len()).find_map(|from| {
            let belongs = |weekday: &Weekday| {
                let of_it = telling[from..].iter().flatten().filter(|day| day.weekday() == *weekday);
                let said: Vec<bool> =
                    of_it.filter(|day| traded(**day) || !excused(**day)).take(WEEKS).map(|day| traded(*day)).collect();
                said.iter().filter(|yes| **yes).count() >= 2 && said.iter().take(2).any(|yes| *yes)
            };
            let days: Vec<Weekday> = all().filter(|day| exchange.may_trade_on(*day)).filter(belongs).collect();
            (days.len() >= DAYS).then_some(Self { days, learnt: true })
        })
    }
}

fn all() -> impl Iterator<Item = Weekday> {
    std::iter::successors(Some(Weekday::Mon), |day| Some(day.succ())).take(7)
}

/// Its English name.
pub fn name_of_day(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    }
}
