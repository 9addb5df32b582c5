//! Fine-tune: continues the ticker's own model on the newest closes, or takes a copy of the global one. In come series, staged bars and the
//! market's return, out goes a model for the registry; or a skip that says why, or a wait for the market to be complete.

use super::{Workshop, series_with_staged, store_failed, version};
use async_trait::async_trait;
use chrono::TimeDelta;
use forecast::{ForecastError, Global, MARKET_TICKERS_MIN, MarketReturns, Model};
use market::{MIN_CLOSES, Series, Ticker, market_condition};
use std::sync::Arc;
use workflows::db::StoreResult;
use workflows::exchange_duties::MARKET_DEADLINE;
use workflows::ledger::Claim;
use workflows::plan::priority;
use workflows::stores::made_with::{Known, Made};
use workflows::stores::models::NewModel;
use workflows::stores::{globals, market_days, tickers};
use workflows::{Attempt, Effect, Report, StepBody};

pub(super) struct Finetune(pub Arc<Workshop>);

/// How long a run waits for the first global model of its exchange.
const FIRST_GLOBAL_AT_MOST: TimeDelta = TimeDelta::minutes(10);

#[async_trait]
impl StepBody for Finetune {
    async fn run(&self, attempt: &Attempt) -> Report {
        let claim = &attempt.claim;
        let ticker = claim.ticker();
        match tickers::get(&self.0.stores.db, ticker).await {
            Ok(Some(row)) if !row.state.is_traded() => {
                return Report::skip(format!("{ticker} is {}: it is not trained", row.state), vec![]);
            }
            Ok(_) => {}
            Err(error) => return store_failed(&error),
        }
        let (series, known) = match series_with_staged(&self.0.stores.db, claim).await {
            Ok(Some(read)) => read,
            Ok(None) => return Report::skip("there are no closes yet", vec![]),
            Err(error) => return store_failed(&error),
        };
        let have = series.bars().len();
        if have < MIN_CLOSES {
            let why = format!("{have} closes are known and {MIN_CLOSES} are needed: no model and no forecast yet");
            return Report::skip(why.clone(), vec![Effect::Remark(why)]);
        }
        match self.wait_for_the_market(claim).await {
            Ok(None) => {}
            Ok(Some(report)) => return report,
            Err(error) => return store_failed(&error),
        }
        let (global, market, parent) = match self.read(ticker).await {
            Ok(read) => read,
            Err(error) => return store_failed(&error),
        };
        let Some(global) = global else { return self.without_a_global(claim).await };
        let need = global.recipe().finetune.closes_min;
        if have < need {
            return Report::skip(
                format!("{have} closes are known; a model of its own needs {need}, until then the global one speaks"),
                vec![],
            );
        }
        if series.last_session().is_some_and(|last| last < global.cutoff()) {
            let why = format!("its newest close is older than what the global model has learnt, {}", global.cutoff());
            return Report::skip(why, vec![]);
        }
        // A model of another recipe is not continued, and one that saw bars which were never archived is ahead of us.
        let parent = parent.filter(|parent| parent.recipe() == global.recipe());
        if let Some(parent) = &parent
            && let Some(why) = not_due(parent, &series, self.0.finetune_every)
        {
            return Report::skip(why, vec![]);
        }
        let training =
            self.0.compute.run(&attempt.cancel, move || train(&global, parent.as_ref(), &series, &market, known));
        match training.await {
            Ok(Ok((note, model, made))) => {
                Report::done(note, vec![Effect::Model(model), Effect::MadeWith(Box::new(made))])
            }
            Ok(Err(error)) => Report::retry("arithmetic", error.to_string(), None),
            Err(crate::compute::NotComputed::Cancelled) => Report::interrupted(),
            Err(error) => Report::retry("compute", error.to_string(), None),
        }
    }
}

impl Finetune {
    async fn read(&self, ticker: &Ticker) -> StoreResult<(Option<Arc<Global>>, MarketReturns, Option<Model>)> {
        let global = self.0.global(ticker.exchange()).await?;
        Ok((global, self.0.market(ticker.exchange()).await?, self.0.own(ticker).await?))
    }

    /// A scheduled run waits until the market's return of its session is known; the condition comes true at the deadline at the latest. A run
    /// that a person waits for never does, nor one on an exchange of so few tickers that there is no market.
    async fn wait_for_the_market(&self, claim: &Claim) -> StoreResult<Option<Report>> {
        let (db, exchange) = (&self.0.stores.db, claim.ticker().exchange());
        if claim.priority > priority::SCHEDULED || market_days::is_written(db, exchange, claim.session).await? {
            return Ok(None);
        }
        let few = i64::from(MARKET_TICKERS_MIN);
        if (tickers::list(db, Some(exchange), None, few).await?.len() as i64) < few {
            return Ok(None);
        }
        // Of a session long past nobody scrapes a close any more; and where nobody writes the row, the run goes on without it.
        let Some(since) = market_days::open_since(db, exchange, claim.session).await? else { return Ok(None) };
        let until = since + MARKET_DEADLINE + TimeDelta::minutes(5);
        if until <= self.0.engine.ledger.now() {
            return Ok(None);
        }
        let why = format!("waiting until {exchange} has its closes of {}", claim.session);
        Ok(Some(Report::wait(why, Some(market_condition(exchange, claim.session)), until)))
    }

    /// Without a global model: waits for the first one where a pre-training is under way, else goes on with the baseline.
    async fn without_a_global(&self, claim: &Claim) -> Report {
        let exchange = claim.ticker().exchange();
        let making = globals::in_the_making_since(&self.0.stores.db, exchange).await;
        // Counted from when it was asked for: where nobody carries out pre-trainings, nobody waits for ever.
        match making.map(|since| since.map(|since| since + FIRST_GLOBAL_AT_MOST)) {
            Ok(Some(until)) if until > self.0.engine.ledger.now() => {
                let why = format!("waiting for the first global model of {exchange}, which is being trained");
                Report::wait(why, Some(globals::condition(exchange)), until)
            }
            Ok(_) => Report::skip(format!("{exchange} has no global model yet: the baseline is served"), vec![]),
            Err(error) => store_failed(&error),
        }
    }
}

/// Why the model is not continued today; `None` when it is due. Tickers have their days spread over the period by their name.
fn not_due(parent: &Model, series: &Series, every: usize) -> Option<String> {
    if series.last_session().is_some_and(|last| last < parent.as_of()) {
        return Some(format!("the model has seen {}, which is not archived", parent.as_of()));
    }
    let newer = series.bars().iter().filter(|bar| bar.session > parent.as_of()).count();
    if newer == 0 {
        return Some(format!("the model has seen {} already", parent.as_of()));
    }
    let phase =
        series.ticker().to_string().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let turn = every <= 1 || (series.bars().len() + phase).is_multiple_of(every);
    (!turn && newer < every)
        .then(|| format!("not due: {newer} sessions since {}, continued every {every}", parent.as_of()))
}

fn train(
    global: &Global,
    parent: Option<&Model>,
    series: &Series,
    market: &MarketReturns,
    known: Known,
) -> Result<(String, NewModel, Made), ForecastError> {
    let recipe = global.recipe();
    let as_of = series.last_session().unwrap_or_default();
    let market = market.until(as_of);
    let seed = forecast::seed_for(series.ticker(), as_of, &recipe.id());
    let model = forecast::finetune(global, parent, series, &market, seed)?;
    let metrics = serde_json::to_value(model.metrics()).unwrap_or_default();
    let verb = match (parent, model.metrics().restarted) {
        (None, _) => "created",
        (Some(_), false) => "continued",
        (Some(_), true) => "began again from the global model:",
    };
    let note = format!("{verb} {} as {}", recipe.id(), &model.hash()[..12]);
    let new = NewModel {
        hash: model.hash().to_owned(),
        ticker: series.ticker().clone(),
        parent: model.parent().map(str::to_owned),
        recipe: recipe.id(),
        seed,
        as_of,
        input_hash: forecast::input_hash(series, &market),
        metrics,
        weights: model.to_bytes(),
    };
    let made = Made::Model {
        version: version(global.kernel(), Some(recipe.id())),
        known,
        market_hash: market.hash(),
        input_hash: new.input_hash.clone(),
        global: global.hash().to_owned(),
        parent: new.parent.clone(),
        seed,
        model: new.hash.clone(),
    };
    Ok((note, new, made))
}
