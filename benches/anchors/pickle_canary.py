"""Which usual ways to load a checkpoint run code that the file brings along (X4).

    python -m venv venv && venv/bin/pip install torch==2.11.0 stable-baselines3==2.9.2 safetensors==0.8.0
    venv/bin/python benches/anchors/pickle_canary.py

Each file holds an object whose unpickling creates an empty file, the canary, in a temporary folder; nothing else is
done. Prints one line of JSON for each way of loading: did the canary appear, and what did the loader say.
"""

import base64
import io
import json
import pickle
import tempfile
import zipfile
from pathlib import Path

import cloudpickle
import gymnasium
import numpy as np
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import killed


class Canary:
    """Unpickling it creates the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def torch_file(folder, canary, name="model.pt"):
    torch.save({"weight": torch.zeros(2), "gadget": canary}, folder / name)
    return folder / name


def plain_pickle(folder, canary, name):
    (folder / name).write_bytes(pickle.dumps(canary))
    return folder / name


def numpy_file(folder, canary):
    np.save(folder / "array.npy", np.array([canary], dtype=object), allow_pickle=True)
    return folder / "array.npy"


def policy_zip(folder, canary, inside):
    """A saved PPO with one member made hostile: `data` (JSON with pickles inside) or `policy.pth` (weights)."""
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(folder / "honest.zip")
    with zipfile.ZipFile(folder / "honest.zip") as honest, zipfile.ZipFile(folder / "hostile.zip", "w") as hostile:
        for name in honest.namelist():
            content = honest.read(name)
            if name == inside == "data":
                settings = json.loads(content)
                settings["lr_schedule"] = {
                    ":type:": "function",
                    ":serialized:": base64.b64encode(cloudpickle.dumps(canary)).decode(),
                }
                content = json.dumps(settings).encode()
            elif name == inside:
                buffer = io.BytesIO()
                torch.save({"gadget": canary}, buffer)
                content = buffer.getvalue()
            hostile.writestr(name, content)
    return folder / "hostile.zip"


def load_normalize(path):
    return VecNormalize.load(str(path), DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))


WAYS = [
    ("torch.load(weights_only=False)", torch_file, lambda path: torch.load(path, weights_only=False)),
    ("torch.load, default", torch_file, torch.load),
    ("safetensors load_file, pickle renamed", lambda *to: plain_pickle(*to, "model.safetensors"), load_file),
    ("safetensors load_file, .pt renamed", lambda *to: torch_file(*to, "model.safetensors"), load_file),
    ("numpy.load, default", numpy_file, np.load),
    ("numpy.load(allow_pickle=True)", numpy_file, lambda path: np.load(path, allow_pickle=True)),
    (
        "stable-baselines3 PPO.load, settings hostile",
        lambda *to: policy_zip(*to, "data"),
        lambda path: PPO.load(path, device="cpu"),
    ),
    (
        "stable-baselines3 PPO.load, weights hostile",
        lambda *to: policy_zip(*to, "policy.pth"),
        lambda path: PPO.load(path, device="cpu"),
    ),
    ("stable-baselines3 VecNormalize.load", lambda *to: plain_pickle(*to, "normalize.pkl"), load_normalize),
]


def attempt(build, load):
    """Builds the file and loads it, in two forks: a thread torch starts for one would be missing in the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / killed.judge(lambda: build(folder, Canary(folder / "canary")).name)

        def loading():
            load(path)
            return {}

        said = killed.judge(loading).get("error")
        return {"code_ran": (folder / "canary").exists(), "said": said and said.replace(name, "")[:120]}


def main():
    about = killed.measured("checkpoints", "torch", "stable-baselines3", "safetensors", "numpy")
    for what, build, load in WAYS:
        killed.say(about, "X4", what, attempt(build, load))


if __name__ == "__main__":
    main()
