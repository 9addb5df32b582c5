//! A model's bytes: a safetensors file made and read in memory. The order of everything in it is fixed, and a checksum inside finds what a
//! copy may have changed. Each member's weights bear PyTorch's names, shapes and order.

use crate::{
    ForecastError, GlobalMetrics, Metrics, Recipe,
    global::GlobalDraft,
    model::Draft,
    net::Members,
    track::{Belief, Entry, Said, Track},
};
use chrono::{Datelike, NaiveDate};
use kernel::Adam;
use market::{Exchange, Ticker};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The one metadata key. One, because the library keeps metadata in a hash map, whose order is thrown anew each time.
const KEY: &str = "retainai";
const FORMAT: u32 = 2;

/// What of a ticker's model is no tensor. Written as JSON, in this order, behind the checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    kind: Kind,
    ticker: Ticker,
    recipe: Recipe,
    parent: Option<String>,
    global: String,
    as_of: NaiveDate,
    since: NaiveDate,
    seed: u64,
    slope: f64,
    adam_steps: Vec<u64>,
    /// Width corrections of the own and of the global record: 80 and 95 each.
    widths: [f64; 4],
    metrics: Metrics,
}

/// The same of a global model.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutGlobal {
    format: u32,
    kind: Kind,
    exchange: Exchange,
    recipe: Recipe,
    as_of: NaiveDate,
    cutoff: NaiveDate,
    seed: u64,
    slope: f64,
    metrics: GlobalMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Ticker,
    Global,
}

/// What every description begins with; read first, so that a newer format is told as such.
#[derive(Deserialize)]
struct Beginning {
    format: u32,
    kind: Option<Kind>,
}

/// The draft as bytes; equal drafts give equal bytes.
pub(crate) fn encode(draft: &Draft) -> Result<Vec<u8>, ForecastError> {
    let about = About {
        format: FORMAT,
        kind: Kind::Ticker,
        ticker: draft.ticker.clone(),
        recipe: draft.recipe.clone(),
        parent: draft.parent.clone(),
        global: draft.global.clone(),
        as_of: draft.as_of,
        since: draft.since,
        seed: draft.seed,
        slope: draft.slope,
        adam_steps: draft.adams.iter().map(|adam| adam.steps).collect(),
        widths: [draft.own.width80, draft.own.width95, draft.base.width80, draft.base.width95],
        metrics: draft.metrics,
    };
    let mut tensors = member_tensors(&draft.members, &draft.recipe);
    for (member, adam) in draft.adams.iter().enumerate() {
        tensors.push(Owned::f32(moments_name(member), vec![2, adam.moments.len() / 2], &adam.moments));
    }
    for (name, track) in [("own", &draft.own), ("base", &draft.base)] {
        tensors.extend(track_tensors(name, track));
    }
    write(&about, tensors)
}

/// The same for a global model.
pub(crate) fn encode_global(draft: &GlobalDraft) -> Result<Vec<u8>, ForecastError> {
    let about = AboutGlobal {
        format: FORMAT,
        kind: Kind::Global,
        exchange: draft.exchange,
        recipe: draft.recipe.clone(),
        as_of: draft.as_of,
        cutoff: draft.cutoff,
        seed: draft.seed,
        slope: draft.slope,
        metrics: draft.metrics,
    };
    write(&about, member_tensors(&draft.members, &draft.recipe))
}

/// The draft in `bytes`, every part of it checked.
pub(crate) fn decode(bytes: &[u8]) -> Result<Draft, ForecastError> {
    let (about, file): (About, _) = read(bytes, Kind::Ticker)?;
    about.recipe.check()?;
    let members = read_members(&file, &about.recipe)?;
    if about.adam_steps.len() != members.len() || !about.slope.is_finite() || about.since > about.as_of {
        return Err(ForecastError::corrupt("its description does not fit together"));
    }
    let weights = about.recipe.shape().weights();
    let adams = about
        .adam_steps
        .iter()
        .enumerate()
        .map(|(member, steps)| {
            let moments = finite(f32_numbers(part(&file, &moments_name(member), Dtype::F32, &[2, weights])?))?;
            Ok(Adam { moments, steps: *steps })
        })
        .collect::<Result<_, ForecastError>>()?;
    let [own80, own95, base80, base95] = about.widths;
    let own = read_track(&file, "own", own80, own95, &about)?;
    let base = read_track(&file, "base", base80, base95, &about)?;
    Ok(Draft {
        members,
        adams,
        own,
        base,
        ticker: about.ticker,
        recipe: about.recipe,
        parent: about.parent,
        global: about.global,
        as_of: about.as_of,
        since: about.since,
        seed: about.seed,
        slope: about.slope,
        metrics: about.metrics,
    })
}

/// The same for a global model.
pub(crate) fn decode_global(bytes: &[u8]) -> Result<GlobalDraft, ForecastError> {
    let (about, file): (AboutGlobal, _) = read(bytes, Kind::Global)?;
    about.recipe.check()?;
    if !about.slope.is_finite() || about.cutoff > about.as_of {
        return Err(ForecastError::corrupt("its description does not fit together"));
    }
    Ok(GlobalDraft {
        members: read_members(&file, &about.recipe)?,
        exchange: about.exchange,
        recipe: about.recipe,
        as_of: about.as_of,
        cutoff: about.cutoff,
        seed: about.seed,
        slope: about.slope,
        metrics: about.metrics,
    })
}

/// A tensor with its name, ready to be written.
struct Owned {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Owned {
    fn f32(name: String, shape: Vec<usize>, numbers: &[f32]) -> Self {
        Self { name, dtype: Dtype::F32, shape, data: numbers.iter().flat_map(|n| n.to_le_bytes()).collect() }
    }
}

fn moments_name(member: usize) -> String {
    format!("members.{member}.adam.moments")
}

fn member_tensors(members: &Members, recipe: &Recipe) -> Vec<Owned> {
    let mut tensors = vec![];
    for (member, flat) in members.iter().enumerate() {
        let mut rest = flat.as_slice();
        for (name, shape) in recipe.shape().parts() {
            let (numbers, after) = rest.split_at(shape.iter().product());
            rest = after;
            tensors.push(Owned::f32(format!("members.{member}.{name}"), shape, numbers));
        }
    }
    tensors
}

fn read_members(file: &SafeTensors<'_>, recipe: &Recipe) -> Result<Members, ForecastError> {
    let member = |member: usize| {
        let mut flat = Vec::with_capacity(recipe.shape().weights());
        for (name, shape) in recipe.shape().parts() {
            flat.extend(f32_numbers(part(file, &format!("members.{member}.{name}"), Dtype::F32, &shape)?));
        }
        finite(flat)
    };
    (0..recipe.members).map(member).collect()
}

fn finite(numbers: Vec<f32>) -> Result<Vec<f32>, ForecastError> {
    if numbers.iter().all(|number| number.is_finite()) {
        Ok(numbers)
    } else {
        Err(ForecastError::corrupt("a weight is not a finite number"))
    }
}

/// Numbers per entry of a track.
const COLUMNS: usize = 10;

fn track_tensors(name: &str, track: &Track) -> [Owned; 2] {
    let n = track.entries.len();
    let days = track.entries.iter().flat_map(|e| e.session.num_days_from_ce().to_le_bytes()).collect();
    let row = |e: &Entry| -> [f64; COLUMNS] {
        let (b, s) = (&e.belief, &e.said);
        [e.z, b.mu, b.s, b.nu, s.lo95, s.lo80, s.point, s.hi80, s.hi95, e.sigma]
    };
    let numbers = track.entries.iter().flat_map(row).flat_map(f64::to_le_bytes).collect();
    [
        Owned { name: format!("track.{name}.sessions"), dtype: Dtype::I32, shape: vec![n], data: days },
        Owned { name: format!("track.{name}.entries"), dtype: Dtype::F64, shape: vec![n, COLUMNS], data: numbers },
    ]
}

fn read_track(
    file: &SafeTensors<'_>,
    name: &str,
    width80: f64,
    width95: f64,
    about: &About,
) -> Result<Track, ForecastError> {
    let sessions = format!("track.{name}.sessions");
    let n = file.tensor(&sessions).map_err(said)?.shape().first().copied().unwrap_or(0);
    let days = part(file, &sessions, Dtype::I32, &[n])?.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
    let numbers: Vec<f64> = part(file, &format!("track.{name}.entries"), Dtype::F64, &[n, COLUMNS])?
        .as_chunks()
        .0
        .iter()
        .map(|b| f64::from_le_bytes(*b))
        .collect();
    let entries: Option<Vec<Entry>> = days
        .zip(numbers.as_chunks::<COLUMNS>().0)
        .map(|(day, &[z, mu, s, nu, lo95, lo80, point, hi80, hi95, sigma])| {
            let session = NaiveDate::from_num_days_from_ce_opt(day)?;
            let (belief, said) = (Belief { mu, s, nu }, Said { lo95, lo80, point, hi80, hi95 });
            Some(Entry { session, z, belief, said, sigma })
        })
        .collect();
    let sound = |entries: &Vec<Entry>| {
        let fits = |e: &Entry| e.z.is_finite() && e.sigma > 0.0 && e.belief.is_sound() && e.said.is_ordered();
        entries.iter().all(|e| fits(e) && e.session <= about.as_of)
            && entries.is_sorted_by(|a, b| a.session < b.session)
            && entries.len() <= about.recipe.trust.track_max
            && width80.is_finite()
            && width95.is_finite()
    };
    entries
        .filter(sound)
        .map(|entries| Track { entries, width80, width95 })
        .ok_or_else(|| ForecastError::corrupt("its track record is not in order"))
}

fn write<A: Serialize>(about: &A, mut tensors: Vec<Owned>) -> Result<Vec<u8>, ForecastError> {
    let json = serde_json::to_string(about).map_err(|e| ForecastError::corrupt(e.to_string()))?;
    // Sorted by name, because that is how the checksum reads them.
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let check = checksum(&json, tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.data.as_slice())));
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).map_err(said)?;
        views.push((tensor.name.as_str(), view));
    }
    let metadata = HashMap::from([(KEY.to_owned(), format!("{check} {json}"))]);
    serialize(views, Some(metadata)).map_err(said)
}

fn read<A: DeserializeOwned>(bytes: &[u8], kind: Kind) -> Result<(A, SafeTensors<'_>), ForecastError> {
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
    let unreadable = |e: serde_json::Error| ForecastError::corrupt(format!("its description cannot be read ({e})"));
    let beginning: Beginning = serde_json::from_str(json).map_err(unreadable)?;
    if beginning.format > FORMAT {
        return Err(ForecastError::NewerModel { format: beginning.format, known: FORMAT });
    }
    if beginning.format < FORMAT {
        let what = format!("it has format {}, this program reads {FORMAT}", beginning.format);
        return Err(ForecastError::corrupt(what));
    }
    if beginning.kind != Some(kind) {
        return Err(ForecastError::corrupt(format!("it is of kind {:?}, not {kind:?}", beginning.kind)));
    }
    Ok((serde_json::from_str(json).map_err(unreadable)?, file))
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

fn f32_numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn said(error: safetensors::SafeTensorError) -> ForecastError {
    ForecastError::corrupt(error.to_string())
}
