"""Whether a world makes the same frames from the same seed and buttons: their hash, and the same once more."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from helios_world.world import WorldModel

CHUNKS, WORLDS = 8, 2
DIGITS = 16  # of the hash, in hex


def determinism(model: WorldModel, scene: str, seed: int) -> dict[str, Any]:
    """`sha256` of the frames of two worlds in one batch under seeded buttons, and whether another run `repeats` it."""
    once, again = rollout_hash(model, scene, seed), rollout_hash(model, scene, seed)
    return {"sha256": once, "repeats": once == again}


def rollout_hash(model: WorldModel, scene: str, seed: int) -> str:
    """Of worlds that begin at stored starts."""
    buttons, t = len(model.card.buttons), model.card.frames_per_chunk
    rows = np.random.default_rng(seed).integers(0, 2, (CHUNKS, WORLDS, t, buttons)).astype(np.float32)
    states = [model.reset(scene, seed=seed + i)[0] for i in range(WORLDS)]
    digest = hashlib.sha256()
    for actions in rows:
        states, frames = model.step(states, actions)
        digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()[:DIGITS]
