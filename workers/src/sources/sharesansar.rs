//! The ShareSansar source for NEPSE: one page a session feeds all tickers; a company's own history is read only for new tickers, for gaps
//! and for corporate actions.

use super::error::SourceErrorKind as Kind;
use super::http::{self, PoliteClient, Question, Visit};
use super::overlap::{self, Overlap};
use super::sharesansar_page::{self as page, CompanyPage, TodayPage};
use super::whole_page::WholePage;
use super::{Ask, PriceSource, SourceError};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Bar, Batch, Exchange, Factor, RawBar, is_final, round4};
use reqwest::cookie::Jar;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use workflows::Db;

/// The site answers a length of 100 or more as if there were nothing.
const PAGE_LENGTH: usize = 50;
/// A published previous close that differs from the archived one by more than this is a corporate action, or a gap.
const SAME_CLOSE: f64 = 0.005;
/// Published prices have two decimals: closes that differ by less are the same.
const SAME_CENT: f64 = 0.0051;
/// Without a look at the history, the page's row is taken as the next one only over so many days: a weekend and a holiday or two.
const SHORT_GAP: TimeDelta = TimeDelta::days(4);
/// A factor is believed only between sessions that are not further apart: in a longer gap, rows are missing.
const LONGEST_GAP: TimeDelta = TimeDelta::days(30);

pub(super) struct ShareSansar {
    client: Arc<PoliteClient>,
    base: String,
    page_age: Duration,
    whole: WholePage,
    /// Today's page, held while it is fetched, so that all tickers of a night share one request.
    today: Mutex<Today>,
}

#[derive(Default)]
struct Today {
    kept: Option<Kept>,
    /// The last failure and when it came: whoever was waiting then shares it, so that a site that is down is not asked once per ticker.
    failed: Option<(Instant, Kind)>,
}

struct Kept {
    read_at: Instant,
    /// The market's hour for which it was read: the virtual clock of a demo outruns the real one.
    hour: i64,
    /// The page and its hash; or that it was set aside: then its tickers do not all read it again.
    page: Result<(Arc<TodayPage>, String), Kind>,
}

impl ShareSansar {
    /// With a database, today's page is laid beside those before it.
    pub(super) fn new(client: Arc<PoliteClient>, base: String, page_age: Duration, db: Option<Db>) -> Self {
        let whole = WholePage { exchange: Exchange::Nepse, source: "sharesansar", db };
        Self { client, base, page_age, whole, today: Mutex::default() }
    }

    async fn today(&self, now: DateTime<Utc>) -> Result<(Arc<TodayPage>, String), Kind> {
        let hour = now.timestamp() / 3600;
        let came_at = Instant::now();
        let mut today = self.today.lock().await;
        if let Some(kept) = today.kept.as_ref().filter(|k| k.hour == hour && k.read_at.elapsed() < self.page_age) {
            return kept.page.clone();
        }
        if let Some((_, kind)) = today.failed.as_ref().filter(|(at, _)| *at >= came_at) {
            return Err(kind.clone());
        }
        let page = self.read_today(now).await;
        match &page {
            Ok(_) | Err(Kind::PartialPage(_)) => {
                today.kept = Some(Kept { read_at: Instant::now(), hour, page: page.clone() });
            }
            Err(kind) => today.failed = Some((Instant::now(), kind.clone())),
        }
        page
    }

    async fn read_today(&self, now: DateTime<Utc>) -> Result<(Arc<TodayPage>, String), Kind> {
        let text = self.client.ask(Question::get(http::address(&self.base, "/today-share-price")?)).await?;
        let page = match page::parse_today(&text) {
            Err(Kind::Empty) => {
                self.whole.empty(now).await;
                return Err(Kind::Empty);
            }
            page => Arc::new(page?),
        };
        let hash = http::hash([text.as_str()]);
        // A row that cannot be read stands on the page all the same.
        let symbols = page.rows.keys().chain(page.refused.keys());
        self.whole.judge(page.session, symbols, &hash, now).await?;
        Ok((page, hash))
    }

    async fn read(&self, ask: &Ask) -> Result<Batch, Kind> {
        // Also for a new ticker: the page says which session the exchange stands at, whether or not this ticker traded in it.
        let (today, hash) = self.today(ask.now).await?;
        let symbol = ask.ticker.symbol();
        let row = today.rows.get(symbol);
        if let Some(last) = ask.known.last()
            && row.is_none_or(|row| today.session <= last.session || continues(row, today.session, last))
        {
            let rows = row.into_iter().copied().collect();
            return Ok(self.batch(ask, today.session, rows, refusal(&today, symbol), hash));
        }
        // New; or the published previous close is not ours: a corporate action, or sessions that we missed. The history tells which.
        self.history(ask, today.session, row.copied()).await
    }

    /// A company's history back to what is known (or as far as was asked for), with today's row laid over it.
    async fn history(&self, ask: &Ask, session: NaiveDate, today: Option<RawBar>) -> Result<Batch, Kind> {
        let stop_at = ask.known.first().map_or(ask.history_from, |bar| bar.session);
        let mut tried = 0;
        let (mut rows, refused, hash) = loop {
            match self.history_rows(ask, stop_at).await {
                // A token that is no longer good is got anew, once.
                Err(Kind::SessionExpired) if tried == 0 => tried += 1,
                other => break other?,
            }
        };
        rows.extend(today);
        let page_session = rows.iter().filter_map(|row| row.session).fold(session, NaiveDate::max);
        Ok(self.batch(ask, page_session, rows, refused, hash))
    }

    /// The rows back to `stop_at`, what was refused of them, and the hash of the pages.
    async fn history_rows(&self, ask: &Ask, stop_at: NaiveDate) -> Result<(Vec<RawBar>, Vec<String>, String), Kind> {
        let jar = Jar::default();
        let mut visit = self.client.visit();
        let url = http::address(&self.base, &format!("/company/{}", ask.ticker.symbol().to_ascii_lowercase()))?;
        let html = visit.ask(Question { jar: Some(&jar), ..Question::get(url) }).await?;
        let company = page::parse_company(&html)?;
        if company.symbol != ask.ticker.symbol() {
            return Err(Kind::Identity { asked: ask.ticker.to_string(), got: company.symbol });
        }
        let url = http::address(&self.base, "/company-price-history")?;
        let (mut rows, mut refused, mut pages): (Vec<RawBar>, Vec<String>, Vec<String>) = Default::default();
        loop {
            let start = rows.len() + refused.len();
            let text = self.history_page(&mut visit, &jar, &url, &company, start, pages.len() + 1).await?;
            let read = page::parse_history(&text)?;
            // A page that repeats would never end.
            if read.rows.is_empty() && read.refused.is_empty() || pages.last() == Some(&text) {
                break;
            }
            pages.push(text);
            rows.extend(read.rows);
            refused.extend(read.refused);
            let oldest = rows.last().and_then(|row| row.session);
            if (rows.len() + refused.len()) as u64 >= read.total || oldest.is_some_and(|oldest| oldest <= stop_at) {
                break;
            }
        }
        if rows.is_empty() {
            return Err(Kind::Empty);
        }
        rows.retain(|row| row.session.is_some_and(|session| session >= stop_at));
        Ok((rows, refused, http::hash(pages.iter().map(String::as_str))))
    }

    async fn history_page(
        &self,
        visit: &mut Visit<'_>,
        jar: &Jar,
        url: &Url,
        company: &CompanyPage,
        start: usize,
        draw: usize,
    ) -> Result<String, Kind> {
        let mut headers = HeaderMap::new();
        headers.insert("x-requested-with", HeaderValue::from_static("XMLHttpRequest"));
        headers.insert(
            "x-csrf-token",
            HeaderValue::from_str(&company.token).map_err(|_| Kind::layout("a token of plain characters", "others"))?,
        );
        let form = [
            ("draw", draw.to_string()),
            ("start", start.to_string()),
            ("length", PAGE_LENGTH.to_string()),
            ("company", company.id.clone()),
            ("_token", company.token.clone()),
        ];
        let question =
            Question { method: Method::POST, headers, form: Some(&form), jar: Some(jar), ..Question::get(url.clone()) };
        visit.ask(question).await
    }

    fn batch(
        &self,
        ask: &Ask,
        page_session: NaiveDate,
        rows: Vec<RawBar>,
        mut refused: Vec<String>,
        hash: String,
    ) -> Batch {
        let mut by_session: BTreeMap<NaiveDate, Bar> = BTreeMap::new();
        for row in rows {
            match row.check() {
                Ok(bar) => {
                    if is_final(ask.ticker.exchange(), bar.session, ask.now) {
                        by_session.insert(bar.session, bar);
                    }
                }
                Err(why) => refused.push(format!("{}: {why}", row.session.map(|s| s.to_string()).unwrap_or_default())),
            }
        }
        let bars: Vec<Bar> = by_session.into_values().collect();
        let factors = factors(&bars, &ask.known);
        Batch {
            ticker: ask.ticker.clone(),
            source: "sharesansar".to_owned(),
            bars: overlap::news(bars, &ask.known),
            factors,
            splits: Vec::new(),
            page_session: Some(page_session),
            refused,
            fetched_at: ask.now,
            body_sha256: hash,
        }
    }
}

/// Whether the row surely follows directly on the newest archived bar: it names that close, to the cent, as its previous one, and
/// not much time has passed. "About that close" would not do: half of all sessions end within half a per cent of the one
/// before, and a session missed in between would be a hole for good.
fn continues(row: &RawBar, session: NaiveDate, last: &Bar) -> bool {
    let named = row.prev_close.is_some_and(|prev| (prev - last.close).abs() <= SAME_CENT);
    named && session > last.session && session - last.session <= SHORT_GAP
}

fn refusal(today: &TodayPage, symbol: &str) -> Vec<String> {
    today.refused.get(symbol).map(|why| format!("{}: {why}", today.session)).into_iter().collect()
}

/// Corporate actions: where a bar's published previous close is not the close before it.
fn factors(bars: &[Bar], known: &[Bar]) -> Vec<Factor> {
    let mut all: BTreeMap<NaiveDate, Bar> = known.iter().map(|bar| (bar.session, *bar)).collect();
    all.extend(bars.iter().map(|bar| (bar.session, *bar)));
    let all: Vec<Bar> = all.into_values().collect();
    all.windows(2)
        .filter_map(|pair| {
            let factor = pair[1].prev_close? / pair[0].close;
            let near = pair[1].session - pair[0].session <= LONGEST_GAP;
            let fresh = bars.iter().any(|bar| bar.session == pair[1].session);
            ((factor - 1.0).abs() > SAME_CLOSE && near && fresh)
                .then(|| Factor { session: pair[1].session, factor: round4(factor) })
        })
        .filter(|f| f.factor > 0.0)
        .collect()
}

#[async_trait]
impl PriceSource for ShareSansar {
    fn id(&self) -> &'static str {
        "sharesansar"
    }

    fn exchanges(&self) -> &'static [Exchange] {
        &[Exchange::Nepse]
    }

    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError> {
        let doing = || format!("reading the prices of {}", ask.ticker);
        let batch = self.read(ask).await.map_err(|kind| kind.while_doing(doing()))?;
        // NEPSE's prices are never restated: what differs in several sessions is another security.
        match overlap::compare(&batch.bars, &ask.known) {
            Overlap::Mismatch(how) => {
                Err(Kind::Identity { asked: ask.ticker.to_string(), got: how }.while_doing(doing()))
            }
            _ => Ok(batch),
        }
    }
}
