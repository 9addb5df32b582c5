//! Cursors: opaque text that says after which item the next page begins. Readers hand them back and never look inside.

use crate::problem::Problem;
use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use std::fmt::{self, Display};
use std::str::FromStr;

/// A cursor of list `kind` that stands after `key`.
pub(crate) fn cursor(kind: &str, key: impl Display) -> String {
    hex::encode(format!("{kind}:{key}"))
}

/// The key inside a cursor of list `kind`; `None` when there is no cursor.
pub(crate) fn after<T: FromStr>(kind: &str, cursor: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let key = hex::decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let key = key.as_deref().and_then(|text| text.strip_prefix(kind)?.strip_prefix(':')?.parse().ok());
    key.map(Some).ok_or_else(|| {
        let detail = "Take `next_cursor` from the page before, or leave it out.";
        Problem::new(StatusCode::BAD_REQUEST, "bad_cursor", "The cursor is not of this list", detail)
            .field("cursor", "not a cursor of this list")
    })
}

/// A key of two parts: what a list is ordered by, and what tells rows apart that are equal in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<A, B>(pub(crate) A, pub(crate) B);

impl<A: Display, B: Display> Display for Pair<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl<A: FromStr, B: FromStr> FromStr for Pair<A, B> {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, second) = text.split_once('/').ok_or(())?;
        Ok(Self(first.parse().map_err(drop)?, second.parse().map_err(drop)?))
    }
}

/// An instant in a key: microseconds, as exact as the databases keep it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At(pub(crate) DateTime<Utc>);

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.timestamp_micros().fmt(f)
    }
}

impl FromStr for At {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().and_then(DateTime::from_timestamp_micros).map(Self).ok_or(())
    }
}

/// Splits what was read with one row too many into the page and whether more follows.
pub(crate) fn page<T>(mut rows: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let more = rows.len() > limit;
    rows.truncate(limit);
    (rows, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_its_own_list_only() {
        let written = cursor("ticker", "NASDAQ:AAPL");
        assert_eq!(after::<market::Ticker>("ticker", Some(&written)).unwrap().unwrap().symbol(), "AAPL");
        assert!(after::<market::Ticker>("run", Some(&written)).is_err());
        assert!(after::<market::Ticker>("ticker", Some("zz")).is_err());
        assert!(after::<market::Ticker>("ticker", None).unwrap().is_none());
        let at: DateTime<Utc> = "2024-03-05T22:00:00.000123Z".parse().unwrap();
        let Pair(At(back), nth) = after::<Pair<At, i64>>("x", Some(&cursor("x", Pair(At(at), 7)))).unwrap().unwrap();
        assert_eq!((back, nth), (at, 7));
        assert!(after::<Pair<At, i64>>("x", Some(&cursor("x", "7"))).is_err());
    }
}
