//! Whether a ticker is still traded: its states, and what moves it from one to the next. In comes what was seen of it, out goes a change or none.

use chrono::NaiveDate;
use std::{fmt, str::FromStr};

/// So many sessions without a sign of it, and a ticker is suspended.
pub const SUSPENDED_AFTER: u32 = 10;
/// The same when no source knew its name.
pub const UNKNOWN_AFTER: u32 = 3;
/// So many sessions of its exchange without a bar, and a suspended ticker is delisted: about four months.
pub const DELISTED_AFTER: u32 = 90;
/// The same when no source knows its name.
pub const UNKNOWN_DELISTED_AFTER: u32 = 30;
/// So many of the newest looks must have been in vain before a suspended ticker is delisted.
const LOOKS_MIN: u32 = 5;

/// Where a ticker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListingState {
    /// Known, without a bar so far.
    New,
    /// Traded.
    Active,
    /// Not traded for a while: looked at now and then, not trained.
    Suspended,
    /// No longer traded.
    Delisted,
    /// Goes on under another symbol, which has its history.
    Renamed,
    /// Became part of another company.
    Merged,
}

impl ListingState {
    /// All of them.
    pub const ALL: [ListingState; 6] = [
        ListingState::New,
        ListingState::Active,
        ListingState::Suspended,
        ListingState::Delisted,
        ListingState::Renamed,
        ListingState::Merged,
    ];

    /// The word in tables and API.
    pub fn as_str(self) -> &'static str {
        match self {
            ListingState::New => "new",
            ListingState::Active => "active",
            ListingState::Suspended => "suspended",
            ListingState::Delisted => "delisted",
            ListingState::Renamed => "renamed",
            ListingState::Merged => "merged",
        }
    }

    /// Whether schedules start runs for it, its sessions wait for it and it is trained.
    pub fn is_traded(self) -> bool {
        matches!(self, ListingState::New | ListingState::Active)
    }

    /// Whether another ticker stands in its place.
    pub fn has_successor(self) -> bool {
        matches!(self, ListingState::Renamed | ListingState::Merged)
    }

    /// Whether this may follow: what is gone comes back only as new or active.
    pub fn may_become(self, next: ListingState) -> bool {
        use ListingState::{Active, Delisted, Merged, New, Renamed, Suspended};
        match self {
            New => next != New,
            Active => matches!(next, Suspended | Delisted | Renamed | Merged),
            Suspended => next != Suspended,
            Delisted => matches!(next, New | Active | Renamed | Merged),
            Renamed | Merged => matches!(next, New | Active),
        }
    }
}

impl fmt::Display for ListingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no state of a ticker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown ticker state `{0}`: use new, active, suspended, delisted, renamed or merged")]
pub struct UnknownListingState(pub String);

impl FromStr for ListingState {
    type Err = UnknownListingState;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = ListingState::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownListingState(text.to_owned()))
    }
}

/// Where a ticker stands, and by whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Its state.
    pub state: ListingState,
    /// Whether an operator said so: evidence does not overrule what a person suspended, delisted, renamed or merged.
    pub by_operator: bool,
    /// Its newest bar when that was decided.
    pub bar_then: Option<NaiveDate>,
}

/// What was seen of a ticker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sightings {
    /// Its newest archived bar.
    pub last_bar: Option<NaiveDate>,
    /// Sessions of its exchange since then, or since it is watched where that is later.
    pub sessions: u32,
    /// Of these: looked for, and nothing there. The market page lacked it, or its sources had no bar.
    pub silent: u32,
    /// Of these: no source knew its name.
    pub unknown: u32,
    /// Something newer of it was seen and waits in the quarantine, or stood on a market page: so it trades.
    pub stirs: bool,
}

/// A change of state, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new state.
    pub to: ListingState,
    /// The evidence, in words with numbers.
    pub why: String,
}

/// What follows from what was seen. A ticker with a fresh bar is never suspended: sessions are counted since its newest one.
pub fn decide(listing: &Listing, seen: &Sightings) -> Option<Change> {
    let silent = seen.silent.min(seen.sessions);
    let unknown = seen.unknown.min(silent);
    let fresh = seen.last_bar.filter(|_| seen.last_bar > listing.bar_then);
    match (listing.state, fresh) {
        (ListingState::New, Some(bar)) => Some(change(ListingState::Active, format!("it has bars, up to {bar}"))),
        (ListingState::Suspended | ListingState::Delisted, Some(bar)) if !listing.by_operator => {
            Some(change(ListingState::Active, format!("a bar of {bar} came")))
        }
        (ListingState::New | ListingState::Active, _) if !seen.stirs && is_lost(silent, unknown) => {
            Some(change(ListingState::Suspended, no_sign(seen.last_bar, silent, unknown)))
        }
        (ListingState::Suspended, None) if !listing.by_operator && !seen.stirs => {
            let gone = seen.sessions >= DELISTED_AFTER && silent >= LOOKS_MIN
                || seen.sessions >= UNKNOWN_DELISTED_AFTER && unknown >= LOOKS_MIN;
            gone.then(|| {
                let why =
                    format!("{} sessions of its exchange: {}", seen.sessions, no_sign(seen.last_bar, silent, unknown));
                change(ListingState::Delisted, why)
            })
        }
        _ => None,
    }
}

fn is_lost(silent: u32, unknown: u32) -> bool {
    silent >= SUSPENDED_AFTER || unknown >= UNKNOWN_AFTER
}

fn change(to: ListingState, why: String) -> Change {
    Change { to, why }
}

fn no_sign(last_bar: Option<NaiveDate>, silent: u32, unknown: u32) -> String {
    let since = last_bar.map_or_else(|| "since it is known".to_owned(), |bar| format!("since its bar of {bar}"));
    match unknown {
        0 => format!("looked for in {silent} sessions {since}, and nothing of it was there"),
        _ => format!("looked for in {silent} sessions {since}, in {unknown} of them no source knew the name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;
    use proptest::prelude::*;

    fn day(n: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + Days::new(n)
    }

    fn listing(state: ListingState) -> Listing {
        Listing { state, by_operator: false, bar_then: Some(day(9)) }
    }

    /// Without a bar for so many sessions, looked for in as many.
    fn silent(sessions: u32) -> Sightings {
        Sightings { last_bar: Some(day(9)), sessions, silent: sessions, ..Sightings::default() }
    }

    fn to(listing: &Listing, seen: &Sightings) -> Option<ListingState> {
        decide(listing, seen).map(|change| change.to)
    }

    #[test]
    fn silence_suspends_and_long_silence_delists() {
        let active = listing(ListingState::Active);
        assert_eq!(to(&active, &silent(9)), None);
        assert_eq!(to(&active, &silent(10)), Some(ListingState::Suspended));
        let unknown = |sessions, unknown| Sightings { unknown, ..silent(sessions) };
        assert_eq!(to(&active, &unknown(3, 2)), None);
        assert_eq!(to(&active, &unknown(3, 3)), Some(ListingState::Suspended));
        let suspended = listing(ListingState::Suspended);
        assert_eq!(to(&suspended, &silent(89)), None);
        assert_eq!(to(&suspended, &silent(90)), Some(ListingState::Delisted));
        assert_eq!(to(&suspended, &unknown(30, 5)), Some(ListingState::Delisted));
        // Nobody looked: the program did not run, or its sources were away.
        let away = Sightings { silent: 4, ..silent(200) };
        assert_eq!(to(&active, &away), None);
        assert_eq!(to(&suspended, &away), None);
    }

    #[test]
    fn a_bar_brings_it_back_unless_a_person_said_otherwise() {
        let seen = Sightings { last_bar: Some(day(40)), ..Sightings::default() };
        for state in [ListingState::New, ListingState::Suspended, ListingState::Delisted] {
            assert_eq!(to(&listing(state), &seen), Some(ListingState::Active), "{state}");
        }
        let by_operator = Listing { by_operator: true, ..listing(ListingState::Suspended) };
        assert_eq!(to(&by_operator, &seen), None);
        assert_eq!(to(&by_operator, &silent(500)), None);
        assert_eq!(to(&listing(ListingState::Renamed), &seen), None);
        // An older bar, imported later, is no sign of trade.
        let old = Sightings { last_bar: Some(day(9)), ..silent(20) };
        assert_eq!(to(&listing(ListingState::Suspended), &old), None);
    }

    #[test]
    fn what_waits_in_the_quarantine_is_a_sign_of_trade() {
        let stirs = Sightings { stirs: true, ..silent(200) };
        assert_eq!(to(&listing(ListingState::Active), &stirs), None);
        assert_eq!(to(&listing(ListingState::Suspended), &stirs), None);
    }

    fn states() -> impl Strategy<Value = ListingState> {
        proptest::sample::select(ListingState::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn evidence_never_leaves_the_graph_and_settles(
            state in states(), by_operator: bool, then in proptest::option::of(0u64..40), last in proptest::option::of(0u64..40),
            sessions in 0u32..200, silent in 0u32..300, unknown in 0u32..300, stirs: bool,
        ) {
            let listing = Listing { state, by_operator, bar_then: then.map(day) };
            let seen = Sightings { last_bar: last.map(day), sessions, silent, unknown, stirs };
            let Some(change) = decide(&listing, &seen) else { return Ok(()) };
            prop_assert!(state.may_become(change.to), "{state} -> {}", change.to);
            prop_assert!(!change.why.is_empty());
            prop_assert!(!change.to.has_successor(), "a successor is a person's word");
            if by_operator {
                prop_assert!(state.is_traded(), "evidence does not overrule a person");
            }
            // The same sightings say nothing more, but for one that is gone long enough to be delisted at once.
            let next = Listing { state: change.to, by_operator: false, bar_then: seen.last_bar };
            let again = decide(&next, &seen).map(|change| change.to);
            prop_assert!(matches!((change.to, again), (_, None) | (ListingState::Suspended, Some(ListingState::Delisted)) | (ListingState::Active, Some(ListingState::Suspended))));
        }

        #[test]
        fn a_ticker_with_a_fresh_bar_is_never_suspended(
            state in states(), by_operator: bool, then in proptest::option::of(0u64..40), last in 0u64..40, silent: u32, unknown: u32,
            sessions in 0..UNKNOWN_AFTER, stirs: bool,
        ) {
            let listing = Listing { state, by_operator, bar_then: then.map(day) };
            let seen = Sightings { last_bar: Some(day(last)), sessions, silent, unknown, stirs };
            let to = decide(&listing, &seen).map(|change| change.to);
            prop_assert!(!matches!(to, Some(ListingState::Suspended | ListingState::Delisted)));
        }

        #[test]
        fn every_word_is_read_back(state in states()) {
            prop_assert_eq!(state.as_str().parse::<ListingState>(), Ok(state));
        }
    }
}
