//! A model beside one world: it is told of actions and shown frames in bytes, and says in numbers what it believes is in view.
//!
//! What stands between a [`WorldModel`](crate::belief::WorldModel) and a program that has no tensors.

use tch::{Device, Kind, Tensor};

use crate::belief::Belief;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::clips::Actions;
use crate::registry::WorldModelConfig;
use crate::train::Loaded;

/// A trained model and what it believes of one world.
pub struct Onlooker {
    loaded: Loaded,
    config: WorldModelConfig,
    device: Device,
    belief: Belief,
}

impl Onlooker {
    /// The model of a checkpoint, which has seen nothing yet.
    ///
    /// # Errors
    /// If the checkpoint's configuration cannot be, or its weights do not fit it.
    pub fn open(checkpoint: &Checkpoint, device: Device) -> Result<Self, CheckpointError> {
        let (loaded, config) = Loaded::from_checkpoint(checkpoint, device)?;
        let belief = loaded.model.start(1);
        Ok(Self { loaded, config: config.model, device, belief })
    }

    /// What it is.
    #[must_use]
    pub fn config(&self) -> &WorldModelConfig {
        &self.config
    }

    /// Forgets all, and sees the first frame of a world, `[H, W, C]` bytes.
    ///
    /// # Panics
    /// If the frame has another length.
    pub fn begin(&mut self, frame: &[u8]) {
        self.belief = tch::no_grad(|| {
            let still = Tensor::zeros([1, self.numbers()], (Kind::Float, self.device));
            self.loaded.model.observe(&self.loaded.model.start(1), &still, &self.seen(frame))
        });
    }

    /// What it expects that `action` leads to, `[H, W, C]`, not clamped. It believes what it did before.
    ///
    /// # Panics
    /// If the action is not one that the model is told of.
    #[must_use]
    pub fn foresee(&self, action: &[f32]) -> Vec<f32> {
        tch::no_grad(|| self.pictured(&self.loaded.model.imagine(&self.belief, &self.told(action))))
    }

    /// Eyes open: `action` led to `frame`, `[H, W, C]` bytes.
    ///
    /// # Panics
    /// If the action is not one that the model is told of, or the frame has another length.
    pub fn observe(&mut self, action: &[f32], frame: &[u8]) {
        self.belief = tch::no_grad(|| self.loaded.model.observe(&self.belief, &self.told(action), &self.seen(frame)));
    }

    /// Eyes shut: what it believes is in view after `action`, `[H, W, C]`, not clamped; from then on it believes that.
    ///
    /// # Panics
    /// If the action is not one that the model is told of.
    pub fn imagine(&mut self, action: &[f32]) -> Vec<f32> {
        tch::no_grad(|| {
            self.belief = self.loaded.model.imagine(&self.belief, &self.told(action));
            self.pictured(&self.belief)
        })
    }

    /// How many numbers an action is, to the model.
    fn numbers(&self) -> i64 {
        match self.config.actions() {
            Actions::Vector(numbers) | Actions::Choice(numbers) => numbers,
        }
    }

    /// An action as an env takes it, as the model is told of it: `[1, A]`.
    fn told(&self, action: &[f32]) -> Tensor {
        let numbers = match self.config.actions() {
            Actions::Vector(_) => Tensor::from_slice(action),
            Actions::Choice(n) => Tensor::from(action[0] as i64).one_hot(n).to_kind(Kind::Float),
        };
        numbers.to_device(self.device).view([1, self.numbers()])
    }

    /// A frame of bytes as the model sees it: `[1, C, H, W]`, 0 to 1.
    fn seen(&self, frame: &[u8]) -> Tensor {
        let [side, channels] = self.config.frame();
        let frame = Tensor::from_slice(frame).view([1, side, side, channels]);
        frame.to_device(self.device).permute([0, 3, 1, 2]).to_kind(Kind::Float).contiguous() / 255.0
    }

    /// `[H, W, C]`.
    fn pictured(&self, belief: &Belief) -> Vec<f32> {
        let picture = self.loaded.model.picture(belief).permute([0, 2, 3, 1]); // [1, H, W, C]
        let picture = picture.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut numbers = vec![0.0; picture.numel()];
        picture.copy_data(&mut numbers, picture.numel());
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belief::{Clip, roll_out};
    use crate::flowm::FlowmConfig;
    use crate::flowm3d::{Flowm3dConfig, Mixing};
    use crate::train::{RunConfig, TrainConfig};
    use simulators::rng::Seed;

    fn onlooker(model: WorldModelConfig) -> Onlooker {
        let config = RunConfig { seed: Seed(1), model: model.clone(), train: TrainConfig::default() };
        let loaded = Loaded::fresh(&config, Device::Cpu);
        let belief = loaded.model.start(1);
        Onlooker { loaded, config: model, device: Device::Cpu, belief }
    }

    /// Frames of bytes, each `[H, W, C]`.
    fn frames(count: usize, len: usize) -> Vec<Vec<u8>> {
        (0..count).map(|t| (0..len).map(|i| ((i * 37 + t * 91) % 256) as u8).collect()).collect()
    }

    /// Frames and actions as the benchmark hands them over.
    fn clip(onlooker: &Onlooker, frames: &[Vec<u8>], actions: &[Vec<f32>], context: i64) -> Clip {
        let seen: Vec<Tensor> = frames.iter().map(|frame| onlooker.seen(frame)).collect();
        let still = Tensor::zeros([1, onlooker.numbers()], (Kind::Float, Device::Cpu));
        let told = std::iter::once(still).chain(actions.iter().map(|action| onlooker.told(action)));
        Clip { frames: Tensor::stack(&seen, 1), actions: Tensor::stack(&told.collect::<Vec<_>>(), 1), context }
    }

    /// It imagines what the memory benchmark has models imagine, and foresees what it then imagines.
    #[test]
    fn an_onlooker_imagines_what_the_benchmark_asks_for() {
        let flowm = FlowmConfig { hidden: 4, world: 9, window: 6, v_range: 1, ..Default::default() };
        let depths = Flowm3dConfig { encoder_depth: 1, decoder_depth: 1, mixing: Mixing::None, ..Default::default() };
        let flowm3d = Flowm3dConfig { window: 16, patch: 8, map_side: 5, hidden: 12, heads: 2, ..depths };
        let cases = [
            (WorldModelConfig::Flowm(flowm), vec![vec![1.0, -2.0], vec![0.0, 1.0], vec![-1.0, 0.0], vec![2.0, 2.0]]),
            (WorldModelConfig::Flowm3d(flowm3d), vec![vec![2.0], vec![0.0], vec![4.0], vec![1.0]]),
        ];
        for (model, actions) in cases {
            let mut onlooker = onlooker(model);
            let [side, channels] = onlooker.config().frame();
            let frames = frames(5, (side * side * channels) as usize);
            let rolled = tch::no_grad(|| roll_out(&*onlooker.loaded.model, &clip(&onlooker, &frames, &actions, 3)));
            onlooker.begin(&frames[0]);
            for t in 1..3 {
                onlooker.observe(&actions[t - 1], &frames[t]);
            }
            for t in 3..5 {
                let foreseen = onlooker.foresee(&actions[t - 1]);
                let imagined = onlooker.imagine(&actions[t - 1]);
                assert!(foreseen == imagined, "foreseeing changes no belief");
                let expected = rolled.select(1, t as i64 - 3).permute([0, 2, 3, 1]).contiguous().flatten(0, -1);
                let apart = (Tensor::from_slice(&imagined) - expected).abs().max().double_value(&[]);
                assert!(apart < 1e-6, "{apart} at step {t}");
            }
        }
    }

    #[test]
    fn an_onlooker_that_begins_again_remembers_nothing() {
        let flowm = FlowmConfig { hidden: 4, world: 9, window: 6, v_range: 1, ..Default::default() };
        let mut onlooker = onlooker(WorldModelConfig::Flowm(flowm));
        let frames = frames(2, 36);
        onlooker.begin(&frames[0]);
        let first = onlooker.imagine(&[1.0, 1.0]);
        onlooker.observe(&[3.0, 0.0], &frames[1]);
        onlooker.begin(&frames[0]);
        assert!(onlooker.imagine(&[1.0, 1.0]) == first);
    }
}
