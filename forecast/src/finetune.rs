//! A model made from a series: created when there is no parent, continued from the parent's weights when there is one.

use crate::{
    ForecastError, Metrics, Model, Pass, Recipe,
    adam::Adam,
    history::History,
    interval::spread,
    lstm::{Net, Weights},
    model::Draft,
    seed::Dice,
    track::Track,
    train::{Progress, train},
    windows,
};
use candle_core::Result as TensorResult;
use market::Series;
use std::ops::Range;

/// Creates a model, or continues `parent`'s copy of the weights together with its Adam moments; the parent is left as it is.
///
/// Before anything is trained on, it is predicted: by the parent when there is one, else the newest fifth of the windows
/// by a model trained on the others. Those predictions make the track that decides how far the mean is believed.
/// The same series, recipe, seed and parent give the same bytes (on the same kind of processor). A series of 16 closes
/// has no outcome to learn from yet: its model has fresh weights and zero windows.
pub fn finetune(parent: Option<&Model>, series: &Series, recipe: &Recipe, seed: u64) -> Result<Model, ForecastError> {
    recipe.check()?;
    let history = History::of(series, &recipe.scale)?;
    let ticker = series.ticker();
    let mut dice = Dice::new(seed);
    let trained = match parent {
        None => create(&history, recipe, &mut dice).map_err(ForecastError::tensor(ticker, "creating the model"))?,
        Some(parent) => {
            parent.check_fits(series, history.last_session)?;
            if parent.recipe() != recipe {
                let (model, asked) = (parent.recipe().id(), recipe.id());
                return Err(ForecastError::WrongRecipe { ticker: ticker.clone(), model, asked });
            }
            carry_on(parent, &history, recipe, &mut dice)
                .map_err(ForecastError::tensor(ticker, "continuing the model"))?
        }
    };
    let numbers = trained.weights.flat.iter().chain(&trained.adam.moments);
    if !numbers.copied().all(f32::is_finite) || !trained.track.0.iter().all(|entry| entry.mu.is_finite()) {
        return Err(ForecastError::NotFinite { ticker: ticker.clone(), what: "a trained weight", session: None });
    }
    let mean_weight = trained.track.mean_weight(ticker.exchange(), recipe);
    let residuals = trained.track.residuals(&history, mean_weight, recipe);
    let metrics = Metrics {
        windows: trained.windows,
        epochs: trained.progress.epochs,
        loss_first: trained.progress.loss_first,
        loss_last: trained.progress.loss_last,
        residual_std: spread(&residuals, recipe).scale,
        mean_weight,
        tracked: trained.track.0.len(),
        steps: trained.adam.steps,
    };
    Model::finish(Draft {
        ticker: ticker.clone(),
        recipe: recipe.clone(),
        parent: parent.map(|parent| parent.hash().to_owned()),
        as_of: history.last_session,
        seed,
        weights: trained.weights,
        adam: trained.adam,
        track: trained.track,
        metrics,
    })
}

/// What training leaves behind.
struct Trained {
    weights: Weights,
    adam: Adam,
    track: Track,
    progress: Progress,
    windows: usize,
}

fn create(history: &History, recipe: &Recipe, dice: &mut Dice) -> TensorResult<Trained> {
    let all = windows::targets(history.z.len(), recipe, recipe.create.windows);
    let held_out = recipe.hold_out_max.min(all.len() / recipe.hold_out_one_in);
    let split = all.end - held_out;
    let net = Net::trainable(&Weights::seeded(recipe.hidden, dice))?;
    let mut adam = Adam::new(Weights::count(recipe.hidden));
    let early = show(&net, &mut adam, history, all.start..split, &recipe.create, recipe, dice)?;
    let mut track = Track::default();
    track.extend(history, split, &foresee(&net, history, split..all.end, recipe)?, recipe);
    // The newest sessions matter most; now that they have served as a test, they are learnt from as well.
    let late = show(&net, &mut adam, history, all.clone(), &recipe.carry_on, recipe, dice)?;
    let progress = Progress {
        loss_first: early.loss_first.or(late.loss_first),
        loss_last: late.loss_last,
        epochs: early.epochs + late.epochs,
    };
    Ok(Trained { weights: net.weights()?, adam, track, progress, windows: all.len() })
}

fn carry_on(parent: &Model, history: &History, recipe: &Recipe, dice: &mut Dice) -> TensorResult<Trained> {
    let net = Net::trainable(parent.weights())?;
    let mut track = parent.track().clone();
    let unseen = parent.unseen(history);
    track.extend(history, unseen.start, &foresee(&net, history, unseen.clone(), recipe)?, recipe);
    let newest = windows::targets(history.z.len(), recipe, recipe.carry_on.windows);
    let mut adam = parent.adam().clone();
    let progress = show(&net, &mut adam, history, newest.clone(), &recipe.carry_on, recipe, dice)?;
    Ok(Trained { weights: net.weights()?, adam, track, progress, windows: newest.len() })
}

/// Trains on the windows of `targets`.
fn show(
    net: &Net,
    adam: &mut Adam,
    history: &History,
    targets: Range<usize>,
    pass: &Pass,
    recipe: &Recipe,
    dice: &mut Dice,
) -> TensorResult<Progress> {
    let outcomes: Vec<f32> = history.z[targets.clone()].iter().map(|z| *z as f32).collect();
    train(net, adam, &windows::cut(&history.z, targets, recipe.look_back), &outcomes, pass, recipe, dice)
}

/// The means of `targets`, each from its own window alone.
fn foresee(net: &Net, history: &History, targets: Range<usize>, recipe: &Recipe) -> TensorResult<Vec<f64>> {
    net.means(&windows::cut(&history.z, targets, recipe.look_back), recipe.look_back, recipe.batch)
}
