"""LeRobot: what survives a kill, a bit flip, a second writer; does equal input give equal bytes (C1, C7, D1, X2).

    python3.12 -m venv venv && venv/bin/pip install 'lerobot[dataset]==0.6.1'
    venv/bin/python benches/anchors/lerobot_kill.py --kills 20 --flips 100

Records 50 episodes of 20 frames (64x64 camera, 4 state and 2 action numbers) with `LeRobotDataset.create`, `add_frame`,
`save_episode` and `finalize`, as its documentation does. Ways: `images` and `videos` finalize once at the end;
`sessions` finalizes after every 5 episodes and goes on with `LeRobotDataset.resume`. `saved` counts episodes whose
`save_episode` returned, `promised` those that a returned `finalize` holds; `by_hand` counts what opens once the
parquet files without a footer are deleted and `info.json` is corrected. Prints one line of JSON for each test.
"""

import hashlib
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import numpy as np
import pyarrow.parquet
from lerobot.datasets.lerobot_dataset import LeRobotDataset

import killed

EPISODES, FRAMES, EVERY, SIDE = 50, 20, 5, 64
NAME = "us/anchor"


def features(camera):
    columns = {
        "observation.state": {"dtype": "float32", "shape": (4,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    }
    if camera:
        columns["observation.image"] = {
            "dtype": camera,
            "shape": (SIDE, SIDE, 3),
            "names": ["height", "width", "channels"],
        }
    return columns


def start(root, camera):
    quiet_cache(root)
    return LeRobotDataset.create(
        NAME, fps=10, features=features(camera), root=Path(root) / "set", use_videos=camera == "video"
    )


def resume(root):
    quiet_cache(root)
    return LeRobotDataset.resume(NAME, root=Path(root) / "set")


def quiet_cache(root):
    """A cache of its own for every process: what another one has read must not hide a damaged file."""
    datasets.config.HF_DATASETS_CACHE = tempfile.mkdtemp(dir=root, prefix="cache")
    datasets.disable_progress_bars()


def play(dataset, index, camera):
    """Adds episode `index`; its content depends on the index alone."""
    draw = np.random.default_rng(index)
    for frame in range(FRAMES):
        row = {
            "observation.state": draw.random(4, dtype=np.float32),
            "action": draw.random(2, dtype=np.float32),
            "task": "move",
        }
        if camera:
            row["observation.image"] = np.full((SIDE, SIDE, 3), 5 * index, dtype=np.uint8)
            row["observation.image"][frame : frame + 16, frame : frame + 16] = draw.integers(
                0, 256, (16, 16, 3), dtype=np.uint8
            )
        dataset.add_frame(row)
    dataset.save_episode()


def record(root, camera="image"):
    def job(report):
        dataset = start(root, camera)
        report("go")
        for index in range(EPISODES):
            play(dataset, index, camera)
            report(f"saved {index + 1}")
        dataset.finalize()
        report(f"promised {EPISODES}")

    return job


def record_sessions(root, first=0):
    def job(report):
        dataset = resume(root) if first else start(root, "image")
        report("go")
        for index in range(first, EPISODES):
            play(dataset, index, "image")
            report(f"saved {index + 1}")
            if (index + 1) % EVERY == 0 or index + 1 == EPISODES:
                dataset.finalize()
                report(f"promised {index + 1}")
                dataset = resume(root)

    return job


def opened(root, camera="image"):
    """What a user gets: opens the dataset and reads every frame."""
    quiet_cache(root)
    dataset = LeRobotDataset(NAME, root=Path(root) / "set", video_backend="pyav")
    hashers = {}
    for position in range(len(dataset)):
        row = dataset[position]
        hasher = hashers.setdefault(int(row["episode_index"]), hashlib.sha256())
        for key in features(camera):
            hasher.update(np.ascontiguousarray(row[key].numpy()).tobytes())
    return {"count": dataset.num_episodes, "found": [hashers[index].hexdigest() for index in sorted(hashers)]}


def uninterrupted(camera):
    """Fingerprints of all episodes, from a recording that nothing disturbs."""
    with tempfile.TemporaryDirectory() as root:
        killed.run(record(root, camera))
        found = killed.judge(lambda: opened(root, camera))["found"]
    assert len(found) == EPISODES
    return found


def mended(root, camera):
    """What someone gets who knows the format: parquet files without a footer deleted, `info.json` corrected."""
    rows = []
    for path in sorted((Path(root) / "set").rglob("*.parquet")):
        try:
            table = pyarrow.parquet.read_table(path)
        except pyarrow.ArrowInvalid:
            path.unlink()
            continue
        if "episodes" in path.parts:
            rows += table.select(["dataset_to_index"]).to_pylist()
    info = Path(root) / "set" / "meta" / "info.json"
    totals = {"total_episodes": len(rows), "total_frames": max((row["dataset_to_index"] for row in rows), default=0)}
    info.write_text(json.dumps(json.loads(info.read_text()) | totals))
    return opened(root, camera)


def first_error(result):
    """The kind of the error, without numbers and folders."""
    return None if "error" not in result else result["error"].split(":")[0] + " at " + result["error"].split(" at ")[-1]


def kills(way, reference, count, seed):
    """Kills at moments uniform over the recording."""
    rng = random.Random(seed)
    camera = "video" if way == "videos" else "image"

    def job(root):
        return record_sessions(root) if way == "sessions" else record(root, camera)

    with tempfile.TemporaryDirectory() as root:
        lines, _, whole = killed.run(job(root))
        assert killed.last(lines, "promised") == EPISODES, lines
    names = (
        "kills",
        "saved",
        "saved_and_survived",
        "promised",
        "promised_and_survived",
        "runs_that_lost_promised",
        "opens",
    )
    sums = dict.fromkeys(names, 0) | {"count_disagrees": 0, "resume_accepted": 0, "resumed_equal": 0, "by_hand": 0}
    errors, resume_errors = {}, {}
    for moment in killed.moments(len(lines), whole, rng):
        if sums["kills"] == count:
            break
        with tempfile.TemporaryDirectory() as root:
            lines, was_killed, _ = killed.run(job(root), kill_after=moment)
            if not was_killed:
                continue
            saved, promised = killed.last(lines, "saved"), killed.last(lines, "promised")
            found = killed.judge(lambda: opened(root, camera))
            intact = killed.prefix(found.get("found", []), reference)
            sums["kills"] += 1
            sums["saved"] += saved
            sums["saved_and_survived"] += min(intact, saved)
            sums["promised"] += promised
            sums["promised_and_survived"] += min(intact, promised)
            sums["runs_that_lost_promised"] += intact < promised
            sums["opens"] += "error" not in found
            sums["count_disagrees"] += "error" not in found and found["count"] != len(found["found"])
            if "error" in found:
                errors[first_error(found)] = errors.get(first_error(found), 0) + 1
            tried = killed.judge(lambda: resume(root).num_episodes)
            if isinstance(tried, dict):
                resume_errors[first_error(tried)] = resume_errors.get(first_error(tried), 0) + 1
            else:
                sums["resume_accepted"] += 1
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(Path(root) / "set", Path(copy) / "set")
                hand = killed.judge(lambda: mended(copy, camera))
                sums["by_hand"] += killed.prefix(hand.get("found", []), reference)
            if way == "sessions" and promised and not isinstance(tried, dict):
                killed.run(record_sessions(root, first=tried))
                sums["resumed_equal"] += killed.judge(lambda: opened(root)).get("found") == reference
    return sums | {
        "errors_on_open": errors,
        "errors_on_resume": resume_errors,
        "seed": seed,
        "recording_seconds": round(whole, 1),
    }


def interrupted(reference):
    """Ctrl-C after 25 episodes, with `finalize` in a `finally` block as `lerobot-record` has it."""
    with tempfile.TemporaryDirectory() as root:

        def job(report):
            dataset = start(root, "image")
            try:
                for index in range(EPISODES):
                    if index == 25:
                        raise KeyboardInterrupt
                    play(dataset, index, "image")
            finally:
                dataset.finalize()

        killed.run(job)
        return {"saved": 25, "survive": killed.prefix(killed.judge(lambda: opened(root)).get("found", []), reference)}


def flips(camera, count, seed):
    """One flipped bit at a time in `data/*.parquet`; every frame is then read."""
    rng = random.Random(seed)
    outcome = {"error": 0, "silently_other_values": 0, "no_effect": 0}
    with tempfile.TemporaryDirectory() as root:
        killed.run(record(root, camera))
        reference = killed.judge(lambda: opened(root, camera))
        path = next((Path(root) / "set" / "data").rglob("*.parquet"))
        for _ in range(count):
            position, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
            killed.flip_bit(path, position, bit)
            found = killed.judge(lambda: opened(root, camera))
            killed.flip_bit(path, position, bit)
            for cache in Path(root).glob("cache*"):
                shutil.rmtree(cache)
            kind = "error" if "error" in found else "no_effect" if found == reference else "silently_other_values"
            outcome[kind] += 1
    return {"flips": count, "seed": seed, "bytes": "all of data/*.parquet"} | outcome


def same_bytes(camera):
    """Three recordings of the same input: two in the same folder, one after the other, and one elsewhere."""
    hashes, values = [], []
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as elsewhere:
        for root in (here, here, elsewhere):
            folder = Path(root) / "set"
            shutil.rmtree(folder, ignore_errors=True)
            killed.run(record(root, camera))
            names = sorted(path for path in folder.rglob("*") if path.is_file())
            hashes.append(
                {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}
            )
            values.append(killed.judge(lambda root=root: opened(root, camera)))

    def differ(other):
        return sorted(name for name in hashes[0] if hashes[0][name] != other.get(name))

    return {
        "files": len(hashes[0]),
        "different_in_same_folder": differ(hashes[1]),
        "different_elsewhere": differ(hashes[2]),
        "values_equal": values[0] == values[1] == values[2],
    }


def two_writers(camera):
    """Two processes resume one finished dataset of 5 episodes; each adds 5 and finalizes."""
    with tempfile.TemporaryDirectory() as root:

        def base(report):
            dataset = start(root, camera)
            for index in range(EVERY):
                play(dataset, index, camera)
            dataset.finalize()

        def writer(first):
            def job(report):
                dataset = resume(root)
                for index in range(first, first + EVERY):
                    play(dataset, index, camera)
                dataset.finalize()
                report(f"promised {EVERY}")

            return job

        killed.run(base)
        first, second = killed.both(writer(10), writer(20))
        found = killed.judge(lambda: opened(root, camera))
        return {
            "promised": EVERY + killed.last(first, "promised") + killed.last(second, "promised"),
            "errors": [line.split(":")[0] for line in first + second if line.startswith("error")],
            "episodes_found": len(found.get("found", [])),
            "count_claimed": found.get("count"),
            "error_on_open": found.get("error"),
        }


def main():
    given = killed.command_line(__doc__)
    about = killed.measured("lerobot", "lerobot", "datasets", "pyarrow", "torch", "av")
    reference = {camera: uninterrupted(camera) for camera in ("image", "video")}

    tests = [
        ("C1", "Ctrl-C after 25 episodes, finalize in finally", lambda: interrupted(reference["image"])),
        ("C1", "kill at a random moment, images", lambda: kills("images", reference["image"], given.kills, given.seed)),
        ("C1", "kill at a random moment, videos", lambda: kills("videos", reference["video"], given.kills, given.seed)),
        (
            "C1",
            "kill at a random moment, finalize every 5",
            lambda: kills("sessions", reference["image"], given.kills, given.seed),
        ),
        ("C7", "two writers resume one dataset, images", lambda: [two_writers("image") for _ in range(3)]),
        ("C7", "two writers resume one dataset, no camera", lambda: [two_writers(None) for _ in range(3)]),
        ("D1", "same input again, images", lambda: same_bytes("image")),
        ("D1", "same input again, videos", lambda: same_bytes("video")),
        ("X2", "bit flips in the data file, no camera", lambda: flips(None, given.flips, given.seed)),
        ("X2", "bit flips in the data file, images", lambda: flips("image", given.flips, given.seed)),
    ]
    for identifier, what, test in tests:
        if given.only in ("", identifier):
            killed.say(about, identifier, what, test())


if __name__ == "__main__":
    main()
