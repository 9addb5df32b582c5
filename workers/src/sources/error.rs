//! What can go wrong between us and a source, as words for people and as a decision for the engine.

use market::market_page::CONFIRMED_AFTER;
use std::{fmt, time::Duration};
use workflows::flow::NotNowReason;

/// A fetch that failed: what was attempted, and why it did not succeed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{doing}: {kind}")]
pub struct SourceError {
    /// What was attempted, with ticker and address; never a secret.
    pub doing: String,
    /// Why it failed, and what to do about it.
    pub kind: SourceErrorKind,
}

/// Why a page could not be had or not be read. Parsers return it bare; the fetcher adds what it was doing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SourceErrorKind {
    /// The source has no such ticker.
    #[error("the source knows no such ticker; check the symbol, or remove the ticker if it was delisted")]
    NotFound,
    /// Too many requests, by the source's count.
    #[error("the source asks for a pause{}; the next try waits for it", in_seconds(*.retry_after))]
    RateLimited {
        /// How long the source, or our own patience, says.
        retry_after: Option<Duration>,
    },
    /// It was not asked at all: it must not be, for the time being.
    #[error("the source is not asked now, because {why}; it is asked in {} s. {}", .wait.as_secs_f64().ceil(), advice(*.why))]
    NotNow {
        /// When it may be asked.
        wait: Duration,
        /// Why not now.
        why: NotNowReason,
    },
    /// The source refuses us, by status or with a challenge page.
    #[error("the source refuses this client ({0}); check its terms, or put another source first")]
    Blocked(String),
    /// A page of it sends us to another site.
    #[error(
        "the source sends us to another site, {to}, which was not followed; if it has moved, set its address to that"
    )]
    Moved {
        /// Scheme and host of the other one.
        to: String,
    },
    /// The source does not accept the operator's key.
    #[error(
        "the source does not accept the key in `{setting}` ({said}); correct it, or see what the key is allowed to read"
    )]
    Key {
        /// The setting that holds the key.
        setting: &'static str,
        /// What the source said; never the key.
        said: String,
    },
    /// The session or its token is no longer good.
    #[error("the source no longer accepts the session's token; a new session is opened on the next try")]
    SessionExpired,
    /// The page is not built as we know it. Retrying does not heal that.
    #[error("the page has changed: expected {expected}, found {found}; the parser must be adapted")]
    LayoutChanged {
        /// What a readable page has.
        expected: String,
        /// What stands there instead.
        found: String,
    },
    /// The answer speaks of another security than the one asked for.
    #[error("the answer is about another security: asked for {asked}, got {got}; nothing of it was kept")]
    Identity {
        /// What we asked for.
        asked: String,
        /// What came.
        got: String,
    },
    /// Its prices may be adjusted otherwise than the archived ones.
    #[error(
        "{0}, so its prices may be adjusted otherwise than the archived ones; nothing of it was kept, another source must settle it"
    )]
    Adjustment(String),
    /// A well-formed answer without a single row where there must be some.
    #[error("the page holds no rows; it may be between two states, so it is asked again later")]
    Empty,
    /// The market page has too few tickers to be believed.
    #[error(
        "the page is set aside as a whole: {0}; it is read again later, and the same page then, the next session's, or `retainai quarantine release` confirms it"
    )]
    PartialPage(String),
    /// The page could not be laid beside those before it.
    #[error("the page could not be judged, because our own store failed: {0}")]
    Unjudged(String),
    /// The source could not be reached, was too slow, broke off, or answered with a server error.
    #[error("the source could not be reached: {0}; check the network if this goes on")]
    Transport(String),
    /// The answer cannot be read as what it should be.
    #[error("the answer cannot be read: {0}; it may have been cut off, so it is asked again")]
    Parse(String),
}

/// Whether the same question may be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Yes, after this long; the plan's own backoff when there is no number.
    Later(Option<Duration>),
    /// Yes, after this long, and this time does not count: nothing was sent.
    Wait(Duration),
    /// No: the answer would be the same.
    Never,
}

impl SourceError {
    /// Whether and when to ask again.
    pub fn retry(&self) -> Retry {
        self.kind.retry()
    }
}

impl SourceErrorKind {
    /// The kind as the plan and the attempt row spell it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::RateLimited { .. } => "rate_limited",
            Self::Blocked(_) => "blocked",
            Self::Key { .. } => "key",
            Self::Moved { .. } => "moved",
            Self::SessionExpired => "session_expired",
            Self::LayoutChanged { .. } => "layout_changed",
            Self::Identity { .. } => "identity",
            Self::Adjustment(_) => "adjustment",
            Self::Empty => "empty",
            Self::PartialPage(_) => "partial_page",
            Self::Unjudged(_) => "store",
            Self::Transport(_) => "transport",
            Self::Parse(_) => "parse",
            Self::NotNow { .. } => "not_now",
        }
    }

    /// The error of whoever was `doing` this.
    pub fn while_doing(self, doing: impl fmt::Display) -> SourceError {
        SourceError { doing: doing.to_string(), kind: self }
    }

    /// Whether and when to ask again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { retry_after } => Retry::Later(*retry_after),
            Self::NotNow { wait, .. } => Retry::Wait(*wait),
            // Then the same page again is a word of its own.
            Self::PartialPage(_) => Retry::Later(CONFIRMED_AFTER.to_std().ok()),
            Self::Unjudged(_) => Retry::Later(None),
            // The source before it is asked again as well.
            Self::Adjustment(_) => Retry::Later(None),
            Self::SessionExpired | Self::Empty | Self::Transport(_) | Self::Parse(_) => Retry::Later(None),
            Self::NotFound | Self::Blocked(_) | Self::Key { .. } | Self::Moved { .. } => Retry::Never,
            Self::LayoutChanged { .. } | Self::Identity { .. } => Retry::Never,
        }
    }

    /// Whether it is well and only others go first. Then another source is no help: it would get all that is too much for this one.
    pub(crate) fn waits_for_its_turn(&self) -> bool {
        use NotNowReason::{Busy, NoShare, Rate};
        matches!(self, Self::NotNow { why: Rate | Busy | NoShare, .. })
    }

    /// A changed page, in few words.
    pub(crate) fn layout(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::LayoutChanged { expected: expected.to_string(), found: found.to_string() }
    }
}

fn advice(why: NotNowReason) -> &'static str {
    match why {
        NotNowReason::Rate => "Nothing needs to be done; scrape_pause_ms sets the pace",
        NotNowReason::Busy => "Nothing needs to be done; source_concurrency sets how many requests go at a time",
        NotNowReason::Blocked => "Nothing needs to be done; if it asks often, raise scrape_pause_ms",
        NotNowReason::BreakerOpen => "Look at the source in a browser if this goes on, or put another source first",
        NotNowReason::BudgetSpent => "Raise source_daily_budget if the source allows it",
        NotNowReason::NoShare => "Check redis_url and the server",
    }
}

fn in_seconds(wait: Option<Duration>) -> String {
    wait.map(|wait| format!(" of {} s", wait.as_secs())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_done_why_it_failed_and_what_to_do() {
        let wait = Some(Duration::from_secs(30));
        let error = SourceErrorKind::RateLimited { retry_after: wait }.while_doing("reading the chart of NASDAQ:AAPL");
        assert_eq!(
            error.to_string(),
            "reading the chart of NASDAQ:AAPL: the source asks for a pause of 30 s; the next try waits for it"
        );
        assert_eq!(error.retry(), Retry::Later(wait));
        assert_eq!(SourceErrorKind::layout("a", "b").retry(), Retry::Never);
        let wait = Duration::from_millis(1_500);
        let not_now = SourceErrorKind::NotNow { wait, why: NotNowReason::BudgetSpent }.while_doing("reading a chart");
        assert_eq!(
            not_now.to_string(),
            "reading a chart: the source is not asked now, because the requests allowed to it per day are used up; it is asked in 2 s. \
             Raise source_daily_budget if the source allows it"
        );
        assert_eq!(not_now.retry(), Retry::Wait(wait));
    }
}
