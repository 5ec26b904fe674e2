"""stable-baselines3: is a NaN from the environment noticed, and do the weights survive it (X12).

    python -m venv venv && venv/bin/pip install torch==2.11.0 stable-baselines3==2.9.2
    venv/bin/python benches/anchors/nan_sb3.py

PPO, DQN and SAC learn on a small environment that returns one NaN: in the observation or the reward of step 310, or in
the observation that ends an episode (step 300). Each is run as it comes, with `VecCheckNan` (which warns) and with
`VecCheckNan(raise_exception=True)`. Prints one line of JSON for each case.
"""

import tempfile
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan

import killed

STEPS = 1024
NAN_IN_STEP = {"observation": 310, "last observation of an episode": 300, "reward": 310}


class Walk(gymnasium.Env):
    """A walk on a line in episodes of 50 steps, with one NaN in its life."""

    def __init__(self, where, continuous):
        self.where, self.life, self.steps = where, 0, 0
        self.position = np.zeros(2, dtype=np.float32)
        self.observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
        self.action_space = (
            gymnasium.spaces.Box(-1, 1, (1,), np.float32) if continuous else gymnasium.spaces.Discrete(2)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.position = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.position.copy(), {}

    def step(self, action):
        self.life, self.steps = self.life + 1, self.steps + 1
        self.position[0] += float(np.asarray(action).reshape(-1)[0]) - 0.5
        observation, reward = self.position.copy(), -abs(float(self.position[0]))
        if self.life == NAN_IN_STEP[self.where]:
            if self.where == "reward":
                reward = float("nan")
            else:
                observation[0] = np.nan
        return observation, reward, False, self.steps == 50, {}


def build(algorithm, env):
    if algorithm is PPO:
        return PPO("MlpPolicy", env, n_steps=128, batch_size=64, seed=0, device="cpu")
    return algorithm("MlpPolicy", env, learning_starts=100, batch_size=32, buffer_size=2000, seed=0, device="cpu")


def learn(algorithm, where, check):
    def attempt():
        torch.set_num_threads(1)
        env = DummyVecEnv([lambda: Walk(where, algorithm is SAC)])
        if check == "VecCheckNan":
            env = VecCheckNan(env)
        elif check == "VecCheckNan(raise_exception=True)":
            env = VecCheckNan(env, raise_exception=True)
        model = build(algorithm, env)
        error = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                model.learn(STEPS)
            except Exception as problem:
                error = f"{type(problem).__name__}: {str(problem)[:100]}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.zip"
            model.save(path)
            saved = all(
                bool(torch.isfinite(value).all())
                for value in algorithm.load(path, device="cpu").policy.state_dict().values()
            )
        return {
            "raised": error,
            "raised_at_step": model.num_timesteps if error else None,
            "warned": sorted({str(item.message)[:70] for item in caught if "nan" in str(item.message).lower()}),
            "steps_done": model.num_timesteps,
            "saved_weights_finite": saved,
        }

    return killed.judge(attempt)


def main():
    about = killed.measured("stable-baselines3", "stable-baselines3", "torch", "gymnasium")
    for algorithm in (PPO, DQN, SAC):
        for where, step in NAN_IN_STEP.items():
            for check in ("as it comes", "VecCheckNan", "VecCheckNan(raise_exception=True)"):
                what = f"{algorithm.__name__}, NaN in {where}, step {step} of {STEPS}, {check}"
                killed.say(about, "X12", what, learn(algorithm, where, check))


if __name__ == "__main__":
    main()
