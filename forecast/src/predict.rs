//! The forecasts of one session: what the ticker's own model, the global one and the baseline each say, and which of them is served.

use crate::{
    ForecastError, Global, METHOD, MarketReturns, Model, Recipe, Scale, Verdict,
    baseline::{self, Reference, price},
    finetune::{base_track, foresee, own_track},
    gate,
    history::{History, input_hash_for},
    math::ln,
    net, student,
    track::{Belief, Said, Track},
};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Bar, Baseline, Doubts, Flag, Forecast, Interval, MadeBy, Series, TargetBasis, round4};
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
    /// What the public record has against the models.
    pub doubts: Doubts,
}

/// The models at hand for a ticker; either may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Models<'a> {
    /// The global model of its exchange.
    pub global: Option<&'a Global>,
    /// Its own model; it does not speak without the global one it is judged against, nor beside one of another recipe.
    pub own: Option<&'a Model>,
}

/// What is served, and what the others would have said.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// The champion's forecast.
    pub served: Forecast,
    /// Who that is, and why.
    pub verdict: Verdict,
    /// The own model's forecast, served or not.
    pub own: Option<Forecast>,
    /// The global model's forecast, served or not.
    pub global: Option<Forecast>,
    /// What the two believe of the standardised return, and its volatility; for scores.
    pub(crate) beliefs: [Option<(Belief, f64)>; 2],
}

impl Predicted {
    /// Negative log density, in units of the volatility, that whoever made the forecast gave to `close`: the Student-t before calibration, or
    /// the baseline's normal distribution. Smaller is better.
    pub fn nll(&self, made_by: MadeBy, close: f64) -> Option<f64> {
        let change = ln(close / self.served.reference_price);
        match made_by {
            MadeBy::Own => self.beliefs[0].map(|(belief, sigma)| belief.nll(change / sigma)),
            MadeBy::Global => self.beliefs[1].map(|(belief, sigma)| belief.nll(change / sigma)),
            MadeBy::Baseline => {
                let z = change / self.served.sigma;
                Some(0.5 * ln(2.0 * std::f64::consts::PI) + 0.5 * z * z)
            }
        }
    }
}

/// Forecasts the session asked for. Without a global model, or with fewer closes than the recipe wants, the baseline is served.
///
/// No model may have seen a session after the end of `series`. Sessions since its training are forecast here first, one step ahead
/// each, and count in the record like those stored with it.
/// Flags added here: `ColdStart`, `CorporateAction`, `ShortHistory`, `ThinTrading`.
///
/// # Errors
/// Too few closes for anything, numbers that are not finite, models of another ticker or exchange, a target that has passed.
pub fn predict(
    models: Models<'_>,
    series: &Series,
    market: &MarketReturns,
    ask: &Ask,
) -> Result<Predicted, ForecastError> {
    let opinions = match models.global {
        Some(global) if series.bars().len() >= global.recipe().trust.closes_min => {
            // A release with another recipe has a new global model first; until it is copied, a ticker's old one is silent.
            let own = models.own.filter(|own| own.recipe() == global.recipe());
            Some(opinions(global, own, series, market, &ask.doubts)?)
        }
        _ => None,
    };
    // The baseline keeps its own scale: it must not change with the recipe that it is compared with.
    let plain = History::with_inputs_after(series, market, &Scale::default(), NaiveDate::MAX, 0)?;
    let frame = Frame::of(series, market, &plain, ask)?;
    let Some(opinions) = opinions else {
        let reason = match models.global {
            None => "the exchange has no model yet".to_owned(),
            Some(global) => format!(
                "{} closes are known and a model speaks from {} on",
                series.bars().len(),
                global.recipe().trust.closes_min
            ),
        };
        let verdict = Verdict { champion: MadeBy::Baseline, reason, restart: false };
        let served = Forecast { reason: verdict.reason.clone(), ..frame.baseline_forecast(Flag::ColdStart) };
        return Ok(Predicted { served, verdict, own: None, global: None, beliefs: [None, None] });
    };
    let of = |opinion: &Opinion| (opinion.belief, opinion.sigma);
    let beliefs = [opinions.own.as_ref().map(|(_, opinion)| of(opinion)), Some(of(&opinions.global))];
    let own = opinions
        .own
        .as_ref()
        .map(|(model, opinion)| frame.forecast(opinion, MadeBy::Own, model.recipe(), model.hash()));
    let global =
        models.global.map(|global| frame.forecast(&opinions.global, MadeBy::Global, global.recipe(), global.hash()));
    let mut verdict = opinions.verdict;
    for (line, next) in [(MadeBy::Own, MadeBy::Global), (MadeBy::Global, MadeBy::Baseline)] {
        if verdict.champion == line && ask.doubts.intervals.contains(&line) {
            let whose = line.as_str();
            verdict.reason =
                format!("in the public record the intervals of the {whose} model were worse than the baseline's");
            verdict.champion = next;
        }
    }
    let served = match (verdict.champion, &own, &global) {
        (MadeBy::Own, Some(own), _) => own.clone(),
        (MadeBy::Global, _, Some(global)) => global.clone(),
        _ => frame.baseline_forecast(Flag::ModelSetAside),
    };
    let served = Forecast { reason: verdict.reason.clone(), ..served };
    Ok(Predicted { served, verdict, own, global, beliefs })
}

/// What one line of models says of the target.
struct Opinion {
    belief: Belief,
    said: Said,
    mean_weight: f64,
    sigma: f64,
}

impl Opinion {
    fn of(track: &Track, belief: Belief, slope: f64, recipe: &Recipe, sigma: f64) -> Self {
        Self { belief, said: track.say(&belief, slope, recipe), mean_weight: track.mean_weight(slope, recipe), sigma }
    }

    /// The same; without its mean when its points are doubted.
    fn doubted(self, points: bool) -> Self {
        if points { Self { said: self.said.centred(), mean_weight: 0.0, ..self } } else { self }
    }
}

struct Opinions<'a> {
    own: Option<(&'a Model, Opinion)>,
    global: Opinion,
    verdict: Verdict,
}

fn opinions<'a>(
    global: &Global,
    own: Option<&'a Model>,
    series: &Series,
    market: &MarketReturns,
    doubts: &Doubts,
) -> Result<Opinions<'a>, ForecastError> {
    let recipe = global.recipe();
    let doubted = |line: MadeBy| doubts.points.contains(&line);
    let last = series.last_session().unwrap_or(NaiveDate::MIN);
    global.check_fits(series, last)?;
    // Only the sessions that neither has put on record yet are looked at again.
    let known = own.filter(|own| own.global() == global.hash());
    let after = own.map_or(global.cutoff(), |own| known.map_or_else(|| global.cutoff().min(own.as_of()), Model::as_of));
    let history = History::with_inputs_after(series, market, &recipe.scale, after, recipe.look_back)?;
    let mut space = net::space(recipe, global.kernel());
    let next = history.z.len();
    let sound = |belief: Belief| {
        let ticker = series.ticker().clone();
        Some(belief).filter(Belief::is_sound).ok_or(ForecastError::NotFinite {
            ticker,
            what: "the prediction",
            session: None,
        })
    };
    let base = base_track(&mut space, global, known, &history, recipe)?;
    let belief = foresee(&mut space, &global.draft.members, &history, next..next + 1, recipe)?[0];
    let said_by_global = Opinion::of(&base, sound(belief)?, global.slope(), recipe, history.sigma_next())
        .doubted(doubted(MadeBy::Global));
    let mut said_by_own = None;
    let verdict = match own {
        None => gate::judge(None, &base, &recipe.gate),
        Some(own) => {
            own.check_fits(series, last)?;
            let draft = own.draft();
            let track = own_track(&mut space, draft, &history, own.recipe())?;
            let belief = foresee(&mut space, &draft.members, &history, next..next + 1, own.recipe())?[0];
            let opinion = Opinion::of(&track, sound(belief)?, draft.slope, own.recipe(), history.sigma_next())
                .doubted(doubted(MadeBy::Own));
            said_by_own = Some((own, opinion));
            gate::judge(Some((&track, draft.since)), &base, &own.recipe().gate)
        }
    };
    Ok(Opinions { own: said_by_own, global: said_by_global, verdict })
}

/// What is the same in every forecast of one session.
struct Frame<'a> {
    series: &'a Series,
    ask: &'a Ask,
    reference: Reference,
    sigma: f64,
    baseline: Baseline,
    flags: Vec<Flag>,
    market_speaks: bool,
    input_hash: String,
    last_close: f64,
    as_of: NaiveDate,
}

impl<'a> Frame<'a> {
    fn of(series: &'a Series, market: &MarketReturns, plain: &History, ask: &'a Ask) -> Result<Self, ForecastError> {
        let reference = Reference::of(series, plain, ask.target)?;
        let sigma = plain.sigma_next();
        Ok(Self {
            series,
            ask,
            sigma,
            baseline: baseline::around(reference.price, sigma),
            flags: flags(series, &reference, ask),
            market_speaks: series.last_session().is_some_and(|session| market.speaks_of(session)),
            input_hash: input_hash_for(series, market, ask.target),
            last_close: plain.last_close,
            as_of: plain.last_session,
            reference,
        })
    }

    fn forecast(&self, opinion: &Opinion, made_by: MadeBy, recipe: &Recipe, version: &str) -> Forecast {
        let said = &opinion.said;
        let reference = self.reference.price;
        let at = |units: f64| price(reference, units * opinion.sigma);
        // Without belief the point is the reference price itself, to the last bit.
        let point = if opinion.mean_weight == 0.0 { reference } else { at(said.point) };
        // Rounding to four decimals may push a tiny price past its neighbour; the order is kept by force.
        let interval80 = Interval { lo: at(said.lo80).min(point), hi: at(said.hi80).max(point) };
        let interval95 = Interval { lo: at(said.lo95).min(interval80.lo), hi: at(said.hi95).max(interval80.hi) };
        let p_up =
            (opinion.mean_weight > 0.0).then(|| round4(student::cdf(said.point / opinion.belief.s, opinion.belief.nu)));
        let forecast = Forecast {
            point,
            change: round4(point - reference),
            change_pct: round4((point / reference - 1.0) * 100.0),
            interval80,
            interval95,
            p_up,
            sigma: opinion.sigma,
            mean_weight: opinion.mean_weight,
            made_by,
            recipe: recipe.id(),
            model_version: version.to_owned(),
            ..self.naive()
        };
        if self.market_speaks { forecast } else { flagged(forecast, Flag::MarketUnknown) }
    }

    /// The baseline as a forecast, and why no model speaks.
    fn baseline_forecast(&self, why: Flag) -> Forecast {
        flagged(self.naive(), why)
    }

    fn naive(&self) -> Forecast {
        Forecast {
            ticker: self.series.ticker().clone(),
            as_of: self.as_of,
            target: self.ask.target,
            target_basis: self.ask.target_basis,
            issued_at: self.ask.issued_at,
            currency: self.series.ticker().exchange().currency().to_owned(),
            last_close: self.last_close,
            reference_price: self.reference.price,
            point: self.baseline.point,
            change: round4(self.baseline.point - self.reference.price),
            change_pct: 0.0,
            interval80: self.baseline.interval80,
            interval95: self.baseline.interval95,
            p_up: None,
            sigma: self.sigma,
            mean_weight: 0.0,
            baseline: self.baseline.clone(),
            empirical: baseline::empirical(self.series, self.reference.price),
            made_by: MadeBy::Baseline,
            reason: String::new(),
            recipe: METHOD.to_owned(),
            model_version: hex::encode(Sha256::digest([])),
            input_hash: self.input_hash.clone(),
            n_history: self.series.bars().len(),
            flags: self.flags.clone(),
        }
    }
}

fn flagged(mut forecast: Forecast, flag: Flag) -> Forecast {
    forecast.flags.push(flag);
    forecast.flags.sort_unstable();
    forecast.flags.dedup();
    forecast
}

/// The caller's caveats and ours, each once, in order.
fn flags(series: &Series, reference: &Reference, ask: &Ask) -> Vec<Flag> {
    let bars = series.bars();
    let window = &bars[bars.len() - market::LOOK_BACK.min(bars.len())..];
    let idle = window.iter().filter(|bar: &&Bar| bar.volume == Some(0.0)).count();
    let ours = [
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
