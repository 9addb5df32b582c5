//! Every number of the recipe in one struct, with its name and version. A model carries the recipe that made it.

use crate::{ForecastError, Scale};
use market::LOOK_BACK;
use serde::{Deserialize, Serialize};

/// How a model is built, trained and believed. Change a number, raise the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name, such as `lstm20`.
    pub name: String,
    /// Version of the numbers below and of the code that reads them.
    pub version: u32,
    /// Sessions in one window.
    pub look_back: usize,
    /// Units of the LSTM.
    pub hidden: usize,
    /// How returns become the model's numbers.
    pub scale: Scale,
    /// Windows in one optimiser step.
    pub batch: usize,
    /// Gradients with a longer Euclidean norm are shortened to this.
    pub gradient_norm_max: f64,
    /// Training when there is no parent.
    pub create: Pass,
    /// Training that goes on from a parent; also the last touch of a creation, over all windows.
    pub carry_on: Pass,
    /// At creation one in so many of the windows, the newest, is predicted before it is trained on …
    pub hold_out_one_in: usize,
    /// … but never more than this.
    pub hold_out_max: usize,
    /// How many realised sessions the track and the calibration look back on.
    pub track_max: usize,
    /// With fewer tracked sessions than this the mean is not believed at all …
    pub weight_min_sessions: usize,
    /// … nor unless its slope is so many standard errors above zero.
    pub weight_min_t: f64,
    /// The mean's slope is multiplied by n ÷ (n + this), n being the tracked sessions.
    pub weight_half: f64,
    /// Empirical quantiles weigh n ÷ (n + this) against Student-t ones, n being the realised sessions.
    pub empirical_half: f64,
    /// The residuals' variance is averaged with 1, which counts as so many sessions.
    pub variance_prior: f64,
}

/// One kind of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// The newest so many windows are used.
    pub windows: usize,
    /// Times each window is shown.
    pub epochs: usize,
    /// Step size of Adam.
    pub learning_rate: f64,
}

/// From so many multiplications on, candle's matrix library (gemm 0.19) uses threads for one product.
const THREADED_FROM: usize = 48 * 48 * 256;

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "lstm20".to_owned(),
            version: 1,
            look_back: LOOK_BACK,
            hidden: 20,
            scale: Scale::default(),
            batch: 64,
            gradient_norm_max: 1.0,
            create: Pass { windows: 750, epochs: 6, learning_rate: 2e-3 },
            carry_on: Pass { windows: 250, epochs: 2, learning_rate: 3e-4 },
            hold_out_one_in: 5,
            hold_out_max: 125,
            track_max: 250,
            weight_min_sessions: 60,
            weight_min_t: 2.0,
            weight_half: 250.0,
            empirical_half: 120.0,
            variance_prior: 60.0,
        }
    }
}

impl Recipe {
    /// Name and version in one word, such as `lstm20-v1`.
    pub fn id(&self) -> String {
        format!("{}-v{}", self.name, self.version)
    }

    /// Refuses numbers with which the code below would divide by zero, never end, or not fit into memory.
    pub(crate) fn check(&self) -> Result<(), ForecastError> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let pass_fits = |p: &Pass| p.windows >= 1 && p.epochs <= 1000 && positive(p.learning_rate);
        let wrong = if self.look_back != LOOK_BACK {
            "look_back"
        } else if !(1..=256).contains(&self.hidden) {
            "hidden"
        } else if !self.scale.is_sound() {
            "scale"
        } else if self.batch == 0 || self.batch.saturating_mul(4 * self.hidden * self.hidden) >= THREADED_FROM {
            // Larger products may be split among threads, and then nobody promises the same bits.
            "batch, or hidden for this batch,"
        } else if !pass_fits(&self.create) || !pass_fits(&self.carry_on) {
            "create or carry_on"
        } else if self.hold_out_one_in < 2 || self.track_max == 0 || self.track_max > 10_000 {
            "hold_out_one_in or track_max"
        } else if ![
            self.gradient_norm_max,
            self.weight_min_t,
            self.weight_half,
            self.empirical_half,
            self.variance_prior,
        ]
        .into_iter()
        .all(positive)
        {
            "a norm, half or prior"
        } else {
            return Ok(());
        };
        Err(ForecastError::BadRecipe { recipe: self.id(), what: format!("{wrong} is out of range") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_named() {
        let recipe = Recipe::default();
        assert_eq!(recipe.id(), "lstm20-v1");
        recipe.check().unwrap();
        let read: Recipe = serde_json::from_str(&serde_json::to_string(&recipe).unwrap()).unwrap();
        assert_eq!(read, recipe);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let good = Recipe::default();
        for bad in [
            Recipe { look_back: 80, ..good.clone() },
            Recipe { hidden: 0, ..good.clone() },
            Recipe { batch: 0, ..good.clone() },
            Recipe { batch: 64, hidden: 48, ..good.clone() },
            Recipe { hold_out_one_in: 0, ..good.clone() },
            Recipe { weight_half: f64::NAN, ..good.clone() },
            Recipe { scale: Scale { lambda: 1.0, ..Scale::default() }, ..good.clone() },
        ] {
            assert!(matches!(bad.check(), Err(ForecastError::BadRecipe { .. })), "{bad:?}");
        }
    }
}
