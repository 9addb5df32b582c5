//! Whether a market page, one session of all tickers of an exchange, is whole. In come its symbols and those of the pages before, out goes whether
//! its rows may be taken.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use std::collections::BTreeSet;

/// A page with fewer of the tickers of the last session's page than this (per cent) is set aside as a whole.
pub const WHOLE_PER_CENT: usize = 60;
/// The same tickers on a later reading confirm it, so long after the first, by the market's clock.
pub const CONFIRMED_AFTER: TimeDelta = TimeDelta::minutes(30);
/// A page before with fewer tickers says nothing about how many there should be.
const TICKERS_MIN: usize = 5;

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// Its rows were taken.
    Taken,
    /// It was set aside as a whole.
    SetAside,
    /// It was set aside, and a later reading or page confirmed it.
    Confirmed,
    /// It was set aside, and an operator released it.
    Released,
    /// It was set aside, and an operator said that it stays so.
    Dismissed,
}

impl PageState {
    /// All of them.
    pub const ALL: [PageState; 5] =
        [PageState::Taken, PageState::SetAside, PageState::Confirmed, PageState::Released, PageState::Dismissed];

    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            PageState::Taken => "taken",
            PageState::SetAside => "set_aside",
            PageState::Confirmed => "confirmed",
            PageState::Released => "released",
            PageState::Dismissed => "dismissed",
        }
    }

    /// Whether its rows may be taken.
    pub fn counts(self) -> bool {
        matches!(self, PageState::Taken | PageState::Confirmed | PageState::Released)
    }
}

/// A page that was read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPage {
    /// Its session.
    pub session: NaiveDate,
    /// Its symbols.
    pub symbols: BTreeSet<String>,
    /// What became of it.
    pub state: PageState,
    /// When these symbols were first read, by the market's clock.
    pub read_at: DateTime<Utc>,
}

/// What is known beside a page.
#[derive(Debug, Clone, Copy, Default)]
pub struct PagesBefore<'a> {
    /// An earlier reading of the same session.
    pub same: Option<&'a ReadPage>,
    /// The newest page of an earlier session whose rows were taken.
    pub whole: Option<&'a ReadPage>,
    /// The newest page of an earlier session, whatever became of it.
    pub newest: Option<&'a ReadPage>,
}

/// What is to become of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageVerdict {
    /// Its rows may be taken.
    Take,
    /// They may be taken although there are few, for this reason.
    Confirm(String),
    /// Nothing of it may be taken, for this reason.
    SetAside(String),
}

/// Judges a page by its symbols.
pub fn judge_page(symbols: &BTreeSet<String>, before: &PagesBefore<'_>, now: DateTime<Utc>) -> PageVerdict {
    let Some(whole) = before.whole.filter(|page| page.symbols.len() >= TICKERS_MIN) else { return PageVerdict::Take };
    let again = before.same.filter(|same| same.symbols == *symbols);
    if reaches(symbols.len(), whole.symbols.len())
        || before.same.is_some_and(|same| same.state == PageState::Released)
        || again.is_some_and(|same| same.state.counts())
    {
        return PageVerdict::Take;
    }
    let few = format!(
        "{} tickers stand on it, and {} stood on that of {}: fewer than {WHOLE_PER_CENT} %",
        symbols.len(),
        whole.symbols.len(),
        whole.session
    );
    match (again.map(|same| (same.state, now - same.read_at)), before.newest) {
        (Some((PageState::Dismissed, _)), _) => PageVerdict::SetAside(format!("an operator dismissed it; {few}")),
        (Some((PageState::SetAside, since)), _) if since >= CONFIRMED_AFTER => PageVerdict::Confirm(format!(
            "the same {} tickers stood there {} minutes later",
            symbols.len(),
            since.num_minutes()
        )),
        (_, Some(newest)) if newest.state == PageState::SetAside && alike(symbols.len(), newest.symbols.len()) => {
            PageVerdict::Confirm(format!("the page of {} had as few, {}", newest.session, newest.symbols.len()))
        }
        _ => PageVerdict::SetAside(few),
    }
}

fn reaches(count: usize, of: usize) -> bool {
    100 * count >= WHOLE_PER_CENT * of
}

fn alike(a: usize, b: usize) -> bool {
    a > 0 && b > 0 && reaches(a, b) && reaches(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(count: usize) -> BTreeSet<String> {
        (0..count).map(|n| format!("T{n}")).collect()
    }

    fn page(session: &str, count: usize, state: PageState) -> ReadPage {
        let session: NaiveDate = session.parse().unwrap();
        ReadPage { session, symbols: symbols(count), state, read_at: at(0) }
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        "2025-09-18T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
    }

    #[test]
    fn a_page_of_half_the_market_is_set_aside_and_of_three_quarters_is_not() {
        let whole = page("2025-09-17", 320, PageState::Taken);
        let before = PagesBefore { whole: Some(&whole), newest: Some(&whole), same: None };
        // The page of 2025-09-18, short for a real reason.
        assert_eq!(judge_page(&symbols(238), &before, at(0)), PageVerdict::Take);
        assert_eq!(judge_page(&symbols(192), &before, at(0)), PageVerdict::Take);
        let PageVerdict::SetAside(why) = judge_page(&symbols(191), &before, at(0)) else { panic!() };
        assert_eq!(why, "191 tickers stand on it, and 320 stood on that of 2025-09-17: fewer than 60 %");
        assert_eq!(judge_page(&symbols(3), &PagesBefore::default(), at(0)), PageVerdict::Take, "the first there is");
        let small = page("2025-09-17", 4, PageState::Taken);
        let before = PagesBefore { whole: Some(&small), ..PagesBefore::default() };
        assert_eq!(judge_page(&symbols(1), &before, at(0)), PageVerdict::Take, "four tickers tell nothing");
    }

    #[test]
    fn the_same_again_half_an_hour_later_confirms_it() {
        let whole = page("2025-09-17", 320, PageState::Taken);
        let same = page("2025-09-18", 100, PageState::SetAside);
        let before = PagesBefore { whole: Some(&whole), newest: Some(&whole), same: Some(&same) };
        assert!(matches!(judge_page(&symbols(100), &before, at(29)), PageVerdict::SetAside(_)));
        assert!(matches!(judge_page(&symbols(100), &before, at(30)), PageVerdict::Confirm(_)));
        // Still growing: that is another page.
        assert!(matches!(judge_page(&symbols(101), &before, at(60)), PageVerdict::SetAside(_)));
        assert_eq!(judge_page(&symbols(300), &before, at(60)), PageVerdict::Take);
    }

    #[test]
    fn the_next_page_confirms_it_or_shows_that_it_was_broken() {
        let whole = page("2025-09-17", 320, PageState::Taken);
        let newest = page("2025-09-18", 100, PageState::SetAside);
        let before = PagesBefore { whole: Some(&whole), newest: Some(&newest), same: None };
        assert!(matches!(judge_page(&symbols(110), &before, at(0)), PageVerdict::Confirm(_)));
        assert!(matches!(judge_page(&symbols(20), &before, at(0)), PageVerdict::SetAside(_)), "and fewer still");
        assert_eq!(judge_page(&symbols(318), &before, at(0)), PageVerdict::Take);
    }

    #[test]
    fn an_operator_has_the_last_word() {
        let whole = page("2025-09-17", 320, PageState::Taken);
        let released = page("2025-09-18", 100, PageState::Released);
        let before = PagesBefore { whole: Some(&whole), newest: Some(&whole), same: Some(&released) };
        assert_eq!(judge_page(&symbols(90), &before, at(1)), PageVerdict::Take);
        let dismissed = page("2025-09-18", 100, PageState::Dismissed);
        let before = PagesBefore { same: Some(&dismissed), ..before };
        assert!(matches!(judge_page(&symbols(100), &before, at(600)), PageVerdict::SetAside(_)));
    }
}
