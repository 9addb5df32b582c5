//! How a forecast is found, or made: from the cache; else the newest in the archive; else from the ticker's champion and its archived
//! prices, at once. At most one such look-up per ticker runs at a time; everyone else waits for its answer.

use crate::ApiState;
use crate::problem::Problem;
use crate::words::unknown_ticker;
use chrono::{DateTime, Utc};
use forecast::{ForecastError, Global, MarketReturns, Model, Models};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use market::{Doubts, Forecast, MIN_CLOSES, MadeBy, Outlook, Series, Ticker};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use workflows::stores::forecasts::{How, StoredForecast};
use workflows::stores::{alarms, archive, forecasts, globals, market_days, sessions, tickers};

/// A forecast, ready to be shown.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) stored: StoredForecast,
    /// Whether the cache had it.
    pub(crate) cached: bool,
}

impl Served {
    fn stored(stored: StoredForecast, cached: bool) -> Self {
        Self { stored, cached }
    }
}

type Answer = Result<Served, Problem>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// Look-ups under way, by ticker.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Ticker, Flight>>>);

impl Flights {
    /// Joins the look-up of this ticker, or begins it. It runs to its end even when everyone who waits goes away.
    async fn join(&self, state: &ApiState, ticker: &Ticker) -> Answer {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(ticker) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.begin(state.clone(), ticker.clone());
                    flights.insert(ticker.clone(), flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    fn begin(&self, state: ApiState, ticker: Ticker) -> Flight {
        let flights = self.0.clone();
        let task = tokio::spawn(async move {
            // A panic must not leave its flight behind, or every later reader would get its answer.
            let landed = AssertUnwindSafe(look_up(&state, &ticker)).catch_unwind().await;
            let answer = landed.unwrap_or_else(|_| Err(Problem::internal(&"a look-up panicked")));
            flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticker);
            answer
        });
        async move { task.await.unwrap_or_else(|error| Err(Problem::internal(&error))) }.boxed().shared()
    }
}

/// The ticker's forecast.
pub(crate) async fn serve(state: &ApiState, flights: &Flights, ticker: &Ticker) -> Answer {
    match state.stores.cache.forecast(ticker).await {
        Ok(Some(stored)) => return Ok(counted("cache", Served::stored(stored, true))),
        Ok(None) => {}
        Err(error) => tracing::debug!(%ticker, %error, "the cache did not answer; reading the archive"),
    }
    flights.join(state, ticker).await
}

/// Whether its target session has opened at `now`: then a reader must know that it is no longer a look ahead.
pub(crate) fn is_stale(forecast: &Forecast, now: DateTime<Utc>) -> bool {
    now >= forecast::opens_at(forecast.ticker.exchange(), forecast.target)
}

/// The archive's answer. A stored forecast from the newest archived session is the answer; otherwise one is made.
async fn look_up(state: &ApiState, ticker: &Ticker) -> Answer {
    let stored = forecasts::latest(&state.stores.db, ticker).await?;
    let Some(row) = tickers::get(&state.stores.db, ticker).await? else { return Err(unknown_ticker(ticker)) };
    if let Some(stored) = &stored
        && row.last_session.is_none_or(|last| stored.forecast.as_of >= last)
    {
        keep(state, stored).await;
        return Ok(counted("archive", Served::stored(stored.clone(), false)));
    }
    let series = archive::series(&state.stores.db, ticker).await?;
    let Some(series) = series.filter(|series| series.bars().len() >= MIN_CLOSES) else {
        return Err(not_enough_history(ticker, row.bars));
    };
    let (minds, series) = (minds(state, &series, row.champion.as_deref()).await?, Arc::new(series));
    let without = Minds { outlook: minds.outlook.clone(), ..Minds::default() };
    if minds.global.is_some() {
        match issue(state, minds, &series).await {
            Ok((forecast, how)) if forecast.made_by != MadeBy::Baseline => return publish(state, &forecast, how).await,
            // Between two steps of a run the model knows a session whose bars are archived a moment later.
            Ok(_) => tracing::debug!(%ticker, "no model speaks of what is archived; serving what there is without one"),
            Err(error) => {
                tracing::warn!(%ticker, %error, "the models could not predict; serving what there is without them")
            }
        }
        if let Some(stored) = stored {
            return Ok(counted("archive", Served::stored(stored, false)));
        }
    }
    // Not stored: a run must still find that its session has no forecast, and train.
    let (forecast, how) = issue(state, without, &series).await.map_err(|error| Problem::internal(&error))?;
    Ok(counted("baseline", Served::stored(StoredForecast::unstored(forecast, how.hindcast, how.made_at), false)))
}

/// What a forecast is made from beside the closes.
#[derive(Default)]
struct Minds {
    global: Option<Vec<u8>>,
    own: Option<Vec<u8>>,
    market: MarketReturns,
    doubts: Doubts,
    outlook: Option<Outlook>,
}

async fn minds(state: &ApiState, series: &Series, own: Option<&str>) -> Result<Minds, Problem> {
    let (stores, ticker) = (&state.stores, series.ticker());
    let exchange = ticker.exchange();
    let global = match globals::newest(&stores.db, exchange).await? {
        Some(row) => stores.model_bytes(&row.hash).await?,
        None => None,
    };
    let own = match own {
        Some(hash) => stores.model_bytes(hash).await?,
        None => None,
    };
    let market = MarketReturns::new(market_days::list(&stores.db, exchange).await?);
    let doubts = alarms::doubts(&stores.db, ticker).await?;
    let outlook = match series.last_session() {
        Some(last) => Some(sessions::calendar(&stores.db, exchange, last).await?.outlook(last)),
        None => None,
    };
    Ok(Minds { global, own, market, doubts, outlook })
}

/// A few small forward passes, off the threads that answer. An own model that cannot be read leaves the word to the global one.
async fn issue(state: &ApiState, minds: Minds, series: &Arc<Series>) -> Result<(Forecast, How), ForecastError> {
    let (series, now, made_at) = (series.clone(), state.engine.market_clock.now(), state.stores.db.now());
    let thinking = tokio::task::spawn_blocking(move || {
        let global = minds.global.as_deref().map(Global::from_bytes).transpose()?;
        let own = minds.own.as_deref().and_then(|bytes| Model::from_bytes(bytes).ok());
        let market = minds.market.until(series.last_session().unwrap_or_default());
        let models = Models { global: global.as_ref(), own: own.as_ref() };
        let issued = forecast::issue(models, &series, &market, None, now, &minds.doubts, minds.outlook.as_ref())?;
        let how = How { hindcast: issued.hindcast, served: true, opens_at: issued.opens_at, made_at };
        Ok((issued.predicted.served, how))
    });
    match thinking.await {
        Ok(thought) => thought,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Stores what the champion said and answers with what is newest now: another process may have been faster.
async fn publish(state: &ApiState, forecast: &Forecast, how: How) -> Answer {
    forecasts::store(&state.stores.db, forecast, how, state.stores.db.now()).await?;
    let newest = forecasts::latest(&state.stores.db, &forecast.ticker).await?;
    if let Some(newest) = newest {
        keep(state, &newest).await;
        return Ok(counted("issued", Served::stored(newest, false)));
    }
    let unstored = StoredForecast::unstored(forecast.clone(), how.hindcast, how.made_at);
    Ok(counted("issued", Served::stored(unstored, false)))
}

/// Fills the cache; it is only a copy, so a failure is only told.
async fn keep(state: &ApiState, stored: &StoredForecast) {
    if let Err(error) = state.stores.cache.put_forecast(stored).await {
        tracing::debug!(ticker = %stored.forecast.ticker, %error, "a forecast could not be cached");
    }
}

fn not_enough_history(ticker: &Ticker, closes: i64) -> Problem {
    let detail = format!(
        "{ticker} has {closes} archived closes; a forecast needs {MIN_CLOSES}. Import more, or wait for more sessions."
    );
    Problem::not_found("not_enough_history", "There is too little history for a forecast", detail)
}

fn counted(from: &'static str, served: Served) -> Served {
    metrics::counter!("retainai_forecasts_served_total", "from" => from).increment(1);
    served
}
