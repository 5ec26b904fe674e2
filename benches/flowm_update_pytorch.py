#!/usr/bin/env python3
"""One training update of FloWM 2D in plain PyTorch: what `mindseye bench flowm` compares itself with.

Every velocity channel is rolled by its velocity and every sample against its action, at every step, in single precision
and through autograd, as the published code loops: write, then read, the last frame of the context written twice. Frames
are noise; speed does not depend on them. Needs the torch package and nothing else.

    python3 benches/flowm_update_pytorch.py --velocity-range 1 --hidden 32 --batch 8 --context 50 --horizon 20
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn


def circular(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="circular", bias=False)


class Flowm(nn.Module):
    """Shapes: frames [B, 1, w, w], actions [B, 2] as (dx, dy), state [B, V, C, W, W]."""

    def __init__(self, hidden, velocity_range, world, window):
        super().__init__()
        reach = range(-velocity_range, velocity_range + 1)
        self.velocities = [(vx, vy) for vx in reach for vy in reach]
        self.hidden, self.world, self.window = hidden, world, window
        self.see = circular(1, hidden)
        self.recur = circular(hidden, hidden)
        self.decode = nn.Sequential(circular(hidden, hidden), nn.ReLU(), circular(hidden, 1))

    def step(self, state, frame, action):
        # The map flows: channel v by its own velocity; then all of it moves against the agent, sample by sample.
        state = torch.stack(
            [torch.roll(state[:, i], (vy, vx), dims=(2, 3)) for i, (vx, vy) in enumerate(self.velocities)], dim=1
        )
        state = torch.stack(
            [torch.roll(s, (-int(dy), -int(dx)), dims=(2, 3)) for s, (dx, dy) in zip(state, action.tolist())]
        )
        seen = state.new_zeros(frame.shape[0], self.hidden, self.world, self.world)
        seen[:, :, : self.window, : self.window] = self.see(frame)
        return torch.relu(seen.unsqueeze(1) + self.recur(state.flatten(0, 1)).view_as(state))

    def forward(self, frames, actions, context):
        """Frames [B, T, 1, w, w] of which `context` are seen; the predictions of the rest, [B, T - context, 1, w, w]."""
        batch, steps = frames.shape[:2]
        state = frames.new_zeros(batch, len(self.velocities), self.hidden, self.world, self.world)
        for t in range(context):
            state = self.step(state, frames[:, t], actions[:, t])
        frame, predicted = frames[:, context - 1], []
        for t in range(context, steps):
            state = self.step(state, frame, actions[:, t])
            frame = self.decode(state[..., : self.window, : self.window].amax(dim=1))
            predicted.append(frame)
        return torch.stack(predicted, dim=1)


def update(model, optimizer, frames, actions, context):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(frames, actions, context), frames[:, context:])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"velocity-range": 1, "hidden": 32, "batch": 8, "context": 50, "horizon": 20, "world": 50, "window": 32}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"({default})")
    parser.add_argument("--threads", type=int, help="of torch (as many as it takes itself)")
    parser.add_argument("--warmup", type=int, default=1, help="updates before the clock starts (1)")
    parser.add_argument("--updates", type=int, default=2, help="measured updates, of which the median counts (2)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Flowm(args.hidden, args.velocity_range, args.world, args.window)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    steps = args.context + args.horizon
    frames = torch.rand(args.batch, steps, 1, args.window, args.window)
    actions = torch.randint(-10, 11, (args.batch, steps, 2))
    seconds = []
    for i in range(args.warmup + args.updates):
        begin = time.perf_counter()
        loss = update(model, optimizer, frames, actions, args.context)
        if i >= args.warmup:
            seconds.append(time.perf_counter() - begin)
    print(
        json.dumps(
            {
                "seconds_per_update": statistics.median(seconds),
                "updates": args.updates,
                "loss": loss,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
