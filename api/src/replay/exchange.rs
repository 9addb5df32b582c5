//! A pre-training again: the exchange's global model trained anew from the series and market of then, its hash compared.

use super::finding::{Finding, Item, What, compare, compare_all};
use super::{compute, global_model, inputs, market_of, other_inputs};
use crate::problem::Problem;
use chrono::{DateTime, Utc};
use forecast::{Global, Kernel, MarketReturns, Recipe};
use market::{Exchange, MarketSums, Series, Ticker};
use workflows::Db;
use workflows::ledger::RunRow;
use workflows::plan::Step;
use workflows::stores::as_known;
use workflows::stores::made_with::Made;

/// Trains the run's global model again.
pub(super) async fn global(db: &Db, run: &RunRow, made: &Made, made_at: DateTime<Utc>) -> Result<Vec<Item>, Problem> {
    let Made::Global { version, read, market_hash, input_hash, seed, global } = made else {
        return Err(Problem::internal(&"a record of something else than a global model"));
    };
    let exchange: Exchange = run.subject.parse().map_err(|error: market::UnknownExchange| Problem::internal(&error))?;
    let item = |finding| Item::of(Step::Pretrain, What::GlobalModel, global, version, finding);
    let (mut learnt, mut sums) = (vec![], MarketSums::default());
    for one in read {
        let ticker = Ticker::new(exchange, &one.ticker).map_err(|error| Problem::internal(&error))?;
        let series = as_known::series(db, &ticker, one.series).await?;
        sums.add(&series);
        if one.learnt {
            learnt.push(series);
        }
    }
    let days = sums.complete_days();
    let past = as_known::market(db, exchange).await?;
    let candidates = past.before(made_at).map(|known| MarketReturns::new(days.iter().copied().chain(known)));
    let market = market_of(candidates, market_hash);
    let now = forecast::input_hash_of_all(&learnt.iter().collect::<Vec<_>>(), &market);
    let inputs = inputs(Step::Pretrain, version, (input_hash, market_hash), (&now, &market.hash()));
    if inputs.finding != Finding::Same {
        return Ok(vec![inputs, item(other_inputs())]);
    }
    let stored = global_model(db, global, version).await?.ok();
    let recipe = match (&stored, &version.recipe) {
        (Some(stored), _) => stored.recipe().clone(),
        (None, Some(then)) if *then == Recipe::of(exchange).id() => Recipe::of(exchange),
        (None, _) => {
            let why = "this program does not know its recipe, and its weights, which hold it, are gone".to_owned();
            return Ok(vec![inputs, item(Finding::NotReplayable(why))]);
        }
    };
    let (kernel, seed, recipe_now) = (Kernel::of_version(version.kernel), *seed, Some(recipe.id()));
    let trained = compute(move || {
        let learnt: Vec<&Series> = learnt.iter().collect();
        forecast::pretrain_by(kernel, exchange, &learnt, &market, &recipe, seed)
    });
    let finding = match trained.await? {
        Ok(Some(trained)) => {
            let mut differences: Vec<_> = compare("hash", global, trained.hash()).into_iter().collect();
            if !differences.is_empty()
                && let Some(stored) = &stored
            {
                let value = |model: &Global| serde_json::to_value(model.metrics()).unwrap_or_default();
                differences.extend(compare_all("metrics", &value(stored), &value(&trained)));
            }
            Finding::of(differences)
        }
        Ok(None) => Finding::of(compare("hash", global, "too few closes").into_iter().collect()),
        Err(error) => Finding::of(compare("error", "", &error.to_string()).into_iter().collect()),
    };
    Ok(vec![inputs, Item { recipe_now, ..item(finding) }])
}
