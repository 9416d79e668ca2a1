"""Run by .ci/run in a venv that has the wheel with its engine: the env must step there."""

from itertools import pairwise

import gymnasium as gym
import numpy as np

env = gym.make("helios_world:HeliosWorld-v0", world="doom", scene="maze", action_mode="discrete")
observation, info = env.reset(seed=0)
seen = [observation]
for action in (1, 5, 5, 0):
    observation, reward, terminated, truncated, info = env.step(action)
    seen.append(observation)
    print(f"chunk {info['chunk']}: mean {observation.mean():.1f}, deviation {observation.std():.1f}")
if observation.shape != (128, 160, 3) or observation.dtype != np.uint8 or info["frames"].shape != (4, 128, 160, 3):
    raise SystemExit(f"observation {observation.dtype} {observation.shape}, frames {info['frames'].shape}")
if observation.std() < 5 or any(np.array_equal(a, b) for a, b in pairwise(seen)):
    raise SystemExit("the world is flat or stands still")
