//! `/v1/tickers/{exchange}/{ticker}/bars`: the archived prices of one ticker, read as JSON and imported as CSV.

use crate::Shared;
use crate::paging::{after, cursor};
use crate::payload::Csv;
use crate::problem::Problem;
use crate::words::{Tag, ticker_in_path, unknown_ticker};
use chrono::NaiveDate;
use market::validate::{Finding, Judged, Known, Row, Rule, Severity};
use market::{Bar, Batch, CsvFault, Series};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use workflows::stores::quarantine::{self, SetAside};
use workflows::stores::{actions, archive, tickers};

/// Name of the source under which imported bars are archived.
pub(crate) const CSV_SOURCE: &str = "csv";

/// One finished session's prices; absent where the source has none.
#[derive(Debug, Object)]
#[oai(rename = "Bar", skip_serializing_if_is_none)]
struct BarView {
    /// The trading day, in the exchange's calendar.
    session: NaiveDate,
    /// First price.
    open: Option<f64>,
    /// Highest price.
    high: Option<f64>,
    /// Lowest price.
    low: Option<f64>,
    /// The published close.
    close: f64,
    /// Last traded price, where the exchange publishes it beside the close.
    ltp: Option<f64>,
    /// The previous close as the exchange published it that day.
    prev_close: Option<f64>,
    /// Shares traded.
    volume: Option<f64>,
}

/// Bars, oldest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct BarPage {
    /// At most `limit` of them: the newest that match.
    items: Vec<BarView>,
    /// Asks for the bars before these; absent where there are none.
    next_cursor: Option<String>,
}

/// A row that was not taken.
#[derive(Debug, Object)]
pub(crate) struct RefusedRow {
    /// Its line in the file, from 1.
    line: u64,
    /// The column at fault, or `row`.
    column: String,
    /// Why.
    reason: String,
}

/// What an import changed.
#[derive(Debug, Object)]
struct Imported {
    /// Sessions that were not there.
    new: u64,
    /// Sessions whose bar changed; the old one is kept as an earlier revision.
    revised: u64,
    /// Sessions that stood there already, exactly so.
    unchanged: u64,
    /// Rows whose open was no price of its session: it became unknown.
    repaired: u64,
    /// Rows that wait in the quarantine, or why all of them do; see `/v1/quarantine`.
    quarantined: Vec<FoundRow>,
    /// What was found in rows that were taken: at most 100.
    noted: Vec<FoundRow>,
    /// Rows that were not taken; the others were.
    refused: Vec<RefusedRow>,
}

/// What was found in a row.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct FoundRow {
    /// Its line in the file, from 1; absent where it is about more than a row.
    line: Option<u64>,
    /// The trading day; absent where it is about the whole file.
    session: Option<NaiveDate>,
    /// The rule, in one word.
    rule: String,
    /// What was found.
    why: String,
}

/// The most findings told of rows that were taken.
const MOST_NOTED: usize = 100;

pub(crate) struct Bars;

#[OpenApi(tag = "Tag::Tickers")]
impl Bars {
    /// The archived bars of a ticker.
    ///
    /// A page holds the newest bars that match, oldest first; `next_cursor` leads to the bars before them.
    #[oai(path = "/v1/tickers/:exchange/:ticker/bars", method = "get", operation_id = "list_bars")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
        /// The first session wanted.
        from: Query<Option<NaiveDate>>,
        /// The last session wanted.
        to: Query<Option<NaiveDate>>,
        /// Prices on the level of the newest bar, by the corporate actions that are known; by default as they were published.
        #[oai(default)]
        adjusted: Query<bool>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "5000")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<BarPage>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let before: Option<NaiveDate> = after("bar", cursor.as_deref())?;
        let db = &shared.stores().db;
        let Some(series) = archive::series(db, &ticker).await? else {
            tickers::get(db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
            return Ok(Json(BarPage { items: Vec::new(), next_cursor: None }));
        };
        let bars = if adjusted.0 { series.adjusted() } else { series.bars().to_vec() };
        let wanted: Vec<&Bar> = bars
            .iter()
            .filter(|bar| from.is_none_or(|from| bar.session >= from) && to.is_none_or(|to| bar.session <= to))
            .filter(|bar| before.is_none_or(|before| bar.session < before))
            .collect();
        let start = wanted.len().saturating_sub(limit.0 as usize);
        let items: Vec<BarView> = wanted[start..].iter().map(|bar| BarView::of(bar)).collect();
        let next_cursor = items.first().filter(|_| start > 0).map(|bar| self::cursor("bar", bar.session));
        Ok(Json(BarPage { items, next_cursor }))
    }

    /// Imports bars.
    ///
    /// Every row is judged first: what is no price is refused, what breaks a rule waits in the quarantine, the rest is archived.
    /// The file has a header with at least `date` and `close`; `open`, `high`, `low`, `volume` may be there. Importing a file twice changes nothing
    /// the second time. The ticker becomes known. At most 16 MiB.
    #[oai(path = "/v1/tickers/:exchange/:ticker/bars", method = "put", operation_id = "import_bars")]
    async fn import(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
        /// The file.
        file: Csv,
    ) -> Result<Json<Imported>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let ((rows, refused), body_sha256) = parse(file, market::parse_rows_csv).await?;
        let (db, now) = (&shared.stores().db, shared.engine().market_clock.now());
        let series = archive::series(db, &ticker).await?;
        let standing = quarantine::standing(db, &ticker).await?;
        // Some may have been announced before the first bar.
        let factors = actions::factors(db, &ticker).await?;
        let known = Known {
            exchange: ticker.exchange(),
            source: CSV_SOURCE,
            now,
            bars: series.as_ref().map(Series::bars).unwrap_or_default(),
            factors: &factors,
            splits: &[],
            // A file names no previous close, so that no action is taken from it and no session can be missing.
            sessions: &[],
            pending: &standing.pending,
            dismissed: &standing.dismissed,
            compared: false,
        };
        let judged = market::validate::judge(&known, &rows);
        let batch = Batch {
            ticker,
            source: CSV_SOURCE.to_owned(),
            page_session: judged.accepted.last().map(|bar| bar.session),
            bars: if judged.whole().is_some() { last_of_each(&rows) } else { judged.accepted.clone() },
            // Only those that a restated file has applied to the past.
            factors: judged.factors.clone(),
            splits: Vec::new(),
            refused: Vec::new(),
            fetched_at: now,
            body_sha256,
        };
        let set_aside = SetAside::of(&batch, &judged, &standing);
        // A file without one sound row must not make its ticker known.
        let keep = Some(&batch).filter(|_| !judged.accepted.is_empty());
        let archived = quarantine::import(db, keep, set_aside.as_ref(), db.now()).await?;
        Ok(Json(Imported::of(&judged, archived, refused)))
    }
}

/// The sound rows of a file that is set aside as a whole, so that it can be released.
fn last_of_each(rows: &[Row]) -> Vec<Bar> {
    let sound = rows.iter().filter_map(|row| row.raw.check().ok()).map(|bar| (bar.session, bar));
    sound.collect::<std::collections::BTreeMap<_, _>>().into_values().collect()
}

impl Imported {
    fn of(judged: &Judged, archived: archive::Archived, unreadable: Vec<CsvFault>) -> Self {
        let given = judged.accepted.len();
        let repaired = |finding: &&Finding| finding.rule == Rule::Open;
        let waits = |finding: &&Finding| finding.rule.severity() >= Severity::Row;
        let noted = judged.of(Severity::Warn).filter(|finding| !repaired(finding));
        let mut refused: Vec<RefusedRow> = unreadable.into_iter().map(RefusedRow::from).collect();
        refused.extend(judged.of(Severity::Reject).map(RefusedRow::of));
        refused.sort_by_key(|row| row.line);
        Self {
            new: archived.new as u64,
            revised: archived.revised as u64,
            unchanged: (given - archived.new - archived.revised) as u64,
            repaired: judged.findings.iter().filter(repaired).count() as u64,
            quarantined: judged.findings.iter().filter(waits).map(FoundRow::of).collect(),
            noted: noted.take(MOST_NOTED).map(FoundRow::of).collect(),
            refused,
        }
    }
}

impl FoundRow {
    fn of(finding: &Finding) -> Self {
        Self {
            line: Some(finding.row.line).filter(|line| *line > 0),
            session: finding.row.raw.session,
            rule: finding.rule.as_str().to_owned(),
            why: finding.why.clone(),
        }
    }
}

impl RefusedRow {
    fn of(finding: &Finding) -> Self {
        let column = finding.row.raw.check().err().map_or("date", |fault| market::column_of(&fault));
        Self { line: finding.row.line, column: column.to_owned(), reason: finding.why.clone() }
    }
}

fn default_limit() -> u32 {
    500
}

/// Reads a file off the threads that answer; also its hash. A file that is refused whole is a 422.
pub(crate) async fn parse<T: Send + 'static>(
    Csv(text): Csv,
    read: impl FnOnce(&str) -> Result<T, CsvFault> + Send + 'static,
) -> Result<(T, String), Problem> {
    let reading = tokio::task::spawn_blocking(move || (read(&text), hex::encode(Sha256::digest(text.as_bytes()))));
    let (parsed, hash) = reading.await.map_err(|error| Problem::internal(&error))?;
    let parsed = parsed.map_err(|fault| {
        let detail = format!("Line {}: {}.", fault.line, fault.reason);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "file_refused", "The file as a whole cannot be used", detail)
            .field(fault.column, fault.reason)
    })?;
    Ok((parsed, hash))
}

impl BarView {
    fn of(bar: &Bar) -> Self {
        Self {
            session: bar.session,
            open: bar.open,
            high: bar.high,
            low: bar.low,
            close: bar.close,
            ltp: bar.ltp,
            prev_close: bar.prev_close,
            volume: bar.volume,
        }
    }
}

impl From<CsvFault> for RefusedRow {
    fn from(fault: CsvFault) -> Self {
        Self { line: fault.line, column: fault.column, reason: fault.reason }
    }
}
