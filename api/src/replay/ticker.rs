//! A ticker's run again: its own model trained anew from the closes, market and models of then, its forecasts made anew and compared field by field.

use super::finding::{Finding, Item, What, compare, compare_all};
use super::{compute, global_model, inputs, market_of, other_inputs, own_model};
use crate::problem::Problem;
use chrono::{DateTime, NaiveDate, Utc};
use forecast::{ForecastError, Issued, MarketReturns, Model, Models};
use market::{Forecast, Series, Ticker};
use workflows::Db;
use workflows::db::StoreResult;
use workflows::ledger::RunRow;
use workflows::plan::Step;
use workflows::stores::forecasts::{self, StoredForecast};
use workflows::stores::made_with::{Known, Made, Version};
use workflows::stores::{as_known, models};

/// Trains the run's model again. The model is handed on when it is the same: its weights may be gone from the registry.
pub(super) async fn model(
    db: &Db,
    run: &RunRow,
    made: &Made,
    made_at: DateTime<Utc>,
    archived: Option<i64>,
) -> Result<(Vec<Item>, Option<Model>), Problem> {
    let Made::Model { version, known, market_hash, input_hash, global, parent, seed, model } = made else {
        return Err(Problem::internal(&"a record of something else than a model"));
    };
    let item = |finding| Item::of(Step::Finetune, What::Model, model, version, finding);
    let Some((series, market)) = read(db, run, known, made_at, archived, market_hash).await? else {
        return Ok((vec![lost(Step::Finetune, version, input_hash), item(other_inputs())], None));
    };
    let now = (forecast::input_hash(&series, &market), market.hash());
    let inputs = inputs(Step::Finetune, version, (input_hash, market_hash), (&now.0, &now.1));
    if inputs.finding != Finding::Same {
        return Ok((vec![inputs, item(other_inputs())], None));
    }
    let parent = match parent {
        Some(hash) => Some(own_model(db, hash, "parent").await?),
        None => None,
    };
    let (global, parent) = match (global_model(db, global, version).await?, parent.transpose()) {
        (Ok(global), Ok(parent)) => (global, parent),
        (Err(gone), _) | (_, Err(gone)) => return Ok((vec![inputs, item(Finding::NotReplayable(gone))], None)),
    };
    let seed = *seed;
    let recipe = global.recipe().id();
    let trained = compute(move || forecast::finetune(&global, parent.as_ref(), &series, &market, seed)).await?;
    let trained = match trained {
        Ok(trained) => trained,
        Err(error) => return Ok((vec![inputs, item(failed(&error))], None)),
    };
    let mut differences: Vec<_> = compare("hash", model, trained.hash()).into_iter().collect();
    if !differences.is_empty()
        && let Some(then) = models::weights(db, model).await?.and_then(|bytes| Model::from_bytes(&bytes).ok())
    {
        let value = |model: &Model| serde_json::to_value(model.metrics()).unwrap_or_default();
        differences.extend(compare_all("metrics", &value(&then), &value(&trained)));
    }
    let item = Item { recipe_now: Some(recipe), ..item(Finding::of(differences)) };
    let same = (item.finding == Finding::Same).then_some(trained);
    Ok((vec![inputs, item], same))
}

/// Makes the run's forecasts again. `retrained`: the model that its fine-tuning gave when it was replayed.
pub(super) async fn forecasts(
    db: &Db,
    run: &RunRow,
    made: &Made,
    made_at: DateTime<Utc>,
    archived: Option<i64>,
    retrained: Option<Model>,
) -> Result<Vec<Item>, Problem> {
    let Made::Forecasts { version, known, market_hash, input_hash, session, doubts, outlook, global, own, forecasts } =
        made
    else {
        return Err(Problem::internal(&"a record of something else than forecasts"));
    };
    let mut stored = vec![];
    for id in forecasts {
        stored.push((*id, forecasts::get(db, *id).await?));
    }
    let all = |finding: &Finding| -> Vec<Item> {
        stored.iter().map(|(id, then)| item(*id, then.as_ref(), version, finding.clone())).collect()
    };
    let Some((series, market)) = read(db, run, known, made_at, archived, market_hash).await? else {
        let lost = lost(Step::Cache, version, input_hash);
        return Ok([lost].into_iter().chain(all(&other_inputs())).collect());
    };
    let target = stored.iter().find_map(|(_, then)| then.as_ref().map(|then| then.forecast.target));
    let now = match target {
        Some(target) => forecast::input_hash_for(&series, &market, target),
        None => forecast::input_hash(&series, &market),
    };
    let inputs = inputs(Step::Cache, version, (input_hash, market_hash), (&now, &market.hash()));
    let with = |items: Vec<Item>| Ok([inputs.clone()].into_iter().chain(items).collect());
    if inputs.finding != Finding::Same {
        return with(all(&other_inputs()));
    }
    let global = match global {
        Some(hash) => Some(global_model(db, hash, version).await?),
        None => None,
    };
    let own = match (own, retrained) {
        (Some(hash), Some(model)) if model.hash() == hash => Some(Ok(model)),
        (Some(hash), _) => Some(own_model(db, hash, "own model").await?),
        (None, _) => None,
    };
    let (global, own) = match (global.transpose(), own.transpose()) {
        (Ok(global), Ok(own)) => (global, own),
        (Err(gone), _) | (_, Err(gone)) => return with(all(&Finding::NotReplayable(gone))),
    };
    let (session, doubts, outlook, version) = (*session, doubts.clone(), outlook.clone(), version.clone());
    let items = compute(move || {
        let recipe = global.as_ref().map(|global| global.recipe().id());
        let models = Models { global: global.as_ref(), own: own.as_ref() };
        let mut issued: Vec<(DateTime<Utc>, Result<Issued, ForecastError>)> = vec![];
        let found = stored.into_iter().map(|(id, then)| {
            let Some(then) = then else {
                let why = "the forecast is gone from the archive".to_owned();
                return item(id, None, &version, Finding::NotReplayable(why));
            };
            let at = then.forecast.issued_at;
            if !issued.iter().any(|(known, _)| *known == at) {
                let outlook = outlook.as_ref();
                issued.push((at, forecast::issue(models, &series, &market, Some(session), at, &doubts, outlook)));
            }
            let finding = match issued.iter().find(|(known, _)| *known == at) {
                Some((_, Ok(now))) => forecast_again(&then, now),
                Some((_, Err(error))) => failed(error),
                None => Finding::NotReplayable("it was not made again".to_owned()),
            };
            Item { recipe_now: recipe.clone(), ..item(id, Some(&then), &version, finding) }
        });
        found.collect()
    });
    with(items.await?)
}

/// What a step of the run read; `None` when its staged bars are lost.
async fn read(
    db: &Db,
    run: &RunRow,
    known: &Known,
    made_at: DateTime<Utc>,
    archived: Option<i64>,
    market_hash: &str,
) -> Result<Option<(Series, MarketReturns)>, Problem> {
    let ticker = Ticker::parse(&run.subject).map_err(|error| Problem::internal(&error))?;
    let Some(series) = as_known::series_of_step(db, &ticker, known, archived).await? else { return Ok(None) };
    let last = series.last_session().unwrap_or_default();
    let market = market_until(db, &ticker, made_at, last, market_hash).await?;
    Ok(Some((series, market)))
}

async fn market_until(
    db: &Db,
    ticker: &Ticker,
    made_at: DateTime<Utc>,
    last: NaiveDate,
    hash: &str,
) -> StoreResult<MarketReturns> {
    let past = as_known::market(db, ticker.exchange()).await?;
    Ok(market_of(past.before(made_at).map(|days| MarketReturns::new(days).until(last)), hash))
}

/// Inputs that nobody has any more.
fn lost(step: Step, version: &Version, input_hash: &str) -> Item {
    let why = "the run's own bars were never archived: it ended before that".to_owned();
    Item::of(step, What::Inputs, input_hash, version, Finding::NotReplayable(why))
}

fn item(id: uuid::Uuid, then: Option<&StoredForecast>, version: &Version, finding: Finding) -> Item {
    let made_by = then.map(|then| then.forecast.made_by);
    Item { made_by, ..Item::of(Step::Cache, What::Forecast, id.to_string(), version, finding) }
}

/// It worked then.
fn failed(error: &ForecastError) -> Finding {
    Finding::of(compare("error", "", &error.to_string()).into_iter().collect())
}

/// A stored forecast beside what the same models say now.
fn forecast_again(then: &StoredForecast, now: &Issued) -> Finding {
    let said = &now.predicted;
    let candidates: Vec<&Forecast> = [Some(&said.served), said.own.as_ref(), said.global.as_ref()]
        .into_iter()
        .flatten()
        .filter(|forecast| forecast.model_version == then.forecast.model_version)
        .collect();
    let against = if candidates.is_empty() { vec![&said.served] } else { candidates };
    // It may have been thought of in time and written too late; never the other way round.
    let hindcast = compare("hindcast", &then.hindcast.to_string(), &(then.hindcast || now.hindcast).to_string());
    let compared = against.into_iter().map(|forecast| {
        let differences = compare_all("", &as_stored(&then.forecast), &as_stored(forecast));
        differences.into_iter().chain(hindcast.clone()).collect::<Vec<_>>()
    });
    // The same forecast may have been stored first as a challenger's, without the reason why it is served.
    Finding::of(compared.min_by_key(Vec::len).unwrap_or_default())
}

/// The forecast as it comes back from the archive, where numbers stand as decimal text.
fn as_stored(forecast: &Forecast) -> serde_json::Value {
    let text = serde_json::to_string(forecast).unwrap_or_default();
    let read: Option<Forecast> = serde_json::from_str(&text).ok();
    serde_json::to_value(read).unwrap_or_default()
}
