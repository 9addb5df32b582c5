//! Faults that a test can switch on, per site and for so many requests; and how often each page was asked for.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A site that market-sim stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Site {
    /// The chart API of Yahoo.
    Yahoo,
    /// api.nasdaq.com.
    Nasdaq,
    /// ShareSansar.
    Sharesansar,
    /// merolagani.
    Merolagani,
    /// Tiingo.
    Tiingo,
}

/// A kind of page of one of the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Page {
    /// Yahoo's `/v8/finance/chart/{symbol}`.
    Chart,
    /// ShareSansar's `/today-share-price`.
    Today,
    /// ShareSansar's `/company/{symbol}`.
    Company,
    /// ShareSansar's `/company-price-history`.
    History,
    /// The `/api/quote/{symbol}/historical` of api.nasdaq.com.
    Quote,
    /// merolagani's `/CompanyDetail.aspx` as it opens.
    Detail,
    /// The same, posted back.
    Tab,
    /// Tiingo's `/tiingo/daily/{symbol}`.
    Meta,
    /// Tiingo's `/tiingo/daily/{symbol}/prices`.
    Prices,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Status 429 with `Retry-After: 1`.
    #[serde(rename = "429")]
    TooMany,
    /// Status 500.
    #[serde(rename = "500")]
    Broken,
    /// The right answer, but late.
    Slow,
    /// The today page with the 22 columns of March 2025: a layout that must still be read.
    Layout22,
    /// The today page with the 21 columns of before.
    Layout21,
    /// A column that everyone needs has another name.
    LayoutChanged,
    /// Every token is refused, with status 200.
    Csrf,
    /// The page of the session before.
    Stale,
    /// A page without rows.
    Empty,
    /// The today page with the first half of its rows.
    Half,
    /// Another company's page.
    WrongSymbol,
    /// Only the first half of the page.
    Truncate,
    /// A small answer that becomes a huge one when it is unpacked.
    GzipBomb,
    /// An answer that never ends.
    Endless,
    /// A split is announced, but older closes are not on its level yet.
    Lag,
    /// The ticker is a fund, which api.nasdaq.com knows only among funds.
    Fund,
    /// A challenge for browsers, with status 200.
    Challenge,
    /// The robots.txt that all sites share asks everybody to stay away.
    Disallow,
    /// Nothing: switches the site's fault off.
    None,
}

/// What `POST /sim/fault` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub site: Site,
    /// What.
    pub kind: FaultKind,
    /// For how many requests; for all that follow when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// How late `slow` is; 30 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Only each so-manieth request on which it can show: 2 spares every other one, the first among them. Each one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u32>,
}

impl Fault {
    /// A fault that stays until it is switched off.
    pub fn new(site: Site, kind: FaultKind) -> Self {
        Self { site, kind, times: None, delay_ms: None, every: None }
    }

    /// The same for only so many requests.
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Whether it can show on this page; if not, the request leaves it for a later one.
    fn shows_on(&self, page: Page) -> bool {
        match self.kind {
            FaultKind::TooMany | FaultKind::Broken | FaultKind::Slow | FaultKind::Truncate => true,
            FaultKind::GzipBomb | FaultKind::Endless | FaultKind::Challenge => true,
            FaultKind::Layout22 | FaultKind::Layout21 | FaultKind::Half => page == Page::Today,
            FaultKind::LayoutChanged => {
                matches!(page, Page::Today | Page::Chart | Page::Quote | Page::Tab | Page::Prices)
            }
            FaultKind::Csrf => matches!(page, Page::History | Page::Tab),
            FaultKind::Stale | FaultKind::Empty => !matches!(page, Page::Company | Page::Detail | Page::Meta),
            FaultKind::WrongSymbol => {
                matches!(page, Page::Chart | Page::Company | Page::Quote | Page::Detail | Page::Meta)
            }
            FaultKind::Lag => page == Page::Chart,
            FaultKind::Fund => page == Page::Quote,
            FaultKind::None | FaultKind::Disallow => false,
        }
    }
}

/// A company that is not traded for a while: what `POST /sim/absence` takes. ShareSansar leaves out its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// Its symbol.
    pub symbol: String,
    /// The first session without it.
    pub from: NaiveDate,
    /// The first session with it again; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<NaiveDate>,
}

impl Absence {
    /// Whether the symbol is away in this session.
    pub fn covers(&self, symbol: &str, session: NaiveDate) -> bool {
        self.symbol.eq_ignore_ascii_case(symbol)
            && session >= self.from
            && self.until.is_none_or(|until| session < until)
    }
}

/// How often each kind of fault has shown, by site.
pub type Shown = BTreeMap<Site, BTreeMap<FaultKind, u64>>;

/// How often each page was asked for, by site and kind of page.
pub type Requests = BTreeMap<Site, BTreeMap<Page, u64>>;

/// The faults that are on, and the counts.
#[derive(Debug, Default)]
pub struct FaultBook {
    on: BTreeMap<Site, Fault>,
    /// Requests of a site on which a fault could have shown.
    chances: BTreeMap<Site, u32>,
    shown: Shown,
    requests: Requests,
}

impl FaultBook {
    /// Switches a site's fault on or off; the newest replaces the one before.
    pub fn set(&mut self, fault: Fault) {
        if fault.kind == FaultKind::None || fault.times == Some(0) {
            self.on.remove(&fault.site);
        } else {
            self.on.insert(fault.site, fault);
        }
    }

    /// Counts a request and says what is to go wrong with it.
    pub fn take(&mut self, site: Site, page: Page) -> Option<Fault> {
        *self.requests.entry(site).or_default().entry(page).or_default() += 1;
        let fault = self.on.get_mut(&site).filter(|fault| fault.shows_on(page))?;
        let taken = *fault;
        let chances = self.chances.entry(site).or_default();
        *chances = chances.wrapping_add(1);
        if taken.every.is_some_and(|every| !chances.is_multiple_of(every.max(1))) {
            return None;
        }
        *self.shown.entry(site).or_default().entry(taken.kind).or_default() += 1;
        if let Some(times) = &mut fault.times {
            *times -= 1;
            if *times == 0 {
                self.on.remove(&site);
            }
        }
        Some(taken)
    }

    /// Whether robots.txt asks everybody to stay away.
    pub fn forbids(&self) -> bool {
        self.on.values().any(|fault| fault.kind == FaultKind::Disallow)
    }

    /// How often faults have shown so far.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// The counts so far.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_waits_for_a_page_on_which_it_shows_and_then_wears_out() {
        let mut book = FaultBook::default();
        book.set(Fault::new(Site::Sharesansar, FaultKind::Csrf).times(1));
        assert!(book.take(Site::Sharesansar, Page::Today).is_none());
        assert!(book.take(Site::Yahoo, Page::Chart).is_none());
        assert!(book.take(Site::Sharesansar, Page::History).is_some());
        assert!(book.take(Site::Sharesansar, Page::History).is_none());
        assert_eq!(book.requests()[&Site::Sharesansar][&Page::History], 2);
    }

    #[test]
    fn a_fault_may_spare_every_other_request() {
        let mut book = FaultBook::default();
        book.set(Fault { every: Some(2), ..Fault::new(Site::Yahoo, FaultKind::Broken) });
        let shows: Vec<bool> = (0..6).map(|_| book.take(Site::Yahoo, Page::Chart).is_some()).collect();
        assert_eq!(shows, [false, true, false, true, false, true]);
        assert_eq!(book.shown()[&Site::Yahoo][&FaultKind::Broken], 3);
    }

    #[test]
    fn faults_are_written_as_documented() {
        let fault: Fault = serde_json::from_str(r#"{"site":"yahoo","kind":"429","times":2}"#).unwrap();
        assert_eq!(fault, Fault::new(Site::Yahoo, FaultKind::TooMany).times(2));
        for kind in ["500", "slow", "layout22", "layout21", "layout_changed", "csrf", "stale", "empty", "wrong_symbol"]
            .iter()
            .chain(&["gzip_bomb", "endless", "challenge", "truncate", "disallow", "fund", "lag", "half"])
        {
            let text = format!(r#"{{"site":"sharesansar","kind":"{kind}"}}"#);
            assert!(serde_json::from_str::<Fault>(&text).is_ok(), "{kind}");
        }
        assert!(serde_json::from_str::<Fault>(r#"{"site":"yahoo","kind":"gremlins"}"#).is_err());
    }
}
