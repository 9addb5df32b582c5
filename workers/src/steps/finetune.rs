//! Fine-tune: continues the ticker's model on the newest closes, or creates it. In come series and staged bars, out goes a model for the
//! registry; or a skip that says why.

use super::{Workshop, series_with_staged, store_failed};
use async_trait::async_trait;
use forecast::{ForecastError, Model, Recipe};
use market::{MIN_CLOSES, Series, Ticker};
use std::sync::Arc;
use workflows::stores::models::{self, NewModel};
use workflows::{Attempt, Effect, Report, StepBody, Stores};

pub(super) struct Finetune(pub Arc<Workshop>);

#[async_trait]
impl StepBody for Finetune {
    async fn run(&self, attempt: &Attempt) -> Report {
        let claim = &attempt.claim;
        let series = match series_with_staged(&self.0.stores.db, claim).await {
            Ok(Some(series)) => series,
            Ok(None) => return Report::skip("there are no closes yet", vec![]),
            Err(error) => return store_failed(&error),
        };
        let have = series.bars().len();
        if have < MIN_CLOSES {
            let why = format!("{have} closes are known and {MIN_CLOSES} are needed: no model and no forecast yet");
            return Report::skip(why.clone(), vec![Effect::Remark(why)]);
        }
        let parent = match load_champion(&self.0.stores, claim.ticker()).await {
            Ok(parent) => parent,
            Err(error) => return store_failed(&error),
        };
        if let Some(parent) = &parent
            && let Some(why) = not_due(parent, &series, self.0.finetune_every)
        {
            return Report::skip(why, vec![]);
        }
        let training = self.0.compute.run(&attempt.cancel, move || train(parent.as_ref(), &series)).await;
        match training {
            Ok(Ok((note, model))) => Report::done(note, vec![Effect::Model(model)]),
            Ok(Err(error)) => Report::retry("arithmetic", error.to_string(), None),
            Err(crate::compute::NotComputed::Cancelled) => Report::interrupted(),
            Err(error) => Report::retry("compute", error.to_string(), None),
        }
    }
}

/// The model that serves the ticker. One that cannot be read any more is replaced by a new one, and said so.
async fn load_champion(stores: &Stores, ticker: &Ticker) -> workflows::db::StoreResult<Option<Model>> {
    let Some(hash) = models::champion(&stores.db, ticker).await? else { return Ok(None) };
    let Some(bytes) = stores.model_bytes(&hash).await? else {
        tracing::warn!(%ticker, hash, "the champion's weights are gone; a new model is created");
        return Ok(None);
    };
    match Model::from_bytes(&bytes) {
        Ok(model) => Ok(Some(model)),
        Err(error) => {
            tracing::warn!(%ticker, hash, %error, "the champion cannot be read; a new model is created");
            Ok(None)
        }
    }
}

/// Why the model is not continued today; `None` when it is due. Tickers have their days spread over the period by their name.
fn not_due(parent: &Model, series: &Series, every: usize) -> Option<String> {
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

fn train(parent: Option<&Model>, series: &Series) -> Result<(String, NewModel), ForecastError> {
    let recipe = Recipe::default();
    let as_of = series.last_session().unwrap_or_default();
    let seed = forecast::seed_for(series.ticker(), as_of, &recipe.id());
    let model = forecast::finetune(parent, series, &recipe, seed)?;
    let metrics = serde_json::to_value(model.metrics()).unwrap_or_default();
    let verb = if parent.is_some() { "continued" } else { "created" };
    let note = format!("{verb} {} as {}", recipe.id(), &model.hash()[..12]);
    let new = NewModel {
        hash: model.hash().to_owned(),
        ticker: series.ticker().clone(),
        parent: model.parent().map(str::to_owned),
        recipe: recipe.id(),
        seed,
        as_of,
        input_hash: forecast::input_hash(series),
        metrics,
        weights: model.to_bytes(),
    };
    Ok((note, new))
}
