//! Pages of the stand-in sites as text, without a server: for measurements and saved examples.

use crate::{
    DEFAULT_START, nasdaq,
    sharesansar::{self, HistoryForm},
    tiingo,
    world::{Listing, World},
    yahoo,
};
use anyhow::Context;
use market::{Exchange, Ticker};

/// A page, and whose it is.
#[derive(Debug, Clone)]
pub struct SavedPage {
    /// Its name.
    pub name: &'static str,
    /// The source that reads it.
    pub source: &'static str,
    /// The ticker that it is about; none for a page of all tickers.
    pub ticker: Option<Ticker>,
    /// Its text.
    pub text: String,
}

/// One page of each kind, from the invented exchange of this seed: `market` has so many tickers, `chart`, `quote` and `prices` a history of some three
/// thousand sessions, `history` the fifty rows that the site gives at a time.
pub fn saved_pages(seed: u64, tickers: usize) -> anyhow::Result<Vec<SavedPage>> {
    let now = DEFAULT_START.parse()?;
    let mut world = World::new(seed)?;
    crowd(&mut world, seed, tickers)?;
    let apple = Ticker::new(Exchange::Nasdaq, "AAPL")?;
    let bank = world.find(Exchange::Nepse, "DEMOBA").context("the invented bank")?.clone();
    let all = yahoo::ChartQuery { range: Some("max".to_owned()), ..yahoo::ChartQuery::default() };
    let since = world.find(Exchange::Nasdaq, "AAPL").and_then(|listing| listing.rows.first()).map(|row| row.session);
    let quotes = nasdaq::HistoryQuery {
        assetclass: Some("stocks".to_owned()),
        fromdate: since,
        limit: Some(9_999),
        ..nasdaq::HistoryQuery::default()
    };
    let prices = tiingo::PricesQuery { start_date: since, ..tiingo::PricesQuery::default() };
    let rows = HistoryForm { draw: 1, start: 0, length: 50, company: bank.company_id };
    let page = |name, source, ticker: Option<&Ticker>, text| SavedPage { name, source, ticker: ticker.cloned(), text };
    Ok(vec![
        page("market", "sharesansar", None, sharesansar::today(&world, now, &[], None)),
        page("history", "sharesansar", Some(&bank.ticker), sharesansar::history(&world, &rows, now, &[], None)),
        page("chart", "yahoo", Some(&apple), yahoo::chart(&world, "AAPL", &all, now, None).1),
        page("quote", "nasdaq", Some(&apple), nasdaq::historical(&world, "AAPL", &quotes, now, None)),
        page("prices", "tiingo", Some(&apple), tiingo::prices(&world, "AAPL", &prices, now, None).1),
    ])
}

/// More companies, until so many trade in the newest session: those of other seeds, under names of their own.
fn crowd(world: &mut World, seed: u64, tickers: usize) -> anyhow::Result<()> {
    let newest = world.last_closed_session(Exchange::Nepse, DEFAULT_START.parse()?).context("a session")?;
    let trades = |listing: &Listing| listing.rows.binary_search_by_key(&newest, |row| row.session).is_ok();
    let mut count = world.listings().iter().filter(|l| l.ticker.exchange() == Exchange::Nepse && trades(l)).count();
    let pattern: Vec<Listing> =
        world.listings().iter().filter(|l| l.ticker.exchange() == Exchange::Nepse).cloned().collect();
    let mut number = 0_u32;
    while count < tickers {
        for listing in pattern.iter().filter(|listing| trades(listing)).take(tickers - count) {
            number += 1;
            count += 1;
            // Another level, so that no two rows are alike.
            let scale = 1.0 + f64::from(number.wrapping_mul(7) % 97) / 31.0 + seed as f64 * 1e-3;
            let cents = |value: f64| (value * scale * 100.0).round() / 100.0;
            let mut more = listing.clone();
            more.ticker = Ticker::new(Exchange::Nepse, &format!("X{}{number}", listing.ticker.symbol()))?;
            for row in &mut more.rows {
                (row.open, row.high, row.low) = (cents(row.open), cents(row.high), cents(row.low));
                (row.close, row.ltp, row.prev_close) = (cents(row.close), cents(row.ltp), row.prev_close.map(cents));
            }
            world.add(more);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_market_page_has_as_many_tickers_as_asked_for() {
        let pages = saved_pages(7, 330).unwrap();
        assert_eq!(pages[0].text.matches("<tr>").count(), 331, "with the headers");
        assert_eq!(
            pages.iter().map(|page| page.name).collect::<Vec<_>>(),
            ["market", "history", "chart", "quote", "prices"]
        );
        assert!(pages.iter().all(|page| page.text.len() > 5_000), "{pages:?}");
    }
}
