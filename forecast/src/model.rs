//! A ticker's own model: its copy of the global model, continued on its closes, with the record of what it and the global model said of
//! each session before its close was known.

use crate::{ForecastError, Recipe, bytes, net::Members, track::Track};
use chrono::NaiveDate;
use kernel::Adam;
use market::{Series, Ticker};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One ticker's own model. It never changes: continuing it makes another one, whose parent it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    draft: Draft,
    bytes: Vec<u8>,
    hash: String,
}

/// How the training went, for the registry and the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Windows shown per epoch, replay included.
    pub windows: usize,
    /// Mean negative log density over the first epoch, mean over members.
    pub loss_first: f64,
    /// The same over the last epoch.
    pub loss_last: f64,
    /// Optimiser steps since its copy was taken, per member.
    pub steps: u64,
    /// Realised sessions since its copy was taken: what the gate may judge by.
    pub shadowed: usize,
    /// Whether its copy was taken anew because the former one had become worse than the global model.
    pub restarted: bool,
}

/// All of a model but its bytes and their hash.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub ticker: Ticker,
    pub recipe: Recipe,
    /// The model that it continues.
    pub parent: Option<String>,
    /// Hash of the global model against which it is judged.
    pub global: String,
    /// The newest session that it was trained on.
    pub as_of: NaiveDate,
    /// The session at which its copy was taken: sessions after it were forecast in the shadow before they were learnt.
    pub since: NaiveDate,
    pub seed: u64,
    pub members: Members,
    pub adams: Vec<Adam>,
    /// What this line of models said.
    pub own: Track,
    /// What the global model said.
    pub base: Track,
    /// The global model's slope; see [`crate::Global::slope`].
    pub slope: f64,
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

    /// Hash of the global model against which it is judged.
    pub fn global(&self) -> &str {
        &self.draft.global
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

    pub(crate) fn draft(&self) -> &Draft {
        &self.draft
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
}
