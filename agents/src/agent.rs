//! Actor and critics of a run, with their weights, optimisers and updates.

use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Device, Tensor, nn};
use world_models::adam::Adam;
use world_models::checkpoint::Named;
use world_models::mlp::{Mlps, Start};

use crate::actor::Actor;
use crate::critic;
use crate::learner::{NotFinite, Report};
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
    pub actor_adam: Adam,
    pub critic_adam: Adam,
}

impl Agent {
    /// Fresh ones, for `inputs` observed numbers and `actions`.
    pub fn new(of_actor: &ActorConfig, of_critic: &CriticConfig, seed: Seed, [inputs, actions]: [i64; 2]) -> Self {
        let [actor_weights, critic_weights, target_weights] = std::array::from_fn(|_| nn::VarStore::new(Device::Cpu));
        let rng = &mut stream(seed, Purpose::Weights, 0);
        let actor = Actor::new(&(actor_weights.root() / "actor"), of_actor, inputs, actions, rng);
        let critics = |path: nn::Path<'_>| {
            // The target begins as the critics do.
            let rng = &mut stream(seed, Purpose::Weights, 1);
            Mlps::new(&path, of_critic.count, &of_critic.shape(inputs), Start::Orthogonal, rng)
        };
        let target = of_critic.target_stays.map(|_| critics(target_weights.root() / "target"));
        let critic = critics(critic_weights.root() / "critic");
        let actor_adam = Adam::new(&actor_weights, of_actor.adam);
        let critic_adam = Adam::new(&critic_weights, of_critic.adam);
        Self { actor, critic, target, actor_weights, critic_weights, target_weights, actor_adam, critic_adam }
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

    /// All moments of the optimisers by name.
    pub fn optimizer(&self) -> Named {
        [&self.actor_adam, &self.critic_adam].into_iter().flat_map(Adam::state).collect()
    }

    /// Updates done, of actor and critics.
    pub fn updates(&self) -> [u64; 2] {
        [self.actor_adam.updates(), self.critic_adam.updates()]
    }

    /// Sets how many were done.
    pub fn set_updates(&mut self, [actor, critic]: [u64; 2]) {
        self.actor_adam.set_updates(actor);
        self.critic_adam.set_updates(critic);
    }

    /// The actor's update by the gradient that it has, of a `loss`.
    pub fn train_actor(&mut self, loss: f64, rate: f64, report: &mut Report) -> Result<(), NotFinite> {
        (report.actor_loss, report.actor_gradient) = (loss, self.actor_adam.gradient_norm());
        if !loss.is_finite() {
            return Err(NotFinite { what: "the actor's loss", value: loss });
        }
        if !report.actor_gradient.is_finite() {
            return Err(NotFinite { what: "the norm of the actor's gradient", value: report.actor_gradient });
        }
        self.actor_adam.step(rate, report.actor_gradient);
        self.actor.keep_exploring();
        Ok(())
    }

    /// The critics' updates to `targets` `[n]` of `inputs`, `[n, in]`.
    pub fn train_critics(
        &mut self,
        config: &CriticConfig,
        rate: f64,
        [inputs, targets]: [&Tensor; 2],
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<(), NotFinite> {
        let (loss, gradient) = critic::fit(&self.critic, &mut self.critic_adam, config, rate, inputs, targets, rng);
        (report.critic_loss, report.critic_gradient) = (loss, gradient);
        if let Some(stays) = config.target_stays {
            self.follow(stays);
        }
        let what = "the critics' loss or the norm of its gradient";
        if loss.is_finite() && gradient.is_finite() { Ok(()) } else { Err(NotFinite { what, value: loss }) }
    }
}
