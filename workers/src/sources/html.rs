//! HTML from strangers: in comes a page's text, out comes its document, unless it is built to keep a parser busy.

use super::error::SourceErrorKind as Kind;
use scraper::{ElementRef, Html, Selector};
use std::collections::HashMap;

/// So many tags may be open at a time. Pages of ours nest some thirty; each further one makes every later tag dearer, so that a megabyte of
/// tags that never close takes minutes to read.
const MOST_OPEN: usize = 1_000;

/// Elements that have no end.
const VOID: [&str; 9] = ["input", "br", "img", "meta", "link", "hr", "wbr", "col", "source"];

/// The page's document. A NUL becomes the replacement character: a parser of HTML drops it, and the digits on its two sides would be one number.
///
/// # Errors
/// `LayoutChanged` when it nests deeper than any page that we came for.
pub(super) fn document(text: &str) -> Result<Html, Kind> {
    if nests_too_deep(text) {
        return Err(Kind::layout(format!("at most {MOST_OPEN} tags open at a time"), "more"));
    }
    Ok(Html::parse_document(&text.replace('\0', "\u{fffd}")))
}

/// An element's text, with each run of white space as one space. Markup within it parts words: the digits on its two sides are not one number.
pub(super) fn text_of(element: &ElementRef<'_>) -> String {
    element.text().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// A selector that stands in our own code.
pub(super) fn selector(css: &str) -> Selector {
    Selector::parse(css).expect("a selector written in this crate")
}

/// An estimate that errs on the side of "too deep": an end tag counts only for a tag of its name that is open.
fn nests_too_deep(text: &str) -> bool {
    let (mut open, mut total): (HashMap<String, usize>, usize) = (HashMap::new(), 0);
    for piece in text.split('<').skip(1) {
        let (closes, piece) = piece.strip_prefix('/').map_or((false, piece), |rest| (true, rest));
        if !piece.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let end = piece.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).unwrap_or(piece.len());
        let name = piece[..end].to_ascii_lowercase();
        if VOID.contains(&name.as_str()) {
            continue;
        }
        let count = open.entry(name).or_default();
        if !closes {
            (*count, total) = (*count + 1, total + 1);
        } else if *count > 0 {
            (*count, total) = (*count - 1, total - 1);
        }
        if total > MOST_OPEN {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_does_not_join_what_it_parts() {
        let page = document("<table><tr><td>12\u{0}3</td></tr></table>").unwrap();
        assert_eq!(text_of(&page.select(&selector("td")).next().unwrap()), "12\u{fffd}3");
    }

    #[test]
    fn markup_does_not_join_what_it_parts() {
        let page = document("<table><tr><td>1,0<b>11</b>.50<!-- -->7<br>Prev.<br>Close</td></tr></table>").unwrap();
        assert_eq!(text_of(&page.select(&selector("td")).next().unwrap()), "1,0 11 .50 7 Prev. Close");
    }

    #[test]
    fn a_large_page_is_read_and_a_deep_one_is_not() {
        let row = "<tr><td>1</td><td><a href=\"/x\">A</a><br><img src=x></td></tr>";
        assert!(document(&format!("<table>{}</table>", row.repeat(20_000))).is_ok());
        assert!(document(&"<div>".repeat(MOST_OPEN)).is_ok());
        for deep in ["<div>", "<b></x>", "<DIV\n>", "<a><p>", "<div/>"] {
            assert!(document(&deep.repeat(MOST_OPEN + 1)).is_err(), "{deep}");
        }
    }
}
