//! Models and their parents: what is kept, what moves on, what is refused.

use crate::{ask, carry_on, create, day, say, series, ticker, walk};
use forecast::{ForecastError, Recipe, finetune, predict};

#[test]
fn a_child_names_its_parent_and_leaves_it_alone() {
    let all = series("NEPSE:NABIL", &walk(420, 5, 500.0, 0.3), &[]);
    let early = all.until(day(400));
    let first = create(&early);
    let before = first.to_bytes();
    assert_eq!((first.parent(), first.as_of()), (None, day(400)));
    assert_eq!(first.metrics().windows, 400 - 15);
    assert_eq!((first.metrics().tracked, first.metrics().epochs), (77, 8));
    let second = carry_on(Some(&first), &all);
    assert_eq!((second.parent(), second.as_of()), (Some(first.hash()), day(419)));
    assert_eq!((second.metrics().tracked, second.metrics().windows), (77 + 19, 250));
    // The optimiser goes on where it stopped: 2 epochs of 4 batches.
    assert_eq!(second.metrics().steps, first.metrics().steps + 8);
    assert_eq!(first.to_bytes(), before);
    assert_ne!(first.hash(), second.hash());
}

#[test]
fn training_makes_the_error_smaller() {
    // Half of each step repeats the last one: there is something to learn, and the mean comes to be believed.
    let all = series("NEPSE:NABIL", &walk(1000, 6, 500.0, 0.7), &[]);
    let model = create(&all);
    let metrics = model.metrics();
    assert!(metrics.loss_last.unwrap() < 0.8 * metrics.loss_first.unwrap(), "{metrics:?}");
    assert!(metrics.mean_weight > 0.2, "{metrics:?}");
    let forecast = say(&model, &all);
    assert!(forecast.p_up.is_some() && forecast.point != forecast.reference_price, "{forecast:?}");
    assert_eq!(forecast.p_up.unwrap() > 0.5, forecast.point > forecast.reference_price);
}

#[test]
fn nasdaq_points_are_the_baseline_whatever_was_learnt() {
    let all = series("NASDAQ:AAPL", &walk(1000, 6, 500.0, 0.7), &[]);
    let model = create(&all);
    assert_eq!(model.metrics().mean_weight, 0.0);
    let forecast = say(&model, &all);
    assert_eq!(forecast.point.to_bits(), forecast.baseline.point.to_bits());
    assert_eq!(forecast.p_up, None);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let recipe = Recipe::default();
    let all = series("NEPSE:NABIL", &walk(120, 7, 500.0, 0.0), &[]);
    let model = create(&all);
    let other = series("NEPSE:NTC", &walk(120, 7, 500.0, 0.0), &[]);
    assert!(matches!(finetune(Some(&model), &other, &recipe, 1), Err(ForecastError::WrongTicker { .. })));
    assert!(matches!(predict(Some(&model), &other, &ask(&other)), Err(ForecastError::WrongTicker { .. })));
    let past = all.until(day(100));
    assert!(matches!(finetune(Some(&model), &past, &recipe, 1), Err(ForecastError::SeenFuture { .. })));
    assert!(matches!(predict(Some(&model), &past, &ask(&past)), Err(ForecastError::SeenFuture { .. })));
    let newer = Recipe { version: 2, ..Recipe::default() };
    let error = finetune(Some(&model), &all, &newer, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NEPSE:NABIL: the model was made by lstm20-v1, asked for was lstm20-v2; create a new model for the new recipe"
    );
    let mut asked = ask(&all);
    asked.target = all.last_session().unwrap();
    assert!(matches!(predict(None, &all, &asked), Err(ForecastError::TargetPassed { .. })));
}

#[test]
fn sixteen_closes_are_enough_and_fifteen_are_not() {
    let all = series("NEPSE:NABIL", &walk(40, 8, 500.0, 0.0), &[]);
    let error = finetune(None, &all.until(day(14)), &Recipe::default(), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NEPSE:NABIL: 15 closes are too few, 16 are needed; import more history or wait for more sessions"
    );
    assert!(predict(None, &all.until(day(14)), &ask(&all)).is_err());
    let mut model = create(&all.until(day(15)));
    assert_eq!((model.metrics().windows, model.metrics().loss_last), (0, None));
    for last in 16..40 {
        let known = all.until(day(last));
        crate::assert_sound(&say(&model, &known));
        model = carry_on(Some(&model), &known);
        assert_eq!(model.metrics().tracked, last - 15);
    }
    assert_eq!(model.ticker(), &ticker("NEPSE:NABIL"));
}
