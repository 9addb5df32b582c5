//! A model: weights, the recipe that made them, the track that calibrates them, and where they come from.

use crate::{ForecastError, Recipe, adam::Adam, bytes, history::History, lstm::Weights, track::Track};
use chrono::NaiveDate;
use market::{Series, Ticker};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// One ticker's model. It never changes: continuing it makes another one, whose parent it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    draft: Draft,
    bytes: Vec<u8>,
    hash: String,
}

/// How the training went, for the registry and the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Windows trained on.
    pub windows: usize,
    /// Epochs done.
    pub epochs: usize,
    /// Mean squared error over the first epoch, in units of z²; `None` when there was no window.
    pub loss_first: Option<f64>,
    /// The same over the last epoch.
    pub loss_last: Option<f64>,
    /// Root mean square of the newest standardised errors, averaged with 1 where they are few: 1 is as volatile as expected.
    pub residual_std: f64,
    /// How much of the mean is believed, 0 to 1, as of the newest session.
    pub mean_weight: f64,
    /// Sessions in the track.
    pub tracked: usize,
    /// Optimiser steps since creation.
    pub steps: u64,
}

/// All of a model but its bytes and their hash.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub ticker: Ticker,
    pub recipe: Recipe,
    pub parent: Option<String>,
    pub as_of: NaiveDate,
    pub seed: u64,
    pub weights: Weights,
    pub adam: Adam,
    pub track: Track,
    pub metrics: Metrics,
}

impl Model {
    /// Reads what [`Model::to_bytes`] wrote. Anything else, also one changed bit, is an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ForecastError> {
        let draft = bytes::decode(bytes)?;
        Ok(Self { draft, hash: hex::encode(Sha256::digest(bytes)), bytes: bytes.to_vec() })
    }

    /// The model as a safetensors file: the same model gives the same bytes, always.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Turns a draft into a model by way of its bytes, so that a fresh model and a loaded one are the same.
    pub(crate) fn finish(draft: Draft) -> Result<Self, ForecastError> {
        Self::from_bytes(&bytes::encode(&draft)?)
    }

    /// SHA-256 of the bytes, hex: the model's version.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Hash of the model that this one continues; `None` when it was created.
    pub fn parent(&self) -> Option<&str> {
        self.draft.parent.as_deref()
    }

    /// The newest session that it was trained on.
    pub fn as_of(&self) -> NaiveDate {
        self.draft.as_of
    }

    /// Whose closes it has learnt.
    pub fn ticker(&self) -> &Ticker {
        &self.draft.ticker
    }

    /// The recipe that made it.
    pub fn recipe(&self) -> &Recipe {
        &self.draft.recipe
    }

    /// The seed of its last training.
    pub fn seed(&self) -> u64 {
        self.draft.seed
    }

    /// How its last training went.
    pub fn metrics(&self) -> Metrics {
        self.draft.metrics
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.draft.weights
    }

    pub(crate) fn adam(&self) -> &Adam {
        &self.draft.adam
    }

    pub(crate) fn track(&self) -> &Track {
        &self.draft.track
    }

    /// Whether the model may speak about a series that ends at `last`: same ticker, nothing seen from beyond its end.
    pub(crate) fn check_fits(&self, series: &Series, last: NaiveDate) -> Result<(), ForecastError> {
        if self.ticker() != series.ticker() {
            let (model, series) = (self.ticker().clone(), series.ticker().clone());
            return Err(ForecastError::WrongTicker { model, series });
        }
        if self.as_of() > last {
            return Err(ForecastError::SeenFuture { ticker: self.ticker().clone(), as_of: self.as_of(), last });
        }
        Ok(())
    }

    /// Indices of the returns that came after the model's training and have a full window; the newest `track_max`.
    pub(crate) fn unseen(&self, history: &History) -> Range<usize> {
        let recipe = self.recipe();
        let after = history.sessions.partition_point(|session| *session <= self.as_of());
        let n = history.z.len();
        after.max(recipe.look_back.min(n)).max(n.saturating_sub(recipe.track_max))..n
    }
}
