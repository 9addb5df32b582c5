//! One forecast: the model's mean as far as it is believed, the interval its past errors suggest, the baseline beside it.

use crate::{
    ForecastError, METHOD, Model, Scale,
    baseline::{self, Reference, price},
    history::{History, input_hash_for},
    interval::spread,
    lstm::Net,
    windows,
};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Bar, Baseline, Flag, Forecast, Interval, Origin, Series, TargetBasis, round4};
use sha2::{Digest, Sha256};

/// What is asked for, beside the series itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The session to forecast; it lies after the last close.
    pub target: NaiveDate,
    /// How it was found.
    pub target_basis: TargetBasis,
    /// When the forecast is made, by the market clock.
    pub issued_at: DateTime<Utc>,
    /// Caveats that only the caller knows, such as [`Flag::StaleData`].
    pub flags: Vec<Flag>,
}

/// The forecast for the session asked for. Without a model it is the baseline's, origin `Baseline`, flag `ColdStart`.
///
/// The model must not have seen a session after the end of `series`. Sessions that it has not seen yet are predicted
/// here first, one step ahead each, and their errors count in the calibration like those stored with it.
/// Flags added here: `ColdStart`, `CorporateAction`, `ShortHistory`, `ThinTrading`.
pub fn predict(model: Option<&Model>, series: &Series, ask: &Ask) -> Result<Forecast, ForecastError> {
    let scale = model.map_or_else(Scale::default, |model| model.recipe().scale);
    let history = History::of(series, &scale)?;
    let reference = Reference::of(series, &history, ask.target)?;
    // The baseline keeps its own scale: it must not change with the recipe that it is compared with.
    let baseline = baseline::baseline(series, ask.target)?;
    let opinion = match model {
        Some(model) => opinion(model, series, &history, reference.price)?,
        None => Opinion::of_baseline(&baseline),
    };
    Ok(Forecast {
        ticker: series.ticker().clone(),
        as_of: history.last_session,
        target: ask.target,
        target_basis: ask.target_basis,
        issued_at: ask.issued_at,
        currency: series.ticker().exchange().currency().to_owned(),
        last_close: history.last_close,
        reference_price: reference.price,
        point: opinion.point,
        change: round4(opinion.point - reference.price),
        change_pct: round4((opinion.point / reference.price - 1.0) * 100.0),
        interval80: opinion.interval80,
        interval95: opinion.interval95,
        p_up: opinion.p_up,
        sigma: history.sigma_next(),
        mean_weight: opinion.mean_weight,
        baseline,
        origin: if model.is_some() { Origin::Model } else { Origin::Baseline },
        recipe: model.map_or_else(|| METHOD.to_owned(), |model| model.recipe().id()),
        model_version: model.map_or_else(|| hex::encode(Sha256::digest([])), |model| model.hash().to_owned()),
        input_hash: input_hash_for(series, ask.target),
        n_history: series.bars().len(),
        flags: flags(model, series, &reference, ask),
    })
}

/// The numbers on which model and baseline may differ.
struct Opinion {
    point: f64,
    interval80: Interval,
    interval95: Interval,
    p_up: Option<f64>,
    mean_weight: f64,
}

impl Opinion {
    fn of_baseline(baseline: &Baseline) -> Self {
        let (point, interval80, interval95) = (baseline.point, baseline.interval80, baseline.interval95);
        Self { point, interval80, interval95, p_up: None, mean_weight: 0.0 }
    }
}

fn opinion(model: &Model, series: &Series, history: &History, reference: f64) -> Result<Opinion, ForecastError> {
    let (ticker, recipe) = (series.ticker(), model.recipe());
    model.check_fits(series, history.last_session)?;
    // The sessions that the model has not seen, and after them the future.
    let unseen = model.unseen(history);
    let first = unseen.start;
    let cut = windows::cut(&history.z, first..history.z.len() + 1, recipe.look_back);
    let mut means = Net::frozen(model.weights())
        .and_then(|net| net.means(&cut, recipe.look_back, recipe.batch))
        .map_err(ForecastError::tensor(ticker, "predicting"))?;
    let mu = means.pop().filter(|mu| mu.is_finite()).ok_or_else(|| ForecastError::NotFinite {
        ticker: ticker.clone(),
        what: "the predicted mean",
        session: None,
    })?;
    let mut track = model.track().clone();
    track.extend(history, first, &means, recipe);
    let mean_weight = track.mean_weight(ticker.exchange(), recipe);
    let spread = spread(&track.residuals(history, mean_weight, recipe), recipe);
    let sigma = history.sigma_next();
    let mean = mean_weight * mu;
    // Without belief the point is the reference price itself, to the last bit.
    let point = if mean_weight == 0.0 { reference } else { price(reference, mean * sigma) };
    let at = |error: f64| price(reference, (mean + error) * sigma);
    // Rounding to four decimals may push a tiny price past its neighbour; the order is kept by force.
    let interval80 = Interval { lo: at(spread.lo80).min(point), hi: at(spread.hi80).max(point) };
    let interval95 = Interval { lo: at(spread.lo95).min(interval80.lo), hi: at(spread.hi95).max(interval80.hi) };
    let p_up = (mean_weight > 0.0).then(|| round4(spread.p_above_zero(mean)));
    Ok(Opinion { point, interval80, interval95, p_up, mean_weight })
}

/// The caller's caveats and ours, each once, in order.
fn flags(model: Option<&Model>, series: &Series, reference: &Reference, ask: &Ask) -> Vec<Flag> {
    let bars = series.bars();
    let window = &bars[bars.len() - market::LOOK_BACK.min(bars.len())..];
    let idle = window.iter().filter(|bar: &&Bar| bar.volume == Some(0.0)).count();
    let ours = [
        (model.is_none(), Flag::ColdStart),
        (reference.adjusted, Flag::CorporateAction),
        (bars.len() < 250, Flag::ShortHistory),
        // A third of the window without a trade: most of what the model sees is then the same price repeated.
        (3 * idle >= window.len(), Flag::ThinTrading),
    ];
    let mut flags = ask.flags.clone();
    flags.extend(ours.into_iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag));
    flags.sort_unstable();
    flags.dedup();
    flags
}
