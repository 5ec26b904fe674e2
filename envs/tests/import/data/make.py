"""Writes a small file of the layout of TD-MPC2's data, by the tensordict that is installed: make.py OUT FIRST EPISODES.

counter_tensordict_0_1.pt  is of tensordict 0.1.2, torch 2.11.0:   make.py counter_tensordict_0_1.pt 0 4
counter_tensordict_0_15.pt is of tensordict 0.15.3, torch 2.11.0:  make.py counter_tensordict_0_15.pt 4 3

Episode e of task e % 2 counts: observation t is (100 e + t, t / 4 in task 1, 0); the action that led to it is (t / 8 - e, e + t / 16
in task 1), and its reward 10 e + t.
"""

import math
import sys

import torch
from tensordict import TensorDict

ENTRIES = 4

out, first, episodes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# Two episodes more, of which nothing may be seen: a slice is saved with the whole of the memory that it is cut from.
count = episodes + 2
e = torch.arange(first - 1, first - 1 + count, dtype=torch.float32)[:, None].expand(count, ENTRIES)
t = torch.arange(ENTRIES, dtype=torch.float32)[None, :].expand(count, ENTRIES)
second = e % 2 == 1
zero = torch.zeros(count, ENTRIES)
obs = torch.stack([100 * e + t, torch.where(second, t / 4, zero), zero], dim=-1)
action = torch.stack([t / 8 - e, torch.where(second, e + t / 16, zero)], dim=-1)
reward = 10 * e + t
action[:, 0] = math.nan
reward[:, 0] = math.nan
task = (e % 2).to(torch.int32)
data = {"obs": obs, "action": action, "reward": reward, "task": task, "episode": (e - first).to(torch.int64)}
torch.save(TensorDict(data, batch_size=(count, ENTRIES))[1:-1], out)
