//! `/v1/exchanges/{exchange}/factors`: corporate actions, imported as one file per exchange.

use crate::Shared;
use crate::bars::{CSV_SOURCE, RefusedRow, parse};
use crate::payload::Csv;
use crate::problem::Problem;
use crate::words::{Tag, exchange_in_path};
use market::{Batch, Factor, Ticker};
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
    /// Rows that were not taken; the others were.
    refused: Vec<RefusedRow>,
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
            refused: refused.into_iter().map(RefusedRow::from).collect(),
        };
        for (ticker, factors) in by_ticker {
            // The series keeps actions beside bars; without bars they would be lost to it.
            if tickers::get(&shared.stores().db, &ticker).await?.is_none_or(|row| row.bars == 0) {
                done.without_bars.push(ticker.symbol().to_owned());
                continue;
            }
            done.archived += factors.len() as u64;
            done.tickers += 1;
            let batch = Batch {
                ticker,
                source: CSV_SOURCE.to_owned(),
                bars: Vec::new(),
                factors,
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
