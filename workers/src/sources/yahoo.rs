//! The Yahoo chart source for NASDAQ: one request per ticker, from the oldest of the newest archived bars.
//! After a split Yahoo rewrites all of history; then the whole of it is read again, so that the archive takes new revisions. Where it announces
//! a split and has not rewritten yet, we do what it is about to do.

use super::error::SourceErrorKind as Kind;
use super::http::{self, PoliteClient, Question};
use super::overlap::{self, Overlap};
use super::yahoo_page::{self, ChartPage};
use super::{Ask, PriceSource, SourceError};
use async_trait::async_trait;
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use market::{Batch, Exchange, is_final, lagging, split_adjusted};
use std::sync::Arc;

/// From when on all of a history is read again. Older rows are no bars for us (`BarFault::TooOld`) and would only be refused one by one.
const OLDEST: NaiveDate = NaiveDate::from_ymd_opt(1990, 1, 2).expect("a valid date");

pub(super) struct Yahoo {
    client: Arc<PoliteClient>,
    base: String,
}

impl Yahoo {
    pub(super) fn new(client: Arc<PoliteClient>, base: String) -> Self {
        Self { client, base }
    }

    /// The chart from `from` on, with unfinished days left out.
    async fn chart(&self, ask: &Ask, from: NaiveDate) -> Result<(ChartPage, String), Kind> {
        let mut url = http::address(&self.base, &format!("/v8/finance/chart/{}", yahoo_page::spelled(&ask.ticker)))?;
        url.query_pairs_mut()
            .append_pair("period1", &from.and_time(NaiveTime::MIN).and_utc().timestamp().to_string())
            .append_pair("period2", &(ask.now + TimeDelta::days(1)).timestamp().to_string())
            .append_pair("interval", "1d")
            .append_pair("includePrePost", "false")
            .append_pair("events", "div,splits,capitalGains");
        let text = self.client.ask(Question::get(url)).await?;
        let mut page = yahoo_page::parse(&text, &ask.ticker)?;
        page.bars.retain(|bar| is_final(ask.ticker.exchange(), bar.session, ask.now));
        let late = lagging(&page.bars, &page.splits);
        if !late.is_empty() {
            tracing::info!(ticker = %ask.ticker, ?late, "a split is announced, but older closes are not on its level yet; they are put there");
            page.bars = split_adjusted(&page.bars, &late);
        }
        Ok((page, http::hash([text.as_str()])))
    }

    async fn read(&self, ask: &Ask) -> Result<Batch, Kind> {
        let from = ask.known.first().map_or(ask.history_from, |bar| bar.session);
        let (mut page, mut body_sha256) = self.chart(ask, from).await?;
        let bars = match overlap::compare(&page.bars, &ask.known) {
            // We asked from the oldest of the known sessions on: a chart that has none of them is not of this security.
            Overlap::Apart if !ask.known.is_empty() => {
                let got = "a chart without any of the archived sessions".to_owned();
                return Err(Kind::Identity { asked: ask.ticker.to_string(), got });
            }
            Overlap::Apart | Overlap::Agrees => overlap::news(std::mem::take(&mut page.bars), &ask.known),
            Overlap::Mismatch(how) => return Err(Kind::Identity { asked: ask.ticker.to_string(), got: how }),
            Overlap::Restated(factor) => {
                tracing::info!(ticker = %ask.ticker, factor, "history was restated by a split; reading all of it again");
                (page, body_sha256) = self.chart(ask, OLDEST).await?;
                std::mem::take(&mut page.bars)
            }
        };
        Ok(Batch {
            ticker: ask.ticker.clone(),
            source: "yahoo".to_owned(),
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

#[async_trait]
impl PriceSource for Yahoo {
    fn id(&self) -> &'static str {
        "yahoo"
    }

    fn exchanges(&self) -> &'static [Exchange] {
        &[Exchange::Nasdaq]
    }

    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError> {
        self.read(ask).await.map_err(|kind| kind.while_doing(format!("reading the chart of {}", ask.ticker)))
    }
}
