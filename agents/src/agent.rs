//! Actor and critics of a run, with their weights.

use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, nn};
use world_models::checkpoint::Named;
use world_models::mlp::{Mlps, Start};

use crate::actor::Actor;
use crate::networks::{ActorConfig, CriticConfig};

/// What is trained.
pub(crate) struct Agent {
    pub actor: Actor,
    pub critic: Mlps,
    /// What the values of the objective and of the critics' targets come from; without it, from the critics themselves.
    pub target: Option<Mlps>,
    pub actor_weights: nn::VarStore,
    pub critic_weights: nn::VarStore,
    pub target_weights: nn::VarStore,
}

impl Agent {
    /// Fresh ones, for `inputs` observed numbers and `actions`.
    pub fn new(actor: &ActorConfig, critic: &CriticConfig, seed: Seed, [inputs, actions]: [i64; 2]) -> Self {
        let [actor_weights, critic_weights, target_weights] = std::array::from_fn(|_| nn::VarStore::new(Device::Cpu));
        let rng = &mut stream(seed, Purpose::Weights, 0);
        let actor = Actor::new(&(actor_weights.root() / "actor"), actor, inputs, actions, rng);
        let critics = |path: nn::Path<'_>| {
            // The target begins as the critics do.
            let rng = &mut stream(seed, Purpose::Weights, 1);
            Mlps::new(&path, critic.count, &critic.shape(inputs), Start::Orthogonal, rng)
        };
        let target = critic.target_stays.map(|_| critics(target_weights.root() / "target"));
        let critic = critics(critic_weights.root() / "critic");
        Self { actor, critic, target, actor_weights, critic_weights, target_weights }
    }

    /// All weights by name; they share memory with the networks.
    pub fn model(&self) -> Named {
        let all = [&self.actor_weights, &self.critic_weights, &self.target_weights];
        all.into_iter().flat_map(nn::VarStore::variables).collect()
    }

    /// What values come from.
    pub fn judges(&self) -> &Mlps {
        self.target.as_ref().unwrap_or(&self.critic)
    }

    /// Moves the target to the critics, but for the share of it that stays.
    pub fn follow(&self, stays: f64) {
        let of = |weights: &nn::VarStore| weights.variables().into_iter().collect::<Named>();
        // Both have the same tensors, in the same order.
        for (mut target, critic) in of(&self.target_weights).into_values().zip(of(&self.critic_weights).into_values()) {
            let _ = tch::no_grad(|| target.lerp_(&critic, 1.0 - stays));
        }
    }
}
