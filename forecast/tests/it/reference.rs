//! The reference kernel does what the fused one does: the same losses, models that agree, forecasts that differ in no digit that counts.

use crate::{carry_on, day, global, recipe, said, say, series, walk};
use forecast::{Global, Kernel, MarketReturns, pretrain_by};
use market::{Exchange, Forecast, Series};

fn all() -> Series {
    series("NEPSE:NABIL", &walk(600, 21, 500.0, 0.4), &[])
}

/// The largest relative difference between the prices of two forecasts.
fn apart(a: &Forecast, b: &Forecast) -> f64 {
    let prices = |f: &Forecast| [f.point, f.interval80.lo, f.interval80.hi, f.interval95.lo, f.interval95.hi];
    prices(a).iter().zip(prices(b)).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max)
}

#[test]
fn a_fine_tune_by_the_reference_is_that_of_the_fused_kernel() {
    let all = all();
    let fast = global(&[&all.until(day(560))]);
    let slow = Global::from_bytes(&fast.to_bytes()).unwrap().with_kernel(Kernel::Reference);
    let by = |global: &Global| {
        let first = carry_on(global, None, &all.until(day(590)));
        let second = carry_on(global, Some(&first), &all);
        (first, second)
    };
    let ((fast_1, fast_2), (slow_1, slow_2)) = (by(&fast), by(&slow));
    // Other bits: somebody else has computed.
    assert_ne!(fast_2.hash(), slow_2.hash());
    for (fast, slow) in [(&fast_1, &slow_1), (&fast_2, &slow_2)] {
        let (fast, slow) = (fast.metrics(), slow.metrics());
        assert_eq!((fast.steps, fast.windows, fast.restarted), (slow.steps, slow.windows, slow.restarted));
        assert!((fast.loss_first - slow.loss_first).abs() < 1e-5, "{fast:?} {slow:?}");
        assert!((fast.loss_last - slow.loss_last).abs() < 1e-5, "{fast:?} {slow:?}");
        assert!(fast.loss_first != fast.loss_last, "there is a curve to compare");
    }
    let (fast_says, slow_says) = (say(&fast, &fast_2, &all), say(&slow, &slow_2, &all));
    assert!(apart(&fast_says, &slow_says) < 1e-4, "{fast_says:?} {slow_says:?}");
    // The same model computed by either says the same.
    assert!(apart(&said(&fast, None, &all).served, &said(&slow, None, &all).served) < 1e-5);
}

#[test]
fn a_pre_training_by_the_reference_is_that_of_the_fused_kernel() {
    let all = all();
    let by = |kernel| {
        let recipe = recipe(Exchange::Nepse);
        pretrain_by(kernel, Exchange::Nepse, &[&all], &MarketReturns::default(), &recipe, 7).unwrap().unwrap()
    };
    let (fast, slow) = (by(Kernel::Fast), by(Kernel::Reference));
    assert_eq!((fast.kernel(), slow.kernel()), (Kernel::Fast, Kernel::Reference));
    assert_ne!(fast.hash(), slow.hash());
    assert!(
        (fast.metrics().nll_kept - slow.metrics().nll_kept).abs() < 1e-4,
        "{:?} {:?}",
        fast.metrics(),
        slow.metrics()
    );
    assert!((fast.metrics().nll_first - slow.metrics().nll_first).abs() < 1e-5);
}

#[test]
fn the_portable_kernel_gives_the_same_bytes() {
    let all = all();
    let fast = global(&[&all.until(day(560))]);
    let plain = Global::from_bytes(&fast.to_bytes()).unwrap().with_kernel(Kernel::Portable);
    assert_eq!(carry_on(&fast, None, &all).to_bytes(), carry_on(&plain, None, &all).to_bytes());
}
