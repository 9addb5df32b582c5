//! Pretrain: trains the global model of an exchange on the archived series of its tickers, fills in the market's returns of the past, and forecasts
//! anew for tickers that had to make do with the baseline. In comes the archive, out goes a model that serves from then on; or a skip that says why.

use super::{Workshop, store_failed, version};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use forecast::{ForecastError, Global, Issued, Kernel, MarketReturns, Models, Recipe};
use market::{Doubts, Exchange, Flag, MadeBy, MarketDay, MarketSums, Outlook, Series, Ticker};
use std::sync::Arc;
use workflows::db::StoreResult;
use workflows::stores::forecasts::How;
use workflows::stores::globals::NewGlobal;
use workflows::stores::made_with::{Made, Read};
use workflows::stores::{archive, forecasts, market_days, tickers};
use workflows::{Attempt, Db, Effect, Report, StepBody};

pub(super) struct Pretrain(pub Arc<Workshop>);

/// More tickers than this teach nothing new about how tickers move, and cost memory: about 0.4 MB each while training.
const TICKERS_MAX: usize = 1_000;
/// Tickers per page of the list.
const PAGE: i64 = 500;

#[async_trait]
impl StepBody for Pretrain {
    async fn run(&self, attempt: &Attempt) -> Report {
        let Some(exchange) = attempt.claim.subject.exchange() else {
            return Report::give_up("a pre-training is about an exchange");
        };
        let db = &self.0.stores.db;
        let (series, days, read) = match read(db, exchange).await {
            Ok(read) => read,
            Err(error) => return store_failed(&error),
        };
        let known = match market_days::list(db, exchange).await {
            Ok(known) => known,
            Err(error) => return store_failed(&error),
        };
        // What was written when it happened stands before what the archive says today.
        let market = MarketReturns::new(days.iter().copied().chain(known));
        let cold = match self.served_cold(exchange).await {
            Ok(cold) => cold,
            Err(error) => return store_failed(&error),
        };
        let (now, session) = (self.0.engine.market_clock.now(), attempt.claim.session);
        let outlook = match self.0.outlook(exchange, session, &[]).await {
            Ok(outlook) => outlook,
            Err(error) => return store_failed(&error),
        };
        let made_at = self.0.engine.ledger.now();
        let kernel = self.0.kernel;
        let training = self.0.compute.run(&attempt.cancel, move || {
            let global = train(kernel, exchange, &series, &market)?;
            let first = global.as_ref().map_or_else(Vec::new, |global| {
                first_words(global, &cold, &series, &market, &outlook, (session, now, made_at))
            });
            Ok::<_, ForecastError>(
                global
                    .map(|global| (note(&global), record(&global, &series, &market, read), new_global(&global), first)),
            )
        });
        match training.await {
            Ok(Ok(Some((note, made, global, first)))) => {
                let made = Effect::MadeWith(Box::new(made));
                let mut effects = vec![Effect::MarketDays(exchange, days), Effect::Global(global), made];
                effects.extend(first);
                Report::done(note, effects)
            }
            Ok(Ok(None)) => Report::skip(
                format!("{exchange} has too few archived closes for a global model; the baseline is served until then"),
                vec![Effect::MarketDays(exchange, days)],
            ),
            Ok(Err(error)) => Report::retry("arithmetic", error.to_string(), None),
            Err(crate::compute::NotComputed::Cancelled) => Report::interrupted(),
            Err(error) => Report::retry("compute", error.to_string(), None),
        }
    }

    async fn committed(&self, attempt: &Attempt) {
        let Some(exchange) = attempt.claim.subject.exchange() else { return };
        let newest = forecasts::list_latest(&self.0.stores.db, Some(exchange), None, TICKERS_MAX as i64).await;
        for stored in newest.unwrap_or_default() {
            self.0.stores.refresh_forecast(&stored.forecast.ticker).await;
        }
    }
}

impl Pretrain {
    /// Tickers whose newest forecast is the baseline's because there was no model yet, with the session it was made in.
    async fn served_cold(&self, exchange: Exchange) -> StoreResult<Vec<(Ticker, NaiveDate)>> {
        let newest = forecasts::list_latest(&self.0.stores.db, Some(exchange), None, TICKERS_MAX as i64).await?;
        let cold = newest
            .into_iter()
            .map(|stored| stored.forecast)
            .filter(|forecast| forecast.flags.contains(&Flag::ColdStart));
        Ok(cold.map(|forecast| (forecast.ticker, forecast.as_of)).collect())
    }
}

/// The first forecasts of a model for tickers that waited for it: those whose session has not opened yet.
fn first_words(
    global: &Global,
    cold: &[(Ticker, NaiveDate)],
    series: &[Series],
    market: &MarketReturns,
    outlook: &Outlook,
    (session, now, made_at): (NaiveDate, DateTime<Utc>, DateTime<Utc>),
) -> Vec<Effect> {
    let of = |ticker: &Ticker| series.iter().find(|series| series.ticker() == ticker);
    let says = |(ticker, as_of): &(Ticker, NaiveDate)| {
        let series = of(ticker).filter(|series| series.last_session() == Some(*as_of))?;
        let models = Models { global: Some(global), own: None };
        let market = market.until(*as_of);
        let Issued { predicted, hindcast, opens_at } =
            forecast::issue(models, series, &market, Some(session), now, &Doubts::default(), Some(outlook)).ok()?;
        let served = predicted.served;
        let how = How { hindcast, served: true, opens_at, made_at };
        (!hindcast && served.made_by == MadeBy::Global).then(|| Effect::Forecast { forecast: Box::new(served), how })
    };
    cold.iter().filter_map(says).collect()
}

/// The series to learn from, every n-th ticker where there are very many, the market of all of them, and how they are found again.
async fn read(db: &Db, exchange: Exchange) -> StoreResult<(Vec<Series>, Vec<MarketDay>, Vec<Read>)> {
    let mut names = vec![];
    loop {
        let page = tickers::list(db, Some(exchange), names.last(), PAGE).await?;
        let full = page.len() as i64 == PAGE;
        names.extend(page.into_iter().map(|row| row.ticker));
        if !full {
            break;
        }
    }
    // The market is that of all tickers, also of those that are not learnt from: live sessions are held against it.
    let (mut series, mut sums, mut read) = (vec![], MarketSums::default(), vec![]);
    let every = names.len().div_ceil(TICKERS_MAX).max(1);
    for (at, ticker) in names.iter().enumerate() {
        let Some((one, version)) = archive::series_and_version(db, ticker).await? else { continue };
        let learnt = at.is_multiple_of(every);
        read.push(Read { ticker: ticker.symbol().to_owned(), series: version, learnt });
        sums.add(&one);
        if learnt {
            series.push(one);
        }
    }
    Ok((series, sums.complete_days(), read))
}

fn train(
    kernel: Kernel,
    exchange: Exchange,
    series: &[Series],
    market: &MarketReturns,
) -> Result<Option<Global>, ForecastError> {
    let recipe = Recipe::of(exchange);
    let last = series.iter().filter_map(Series::last_session).max().unwrap_or_default();
    let seed = forecast::seed_for_exchange(exchange, last, &recipe.id());
    let series: Vec<&Series> = series.iter().collect();
    forecast::pretrain_by(kernel, exchange, &series, market, &recipe, seed)
}

fn note(global: &Global) -> String {
    let how = global.metrics();
    format!(
        "{} as {}: {} windows of {} tickers up to {}; log density {:.4} → {:.4} on {} later ones",
        global.recipe().id(),
        &global.hash()[..12],
        how.windows,
        how.tickers,
        global.cutoff(),
        -how.nll_first,
        -how.nll_kept,
        how.held_out,
    )
}

fn record(global: &Global, series: &[Series], market: &MarketReturns, read: Vec<Read>) -> Made {
    Made::Global {
        version: version(global.kernel(), Some(global.recipe().id())),
        read,
        market_hash: market.hash(),
        input_hash: forecast::input_hash_of_all(&series.iter().collect::<Vec<_>>(), market),
        seed: global.seed(),
        global: global.hash().to_owned(),
    }
}

fn new_global(global: &Global) -> NewGlobal {
    NewGlobal {
        hash: global.hash().to_owned(),
        exchange: global.exchange(),
        recipe: global.recipe().id(),
        seed: global.seed(),
        as_of: global.as_of(),
        cutoff: global.cutoff(),
        metrics: serde_json::to_value(global.metrics()).unwrap_or_default(),
        weights: global.to_bytes(),
    }
}
