//! Sound prices for any history, nothing taken from the future, corporate actions counted once.

use crate::{ask, assert_sound, bar, carry_on, day, global, recipe, said, say, series, ticker, walk};
use forecast::{
    Finetune, ForecastError, HISTORY_CLOSES, MarketReturns, Models, Pretrain, Recipe, baseline, finetune, input_hash,
    predict, pretrain,
};
use market::{Exchange, Factor, Flag, MadeBy, Series};
use proptest::prelude::*;

#[test]
fn the_future_changes_no_bit() {
    let closes = walk(500, 10, 300.0, 0.4);
    let mut other = closes.clone();
    other[450..].iter_mut().for_each(|c| *c *= 3.0);
    let future = Factor { session: day(470), factor: 0.5 };
    let (a, b) = (series("NEPSE:NABIL", &closes, &[]), series("NEPSE:NABIL", &other, &[future]));
    let (a_early, b_early) = (a.until(day(440)), b.until(day(440)));
    let (global_a, global_b) = (global(&[&a_early]), global(&[&b_early]));
    assert_eq!(global_a.to_bytes(), global_b.to_bytes());
    let (model_a, model_b) = (carry_on(&global_a, None, &a_early), carry_on(&global_b, None, &b_early));
    assert_eq!(model_a.to_bytes(), model_b.to_bytes());
    // Sessions after the training, up to the last unchanged one.
    let (a_now, b_now) = (a.until(day(449)), b.until(day(449)));
    assert_eq!(said(&global_a, Some(&model_a), &a_now), said(&global_b, Some(&model_b), &b_now));
    let next = |model, series| carry_on(&global_a, Some(model), series).to_bytes();
    assert_eq!(next(&model_a, &a_now), next(&model_b, &b_now));
    // And the proof that the comparison can fail at all.
    assert_ne!(said(&global_a, Some(&model_a), &a), said(&global_b, Some(&model_b), &b));
}

#[test]
fn an_unseen_session_counts_once_whether_stored_or_not() {
    // The global model's record is the same whether a ticker's model carried it along or it is made anew.
    let all = series("NASDAQ:AAPL", &walk(500, 11, 100.0, 0.0), &[]);
    let global = global(&[&all.until(day(450))]);
    let model = carry_on(&global, None, &all.until(day(494)));
    let (alone, beside) = (said(&global, None, &all), said(&global, Some(&model), &all));
    assert_eq!(alone.global, beside.global);
    let later = carry_on(&global, Some(&model), &all);
    assert_eq!(said(&global, Some(&later), &all).global, alone.global);
}

#[test]
fn old_history_changes_nothing_but_its_own_count() {
    let closes = walk(6_000, 12, 300.0, 0.2);
    let all = series("NEPSE:NABIL", &closes, &[]);
    let newest = Series::new(ticker("NEPSE:NABIL"), all.bars()[6_000 - HISTORY_CLOSES..].to_vec(), vec![]).unwrap();
    let hash = |series: &Series| input_hash(series, &MarketReturns::default());
    assert_eq!(hash(&all), hash(&newest));
    let global = global(&[&newest]);
    let model = carry_on(&global, None, &all);
    assert_eq!(model.to_bytes(), carry_on(&global, None, &newest).to_bytes());
    let (mut a, b) = (say(&global, &model, &all), say(&global, &model, &newest));
    assert_eq!((a.n_history, b.n_history), (6_000, HISTORY_CLOSES));
    a.n_history = b.n_history;
    assert_eq!(a, b);
    let mut touched = closes.clone();
    touched[5_500] *= 1.01;
    assert_ne!(hash(&all), hash(&series("NEPSE:NABIL", &touched, &[])));
}

#[test]
fn the_market_is_an_input() {
    let all: Vec<Series> = (0..6).map(|n| series(&format!("NEPSE:T{n}"), &walk(300, n, 100.0, 0.2), &[])).collect();
    let market = MarketReturns::of(&all);
    let of: Vec<&Series> = all.iter().collect();
    let global = pretrain(Exchange::Nepse, &of, &market, &recipe(Exchange::Nepse), 3).unwrap().unwrap();
    let models = Models { global: Some(&global), own: None };
    let with = predict(models, &all[0], &market, &ask(&all[0])).unwrap().served;
    let without = predict(models, &all[0], &MarketReturns::default(), &ask(&all[0])).unwrap().served;
    assert_ne!(with.interval80, without.interval80);
    assert_ne!(with.input_hash, without.input_hash);
    assert_eq!((with.flags, without.flags), (vec![], vec![Flag::MarketUnknown]));
}

#[test]
fn without_a_model_the_baseline_speaks() {
    let all = series("NASDAQ:AAPL", &walk(300, 13, 100.0, 0.0), &[]);
    let said = predict(Models::default(), &all, &MarketReturns::default(), &ask(&all)).unwrap().served;
    assert_sound(&said);
    assert_eq!((said.made_by, said.recipe.as_str()), (MadeBy::Baseline, "P-EWMA"));
    assert_eq!((said.flags, said.reason.as_str()), (vec![Flag::ColdStart], "the exchange has no model yet"));
    assert_eq!(said.model_version, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!((said.point, said.interval80), (said.baseline.point, said.baseline.interval80));
    assert_eq!(said.baseline, baseline(&all, said.target).unwrap());
    let half_width = (said.interval80.hi / said.point).ln() / said.sigma;
    assert!((half_width - 1.2816).abs() < 1e-3, "{half_width}");
}

#[test]
fn an_action_at_the_target_moves_the_reference() {
    let closes = walk(300, 14, 100.0, 0.0);
    let target = day(300);
    let plain = series("NEPSE:NABIL", &closes, &[]);
    let bonus = series("NEPSE:NABIL", &closes, &[Factor { session: target, factor: 0.8 }]);
    let global = global(&[&plain]);
    let (without, with) = (said(&global, None, &plain).served, said(&global, None, &bonus).served);
    assert_eq!(with.reference_price, market::round4(with.last_close * 0.8));
    assert_eq!(with.baseline.point, with.reference_price);
    assert!(with.flags.contains(&Flag::CorporateAction) && !without.flags.contains(&Flag::CorporateAction));
    assert_eq!(with.sigma, without.sigma);
    assert_ne!(with.input_hash, without.input_hash);
    let hash = |series: &Series| input_hash(series, &MarketReturns::default());
    assert_eq!(hash(&bonus), hash(&plain), "training does not read it yet");
    // An ex-date on which nobody traded still lies before the target.
    let mut late = ask(&bonus);
    late.target = day(302);
    let models = Models { global: Some(&global), own: None };
    let later = predict(models, &bonus, &MarketReturns::default(), &late).unwrap().served;
    assert_eq!(later.reference_price, with.reference_price);
}

#[test]
fn the_callers_flags_stay_and_ours_join() {
    let bars = (0..60).map(|n| bar(day(n), 10.0, if n % 2 == 0 { 0.0 } else { 5.0 })).collect();
    let all = Series::new(ticker("NEPSE:CMF2"), bars, vec![]).unwrap();
    let mut asked = ask(&all);
    asked.flags = vec![Flag::StaleData, Flag::ColdStart];
    let said = predict(Models::default(), &all, &MarketReturns::default(), &asked).unwrap().served;
    assert_eq!(said.flags, [Flag::ColdStart, Flag::StaleData, Flag::ThinTrading, Flag::ShortHistory]);
}

#[test]
fn a_price_that_never_moves_works() {
    let all = series("NEPSE:CMF2", &[10.0; 400], &[]);
    let other = series("NEPSE:NTC", &walk(400, 3, 10.0, 0.0), &[]);
    let global = global(&[&all, &other]);
    let model = carry_on(&global, None, &all.until(day(380)));
    let model = carry_on(&global, Some(&model), &all);
    let said = say(&global, &model, &all);
    assert_sound(&said);
    assert_eq!(said.sigma, 1e-4);
    assert!(said.interval95.lo <= 10.0 && said.interval95.hi >= 10.0);
}

#[test]
fn nothing_is_learnt_from_sessions_without_a_trade() {
    let traded = series("NEPSE:NTC", &walk(400, 3, 10.0, 0.0), &[]);
    let mut bars = traded.bars().to_vec();
    let halted = 370..385;
    let stood = bars[halted.start].close;
    for at in halted.clone() {
        bars[at] = bar(bars[at].session, stood, 0.0);
    }
    let all = Series::new(traded.ticker().clone(), bars.clone(), vec![]).unwrap();
    let general = global(&[&traded]);
    let (whole, halted_one) = (carry_on(&general, None, &traded), carry_on(&general, None, &all));
    // The first of them is where the price came to rest.
    assert_eq!(whole.metrics().windows - halted_one.metrics().windows, halted.len() - 1);
    assert!(global(&[&all]).metrics().windows < general.metrics().windows + general.metrics().held_out);
    // Also when there is nothing else: no general model, and a copy that has learnt nothing.
    let never: Vec<_> = bars.iter().map(|old| bar(old.session, stood, 0.0)).collect();
    let never = Series::new(traded.ticker().clone(), never, vec![]).unwrap();
    let recipe = recipe(Exchange::Nepse);
    assert!(pretrain(Exchange::Nepse, &[&never], &MarketReturns::default(), &recipe, 7).unwrap().is_none());
    let model = carry_on(&general, None, &never);
    assert_eq!((model.metrics().windows, model.metrics().steps), (0, 0));
    assert_sound(&say(&general, &model, &never));
}

#[test]
fn a_number_that_is_none_is_named() {
    let mut bars: Vec<_> = (0..300).map(|n| bar(day(n), 10.0, 1.0)).collect();
    bars[20].close = f64::NAN;
    let broken = Series::new(ticker("NEPSE:CMF2"), bars, vec![]).unwrap();
    let sound = series("NEPSE:NTC", &walk(300, 3, 10.0, 0.0), &[]);
    // Pre-training leaves it out.
    let global = global(&[&broken, &sound]);
    assert_eq!(global.metrics().tickers, 1);
    let error = finetune(&global, None, &broken, &MarketReturns::default(), 1).unwrap_err();
    assert!(matches!(error, ForecastError::NotFinite { .. }) && error.to_string().contains("2015-01-21"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_gives_sound_prices(
        seed in any::<u64>(),
        n in 40usize..140,
        exponent in -4i32..13,
        jumps in proptest::collection::vec((0usize..140, -9.0f64..9.0), 0..4),
        still in 0usize..140,
        nasdaq in any::<bool>(),
        factor in 0.05f64..3.0,
    ) {
        let mut closes = walk(n, seed, 10f64.powi(exponent), 0.3);
        for (at, jump) in jumps {
            closes.iter_mut().skip(at).for_each(|c| *c = (*c * f64::exp(jump)).clamp(1e-4, 1e14));
        }
        for at in still.max(1)..(still + 40).min(n) {
            closes[at] = closes[at - 1];
        }
        let (name, exchange) = if nasdaq { ("NASDAQ:X", Exchange::Nasdaq) } else { ("NEPSE:X", Exchange::Nepse) };
        let all = series(name, &closes, &[Factor { session: day(n), factor }]);
        // Small, so that many histories can be tried; the code is the same.
        let whole = recipe(exchange);
        let small = Recipe {
            hidden: 3,
            pretrain: Pretrain { epochs: 1, windows_min: 5, ..whole.pretrain },
            finetune: Finetune { epochs: 1, learning_rate: 5e-3, closes_min: 16, ..whole.finetune },
            trust: forecast::Trust { closes_min: 16, ..whole.trust },
            ..whole
        };
        let market = MarketReturns::default();
        assert_sound(&predict(Models::default(), &all, &market, &ask(&all)).unwrap().served);
        let early = all.until(day(n - 5));
        if let Some(global) = pretrain(exchange, &[&early], &market, &small, seed).unwrap() {
            let model = finetune(&global, None, &early, &market, seed).unwrap();
            assert_sound(&say(&global, &model, &all));
            let model = finetune(&global, Some(&model), &all, &market, seed).unwrap();
            let predicted = said(&global, Some(&model), &all);
            for forecast in [Some(predicted.served), predicted.own, predicted.global].into_iter().flatten() {
                assert_sound(&forecast);
            }
        }
    }
}
