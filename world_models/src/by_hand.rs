//! Where a training step goes back by hand: gradients into a graph of autograd's, and out to the weights.

use tch::{Kind, Tensor};

/// A scalar whose backward pass hands `gradient` to `x`. (A `dot` would do; for `bf16` it is a matrix product of one row,
/// ten times slower than this.)
pub fn inject(x: &Tensor, gradient: &Tensor) -> Tensor {
    (x * gradient).sum(x.kind())
}

/// A scalar equal to `loss` whose backward pass gives `gradients` to `weights`. Its value is set: a sum with the weights in it
/// would be a NaN where only a gradient is infinite.
///
/// # Panics
/// If there are no weights.
pub fn carry(loss: &Tensor, weights: &[&Tensor], gradients: &[Tensor]) -> Tensor {
    let mut carrier = weights
        .iter()
        .zip(gradients)
        .map(|(weight, gradient)| (*weight * gradient).sum(Kind::Float))
        .reduce(|a, b| a + b)
        .expect("a model has weights");
    carrier.set_data(loss);
    carrier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_that_is_not_finite_is_carried_beside_a_loss_that_is() {
        let weight = Tensor::from_slice(&[2.0f32, -3.0, 0.0]).set_requires_grad(true);
        let given = [5.0, f32::INFINITY, f32::NAN];
        let loss = carry(&Tensor::from(0.25f32), &[&weight], &[Tensor::from_slice(&given)]);
        assert_eq!(loss.double_value(&[]).to_bits(), 0.25f64.to_bits());
        loss.backward();
        let found: Vec<f32> = Vec::try_from(weight.grad()).expect("three numbers");
        assert_eq!(found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), given.map(f32::to_bits));
    }
}
