//! The import folder's two file shapes: `EXCHANGE/TICKER.csv` (daily bars) and `*reference_price_factors.csv`.
//! In comes text, out come rows and, for each row that is refused, its line, column and reason.

use crate::session::closes_at;
use crate::validate::Row;
use crate::{Bar, BarFault, Exchange, Factor, RawBar, Ticker, parse_number};
use chrono::{DateTime, NaiveDate, Utc};

/// Files beside the exchange folders whose name ends so hold corporate-action factors.
pub const FACTOR_FILE_SUFFIX: &str = "reference_price_factors.csv";

/// One refused row, or the reason why the whole file is refused (`line` 1).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}, column `{column}`: {reason}")]
pub struct CsvFault {
    /// 1-based line in the file.
    pub line: u64,
    /// Header of the column, or `row` when no single column is at fault.
    pub column: String,
    /// What is wrong.
    pub reason: String,
}

/// What one bars file held: sound bars in ascending order, each session once, and the rows that were refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParsedCsv {
    /// Sound bars.
    pub bars: Vec<Bar>,
    /// Refused rows; the others still count.
    pub refused: Vec<CsvFault>,
}

/// One row of a factor file.
#[derive(Debug, Clone, PartialEq)]
pub struct FactorRow {
    /// Whose action.
    pub ticker: Ticker,
    /// Ex-date and factor.
    pub factor: Factor,
    /// When it was made known, where the file says so.
    pub announced_at: Option<DateTime<Utc>>,
}

/// Reads `date,open,high,low,close,volume` (any order, case and further columns; `date` and `close` are required).
/// Empty cells are unknown. A later row of the same session replaces an earlier one.
/// `Err` only when the file as a whole cannot be read: no header, or a required column missing.
pub fn parse_bars_csv(text: &str) -> Result<ParsedCsv, CsvFault> {
    let (rows, refused) = parse_rows_csv(text)?;
    let mut parsed = ParsedCsv { refused, ..ParsedCsv::default() };
    let mut by_session = std::collections::BTreeMap::new();
    for row in rows {
        match row.raw.check() {
            Ok(bar) => drop(by_session.insert(bar.session, bar)),
            Err(reason) => parsed.refused.push(fault(row.line, column_of(&reason), &reason)),
        }
    }
    parsed.refused.sort_by_key(|fault| fault.line);
    parsed.bars = by_session.into_values().collect();
    Ok(parsed)
}

/// The same rows as they stand in the file, in its order: numbers are read, nothing is judged.
pub fn parse_rows_csv(text: &str) -> Result<(Vec<Row>, Vec<CsvFault>), CsvFault> {
    let mut records = Records::of(text);
    let headers = records.header()?;
    let find = |name: &str| headers.iter().position(|h| h == name);
    let need = |name: &str| find(name).ok_or_else(|| missing_column(name, &headers));
    let (date_at, close_at) = (need("date")?, need("close")?);
    let columns = [("open", find("open")), ("high", find("high")), ("low", find("low")), ("volume", find("volume"))];
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for record in records {
        match record.and_then(|row| read_row(&row, headers.len(), date_at, close_at, &columns)) {
            Ok(row) => rows.push(row),
            Err(fault) => refused.push(fault),
        }
    }
    Ok((rows, refused))
}

/// Reads `ticker,date,…,factor,…` and, where it is there, `announced_at`: an instant (RFC 3339), or a day, which means its close. Tickers belong to
/// `exchange`.
pub fn parse_factors_csv(exchange: Exchange, text: &str) -> Result<(Vec<FactorRow>, Vec<CsvFault>), CsvFault> {
    let mut records = Records::of(text);
    let headers = records.header()?;
    let need = |name: &str| headers.iter().position(|h| h == name).ok_or_else(|| missing_column(name, &headers));
    let (ticker_at, date_at, factor_at) = (need("ticker")?, need("date")?, need("factor")?);
    let announced_at = headers.iter().position(|h| h == "announced_at");
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for record in records {
        let read = record.and_then(|row| {
            let line = line_of(&row);
            let cell = |at: usize| row.get(at).unwrap_or("");
            let ticker = Ticker::new(exchange, cell(ticker_at)).map_err(|e| fault(line, "ticker", &e))?;
            let session = date(cell(date_at))
                .ok_or_else(|| fault(line, "date", &format!("`{}` is not YYYY-MM-DD", cell(date_at))))?;
            let factor = number(line, "factor", cell(factor_at))?
                .filter(|f| *f > 0.0)
                .ok_or_else(|| fault(line, "factor", &"the factor must be above zero"))?;
            let said = announced_at.map(cell).filter(|cell| !cell.is_empty());
            let announced_at = said.map(|cell| instant(exchange, line, cell)).transpose()?;
            Ok(FactorRow { ticker, factor: Factor { session, factor }, announced_at })
        });
        match read {
            Ok(row) => rows.push(row),
            Err(fault) => refused.push(fault),
        }
    }
    Ok((rows, refused))
}

/// Writes bars in the shape that [`parse_bars_csv`] reads; what is unknown stays empty.
pub fn write_bars_csv(bars: &[Bar]) -> String {
    let cell = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let mut text = String::from("date,open,high,low,close,volume\n");
    for bar in bars {
        let row = [
            bar.session.to_string(),
            cell(bar.open),
            cell(bar.high),
            cell(bar.low),
            bar.close.to_string(),
            cell(bar.volume),
        ];
        text.push_str(&row.join(","));
        text.push('\n');
    }
    text
}

/// The records of a file, without its header.
struct Records<'a> {
    text: &'a str,
    reader: csv::Reader<&'a [u8]>,
    /// Where something follows a closing quote, ascending: the reader would take it for a part of the cell, and `"1,011.50"2` for a number.
    strays: Vec<u64>,
}

impl<'a> Records<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.trim_start_matches('\u{feff}');
        let reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        Self { text, reader, strays: strays(text) }
    }

    fn header(&mut self) -> Result<Vec<String>, CsvFault> {
        let headers = self.reader.headers().map_err(|e| unreadable(&e))?;
        Ok(headers.iter().map(|h| h.to_ascii_lowercase()).collect())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<csv::StringRecord, CsvFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.reader.position().clone();
        let begins = before.byte();
        let mut record = csv::StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(unreadable(&error))),
        }
        // Of CR and LF at the end of the record before, the reader has counted the first only.
        if usize::try_from(begins).is_ok_and(|at| self.text.as_bytes().get(at) == Some(&b'\n')) {
            let mut position = before;
            position.set_line(position.line() + 1);
            record.set_position(Some(position));
        }
        let (from, ends) = (self.strays.partition_point(|at| *at < begins), self.reader.position().byte());
        let spoilt = self.strays.get(from).is_some_and(|at| *at < ends);
        Some(if spoilt {
            Err(fault(line_of(&record), "row", &"something follows a closing quote within a cell"))
        } else {
            Ok(record)
        })
    }
}

/// Where the text goes on after a closing quote although the cell does not end there.
fn strays(text: &str) -> Vec<u64> {
    enum At {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let (mut at, mut found) = (At::Start, Vec::new());
    for (offset, byte) in (0..).zip(text.bytes()) {
        at = match (at, byte) {
            (At::Start, b'"') | (At::Closed, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, _) => At::Quoted,
            (_, b',' | b'\r' | b'\n') => At::Start,
            (At::Closed, _) => {
                found.push(offset);
                At::Plain
            }
            _ => At::Plain,
        };
    }
    found
}

fn read_row(
    row: &csv::StringRecord,
    width: usize,
    date_at: usize,
    close_at: usize,
    columns: &[(&'static str, Option<usize>); 4],
) -> Result<Row, CsvFault> {
    let line = line_of(row);
    if row.len() != width {
        return Err(fault(line, "row", &format!("{} cells where the header has {width}", row.len())));
    }
    let session =
        date(&row[date_at]).ok_or_else(|| fault(line, "date", &format!("`{}` is not YYYY-MM-DD", &row[date_at])))?;
    let mut raw = RawBar { session: Some(session), close: number(line, "close", &row[close_at])?, ..RawBar::default() };
    for (name, at) in columns {
        let value = match at {
            Some(at) => number(line, name, &row[*at])?,
            None => None,
        };
        match *name {
            "open" => raw.open = value,
            "high" => raw.high = value,
            "low" => raw.low = value,
            _ => raw.volume = value,
        }
    }
    Ok(Row { line, raw })
}

/// Which column a fault is about.
pub fn column_of(fault: &BarFault) -> &'static str {
    match fault {
        BarFault::NoSession | BarFault::TooOld(_) => "date",
        BarFault::NoClose => "close",
        BarFault::NotAPrice { field, .. } => field,
        BarFault::Crossed { .. } => "high",
        BarFault::Volume(_) => "volume",
    }
}

fn number(line: u64, column: &str, cell: &str) -> Result<Option<f64>, CsvFault> {
    parse_number(cell).map_err(|e| fault(line, column, &e))
}

/// `2024-01-02`, also where a time follows it.
fn date(cell: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(cell.get(..10)?, "%Y-%m-%d").ok()
}

fn instant(exchange: Exchange, line: u64, cell: &str) -> Result<DateTime<Utc>, CsvFault> {
    let exact = DateTime::parse_from_rfc3339(cell).ok().map(|at| at.with_timezone(&Utc));
    exact.or_else(|| date(cell).filter(|_| cell.len() == 10).map(|day| closes_at(exchange, day))).ok_or_else(|| {
        fault(line, "announced_at", &format!("`{cell}` is neither YYYY-MM-DD nor an instant of RFC 3339"))
    })
}

fn line_of(row: &csv::StringRecord) -> u64 {
    row.position().map_or(0, csv::Position::line)
}

fn fault(line: u64, column: &str, reason: &dyn std::fmt::Display) -> CsvFault {
    CsvFault { line, column: column.to_owned(), reason: reason.to_string() }
}

fn missing_column(name: &str, found: &[String]) -> CsvFault {
    fault(1, name, &format!("the header has no such column; it has: {}", found.join(", ")))
}

fn unreadable(error: &csv::Error) -> CsvFault {
    fault(error.position().map_or(1, csv::Position::line), "row", &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_closing_quote_is_no_part_of_a_number() {
        let text = "\u{feff}date,close,volume\r\n2024-01-02,\"1,011.50\"2,5\r\n2024-01-03,\"1,011.50\",5\r\n2024-01-04,7\"\"1,5\r\n\"2024-01-05\" ,8,5\n2024-01-08,\"9\",\"1\n\"\n";
        let parsed = parse_bars_csv(text).unwrap();
        assert_eq!(parsed.bars.iter().map(|bar| bar.close).collect::<Vec<_>>(), [1011.5, 9.0]);
        assert_eq!(
            parsed.refused.iter().map(|fault| fault.line).collect::<Vec<_>>(),
            [2, 4, 5],
            "{:?}",
            parsed.refused
        );
        assert_eq!(parsed.refused[0].reason, "something follows a closing quote within a cell");
        let factors = "ticker,date,factor\nNABIL,2024-01-02,\"0.8\"9\nNABIL,2024-01-03,\"0.8\"\n";
        let (rows, refused) = parse_factors_csv(Exchange::Nepse, factors).unwrap();
        assert_eq!((rows.len(), refused.len()), (1, 1), "{refused:?}");
    }

    #[test]
    fn good_rows_count_beside_bad_ones() {
        let text = "date,open,high,low,close,volume\n2024-01-03,1,2,1,1.5,10\n2024-01-02,,,,1.4,\nnonsense,1,1,1,1,1\n2024-01-04,1,2,1,NaN,1\n2024-01-05,1,2,1,-3,1\n2024-01-06,1,2\n";
        let parsed = parse_bars_csv(text).unwrap();
        assert_eq!(parsed.bars.iter().map(|b| b.session.to_string()).collect::<Vec<_>>(), ["2024-01-02", "2024-01-03"]);
        let said: Vec<String> = parsed.refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "line 4, column `date`: `nonsense` is not YYYY-MM-DD",
                "line 5, column `close`: `NaN` is not a number",
                "line 6, column `close`: the close -3 is not a price",
                "line 7, column `row`: 3 cells where the header has 6",
            ]
        );
    }

    #[test]
    fn a_file_without_its_columns_is_refused_whole() {
        assert_eq!(parse_bars_csv("day,price\n1,2\n").unwrap_err().column, "date");
        assert!(parse_bars_csv("").is_err());
        assert!(parse_bars_csv("\u{feff}Date,Close\n2024-01-02,5\n").unwrap().refused.is_empty());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let parsed =
            parse_bars_csv("date,open,high,low,close,volume\n2024-01-02,1,2,1,1.5,10\n2024-01-03,,,,1.25,\n").unwrap();
        assert_eq!(parse_bars_csv(&write_bars_csv(&parsed.bars)).unwrap(), parsed);
    }

    #[test]
    fn factors_say_when_they_were_announced() {
        let text = "ticker,date,factor,announced_at\nA,2024-01-05,0.8,2024-01-02\nB,2024-01-05,0.8,2024-01-02T06:00:00+05:45\nC,2024-01-05,0.8,\nD,2024-01-05,0.8,soon\n";
        let (rows, refused) = parse_factors_csv(Exchange::Nepse, text).unwrap();
        let said: Vec<Option<String>> = rows.iter().map(|row| row.announced_at.map(|at| at.to_rfc3339())).collect();
        let [day, instant] = ["2024-01-02T09:15:00+00:00", "2024-01-02T00:15:00+00:00"].map(|at| Some(at.to_owned()));
        assert_eq!(said, [day, instant, None]);
        assert_eq!((refused[0].line, refused[0].column.as_str()), (5, "announced_at"));
    }

    #[test]
    fn factors_name_their_ticker() {
        let text = "ticker,date,stored_prev_close,published_prev_close,factor,close,per_change\nNABIL,2019-02-26,794.0,708.91,0.8928,687.0,-3.09\nNABIL,2019-02-27,1,1,0,1,1\n";
        let (rows, refused) = parse_factors_csv(Exchange::Nepse, text).unwrap();
        assert_eq!((rows.len(), refused.len()), (1, 1));
        assert_eq!(rows[0].factor.factor, 0.8928);
    }
}
