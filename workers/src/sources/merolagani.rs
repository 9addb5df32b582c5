//! The merolagani source for NEPSE, a fallback: the price-history tab of a company's page, thirty rows at a time. Each request brings
//! back the hidden fields of the answer before; how pages are numbered is not trusted, only their dates are.

use super::error::SourceErrorKind as Kind;
use super::http::{self, PoliteClient, Question, Visit};
use super::merolagani_page::{self as page, Form, HistoryPage};
use super::overlap::{self, Overlap};
use super::{Ask, PriceSource, SourceError};
use async_trait::async_trait;
use chrono::NaiveDate;
use market::{Bar, Batch, Exchange, is_final};
use reqwest::cookie::Jar;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Thirty rows each: some twenty-five years. A site that goes on after that goes round in circles.
const MOST_PAGES: usize = 200;

/// What the names of the tab's fields begin with.
const PREFIX: &str = "ctl00$ContentPlaceHolder1$CompanyDetail1$";
const SCRIPT_MANAGER: &str = "ctl00$ScriptManager1";
const PAGER: &str = "PagerControlTransactionHistory1$";

pub(super) struct Merolagani {
    client: Arc<PoliteClient>,
    base: String,
}

/// A visit to one company's page.
struct Tab<'a> {
    visit: Visit<'a>,
    jar: Jar,
    url: Url,
    form: Form,
    /// All answers with rows, in order.
    answers: Vec<String>,
}

impl Merolagani {
    pub(super) fn new(client: Arc<PoliteClient>, base: String) -> Self {
        Self { client, base }
    }

    /// The company's page, which must be about the ticker.
    async fn open(&self, ask: &Ask) -> Result<Tab<'_>, Kind> {
        let mut url = http::address(&self.base, "/CompanyDetail.aspx")?;
        url.query_pairs_mut().append_pair("symbol", ask.ticker.symbol());
        let (mut visit, jar) = (self.client.visit(), Jar::default());
        let html = visit.ask(Question { jar: Some(&jar), ..Question::get(url.clone()) }).await?;
        let form = page::parse_form(&html)?;
        match form.symbol() {
            None => return Err(Kind::layout("a field `hdnStockSymbol`", "none")),
            Some(symbol) if symbol.is_empty() => return Err(Kind::NotFound),
            Some(symbol) if symbol != ask.ticker.symbol() => {
                return Err(Kind::Identity { asked: ask.ticker.to_string(), got: symbol });
            }
            Some(_) if !form.hidden.contains_key("__VIEWSTATE") => {
                return Err(Kind::layout("a field `__VIEWSTATE`", "none"));
            }
            Some(_) => {}
        }
        Ok(Tab { visit, jar, url, form, answers: Vec::new() })
    }

    /// The pages back to `stop_at`.
    async fn history(&self, ask: &Ask, stop_at: NaiveDate) -> Result<(HistoryPage, String), Kind> {
        let mut tab = self.open(ask).await?;
        let mut all = HistoryPage::default();
        let mut seen: BTreeSet<NaiveDate> = BTreeSet::new();
        let mut number = 0;
        for turned in 0..MOST_PAGES {
            let read = match tab.turn(ask.ticker.symbol(), (turned > 0).then_some(number)).await {
                // Beyond the last page.
                Err(Kind::Empty) if turned > 0 => break,
                other => other?,
            };
            // Where the tab does not say that it is page 1, the next may be called 1 or 2: the first of them may show the same once more.
            number = if turned == 0 { tab.form.current_page().unwrap_or(0) + 1 } else { number + 1 };
            let sessions: BTreeSet<NaiveDate> = read.rows.iter().filter_map(|row| row.session).collect();
            if sessions.is_empty() || sessions.is_subset(&seen) && turned > 1 {
                break;
            }
            if !sessions.is_subset(&seen) {
                all.rows.extend(read.rows);
                all.refused.extend(read.refused);
            }
            seen.extend(sessions);
            if seen.first().is_some_and(|oldest| *oldest <= stop_at) {
                break;
            }
        }
        all.rows.retain(|row| row.session.is_some_and(|session| session >= stop_at));
        Ok((all, http::hash(tab.answers.iter().map(String::as_str))))
    }

    async fn read(&self, ask: &Ask) -> Result<Batch, Kind> {
        let stop_at = ask.known.first().map_or(ask.history_from, |bar| bar.session);
        let mut tried = 0;
        let (history, body_sha256) = loop {
            match self.history(ask, stop_at).await {
                // A state that is no longer good is got anew, once.
                Err(Kind::SessionExpired) if tried == 0 => tried += 1,
                other => break other?,
            }
        };
        let mut refused = history.refused;
        let page_session = history.rows.iter().filter_map(|row| row.session).max();
        let mut by_session: BTreeMap<NaiveDate, Bar> = BTreeMap::new();
        for row in history.rows {
            match row.check() {
                Ok(bar) if is_final(ask.ticker.exchange(), bar.session, ask.now) => {
                    by_session.insert(bar.session, bar);
                }
                Ok(_) => {}
                Err(why) => refused.push(format!("{}: {why}", row.session.map(|s| s.to_string()).unwrap_or_default())),
            }
        }
        let bars: Vec<Bar> = by_session.into_values().collect();
        // What it calls the close is the last trade: where that differs from the archive's close in several sessions, it is no substitute.
        let bars = match overlap::compare(&bars, &ask.known) {
            Overlap::Agrees => overlap::later(bars, &ask.known),
            Overlap::Apart if ask.known.is_empty() => bars,
            Overlap::Apart => {
                let got = "a history without any of the archived sessions".to_owned();
                return Err(Kind::Identity { asked: ask.ticker.to_string(), got });
            }
            Overlap::Mismatch(got) => return Err(Kind::Identity { asked: ask.ticker.to_string(), got }),
            Overlap::Restated(factor) => {
                return Err(Kind::Adjustment(format!("its closes are {factor:.4} times the archived ones")));
            }
        };
        Ok(Batch {
            ticker: ask.ticker.clone(),
            source: "merolagani".to_owned(),
            bars,
            factors: Vec::new(),
            splits: Vec::new(),
            page_session,
            refused,
            fetched_at: ask.now,
            body_sha256,
        })
    }
}

impl Tab<'_> {
    /// Asks for the tab, or for a page of it, and takes over the state that comes with the answer.
    async fn turn(&mut self, symbol: &str, number: Option<usize>) -> Result<HistoryPage, Kind> {
        let pager = |field: &str| format!("{PREFIX}{PAGER}{field}");
        let button = if number.is_none() { format!("{PREFIX}btnHistoryTab") } else { pager("btnPaging") };
        let mut fields = self.form.hidden.clone();
        fields.insert(SCRIPT_MANAGER.to_owned(), format!("{PREFIX}tabPanel|{button}"));
        fields.insert(format!("{PREFIX}hdnStockSymbol"), symbol.to_owned());
        fields.insert(format!("{PREFIX}hdnActiveTabID"), "#divHistory".to_owned());
        fields.insert("__ASYNCPOST".to_owned(), "true".to_owned());
        if let Some(number) = number {
            fields.insert(pager("hdnPCID"), "PC1".to_owned());
            fields.insert(pager("hdnCurrentPage"), number.to_string());
        }
        fields.insert(button, String::new());
        let form: Vec<(&str, String)> = fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut headers = HeaderMap::new();
        headers.insert("x-microsoftajax", HeaderValue::from_static("Delta=true"));
        headers.insert("x-requested-with", HeaderValue::from_static("XMLHttpRequest"));
        let question = Question {
            method: Method::POST,
            headers,
            form: Some(&form),
            jar: Some(&self.jar),
            ..Question::get(self.url.clone())
        };
        let text = self.visit.ask(question).await?;
        let answer = page::parse_form(&text)?;
        if let Some(other) = answer.symbol().filter(|echoed| !echoed.is_empty() && echoed != symbol) {
            return Err(Kind::Identity { asked: symbol.to_owned(), got: other });
        }
        self.form.hidden.extend(answer.hidden);
        let read = page::parse_history(&text)?;
        self.answers.push(text);
        Ok(read)
    }
}

#[async_trait]
impl PriceSource for Merolagani {
    fn id(&self) -> &'static str {
        "merolagani"
    }

    fn exchanges(&self) -> &'static [Exchange] {
        &[Exchange::Nepse]
    }

    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError> {
        self.read(ask).await.map_err(|kind| kind.while_doing(format!("reading the price history of {}", ask.ticker)))
    }
}
