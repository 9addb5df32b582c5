//! What the crate `forecast` promises to those who call it, checked from outside: same bytes, no look ahead, sound prices.

mod bytes;
mod lineage;
mod market_data;
mod oracle;
mod promises;
mod reference;
mod repeat;

use chrono::{DateTime, Days, NaiveDate, Utc};
use forecast::{
    Ask, Global, MarketReturns, Model, Models, Predicted, Pretrain, Recipe, finetune, predict, pretrain, seed_for,
};
use market::{Bar, Doubts, Exchange, Factor, Forecast, Series, TargetBasis, Ticker};

pub(crate) fn ticker(text: &str) -> Ticker {
    Ticker::parse(text).unwrap()
}

pub(crate) fn day(n: usize) -> NaiveDate {
    NaiveDate::from_ymd_opt(2015, 1, 1).unwrap() + Days::new(n as u64)
}

pub(crate) fn bar(session: NaiveDate, close: f64, volume: f64) -> Bar {
    Bar { session, open: None, high: None, low: None, close, ltp: None, prev_close: None, volume: Some(volume) }
}

/// One bar a day; closes are rounded as the product keeps them.
pub(crate) fn series(name: &str, closes: &[f64], factors: &[Factor]) -> Series {
    let bars =
        closes.iter().enumerate().map(|(n, close)| bar(day(n), market::round4(*close).max(1e-4), 100.0)).collect();
    Series::new(ticker(name), bars, factors.to_vec()).unwrap()
}

/// A walk whose steps follow from `seed` by a small generator of its own; `pull` makes each step repeat a share of the last.
pub(crate) fn walk(n: usize, seed: u64, start: f64, pull: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut price, mut step) = (start, 0.0);
    (0..n)
        .map(|_| {
            let noise = (0..6).map(|_| uniform()).sum::<f64>() - 3.0;
            step = pull * step + 0.02 * noise;
            price *= f64::exp(step);
            price
        })
        .collect()
}

/// The question for the day after the last close.
pub(crate) fn ask(series: &Series) -> Ask {
    Ask {
        target: series.last_session().unwrap() + Days::new(1),
        target_basis: TargetBasis::ObservedWeek,
        issued_at: DateTime::<Utc>::from_timestamp(1_700_000_000, 0).unwrap(),
        flags: vec![],
        doubts: Doubts::default(),
    }
}

/// The product's recipe, smaller: the code is the same, and a test waits less.
pub(crate) fn recipe(exchange: Exchange) -> Recipe {
    let whole = Recipe::of(exchange);
    let pretrain = Pretrain { epochs: 2, windows_min: 40, batch: 64, ..whole.pretrain };
    Recipe { hidden: 6, members: 2, pretrain, ..whole }
}

/// The global model that these series make up.
pub(crate) fn global(series: &[&Series]) -> Global {
    let exchange = series[0].ticker().exchange();
    pretrain(exchange, series, &MarketReturns::of(series.iter().copied()), &recipe(exchange), 7).unwrap().unwrap()
}

/// Continues `parent`, or takes a copy of the global model.
pub(crate) fn carry_on(global: &Global, parent: Option<&Model>, series: &Series) -> Model {
    let seed = seed_for(series.ticker(), series.last_session().unwrap(), &global.recipe().id());
    finetune(global, parent, series, &MarketReturns::default(), seed).unwrap()
}

pub(crate) fn said(global: &Global, own: Option<&Model>, series: &Series) -> Predicted {
    predict(Models { global: Some(global), own }, series, &MarketReturns::default(), &ask(series)).unwrap()
}

/// What the own model says, served or not.
pub(crate) fn say(global: &Global, own: &Model, series: &Series) -> Forecast {
    said(global, Some(own), series).own.unwrap()
}

/// The promises that hold for every forecast.
pub(crate) fn assert_sound(f: &Forecast) {
    let row = [f.interval95.lo, f.interval80.lo, f.point, f.interval80.hi, f.interval95.hi];
    let base = &f.baseline;
    let naive = [base.interval95.lo, base.interval80.lo, base.point, base.interval80.hi, base.interval95.hi];
    for prices in [row, naive] {
        assert!(prices.iter().all(|p| p.is_finite() && *p > 0.0), "{f:?}");
        assert!(prices.is_sorted(), "{f:?}");
        // From about 1e11 on, an f64 no longer holds four exact decimals.
        assert!(prices.iter().all(|p| *p > 1e10 || market::round4(*p) == *p), "{f:?}");
    }
    assert!(f.sigma.is_finite() && f.sigma > 0.0, "{f:?}");
    assert!(f.change.is_finite() && f.change_pct.is_finite(), "{f:?}");
    assert!((0.0..=1.0).contains(&f.mean_weight), "{f:?}");
    if f.mean_weight == 0.0 {
        assert_eq!(f.point.to_bits(), f.reference_price.to_bits(), "{f:?}");
        assert_eq!((f.p_up, f.change), (None, 0.0));
    } else {
        assert!((0.0..=1.0).contains(&f.p_up.unwrap()), "{f:?}");
    }
}
