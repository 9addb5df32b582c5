//! How often the calendar foretells the next session, over the real history of both exchanges: the week is learnt, changes of it and long closures
//! included. Skipped, saying so, where the prices are absent.

use crate::real_prices::shared;
use chrono::{Datelike, Days, NaiveDate};
use market::{Calendar, EVIDENCE_DAYS, Exchange, parse_bars_csv};
use std::collections::{BTreeMap, BTreeSet};

/// Every day on which any of the exchange's tickers traded.
fn sessions(exchange: Exchange) -> Option<Vec<NaiveDate>> {
    let folder = shared("prices")?.join(exchange.as_str());
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let days: BTreeSet<NaiveDate> =
        files.flat_map(|text| parse_bars_csv(&text).unwrap().bars).map(|bar| bar.session).collect();
    Some(days.into_iter().collect())
}

/// What came of foretelling each session from those before it.
#[derive(Debug, Default)]
struct Foretold {
    asked: usize,
    right: usize,
    /// Sessions that came before the one foretold: their forecasts aimed too far.
    came_earlier: Vec<NaiveDate>,
    by_year: BTreeMap<i32, (usize, usize)>,
}

fn foretold(exchange: Exchange, sessions: &[NaiveDate], from: i32) -> Foretold {
    let mut found = Foretold::default();
    for (n, pair) in sessions.windows(2).enumerate().filter(|(_, pair)| pair[1].year() >= from) {
        let [newest, next] = pair else { continue };
        let since = *newest - Days::new(EVIDENCE_DAYS);
        let known = sessions[..=n].iter().copied().filter(|day| *day >= since);
        let (target, _) = Calendar::new(exchange, known, vec![]).outlook(*newest).next_after(*newest);
        let of_year = found.by_year.entry(next.year()).or_default();
        (found.asked, of_year.0) = (found.asked + 1, of_year.0 + 1);
        if target == *next {
            (found.right, of_year.1) = (found.right + 1, of_year.1 + 1);
        } else if target > *next {
            found.came_earlier.push(*next);
        }
    }
    let share = found.right as f64 / found.asked as f64;
    println!("{exchange}: {} of {} next sessions foretold ({:.2} %)", found.right, found.asked, 100.0 * share);
    for (year, (asked, right)) in &found.by_year {
        println!("  {year}: {right} of {asked} ({:.1} %)", 100.0 * *right as f64 / *asked as f64);
    }
    println!("  came earlier: {:?}", found.came_earlier);
    found
}

#[test]
fn nepses_next_session_is_mostly_foretold_though_its_week_changes() {
    let Some(sessions) = sessions(Exchange::Nepse) else { return };
    let found = foretold(Exchange::Nepse, &sessions, 2018);
    assert!(found.asked > 1_800, "{found:?}");
    // What is missed are the first days of holidays, of which nobody has told us; a word of an operator would be needed.
    assert!(found.right as f64 >= 0.91 * found.asked as f64, "{found:?}");
    // The week changed four times, and each change was learnt in two weeks.
    assert!(found.came_earlier.len() <= 8, "{found:?}");
    assert!(found.by_year.values().all(|(asked, right)| *right as f64 >= 0.86 * *asked as f64), "{found:?}");
}

#[test]
fn nasdaqs_next_session_is_foretold_by_the_list_of_holidays() {
    let Some(sessions) = sessions(Exchange::Nasdaq) else { return };
    let found = foretold(Exchange::Nasdaq, &sessions, 2020);
    let wrong = found.asked - found.right;
    assert!(found.asked > 1_600 && wrong <= 2 && found.came_earlier.is_empty(), "{found:?}");
}
