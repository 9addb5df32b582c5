//! `/v1/exchanges/{exchange}/factors`: corporate actions, imported as one file per exchange.

use crate::Shared;
use crate::bars::{CSV_SOURCE, RefusedRow, parse};
use crate::payload::Csv;
use crate::problem::Problem;
use crate::words::{Tag, exchange_in_path};
use chrono::NaiveDate;
use market::validate::LONGEST_GAP_DAYS;
use market::{Batch, Factor, Series, Ticker};
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::collections::BTreeMap;
use std::sync::Arc;
use workflows::stores::{archive, tickers};

/// What an import of corporate actions did.
#[derive(Debug, Object)]
struct FactorsImported {
    /// Actions archived, those that stood there already among them.
    archived: u64,
    /// Tickers they belong to.
    tickers: u64,
    /// Symbols whose actions were not taken, because no bars of theirs are archived: import those first.
    without_bars: Vec<String>,
    /// Actions that were taken although sessions are missing before them: the factor may hold what happened in these too.
    doubted: Vec<Doubted>,
    /// Rows that were not taken; the others were.
    refused: Vec<RefusedRow>,
}

/// An action after missing sessions.
#[derive(Debug, Object)]
struct Doubted {
    /// The symbol.
    ticker: String,
    /// The ex-date.
    session: NaiveDate,
    /// What is missing.
    why: String,
}

pub(crate) struct Factors;

#[OpenApi(tag = "Tag::Tickers")]
impl Factors {
    /// Imports corporate actions.
    ///
    /// The file has a header with at least `ticker`, `date` (the ex-date) and `factor` (reference price ÷ previous close). Import the bars first.
    /// At most 16 MiB.
    #[oai(path = "/v1/exchanges/:exchange/factors", method = "put", operation_id = "import_factors")]
    async fn import(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The file.
        file: Csv,
    ) -> Result<Json<FactorsImported>, Problem> {
        let exchange = exchange_in_path(&exchange)?;
        let ((rows, refused), body_sha256) = parse(file, move |text| market::parse_factors_csv(exchange, text)).await?;
        let mut by_ticker: BTreeMap<Ticker, Vec<Factor>> = BTreeMap::new();
        for row in rows {
            by_ticker.entry(row.ticker).or_default().push(row.factor);
        }
        let engine = shared.engine();
        let mut done = FactorsImported {
            archived: 0,
            tickers: 0,
            without_bars: Vec::new(),
            doubted: Vec::new(),
            refused: refused.into_iter().map(RefusedRow::from).collect(),
        };
        for (ticker, factors) in by_ticker {
            // The series keeps actions beside bars; without bars they would be lost to it.
            if tickers::get(&shared.stores().db, &ticker).await?.is_none_or(|row| row.bars == 0) {
                done.without_bars.push(ticker.symbol().to_owned());
                continue;
            }
            if let Some(series) = archive::series(&shared.stores().db, &ticker).await? {
                done.doubted.extend(factors.iter().filter_map(|factor| doubt(&series, factor)));
            }
            done.archived += factors.len() as u64;
            done.tickers += 1;
            let batch = Batch {
                ticker,
                source: CSV_SOURCE.to_owned(),
                bars: Vec::new(),
                factors,
                splits: Vec::new(),
                page_session: None,
                refused: Vec::new(),
                fetched_at: engine.market_clock.now(),
                body_sha256: body_sha256.clone(),
            };
            archive::import(&shared.stores().db, &batch, shared.stores().db.now()).await?;
        }
        Ok(Json(done))
    }
}

/// Why a factor may be more than an action: it compares with a close that is too old.
fn doubt(series: &Series, factor: &Factor) -> Option<Doubted> {
    let before = series.bars().iter().rfind(|bar| bar.session < factor.session)?;
    let days = (factor.session - before.session).num_days();
    (days > LONGEST_GAP_DAYS).then(|| Doubted {
        ticker: series.ticker().symbol().to_owned(),
        session: factor.session,
        why: format!("the bar before it is of {}, {days} days earlier", before.session),
    })
}
