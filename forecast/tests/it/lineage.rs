//! Models and their parents: what is kept, what moves on, what is refused.

use crate::{ask, carry_on, day, global, said, say, series, ticker, walk};
use forecast::{ForecastError, MarketReturns, Models, Recipe, finetune, predict, pretrain};
use market::{Exchange, Flag, MadeBy};

#[test]
fn a_child_names_its_parent_and_leaves_it_alone() {
    let all = series("NEPSE:NABIL", &walk(700, 5, 500.0, 0.3), &[]);
    let early = all.until(day(680));
    let global = global(&[&all.until(day(640))]);
    let first = carry_on(&global, None, &early);
    let before = first.to_bytes();
    assert_eq!((first.parent(), first.as_of(), first.global()), (None, day(680), global.hash()));
    assert_eq!((first.metrics().windows, first.metrics().shadowed), (500, 0));
    let second = carry_on(&global, Some(&first), &all);
    assert_eq!((second.parent(), second.as_of()), (Some(first.hash()), day(699)));
    assert_eq!(second.metrics().shadowed, 19, "every session between the two was forecast before it was learnt");
    // The optimiser goes on where it stopped: 2 epochs of 8 batches each time.
    assert_eq!((first.metrics().steps, second.metrics().steps), (16, 32));
    assert_eq!(first.to_bytes(), before);
    assert_ne!(first.hash(), second.hash());
}

#[test]
fn a_mean_that_is_right_comes_to_be_believed() {
    // Seven tenths of each step repeat the last one: there is something to learn.
    let all = series("NEPSE:NABIL", &walk(1500, 6, 500.0, 0.7), &[]);
    let recipe = Recipe { members: 1, ..Recipe::of(Exchange::Nepse) };
    let market = MarketReturns::default();
    let global = pretrain(Exchange::Nepse, &[&all], &market, &recipe, 1).unwrap().unwrap();
    assert!(global.slope() > 0.3, "{}", global.slope());
    assert!(global.metrics().nll_kept < global.metrics().nll_first, "{:?}", global.metrics());
    let forecast = said(&global, None, &all).served;
    assert!(forecast.mean_weight > 0.2 && forecast.made_by == MadeBy::Global, "{forecast:?}");
    assert_eq!(forecast.p_up.unwrap() > 0.5, forecast.point > forecast.reference_price);
}

#[test]
fn nasdaq_points_are_the_baseline_whatever_was_learnt() {
    let all = series("NASDAQ:AAPL", &walk(1000, 6, 500.0, 0.7), &[]);
    let forecast = said(&global(&[&all]), None, &all).served;
    assert_eq!(forecast.point.to_bits(), forecast.baseline.point.to_bits());
    assert_eq!((forecast.p_up, forecast.mean_weight), (None, 0.0));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let all = series("NEPSE:NABIL", &walk(400, 7, 500.0, 0.0), &[]);
    let (global_model, market) = (global(&[&all]), MarketReturns::default());
    let model = carry_on(&global_model, None, &all);
    let models = Models { global: Some(&global_model), own: Some(&model) };
    let other = series("NEPSE:NTC", &walk(400, 7, 500.0, 0.0), &[]);
    let continued = |series| finetune(&global_model, Some(&model), series, &market, 1);
    assert!(matches!(continued(&other), Err(ForecastError::WrongTicker { .. })));
    assert!(matches!(predict(models, &other, &market, &ask(&other)), Err(ForecastError::WrongTicker { .. })));
    let past = all.until(day(380));
    assert!(matches!(continued(&past), Err(ForecastError::SeenFuture { .. })));
    assert!(matches!(predict(models, &past, &market, &ask(&past)), Err(ForecastError::SeenFuture { .. })));
    let newer = Recipe { version: 99, hidden: 9, ..global_model.recipe().clone() };
    let next = pretrain(Exchange::Nepse, &[&all], &market, &newer, 7).unwrap().unwrap();
    let error = finetune(&next, Some(&model), &all, &market, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NEPSE:NABIL: the model was made by lstm20x3-v2, asked for was lstm20x3-v99; create a new model for the new recipe"
    );
    // Until it has a copy of the new one, the ticker's old model is silent: weights of another shape are no weights.
    let between = predict(Models { global: Some(&next), own: Some(&model) }, &all, &market, &ask(&all)).unwrap();
    assert_eq!((between.served.made_by, between.own), (MadeBy::Global, None));
    let foreign = series("NASDAQ:AAPL", &walk(400, 7, 500.0, 0.0), &[]);
    let wrong = finetune(&global_model, None, &foreign, &market, 1);
    assert!(matches!(wrong, Err(ForecastError::WrongExchange { .. })));
    let mut asked = ask(&all);
    asked.target = all.last_session().unwrap();
    assert!(matches!(predict(Models::default(), &all, &market, &asked), Err(ForecastError::TargetPassed { .. })));
}

#[test]
fn a_young_ticker_is_served_by_those_who_may_speak() {
    let old = series("NEPSE:NTC", &walk(900, 8, 500.0, 0.0), &[]);
    let (global, market) = (global(&[&old]), MarketReturns::default());
    let young = series("NEPSE:NEW", &walk(260, 9, 500.0, 0.0), &[]);
    let young = young.until(day(249));
    // Its sessions lie before the global model's cutoff: shift nothing, ask with one trained on as much.
    let early = crate::global(&[&old.until(day(150))]);
    let refused = finetune(&early, None, &young.until(day(200)), &market, 1);
    assert!(matches!(refused, Err(ForecastError::TooFewCloses { need: 250, .. })), "{refused:?}");
    let of = |closes: usize| said(&early, None, &young.until(day(closes - 1)));
    assert_eq!(of(130).served.made_by, MadeBy::Global);
    let short = of(119);
    assert_eq!((short.served.made_by, short.served.flags.contains(&Flag::ColdStart)), (MadeBy::Baseline, true));
    assert_eq!(short.served.reason, "119 closes are known and a model speaks from 120 on");
    assert!(predict(Models::default(), &young.until(day(14)), &market, &ask(&young.until(day(14)))).is_err());
    let mut model = None;
    for last in 249..259 {
        let known = series("NEPSE:NEW", &walk(260, 9, 500.0, 0.0), &[]).until(day(last));
        let next = carry_on(&early, model.as_ref(), &known);
        crate::assert_sound(&say(&early, &next, &known));
        model = Some(next);
    }
    assert_eq!(model.unwrap().ticker(), &ticker("NEPSE:NEW"));
    assert!(global.cutoff() > day(259));
}
