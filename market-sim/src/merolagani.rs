//! merolagani's company page: an ASP.NET form whose state must come back with every request, a price history of thirty rows a page, and
//! partial answers. Beyond the last page it shows the last one again.

use crate::{
    fault::FaultKind,
    sharesansar::money,
    world::{Listing, Row, World},
};
use chrono::{DateTime, Utc};
use market::Exchange;
use serde::Deserialize;
use std::collections::BTreeMap;

const EXCHANGE: Exchange = Exchange::Nepse;
const ROWS: usize = 30;
const PREFIX: &str = "ctl00$ContentPlaceHolder1$CompanyDetail1$";
const PAGER: &str = "PagerControlTransactionHistory1";

/// Whose page.
#[derive(Debug, Default, Deserialize)]
pub struct DetailQuery {
    /// The symbol; empty for a page about nobody.
    #[serde(default)]
    pub symbol: String,
}

/// The form that a browser sends back.
pub type DetailForm = BTreeMap<String, String>;

/// The company's page as it opens: no history yet.
pub fn detail(world: &World, symbol: &str, key: &str, fault: Option<FaultKind>) -> String {
    let listing = world.find(EXCHANGE, symbol);
    let echoed = match (listing, fault) {
        (Some(_), Some(FaultKind::WrongSymbol)) => "DEMOXX",
        (Some(listing), _) => listing.ticker.symbol(),
        (None, _) => "",
    };
    whole(echoed, &state(key, 0), "")
}

/// The answer to a postback: the history tab or one of its pages, whole or in part.
pub fn post(
    world: &World,
    symbol: &str,
    form: &DetailForm,
    key: &str,
    partial: bool,
    now: DateTime<Utc>,
    fault: Option<FaultKind>,
) -> String {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let turn = (0..10_000).find(|turn| {
        let state = state(key, *turn);
        field("__VIEWSTATE") == state && field("__EVENTVALIDATION") == validation(&state)
    });
    let manager = field("ctl00$ScriptManager1");
    let page = match manager.split_once('|').map(|(_, button)| button) {
        Some(button) if button.ends_with("$btnHistoryTab") => Some(1),
        Some(button) if button.ends_with("$btnPaging") => {
            field(&format!("{PREFIX}{PAGER}$hdnCurrentPage")).parse().ok()
        }
        _ => None,
    };
    let (Some(turn), Some(page), Some(listing)) = (turn, page, world.find(EXCHANGE, symbol)) else { return refusal() };
    // The state of the answer before: whoever keeps sending the first one is found out.
    if fault == Some(FaultKind::Csrf) || page > 1 && turn + 1 < page {
        return refusal();
    }
    let panel = panel(listing, rows(world, listing, now, fault), page, fault);
    let next = state(key, turn + 1);
    if !partial {
        return whole(listing.ticker.symbol(), &next, &panel);
    }
    let parts = [
        ("updatePanel", "ctl00_ContentPlaceHolder1_CompanyDetail1_tabPanel", panel.as_str()),
        ("hiddenField", "__VIEWSTATE", &next),
        ("hiddenField", "__EVENTVALIDATION", &validation(&next)),
    ];
    let parts = parts.map(|(kind, id, content)| format!("{}|{kind}|{id}|{content}|", content.encode_utf16().count()));
    format!("1|#||4|{}", parts.concat())
}

/// What ASP.NET says when the state is not its own.
fn refusal() -> String {
    let words = "Validation of viewstate MAC failed.";
    format!("{}|error|500|{words}|", words.len())
}

/// With the signs that must be escaped in a form.
fn state(key: &str, turn: usize) -> String {
    format!("/wEPD+{key}{turn}==")
}

fn validation(state: &str) -> String {
    format!("/wEdA+{}", state.chars().rev().collect::<String>())
}

fn hidden(name: &str, value: &str) -> String {
    let id = name.replace('$', "_");
    format!("<input type=\"hidden\" name=\"{name}\" id=\"{id}\" value=\"{value}\">\n")
}

fn whole(symbol: &str, state: &str, panel: &str) -> String {
    let fields: String = [
        ("__EVENTTARGET", ""),
        ("__EVENTARGUMENT", ""),
        ("__VIEWSTATE", state),
        ("__VIEWSTATEGENERATOR", "CA0B0334"),
        ("__EVENTVALIDATION", &validation(state)),
        (&format!("{PREFIX}hdnStockSymbol"), symbol),
        (&format!("{PREFIX}hdnActiveTabID"), "#divAbout"),
    ]
    .map(|(name, value)| hidden(name, value))
    .concat();
    format!(
        "<!DOCTYPE html><html><head><title>{symbol}</title></head><body>\
         <form method=\"post\" action=\"./CompanyDetail.aspx?symbol={symbol}\" id=\"aspnetForm\">{fields}\
         <div id=\"ctl00_ContentPlaceHolder1_CompanyDetail1_tabPanel\">{panel}</div></form></body></html>"
    )
}

fn rows<'a>(world: &World, listing: &'a Listing, now: DateTime<Utc>, fault: Option<FaultKind>) -> &'a [Row] {
    let Some(last) = world.last_closed_session(EXCHANGE, now) else { return &[] };
    let count = listing.rows.partition_point(|row| row.session <= last);
    match fault {
        Some(FaultKind::Empty) => &[],
        Some(FaultKind::Stale) => &listing.rows[..count.saturating_sub(1)],
        _ => &listing.rows[..count],
    }
}

fn panel(listing: &Listing, rows: &[Row], page: usize, fault: Option<FaultKind>) -> String {
    let pages = rows.len().div_ceil(ROWS).max(1);
    let page = page.clamp(1, pages);
    let ltp = if fault == Some(FaultKind::LayoutChanged) { "Price" } else { "LTP" };
    let titles = ["#", "Date", ltp, "% Change", "High", "Low", "Open", "Qty.", "Turnover"];
    let head: String = titles.map(|title| format!("<th class=\"text-center\">{title}</th>")).concat();
    let shown = rows.iter().rev().enumerate().skip((page - 1) * ROWS).take(ROWS);
    let body: String = shown.map(|(at, row)| line(at, row)).collect();
    let fields = hidden(&format!("{PREFIX}{PAGER}$hdnPCID"), "PC1")
        + &hidden(&format!("{PREFIX}{PAGER}$hdnCurrentPage"), &page.to_string());
    format!(
        "<div id=\"ctl00_ContentPlaceHolder1_CompanyDetail1_divDataPrice\"><div class=\"pagging\">\
         <span id=\"ctl00_ContentPlaceHolder1_CompanyDetail1_{PAGER}_litRecords\">{} of {} [Total pages: {pages}]</span>{fields}</div>\
         <table class=\"table\"><tbody><tr>{head}</tr>\n{body}</tbody></table></div>",
        listing.name,
        rows.len()
    )
}

fn line(at: usize, row: &Row) -> String {
    let change = row.prev_close.map_or(0.0, |prev| (row.close / prev - 1.0) * 100.0);
    let shares = money(row.volume);
    let cells = [
        (at + 1).to_string(),
        row.session.format("%Y/%m/%d").to_string(),
        money(row.close),
        money(change),
        money(row.high),
        money(row.low),
        money(row.open),
        shares.split('.').next().unwrap_or_default().to_owned(),
        money(row.close * row.volume),
    ];
    format!("<tr>{}</tr>\n", cells.map(|cell| format!("<td class=\"text-right\">{cell}</td>")).concat())
}
