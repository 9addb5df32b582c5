//! ShareSansar's pages: today's table of all tickers, a company's page with its token, a company's history as JSON.

use crate::{
    fault::{Absence, FaultKind},
    world::{Listing, Row, World},
};
use chrono::{DateTime, Days, NaiveDate, Utc};
use market::Exchange;
use serde::Deserialize;
use serde_json::json;

const EXCHANGE: Exchange = Exchange::Nepse;

/// From this length on the site answers that there is nothing: one of its traps.
const LENGTH_LIMIT: usize = 100;

/// The form of a history request; DataTables sends more, which nobody reads.
#[derive(Debug, Deserialize)]
pub struct HistoryForm {
    /// Echoed in the answer.
    #[serde(default)]
    pub draw: u64,
    /// How many rows to leave out at the beginning.
    #[serde(default)]
    pub start: usize,
    /// How many rows to give.
    #[serde(default)]
    pub length: usize,
    /// The company's number.
    pub company: u32,
}

/// The table of all tickers of the newest session that is over. On closed days that is still the session before.
pub fn today(world: &World, now: DateTime<Utc>, away: &[Absence], fault: Option<FaultKind>) -> String {
    let mut session = world.last_closed_session(EXCHANGE, now);
    if fault == Some(FaultKind::Stale) {
        session = session.and_then(|day| world.sessions(EXCHANGE).range(..day).next_back().copied());
    }
    let columns = columns(fault);
    let mut body = String::new();
    if let Some(session) = session.filter(|_| fault != Some(FaultKind::Empty)) {
        let traded = world.listings().iter().filter_map(|listing| {
            let at = listing.rows.binary_search_by_key(&session, |row| row.session).ok()?;
            let there = !away.iter().any(|absence| absence.covers(listing.ticker.symbol(), session));
            (listing.ticker.exchange() == EXCHANGE && there).then_some((listing, at))
        });
        let traded: Vec<_> = traded.collect();
        let shown = if fault == Some(FaultKind::Half) { traded.len() / 2 } else { traded.len() };
        for (number, (listing, at)) in traded.into_iter().take(shown).enumerate() {
            let cells: String =
                columns.iter().map(|(_, key)| format!("<td>{}</td>", cell(key, number, listing, at))).collect();
            body.push_str(&format!("<tr>{cells}</tr>\n"));
        }
    }
    let head: String = columns.iter().map(|(title, _)| format!("<th>{title}</th>")).collect();
    let as_of = session.map_or_else(String::new, |day| day.to_string());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Today's Share Price | ShareSansar</title></head>\n\
         <body><div class=\"container\"><h5>As of : <span class=\"text-org\">{as_of}</span></h5>\n\
         <div class=\"table-responsive\"><table class=\"table table-bordered table-striped table-hover dataTable compact\" id=\"headFixed\">\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div></div></body></html>\n"
    )
}

/// Headers and what stands below them: 24 columns since 27 March 2025, 22 the two days before, 21 until then.
fn columns(fault: Option<FaultKind>) -> Vec<(&'static str, &'static str)> {
    let close = if fault == Some(FaultKind::LayoutChanged) { "Closing Price" } else { "Close" };
    let mut columns = vec![
        ("S.No", "number"),
        ("Symbol", "symbol"),
        ("Conf.", "conf"),
        ("Open", "open"),
        ("High", "high"),
        ("Low", "low"),
        (close, "close"),
    ];
    let (with_ltp, with_gap) = match fault {
        Some(FaultKind::Layout21) => (false, false),
        Some(FaultKind::Layout22) => (true, false),
        _ => (true, true),
    };
    if with_gap {
        columns.extend([("LTP", "ltp"), ("Close - LTP", "gap"), ("Close - LTP %", "gap%")]);
    }
    columns.extend([("VWAP", "vwap"), ("Vol", "vol"), ("Prev. Close", "prev")]);
    if with_ltp && !with_gap {
        columns.push(("LTP", "ltp"));
    }
    columns.extend([("Turnover", "turnover"), ("Trans.", "trades"), ("Diff", "diff"), ("Range", "range")]);
    columns.extend([("Diff %", "diff%"), ("Range %", "range%"), ("VWAP %", "vwap%")]);
    columns.extend([("120 Days", "120"), ("180 Days", "180"), ("52 Weeks High", "high52"), ("52 Weeks Low", "low52")]);
    columns
}

fn cell(key: &str, number: usize, listing: &Listing, at: usize) -> String {
    let row = &listing.rows[at];
    let vwap = vwap(row);
    let prev = row.prev_close.unwrap_or(row.close);
    let year: Vec<&Row> = listing.rows[..=at].iter().filter(|r| r.session + Days::new(365) > row.session).collect();
    let average = |sessions: usize| {
        let part = &listing.rows[(at + 1).saturating_sub(sessions)..=at];
        part.iter().map(|r| r.close).sum::<f64>() / part.len() as f64
    };
    match key {
        "number" => (number + 1).to_string(),
        "symbol" => {
            let symbol = listing.ticker.symbol();
            let path = symbol.to_ascii_lowercase();
            format!("<a href=\"/company/{path}\" target=\"_blank\" title=\"{}\">{symbol}</a>", listing.name)
        }
        "conf" => money(20.0 + (row.trades % 500) as f64 / 10.0),
        "open" => money(row.open),
        "high" => money(row.high),
        "low" => money(row.low),
        "close" => money(row.close),
        "ltp" => money(row.ltp),
        "gap" => money(row.close - row.ltp),
        "gap%" => money((row.close / row.ltp - 1.0) * 100.0),
        "vwap" => money(vwap),
        "vol" => money(row.volume),
        "prev" => money(prev),
        "turnover" => money(vwap * row.volume),
        "trades" => row.trades.to_string(),
        "diff" => money(row.close - prev),
        "range" => money(row.high - row.low),
        "diff%" => money((row.close / prev - 1.0) * 100.0),
        "range%" => money((row.high / row.low - 1.0) * 100.0),
        "vwap%" => money((row.close / vwap - 1.0) * 100.0),
        "120" => money(average(120)),
        "180" => money(average(180)),
        "high52" => money(year.iter().map(|r| r.high).fold(row.high, f64::max)),
        "low52" => money(year.iter().map(|r| r.low).fold(row.low, f64::min)),
        _ => "-".to_owned(),
    }
}

/// A company's page: its number, its symbol, and the token that the history wants back.
pub fn company(listing: &Listing, token: &str, fault: Option<FaultKind>) -> String {
    let symbol = if fault == Some(FaultKind::WrongSymbol) { "DEMOXX" } else { listing.ticker.symbol() };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"_token\" content=\"{token}\">\
         <title>{symbol} ( {name} ) | ShareSansar</title></head>\n<body><h1>{name}</h1>\n\
         <input type=\"hidden\" name=\"_token\" value=\"{token}\">\n\
         <div id=\"symbol\" style=\"display:none\">{symbol}</div><div id=\"companyid\" style=\"display:none\">{id}</div>\n\
         <table id=\"myTableCPriceHistory\"><thead><tr><th>S.N.</th><th>Date</th><th>Open</th><th>High</th><th>Low</th>\
         <th>Ltp</th><th>% Change</th><th>Qty</th><th>Turnover</th></tr></thead></table></body></html>\n",
        name = listing.name,
        id = listing.company_id,
    )
}

/// One page of a company's history, newest first.
pub fn history(
    world: &World,
    form: &HistoryForm,
    now: DateTime<Utc>,
    away: &[Absence],
    fault: Option<FaultKind>,
) -> String {
    let listing = world
        .listings()
        .iter()
        .find(|l| l.ticker.exchange() == EXCHANGE && l.company_id == form.company)
        .filter(|_| form.length < LENGTH_LIMIT && form.length > 0 && fault != Some(FaultKind::Empty));
    let rows: &[Row] = match (listing, world.last_closed_session(EXCHANGE, now)) {
        (Some(listing), Some(last)) => until(listing, last, fault),
        _ => &[],
    };
    let symbol = listing.map_or("", |listing| listing.ticker.symbol());
    let there = |row: &&Row| !away.iter().any(|absence| absence.covers(symbol, row.session));
    let rows: Vec<&Row> = rows.iter().filter(there).collect();
    let page: Vec<serde_json::Value> = rows
        .iter()
        .rev()
        .enumerate()
        .skip(form.start)
        .take(form.length)
        .map(|(at, row)| {
            let change = row.prev_close.map_or(0.0, |prev| (row.close / prev - 1.0) * 100.0);
            json!({
                "published_date": row.session.to_string(), "open": money(row.open), "high": money(row.high),
                "low": money(row.low), "close": money(row.close), "per_change": format!("{change:.2}"),
                "traded_quantity": money(row.volume), "traded_amount": money(vwap(row) * row.volume),
                "status": if change < 0.0 { "-1" } else { "1" }, "DT_Row_Index": at + 1,
            })
        })
        .collect();
    json!({ "draw": form.draw, "recordsTotal": rows.len(), "recordsFiltered": rows.len(), "data": page }).to_string()
}

/// What the site answers, with status 200, to a token that is not the session's.
pub fn csrf_mismatch() -> String {
    json!({ "message": "CSRF token mismatch." }).to_string()
}

fn until(listing: &Listing, last: NaiveDate, fault: Option<FaultKind>) -> &[Row] {
    let count = listing.rows.partition_point(|row| row.session <= last);
    let fewer = usize::from(fault == Some(FaultKind::Stale) && count > 0);
    &listing.rows[..count - fewer]
}

fn vwap(row: &Row) -> f64 {
    (row.high + row.low + row.close) / 3.0
}

/// Two decimals and comma thousands, as every number on the site.
pub(crate) fn money(value: f64) -> String {
    let text = format!("{:.2}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 && text != "0.00" { "-" } else { "" };
    format!("{sign}{grouped}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_like_the_sites() {
        for (value, text) in
            [(0.0, "0.00"), (-0.001, "0.00"), (909.0, "909.00"), (-1157.5, "-1,157.50"), (20904592.3, "20,904,592.30")]
        {
            assert_eq!(money(value), text);
        }
    }

    #[test]
    fn the_three_layouts_have_their_columns() {
        assert_eq!(columns(None).len(), 24);
        assert_eq!(columns(Some(FaultKind::Layout22)).len(), 22);
        assert_eq!(columns(Some(FaultKind::Layout21)).len(), 21);
    }
}
