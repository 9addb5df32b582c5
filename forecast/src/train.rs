//! Training: one visible loop over shuffled batches.

use crate::{Pass, Recipe, adam::Adam, lstm::Net, seed::Dice};
use candle_core::{Device, Result, Tensor};

/// What a training pass was like.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Progress {
    /// Mean squared error over the first epoch, in units of z²; `None` when nothing was trained.
    pub loss_first: Option<f64>,
    /// The same over the last epoch.
    pub loss_last: Option<f64>,
    /// Epochs done.
    pub epochs: usize,
}

/// Shows `windows` (shape \[n, look_back\], laid flat) and their outcomes `targets` (shape \[n\]) to the network,
/// `pass.epochs` times, in an order thrown by `dice`. With no window there is nothing to learn, and nothing happens.
pub(crate) fn train(
    net: &Net,
    adam: &mut Adam,
    windows: &[f32],
    targets: &[f32],
    pass: &Pass,
    recipe: &Recipe,
    dice: &mut Dice,
) -> Result<Progress> {
    let mut progress = Progress::default();
    if targets.is_empty() {
        return Ok(progress);
    }
    let width = recipe.look_back;
    let mut weights = net.weights()?;
    let mut order: Vec<usize> = (0..targets.len()).collect();
    for _ in 0..pass.epochs {
        dice.shuffle(&mut order);
        let mut squares = 0.0;
        for picked in order.chunks(recipe.batch) {
            let n = picked.len();
            let input: Vec<f32> = picked.iter().flat_map(|i| &windows[i * width..(i + 1) * width]).copied().collect();
            let wanted: Vec<f32> = picked.iter().map(|i| targets[*i]).collect();
            let means = net.forward(&Tensor::from_vec(input, (n, width), &Device::Cpu)?)?;
            let loss = candle_nn::loss::mse(&means, &Tensor::from_vec(wanted, n, &Device::Cpu)?)?;
            squares += f64::from(loss.to_scalar::<f32>()?) * n as f64;
            let gradient = net.gradient(&loss)?;
            adam.step(&mut weights.flat, &gradient, pass.learning_rate, recipe.gradient_norm_max);
            net.set(&weights)?;
        }
        let loss = squares / targets.len() as f64;
        progress.loss_first.get_or_insert(loss);
        progress.loss_last = Some(loss);
        progress.epochs += 1;
    }
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lstm::Weights;

    #[test]
    fn a_pattern_that_is_there_is_learnt() {
        // The outcome is the last step of the window: any network worth its units finds that.
        let recipe = Recipe { hidden: 8, ..Recipe::default() };
        let mut dice = Dice::new(3);
        let windows: Vec<f32> = (0..320 * 15).map(|_| dice.uniform(1.5)).collect();
        let targets: Vec<f32> = windows.chunks(15).map(|w| w[14]).collect();
        let net = Net::trainable(&Weights::seeded(8, &mut dice)).unwrap();
        let mut adam = Adam::new(Weights::count(8));
        let pass = Pass { windows: 320, epochs: 40, learning_rate: 1e-2 };
        let progress = train(&net, &mut adam, &windows, &targets, &pass, &recipe, &mut dice).unwrap();
        assert!(progress.loss_last.unwrap() < 0.1 * progress.loss_first.unwrap(), "{progress:?}");
        assert_eq!(adam.steps, 40 * 5);
    }
}
