"""Gymnasium's vector environments and EnvPool: what an episode depends on, and what runs share (D1, D2, D3, D6, D10).

    python -m venv venv && venv/bin/pip install gymnasium==1.4.0 envpool==1.2.5
    venv/bin/python benches/anchors/vector_episodes.py

CartPole-v1 with a policy that looks at the observation alone, so that an episode is a function of its start. An episode
is identified by the bytes of all its observations; episode k is the k-th to begin, slots of one step counted from the
left. Prints one line of JSON for each test.
"""

import hashlib

import envpool
import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import killed

EPISODES = 64


def policy(observations):
    """Pushes away from the side the pole leans to, so that it falls soon."""
    return (observations[:, 2] < 0).astype(np.int64)


def gymnasium_envs(count, seed, vector=SyncVectorEnv, mode=AutoresetMode.NEXT_STEP):
    envs = vector([lambda: gymnasium.make("CartPole-v1")] * count, autoreset_mode=mode)
    return envs, envs.reset(seed=seed)[0], mode


def envpool_envs(count, seed, threads=1):
    envs = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=count, seed=seed, num_threads=threads)
    return envs, envs.reset()[0], AutoresetMode.NEXT_STEP


def episodes(made, wanted=EPISODES):
    """The first `wanted` episodes in the order in which they begin: a hash of each one's observations."""
    envs, observations, mode = made
    slots = range(len(observations))
    begun = [[row.tobytes()] for row in observations]
    current = list(slots)
    ended = set()
    over = np.zeros(len(observations), dtype=bool)
    while len(begun) < wanted or any(index not in ended for index in range(wanted)):
        observations, _, terminated, truncated, info = envs.step(policy(observations))
        done = terminated | truncated
        final = list(observations)
        if mode == AutoresetMode.SAME_STEP and done.any():
            final = [info["final_obs"][slot] if done[slot] else observations[slot] for slot in slots]
        if mode == AutoresetMode.DISABLED and done.any():
            observations, _ = envs.reset(options={"reset_mask": done})
        for slot in slots:
            if mode == AutoresetMode.NEXT_STEP and over[slot]:
                current[slot] = len(begun)
                begun.append([observations[slot].tobytes()])
                continue
            begun[current[slot]].append(np.asarray(final[slot], dtype=np.float32).tobytes())
            if done[slot]:
                ended.add(current[slot])
                if mode != AutoresetMode.NEXT_STEP:
                    current[slot] = len(begun)
                    begun.append([observations[slot].tobytes()])
        over = done
    envs.close()
    return [hashlib.sha256(b"".join(rows)).hexdigest() for rows in begun[:wanted]]


def by_count(make):
    """Episodes of 2, 7, 8 and 64 environments against those of one."""
    alone = episodes(make(1, 0))
    result = {}
    for count in (2, 7, 8, 64):
        here = episodes(make(count, 0))
        same = sum(ours == theirs for ours, theirs in zip(here, alone, strict=True))
        result[f"{count} envs"] = {
            "same_episode_k": same,
            "found_anywhere": len(set(here) & set(alone)),
            "of": EPISODES,
        }
    return result


def neighbours(make, count):
    """Runs with seeds 0..99, 16 episodes each: how many are in another run too."""
    seen = {}
    for seed in range(100):
        for episode in set(episodes(make(count, seed), 16)):
            seen.setdefault(episode, set()).add(seed)
    return {
        "num_envs": count,
        "episodes": 1600,
        "distinct": len(seen),
        "in_more_than_one_run": sum(len(runs) > 1 for runs in seen.values()),
    }


def spread(seed, count):
    """A list of unrelated seeds, one for each environment, as NumPy advises."""
    return [int(value) >> 1 for value in np.random.SeedSequence(seed).generate_state(count)]


def starts(make):
    """1,000 episodes in a row in one run."""
    return {"episodes": 1000, "distinct": len(set(episodes(make(8, 0), 1000)))}


def main():
    def say(tool, test, what, result):
        killed.say(killed.measured(tool, "gymnasium", "envpool", "numpy"), test, what, result)

    for tool, make in (("gymnasium", gymnasium_envs), ("envpool", envpool_envs)):
        say(tool, "D1", "same run twice", {"equal": episodes(make(8, 0)) == episodes(make(8, 0))})
        say(tool, "D3", "number of environments", by_count(make))
        say(tool, "D10", "1,000 autoresets", starts(make))
        say(tool, "D10", "seeds 0..99, one environment", neighbours(make, 1))
        say(tool, "D10", "seeds 0..99, eight environments", neighbours(make, 8))
        listed = neighbours(lambda count, seed, make=make: make(count, spread(seed, count)), 8)
        say(tool, "D10", "seeds 0..99, eight environments, a list of unrelated seeds", listed)

    sync = episodes(gymnasium_envs(8, 0))
    say(
        "gymnasium",
        "D2",
        "SyncVectorEnv against AsyncVectorEnv",
        {"equal": sync == episodes(gymnasium_envs(8, 0, AsyncVectorEnv))},
    )
    threads = {count: episodes(envpool_envs(8, 0, count)) for count in (1, 2, 4)}
    say("envpool", "D2", "1, 2, 4 threads", {"equal": all(found == threads[1] for found in threads.values())})
    modes = {mode.name: sorted(episodes(gymnasium_envs(1, 0, mode=mode))) for mode in AutoresetMode}
    say(
        "gymnasium",
        "D6",
        "three autoreset modes, one environment",
        {"equal": len(set(map(tuple, modes.values()))) == 1, "modes": list(modes)},
    )
    with_eight = {mode.name: episodes(gymnasium_envs(8, 0, mode=mode), 512) for mode in AutoresetMode}
    shared = set.intersection(*map(set, with_eight.values()))
    say("gymnasium", "D6", "three autoreset modes, eight environments", {"in_all_three": len(shared), "of": 512})


if __name__ == "__main__":
    main()
