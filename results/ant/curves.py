"""Makes curves.csv and curves.svg of runs of `mindseye train shac`: python3 curves.py NAME=RUN... (standard library only)."""

import csv
import json
import sys
from pathlib import Path

# Mean return of SHAC over ten seeds, with 512 envs, as published with PWM: by steps (millions) and by minutes on a GPU.
PUBLISHED_STEPS = [(0.25, 296), (0.5, 634), (1, 1956), (2, 3908), (4, 5101), (8, 5767), (16, 6707), (32.8, 7626)]
PUBLISHED_MINUTES = [(5, 4960), (10, 5702), (20, 6617), (30, 7209), (42, 7619)]
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b"]
WIDTH, HEIGHT, LEFT, TOP = 460, 300, 60, 40


def read(run):
    """Steps (millions), minutes and return, a row for each line of the log; minutes add up over resumptions."""
    rows, before, last = [], 0.0, 0.0
    for line in (Path(run) / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["wall"] < last:
            before += last
        last = record["wall"]
        if "train/return" in record:
            rows.append((record["step"] / 1e6, (before + last) / 60, record["train/return"]))
    return rows


def panel(x0, title, unit, ticks, series):
    top, most = 8500, ticks[-1] * 1.06
    place = lambda x, y: (x0 + LEFT + x / most * WIDTH, TOP + HEIGHT - max(y, 0) / top * HEIGHT)
    parts = [f'<text x="{x0 + LEFT + WIDTH / 2}" y="24" text-anchor="middle" font-weight="bold">{title}</text>']
    for y in range(0, top + 1, 1000):
        (left, height), (right, _) = place(0, y), place(most, y)
        parts.append(f'<line x1="{left}" x2="{right}" y1="{height}" y2="{height}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{y}</text>')
    for tick in ticks:
        x, y = place(tick, 0)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{tick}</text>')
    parts.append(f'<text x="{x0 + LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">{unit}</text>')
    for name, colour, points, dots in series:
        line = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points if x <= most)
        dash = ' stroke-dasharray="6 4"' if dots else ""
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for row, (name, colour, _, _) in enumerate(series):
        y = TOP + HEIGHT - 16 * (len(series) - row)
        parts.append(f'<text x="{x0 + LEFT + WIDTH - 6}" y="{y}" text-anchor="end" fill="{colour}">{name}</text>')
    return parts


def main():
    runs = {name: read(run) for name, run in (argument.split("=", 1) for argument in sys.argv[1:])}
    with open("curves.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "million_steps", "minutes", "return"])
        for name, rows in runs.items():
            writer.writerows([name, f"{x:.6f}", f"{m:.3f}", f"{r:.1f}"] for x, m, r in rows)
    steps = [("published, 10 seeds", "#555", PUBLISHED_STEPS, True)]
    minutes = [("published, a GPU", "#555", PUBLISHED_MINUTES, True)]
    for colour, (name, rows) in zip(COLOURS, runs.items()):
        steps.append((name, colour, [(x, r) for x, _, r in rows], False))
        minutes.append((name, colour, [(m, r) for _, m, r in rows], False))
    parts = panel(0, "Ant: return by steps", "million steps", range(0, 33, 8), steps)
    parts += panel(WIDTH + LEFT + 30, "Ant: return by time", "minutes", range(0, 41, 10), minutes)
    total = 2 * (WIDTH + LEFT) + 60
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{TOP + HEIGHT + 50}" {style}>'
    Path("curves.svg").write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
