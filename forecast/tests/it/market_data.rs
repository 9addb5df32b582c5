//! Walk-forward over real closes where they are at hand; elsewhere the test says that it was skipped.

use crate::{ask, carry_on};
use forecast::{
    Model,
    evaluate::{Realised, Score, score},
    predict,
};
use market::{Exchange, Factor, Series, Ticker, parse_bars_csv, parse_factors_csv};
use std::path::PathBuf;

const SESSIONS: usize = 60;

/// The folder with `NASDAQ/` and `NEPSE/`.
#[allow(clippy::disallowed_methods)] // A test has no `cli` that could read the setting for it.
fn folder() -> Option<PathBuf> {
    let root = std::env::var_os("RETAINAI_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    Some(root.join("data/prices")).filter(|folder| folder.is_dir())
}

fn read(exchange: Exchange, symbol: &str) -> Option<Series> {
    let folder = folder()?;
    let text = std::fs::read_to_string(folder.join(exchange.as_str()).join(format!("{symbol}.csv"))).ok()?;
    let ticker = Ticker::new(exchange, symbol).unwrap();
    let factors: Vec<Factor> = std::fs::read_to_string(folder.join(format!("{exchange}_reference_price_factors.csv")))
        .map(|text| parse_factors_csv(exchange, &text).unwrap().0)
        .unwrap_or_default()
        .into_iter()
        .filter(|row| row.ticker == ticker)
        .map(|row| row.factor)
        .collect();
    Some(Series::new(ticker, parse_bars_csv(&text).unwrap().bars, factors).unwrap())
}

/// Forecasts of the last sessions, each from what was known the day before; continued every fifth session.
fn walk_forward(all: &Series) -> Vec<Realised> {
    let bars = all.bars();
    let mut model: Option<Model> = None;
    (bars.len() - SESSIONS..bars.len())
        .map(|next| {
            let target = bars[next].session;
            // A corporate action is announced before its session, later ones are not known yet.
            let factors = all.factors().iter().filter(|f| f.session <= target).copied().collect();
            let known = Series::new(all.ticker().clone(), bars[..next].to_vec(), factors).unwrap();
            if model.is_none() || next % 5 == 0 {
                model = Some(carry_on(model.as_ref(), &known));
            }
            let mut question = ask(&known);
            question.target = target;
            let forecast = predict(model.as_ref(), &known, &question).unwrap();
            crate::assert_sound(&forecast);
            Realised::of(&forecast, bars[next].close)
        })
        .collect()
}

fn pooled(exchange: Exchange, symbols: &[&str]) -> Option<Score> {
    let mut rows = vec![];
    for symbol in symbols {
        let all = read(exchange, symbol)?;
        let one = walk_forward(&all);
        println!("{exchange}:{symbol} {:?}", score(&one).unwrap());
        rows.extend(one);
    }
    let all = score(&rows)?;
    println!("{exchange} pooled {all:?}");
    Some(all)
}

fn assert_good(exchange: Exchange, symbols: &[&str]) {
    let Some(score) = pooled(exchange, symbols) else {
        println!("skipped: no prices at RETAINAI_SHARED or ../../shared");
        return;
    };
    assert!((0.70..=0.90).contains(&score.cov80), "{score:?}");
    assert!(score.rmse_ratio <= 1.01, "{score:?}");
    assert!(score.wis_ratio <= 1.05, "{score:?}");
    // Daily closes are nearly unpredictable: a better figure than this is a leak until proven otherwise.
    assert!(score.rmse_ratio >= 0.97, "{score:?}");
}

#[test]
fn nasdaq_forecasts_are_as_good_as_they_say() {
    assert_good(Exchange::Nasdaq, &["AAPL", "AMZN", "NVDA"]);
}

#[test]
fn nepse_forecasts_are_as_good_as_they_say() {
    assert_good(Exchange::Nepse, &["NABIL", "NTC", "CMF2", "UPPER"]);
}

/// Says what a training costs here; the figures depend on the machine, so nothing is asserted.
#[test]
fn the_cost_of_a_training_is_printed() {
    let all = crate::series("NEPSE:NABIL", &crate::walk(1000, 20, 500.0, 0.2), &[]);
    let early = all.until(crate::day(994));
    let best_ms = |work: &dyn Fn()| {
        let times = (0..5).map(|_| {
            let start = std::time::Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        });
        times.fold(f64::INFINITY, f64::min)
    };
    let model = crate::create(&early);
    let create_ms = best_ms(&|| drop(crate::create(&early)));
    let carry_on_ms = best_ms(&|| drop(carry_on(Some(&model), &all)));
    let predict_ms = best_ms(&|| drop(crate::say(&model, &all)));
    let load_ms = best_ms(&|| drop(Model::from_bytes(&model.to_bytes())));
    println!(
        "create {create_ms:.1} ms, continue {carry_on_ms:.1} ms, predict {predict_ms:.2} ms, load {load_ms:.2} ms, {} bytes",
        model.to_bytes().len()
    );
}
