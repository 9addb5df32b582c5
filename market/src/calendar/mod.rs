//! The calendar of an exchange, learnt from evidence: in come the sessions that were seen and what was said of days, out go the state of any day,
//! with its basis and the reason in words, and the session that comes next. The stronger evidence decides: an operator's word, what was observed,
//! a list of holidays, the week as it was lately.

mod holidays;
mod week;

#[cfg(test)]
mod tests;

pub use week::{Week, name_of_day};

use crate::{Exchange, TargetBasis};
use chrono::{Datelike, Days, NaiveDate};
use holidays::{Hint, hint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// So many days before a day its evidence begins: whoever reads sessions for a calendar needs no older ones.
pub const EVIDENCE_DAYS: u64 = 7 * (week::FURTHEST_BACK_WEEKS + 1);
/// The next session is looked for so far ahead; an operator's closures may be long.
const FURTHEST_AHEAD_DAYS: usize = 1_000;

/// Who says something of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// An operator: above everything that is observed.
    Operator,
    /// The sources, asked until the evening was over: a bar of that day says more.
    Sources,
}

impl Witness {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Witness::Operator => "operator",
            Witness::Sources => "sources",
        }
    }
}

/// What somebody says of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Of which day.
    pub session: NaiveDate,
    /// That the exchange trades; false: that it is closed.
    pub open: bool,
    /// Who says so.
    pub by: Witness,
    /// Why, in words.
    pub why: String,
}

/// What a day is, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DayState {
    /// A session.
    Open,
    /// None.
    Closed,
    /// To come, and the evidence speaks for a session.
    Expected,
    /// Over, and nothing was seen of it.
    Unknown,
}

impl DayState {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            DayState::Open => "open",
            DayState::Closed => "closed",
            DayState::Expected => "expected",
            DayState::Unknown => "unknown",
        }
    }
}

/// One day of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// Which.
    pub session: NaiveDate,
    /// What it is.
    pub state: DayState,
    /// By which evidence.
    pub basis: TargetBasis,
    /// That evidence in words.
    pub reason: String,
}

/// Everything known of an exchange's days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    exchange: Exchange,
    seen: BTreeSet<NaiveDate>,
    words: Vec<Word>,
}

impl Calendar {
    /// From the sessions that were seen in data, in any order, and what was said of days.
    pub fn new(exchange: Exchange, seen: impl IntoIterator<Item = NaiveDate>, words: Vec<Word>) -> Self {
        Self { exchange, seen: seen.into_iter().collect(), words }
    }

    /// The same with one more session that was seen: one that is staged and not archived yet.
    pub fn saw(mut self, session: NaiveDate) -> Self {
        self.seen.insert(session);
        self
    }

    /// The same without what the sources did not show.
    pub fn without_sources(&self) -> Self {
        let words = self.words.iter().filter(|word| word.by != Witness::Sources).cloned().collect();
        Self { exchange: self.exchange, seen: self.seen.clone(), words }
    }

    /// Whose it is.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// The newest session that was seen.
    pub fn newest(&self) -> Option<NaiveDate> {
        self.seen.last().copied()
    }

    /// What an operator says of a day.
    pub fn operator(&self, day: NaiveDate) -> Option<&Word> {
        said(&self.words, day, Witness::Operator)
    }

    /// Whether a run for this day makes sense: it may be a session, or an operator says that it is one. What is only unlikely the run finds out.
    pub fn may_trade_on(&self, day: NaiveDate) -> bool {
        self.exchange.may_trade_on(day.weekday()) || self.operator(day).is_some_and(|word| word.open)
    }

    /// The week as it was learnt from the sessions up to `until`.
    pub fn week(&self, until: NaiveDate) -> Week {
        let Some(newest) = self.seen.range(..=until).next_back() else { return Week::usual(self.exchange) };
        let excused = |day| {
            let off = self.operator(day).is_some_and(|word| !word.open);
            off || matches!(hint(self.exchange, day), Some(Hint::Holiday(_)))
        };
        let learnt = Week::learnt(self.exchange, *newest, |day| self.seen.contains(&day), excused);
        learnt.unwrap_or_else(|| Week::usual(self.exchange))
    }

    /// What there is to say of the days after `after`.
    pub fn outlook(&self, after: NaiveDate) -> Outlook {
        Outlook {
            exchange: self.exchange,
            week: self.week(after),
            words: self.words.iter().filter(|word| word.session > after).cloned().collect(),
        }
    }

    /// What a day is.
    pub fn day(&self, session: NaiveDate) -> Day {
        let day = |state, basis, reason| Day { session, state, basis, reason };
        if let Some(word) = self.operator(session) {
            return day(state_of(word), TargetBasis::Operator, reason_of(word));
        }
        if self.seen.contains(&session) {
            return day(DayState::Open, TargetBasis::Observed, "closes of this day are archived".to_owned());
        }
        let Verdict { trades, basis, reason } = self.outlook(session - Days::new(1)).verdict(session);
        match trades {
            false => day(DayState::Closed, basis, reason),
            true if self.newest().is_some_and(|newest| session < newest) => day(
                DayState::Unknown,
                basis,
                format!("{reason}; no close of this day is archived, though later ones are"),
            ),
            true => day(DayState::Expected, basis, reason),
        }
    }

    /// The days after `after`, up to `until`, on which a session was seen or is expected.
    pub fn sessions(&self, after: NaiveDate, until: NaiveDate) -> Vec<NaiveDate> {
        let is_one = |day: &NaiveDate| matches!(self.day(*day).state, DayState::Open | DayState::Expected);
        after.iter_days().skip(1).take_while(|day| *day <= until).filter(is_one).collect()
    }
}

/// What a forecast takes from the calendar: the week as it was learnt, and what is said of the days to come. It is recorded beside the forecast, so that
/// a replay finds the same target whatever was seen or said since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Whose days.
    pub exchange: Exchange,
    /// The week.
    pub week: Week,
    /// What was said of days to come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
}

/// Whether a day to come is a session.
struct Verdict {
    trades: bool,
    basis: TargetBasis,
    reason: String,
}

impl Outlook {
    /// The first session after `newest`, and the strongest evidence that had a say in finding it: also what closed the days in between that belong to
    /// the week.
    pub fn next_after(&self, newest: NaiveDate) -> (NaiveDate, TargetBasis) {
        let mut basis = TargetBasis::UsualWeek;
        for day in newest.iter_days().skip(1).take(FURTHEST_AHEAD_DAYS) {
            let verdict = self.verdict(day);
            if verdict.trades || self.week.has(day.weekday()) {
                basis = basis.min(verdict.basis);
            }
            if verdict.trades {
                return (day, basis);
            }
        }
        (newest + Days::new(1), TargetBasis::UsualWeek)
    }

    fn verdict(&self, day: NaiveDate) -> Verdict {
        let verdict = |trades, basis, reason| Verdict { trades, basis, reason };
        if let Some(word) = said(&self.words, day, Witness::Operator) {
            return verdict(word.open, TargetBasis::Operator, reason_of(word));
        }
        if let Some(word) = said(&self.words, day, Witness::Sources) {
            return verdict(word.open, TargetBasis::Observed, reason_of(word));
        }
        let (exchange, weekday) = (self.exchange, name_of_day(day.weekday()));
        match (hint(exchange, day), self.week.has(day.weekday())) {
            (Some(Hint::Holiday(name)), _) => {
                verdict(false, TargetBasis::CalendarHint, format!("{name}, by the list of holidays"))
            }
            (Some(Hint::WorkingDay), _) => verdict(
                true,
                TargetBasis::CalendarHint,
                format!("{exchange} trades on {weekday}s, and this is no listed holiday"),
            ),
            (None, true) => {
                verdict(true, self.by_the_week(), format!("{exchange} trades on {weekday}s, holidays aside"))
            }
            (None, false) if !exchange.may_trade_on(day.weekday()) => {
                verdict(false, TargetBasis::UsualWeek, format!("{exchange} does not trade on {weekday}s"))
            }
            (None, false) => verdict(
                false,
                self.by_the_week(),
                format!("{exchange} was not seen trading on a {weekday} in the last four weeks"),
            ),
        }
    }

    fn by_the_week(&self) -> TargetBasis {
        if self.week.learnt { TargetBasis::ObservedWeek } else { TargetBasis::UsualWeek }
    }
}

fn said(words: &[Word], day: NaiveDate, by: Witness) -> Option<&Word> {
    words.iter().find(|word| word.session == day && word.by == by)
}

fn state_of(word: &Word) -> DayState {
    if word.open { DayState::Open } else { DayState::Closed }
}

fn reason_of(Word { open, by, why, .. }: &Word) -> String {
    let state = if *open { "open" } else { "closed" };
    match by {
        Witness::Operator => format!("{state}, an operator says: {why}"),
        Witness::Sources => format!("{state}: {why}"),
    }
}
