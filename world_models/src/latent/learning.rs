//! The training loss and its gradients. Sequences do not know of each other until gradients are summed, so each share of them goes all the
//! way, forth and back, on one thread.

use tch::{Kind, Tensor};

use super::dynamics;
use super::{Dynamics, FlowConfig, LatentModel, Losses, Ready, Sequences, Starts, sizes};
use crate::mlp::Numbers;
use crate::mlp::passes::{Gradients, Keeps, shards, side_by_side};

/// What a share of the sequences gives.
struct Found {
    losses: Losses,
    encoder: Gradients,
    reward: Gradients,
    decoder: Option<Gradients>,
    /// Of each network, in their order; twice of a flow's: through the steps, and through the velocities that are matched.
    dynamics: Vec<(usize, Gradients)>,
}

impl LatentModel {
    /// Adds the gradients of the training loss, `(dynamics + reward + decoding) / T`, to those of the parameters. Where dynamics are a
    /// flow, `times` `[T, B]` are those at which velocities are matched.
    ///
    /// Targets of latents are what the encoder makes of the observations, without gradient; the rollout begins with what it
    /// makes of the first, with gradient, and takes the recorded actions.
    ///
    /// # Panics
    /// If a shape does not fit.
    #[expect(clippy::must_use_candidate, reason = "it is called for the gradients")]
    pub fn learn(&self, batch: &Sequences, gamma: f64, numbers: Numbers, times: Option<&Tensor>) -> Losses {
        tch::no_grad(|| {
            let [_, rows, _] = sizes(&batch.actions);
            let shares = shards(rows);
            let (ready, kind) = (self.ready(numbers), self.config.dynamics);
            let items = batch.shares(shares, times).into_iter();
            let items = items.map(|(batch, times)| (ready.on_one_thread(), batch, times)).collect();
            let all = side_by_side(items, |(ready, batch, times)| {
                let share = sizes(&batch.actions)[1] as f64 / rows as f64;
                ready.learn(kind, &batch, gamma, times.as_ref(), share)
            });
            let mut total = Losses { dynamics: 0.0, reward: 0.0, decoding: 0.0 };
            let (mut encoder, mut reward, mut decoder) = (Vec::new(), Vec::new(), Vec::new());
            let mut dynamics: Vec<Vec<Gradients>> = self.dynamics.iter().map(|_| Vec::new()).collect();
            for found in all {
                total.dynamics += found.losses.dynamics;
                total.reward += found.losses.reward;
                total.decoding += found.losses.decoding;
                encoder.push(found.encoder);
                reward.push(found.reward);
                decoder.extend(found.decoder);
                found.dynamics.into_iter().for_each(|(network, gradients)| dynamics[network].push(gradients));
            }
            self.encoder.add(&Gradients::of_shares(encoder));
            self.reward.add(&Gradients::of_shares(reward));
            if let Some(network) = &self.decoder {
                network.add(&Gradients::of_shares(decoder));
            }
            for (network, gradients) in self.dynamics.iter().zip(dynamics) {
                network.add(&Gradients::of_shares(gradients));
            }
            total
        })
    }
}

impl Sequences {
    /// So many shares of the sequences, and of `times` `[T, B]`.
    fn shares(&self, count: i64, times: Option<&Tensor>) -> Vec<(Self, Option<Tensor>)> {
        let split = |column: &Tensor| column.tensor_split(count, 1).into_iter().map(|part| part.contiguous());
        let mut times = times.map(split);
        split(&self.observations)
            .zip(split(&self.actions).zip(split(&self.rewards)))
            .map(|(observations, (actions, rewards))| {
                (Self { observations, actions, rewards }, times.as_mut().and_then(Iterator::next))
            })
            .collect()
    }
}

impl Ready {
    /// Losses and gradients of a `share` of all sequences.
    fn learn(&self, kind: Dynamics, batch: &Sequences, gamma: f64, times: Option<&Tensor>, share: f64) -> Found {
        let [horizon, rows, _] = sizes(&batch.actions);
        let observations = self.normalised(&batch.observations);
        let (first, mut encoder_run) = self.encoder.run(&observations.narrow(0, 0, 1));
        let targets =
            self.encoder.keeping(Keeps::Nothing).run(&observations.narrow(0, 1, horizon).flatten(0, 1).unsqueeze(0)).0;
        let targets = targets.view([horizon, rows, -1]);
        let mut latents = vec![first.squeeze_dim(0)];
        let mut steps = Vec::new();
        for t in 0..horizon {
            let (next, step) = self.dynamics.step(&latents[t as usize], &batch.actions.get(t));
            latents.push(next);
            steps.push(step);
        }
        let latents = Tensor::stack(&latents, 0);
        let width = latents.size()[2];
        let discounts: Vec<f32> = (0..horizon).map(|t| gamma.powi(t as i32) as f32).collect();
        let discounts = Tensor::from_slice(&discounts).view([-1, 1, 1]);
        let over = horizon as f64;

        let inputs = Tensor::cat(&[&latents.narrow(0, 0, horizon), &batch.actions], 2).flatten(0, 1);
        let (outputs, mut reward_run) = self.reward.outputs(&inputs);
        let outputs = outputs.view([horizon, rows, -1]);
        let (reward, bar) = self.reward.head().loss(&outputs, &batch.rewards, &discounts);
        let bar = (bar * (share / over)).flatten(0, 1).unsqueeze(0);
        let bar = reward_run.pull_back(&bar, true).expect("it was wanted");
        let of_latents = bar.view([horizon, rows, -1]).narrow(2, 0, width);

        let matched = if let Dynamics::Flow(flow) = kind {
            let times = times.expect("times to match velocities at");
            Matched::flow(self, flow, [&latents, &targets, &batch.actions, times], &discounts, share)
        } else {
            Matched::latents(&latents, &targets, &discounts, share)
        };
        let decoded = self.decoder.as_ref().map(|passes| {
            let (found, mut run) = passes.run(&latents.flatten(0, 1).unsqueeze(0));
            let error = found.view_as(&observations) - &observations;
            let numbers = error.numel() as f64 / share;
            let loss = error.square().sum(Kind::Double).double_value(&[]) / numbers;
            let bar = error * (2.0 / (numbers * over));
            let bar = run.pull_back(&bar.flatten(0, 1).unsqueeze(0), true).expect("it was wanted");
            (loss, bar.view_as(&latents), run.gradients())
        });
        let mut onward = latents.get(0).zeros_like();
        if let Some((_, bars, _)) = &decoded {
            let _ = onward.g_add_(&bars.get(horizon));
        }
        for (t, step) in steps.iter_mut().enumerate().rev() {
            if let Some(ends) = &matched.ends {
                let _ = onward.g_add_(&ends.get(t as i64));
            }
            onward = step.pull_back(&onward).0;
            let _ = onward.g_add_(&of_latents.get(t as i64));
            if let Some((_, bars, _)) = &decoded {
                let _ = onward.g_add_(&bars.get(t as i64));
            }
            if let Some(starts) = &matched.starts {
                let _ = onward.g_add_(&starts.get(t as i64));
            }
        }
        let _ = encoder_run.pull_back(&onward.unsqueeze(0), false);
        let (decoding, decoder) = decoded.map_or((0.0, None), |(loss, _, gradients)| (loss, Some(gradients)));
        Found {
            losses: Losses { dynamics: matched.loss, reward: reward * share, decoding },
            encoder: encoder_run.gradients(),
            reward: reward_run.gradients(),
            decoder,
            dynamics: dynamics::gradients(steps)
                .into_iter()
                .enumerate()
                .chain(matched.gradients.map(|gradients| (0, gradients)))
                .collect(),
        }
    }
}

/// The loss of the dynamics, and its gradients.
struct Matched {
    loss: f64,
    /// With respect to what each step led to, `[T, B, L]`.
    ends: Option<Tensor>,
    /// With respect to what each step began with, `[T, B, L]`.
    starts: Option<Tensor>,
    /// Of the parameters, where they do not come through the steps.
    gradients: Option<Gradients>,
}

impl Matched {
    /// `Σ γᵗ mean (z[t+1] - ẑ[t+1])²`.
    fn latents(latents: &Tensor, targets: &Tensor, discounts: &Tensor, share: f64) -> Self {
        let [horizon, rows, width] = sizes(targets);
        let error = latents.narrow(0, 1, horizon) - targets;
        let each = (rows * width) as f64 / share;
        let loss = (error.square() * discounts).sum(Kind::Double).double_value(&[]) / each;
        let ends = error * discounts * (2.0 / (each * horizon as f64));
        Self { loss, ends: Some(ends), starts: None, gradients: None }
    }

    /// `Σ γᵗ mean (v(z_τ, a, τ) - (ẑ[t+1] - z[t]))²` with `z_τ = (1 - τ) z[t] + τ ẑ[t+1]` (Lipman et al. 2023, eq. 23, without
    /// noise).
    fn flow(ready: &Ready, flow: FlowConfig, columns: [&Tensor; 4], discounts: &Tensor, share: f64) -> Self {
        let [latents, targets, actions, times] = columns;
        let [horizon, rows, width] = sizes(targets);
        let first = latents.narrow(0, 0, 1);
        let starts = match flow.starts {
            Starts::Rollout => latents.narrow(0, 0, horizon),
            Starts::TeacherForced => Tensor::cat(&[first, targets.narrow(0, 0, horizon - 1)], 0),
        };
        let times = times.unsqueeze(-1);
        let between = starts.lerp_tensor(targets, &times);
        let inputs = Tensor::cat(&[&between, actions, &times], 2).flatten(0, 1).unsqueeze(0);
        let (velocities, mut run) = ready.dynamics.velocities().run(&inputs);
        let error = velocities.view([horizon, rows, width]) - (targets - starts);
        let each = (rows * width) as f64 / share;
        let loss = (error.square() * discounts).sum(Kind::Double).double_value(&[]) / each;
        let bar = error * discounts * (2.0 / (each * horizon as f64));
        let of_inputs = run.pull_back(&bar.flatten(0, 1).unsqueeze(0), true).expect("it was wanted");
        let of_between = of_inputs.narrow(2, 0, width).view([horizon, rows, width]);
        // A start moves the point in between, and the velocity that is asked for.
        let of_starts: Tensor = of_between * (1.0 - times) + bar;
        let starts = match flow.starts {
            Starts::Rollout => of_starts,
            Starts::TeacherForced => {
                let zeros = of_starts.narrow(0, 1, horizon - 1).zeros_like();
                Tensor::cat(&[of_starts.narrow(0, 0, 1), zeros], 0)
            }
        };
        Self { loss, ends: None, starts: Some(starts), gradients: Some(run.gradients()) }
    }
}
