#!/usr/bin/env python3
"""Updates of PWM in plain PyTorch: what `mindseye bench pwm` compares itself with.

One network call after another, step by step, in single precision and through autograd, at the published sizes: latents of
512, 256 rows, windows of 16. Observations are noise; speed does not depend on them. Needs the torch package and nothing else.

    python3 benches/pwm_updates_pytorch.py --dynamics mlp
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn.functional import softmax

OBSERVED, ACTIONS, LATENT, GAMMA, LAMBDA = 37, 8, 512, 0.99, 0.95


class SimNorm(nn.Module):
    def forward(self, x):
        return softmax(x.unflatten(-1, (-1, 8)), dim=-1).flatten(-2)


def norm_first(sizes, last):
    """Linear, norm, Mish; at the end linear, and whatever `last` has."""
    layers = []
    for inputs, outputs in zip(sizes[:-2], sizes[1:-1]):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Mish()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]), *last)


def activation_first(sizes):
    layers = []
    for inputs, outputs in zip(sizes[:-2], sizes[1:-1]):
        layers += [nn.Linear(inputs, outputs), nn.Mish(), nn.LayerNorm(outputs)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Model(nn.Module):
    def __init__(self, substeps):
        super().__init__()
        latent = [nn.LayerNorm(LATENT), SimNorm()]
        self.encoder = norm_first([OBSERVED, 256, LATENT], [nn.LayerNorm(LATENT), SimNorm()])
        time = 1 if substeps else 0
        self.dynamics = norm_first([LATENT + ACTIONS + time, 512, 512, LATENT], [] if substeps else latent)
        self.reward = norm_first([LATENT + ACTIONS, 512, 512, 1], [])
        self.substeps = substeps

    def velocity(self, z, action, tau):
        return self.dynamics(torch.cat([z, action, tau], dim=-1))

    def step(self, z, action):
        if not self.substeps:
            return self.dynamics(torch.cat([z, action], dim=-1))
        width = 1 / self.substeps
        for k in range(self.substeps):
            first = self.velocity(z, action, torch.full_like(z[:, :1], k * width))
            second = self.velocity(z + width * first, action, torch.full_like(z[:, :1], (k + 1) * width))
            z = z + width / 2 * (first + second)
        return z

    def rewards(self, z, action):
        return self.reward(torch.cat([z, action], dim=-1))


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = activation_first([LATENT, 400, 200, 100, ACTIONS])
        self.log_std = nn.Parameter(torch.full((ACTIONS,), -1.0))

    def forward(self, z):
        mean = self.mean(z)
        return torch.tanh(mean + self.log_std.exp() * torch.randn_like(mean))


class Pwm:
    def __init__(self, substeps, rows, horizon):
        self.rows, self.horizon = rows, horizon
        self.model, self.actor = Model(substeps), Actor()
        self.critics = nn.ModuleList(activation_first([LATENT, 400, 200, 1]) for _ in range(3))
        adam = torch.optim.Adam
        self.of_model = adam(self.model.parameters(), lr=3e-4)
        self.of_actor = adam(self.actor.parameters(), lr=5e-4, betas=(0.7, 0.95))
        self.of_critics = adam(self.critics.parameters(), lr=5e-4, betas=(0.7, 0.95))
        self.observations = torch.randn(horizon + 1, rows, OBSERVED)
        self.actions = torch.rand(horizon, rows, ACTIONS) * 2 - 1
        self.real = torch.randn(horizon, rows, 1)

    def value(self, z):
        return torch.stack([critic(z) for critic in self.critics]).amin(0)

    def train_model(self):
        z, dynamics, rewards = self.model.encoder(self.observations[0]), 0.0, []
        with torch.no_grad():
            targets = self.model.encoder(self.observations[1:])
        for t in range(self.horizon):
            rewards.append(self.model.rewards(z, self.actions[t]))
            after = self.model.step(z, self.actions[t])
            if self.model.substeps:
                tau = torch.rand_like(z[:, :1])
                between = (1 - tau) * z + tau * targets[t]
                error = self.model.velocity(between, self.actions[t], tau) - (targets[t] - z)
            else:
                error = after - targets[t]
            dynamics = dynamics + GAMMA**t * error.square().mean()
            z = after
        discounts = GAMMA ** torch.arange(self.horizon).view(-1, 1, 1)
        reward = (discounts * (torch.stack(rewards) - self.real).square()).mean()
        self.of_model.zero_grad()
        ((dynamics + reward) / self.horizon).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 20.0)
        self.of_model.step()

    def imagine(self):
        z, latents, rewards, values, loss, discount = self.model.encoder(self.observations[0]).detach(), [], [], [], 0.0, 1.0
        for _ in range(self.horizon):
            latents.append(z.detach())
            action = self.actor(z.detach())
            rewards.append(self.model.rewards(z, action))
            z = self.model.step(z, action)
            values.append(self.value(z))
            loss = loss - discount * rewards[-1]
            discount *= GAMMA
        return latents, rewards, values, (loss - discount * values[-1]).mean()

    def train_actor(self):
        latents, rewards, values, loss = self.imagine()
        self.of_actor.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), 1.0)
        self.of_actor.step()
        return latents, [r.detach() for r in rewards], [v.detach() for v in values]

    def train_policy(self):
        latents, rewards, values = self.train_actor()
        target, targets = values[-1], []
        for reward, value in zip(reversed(rewards), reversed(values)):
            target = reward + GAMMA * ((1 - LAMBDA) * value + LAMBDA * target)
            targets.append(target)
        latents, targets = torch.cat(latents), torch.cat(targets[::-1])
        for _ in range(8):
            for z, goal in zip(latents.chunk(4), targets.chunk(4)):
                loss = torch.stack([(critic(z) - goal).square().mean() for critic in self.critics]).mean()
                self.of_critics.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.critics.parameters(), 100.0)
                self.of_critics.step()

    @torch.no_grad()
    def roll_out(self):
        z = self.model.encoder(self.observations[0])
        for _ in range(self.horizon):
            action = self.actor(z)
            self.model.rewards(z, action)
            z = self.model.step(z, action)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynamics", choices=["mlp", "flow"], default="mlp", help="flow: Heun, 2 substeps (mlp)")
    parser.add_argument("--rows", type=int, default=256, help="(256)")
    parser.add_argument("--horizon", type=int, default=16, help="(16)")
    parser.add_argument("--threads", type=int, help="of torch (as many as it takes itself)")
    parser.add_argument("--warmup", type=int, default=1, help="calls before the clock starts (1)")
    parser.add_argument("--calls", type=int, default=5, help="measured calls, of which the median counts (5)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    pwm = Pwm(2 if args.dynamics == "flow" else 0, args.rows, args.horizon)
    found = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    for name, work in [
        ("model_update", pwm.train_model),
        ("actor_update", pwm.train_actor),
        ("policy_update", pwm.train_policy),
        ("rollout", pwm.roll_out),
    ]:
        seconds = []
        for call in range(args.warmup + args.calls):
            begin = time.perf_counter()
            work()
            if call >= args.warmup:
                seconds.append(time.perf_counter() - begin)
        found[name] = statistics.median(seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
