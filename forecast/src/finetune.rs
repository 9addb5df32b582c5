//! A ticker's own model made from the global one, or from its parent: first everything new is forecast in the shadow, then it is learnt.

use crate::{
    ForecastError, Global, MarketReturns, Metrics, Model, Recipe,
    features::Sample,
    gate,
    history::History,
    model::Draft,
    net::{self, Members, Space},
    seed::Dice,
    track::{Belief, Track},
};
use chrono::NaiveDate;
use kernel::Adam;
use market::Series;

/// Continues `parent`, or takes a copy of `global` where there is none; both are left as they are. A parent that has become clearly worse than
/// the global model is not continued: a new copy is taken.
///
/// Before anything is trained on it is forecast, by the parent and by the global model, one session ahead each; those forecasts are the
/// record by which the new model will be judged and calibrated. The same series, market, models and seed give the same bytes.
///
/// # Errors
/// Too few closes, numbers that are not finite, a parent of another ticker or recipe than the global model's, models that have learnt from
/// sessions after the end of the series.
pub fn finetune(
    global: &Global,
    parent: Option<&Model>,
    series: &Series,
    market: &MarketReturns,
    seed: u64,
) -> Result<Model, ForecastError> {
    let recipe = global.recipe();
    let ticker = series.ticker();
    let (have, need) = (series.bars().len(), recipe.finetune.closes_min);
    if have < need {
        return Err(ForecastError::TooFewCloses { ticker: ticker.clone(), have, need });
    }
    let history = History::of(series, market, &recipe.scale)?;
    global.check_fits(series, history.last_session)?;
    if let Some(parent) = parent {
        parent.check_fits(series, history.last_session)?;
        if parent.recipe() != recipe {
            let (model, asked) = (parent.recipe().id(), recipe.id());
            return Err(ForecastError::WrongRecipe { ticker: ticker.clone(), model, asked });
        }
    }
    let mut space = net::space(recipe, global.kernel());
    let base = base_track(&mut space, global, parent, &history, recipe)?;
    let parent_draft = parent.map(Model::draft);
    let own = parent_draft.map(|parent| own_track(&mut space, parent, &history, recipe)).transpose()?;
    let verdict =
        own.as_ref().zip(parent_draft).map(|(own, parent)| gate::judge(Some((own, parent.since)), &base, &recipe.gate));
    let restarted = verdict.is_some_and(|verdict| verdict.restart);
    let (mut members, mut adams, since, own) = match (parent_draft, own) {
        (Some(parent), Some(own)) if !restarted => (parent.members.clone(), parent.adams.clone(), parent.since, own),
        // A new copy is calibrated by what the global model's errors were.
        _ => {
            let fresh = global.draft.members.iter().map(|weights| Adam::new(weights.len())).collect();
            (global.draft.members.clone(), fresh, history.last_session, base.clone())
        }
    };
    let learnt = learn(&mut space, &mut members, &mut adams, &history, recipe, seed)?;
    if !members.iter().flatten().chain(adams.iter().flat_map(|adam| &adam.moments)).all(|weight| weight.is_finite()) {
        return Err(ForecastError::NotFinite { ticker: ticker.clone(), what: "a trained weight", session: None });
    }
    let metrics = Metrics {
        steps: adams.first().map_or(0, |adam| adam.steps),
        shadowed: own.newest(own.entries.len(), since).len(),
        restarted,
        ..learnt
    };
    Model::finish(Draft {
        ticker: ticker.clone(),
        recipe: recipe.clone(),
        parent: parent.map(|parent| parent.hash().to_owned()),
        global: global.hash().to_owned(),
        as_of: history.last_session,
        since,
        seed,
        members,
        adams,
        own,
        base,
        slope: global.slope(),
        metrics,
    })
}

/// What the global model said of each session since its cutoff: continued from the parent's record when it is of the same global model.
pub(crate) fn base_track(
    space: &mut Space,
    global: &Global,
    parent: Option<&Model>,
    history: &History,
    recipe: &Recipe,
) -> Result<Track, ForecastError> {
    let known = parent.filter(|parent| parent.global() == global.hash()).map(Model::draft);
    let (mut track, seen) = match known {
        Some(parent) => (parent.base.clone(), parent.as_of),
        None => (Track::default(), global.cutoff()),
    };
    let newest = history.z.len().saturating_sub(recipe.trust.track_max);
    let first = history.first_after(seen, recipe.look_back).max(newest);
    let beliefs = foresee(space, &global.draft.members, history, first..history.z.len(), recipe)?;
    track.extend(history, first, &beliefs, global.slope(), recipe);
    Ok(track)
}

/// What a model's own line said, up to the end of `history`.
pub(crate) fn own_track(
    space: &mut Space,
    model: &Draft,
    history: &History,
    recipe: &Recipe,
) -> Result<Track, ForecastError> {
    let first = history.first_after(model.as_of, recipe.look_back);
    let first = first.max(history.z.len().saturating_sub(recipe.trust.track_max));
    let beliefs = foresee(space, &model.members, history, first..history.z.len(), recipe)?;
    let mut track = model.own.clone();
    track.extend(history, first, &beliefs, model.slope, recipe);
    Ok(track)
}

/// What the members believe of the returns of `targets`, each from its own window alone; `targets` may end one past the last return.
pub(crate) fn foresee(
    space: &mut Space,
    members: &Members,
    history: &History,
    targets: std::ops::Range<usize>,
    recipe: &Recipe,
) -> Result<Vec<Belief>, ForecastError> {
    let samples: Vec<Sample> = targets.map(|target| Sample { of: 0, target: target as u32 }).collect();
    net::beliefs(space, members, &[history], &samples, recipe)
}

/// Trains every member on the newest windows and as many older ones, drawn by `seed`; on none whose session stands in a stretch without trades.
fn learn(
    space: &mut Space,
    members: &mut Members,
    adams: &mut [Adam],
    history: &History,
    recipe: &Recipe,
    seed: u64,
) -> Result<Metrics, ForecastError> {
    let how = &recipe.finetune;
    let end = history.z.len();
    let split = end.saturating_sub(how.newest).max(recipe.look_back);
    let mut metrics = Metrics { windows: 0, loss_first: 0.0, loss_last: 0.0, steps: 0, shadowed: 0, restarted: false };
    let share = 1.0 / members.len() as f64;
    for (member, (weights, adam)) in members.iter_mut().zip(adams).enumerate() {
        let mut dice = Dice::new(seed.wrapping_add(member as u64));
        let mut older: Vec<usize> = (recipe.look_back..split).filter(|target| !history.idle[*target]).collect();
        dice.shuffle(&mut older);
        let picked = (split..end).chain(older.into_iter().take(how.replay)).filter(|target| !history.idle[*target]);
        let mut samples: Vec<Sample> = picked.map(|target| Sample { of: 0, target: target as u32 }).collect();
        metrics.windows = samples.len();
        if samples.is_empty() {
            continue;
        }
        for epoch in 0..how.epochs {
            dice.shuffle(&mut samples);
            let loss = net::pass(
                space,
                weights,
                adam,
                &[history],
                &samples,
                how.batch,
                how.learning_rate,
                how.norm_max,
                recipe.look_back,
            )?;
            if epoch == 0 {
                metrics.loss_first += share * loss;
            }
            if epoch + 1 == how.epochs {
                metrics.loss_last += share * loss;
            }
        }
    }
    Ok(metrics)
}

impl Global {
    /// Whether the model may speak about a series that ends at `last`: same exchange, nothing learnt from beyond its end.
    pub(crate) fn check_fits(&self, series: &Series, last: NaiveDate) -> Result<(), ForecastError> {
        if self.exchange() != series.ticker().exchange() {
            let (exchange, ticker) = (self.exchange(), series.ticker().clone());
            return Err(ForecastError::WrongExchange { exchange, ticker });
        }
        if self.cutoff() > last {
            return Err(ForecastError::SeenFuture { ticker: series.ticker().clone(), as_of: self.cutoff(), last });
        }
        Ok(())
    }
}
