//! Several networks that answer as one: fresh weights, opinions about windows, and one visible loop of training; whoever does the arithmetic.

use crate::{
    ForecastError, Recipe,
    features::{Sample, lay},
    history::History,
    reference::Reference,
    seed::Dice,
    track::Belief,
};
use kernel::{Adam, Shape, Workspace, student_t};
use std::str::FromStr;

/// Windows per forward pass where nothing is learnt.
const FORWARD: usize = 64;

/// The weights of each member, flat, in the order of `kernel::Shape::parts`.
pub(crate) type Members = Vec<Vec<f32>>;

/// Who does the arithmetic of the networks. Models, recipes and forecasts are the same; the first two agree to the last bit, the third to a few
/// units of the sixth digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kernel {
    /// Our fused kernel by the vector instructions of the machine, or in plain Rust where it has none.
    #[default]
    Fast,
    /// The same in plain Rust.
    Portable,
    /// candle's LSTM and autograd: to compare with.
    Reference,
}

impl Kernel {
    /// The version of its arithmetic, as results record it: 0 for the reference, whose bits are candle's.
    pub fn version(self) -> u32 {
        match self {
            Kernel::Fast | Kernel::Portable => kernel::VERSION,
            Kernel::Reference => 0,
        }
    }

    /// The one that makes again what was made by arithmetic of this version.
    pub fn of_version(version: u32) -> Self {
        if version == 0 { Kernel::Reference } else { Kernel::Fast }
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Self::Fast),
            "portable" => Ok(Self::Portable),
            "reference" => Ok(Self::Reference),
            _ => Err("use fast, portable or reference".to_owned()),
        }
    }
}

/// What networks of one shape need to compute, kept for call after call.
pub(crate) enum Space {
    Fused(Box<Workspace>),
    Reference(Reference),
}

impl Space {
    /// For networks of this shape.
    pub(crate) fn new(shape: Shape, kernel: Kernel) -> Self {
        match kernel {
            Kernel::Fast => Self::Fused(Box::new(Workspace::new(shape, kernel::Kernel::best()))),
            Kernel::Portable => Self::Fused(Box::new(Workspace::new(shape, kernel::Kernel::Portable))),
            Kernel::Reference => Self::Reference(Reference { shape }),
        }
    }

    /// The raw outputs for all windows, \[n, outputs\]; what was in `out` is replaced.
    pub(crate) fn outputs(&mut self, weights: &[f32], x: &[f32], out: &mut Vec<f32>) -> Result<(), ForecastError> {
        match self {
            Self::Fused(space) => space.outputs(weights, x, out),
            Self::Reference(reference) => *out = reference.outputs(weights, x).map_err(ForecastError::reference)?,
        }
        Ok(())
    }

    /// One step of training; the mean loss before it.
    pub(crate) fn train_step(
        &mut self,
        weights: &mut [f32],
        adam: &mut Adam,
        (x, y): (&[f32], &[f32]),
        learning_rate: f32,
        norm_max: f32,
    ) -> Result<f64, ForecastError> {
        match self {
            Self::Fused(space) => Ok(space.train_step(weights, adam, x, y, learning_rate, norm_max)),
            Self::Reference(reference) => {
                reference.train_step(weights, adam, (x, y), learning_rate, norm_max).map_err(ForecastError::reference)
            }
        }
    }
}

/// The memory and the kernel for networks of this recipe.
pub(crate) fn space(recipe: &Recipe, kernel: Kernel) -> Space {
    Space::new(recipe.shape(), kernel)
}

/// Fresh weights of one member: uniform in ±1/√H as PyTorch has them; forget gates open, and outputs close to zero, because "no change,
/// and as wild as usual" is the right first guess.
pub(crate) fn seeded(recipe: &Recipe, dice: &mut Dice) -> Vec<f32> {
    let (shape, hidden) = (recipe.shape(), recipe.hidden);
    let limit = 1.0 / (hidden as f32).sqrt();
    let mut flat = Vec::with_capacity(shape.weights());
    for (name, sizes) in shape.parts() {
        let count: usize = sizes.iter().product();
        match name {
            "lstm.bias_ih_l0" => flat.extend((0..count).map(|i| if i / hidden == 1 { 1.0 } else { 0.0 })),
            "head.weight" => flat.extend((0..count).map(|_| dice.uniform(0.1 * limit))),
            "head.bias" => flat.extend(std::iter::repeat_n(0.0, count)),
            _ => flat.extend((0..count).map(|_| dice.uniform(limit))),
        }
    }
    flat
}

/// What the members together believe about each sample.
pub(crate) fn beliefs(
    space: &mut Space,
    members: &Members,
    histories: &[&History],
    samples: &[Sample],
    recipe: &Recipe,
) -> Result<Vec<Belief>, ForecastError> {
    let (mut x, mut y, mut out) = (vec![], vec![], vec![]);
    let mut opinions: Vec<Vec<Belief>> = vec![Vec::with_capacity(members.len()); samples.len()];
    for (chunk, some) in samples.chunks(FORWARD).enumerate() {
        lay(histories, some, recipe.look_back, &mut x, &mut y);
        for weights in members {
            space.outputs(weights, &x, &mut out)?;
            for (i, raw) in out.as_chunks::<3>().0.iter().enumerate() {
                let (mu, s, nu) = student_t(*raw);
                opinions[chunk * FORWARD + i].push(Belief { mu, s, nu });
            }
        }
    }
    Ok(opinions.iter().map(|each| Belief::mean(each)).collect())
}

/// One pass over `samples` in the order given; the mean loss (negative log density of the standardised return).
#[allow(clippy::too_many_arguments, reason = "one optimiser's whole world")]
pub(crate) fn pass(
    space: &mut Space,
    weights: &mut [f32],
    adam: &mut Adam,
    histories: &[&History],
    samples: &[Sample],
    batch: usize,
    learning_rate: f64,
    norm_max: f64,
    look_back: usize,
) -> Result<f64, ForecastError> {
    let (mut x, mut y) = (vec![], vec![]);
    let mut sum = 0.0;
    for some in samples.chunks(batch) {
        lay(histories, some, look_back, &mut x, &mut y);
        let loss = space.train_step(weights, adam, (&x, &y), learning_rate as f32, norm_max as f32)?;
        sum += loss * some.len() as f64;
    }
    Ok(sum / samples.len().max(1) as f64)
}
