//! Daily operation over the past: every session what the product would have known, trained and said. In come whole series, out go rows to be
//! scored. Nothing dated after a row's as-of takes part in it, pre-training included.

use crate::{
    ForecastError, Global, Kernel, MarketReturns, Model, Models, Recipe, finetune, opens_at,
    predict::{Ask, Predicted, predict},
    pretrain_by, seed_for, seed_for_exchange,
};
use chrono::{NaiveDate, TimeDelta};
use market::{Doubts, Exchange, Forecast, MadeBy, Series, TargetBasis, Ticker};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What is to be gone through.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    /// The last so many sessions of each ticker that have a next bar.
    pub sessions: usize,
    /// Sessions of operation before them, so that the gate has a record to judge by.
    pub warm_up: usize,
    /// A new global model every so many sessions of the exchange.
    pub pretrain_every: usize,
    /// A ticker's own model is continued every so many of its sessions.
    pub finetune_every: usize,
    /// Threads to use.
    pub threads: usize,
    /// Who does the arithmetic.
    pub kernel: Kernel,
}

impl Default for Backtest {
    fn default() -> Self {
        Self {
            sessions: 250,
            warm_up: 120,
            pretrain_every: 63,
            finetune_every: 5,
            threads: 1,
            kernel: Kernel::default(),
        }
    }
}

/// One forecast of one session, by one of the contenders.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `served`, `own`, `global`, or another recipe's name.
    pub model: String,
    /// The forecast.
    pub forecast: Forecast,
    /// The close that came.
    pub close: f64,
    /// Negative log density given to it, in units of the volatility; smaller is better. NaN from who gives none.
    pub nll: f64,
}

impl Backtest {
    /// Goes through the tickers of one exchange; `all` also makes up the market and the global models. `only`: the tickers that get rows, all
    /// when empty. `progress` is told (done, of) tickers, from any thread. Rows are in order of ticker, session and model.
    ///
    /// # Errors
    /// Those of training and prediction; a ticker with too few closes has fewer rows, or none, and is no error.
    pub fn walk(
        &self,
        exchange: Exchange,
        all: &[Series],
        only: &[Ticker],
        recipe: &Recipe,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Row>, ForecastError> {
        let market = MarketReturns::of(all);
        let chosen: Vec<&Series> = all.iter().filter(|one| only.is_empty() || only.contains(one.ticker())).collect();
        let globals = self.globals(exchange, all, &chosen, &market, recipe)?;
        let done = AtomicUsize::new(0);
        let walked = side_by_side(self.threads, &chosen, |series| {
            let rows = self.walk_one(series, &market, &globals, recipe);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, chosen.len());
            rows
        })?;
        Ok(walked.into_iter().flatten().collect())
    }

    /// Index of the first bar on which a ticker is operated, and of the first that gets a row.
    pub(crate) fn span(&self, series: &Series) -> (usize, usize) {
        let first = (series.bars().len().saturating_sub(1)).saturating_sub(self.sessions);
        (first.saturating_sub(self.warm_up), first)
    }

    /// The global models, by the index of the session on which each was trained.
    fn globals(
        &self,
        exchange: Exchange,
        all: &[Series],
        chosen: &[&Series],
        market: &MarketReturns,
        recipe: &Recipe,
    ) -> Result<BTreeMap<NaiveDate, Option<Global>>, ForecastError> {
        let mut needed: Vec<NaiveDate> = chosen
            .iter()
            .flat_map(|series| series.bars()[self.span(series).0..].iter())
            .filter_map(|bar| self.trained_on(market, bar.session))
            .collect();
        needed.sort_unstable();
        needed.dedup();
        let trained = side_by_side(self.threads, &needed, |session| {
            let known: Vec<Series> = all.iter().map(|series| known(series, *session, *session)).collect();
            let seed = seed_for_exchange(exchange, *session, &recipe.id());
            let (known, market) = (known.iter().collect::<Vec<_>>(), market.until(*session));
            let global = pretrain_by(self.kernel, exchange, &known, &market, recipe, seed)?;
            Ok((*session, global))
        })?;
        Ok(trained.into_iter().collect())
    }

    /// The session whose evening saw the newest pre-training, as of `session`.
    fn trained_on(&self, market: &MarketReturns, session: NaiveDate) -> Option<NaiveDate> {
        let days = market.days();
        let known = days.partition_point(|day| day.session <= session);
        let at = known.checked_sub(1)? / self.pretrain_every * self.pretrain_every;
        Some(days[at].session)
    }

    fn walk_one(
        &self,
        series: &Series,
        market: &MarketReturns,
        globals: &BTreeMap<NaiveDate, Option<Global>>,
        recipe: &Recipe,
    ) -> Result<Vec<Row>, ForecastError> {
        let (start, first) = self.span(series);
        let mut own: Option<Model> = None;
        let mut rows = vec![];
        for pair in series.bars().windows(2).enumerate().skip(start) {
            let (at, [today, next]) = pair else { continue };
            let known = known(series, today.session, next.session);
            if known.bars().len() < market::MIN_CLOSES {
                continue;
            }
            let market = market.until(today.session);
            let global = self.trained_on(&market, today.session).and_then(|day| globals.get(&day)?.as_ref());
            let due = (at - start).is_multiple_of(self.finetune_every);
            if let Some(global) = global.filter(|_| due && known.bars().len() >= recipe.finetune.closes_min) {
                let seed = seed_for(series.ticker(), today.session, &recipe.id());
                own = Some(finetune(global, own.as_ref(), &known, &market, seed)?);
            }
            if at >= first {
                let ask = Ask {
                    target: next.session,
                    target_basis: TargetBasis::ObservedWeek,
                    issued_at: opens_at(series.ticker().exchange(), next.session) - TimeDelta::hours(1),
                    flags: vec![],
                    doubts: Doubts::default(),
                };
                let predicted = predict(Models { global, own: own.as_ref() }, &known, &market, &ask)?;
                rows.extend(rows_of(predicted, recipe, next.close));
            }
        }
        Ok(rows)
    }
}

fn rows_of(predicted: Predicted, recipe: &Recipe, close: f64) -> impl Iterator<Item = Row> {
    let product = *recipe == Recipe::of(predicted.served.ticker.exchange());
    let name = move |word: &str| if product { word.to_owned() } else { format!("{}-{word}", recipe_name(recipe)) };
    let nll = |made_by| predicted.nll(made_by, close).unwrap_or(f64::NAN);
    let nll = [predicted.served.made_by, MadeBy::Own, MadeBy::Global].map(nll);
    let row = move |word: &str, forecast: Forecast, nll: f64| Row { model: name(word), forecast, close, nll };
    let served = row("served", predicted.served, nll[0]);
    let own = predicted.own.map(|forecast| row("own", forecast, nll[1]));
    let global = predicted.global.map(|forecast| row("global", forecast, nll[2]));
    [Some(served), own, global].into_iter().flatten()
}

fn recipe_name(recipe: &Recipe) -> &str {
    &recipe.name
}

/// The series as it was known in the evening of `session`: actions up to `target` are announced.
pub(crate) fn known(series: &Series, session: NaiveDate, target: NaiveDate) -> Series {
    let keep = series.bars().partition_point(|bar| bar.session <= session);
    let factors = series.factors().iter().filter(|factor| factor.session <= target).copied().collect();
    Series::new(series.ticker().clone(), series.bars()[..keep].to_vec(), factors)
        .unwrap_or_else(|_| series.until(session))
}

/// Does the work of every item on some threads; answers in the order of the items, or the first error.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, ForecastError> + Sync,
) -> Result<Vec<R>, ForecastError> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<Option<Result<R, ForecastError>>>> = Mutex::new((0..items.len()).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some((at, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
                {
                    let answer = work(item);
                    answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[at] = Some(answer);
                }
            });
        }
    });
    answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().flatten().collect()
}
