//! Cursors: opaque text that says after which item the next page begins. Readers hand them back and never look inside.

use crate::problem::Problem;
use poem::http::StatusCode;

/// A cursor of list `kind` that stands after `key`.
pub(crate) fn cursor(kind: &str, key: impl std::fmt::Display) -> String {
    hex::encode(format!("{kind}:{key}"))
}

/// The key inside a cursor of list `kind`; `None` when there is no cursor.
pub(crate) fn after<T: std::str::FromStr>(kind: &str, cursor: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let key = hex::decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let key = key.as_deref().and_then(|text| text.strip_prefix(kind)?.strip_prefix(':')?.parse().ok());
    key.map(Some).ok_or_else(|| {
        let detail = "Take `next_cursor` from the page before, or leave it out.";
        Problem::new(StatusCode::BAD_REQUEST, "bad_cursor", "The cursor is not of this list", detail)
            .field("cursor", "not a cursor of this list")
    })
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
    }
}
