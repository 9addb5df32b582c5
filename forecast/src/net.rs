//! Several networks that answer as one: fresh weights, opinions about windows, and one visible loop of training.

use crate::{
    Recipe,
    features::{Sample, lay},
    history::History,
    seed::Dice,
    track::Belief,
};
use kernel::{Adam, Kernel, Workspace, student_t};

/// Windows per forward pass where nothing is learnt.
const FORWARD: usize = 64;

/// The weights of each member, flat, in the order of `kernel::Shape::parts`.
pub(crate) type Members = Vec<Vec<f32>>;

/// A workspace for networks of this recipe.
pub(crate) fn workspace(recipe: &Recipe) -> Workspace {
    Workspace::new(recipe.shape(), Kernel::best())
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
    space: &mut Workspace,
    members: &Members,
    histories: &[&History],
    samples: &[Sample],
    recipe: &Recipe,
) -> Vec<Belief> {
    let (mut x, mut y, mut out) = (vec![], vec![], vec![]);
    let mut opinions: Vec<Vec<Belief>> = vec![Vec::with_capacity(members.len()); samples.len()];
    for (chunk, some) in samples.chunks(FORWARD).enumerate() {
        lay(histories, some, recipe.look_back, &mut x, &mut y);
        for weights in members {
            space.outputs(weights, &x, &mut out);
            for (i, raw) in out.as_chunks::<3>().0.iter().enumerate() {
                let (mu, s, nu) = student_t(*raw);
                opinions[chunk * FORWARD + i].push(Belief { mu, s, nu });
            }
        }
    }
    opinions.iter().map(|each| Belief::mean(each)).collect()
}

/// One pass over `samples` in the order given; the mean loss (negative log density of the standardised return).
#[allow(clippy::too_many_arguments, reason = "one optimiser's whole world")]
pub(crate) fn pass(
    space: &mut Workspace,
    weights: &mut [f32],
    adam: &mut Adam,
    histories: &[&History],
    samples: &[Sample],
    batch: usize,
    learning_rate: f64,
    norm_max: f64,
    look_back: usize,
) -> f64 {
    let (mut x, mut y) = (vec![], vec![]);
    let mut sum = 0.0;
    for some in samples.chunks(batch) {
        lay(histories, some, look_back, &mut x, &mut y);
        let loss = space.train_step(weights, adam, &x, &y, learning_rate as f32, norm_max as f32);
        sum += loss * some.len() as f64;
    }
    sum / samples.len().max(1) as f64
}
