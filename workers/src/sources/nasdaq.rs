//! The api.nasdaq.com source for NASDAQ, a fallback: one request per ticker, two for a fund that is asked for the first time. Whether its prices are adjusted for splits nobody says, so
//! they join a series only where they agree with it, and never across a jump that may be a split.

use super::error::SourceErrorKind as Kind;
use super::http::{self, PoliteClient, Question, Visit};
use super::overlap::{self, Overlap};
use super::yahoo_page::ChartPage;
use super::{Ask, PriceSource, SourceError, nasdaq_page};
use async_trait::async_trait;
use market::{Bar, Batch, Exchange, Ticker, is_final};
use reqwest::header::{self, HeaderValue};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The host is known to let some clients hang; then the next source should have its turn soon.
const TIMEOUT: Duration = Duration::from_secs(10);

/// More rows than a history of thirty years has; without a limit the site is said to answer some fourteen.
const LIMIT: &str = "9999";

/// A close so many times the one before, or so many times less, may be a split as well as news.
const SPLIT_LIKE: f64 = 1.45;

pub(super) struct Nasdaq {
    client: Arc<PoliteClient>,
    base: String,
    /// Tickers that were found among the funds; they are looked for there first.
    funds: Mutex<HashSet<Ticker>>,
}

impl Nasdaq {
    pub(super) fn new(client: Arc<PoliteClient>, base: String) -> Self {
        Self { client, base, funds: Mutex::default() }
    }

    /// The site keeps stocks and funds apart, and knows a symbol only among its own kind.
    async fn find(&self, ask: &Ask) -> Result<(ChartPage, String), Kind> {
        let fund =
            |funds: &Mutex<HashSet<Ticker>>| funds.lock().unwrap_or_else(PoisonError::into_inner).contains(&ask.ticker);
        let classes = if fund(&self.funds) { ["etf", "stocks"] } else { ["stocks", "etf"] };
        let mut visit = self.client.visit();
        let first = self.page(&mut visit, ask, classes[0]).await;
        let (page, class) = match first {
            Err(Kind::NotFound) => (self.page(&mut visit, ask, classes[1]).await?, classes[1]),
            first => (first?, classes[0]),
        };
        let mut funds = self.funds.lock().unwrap_or_else(PoisonError::into_inner);
        if class == "etf" {
            funds.insert(ask.ticker.clone())
        } else {
            funds.remove(&ask.ticker)
        };
        Ok(page)
    }

    async fn page(&self, visit: &mut Visit<'_>, ask: &Ask, class: &str) -> Result<(ChartPage, String), Kind> {
        let from = ask.known.first().map_or(ask.history_from, |bar| bar.session);
        let today = ask.now.with_timezone(&ask.ticker.exchange().zone()).date_naive();
        let mut url = http::address(&self.base, &format!("/api/quote/{}/historical", ask.ticker.symbol()))?;
        url.query_pairs_mut()
            .append_pair("assetclass", class)
            .append_pair("fromdate", &from.to_string())
            .append_pair("todate", &today.to_string())
            .append_pair("limit", LIMIT);
        let mut question = Question { timeout: Some(TIMEOUT), ..Question::get(url) };
        question.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/plain, */*"));
        question.headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("en-US,en;q=0.9"));
        let text = visit.ask(question).await?;
        let mut page = nasdaq_page::parse(&text, &ask.ticker)?;
        page.bars.retain(|bar| is_final(ask.ticker.exchange(), bar.session, ask.now));
        Ok((page, http::hash([text.as_str()])))
    }

    async fn read(&self, ask: &Ask) -> Result<Batch, Kind> {
        let (page, body_sha256) = self.find(ask).await?;
        let mut refused = page.refused;
        let bars = joined(page.bars, ask, &mut refused)?;
        Ok(Batch {
            ticker: ask.ticker.clone(),
            source: "nasdaq".to_owned(),
            bars,
            factors: Vec::new(),
            splits: Vec::new(),
            page_session: page.page_session,
            refused,
            fetched_at: ask.now,
            body_sha256,
        })
    }
}

/// The bars that may join the archive's: pure.
fn joined(mut bars: Vec<Bar>, ask: &Ask, refused: &mut Vec<String>) -> Result<Vec<Bar>, Kind> {
    let asked = || ask.ticker.to_string();
    match overlap::compare(&bars, &ask.known) {
        Overlap::Agrees => {}
        Overlap::Apart if ask.known.is_empty() => {}
        Overlap::Apart => {
            return Err(Kind::Identity {
                asked: asked(),
                got: "a history without any of the archived sessions".to_owned(),
            });
        }
        Overlap::Mismatch(how) => return Err(Kind::Identity { asked: asked(), got: how }),
        Overlap::Restated(factor) => {
            return Err(Kind::Adjustment(format!("its closes are {factor:.4} times the archived ones")));
        }
    }
    if let Some(at) = last_jump(&bars) {
        let jump = format!("from {} to {} at {}", bars[at - 1].close, bars[at].close, bars[at].session);
        // A jump that the archive knows, with the same closes on both sides, is settled.
        let settled = ask.known.last().is_some_and(|last| bars[at].session <= last.session);
        if !ask.known.is_empty() && !settled {
            return Err(Kind::Adjustment(format!("the close jumps {jump}")));
        }
        if ask.known.is_empty() {
            refused
                .push(format!("{at} sessions before {}: the close jumps {jump}, perhaps by a split", bars[at].session));
            bars.drain(..at);
        }
    }
    Ok(overlap::later(bars, &ask.known))
}

/// Where the newest jump lies that may be a split.
fn last_jump(bars: &[Bar]) -> Option<usize> {
    (1..bars.len()).rev().find(|at| {
        let change = bars[*at].close / bars[at - 1].close;
        !(1.0 / SPLIT_LIKE..=SPLIT_LIKE).contains(&change)
    })
}

#[async_trait]
impl PriceSource for Nasdaq {
    fn id(&self) -> &'static str {
        "nasdaq"
    }

    fn exchanges(&self) -> &'static [Exchange] {
        &[Exchange::Nasdaq]
    }

    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError> {
        self.read(ask).await.map_err(|kind| kind.while_doing(format!("reading the history of {}", ask.ticker)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::overlap::tests::bars;
    use super::*;
    use chrono::NaiveDate;

    fn join(fetched: &[f64], known: &[f64]) -> (Result<Vec<f64>, Kind>, usize) {
        let ask = Ask {
            ticker: Ticker::parse("NASDAQ:DEMO").unwrap(),
            known: bars(known),
            now: "2026-03-04T12:00:00Z".parse().unwrap(),
            history_from: NaiveDate::from_ymd_opt(2024, 1, 1).unwrap(),
        };
        let mut refused = Vec::new();
        let joined = joined(bars(fetched), &ask, &mut refused);
        (joined.map(|bars| bars.iter().map(|bar| bar.close).collect()), refused.len())
    }

    #[test]
    fn only_prices_that_agree_join_a_series() {
        assert_eq!(join(&[10.0, 11.0, 12.0], &[10.0, 11.0]), (Ok(vec![12.0]), 0));
        let split_and_adjusted = join(&[5.0, 5.5, 6.0], &[10.0, 11.0]).0;
        assert!(matches!(split_and_adjusted, Err(Kind::Adjustment(_))), "{split_and_adjusted:?}");
        let split_and_not_adjusted = join(&[10.0, 11.0, 6.0], &[10.0, 11.0]).0;
        assert!(matches!(split_and_not_adjusted, Err(Kind::Adjustment(_))), "{split_and_not_adjusted:?}");
        assert!(matches!(join(&[1.0, 3.0, 2.0], &[10.0, 11.0]).0, Err(Kind::Identity { .. })));
        assert!(matches!(join(&[], &[10.0]).0, Err(Kind::Identity { .. })));
        assert_eq!(join(&[10.0, 20.0, 21.0], &[10.0, 20.0]).0, Ok(vec![21.0]), "the archive has the same jump");
    }

    #[test]
    fn a_new_ticker_begins_after_what_may_be_a_split() {
        assert_eq!(join(&[10.0, 11.0, 5.5, 5.6], &[]), (Ok(vec![5.5, 5.6]), 1));
        assert_eq!(join(&[10.0, 11.0], &[]), (Ok(vec![10.0, 11.0]), 0));
    }
}
