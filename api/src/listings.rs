//! `/v1/tickers/{exchange}/{ticker}/state`: what an operator says of a ticker; and what forecasts of tickers that rest say of them.

use crate::Shared;
use crate::door::By;
use crate::problem::Problem;
use crate::tickers::TickerView;
use crate::words::{Tag, TickerStateName, ticker_in_path, unknown_ticker};
use chrono::{DateTime, Utc};
use market::{ListingState, Ticker};
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use workflows::db::StoreResult;
use workflows::stores::listings::{self, Order, Ordered, Resting};
use workflows::stores::tickers;

/// What is to become of a ticker.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct SetTickerState {
    /// `active` (it is traded again; without a bar it is `new`), `suspended`, `delisted`, `renamed` or `merged`.
    state: TickerStateName,
    /// What stands in its place, `NASDAQ:META`; only with `renamed` and `merged`, and needed there.
    successor: Option<String>,
    /// In words, for whoever looks later.
    #[oai(default, validator(max_length = 500))]
    reason: String,
}

pub(crate) struct Listings;

#[OpenApi(tag = "Tag::Tickers")]
impl Listings {
    /// Says where a ticker stands.
    ///
    /// What an operator suspended, delisted, renamed or merged stays so until an operator says `active`. History is kept in any case. A successor of a
    /// renamed ticker takes up its history: the bars are archived under the new name, as given by the old one. A merged one's history stays with it.
    /// Saying it twice is saying it once.
    #[oai(path = "/v1/tickers/:exchange/:ticker/state", method = "put", operation_id = "set_ticker_state")]
    async fn set(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
        body: Json<SetTickerState>,
    ) -> Result<Json<TickerView>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let order = ordered(&body)?;
        let db = &shared.stores().db;
        let mut detail = ListingState::from(body.state).as_str().to_owned();
        for part in [body.successor.as_deref().unwrap_or_default(), &body.reason] {
            if !part.is_empty() {
                detail = format!("{detail}: {part}");
            }
        }
        let entry = by.entry(&shared, "ticker_state", &ticker, detail);
        match listings::order(db, &ticker, &order, &body.reason, &entry, db.now()).await? {
            Ordered::Now | Ordered::Already => {}
            Ordered::Unknown => return Err(unknown_ticker(&ticker)),
            Ordered::Refused(state, why) => {
                let detail = format!("{why}.");
                return Err(
                    Problem::conflict("ticker_state", "This cannot become of the ticker", detail).state(state.as_str())
                );
            }
        }
        shared.resting.forget();
        let row = tickers::get(db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
        Ok(Json(row.into()))
    }
}

fn ordered(body: &SetTickerState) -> Result<Order, Problem> {
    let state = ListingState::from(body.state);
    let successor = body
        .successor
        .as_deref()
        .map(|text| Ticker::parse(text).map_err(|error| Problem::bad_field("successor", error.to_string())))
        .transpose()?;
    match (state, successor) {
        (ListingState::Renamed, Some(successor)) => Ok(Order::Rename(successor)),
        (ListingState::Merged, Some(successor)) => Ok(Order::Merge(successor)),
        (ListingState::Renamed | ListingState::Merged, None) => {
            Err(Problem::bad_field("successor", "name what stands in its place, for example NASDAQ:META"))
        }
        (_, Some(_)) => Err(Problem::bad_field("successor", "only a renamed or merged ticker has one")),
        (ListingState::New | ListingState::Active, None) => Ok(Order::Resume),
        (ListingState::Suspended, None) => Ok(Order::Suspend),
        (ListingState::Delisted, None) => Ok(Order::Delist),
    }
}

/// That a ticker is no longer forecast, or not for the time being.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Resting", skip_serializing_if_is_none)]
pub(crate) struct RestingView {
    /// `suspended`, `delisted`, `renamed` or `merged`.
    state: TickerStateName,
    /// Since when.
    since: DateTime<Utc>,
    /// Why.
    reason: String,
    /// What stands in its place, `NASDAQ:META`: ask for that one.
    successor: Option<String>,
}

impl From<&Resting> for RestingView {
    fn from(resting: &Resting) -> Self {
        Self {
            state: resting.state.into(),
            since: resting.since,
            reason: resting.why.clone(),
            successor: resting.successor.as_ref().map(Ticker::to_string),
        }
    }
}

/// So old may be what is said of tickers that another process changed. Forecasts come from the cache, and must not cost a query each.
const REMEMBERED: Duration = Duration::from_secs(3);

/// The tickers that rest, as read a moment ago.
#[derive(Default)]
pub(crate) struct RestingTickers(Mutex<Option<Remembered>>);

#[derive(Clone)]
struct Remembered {
    read_at: Instant,
    all: Arc<BTreeMap<Ticker, Resting>>,
}

impl RestingTickers {
    /// All of them. While the database is away: those of before, for the cache goes on answering.
    pub(crate) async fn all(&self, shared: &Shared) -> Arc<BTreeMap<Ticker, Resting>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.as_ref().filter(|known| known.read_at.elapsed() < REMEMBERED) {
            return known.all.clone();
        }
        let all = match self.read(shared).await {
            Ok(all) => Arc::new(all),
            Err(error) => {
                tracing::debug!(%error, "the tickers that rest could not be read");
                known.map(|known| known.all).unwrap_or_default()
            }
        };
        let remembered = Remembered { read_at: Instant::now(), all: all.clone() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(remembered);
        all
    }

    async fn read(&self, shared: &Shared) -> StoreResult<BTreeMap<Ticker, Resting>> {
        let rows = listings::resting(&shared.stores().db, None).await?;
        Ok(rows.into_iter().map(|resting| (resting.ticker.clone(), resting)).collect())
    }

    /// The next reader looks anew.
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
