//! Critics: what inputs are worth, the gradient of it, and the fit to targets.

use simulators::rng::Rng;
use tch::{Kind, Tensor};
use world_models::adam::Adam;
use world_models::mlp::passes::{Gradients, Keeps, shards, side_by_side};
use world_models::mlp::{Mlps, Numbers};

use crate::columns::normal;
use crate::networks::CriticConfig;

/// What `inputs` `[n, in]` are worth: `[n]`, the least that a critic says.
pub fn values(critics: &Mlps, inputs: &Tensor, numbers: Numbers) -> Tensor {
    critics
        .passes(numbers)
        .keeping(Keeps::Nothing)
        .run(&critics.each(inputs))
        .0
        .squeeze_dim(-1)
        .amin([0i64].as_slice(), false)
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
    let passes = critics.passes(numbers).keeping(Keeps::Inputs);
    let (values, mut run) = passes.run(&critics.each(&inputs.index_select(0, &rows)));
    let values = values.squeeze_dim(-1);
    let least = values.argmin(0, true);
    let bar = values.zeros_like().scatter(0, &least, &weights.unsqueeze(0)).unsqueeze(-1);
    let bar = run.pull_back(&bar, true).expect("it was wanted");
    gradient.index_copy(0, &rows, &bar.sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
}

/// Fits critics to `targets` `[n]` of `inputs` `[n, in]`, each time with other noise on them; the mean loss and gradient norm. It stops
/// at the first that is not finite.
pub fn fit(
    critics: &Mlps,
    adam: &mut Adam,
    config: &CriticConfig,
    learning_rate: f64,
    inputs: &Tensor,
    targets: &Tensor,
    rng: &mut Rng,
) -> (f64, f64) {
    let CriticConfig { passes, minibatches, numbers, input_noise, .. } = *config;
    let rows = inputs.size()[0] / minibatches as i64;
    let (mut losses, mut norms) = (0.0, 0.0);
    for batch in (0..passes).flat_map(|_| 0..minibatches as i64) {
        adam.zero_grad();
        let (x, goal) = (inputs.narrow(0, batch * rows, rows), targets.narrow(0, batch * rows, rows));
        let x =
            if input_noise > 0.0 { x + normal(rng, rows as usize, inputs.size()[1] as usize) * input_noise } else { x };
        let loss = learn(critics, &x, &goal, numbers);
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

/// The mean squared error of critics against `goal` `[n]` of `x` `[n, in]`, whose gradients are added to those of the parameters. Rows know
/// nothing of each other until then, so each share of them goes both ways on one thread.
fn learn(critics: &Mlps, x: &Tensor, goal: &Tensor, numbers: Numbers) -> f64 {
    let count = shards(x.size()[0]);
    let (passes, errors) = (critics.passes(numbers), (critics.count() * x.size()[0]) as f64);
    let parts = critics.each(x).tensor_split(count, 1).into_iter().zip(goal.tensor_split(count, 0));
    let items = parts.map(|(x, goal)| (passes.on_one_thread(), x, goal)).collect();
    let found = side_by_side(items, |(passes, x, goal)| {
        let (values, mut run) = passes.run(&x);
        let error = values - goal.unsqueeze(-1);
        let _ = run.pull_back(&(&error * (2.0 / errors)), false);
        (error.square().sum(Kind::Double).double_value(&[]), run.gradients())
    });
    let squares: f64 = found.iter().map(|(squares, _)| squares).sum();
    critics.add(&Gradients::of_shares(found.into_iter().map(|(_, gradients)| gradients)));
    squares / errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::CriticConfig;
    use simulators::rng::{Purpose, Seed, stream};
    use tch::{Device, nn};
    use world_models::mlp::{Numbers, Start};

    #[test]
    fn shares_of_rows_are_learned_from_as_the_whole() {
        let rng = &mut stream(Seed(5), Purpose::Noise, 0);
        let (x, goal) = (normal(rng, 600, 24), normal(rng, 600, 1).flatten(0, 1));
        let config = CriticConfig { hidden: vec![40, 16], ..CriticConfig::default() };
        let weights = nn::VarStore::new(Device::Cpu);
        let rng = &mut stream(Seed(1), Purpose::Weights, 1);
        let critics = Mlps::new(&weights.root(), config.count, &config.shape(24), Start::Orthogonal, rng);
        let error = critics.forward(&x).squeeze_dim(-1) - &goal;
        let loss = error.square().mean(Kind::Float);
        loss.backward();
        let expected: Vec<Tensor> = critics.parameters().map(|parameter| parameter.grad().copy()).collect();
        for (numbers, tolerance) in [(Numbers::F32, 1e-4), (Numbers::Bf16, 0.03)] {
            critics.parameters().for_each(|parameter| drop(parameter.grad().zero_()));
            let found = learn(&critics, &x, &goal, numbers);
            assert!((found / loss.double_value(&[]) - 1.0).abs() < tolerance, "{numbers:?}: {found}");
            for (parameter, expected) in critics.parameters().zip(&expected) {
                let size = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]).sqrt();
                let error = size(&(parameter.grad() - expected)) / size(expected);
                assert!(error < tolerance, "{numbers:?} {:?}: {error}", parameter.size());
            }
        }
    }

    /// Inputs that lie on a plane say nothing of slopes across it, which then are whatever the weights began with. Noise makes them
    /// small, and leaves those along the plane.
    #[test]
    fn noise_on_inputs_keeps_slopes_to_where_inputs_are() {
        let rng = &mut stream(Seed(4), Purpose::Noise, 0);
        let (on_plane, basis) = (normal(rng, 256, 2), normal(rng, 2, 64) / 8.0);
        let inputs = on_plane.matmul(&basis);
        let targets = on_plane.select(1, 0) * 3.0 + on_plane.select(1, 1).square();
        let across = |input_noise: f64| {
            let config = CriticConfig { hidden: vec![64], passes: 100, input_noise, ..CriticConfig::default() };
            let weights = nn::VarStore::new(Device::Cpu);
            let rng = &mut stream(Seed(1), Purpose::Weights, 1);
            let critics = Mlps::new(&weights.root(), config.count, &config.shape(64), Start::Orthogonal, rng);
            let mut adam = Adam::new(&weights, config.adam);
            let rng = &mut stream(Seed(2), Purpose::Critics, 0);
            let (loss, _) = fit(&critics, &mut adam, &config, 1e-3, &inputs, &targets, rng);
            assert!(loss < 3.0, "{loss}");
            let slopes = value_gradient(&critics, &inputs, &[1.0; 256], Numbers::F32);
            let (plane, _) = Tensor::linalg_qr(&basis.tr(), "reduced");
            let along = slopes.matmul(&plane).matmul(&plane.tr());
            let size = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]);
            (size(&slopes) - size(&along)) / size(&along)
        };
        let (without, with) = (across(0.0), across(0.1));
        assert!(without > 0.3 && with < without / 3.0, "{without}, {with} with noise");
    }
}
