//! A model's bytes: a safetensors file made and read in memory. The order of everything in it is fixed, and a checksum
//! inside finds what a copy may have changed.

use crate::{
    ForecastError, Metrics, Recipe,
    adam::Adam,
    lstm::{Weights, parts},
    model::Draft,
    track::{Entry, Track},
};
use chrono::{Datelike, NaiveDate};
use market::Ticker;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The one metadata key. One, because the library keeps metadata in a hash map, whose order is thrown anew each time.
const KEY: &str = "retainai";
const FORMAT: u32 = 1;

/// What is no tensor. Written as JSON, in this order, behind the checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    ticker: Ticker,
    recipe: Recipe,
    parent: Option<String>,
    as_of: NaiveDate,
    seed: u64,
    adam_steps: u64,
    metrics: Metrics,
}

/// The draft as bytes; equal drafts give equal bytes.
pub(crate) fn encode(draft: &Draft) -> Result<Vec<u8>, ForecastError> {
    let about = About {
        format: FORMAT,
        ticker: draft.ticker.clone(),
        recipe: draft.recipe.clone(),
        parent: draft.parent.clone(),
        as_of: draft.as_of,
        seed: draft.seed,
        adam_steps: draft.adam.steps,
        metrics: draft.metrics,
    };
    let json = serde_json::to_string(&about).map_err(|e| ForecastError::corrupt(e.to_string()))?;
    let track = &draft.track.0;
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = draft
        .weights
        .split()
        .into_iter()
        .map(|(name, shape, numbers)| (name, Dtype::F32, shape, f32_bytes(numbers)))
        .collect();
    tensors.push((MOMENTS, Dtype::F32, vec![2, draft.weights.flat.len()], f32_bytes(&draft.adam.moments)));
    let days = track.iter().flat_map(|e| e.session.num_days_from_ce().to_le_bytes()).collect();
    tensors.push((TRACK_SESSION, Dtype::I32, vec![track.len()], days));
    tensors.push((TRACK_MU, Dtype::F64, vec![track.len()], track.iter().flat_map(|e| e.mu.to_le_bytes()).collect()));
    tensors.push((TRACK_Z, Dtype::F64, vec![track.len()], track.iter().flat_map(|e| e.z.to_le_bytes()).collect()));
    // Sorted by name, because that is how the checksum reads them.
    tensors.sort_by_key(|(name, ..)| *name);
    let check = checksum(&json, tensors.iter().map(|(name, _, _, data)| (*name, data.as_slice())));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, dtype, shape, data) in &tensors {
        views.push((*name, TensorView::new(*dtype, shape.clone(), data).map_err(said)?));
    }
    let metadata = HashMap::from([(KEY.to_owned(), format!("{check} {json}"))]);
    serialize(views, Some(metadata)).map_err(said)
}

/// The draft in `bytes`, every part of it checked.
pub(crate) fn decode(bytes: &[u8]) -> Result<Draft, ForecastError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(said)?;
    let file = SafeTensors::deserialize(bytes).map_err(said)?;
    let written = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let written = written.ok_or_else(|| ForecastError::corrupt("it does not say which model it is"))?;
    let (check, json) =
        written.split_once(' ').ok_or_else(|| ForecastError::corrupt("its description has no checksum"))?;
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    if checksum(json, tensors.iter().map(|(name, view)| (name.as_str(), view.data()))) != check {
        return Err(ForecastError::corrupt("its checksum does not fit: a part was changed or lost"));
    }
    let about: About = serde_json::from_str(json)
        .map_err(|e| ForecastError::corrupt(format!("its description cannot be read ({e})")))?;
    if about.format != FORMAT {
        return Err(ForecastError::corrupt(format!("it has format {}, this program reads {FORMAT}", about.format)));
    }
    about.recipe.check()?;
    let hidden = about.recipe.hidden;
    let mut flat = Vec::with_capacity(Weights::count(hidden));
    for (name, shape) in parts(hidden) {
        flat.extend(f32_numbers(part(&file, name, Dtype::F32, &shape)?));
    }
    let moments = f32_numbers(part(&file, MOMENTS, Dtype::F32, &[2, flat.len()])?);
    if !flat.iter().chain(&moments).all(|w| w.is_finite()) {
        return Err(ForecastError::corrupt("a weight is not a finite number"));
    }
    let track = read_track(&file, &about)?;
    Ok(Draft {
        weights: Weights { hidden, flat },
        adam: Adam { moments, steps: about.adam_steps },
        ticker: about.ticker,
        recipe: about.recipe,
        parent: about.parent,
        as_of: about.as_of,
        seed: about.seed,
        track,
        metrics: about.metrics,
    })
}

const MOMENTS: &str = "adam.moments";
const TRACK_SESSION: &str = "track.session";
const TRACK_MU: &str = "track.mu";
const TRACK_Z: &str = "track.z";

fn read_track(file: &SafeTensors<'_>, about: &About) -> Result<Track, ForecastError> {
    let length = file.tensor(TRACK_SESSION).map_err(said)?.shape().first().copied().unwrap_or(0);
    let days = part(file, TRACK_SESSION, Dtype::I32, &[length])?;
    let mu = part(file, TRACK_MU, Dtype::F64, &[length])?;
    let z = part(file, TRACK_Z, Dtype::F64, &[length])?;
    let days = days.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
    let mu = mu.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
    let z = z.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
    let entries: Option<Vec<Entry>> = days
        .zip(mu.zip(z))
        .map(|(day, (mu, z))| NaiveDate::from_num_days_from_ce_opt(day).map(|session| Entry { session, mu, z }))
        .collect();
    let sound = |entries: &Vec<Entry>| {
        entries.iter().all(|e| e.mu.is_finite() && e.z.is_finite() && e.session <= about.as_of)
            && entries.is_sorted_by(|a, b| a.session < b.session)
            && entries.len() <= about.recipe.track_max
    };
    entries.filter(sound).map(Track).ok_or_else(|| ForecastError::corrupt("its track record is not in order"))
}

/// The data of one tensor, if it has the type and shape that it must have.
fn part<'a>(file: &SafeTensors<'a>, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8], ForecastError> {
    let view = file.tensor(name).map_err(said)?;
    if view.dtype() != dtype || view.shape() != shape {
        let what =
            format!("{name} has type {:?} and shape {:?}, not {dtype:?} and {shape:?}", view.dtype(), view.shape());
        return Err(ForecastError::corrupt(what));
    }
    Ok(view.data())
}

/// SHA-256, hex, over the description and every tensor with its name and length.
fn checksum<'a>(json: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    hash.update(json.as_bytes());
    for (name, data) in tensors {
        hash.update([0]);
        hash.update(name.as_bytes());
        hash.update((data.len() as u64).to_le_bytes());
        hash.update(data);
    }
    hex::encode(hash.finalize())
}

fn f32_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn f32_numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn said(error: safetensors::SafeTensorError) -> ForecastError {
    ForecastError::corrupt(error.to_string())
}
