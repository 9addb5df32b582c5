//! The rules by name, and what follows from each. A rule's word stands in tables, API and chat and never changes.

use super::Row;
use crate::RawBar;
use chrono::NaiveDate;
use std::{fmt, str::FromStr};

/// What follows from a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The row is kept, perhaps repaired; it is said.
    Warn,
    /// The row is no price at all and is not kept anywhere.
    Reject,
    /// The row waits in the quarantine.
    Row,
    /// The whole batch waits in the quarantine.
    Ticker,
    /// The whole page of a session waits in the quarantine.
    Page,
}

macro_rules! rules {
    ($($(#[$about:meta])* $name:ident = $word:literal, $severity:ident;)+) => {
        /// A rule by which rows are judged.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule { $($(#[$about])* $name,)+ }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$name),+];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self { $(Rule::$name => $word,)+ }
            }

            /// What follows from it.
            pub fn severity(self) -> Severity {
                match self { $(Rule::$name => Severity::$severity,)+ }
            }
        }
    };
}

rules! {
    /// No date, or one before 1990.
    Date = "date", Reject;
    /// A session that has not been yet.
    Future = "future", Reject;
    /// Today's row before its close is final.
    Provisional = "provisional", Reject;
    /// The close or another price is none.
    Price = "price", Reject;
    /// The volume is no number of shares.
    Volume = "volume", Reject;
    /// The high is below the low.
    Crossed = "crossed", Row;
    /// The close is far outside [low, high].
    Range = "range", Row;
    /// The close is a little outside [low, high].
    NearRange = "near_range", Warn;
    /// The open is outside [low, high] and becomes unknown.
    Open = "open", Warn;
    /// The session stands twice in one batch, with different values; the last counts.
    Duplicate = "duplicate", Warn;
    /// The close is further from its reference than the exchange allows or a day brings, and nothing confirms it.
    Jump = "jump", Row;
    /// Such a jump, from which the next session goes on: an action that nobody announced, perhaps.
    Unannounced = "unannounced", Warn;
    /// The published previous close is not ours, and sessions are missing in between: no action is taken from it.
    UnsureAction = "unsure_action", Warn;
    /// Several closes in a row without a trade.
    NoTrade = "no_trade", Warn;
    /// An operator has dismissed this row before.
    Dismissed = "dismissed", Row;
    /// History was restated by one factor.
    Restated = "restated", Warn;
    /// The batch contradicts what is archived.
    Disagrees = "disagrees", Ticker;
    /// The batch does not follow on what is archived.
    Level = "level", Ticker;
    /// The source speaks of another security by name.
    Identity = "identity", Ticker;
    /// The market page has far fewer tickers than that of the last session.
    PartialPage = "partial_page", Page;
}

/// The text names no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown rule `{0}`: docs/data.md lists them")]
pub struct UnknownRule(pub String);

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Rule::ALL.iter().copied().find(|rule| rule.as_str() == text).ok_or_else(|| UnknownRule(text.to_owned()))
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// By which rule.
    pub rule: Rule,
    /// The row that it is about; empty when it is about the batch.
    pub row: Row,
    /// What was found, in words with numbers.
    pub why: String,
}

impl Finding {
    pub(super) fn of(rule: Rule, row: &Row, why: impl Into<String>) -> Self {
        Self { rule, row: *row, why: why.into() }
    }

    pub(super) fn about(rule: Rule, session: NaiveDate, why: impl Into<String>) -> Self {
        let raw = RawBar { session: Some(session), ..RawBar::default() };
        Self { rule, row: Row { line: 0, raw }, why: why.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(session) = self.row.raw.session {
            write!(f, "{session}: ")?;
        }
        f.write_str(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_and_stands_once() {
        for rule in Rule::ALL {
            assert_eq!(rule.as_str().parse(), Ok(*rule));
        }
        assert!("nonsense".parse::<Rule>().is_err());
    }
}
