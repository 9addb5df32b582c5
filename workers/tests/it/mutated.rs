//! Pages with flaws: whatever happens to a page on its way, no parser panics, and each value that it reads stands on the page.

use crate::captures::capture;
use market::{Bar, round4};
use proptest::prelude::*;
use std::collections::BTreeSet;
use workers::sources::saved_page;

/// One page of each kind, written for this test.
pub(crate) const PAGES: [(&str, &str); 7] = [
    ("yahoo", include_str!("pages/chart.json")),
    ("nasdaq", include_str!("pages/quote.json")),
    ("tiingo", include_str!("pages/prices.json")),
    ("sharesansar", include_str!("pages/today.html")),
    ("sharesansar", include_str!("pages/history.json")),
    ("merolagani", include_str!("pages/tab.html")),
    ("merolagani", include_str!("pages/tab.delta.txt")),
];

/// What happens to a page: something is cut out, put in or put over, or the rest is lost.
#[derive(Debug, Clone)]
enum Flaw {
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    Over(prop::sample::Index, u8),
    Lose(prop::sample::Index),
}

fn flaw() -> impl Strategy<Value = Flaw> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), 1usize..40).prop_map(|(at, count)| Flaw::Cut(at, count)),
        4 => (at(), "[<>|,.$\\-0-9a-z/ {}\\[\\]:\"]{1,6}").prop_map(|(at, text)| Flaw::Insert(at, text)),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Flaw::Over(at, byte)),
        1 => at().prop_map(Flaw::Lose),
    ]
}

fn spoil(page: &[u8], flaws: &[Flaw]) -> Vec<u8> {
    let mut page = page.to_vec();
    for flaw in flaws.iter().filter(|_| !page.is_empty()).cloned().collect::<Vec<_>>() {
        if page.is_empty() {
            break;
        }
        match flaw {
            Flaw::Cut(at, count) => {
                let from = at.index(page.len());
                page.drain(from..(from + count).min(page.len()));
            }
            Flaw::Insert(at, text) => {
                let at = at.index(page.len());
                page.splice(at..at, text.bytes());
            }
            Flaw::Over(at, byte) => {
                let at = at.index(page.len());
                page[at] = byte;
            }
            Flaw::Lose(at) => page.truncate(at.index(page.len())),
        }
    }
    page
}

/// Every number that can be made out on the page, in ten-thousandths.
pub(crate) fn numbers(page: &str) -> BTreeSet<i128> {
    let page: String = page.chars().map(|c| digit(c).unwrap_or(c)).collect();
    let pieces = page.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | 'e' | 'E' | '+' | '-')));
    let plain = |text: &str| text.replace(',', "").parse::<f64>().ok();
    let inner = |piece: &str| {
        let all: Vec<f64> =
            [piece, piece.trim_matches(|c: char| !c.is_ascii_digit())].into_iter().filter_map(plain).collect();
        all.into_iter().chain(piece.split([',', '-', '+']).filter_map(plain)).collect::<Vec<_>>()
    };
    pieces.flat_map(inner).filter(|n| n.is_finite()).map(key).collect()
}

/// A Devanagari digit as ours.
fn digit(c: char) -> Option<char> {
    char::from_digit((c as u32).checked_sub(0x0966)?, 10)
}

pub(crate) fn key(number: f64) -> i128 {
    (round4(number) * 1e4).round() as i128
}

pub(crate) fn values(bar: &Bar) -> impl Iterator<Item = f64> {
    [bar.open, bar.high, bar.low, Some(bar.close), bar.ltp, bar.prev_close, bar.volume].into_iter().flatten()
}

fn check(source: &str, page: &[u8]) -> Result<(), TestCaseError> {
    let Ok(read) = saved_page::read(source, page, None) else { return Ok(()) };
    let text = String::from_utf8_lossy(page);
    let known = numbers(&text);
    for (_, bar) in &read.rows {
        for value in values(bar) {
            prop_assert!(known.contains(&key(value)), "{value} stands nowhere on the page: {bar:?}\n{text}");
        }
        prop_assert!(bar.close > 0.0 && bar.close.is_finite());
    }
    Ok(())
}

#[test]
fn the_whole_pages_are_read() {
    for (source, page) in PAGES {
        let read = saved_page::read(source, page.as_bytes(), None).unwrap();
        assert_eq!((read.rows.len(), read.refused.len()), (3, 0), "{source}: {read:?}");
        check(source, page.as_bytes()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_spoilt_page_invents_nothing(which in 0..PAGES.len(), flaws in prop::collection::vec(flaw(), 1..4)) {
        let (source, page) = PAGES[which];
        check(source, &spoil(page.as_bytes(), &flaws))?;
    }

    #[test]
    fn any_bytes_are_an_error_or_a_page(bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0..saved_page::SOURCES.len()) {
        check(saved_page::SOURCES[which], &bytes)?;
    }
}

#[test]
fn spoilt_captures_invent_nothing() {
    for (source, name) in crate::captures::CAPTURES {
        let Some(page) = capture(name) else { continue };
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
        let flaws = prop::collection::vec(flaw(), 1..4);
        runner.run(&flaws, |flaws| check(source, &spoil(page.as_bytes(), &flaws))).unwrap();
    }
}

#[test]
fn a_page_of_nothing_but_tags_is_no_trap() {
    for tag in ["<div>", "<b>", "<table>", "<td>", "<a><p>", "<table id=\"headFixed\"><tr><td>"] {
        let page = format!("<html>{}</table>", tag.repeat(1_000_000 / tag.len()));
        for source in ["sharesansar", "merolagani"] {
            assert!(saved_page::read(source, page.as_bytes(), None).is_err(), "{source} {tag}");
        }
    }
}
