//! Windows: what the model sees. One function cuts them, for training and for serving alike.

use crate::Recipe;
use std::ops::Range;

/// Windows that end just before each of `targets`, one after the other; shape [targets, look_back].
/// Window of target `t` = z of the `look_back` returns before return `t`, oldest first. `t` may be `z.len()`: the future.
///
/// Every target must have `look_back` returns before it; [`targets`] gives only such.
pub(crate) fn cut(z: &[f64], targets: Range<usize>, look_back: usize) -> Vec<f32> {
    targets.flat_map(|t| z[t - look_back..t].iter().map(|v| *v as f32)).collect()
}

/// Indices of the newest `most` returns that have a full window before them; empty when there are none.
pub(crate) fn targets(returns: usize, recipe: &Recipe, most: usize) -> Range<usize> {
    let first = recipe.look_back.max(returns.saturating_sub(most)).min(returns);
    first..returns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_before_its_target() {
        let z: Vec<f64> = (0..20).map(f64::from).collect();
        let cut = cut(&z, 15..21, 15);
        assert_eq!(cut.len(), 6 * 15);
        assert_eq!((cut[0], cut[14]), (0.0, 14.0), "target 15");
        assert_eq!((cut[75], cut[89]), (5.0, 19.0), "the future");
    }

    #[test]
    fn targets_are_the_newest_with_a_full_window() {
        let recipe = Recipe::default();
        assert_eq!(targets(15, &recipe, 750), 15..15);
        assert_eq!(targets(16, &recipe, 750), 15..16);
        assert_eq!(targets(1000, &recipe, 750), 250..1000);
        assert_eq!(targets(3, &recipe, 750), 3..3);
    }
}
