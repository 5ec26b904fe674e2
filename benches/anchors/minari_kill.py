"""Minari: what survives a kill, a bit flip, a second writer; do equal seeds give equal bytes (C1, C7, D1, X2).

    python -m venv venv && venv/bin/pip install 'minari[hdf5,arrow]==0.5.4' gymnasium==1.4.0 pillow
    venv/bin/python benches/anchors/minari_kill.py --kills 100 --flips 200

Records 50 episodes of CartPole-v1 with `minari.DataCollector` in two ways of its documentation: `plain` calls
`create_dataset` once at the end; `checkpoint` ("Checkpoint Minari Dataset") creates after 5 episodes and calls
`add_to_dataset` after every 5 more. An episode is `written` when its last step has returned and `promised` when the
`create_dataset` or `add_to_dataset` that holds it has; `by_hand` counts what is still in the HDF5 file, for someone who
knows the storage class. Prints one line of JSON for each test.
"""

import hashlib
import os
import random
import re
import tempfile
import time
import warnings
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
from minari.dataset._storages.hdf5_storage import HDF5Storage

import killed

EPISODES = 50
EVERY = 5
NAME = "cart/pole-v0"


def play(collector, index):
    """Plays episode `index`; its content depends on the index alone."""
    actions = np.random.default_rng(index)
    collector.reset(seed=index)
    done = False
    while not done:
        *_, terminated, truncated, _ = collector.step(int(actions.integers(2)))
        done = terminated or truncated


def collector_in(root, data_format=None):
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    warnings.simplefilter("ignore")
    return minari.DataCollector(gymnasium.make("CartPole-v1"), data_format=data_format)


def create(collector):
    return collector.create_dataset(
        NAME, algorithm_name="random", author="us", description="anchor", code_permalink="none"
    )


def record_plain(root, data_format=None):
    def job(report):
        collector = collector_in(root, data_format)
        report("go")
        for index in range(EPISODES):
            play(collector, index)
            report(f"written {index + 1}")
        create(collector)
        report(f"promised {EPISODES}")

    return job


def record_checkpoints(root, first=0):
    def job(report):
        collector = collector_in(root)
        dataset = minari.load_dataset(NAME) if first else None
        report("go")
        for index in range(first, EPISODES):
            play(collector, index)
            if (index + 1) % EVERY == 0 or index + 1 == EPISODES:
                if dataset is None:
                    dataset = create(collector)
                else:
                    collector.add_to_dataset(dataset)
                report(f"promised {index + 1}")

    return job


def fingerprint(episode):
    """Of what a user trains on, not of the identifier."""
    hasher = hashlib.sha256()
    for key in ("observations", "actions", "rewards", "terminations", "truncations"):
        array = np.ascontiguousarray(episode[key])
        hasher.update(f"{key} {array.dtype} {array.shape}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def contents(storage, count):
    """Fingerprints of the first `count` episodes, as far as they can be read, and the error that ended the reading."""
    found, error = [], None
    try:
        for index in range(count):
            found.append(fingerprint(next(iter(storage.get_episodes([index])))))
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    return {"found": found, "error": error}


def opened(root):
    """What a user gets: `load_dataset`."""
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    storage = minari.load_dataset(NAME).storage
    return contents(storage, storage.total_episodes)


def by_hand(root):
    """What the fullest HDF5 file holds, the dataset's or the collector's temporary one, whatever the metadata says."""
    env = gymnasium.make("CartPole-v1")
    best = {"found": [], "error": "no file"}
    for path in sorted(Path(root).rglob("main_data.hdf5")):
        try:
            with h5py.File(path, "r") as file:
                count = len(file)
            here = contents(HDF5Storage(path.parent, env.observation_space, env.action_space), count)
        except Exception as problem:
            here = {"found": [], "error": f"{type(problem).__name__}: {problem}"}
        if len(here["found"]) >= len(best["found"]):
            best = here
    return best


def kills(mode, reference, count, seed):
    """Kills at moments uniform over the recording."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        job = record_plain(root) if mode == "plain" else record_checkpoints(root)
        lines, _, whole = killed.run(job)
        assert killed.last(lines, "promised") == EPISODES, lines
    sums = dict.fromkeys(
        (
            "kills",
            "written",
            "promised",
            "promised_and_survived",
            "runs_that_lost_promised",
            "opens",
            "by_hand",
            "resumed_equal",
        ),
        0,
    )
    opening, by_hand_errors = {}, {}
    for moment in killed.moments(len(lines), whole, rng):
        if sums["kills"] == count:
            break
        with tempfile.TemporaryDirectory() as root:
            job = record_plain(root) if mode == "plain" else record_checkpoints(root)
            lines, was_killed, _ = killed.run(job, kill_after=moment)
            if not was_killed:
                continue
            promised = killed.last(lines, "promised")
            found = killed.judge(lambda: opened(root))
            intact = killed.prefix(found.get("found", []), reference)
            sums["kills"] += 1
            sums["written"] += killed.last(lines, "written")
            sums["promised"] += promised
            sums["promised_and_survived"] += min(intact, promised)
            sums["runs_that_lost_promised"] += intact < promised
            sums["opens"] += found.get("error") is None and intact > 0
            hand = killed.judge(lambda: by_hand(root))
            sums["by_hand"] += killed.prefix(hand.get("found", []), reference)
            if hand.get("error"):
                count_error(by_hand_errors, hand)
            if found.get("error"):
                count_error(opening, found, " with episodes promised" if promised else " with nothing promised")
            elif mode == "checkpoint":
                killed.run(record_checkpoints(root, first=len(found["found"])))
                sums["resumed_equal"] += killed.judge(lambda: opened(root)) == {"found": reference, "error": None}
    return sums | {
        "errors_on_open": opening,
        "errors_by_hand": by_hand_errors,
        "seed": seed,
        "recording_seconds": round(whole, 2),
    }


def count_error(counts, result, suffix=""):
    """Counts the kind of an error, without its folders."""
    kind = re.sub(r"\d+|'[^']*'", "_", result["error"].split(" at ")[0])[:70] + suffix
    counts[kind] = counts.get(kind, 0) + 1


def kill_before_create(reference):
    """All 50 episodes are played and the process dies before `create_dataset`."""
    with tempfile.TemporaryDirectory() as root:

        def job(report):
            collector = collector_in(root)
            for index in range(EPISODES):
                play(collector, index)
            report("go")
            time.sleep(60)

        killed.run(job, kill_after=(1, 0.0))
        found = killed.judge(lambda: opened(root))
        hand = killed.judge(lambda: by_hand(root))
        return {
            "survive_load_dataset": killed.prefix(found.get("found", []), reference),
            "error": found.get("error"),
            "survive_by_hand": killed.prefix(hand.get("found", []), reference),
        }


def flips(data_format, reference, count, seed, payload_only=False):
    """One flipped bit at a time, in the data files; the metadata file in JSON is left alone."""
    rng = random.Random(seed)
    outcome = {"error": 0, "silently_other_values": 0, "no_effect": 0}
    with tempfile.TemporaryDirectory() as root:
        killed.run(record_plain(root, data_format))
        folder = Path(root) / NAME / "data"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "metadata.json"]
        places = (
            killed.judge(lambda: payload(files[0]))
            if payload_only
            else [(str(path), 0, path.stat().st_size) for path in files]
        )
        for _ in range(count):
            path, start, length = rng.choices(places, weights=[place[2] for place in places])[0]
            position, bit = start + rng.randrange(length), rng.randrange(8)
            killed.flip_bit(path, position, bit)
            found = killed.judge(lambda: opened(root))
            killed.flip_bit(path, position, bit)
            if found.get("error"):
                outcome["error"] += 1
            elif found["found"] == reference:
                outcome["no_effect"] += 1
            else:
                outcome["silently_other_values"] += 1
    return {"flips": count, "seed": seed} | outcome


def payload(path):
    """(file, start, length) of every array's values in an HDF5 file of ours; each array here fits into one chunk."""
    places = []

    def visit(_, item):
        if isinstance(item, h5py.Dataset) and item.id.get_num_chunks() == 1:
            places.append((str(path), item.id.get_chunk_info(0).byte_offset, item.size * item.dtype.itemsize))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return places


def same_bytes():
    """Two recordings with the same seeds."""
    result = {}
    for data_format in ("hdf5", "arrow", "parquet"):
        hashes = []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as root:
                killed.run(record_plain(root, data_format))
                folder = Path(root) / NAME / "data"
                names = sorted(path for path in folder.rglob("*") if path.is_file())
                hashes.append(
                    {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}
                )
            time.sleep(1.1)  # so that a stored time would differ
        result[data_format] = {
            "files": len(hashes[0]),
            "different": sorted(n for n in hashes[0] if hashes[0][n] != hashes[1].get(n))[:3],
        }
    return result


def together(other, rounds=3):
    """A writer that adds 50 episodes one by one, beside `other(root)`, or beside a second writer; three rounds."""
    results = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as root:

            def start(report):
                collector = collector_in(root)
                play(collector, 0)
                create(collector)

            def writer(report):
                collector, dataset = collector_in(root), minari.load_dataset(NAME)
                for index in range(EPISODES):
                    play(collector, index)
                    collector.add_to_dataset(dataset)
                    report(f"promised {index + 1}")

            killed.run(start)
            first, second = killed.both(writer, other(root) if other else writer)
            found = killed.judge(lambda: opened(root))
            results.append(
                {
                    "promised": 1 + killed.last(first, "promised") + killed.last(second, "promised"),
                    "errors": [line.split(":")[0] for line in first + second if line.startswith("error")],
                    "reads": killed.last(second, "reads"),
                    "reads_failed": killed.last(second, "failed"),
                    "episodes_found": len(found.get("found", [])),
                    "error_on_open": found.get("error"),
                }
            )
    return results


def reader(root):
    """Loads and reads the dataset over and over for about a second."""

    def job(report):
        reads, failed = 0, 0
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            try:
                problem = opened(root)["error"]
            except Exception as error:
                problem = error
            reads, failed = reads + 1, failed + (problem is not None)
        report(f"reads {reads}")
        report(f"failed {failed}")

    return job


def main():
    given = killed.command_line(__doc__)
    about = killed.measured("minari", "minari", "gymnasium", "h5py", "pyarrow", "numpy")
    with tempfile.TemporaryDirectory() as root:
        killed.run(record_plain(root))
        reference = killed.judge(lambda: opened(root))["found"]
    assert len(reference) == EPISODES

    tests = [
        ("C1", "kill before create_dataset", lambda: kill_before_create(reference)),
        (
            "C1",
            "kill at a random moment, create_dataset at the end",
            lambda: kills("plain", reference, given.kills, given.seed),
        ),
        (
            "C1",
            "kill at a random moment, add_to_dataset every 5",
            lambda: kills("checkpoint", reference, given.kills, given.seed),
        ),
        ("C7", "two writers, add_to_dataset 50 times each", lambda: together(None)),
        ("C7", "one writer, one reader that never pauses", lambda: together(reader)),
        ("D1", "same seeds twice, files that differ", same_bytes),
        ("X2", "bit flips in the data files, hdf5", lambda: flips("hdf5", reference, given.flips, given.seed)),
        (
            "X2",
            "bit flips in the stored values, hdf5",
            lambda: flips("hdf5", reference, given.flips, given.seed, payload_only=True),
        ),
        ("X2", "bit flips in the data files, arrow", lambda: flips("arrow", reference, given.flips, given.seed)),
        ("X2", "bit flips in the data files, parquet", lambda: flips("parquet", reference, given.flips, given.seed)),
    ]
    for identifier, what, test in tests:
        if given.only in ("", identifier):
            killed.say(about, identifier, what, test())


if __name__ == "__main__":
    main()
