//! Every number of the recipe in one struct, with its name and version. A model carries the recipe that made it.

use crate::{ForecastError, Scale};
use kernel::{Head, Shape};
use market::{Exchange, LOOK_BACK};
use serde::{Deserialize, Serialize};

/// Numbers that one step of a window holds; see `features.rs`.
pub const INPUTS: usize = 5;

/// How models are built, trained and believed. Change a number, raise the version.
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
    /// Networks whose opinions are averaged.
    pub members: usize,
    /// How returns become the model's numbers.
    pub scale: Scale,
    /// Training of an exchange's global model.
    pub pretrain: Pretrain,
    /// Training of a ticker's own copy.
    pub finetune: Finetune,
    /// How opinions become intervals and points.
    pub trust: Trust,
    /// When the ticker's own copy may speak instead of the global model, and when neither may.
    pub gate: Gate,
}

/// How the global model of an exchange is trained: from nothing, on all its tickers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// At most so many windows are shown per epoch, drawn anew for each.
    pub windows_max: usize,
    /// With fewer windows there is no global model.
    pub windows_min: usize,
    /// The newest so many sessions are not trained on: they choose the epoch, and calibrate.
    pub hold_out: usize,
    /// Windows in one optimiser step.
    pub batch: usize,
    /// Times the windows are shown; the epoch that does best on the held-out sessions is kept.
    pub epochs: usize,
    /// Step size of Adam in the first epoch …
    pub learning_rate: f64,
    /// … falling geometrically to this in the last.
    pub learning_rate_last: f64,
    /// Gradients with a longer Euclidean norm are shortened to this.
    pub norm_max: f64,
}

/// How a ticker's own copy is continued.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// The newest so many windows are shown …
    pub newest: usize,
    /// … and so many drawn from all older ones, so that the past is not forgotten.
    pub replay: usize,
    /// Windows in one optimiser step.
    pub batch: usize,
    /// Times they are shown.
    pub epochs: usize,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// Gradients with a longer Euclidean norm are shortened to this.
    pub norm_max: f64,
    /// With fewer closes than this a ticker has no copy of its own.
    pub closes_min: usize,
}

/// How an opinion (a Student-t) becomes a point and intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// With fewer closes than this no model speaks: the baseline does.
    pub closes_min: usize,
    /// Whether the mean moves the point at all.
    pub mean: bool,
    /// A ticker's own slope of outcome on mean counts 1, the exchange's counts this …
    pub slope_prior: f64,
    /// … and is itself believed to this share.
    pub slope_share: f64,
    /// How many realised sessions calibration looks back on.
    pub track_max: usize,
    /// Weight of the empirical quantiles against those of the Student-t, once there are enough sessions.
    pub empirical: f64,
    /// Half of that weight is reached with so many sessions.
    pub empirical_half: f64,
    /// How far one miss widens an interval (log), and the misses that are due narrow it.
    pub tracking: f64,
    /// The least and the most that tracking may have changed a width (log).
    pub tracking_range: (f64, f64),
}

/// Champion, challenger, baseline: who is served.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The newest so many realised shadow forecasts are compared.
    pub sessions: usize,
    /// With fewer there is no judgement yet, and the global model is served.
    pub sessions_min: usize,
    /// The own copy is served unless it was worse by more than so many standard errors.
    pub adopt: f64,
    /// Worse by more than this, and it begins again from the global model.
    pub restart: f64,
    /// Share of closes in the 80 % interval outside of which it is not served.
    pub coverage: (f64, f64),
    /// Interval score ÷ the baseline's above which the baseline is served.
    pub baseline: f64,
}

impl Recipe {
    /// The product's recipe for an exchange. NASDAQ: no skill in the mean was found on any year, so the point is the baseline, and
    /// a ticker's own copy is only nudged.
    pub fn of(exchange: Exchange) -> Self {
        let nepse = exchange == Exchange::Nepse;
        Self {
            name: "lstm20x3".to_owned(),
            version: 2,
            look_back: LOOK_BACK,
            hidden: 20,
            members: 3,
            scale: Scale::default(),
            pretrain: Pretrain {
                windows_max: 200_000,
                windows_min: 1_000,
                hold_out: 250,
                batch: 64,
                epochs: 16,
                learning_rate: 2e-3,
                learning_rate_last: 5e-5,
                norm_max: 10.0,
            },
            finetune: Finetune {
                newest: 250,
                replay: 250,
                batch: 64,
                epochs: 2,
                learning_rate: if nepse { 3e-4 } else { 1e-4 },
                norm_max: 1.0,
                closes_min: 250,
            },
            trust: Trust {
                closes_min: 120,
                mean: nepse,
                slope_prior: 4.0,
                slope_share: 0.5,
                track_max: 250,
                empirical: 0.5,
                empirical_half: 30.0,
                tracking: 0.02,
                tracking_range: (-0.5, 0.7),
            },
            gate: Gate {
                sessions: 60,
                sessions_min: 20,
                adopt: 0.9,
                restart: 2.0,
                coverage: (0.70, 0.90),
                baseline: 1.05,
            },
        }
    }

    /// A training that ruins a model (lr 1e-3, five epochs, the newest 32 windows, no replay): what the gate must stand up to.
    pub fn poisoned(exchange: Exchange) -> Self {
        let good = Self::of(exchange);
        let finetune =
            Finetune { newest: 32, replay: 0, epochs: 5, learning_rate: 1e-3, norm_max: 1e9, ..good.finetune };
        Self { name: "poisoned".to_owned(), version: 1, finetune, ..good }
    }

    /// Name and version in one word, such as `lstm20x3-v2`.
    pub fn id(&self) -> String {
        format!("{}-v{}", self.name, self.version)
    }

    /// The shape of one member.
    pub(crate) fn shape(&self) -> Shape {
        Shape { inputs: INPUTS, hidden: self.hidden, look_back: self.look_back, head: Head::StudentT }
    }

    /// Refuses numbers with which the code would divide by zero, never end, or not fit into memory.
    pub(crate) fn check(&self) -> Result<(), ForecastError> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let (p, f, t, g) = (&self.pretrain, &self.finetune, &self.trust, &self.gate);
        let wrong = if self.look_back != LOOK_BACK {
            "look_back"
        } else if !(1..=256).contains(&self.hidden) {
            "hidden"
        } else if !(1..=16).contains(&self.members) {
            "members"
        } else if !self.scale.is_sound() {
            "scale"
        } else if !(1..=4096).contains(&p.batch) || !(1..=4096).contains(&f.batch) {
            "batch"
        } else if p.epochs == 0 || p.epochs > 1000 || f.epochs > 1000 {
            "epochs"
        } else if ![p.learning_rate, p.learning_rate_last, p.norm_max, f.learning_rate, f.norm_max]
            .into_iter()
            .all(positive)
        {
            "learning_rate or norm_max"
        } else if !(1..=10_000).contains(&t.track_max) || g.sessions == 0 || g.sessions > t.track_max {
            "track_max or gate.sessions"
        } else if !(positive(t.empirical_half) && (0.0..=1.0).contains(&t.empirical) && positive(t.slope_prior)) {
            "trust"
        } else if !(t.tracking.is_finite() && t.tracking >= 0.0 && t.tracking_range.0 <= t.tracking_range.1) {
            "tracking"
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
    fn the_products_recipes_are_sound_and_named() {
        for recipe in [Exchange::Nasdaq, Exchange::Nepse].map(Recipe::of) {
            assert_eq!(recipe.id(), "lstm20x3-v2");
            recipe.check().unwrap();
            let read: Recipe = serde_json::from_str(&serde_json::to_string(&recipe).unwrap()).unwrap();
            assert_eq!(read, recipe);
        }
        Recipe::poisoned(Exchange::Nepse).check().unwrap();
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let good = Recipe::of(Exchange::Nepse);
        for bad in [
            Recipe { look_back: 80, ..good.clone() },
            Recipe { hidden: 0, ..good.clone() },
            Recipe { members: 0, ..good.clone() },
            Recipe { finetune: Finetune { batch: 0, ..good.finetune }, ..good.clone() },
            Recipe { pretrain: Pretrain { learning_rate: f64::NAN, ..good.pretrain }, ..good.clone() },
            Recipe { scale: Scale { lambda: 1.0, ..Scale::default() }, ..good.clone() },
        ] {
            assert!(matches!(bad.check(), Err(ForecastError::BadRecipe { .. })), "{bad:?}");
        }
    }
}
