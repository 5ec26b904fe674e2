"""Writes ssim_golden.json: what torchmetrics says about 100 pairs of frames that memory_golden.rs draws in the same way.

    python ssim_golden.py          (needs torch and torchmetrics >= 1.4.2, which no longer crops)
"""

import json
from pathlib import Path

import torch
import torchmetrics
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

SIZES = [(32, 32, 1), (16, 16, 1), (24, 40, 1), (11, 19, 1), (32, 32, 3)]
KINDS = ["noise", "noisy", "shifted", "blocks", "faded", "black", "stripes", "ramp", "flat", "same"]


def draws(seed):
    """Numbers below 2^31 of a linear congruential generator."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def blocks(draw, height, width, channels):
    """Four bright rectangles on black, as [H, W, C] bytes."""
    frame = torch.zeros(height, width, channels, dtype=torch.int64)
    for _ in range(4):
        top, left, h, w, ink = (next(draw) for _ in range(5))
        top, left = top % height, left % width
        frame[top : top + 2 + h % 9, left : left + 2 + w % 9] = 128 + ink % 128
    return frame


def pair(kind, seed, height, width, channels):
    """A prediction and the truth, [H, W, C] bytes."""
    draw = draws(seed)
    rows = torch.arange(height).view(-1, 1, 1).expand(height, width, channels)
    columns = torch.arange(width).view(1, -1, 1).expand(height, width, channels)
    noise = lambda: torch.tensor([next(draw) % 256 for _ in range(height * width * channels)]).view(height, width, channels)
    if kind == "noise":
        return noise(), noise()
    if kind in ("stripes", "ramp", "flat"):
        if kind == "stripes":
            return (columns // 2 % 2) * 255, (columns // 3 % 2) * 255
        if kind == "ramp":
            return rows * 255 // (height - 1), columns * 255 // (width - 1)
        return torch.full_like(rows, next(draw) % 256), torch.full_like(rows, next(draw) % 256)
    truth = blocks(draw, height, width, channels)
    if kind == "noisy":
        return torch.clamp(truth + noise() % 41 - 20, 0, 255), truth
    if kind == "shifted":
        return torch.roll(truth, (next(draw) % 4, next(draw) % 4), (0, 1)), truth
    if kind == "blocks":
        return blocks(draw, height, width, channels), truth
    return {"faded": truth * 3 // 4, "black": truth * 0, "same": truth}[kind], truth


def case(kind, seed, height, width, channels):
    frames = [frame.permute(2, 0, 1).unsqueeze(0) / torch.tensor(255.0) for frame in pair(kind, seed, height, width, channels)]
    # Double precision is the definition; in single precision variances of bright flat areas cancel badly.
    doubles = [frame.double() for frame in frames]
    full, index = structural_similarity_index_measure(*doubles, data_range=1.0, return_full_image=True)
    single = structural_similarity_index_measure(*frames, data_range=1.0)
    psnr = peak_signal_noise_ratio(*doubles, data_range=1.0).item()
    return {
        "kind": kind,
        "seed": seed,
        "shape": [height, width, channels],
        "ssim": round(full.item(), 9),
        "ssim_single": round(single.item(), 9),
        "ssim_cropped": round(index[..., 5:-5, 5:-5].mean().item(), 9),  # what torchmetrics <= 1.4.1 returns
        "psnr": round(psnr, 9) if psnr != float("inf") else None,
    }


def main():
    cases = [case(kind, 100 * i + j, *size) for i, kind in enumerate(KINDS) for j in range(2) for size in SIZES]
    lines = ",\n    ".join(json.dumps(case) for case in cases)
    text = f'{{\n  "torchmetrics": "{torchmetrics.__version__}",\n  "cases": [\n    {lines}\n  ]\n}}\n'
    Path(__file__).with_suffix(".json").write_text(text)


if __name__ == "__main__":
    main()
