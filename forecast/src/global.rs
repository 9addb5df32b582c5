//! The global model of an exchange: trained from nothing on all its tickers, the start of every ticker's own copy, and the forecaster of those
//! that have none.

use crate::{
    ForecastError, Kernel, MarketReturns, Recipe, bytes,
    features::Sample,
    history::History,
    net::{self, Members, Space},
    seed::Dice,
};
use chrono::NaiveDate;
use kernel::Adam;
use market::{Exchange, Series};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The global model of an exchange. It never changes; the next pre-training makes another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    pub(crate) draft: GlobalDraft,
    bytes: Vec<u8>,
    hash: String,
    kernel: Kernel,
}

/// All of it but its bytes and their hash.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GlobalDraft {
    pub exchange: Exchange,
    pub recipe: Recipe,
    pub as_of: NaiveDate,
    pub cutoff: NaiveDate,
    pub seed: u64,
    pub slope: f64,
    pub members: Members,
    pub metrics: GlobalMetrics,
}

/// How a pre-training went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct GlobalMetrics {
    /// Tickers that had windows.
    pub tickers: usize,
    /// Windows up to the cutoff.
    pub windows: usize,
    /// Windows after it, which chose the epochs.
    pub held_out: usize,
    /// Mean negative log density on the held-out windows before training, mean over members.
    pub nll_first: f64,
    /// The same with the weights kept.
    pub nll_kept: f64,
    /// Optimiser steps, all members together.
    pub steps: u64,
}

/// Held-out windows that choose the epoch: a thinner sample of more does not choose better.
const HELD_OUT_MAX: usize = 20_000;
/// The first sessions of a history have a volatility that is mostly an assumption.
const WARM_UP: usize = 60;

impl Global {
    /// Reads what [`Global::to_bytes`] wrote. Anything else, also one changed bit, is an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ForecastError> {
        let draft = bytes::decode_global(bytes)?;
        let hash = hex::encode(Sha256::digest(bytes));
        Ok(Self { draft, hash, bytes: bytes.to_vec(), kernel: Kernel::default() })
    }

    /// The model as a safetensors file: the same model gives the same bytes, always.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// SHA-256 of the bytes, hex: the model's version.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The same model, computed by another kernel from here on, together with the tickers' models that are judged against it.
    #[must_use]
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// Who computes it. No property of the model: it is not in the bytes.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Whose tickers it was trained on.
    pub fn exchange(&self) -> Exchange {
        self.draft.exchange
    }

    /// The newest session that existed when it was trained.
    pub fn as_of(&self) -> NaiveDate {
        self.draft.as_of
    }

    /// The newest session that it has learnt from; later ones served to choose and to calibrate.
    pub fn cutoff(&self) -> NaiveDate {
        self.draft.cutoff
    }

    /// The recipe that made it.
    pub fn recipe(&self) -> &Recipe {
        &self.draft.recipe
    }

    /// The seed of its training.
    pub fn seed(&self) -> u64 {
        self.draft.seed
    }

    /// Slope of outcome on predicted mean over the held-out sessions: above 0 where the mean is right more often than not.
    pub fn slope(&self) -> f64 {
        self.draft.slope
    }

    /// How its training went.
    pub fn metrics(&self) -> GlobalMetrics {
        self.draft.metrics
    }

    fn finish(draft: GlobalDraft) -> Result<Self, ForecastError> {
        Self::from_bytes(&bytes::encode_global(&draft)?)
    }
}

/// Trains a global model on the series of an exchange as they are known; they may end on different sessions. `Ok(None)` when there are too
/// few windows to learn anything general. Series that cannot be read (too short, not finite) are left out.
///
/// The newest `hold_out` sessions are not trained on: they choose the best epoch of each member and give the slope of the mean, and
/// every ticker's calibration starts from forecasts of them.
///
/// # Errors
/// A recipe that makes no sense; weights that are not finite.
pub fn pretrain(
    exchange: Exchange,
    series: &[&Series],
    market: &MarketReturns,
    recipe: &Recipe,
    seed: u64,
) -> Result<Option<Global>, ForecastError> {
    pretrain_by(Kernel::default(), exchange, series, market, recipe, seed)
}

/// [`pretrain`] by a kernel of one's choice, which goes on to compute the model.
///
/// # Errors
/// Those of [`pretrain`], and those of the kernel.
pub fn pretrain_by(
    kernel: Kernel,
    exchange: Exchange,
    series: &[&Series],
    market: &MarketReturns,
    recipe: &Recipe,
    seed: u64,
) -> Result<Option<Global>, ForecastError> {
    recipe.check()?;
    let histories: Vec<History> =
        series.iter().filter_map(|one| History::of(one, market, &recipe.scale).ok()).collect();
    let histories: Vec<&History> = histories.iter().collect();
    let mut sessions: Vec<NaiveDate> = histories.iter().flat_map(|history| history.sessions.iter().copied()).collect();
    sessions.sort_unstable();
    sessions.dedup();
    let Some(as_of) = sessions.last().copied() else { return Ok(None) };
    // A young exchange gives a fifth of what it has.
    let hold_out = recipe.pretrain.hold_out.min(sessions.len() / 5);
    let cutoff = sessions[sessions.len() - 1 - hold_out];
    let (learnt, held_out) = split(&histories, cutoff, recipe);
    if learnt.len() < recipe.pretrain.windows_min || held_out.is_empty() {
        return Ok(None);
    }
    let mut space = net::space(recipe, kernel);
    let mut metrics = GlobalMetrics {
        tickers: histories.len(),
        windows: learnt.len(),
        held_out: held_out.len(),
        ..GlobalMetrics::default()
    };
    let members: Members = (0..recipe.members)
        .map(|member| {
            let mut dice = Dice::new(seed.wrapping_add(member as u64));
            let kept = train_member(&mut space, &histories, &learnt, &held_out, recipe, &mut dice)?;
            metrics.nll_first += kept.nll_first / recipe.members as f64;
            metrics.nll_kept += kept.nll / recipe.members as f64;
            metrics.steps += kept.steps;
            Ok(kept.weights)
        })
        .collect::<Result<_, ForecastError>>()?;
    if !members.iter().flatten().all(|weight| weight.is_finite()) || !metrics.nll_kept.is_finite() {
        return Err(ForecastError::Diverged { what: format!("the global model of {exchange}") });
    }
    let slope = slope(&mut space, &members, &histories, &held_out, recipe)?;
    let draft = GlobalDraft { exchange, recipe: recipe.clone(), as_of, cutoff, seed, slope, members, metrics };
    Global::finish(draft).map(|global| Some(global.with_kernel(kernel)))
}

/// Windows up to the cutoff, and a sample of those after it.
fn split(histories: &[&History], cutoff: NaiveDate, recipe: &Recipe) -> (Vec<Sample>, Vec<Sample>) {
    let (mut learnt, mut held_out) = (vec![], vec![]);
    for (of, history) in histories.iter().enumerate() {
        let first = if history.z.len() > 4 * WARM_UP { WARM_UP } else { recipe.look_back };
        for target in (first.max(recipe.look_back)..history.z.len()).filter(|target| !history.idle[*target]) {
            let sample = Sample { of: of as u32, target: target as u32 };
            if history.sessions[target] <= cutoff { learnt.push(sample) } else { held_out.push(sample) }
        }
    }
    let every = held_out.len().div_ceil(HELD_OUT_MAX).max(1);
    (learnt, held_out.into_iter().step_by(every).collect())
}

/// The weights of the best epoch.
struct Kept {
    weights: Vec<f32>,
    nll: f64,
    nll_first: f64,
    steps: u64,
}

fn train_member(
    space: &mut Space,
    histories: &[&History],
    learnt: &[Sample],
    held_out: &[Sample],
    recipe: &Recipe,
    dice: &mut Dice,
) -> Result<Kept, ForecastError> {
    let how = &recipe.pretrain;
    let mut weights = net::seeded(recipe, dice);
    let mut adam = Adam::new(weights.len());
    let mut order = learnt.to_vec();
    let shown = order.len().min(how.windows_max);
    let first = mean_nll(space, &weights, histories, held_out, recipe)?;
    let mut kept = Kept { weights: weights.clone(), nll: f64::INFINITY, nll_first: first, steps: 0 };
    for epoch in 0..how.epochs {
        dice.shuffle(&mut order);
        let progress = epoch as f64 / (how.epochs - 1).max(1) as f64;
        let fall = crate::math::exp(progress * crate::math::ln(how.learning_rate_last / how.learning_rate));
        let rate = how.learning_rate * fall;
        net::pass(
            space,
            &mut weights,
            &mut adam,
            histories,
            &order[..shown],
            how.batch,
            rate,
            how.norm_max,
            recipe.look_back,
        )?;
        let nll = mean_nll(space, &weights, histories, held_out, recipe)?;
        if nll < kept.nll {
            (kept.weights, kept.nll) = (weights.clone(), nll);
        }
    }
    kept.steps = adam.steps;
    Ok(kept)
}

fn mean_nll(
    space: &mut Space,
    weights: &[f32],
    histories: &[&History],
    samples: &[Sample],
    recipe: &Recipe,
) -> Result<f64, ForecastError> {
    let alone = vec![weights.to_vec()];
    let beliefs = net::beliefs(space, &alone, histories, samples, recipe)?;
    let nll = |(belief, sample): (&crate::track::Belief, &Sample)| {
        belief.nll(histories[sample.of as usize].z[sample.target as usize])
    };
    Ok(beliefs.iter().zip(samples).map(nll).sum::<f64>() / samples.len().max(1) as f64)
}

/// Least-squares slope of what came on the mean that was predicted, through the origin.
fn slope(
    space: &mut Space,
    members: &Members,
    histories: &[&History],
    samples: &[Sample],
    recipe: &Recipe,
) -> Result<f64, ForecastError> {
    let beliefs = net::beliefs(space, members, histories, samples, recipe)?;
    let came = |sample: &Sample| histories[sample.of as usize].z[sample.target as usize];
    let along: f64 = beliefs.iter().map(|belief| belief.mu * belief.mu).sum();
    let together: f64 = beliefs.iter().zip(samples).map(|(belief, sample)| belief.mu * came(sample)).sum();
    Ok(if along < 1e-9 { 0.0 } else { together / along })
}
