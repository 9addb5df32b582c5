//! The way of the program that this one succeeds, gone through day by day for comparison: in come whole series, out go rows under its name.
//!
//! One close per session, scaled to 0 to 1 by the least and the largest of the newest 125; windows of 15; an LSTM of 20 units trained on squared
//! error, for five epochs every five sessions with a new optimiser each time. Mended, so that what is compared is the recipe: the scale is taken
//! from what is known, closes are adjusted for corporate actions, windows are as long in serving as in training, and the model is continued.
//! It gave no intervals; here they are the quantiles of its own newest errors.

use crate::{
    ForecastError, MarketReturns, Models,
    backtest::{Backtest, Row, known, side_by_side},
    baseline::price,
    math::{exp, ln},
    net::Space,
    opens_at,
    predict::{Ask, predict},
    seed::Dice,
    seed_for,
    track::empirical,
};
use chrono::TimeDelta;
use kernel::{Adam, Head, Shape};
use market::{Doubts, Flag, Forecast, Interval, LOOK_BACK, MadeBy, Series, TargetBasis, Ticker, round4};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The recipe's name, and that of its rows.
pub const PREDECESSOR: &str = "predecessor";

const SHAPE: Shape = Shape { inputs: 1, hidden: 20, look_back: LOOK_BACK, head: Head::Mean };
/// Half a year of closes, as it scraped them.
const ROWS: usize = 125;
const BATCH: usize = 32;
const EPOCHS: usize = 5;
const LEARNING_RATE: f32 = 1e-4;
const EVERY: usize = 5;
/// Errors that the intervals are made of, and how many there must be.
const ERRORS: usize = 250;
const ERRORS_MIN: usize = 20;

impl Backtest {
    /// What [`Backtest::walk`] does, in the predecessor's way: no global model, no gate, no market.
    ///
    /// # Errors
    /// Numbers that are not finite; a ticker with too few closes has fewer rows, or none, and is no error.
    pub fn walk_predecessor(
        &self,
        all: &[Series],
        only: &[Ticker],
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Row>, ForecastError> {
        let chosen: Vec<&Series> = all.iter().filter(|one| only.is_empty() || only.contains(one.ticker())).collect();
        let done = AtomicUsize::new(0);
        let walked = side_by_side(self.threads, &chosen, |series| {
            let rows = self.predecessor_of(series);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, chosen.len());
            rows
        })?;
        Ok(walked.into_iter().flatten().collect())
    }

    fn predecessor_of(&self, series: &Series) -> Result<Vec<Row>, ForecastError> {
        let (start, first) = self.span(series);
        let mut model = Predecessor::new(self, series.ticker());
        let (mut errors, mut rows) = (Vec::<f64>::new(), vec![]);
        for (at, pair) in series.bars().windows(2).enumerate().skip(start) {
            let [today, next] = pair else { continue };
            let known = known(series, today.session, next.session);
            let scaled = Scaled::of(&known);
            // One whole batch to learn from.
            if scaled.closes.len() < LOOK_BACK + BATCH {
                continue;
            }
            if (at - start).is_multiple_of(EVERY) || !model.trained {
                model.train(&scaled, seed_for(series.ticker(), today.session, PREDECESSOR))?;
            }
            let point = model.point(&scaled)?;
            if at >= first && errors.len() >= ERRORS_MIN {
                let ask = Ask {
                    doubts: Doubts::default(),
                    target: next.session,
                    target_basis: TargetBasis::ObservedWeek,
                    issued_at: opens_at(series.ticker().exchange(), next.session) - TimeDelta::hours(1),
                    flags: vec![],
                };
                let frame = predict(Models::default(), &known, &MarketReturns::default(), &ask)?.served;
                let forecast = said(frame, point, &errors);
                rows.push(Row { model: PREDECESSOR.to_owned(), forecast, close: next.close, nll: f64::NAN });
            }
            errors.push(ln(next.close / point));
            errors.drain(..errors.len().saturating_sub(ERRORS));
        }
        Ok(rows)
    }
}

/// The newest closes, scaled to 0 to 1.
struct Scaled {
    closes: Vec<f32>,
    least: f64,
    span: f64,
}

impl Scaled {
    /// In units of the next session's reference price: every action known lies behind the newest close.
    fn of(known: &Series) -> Self {
        let bars = &known.bars()[known.bars().len().saturating_sub(ROWS)..];
        let since = |session| known.factors().iter().filter(move |of| of.session > session).map(|of| of.factor);
        let prices: Vec<f64> = bars.iter().map(|bar| bar.close * since(bar.session).product::<f64>()).collect();
        let least = prices.iter().copied().fold(f64::INFINITY, f64::min);
        let most = prices.iter().copied().fold(0.0, f64::max);
        // A price that never moved is 0 all along.
        let span = if most > least { most - least } else { 1.0 };
        Self { closes: prices.iter().map(|price| ((price - least) / span) as f32).collect(), least, span }
    }
}

/// One ticker's model.
struct Predecessor {
    space: Space,
    weights: Vec<f32>,
    trained: bool,
}

impl Predecessor {
    /// Fresh weights as Keras has them, but for the recurrent ones, which are uniform and not orthogonal.
    fn new(backtest: &Backtest, ticker: &Ticker) -> Self {
        let mut dice = Dice::new(seed_for(ticker, chrono::NaiveDate::MIN, PREDECESSOR));
        let mut weights = Vec::with_capacity(SHAPE.weights());
        for (name, sizes) in SHAPE.parts() {
            let count: usize = sizes.iter().product();
            match name {
                "lstm.bias_ih_l0" => weights.extend((0..count).map(|i| f32::from(u8::from(i / SHAPE.hidden == 1)))),
                "head.bias" => weights.extend(std::iter::repeat_n(0.0, count)),
                _ => {
                    let limit = (6.0 / sizes.iter().sum::<usize>() as f32).sqrt();
                    weights.extend((0..count).map(|_| dice.uniform(limit)));
                }
            }
        }
        Self { space: Space::new(SHAPE, backtest.kernel), weights, trained: false }
    }

    /// Five epochs over all windows, in an order drawn by `seed`.
    fn train(&mut self, scaled: &Scaled, seed: u64) -> Result<(), ForecastError> {
        let mut order: Vec<usize> = (LOOK_BACK..scaled.closes.len()).collect();
        let (mut dice, mut adam) = (Dice::new(seed), Adam::new(self.weights.len()));
        for _ in 0..EPOCHS {
            dice.shuffle(&mut order);
            for some in order.chunks(BATCH) {
                let x: Vec<f32> = some.iter().flat_map(|at| &scaled.closes[at - LOOK_BACK..*at]).copied().collect();
                let y: Vec<f32> = some.iter().map(|at| scaled.closes[*at]).collect();
                self.space.train_step(&mut self.weights, &mut adam, (&x, &y), LEARNING_RATE, f32::INFINITY)?;
            }
        }
        self.trained = true;
        Ok(())
    }

    /// The price that it expects next.
    fn point(&mut self, scaled: &Scaled) -> Result<f64, ForecastError> {
        let mut out = vec![];
        self.space.outputs(&self.weights, &scaled.closes[scaled.closes.len() - LOOK_BACK..], &mut out)?;
        let raw = scaled.least + scaled.span * out.first().copied().map_or(f64::NAN, f64::from);
        Ok(price(raw.max(1e-4), 0.0))
    }
}

/// The point with the quantiles of its own errors around it; everything else as in `frame`.
fn said(frame: Forecast, point: f64, errors: &[f64]) -> Forecast {
    let mut sorted = errors.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| price(point * exp(empirical(&sorted, share)), 0.0);
    // A biased model's errors may all lie on one side; the point stays inside all the same.
    let interval80 = Interval { lo: at(0.1).min(point), hi: at(0.9).max(point) };
    let interval95 = Interval { lo: at(0.025).min(interval80.lo), hi: at(0.975).max(interval80.hi) };
    Forecast {
        point,
        change: round4(point - frame.reference_price),
        change_pct: round4((point / frame.reference_price - 1.0) * 100.0),
        interval80,
        interval95,
        mean_weight: 1.0,
        made_by: MadeBy::Own,
        reason: "the predecessor's recipe, for comparison".to_owned(),
        recipe: PREDECESSOR.to_owned(),
        flags: frame.flags.iter().copied().filter(|flag| *flag != Flag::ColdStart).collect(),
        ..frame
    }
}
