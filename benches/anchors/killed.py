"""Forks a job, kills it with SIGKILL at a chosen moment, and judges in another fork what it left behind.

Shared by the scripts beside it. A fork starts in milliseconds, so the imports are paid for once; the parent itself
never opens a dataset, and a library that crashes or hangs on a damaged file takes only its judge with it.
"""

import argparse
import json
import os
import re
import select
import signal
import sys
import tempfile
import time
import traceback
from importlib.metadata import version

HANG_SECONDS = 120.0


def moments(lines, seconds, draw):
    """Draws moments to kill at, uniform over a recording that wrote so many lines in so many seconds.

    A line and a delay after it, not seconds from the start, so that a busy machine does not shift them all forward.
    """
    while True:
        yield draw.randint(1, lines), draw.uniform(0, seconds / lines)


def run(job, kill_after=None, quiet=True):
    """Runs `job(report)` in a fork. Every `report(line)` reaches us at once, as a promise the job made to its user.

    `kill_after`: (n, seconds): the job is killed so many seconds after its n-th line; None lets it finish. Returns the
    lines, whether it was killed, and the seconds from the first line to the end.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        # A group of its own, so that helpers the library starts die with it, as when a container stops.
        os.setpgid(0, 0)
        _silence(quiet)
        status = 1
        try:
            job(lambda line: os.write(write_end, (line + "\n").encode()))
            status = 0
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(last.filename)}:{last.lineno}"
            os.write(write_end, f"error {type(error).__name__}: {str(error)[:200]!r} at {where}\n".encode())
        os._exit(status)
    os.close(write_end)

    text, started, armed, killed = b"", None, None, False
    begun = time.monotonic()
    while True:
        now = time.monotonic()
        limit = begun + HANG_SECONDS
        if armed is not None:
            limit = armed + kill_after[1]
        if now >= limit:
            _kill_group(child)
            killed = True
            break
        if select.select([read_end], [], [], limit - now)[0]:
            piece = os.read(read_end, 65536)
            if not piece:
                break
            text += piece
            started = started or time.monotonic()
            if kill_after is not None and armed is None and text.count(b"\n") >= kill_after[0]:
                armed = time.monotonic()
    while piece := os.read(read_end, 65536):
        text += piece
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and not killed:
        text += f"error died of signal {os.WTERMSIG(status)}\n".encode()
    return text.decode(errors="replace").splitlines(), killed, time.monotonic() - (started or begun)


def judge(check):
    """Runs `check()` in a fork and returns its result (JSON values only), or {"error": why}."""

    def job(report):
        report("result " + json.dumps(check()))

    lines, killed, _ = run(job)
    for line in lines:
        if line.startswith("result "):
            return json.loads(line.removeprefix("result "))
    errors = [line.removeprefix("error ") for line in lines if line.startswith("error ")]
    return {"error": "hung" if killed else (errors or ["no result"])[0]}


def both(first, second):
    """Runs two jobs at the same time; returns the lines of each."""
    with tempfile.TemporaryDirectory() as folder:
        note = os.path.join(folder, "second.json")
        child = os.fork()
        if child == 0:
            lines, _, _ = run(second)
            with open(note, "w") as file:
                json.dump(lines, file)
            os._exit(0)
        lines, _, _ = run(first)
        os.waitpid(child, 0)
        with open(note) as file:
            return lines, json.load(file)


def last(lines, word):
    """The highest number reported after the word, or 0."""
    return max((int(line.split()[1]) for line in lines if line.startswith(word)), default=0)


def prefix(found, reference):
    """How many leading episodes are there and unchanged."""
    intact = 0
    for ours, theirs in zip(found, reference, strict=False):
        if ours != theirs:
            break
        intact += 1
    return intact


def command_line(about):
    """The options that the crash scripts share."""
    arguments = argparse.ArgumentParser(description=about.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--flips", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", default="", help="one test, for example C1")
    return arguments.parse_args()


def flip_bit(path, position, bit):
    """Flips one bit of the file; call it again to undo."""
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def measured(tool, *packages):
    """What every result begins with: tool, versions, and the file system (TMPDIR names another folder to work in)."""
    folder = os.path.realpath(tempfile.gettempdir())
    with open("/proc/mounts") as mounts:
        points = [line.split()[1:3] for line in mounts]
    kind = max((point for point in points if folder.startswith(point[0])), key=lambda point: len(point[0]))[1]
    versions = {"python": sys.version.split()[0]} | {package: version(package) for package in packages}
    return {"tool": tool, "versions": versions, "file_system": kind}


def say(about, test, what, result):
    """Prints one result as a line of JSON, without the names of temporary folders."""
    line = json.dumps(about | {"test": test, "what": what, "result": result})
    print(re.sub(re.escape(tempfile.gettempdir()) + r"/tmp\w+", "FOLDER", line), flush=True)


def _kill_group(child):
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def _silence(quiet):
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
