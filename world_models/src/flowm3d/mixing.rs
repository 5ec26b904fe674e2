//! The mixing of velocity channels: a 3x3 convolution on the torus that each feature does on its own, over all its channels.
//!
//! Equivariance to flow ends at a wall, where a block turns round: there its content has to change to another channel.

use tch::Tensor;

use super::config::Mixing;

/// The weight that training begins with, `[D V, V, 3, 3]`: output channel `d V + v`, input channel `v` of the same feature.
pub fn initial(mixing: Mixing, features: i64, channels: i64) -> Option<Vec<f32>> {
    const CENTRE: i64 = 4;
    let kept = match mixing {
        Mixing::None => return None,
        // A Dirac kernel of one group keeps as many outputs as it has inputs: those of the first feature.
        Mixing::Faithful => channels,
        Mixing::Corrected => features * channels,
    };
    let mut weight = vec![0.0; (features * channels * channels * 9) as usize];
    for out in 0..kept {
        weight[((out * channels + out % channels) * 9 + CENTRE) as usize] = 1.0;
    }
    Some(weight)
}

/// `[B, V, S, S, D]` -> the same.
pub fn convolve(map: &Tensor, weight: &Tensor) -> Tensor {
    let [b, v, side, d] = [0, 1, 2, 4].map(|axis: usize| map.size()[axis]);
    let planes = map.permute([0, 4, 1, 2, 3]).flatten(1, 2); // [B, D V, S, S]
    let padded = planes.pad([1, 1, 1, 1], "circular", None);
    let mixed = padded.conv2d(weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], d);
    mixed.view([b, d, v, side, side]).permute([0, 2, 3, 4, 1]).contiguous()
}
