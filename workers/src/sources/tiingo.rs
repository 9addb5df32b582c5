//! The Tiingo source for NASDAQ, for who has a key: one request per ticker, and one more for a new ticker, whose name the prices do not echo.
//! Its closes are as traded, with the split of each day beside them; here they become split-adjusted like the archive's.

use super::error::SourceErrorKind as Kind;
use super::http::{self, PoliteClient, Question, Visit};
use super::overlap::{self, Overlap};
use super::tiingo_page::{self, PricesPage};
use super::yahoo_page::spelled;
use super::{Ask, Key, PriceSource, SourceError};
use async_trait::async_trait;
use chrono::NaiveDate;
use market::{Bar, Batch, Exchange, explaining, is_final, split_adjusted};
use reqwest::Url;
use reqwest::header::{self, HeaderValue};
use std::sync::Arc;

/// From when on all of a history is read again; older rows are no bars for us.
const OLDEST: NaiveDate = NaiveDate::from_ymd_opt(1990, 1, 2).expect("a valid date");

pub(super) struct Tiingo {
    client: Arc<PoliteClient>,
    base: String,
    /// `Token KEY`, marked so that nothing prints it.
    authorization: HeaderValue,
}

impl Tiingo {
    /// `None` when the key has characters that no header may have.
    pub(super) fn new(client: Arc<PoliteClient>, base: String, key: &Key) -> Option<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Token {}", key.reveal())).ok()?;
        authorization.set_sensitive(true);
        Some(Self { client, base, authorization })
    }

    fn question(&self, url: Url) -> Question<'static> {
        let mut question = Question { key: Some(tiingo_page::KEY_SETTING), ..Question::get(url) };
        question.headers.insert(header::AUTHORIZATION, self.authorization.clone());
        question
    }

    /// Asks what the vendor knows under this name: the prices themselves do not say whose they are.
    async fn identify(&self, visit: &mut Visit<'_>, ask: &Ask) -> Result<(), Kind> {
        let url = http::address(&self.base, &format!("/tiingo/daily/{}", spelled(&ask.ticker)))?;
        let got = tiingo_page::parse_symbol(&visit.ask(self.question(url)).await?)?;
        if got == spelled(&ask.ticker) { Ok(()) } else { Err(Kind::Identity { asked: ask.ticker.to_string(), got }) }
    }

    async fn prices(&self, visit: &mut Visit<'_>, ask: &Ask, from: NaiveDate) -> Result<(PricesPage, String), Kind> {
        let until = ask.now.with_timezone(&ask.ticker.exchange().zone()).date_naive();
        let mut url = http::address(&self.base, &format!("/tiingo/daily/{}/prices", spelled(&ask.ticker)))?;
        url.query_pairs_mut().append_pair("startDate", &from.to_string()).append_pair("endDate", &until.to_string());
        let text = visit.ask(self.question(url)).await?;
        let mut page = tiingo_page::parse(&text)?;
        page.bars.retain(|bar| is_final(ask.ticker.exchange(), bar.session, ask.now));
        Ok((page, http::hash([text.as_str()])))
    }

    async fn read(&self, ask: &Ask) -> Result<Batch, Kind> {
        let mut visit = self.client.visit();
        if ask.known.is_empty() {
            self.identify(&mut visit, ask).await?;
        }
        let from = ask.known.first().map_or(ask.history_from, |bar| bar.session);
        let (mut page, mut body_sha256) = self.prices(&mut visit, ask, from).await?;
        let bars = match judge(&page, ask)? {
            Joined::Bars(bars) => bars,
            Joined::ReadAll(factor) => {
                tracing::info!(ticker = %ask.ticker, factor, "a split restates the history; reading all of it again");
                (page, body_sha256) = self.prices(&mut visit, ask, OLDEST).await?;
                split_adjusted(&page.bars, &page.splits)
            }
        };
        Ok(Batch {
            ticker: ask.ticker.clone(),
            source: "tiingo".to_owned(),
            bars,
            factors: Vec::new(),
            splits: page.splits,
            page_session: page.page_session,
            refused: page.refused,
            fetched_at: ask.now,
            body_sha256,
        })
    }
}

/// What an answer means for the archive.
#[derive(Debug, PartialEq)]
enum Joined {
    /// These join it.
    Bars(Vec<Bar>),
    /// A split moved all older closes by this: the history must be read as a whole.
    ReadAll(f64),
}

/// Whether the answer is of the archived security and on its level: pure.
fn judge(page: &PricesPage, ask: &Ask) -> Result<Joined, Kind> {
    let bars = split_adjusted(&page.bars, &page.splits);
    let another = |got: String| Kind::Identity { asked: ask.ticker.to_string(), got };
    match overlap::compare(&bars, &ask.known) {
        Overlap::Apart if !ask.known.is_empty() => {
            Err(another("a history without any of the archived sessions".to_owned()))
        }
        Overlap::Apart | Overlap::Agrees => Ok(Joined::Bars(overlap::news(bars, &ask.known))),
        Overlap::Mismatch(how) => Err(another(how)),
        Overlap::Restated(factor) if explaining(&page.splits, factor).is_some() => Ok(Joined::ReadAll(factor)),
        Overlap::Restated(factor) => Err(Kind::Adjustment(format!(
            "its closes, with the splits that it names, are {factor:.4} times the archived ones"
        ))),
    }
}

#[async_trait]
impl PriceSource for Tiingo {
    fn id(&self) -> &'static str {
        "tiingo"
    }

    fn exchanges(&self) -> &'static [Exchange] {
        &[Exchange::Nasdaq]
    }

    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError> {
        self.read(ask).await.map_err(|kind| kind.while_doing(format!("reading the prices of {}", ask.ticker)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::overlap::tests::bars;
    use super::*;
    use market::{Split, Ticker};

    fn judged(traded: &[f64], split: Option<(usize, f64)>, known: &[f64]) -> Result<Joined, Kind> {
        let came = bars(traded);
        let splits = split.map(|(at, shares)| Split { session: came[at].session, shares }).into_iter().collect();
        let page = PricesPage { bars: came, splits, ..PricesPage::default() };
        let ask = Ask {
            ticker: Ticker::parse("NASDAQ:DEMO").unwrap(),
            known: bars(known),
            now: "2026-03-04T12:00:00Z".parse().unwrap(),
            history_from: NaiveDate::from_ymd_opt(2024, 1, 1).unwrap(),
        };
        judge(&page, &ask)
    }

    fn closes(joined: Result<Joined, Kind>) -> Vec<f64> {
        let Ok(Joined::Bars(bars)) = joined else { panic!("{joined:?}") };
        bars.iter().map(|bar| bar.close).collect()
    }

    #[test]
    fn two_adjustments_never_meet() {
        assert_eq!(
            closes(judged(&[40.0, 44.0, 11.5], Some((2, 4.0)), &[10.0, 11.0])),
            [11.5],
            "the archive is adjusted"
        );
        let fresh = judged(&[40.0, 44.0, 11.5], Some((2, 4.0)), &[40.0, 44.0]);
        assert_eq!(fresh, Ok(Joined::ReadAll(0.25)), "the archive does not know the split yet");
        let unnamed = judged(&[40.0, 44.0, 45.0], None, &[10.0, 11.0]);
        assert!(matches!(unnamed, Err(Kind::Adjustment(_))), "{unnamed:?}");
        let misnamed = judged(&[40.0, 44.0, 11.5], Some((2, 2.0)), &[40.0, 44.0]);
        assert_eq!(misnamed, Ok(Joined::ReadAll(0.5)), "the gate finds the jump that is left");
        assert!(matches!(judged(&[1.0, 3.0, 2.0], None, &[10.0, 11.0]), Err(Kind::Identity { .. })));
        assert_eq!(closes(judged(&[40.0, 10.5], Some((1, 4.0)), &[])), [10.0, 10.5]);
    }

    #[test]
    fn the_rounding_of_an_adjusted_close_is_no_correction() {
        assert_eq!(closes(judged(&[100.0, 101.0, 34.0], Some((2, 3.0)), &[33.3334, 33.6666])), [34.0]);
        assert_eq!(closes(judged(&[100.0, 101.5, 34.0], Some((2, 3.0)), &[33.3334, 33.6666])), [33.8333, 34.0]);
    }
}
