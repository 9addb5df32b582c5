//! Corporate actions: `/v1/exchanges/{exchange}/factors` imports a file of them, `/v1/tickers/{exchange}/{ticker}/actions` lists and announces.

use crate::Shared;
use crate::bars::{CSV_SOURCE, RefusedRow, parse};
use crate::door::By;
use crate::payload::Csv;
use crate::problem::Problem;
use crate::words::{Tag, exchange_in_path, ticker_in_path, unknown_ticker};
use chrono::{DateTime, NaiveDate, Utc};
use market::validate::LONGEST_GAP_DAYS;
use market::{Factor, Series, Ticker};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::collections::BTreeMap;
use std::sync::Arc;
use workflows::stores::actions::{self, ActionRow, Announced};
use workflows::stores::{archive, tickers};

/// What an import of corporate actions did.
#[derive(Debug, Object)]
struct FactorsImported {
    /// Actions archived, those that stood there already among them.
    archived: u64,
    /// Tickers they belong to.
    tickers: u64,
    /// Symbols of which no bars are archived yet: their actions are kept, and count as soon as bars come.
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

/// A corporate action.
#[derive(Debug, Object)]
#[oai(rename = "Action")]
struct ActionView {
    /// The ex-date: the first session on the new level.
    session: NaiveDate,
    /// Reference price ÷ previous close: 0.8929 after a bonus of 12 %.
    factor: f64,
    /// When it was made known, as far as anybody said; else when we were told.
    announced_at: DateTime<Utc>,
    /// Who said so: a price source, `csv` or `operator`.
    source: String,
}

/// The corporate actions of a ticker.
#[derive(Debug, Object)]
struct ActionPage {
    /// All of them, in order of their ex-dates.
    items: Vec<ActionView>,
}

/// What is announced.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct AnnounceAction {
    /// Reference price ÷ previous close, from 0.02 to 50: 0.8929 for a bonus of 12 %, 0.5 for a split 2:1.
    factor: f64,
    /// When it was made known; by default now.
    announced_at: Option<DateTime<Utc>>,
}

/// Who announced what came by the API.
const OPERATOR: &str = "operator";
/// No bonus, right issue or split that we know of is outside.
const SMALLEST: f64 = 0.02;
/// The same upwards.
const LARGEST: f64 = 50.0;

pub(crate) struct Factors;

#[OpenApi(tag = "Tag::Tickers")]
impl Factors {
    /// Imports corporate actions.
    ///
    /// The file has a header with at least `ticker`, `date` (the ex-date) and `factor` (reference price ÷ previous close); `announced_at` may be there: an
    /// instant, or a day, which means its close; else they count as announced now. Bars may come before or after it. At most 16 MiB.
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
        let ((rows, refused), _) = parse(file, move |text| market::parse_factors_csv(exchange, text)).await?;
        let db = &shared.stores().db;
        let now = db.now();
        let mut by_ticker: BTreeMap<Ticker, Vec<Announced>> = BTreeMap::new();
        for row in rows {
            let announced = Announced { factor: row.factor, at: row.announced_at.unwrap_or(now) };
            by_ticker.entry(row.ticker).or_default().push(announced);
        }
        let mut done = FactorsImported {
            archived: 0,
            tickers: by_ticker.len() as u64,
            without_bars: Vec::new(),
            doubted: Vec::new(),
            refused: refused.into_iter().map(RefusedRow::from).collect(),
        };
        for (ticker, announced) in by_ticker {
            match archive::series(db, &ticker).await? {
                Some(series) => done.doubted.extend(announced.iter().filter_map(|one| doubt(&series, &one.factor))),
                None => done.without_bars.push(ticker.symbol().to_owned()),
            }
            actions::announce(db, &ticker, CSV_SOURCE, &announced, now).await?;
            done.archived += announced.len() as u64;
        }
        Ok(Json(done))
    }

    /// The corporate actions of a ticker.
    ///
    /// In order of their ex-dates, those to come among them.
    #[oai(path = "/v1/tickers/:exchange/:ticker/actions", method = "get", operation_id = "list_actions")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, NABIL.
        ticker: Path<String>,
    ) -> Result<Json<ActionPage>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let db = &shared.stores().db;
        let rows = actions::list(db, &ticker).await?;
        if rows.is_empty() {
            tickers::get(db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
        }
        Ok(Json(ActionPage { items: rows.into_iter().map(ActionView::from).collect() }))
    }

    /// Announces a corporate action.
    ///
    /// Prices before the ex-date are compared with those after it through the factor, forecasts across it begin from the reference price. Announcing
    /// it again replaces the factor; a factor of 1 takes it back.
    #[oai(path = "/v1/tickers/:exchange/:ticker/actions/:session", method = "put", operation_id = "announce_action")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn announce(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, NABIL.
        ticker: Path<String>,
        /// The ex-date: the first session on the new level.
        session: Path<NaiveDate>,
        body: Json<AnnounceAction>,
    ) -> Result<Json<ActionView>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let db = &shared.stores().db;
        tickers::get(db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
        let factor = Factor { session: session.0, factor: body.factor };
        if !(factor.factor.is_finite() && (SMALLEST..=LARGEST).contains(&factor.factor)) {
            let detail =
                format!("A factor of {} is none: a bonus of 12 % has 0.8929, a split 2:1 has 0.5.", body.factor);
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad_factor",
                "The factor cannot be used",
                detail,
            )
            .field("factor", format!("from {SMALLEST} to {LARGEST}")));
        }
        let announced = Announced { factor, at: body.announced_at.unwrap_or_else(|| db.now()) };
        actions::announce(db, &ticker, OPERATOR, &[announced], db.now()).await?;
        let detail = format!("{} by {}", factor.session, factor.factor);
        by.note(&shared, "action_announce", &ticker, detail).await;
        let stored =
            actions::list(db, &ticker).await?.into_iter().find(|row| row.announced.factor.session == session.0);
        stored.map(|row| Json(row.into())).ok_or_else(|| Problem::internal(&"an announced action is not there"))
    }
}

impl From<ActionRow> for ActionView {
    fn from(row: ActionRow) -> Self {
        let Announced { factor, at } = row.announced;
        Self { session: factor.session, factor: factor.factor, announced_at: at, source: row.source }
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
