//! What a belief says of everything, in view or not, from where the agent stands: a torus `[B, C, W, W]` whose first cells are the window.

use tch::{Kind, Tensor};

/// The cell of a torus of `side` that lies `by` `[B]` int64 after each of its cells, along one axis: `[B, W]`.
fn after(side: i64, by: &Tensor) -> Tensor {
    let cells = Tensor::arange(side, (Kind::Int64, by.device()));
    (cells.unsqueeze(0) + by.unsqueeze(1)).remainder(side)
}

/// What is around an agent that has moved by `action` `[B, 2]` (columns, rows; fractions are cut).
pub fn moved(panorama: &Tensor, action: &Tensor) -> Tensor {
    let [b, c, side] = [panorama.size()[0], panorama.size()[1], panorama.size()[2]];
    let action = action.to_kind(Kind::Int64);
    let rows = after(side, &action.select(1, 1)).view([b, 1, side, 1]).expand([b, c, side, side], false);
    let columns = after(side, &action.select(1, 0)).view([b, 1, 1, side]).expand([b, c, side, side], false);
    panorama.gather(2, &rows, false).gather(3, &columns, false)
}

/// The same panorama, with a gradient with respect to how far the agent has moved, `displacement` `[B, 2]`: half the difference of what
/// lies a cell further and a cell before. Moves are by whole cells, so this is a slope of the picture between them, not of the model.
pub fn with_slopes(panorama: &Tensor, displacement: &Tensor) -> Tensor {
    if !displacement.requires_grad() {
        return panorama.shallow_clone();
    }
    let slope = |axis: i64| (panorama.roll([-1], [axis]) - panorama.roll([1], [axis])).detach() * 0.5;
    // Zero, but for its gradient.
    let still = displacement - displacement.detach();
    let along = |component: i64| still.select(1, component).view([-1, 1, 1, 1]);
    panorama + along(0) * slope(3) + along(1) * slope(2)
}

/// Features for a policy, `[B, F]`: means of two by two cells.
pub fn features(panorama: &Tensor) -> Tensor {
    let half = (panorama.size()[2] + 1) / 2;
    panorama.adaptive_avg_pool2d([half, half]).flatten(1, -1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn what_lies_ahead_comes_nearer() {
        let panorama = Tensor::arange(2 * 25, (Kind::Float, Device::Cpu)).view([2, 1, 5, 5]);
        let found = moved(&panorama, &Tensor::from_slice(&[2.9f32, 0.0, -1.0, 3.0]).view([2, 2]));
        assert_eq!(found.get(0), panorama.get(0).roll([-2], [2]));
        assert_eq!(found.get(1), panorama.get(1).roll([1], [2]).roll([-3], [1]));
    }

    /// The slope is that of a smooth picture as the agent moves over it.
    #[test]
    fn slopes_are_those_of_a_picture_that_is_moved_over() {
        let side = 40;
        let at = |shift: f64, axis: i64| {
            let place =
                (Tensor::arange(side, (Kind::Float, Device::Cpu)) + shift) * (std::f64::consts::TAU / side as f64);
            let wave = place.sin();
            if axis == 3 { wave.view([1, 1, 1, side]) } else { wave.view([1, 1, side, 1]) }
        };
        let wave = |dx: f64, dy: f64| (at(dx, 3) * 2.0 + at(dy, 2)).contiguous();
        let displacement = Tensor::zeros([1, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let weights = Tensor::arange(side * side, (Kind::Float, Device::Cpu)).view([1, 1, side, side]).sin();
        (with_slopes(&wave(0.0, 0.0), &displacement) * &weights).sum(Kind::Float).backward();
        let value = |dx: f64, dy: f64| (wave(dx, dy) * &weights).sum(Kind::Double).double_value(&[]);
        for (component, (dx, dy)) in [(0, (0.5, 0.0)), (1, (0.0, 0.5))] {
            let expected = value(dx, dy) - value(-dx, -dy);
            let found = displacement.grad().double_value(&[0, component]);
            assert!((found - expected).abs() < 1e-2 * expected.abs().max(0.1), "{found}, not {expected}");
        }
    }
}
