//! The reward head: what a network's outputs say of a reward, and how they are fitted.
//!
//! One output is the reward itself. Many are logits of bins that stand at equal distances in `symlog r = sign(r) ln(1 + |r|)`
//! (Hafner et al. 2023, §3; Hansen et al. 2024, §3.1): a reward lies between two bins, which share its probability.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use tch::{Device, Kind, Tensor};

use crate::mlp::passes::{Passes, Run};

/// How rewards are given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RewardHead {
    /// By one number.
    Scalar,
    /// By the logits of bins.
    TwoHot(TwoHot),
}

/// A reward as probabilities of bins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TwoHot {
    /// How many.
    pub bins: i64,
    /// The last one stands at it, the first at minus it, both in symlog.
    pub limit: f64,
    /// How the logits are fitted.
    pub loss: RewardLoss,
    /// What the mean of the bins is read as.
    pub scale: RewardScale,
}

/// How logits are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardLoss {
    /// The cross-entropy of the two bins that a reward lies between.
    CrossEntropy,
    /// The squared error of every logit against the reward, as PWM's published code trains them. All begin alike, have the same
    /// gradient and stay alike, so that the reward that is read is zero whatever happens.
    SquaredError,
}

/// What the mean of the bins is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardScale {
    /// As it is: the policy raises the sum of the symlog of rewards, as in PWM.
    Symlog,
    /// As the reward.
    Reward,
}

impl Default for TwoHot {
    fn default() -> Self {
        Self { bins: 101, limit: 10.0, loss: RewardLoss::CrossEntropy, scale: RewardScale::Symlog }
    }
}

impl RewardHead {
    /// Outputs of the network.
    #[must_use]
    pub fn outputs(self) -> i64 {
        match self {
            Self::Scalar => 1,
            Self::TwoHot(two_hot) => two_hot.bins,
        }
    }

    /// What every field may hold.
    #[must_use]
    pub fn limits(self) -> Vec<Limit> {
        match self {
            Self::Scalar => Vec::new(),
            Self::TwoHot(TwoHot { bins, limit, .. }) => {
                vec![Limit::whole("bins", bins.into(), 2..=1001), Limit::real("limit", limit, 0.1..=20.0)]
            }
        }
    }

    /// Rewards `[n]` of outputs `[n, out]`, and their gradient with respect to these.
    fn read(self, outputs: &Tensor) -> (Tensor, Tensor) {
        let Self::TwoHot(two_hot) = self else {
            return (outputs.squeeze_dim(-1), outputs.ones_like());
        };
        let (bins, shares) = (two_hot.places(), outputs.softmax(-1, Kind::Float));
        let mean = shares.matmul(&bins.unsqueeze(-1)); // [n, 1]
        let slope = shares * (bins - &mean);
        match two_hot.scale {
            RewardScale::Symlog => (mean.squeeze_dim(-1), slope),
            RewardScale::Reward => (symexp(&mean).squeeze_dim(-1), slope * mean.abs().exp()),
        }
    }

    /// The mean over everything of what outputs `[T, B, out]` lose against rewards `[T, B]`, step `t` weighed by `discounts`
    /// `[T, 1, 1]`, and its gradient with respect to the outputs.
    pub(super) fn loss(self, outputs: &Tensor, rewards: &Tensor, discounts: &Tensor) -> (f64, Tensor) {
        let rewards = rewards.unsqueeze(-1);
        if let Self::TwoHot(two_hot @ TwoHot { loss: RewardLoss::CrossEntropy, .. }) = self {
            let (shares, rows) = (two_hot.shares(&rewards), rewards.numel() as f64);
            let each = -(&shares * outputs.log_softmax(-1, Kind::Float));
            let loss = (each * discounts).sum(Kind::Double).double_value(&[]) / rows;
            return (loss, (outputs.softmax(-1, Kind::Float) - shares) * discounts / rows);
        }
        let error = outputs - rewards;
        let loss = (error.square() * discounts).mean(Kind::Double).double_value(&[]);
        let numbers = error.numel() as f64;
        (loss, error * discounts * (2.0 / numbers))
    }
}

impl TwoHot {
    /// Where the bins stand, `[bins]`.
    fn places(self) -> Tensor {
        Tensor::linspace(-self.limit, self.limit, self.bins, (Kind::Float, Device::Cpu))
    }

    /// Rewards `[.., 1]` as shares of the two bins that each lies between, `[.., bins]`; of one beyond the last bin, that has all.
    fn shares(self, rewards: &Tensor) -> Tensor {
        let width = 2.0 * self.limit / (self.bins - 1) as f64;
        let place = (symlog(rewards).clamp(-self.limit, self.limit) + self.limit) / width;
        let numbers = Tensor::arange(self.bins, (Kind::Float, Device::Cpu));
        let distance = (place - numbers).abs();
        (-distance + 1.0).clamp_min(0.0)
    }
}

fn symlog(x: &Tensor) -> Tensor {
    x.sign() * x.abs().log1p()
}

fn symexp(x: &Tensor) -> Tensor {
    x.sign() * x.abs().expm1()
}

/// The network of rewards, ready to be run.
pub struct Ready {
    head: RewardHead,
    passes: Passes,
}

/// What the way back through rewards needs.
pub struct Rewarded {
    run: Run,
    /// Of rewards with respect to outputs, `[n, out]`.
    slope: Tensor,
}

impl Ready {
    pub(super) fn new(head: RewardHead, passes: Passes) -> Self {
        Self { head, passes }
    }

    /// With what `change` makes of the passes.
    pub(super) fn with(&self, change: impl Fn(&Passes) -> Passes) -> Self {
        Self { head: self.head, passes: change(&self.passes) }
    }

    /// Rewards `[n]` of latents and actions, `[n, L + A]`, and what the way back needs.
    pub fn rewards(&self, inputs: &Tensor) -> (Tensor, Rewarded) {
        let (outputs, run) = self.outputs(inputs);
        let (rewards, slope) = tch::no_grad(|| self.head.read(&outputs));
        (rewards, Rewarded { run, slope })
    }

    /// Rewards `[n]` of latents and actions, `[n, L + A]`, as they were recorded, whatever of them a policy is to raise.
    pub fn as_recorded(&self, inputs: &Tensor) -> Tensor {
        let rewards = self.rewards(inputs).0;
        match self.head {
            RewardHead::TwoHot(TwoHot { scale: RewardScale::Symlog, .. }) => tch::no_grad(|| symexp(&rewards)),
            RewardHead::TwoHot(_) | RewardHead::Scalar => rewards,
        }
    }

    /// What the network gives, `[n, out]`.
    pub fn outputs(&self, inputs: &Tensor) -> (Tensor, Run) {
        let (outputs, run) = self.passes.run(&inputs.unsqueeze(0));
        (outputs.squeeze_dim(0), run)
    }

    pub(super) fn head(&self) -> RewardHead {
        self.head
    }
}

impl Rewarded {
    /// The gradient with respect to latents and actions, `[n, L + A]`, given that with respect to rewards, `[n]`.
    ///
    /// # Panics
    /// If the way back was gone already.
    pub fn pull_back(&mut self, bar: &Tensor) -> Tensor {
        let bar = bar.unsqueeze(-1) * &self.slope;
        self.run.pull_back(&bar.unsqueeze(0), true).expect("it was wanted").squeeze_dim(0)
    }
}
