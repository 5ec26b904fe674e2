//! Critics: what inputs are worth, the gradient of it, and the fit to targets.

use tch::{Kind, Tensor};
use world_models::adam::Adam;
use world_models::mlp::{Mlps, Numbers};

use crate::networks::CriticConfig;

/// What `inputs` `[n, in]` are worth: `[n]`, the least that a critic says.
pub fn values(critics: &Mlps, inputs: &Tensor, numbers: Numbers) -> Tensor {
    critics.run(inputs, numbers).0.squeeze_dim(-1).amin([0i64].as_slice(), false)
}

/// The gradient of `Σ weight · value` with respect to `inputs` `[n, in]`; those of the critics are not touched. Rows whose
/// weight is zero are not looked at.
pub fn value_gradient(critics: &Mlps, inputs: &Tensor, weights: &[f32], numbers: Numbers) -> Tensor {
    let counting: Vec<i64> = (0..weights.len()).filter(|&row| weights[row] != 0.0).map(|row| row as i64).collect();
    let gradient = inputs.zeros_like();
    if counting.is_empty() {
        return gradient;
    }
    let rows = Tensor::from_slice(&counting);
    let weights = Tensor::from_slice(weights).index_select(0, &rows);
    let (values, mut run) = critics.run(&inputs.index_select(0, &rows), numbers);
    let values = values.squeeze_dim(-1);
    let least = values.argmin(0, true);
    let bar = values.zeros_like().scatter(0, &least, &weights.unsqueeze(0)).unsqueeze(-1);
    let bar = run.pull_back(&bar, true).expect("it was wanted");
    gradient.index_copy(0, &rows, &bar.sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
}

/// Fits critics to `targets` `[n]` of `inputs` `[n, in]`; the mean loss and gradient norm. It stops at the first that is not
/// finite.
pub fn fit(
    critics: &Mlps,
    adam: &mut Adam,
    config: &CriticConfig,
    learning_rate: f64,
    inputs: &Tensor,
    targets: &Tensor,
) -> (f64, f64) {
    let CriticConfig { passes, minibatches, numbers, .. } = *config;
    let rows = inputs.size()[0] / minibatches as i64;
    let (mut losses, mut norms) = (0.0, 0.0);
    for batch in (0..passes).flat_map(|_| 0..minibatches as i64) {
        adam.zero_grad();
        let (x, goal) = (inputs.narrow(0, batch * rows, rows), targets.narrow(0, batch * rows, rows));
        let (values, run) = critics.run(&x, numbers);
        let error = values - goal.unsqueeze(-1);
        let loss = error.square().mean(Kind::Float).double_value(&[]);
        critics.pull_back(run, &(&error * (2.0 / error.numel() as f64)));
        let norm = adam.gradient_norm();
        if !(loss.is_finite() && norm.is_finite()) {
            return (loss, norm);
        }
        adam.step(learning_rate, norm);
        losses += loss;
        norms += norm;
    }
    let updates = (passes * minibatches as u64) as f64;
    (losses / updates, norms / updates)
}
