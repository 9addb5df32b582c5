//! Models made for the measurement: made-up tickers, a global model of them, one ticker's own, and the smallest file that holds a network.

use crate::ours::{LOOK_BACK, SMALL, ramp};
use crate::timed;
use anyhow::Context;
use chrono::{Days, NaiveDate};
use forecast::{Global, MarketReturns, Model, Recipe, finetune, pretrain, seed_for};
use kernel::{Head, Kernel, Shape, Workspace, student_t};
use market::{Bar, Exchange, Series, Ticker};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::Path;

/// Closes of each ticker: as many as a training ever reads, and the sessions since.
const CLOSES: usize = forecast::HISTORY_CLOSES + 40;

/// A ticker that has been in operation for a while.
pub(crate) struct Example {
    global: Global,
    bytes: Vec<u8>,
    parent: Model,
    series: Series,
    market: MarketReturns,
}

impl Example {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let all: Vec<Series> = (0..6).map(series).collect::<anyhow::Result<_>>()?;
        let market = MarketReturns::of(&all);
        let recipe = Recipe::of(Exchange::Nepse);
        let known: Vec<Series> = all.iter().map(|one| one.until(day(CLOSES - 30))).collect();
        let of: Vec<&Series> = known.iter().collect();
        let global = pretrain(Exchange::Nepse, &of, &market.until(day(CLOSES - 30)), &recipe, 7)?
            .context("there are windows enough")?;
        let series = all.into_iter().next().context("six tickers")?;
        let mut parent: Option<Model> = None;
        for last in [CLOSES - 16, CLOSES - 11, CLOSES - 6] {
            let known = series.until(day(last));
            let seed = seed_for(series.ticker(), day(last), &recipe.id());
            parent = Some(finetune(&global, parent.as_ref(), &known, &market.until(day(last)), seed)?);
        }
        let bytes = global.to_bytes();
        Ok(Self { bytes, global, parent: parent.context("it was made above")?, series, market })
    }

    /// Seconds to continue a ticker's own model by five sessions, from series to bytes, all members.
    pub(crate) fn finetune(&self, count: usize) -> Vec<f64> {
        timed(count, 1, || finetune(&self.global, Some(&self.parent), &self.series, &self.market, 3).is_ok())
    }

    /// Seconds to read and check the file of a global model: three members, checksum and description.
    pub(crate) fn load_global(&self, count: usize) -> Vec<f64> {
        timed(count, 100, || Global::from_bytes(&self.bytes).is_ok())
    }
}

/// Seconds from the bytes of one network of 20 units to what it says of a window.
pub(crate) fn load_and_predict(count: usize) -> anyhow::Result<Vec<f64>> {
    let shape = SMALL.shape();
    let (flat, window) = (ramp(shape.weights(), 0.2), ramp(LOOK_BACK, 1.0));
    let bytes = file_of(&shape, &flat)?;
    anyhow::ensure!(read(&bytes, &shape, "")? == flat, "a file must hold what was put into it");
    let (mut space, mut out) = (Workspace::new(shape, Kernel::best()), [0.0]);
    Ok(timed(count, 1000, || {
        let Ok(weights) = read(&bytes, &shape, "") else { return out };
        space.output_one(&weights, &window, &mut out);
        out
    }))
}

/// Writes a global and a ticker's model, and what each of their members says of some windows.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    let example = Example::new()?;
    let recipe = example.global.recipe();
    let shape =
        Shape { inputs: forecast::INPUTS, hidden: recipe.hidden, look_back: recipe.look_back, head: Head::StudentT };
    let windows: Vec<Vec<f32>> =
        ramp(8 * LOOK_BACK * forecast::INPUTS, 2.0).chunks(LOOK_BACK * forecast::INPUTS).map(<[f32]>::to_vec).collect();
    let mut space = Workspace::new(shape, Kernel::best());
    for (name, bytes) in [("global", example.global.to_bytes()), ("ticker", example.parent.to_bytes())] {
        let mut said = vec![];
        for member in 0..recipe.members {
            let weights = read(&bytes, &shape, &format!("members.{member}."))?;
            let of = |window: &Vec<f32>| {
                let mut raw = [0.0; 3];
                space.output_one(&weights, window, &mut raw);
                let (mu, s, nu) = student_t(raw);
                [mu, s, nu]
            };
            said.push(windows.iter().map(of).collect::<Vec<_>>());
        }
        std::fs::write(folder.join(format!("{name}.safetensors")), &bytes)?;
        let text = serde_json::json!({ "look_back": shape.look_back, "inputs": shape.inputs, "windows": windows, "said": said });
        std::fs::write(folder.join(format!("{name}.json")), text.to_string())?;
    }
    Ok(())
}

/// The weights that stand under PyTorch's names after `prefix`, flat.
fn read(bytes: &[u8], shape: &Shape, prefix: &str) -> anyhow::Result<Vec<f32>> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut flat = Vec::with_capacity(shape.weights());
    for (name, sizes) in shape.parts() {
        let view = if prefix.is_empty() { file.tensor(name) } else { file.tensor(&format!("{prefix}{name}")) }?;
        anyhow::ensure!(view.dtype() == Dtype::F32 && view.shape() == sizes, "{name} has another shape");
        flat.extend(view.data().as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)));
    }
    Ok(flat)
}

fn file_of(shape: &Shape, flat: &[f32]) -> anyhow::Result<Vec<u8>> {
    let bytes: Vec<u8> = flat.iter().flat_map(|number| number.to_le_bytes()).collect();
    let (mut rest, mut views) = (bytes.as_slice(), vec![]);
    for (name, sizes) in shape.parts() {
        let (part, after) = rest.split_at(4 * sizes.iter().product::<usize>());
        rest = after;
        views.push((name, TensorView::new(Dtype::F32, sizes, part)?));
    }
    Ok(safetensors::serialize(views, None)?)
}

fn day(n: usize) -> NaiveDate {
    NaiveDate::default() + Days::new(n as u64)
}

/// A ticker whose closes wander, each session with its range and volume.
fn series(number: usize) -> anyhow::Result<Series> {
    let steps = ramp((number + 2) * CLOSES, 0.03);
    let mut close = 100.0;
    let bars = steps[(number + 1) * CLOSES..].iter().enumerate().map(|(n, step)| {
        close = market::round4(close * f64::from(step - 0.00001 * (close as f32 - 100.0)).exp());
        let (high, low) = (Some(close * 1.01), Some(close * 0.99));
        let volume = Some(1000.0 + 300.0 * f64::from(*step));
        Bar { session: day(n), open: None, high, low, close, ltp: None, prev_close: None, volume }
    });
    let ticker = Ticker::parse(&format!("NEPSE:T{number}"))?;
    Ok(Series::new(ticker, bars.collect(), vec![])?)
}
