//! Sound prices for any history, nothing taken from the future, corporate actions counted once.

use crate::{ask, assert_sound, bar, carry_on, create, day, say, series, ticker, walk};
use forecast::{ForecastError, HISTORY_CLOSES, Pass, Recipe, baseline, finetune, input_hash, predict};
use market::{Factor, Flag, Origin, Series};
use proptest::prelude::*;

#[test]
fn the_future_changes_no_bit() {
    let closes = walk(500, 10, 300.0, 0.4);
    let mut other = closes.clone();
    other[450..].iter_mut().for_each(|c| *c *= 3.0);
    let future = Factor { session: day(470), factor: 0.5 };
    let (a, b) = (series("NEPSE:NABIL", &closes, &[]), series("NEPSE:NABIL", &other, &[future]));
    let (a_early, b_early) = (a.until(day(440)), b.until(day(440)));
    let (model_a, model_b) = (create(&a_early), create(&b_early));
    assert_eq!(model_a.to_bytes(), model_b.to_bytes());
    // Sessions after the training, up to the last unchanged one.
    let (a_now, b_now) = (a.until(day(449)), b.until(day(449)));
    assert_eq!(say(&model_a, &a_now), say(&model_b, &b_now));
    assert_eq!(carry_on(Some(&model_a), &a_now).to_bytes(), carry_on(Some(&model_b), &b_now).to_bytes());
    // And the proof that the comparison can fail at all.
    assert_ne!(say(&model_a, &a), say(&model_b, &b));
}

#[test]
fn an_unseen_session_counts_once_whether_stored_or_not() {
    // A model that is not continued for five sessions calibrates on them all the same.
    let all = series("NASDAQ:AAPL", &walk(400, 11, 100.0, 0.0), &[]);
    let model = create(&all.until(day(394)));
    let waiting = say(&model, &all);
    let continued = say(&carry_on(Some(&model), &all), &all);
    assert_eq!((waiting.interval80, waiting.interval95), (continued.interval80, continued.interval95));
}

#[test]
fn old_history_changes_nothing_but_its_own_count() {
    let closes = walk(10_000, 12, 300.0, 0.2);
    let all = series("NEPSE:NABIL", &closes, &[]);
    let newest = Series::new(ticker("NEPSE:NABIL"), all.bars()[10_000 - HISTORY_CLOSES..].to_vec(), vec![]).unwrap();
    assert_eq!(input_hash(&all), input_hash(&newest));
    let model = create(&all);
    assert_eq!(model.to_bytes(), create(&newest).to_bytes());
    let (mut a, b) = (say(&model, &all), say(&model, &newest));
    assert_eq!((a.n_history, b.n_history), (10_000, HISTORY_CLOSES));
    a.n_history = b.n_history;
    assert_eq!(a, b);
    let mut touched = closes.clone();
    touched[9_500] *= 1.01;
    assert_ne!(input_hash(&all), input_hash(&series("NEPSE:NABIL", &touched, &[])));
}

#[test]
fn without_a_model_the_baseline_speaks() {
    let all = series("NASDAQ:AAPL", &walk(300, 13, 100.0, 0.0), &[]);
    let said = predict(None, &all, &ask(&all)).unwrap();
    assert_sound(&said);
    assert_eq!((said.origin, said.recipe.as_str()), (Origin::Baseline, "P-EWMA"));
    assert_eq!(said.flags, [Flag::ColdStart]);
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
    let model = create(&plain);
    let (without, with) = (say(&model, &plain), say(&model, &bonus));
    assert_eq!(with.reference_price, market::round4(with.last_close * 0.8));
    assert_eq!(with.baseline.point, with.reference_price);
    assert_eq!((with.flags, without.flags), (vec![Flag::CorporateAction], vec![]));
    assert_eq!(with.sigma, without.sigma);
    assert_ne!(with.input_hash, without.input_hash);
    assert_eq!(input_hash(&bonus), input_hash(&plain), "training does not read it yet");
    // An ex-date on which nobody traded still lies before the target.
    let mut late = ask(&bonus);
    late.target = day(302);
    assert_eq!(predict(Some(&model), &bonus, &late).unwrap().reference_price, with.reference_price);
}

#[test]
fn the_callers_flags_stay_and_ours_join() {
    let bars = (0..60).map(|n| bar(day(n), 10.0, if n % 2 == 0 { 0.0 } else { 5.0 })).collect();
    let all = Series::new(ticker("NEPSE:CMF2"), bars, vec![]).unwrap();
    let mut asked = ask(&all);
    asked.flags = vec![Flag::StaleData, Flag::ColdStart];
    let said = predict(None, &all, &asked).unwrap();
    assert_eq!(said.flags, [Flag::ColdStart, Flag::StaleData, Flag::ThinTrading, Flag::ShortHistory]);
}

#[test]
fn a_price_that_never_moves_works() {
    let all = series("NEPSE:CMF2", &[10.0; 400], &[]);
    let model = create(&all.until(day(380)));
    let model = carry_on(Some(&model), &all);
    let said = say(&model, &all);
    assert_sound(&said);
    assert_eq!((said.point, said.sigma), (10.0, 1e-4));
    assert!(said.interval95.lo < 10.0 && said.interval95.hi > 10.0);
}

#[test]
fn a_number_that_is_none_is_named() {
    let mut bars: Vec<_> = (0..30).map(|n| bar(day(n), 10.0, 1.0)).collect();
    bars[20].close = f64::NAN;
    let all = Series::new(ticker("NEPSE:CMF2"), bars, vec![]).unwrap();
    let error = finetune(None, &all, &Recipe::default(), 1).unwrap_err();
    assert!(matches!(error, ForecastError::NotFinite { .. }) && error.to_string().contains("2015-01-21"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_gives_sound_prices(
        seed in any::<u64>(),
        n in 16usize..140,
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
        let name = if nasdaq { "NASDAQ:X" } else { "NEPSE:X" };
        let all = series(name, &closes, &[Factor { session: day(n), factor }]);
        // Small, so that many histories can be tried; the code is the same.
        let pass = Pass { windows: 60, epochs: 1, learning_rate: 5e-3 };
        let recipe = Recipe { hidden: 4, create: pass, carry_on: pass, weight_min_sessions: 1, ..Recipe::default() };
        let early = all.until(day((n - 5).max(15)));
        let model = finetune(None, &early, &recipe, seed).unwrap();
        assert_sound(&say(&model, &all));
        let model = finetune(Some(&model), &all, &recipe, seed).unwrap();
        assert_sound(&say(&model, &all));
        assert_sound(&predict(None, &all, &ask(&all)).unwrap());
    }
}
