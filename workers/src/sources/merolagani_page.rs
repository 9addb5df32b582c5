//! Reads merolagani's company page: pure. In comes a whole page or the partial answer of an ASP.NET postback, out come the rows of its
//! price history, the fields that the next request must bring back, and the symbol that it is about.

use super::error::SourceErrorKind as Kind;
use super::html::{document, selector, text_of};
use chrono::NaiveDate;
use market::{RawBar, parse_number};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a page says beside its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Form {
    /// Hidden fields by name. The next request brings all of them back, with what later answers changed.
    pub hidden: BTreeMap<String, String>,
}

/// One page of the price history, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistoryPage {
    /// Its rows. The site calls the close "LTP".
    pub rows: Vec<RawBar>,
    /// Rows that cannot be read, in words; the others still count.
    pub refused: Vec<String>,
}

impl Form {
    /// The number of the page shown, as the pager counts.
    pub fn current_page(&self) -> Option<usize> {
        self.hidden.iter().find(|(name, _)| name.ends_with("hdnCurrentPage"))?.1.trim().parse().ok()
    }

    /// The symbol that the page is about, upper case; `None` where a partial answer leaves it out.
    pub fn symbol(&self) -> Option<String> {
        let value = self.hidden.iter().find(|(name, _)| name.ends_with("hdnStockSymbol"))?.1;
        Some(value.trim().to_ascii_uppercase())
    }
}

/// Reads the hidden fields.
///
/// # Errors
/// Those of a partial answer that is a refusal or does not add up.
pub fn parse_form(text: &str) -> Result<Form, Kind> {
    let answer = Answer::of(text)?;
    let page = document(&answer.html)?;
    let mut form = Form::default();
    for input in page.select(&selector("input[type=hidden]")) {
        if let Some(name) = input.value().attr("name") {
            form.hidden.insert(name.to_owned(), input.value().attr("value").unwrap_or_default().to_owned());
        }
    }
    form.hidden.extend(answer.fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(form)
}

/// Reads the rows of the price history.
///
/// # Errors
/// `LayoutChanged` when a header is missing or a row's width differs, `Empty` without rows, `Parse` when it was cut off, and what a
/// partial answer says that is a refusal.
pub fn parse_history(text: &str) -> Result<HistoryPage, Kind> {
    let answer = Answer::of(text)?;
    if answer.html.split_once("divDataPrice").is_some_and(|(_, table)| !table.contains("</table>")) {
        return Err(Kind::Parse("the table does not end".to_owned()));
    }
    let page = document(&answer.html)?;
    let table = page
        .select(&selector("[id$=divDataPrice] table"))
        .next()
        .ok_or_else(|| Kind::layout("a table in `divDataPrice`", "none"))?;
    let headers: Vec<String> = table.select(&selector("th")).map(|e| text_of(&e)).collect();
    let find = |name: &str| headers.iter().position(|h| h.trim_end_matches('.').eq_ignore_ascii_case(name));
    let need = |name: &str| find(name).ok_or_else(|| Kind::layout(format!("a column `{name}`"), headers.join(", ")));
    let (date_at, ltp_at) = (need("Date")?, find("LTP"));
    let close_at = match find("Close") {
        Some(at) => at,
        None => need("LTP")?,
    };
    let columns = [need("Open")?, need("High")?, need("Low")?, close_at, need("Qty")?];
    let mut read = HistoryPage::default();
    for row in table.select(&selector("tr")) {
        let cells: Vec<String> = row.select(&selector("td")).map(|e| text_of(&e)).collect();
        if cells.is_empty() || cells.len() == 1 && cells[0].to_ascii_lowercase().contains("no record") {
            continue;
        }
        if cells.len() != headers.len() {
            return Err(Kind::layout(format!("{} cells in a row", headers.len()), cells.len()));
        }
        match read_row(&cells, date_at, columns, ltp_at) {
            Ok(raw) => read.rows.push(raw),
            Err(why) => read.refused.push(format!("{}: {why}", cells[date_at].chars().take(40).collect::<String>())),
        }
    }
    if read.rows.is_empty() && read.refused.is_empty() {
        return Err(Kind::Empty);
    }
    Ok(read)
}

fn read_row(cells: &[String], date_at: usize, columns: [usize; 5], ltp_at: Option<usize>) -> Result<RawBar, String> {
    let number = |at: usize| parse_number(&cells[at]).map_err(|e| e.to_string());
    let [open, high, low, close, volume] = columns;
    Ok(RawBar {
        session: Some(date(&cells[date_at]).ok_or_else(|| "the date is not YYYY/MM/DD".to_owned())?),
        open: number(open)?,
        high: number(high)?,
        low: number(low)?,
        close: number(close)?,
        ltp: ltp_at.map(number).transpose()?.flatten(),
        // The change is published, but not what it is measured against.
        prev_close: None,
        volume: number(volume)?,
    })
}

fn date(text: &str) -> Option<NaiveDate> {
    let fits = text.len() == 10 && text.is_ascii();
    fits.then(|| NaiveDate::parse_from_str(text, "%Y/%m/%d").ok()).flatten()
}

/// The parts of an answer that matter: its HTML, and the hidden fields that a partial answer carries beside it.
struct Answer<'a> {
    html: Cow<'a, str>,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Answer<'a> {
    fn of(text: &'a str) -> Result<Self, Kind> {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let partial = text.split_once('|').is_some_and(|(length, _)| length.bytes().all(|b| b.is_ascii_digit()));
        if !partial {
            return Ok(Self { html: Cow::Borrowed(text), fields: Vec::new() });
        }
        let (mut html, mut fields) = (String::new(), Vec::new());
        for part in Parts(text.trim_end()) {
            let Part { kind, id, content } = part?;
            match kind {
                "updatePanel" => html.push_str(content),
                "hiddenField" => fields.push((id, content)),
                // It sends us somewhere else: to its front door, or to a form.
                "pageRedirect" => return Err(Kind::SessionExpired),
                "error" if content.to_ascii_lowercase().contains("viewstate") => return Err(Kind::SessionExpired),
                "error" => {
                    return Err(Kind::Transport(format!("the site reports error {id}: {}", first_words(content))));
                }
                _ => {}
            }
        }
        Ok(Self { html: Cow::Owned(html), fields })
    }
}

struct Part<'a> {
    kind: &'a str,
    id: &'a str,
    content: &'a str,
}

/// `length|kind|id|content|`, again and again. The length counts UTF-16 units, as .NET does.
struct Parts<'a>(&'a str);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, Kind>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = split_part(self.0);
        self.0 = part.as_ref().map_or("", |(_, rest)| rest);
        let cut = || Kind::Parse("the partial answer does not add up".to_owned());
        Some(part.map(|(part, _)| part).ok_or_else(cut))
    }
}

fn split_part(text: &str) -> Option<(Part<'_>, &str)> {
    let (length, rest) = text.split_once('|')?;
    let (kind, rest) = rest.split_once('|')?;
    let (id, rest) = rest.split_once('|')?;
    let end = units(rest, length.parse().ok()?)?;
    let (content, rest) = rest.split_at(end);
    Some((Part { kind, id, content }, rest.strip_prefix('|')?))
}

/// The byte at which the first `count` UTF-16 units end.
fn units(text: &str, count: usize) -> Option<usize> {
    let mut left = count;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(c.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

fn first_words(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TITLES: &str = "#|Date|LTP|% Change|High|Low|Open|Qty.|Turnover";
    const ROW: &str = "1|2026/03/05|1,011.50|1.15|1,020.00|999.00|1,000.00|2,500|2,528,750.00";

    fn table(titles: &str, rows: &[&str]) -> String {
        let cells = |line: &str, tag: &str| line.split('|').map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
        let body: String = rows.iter().map(|row| format!("<tr>{}</tr>", cells(row, "td"))).collect();
        format!("<div id=\"ctl00_X_divDataPrice\"><table><tr>{}</tr>{body}</table></div>", cells(titles, "th"))
    }

    fn whole(table: &str) -> String {
        format!(
            "<html><form><input type=\"hidden\" name=\"__VIEWSTATE\" value=\"a+/=\">\
             <input type=\"hidden\" name=\"x$hdnStockSymbol\" value=\"demo\">{table}</form></html>"
        )
    }

    fn partial(table: &str) -> String {
        let units = table.encode_utf16().count();
        format!("1|#||4|{units}|updatePanel|panel|{table}|3|hiddenField|__VIEWSTATE|n|w|")
    }

    #[test]
    fn whole_and_partial_answers_are_read_alike() {
        let table = table(TITLES, &[ROW]).replace("</div>", "<i>नेपाल 🙂</i></div>");
        let pages =
            [whole(&table), partial(&table)].map(|text| (parse_history(&text).unwrap(), parse_form(&text).unwrap()));
        assert_eq!(pages[0].0, pages[1].0);
        let row = pages[0].0.rows[0];
        assert_eq!(
            (row.session.unwrap().to_string().as_str(), row.close, row.ltp),
            ("2026-03-05", Some(1011.5), Some(1011.5))
        );
        assert_eq!((row.open, row.high, row.low, row.volume), (Some(1000.0), Some(1020.0), Some(999.0), Some(2500.0)));
        assert_eq!((pages[0].1.symbol().as_deref(), pages[1].1.symbol()), (Some("DEMO"), None));
        assert_eq!(
            (pages[0].1.hidden["__VIEWSTATE"].as_str(), pages[1].1.hidden["__VIEWSTATE"].as_str()),
            ("a+/=", "n|w")
        );
    }

    #[test]
    fn columns_are_found_by_their_headers() {
        let moved = table("Date|Open|High|Low|Close|Qty.", &["2026/03/05|1,000|1,020|999|1,011.5|2,500"]);
        let row = parse_history(&moved).unwrap().rows[0];
        assert_eq!((row.open, row.close, row.ltp), (Some(1000.0), Some(1011.5), None));
        let renamed = table(&TITLES.replace("LTP", "Price"), &[ROW]);
        assert!(matches!(parse_history(&renamed), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse_history(&table(TITLES, &["1|2"])), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse_history("<html></html>"), Err(Kind::LayoutChanged { .. })));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(parse_history(&table(TITLES, &[])), Err(Kind::Empty));
        assert!(
            matches!(parse_history("0|pageRedirect||/Login.aspx|"), Err(Kind::Parse(_))),
            "a length that does not fit"
        );
        assert_eq!(parse_history("11|pageRedirect||/Login.aspx|"), Err(Kind::SessionExpired));
        assert!(matches!(parse_history("5|error|500|wrong|"), Err(Kind::Transport(_))));
        assert_eq!(parse_history("16|error|500|Viewstate is bad|"), Err(Kind::SessionExpired));
        let whole_table = table(TITLES, &[ROW]);
        let (cut, read) = (partial(&whole_table), parse_history(&whole_table).unwrap());
        assert!(
            (0..cut.len()).filter_map(|at| parse_history(&cut[..at]).ok()).all(|part| part == read),
            "all of it or nothing"
        );
        let cut = whole(&table(TITLES, &[ROW]));
        assert!(matches!(parse_history(&cut[..cut.len() - 40]), Err(Kind::Parse(_))));
        let junk = parse_history(&table(TITLES, &[ROW, &ROW.replace("999.00", "n.d."), &ROW.replace("2026/", "26/")]))
            .unwrap();
        assert_eq!((junk.rows.len(), junk.refused.len()), (1, 2), "{junk:?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", length in 0usize..60) {
            for text in [text.clone(), format!("{length}|updatePanel|x|{text}|"), whole(&table(TITLES, &[&text]))] {
                let _ = (parse_history(&text), parse_form(&text));
            }
        }
    }
}
