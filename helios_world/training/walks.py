"""Walks that watch where they go, in the real game and in the world made up, and how these look beside each other.

Under recorded buttons a made up world soon shows the walls that whoever pressed them turned away from; here both are
walked by the same rules.
Shapes: N walks, T frames, H W frame size; t frames of a chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from helios_world.action import encode_actions
from helios_world.controllers.explorer import ExplorerController
from helios_world.generator import Generator
from helios_world.training import endurance
from helios_world.training.evaluation import held_out
from helios_world.training.game import BUTTONS, SCENARIOS, View
from helios_world.world import Start


class Explorer:
    """Walks the real game as `ExplorerController` walks a world: buttons are held for a chunk of `t` frames."""

    def __init__(self, rng: np.random.Generator, t: int):
        self._controller, self._acted = ExplorerController(BUTTONS, draw_seed(rng)), 0
        self._seen: deque[np.ndarray] = deque(maxlen=t)
        self._held = np.zeros(len(BUTTONS), np.uint8)

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (7,)."""
        self._seen.append(view.frame)
        if self._acted % self._seen.maxlen == 0:
            action = self._controller.act(np.stack(self._seen))
            self._held = encode_actions([action], BUTTONS, 1)[0, 0].astype(np.uint8)
        self._acted += 1
        return self._held


def draw_seed(rng: np.random.Generator) -> int:
    """A seed for a controller."""
    return int(rng.integers(2**31))


def can_walk(scene: str) -> bool:
    """Whether walking does something in the scene's game."""
    return "forward" in SCENARIOS[scene].buttons


def walk(generator: Generator, scene: str, before: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Chunk after chunk, for ever, (N, t, H, W, 3): walks that go on from `before`, (N, T, H, W, 3), T whole chunks."""
    t, buttons = generator.card.frames_per_chunk, generator.card.buttons
    controllers = [ExplorerController(buttons, draw_seed(np.random.default_rng((seed, i)))) for i in range(len(before))]
    states = [generator.reset(scene, seed=seed + i, start=Start(video=f))[0] for i, f in enumerate(before)]
    shown = before[:, -t:]
    while True:
        actions = [controller.act(frames) for controller, frames in zip(controllers, shown, strict=True)]
        states, shown = generator.step(states, encode_actions(actions, buttons, t))
        yield shown


def walks(generator: Generator, scene: str, count: int, seconds: float, seed: int) -> dict[str, Any]:
    """What `endurance.drift` says of so many walks of so many seconds, beside as many in the real game."""
    card, context = generator.card, generator.history_length
    t, chunks = card.frames_per_chunk, round(seconds / card.chunk_seconds)
    frames = (context + chunks) * t
    real = held_out(scene, count, frames, seed, lambda rng: Explorer(rng, t), least=(context + 1) * t)
    before = real.frames[:, : context * t]
    ends = np.arange(1, chunks + 1)
    made = endurance.watched(before[:, -1], walk(generator, scene, before, seed), ends)
    figures = endurance.drift(made, endurance.watch_real(real, context, t), card.chunk_seconds, endurance.TIMES)
    return {name: value for name, value in figures.items() if not name.startswith(("copy_last_", "data_mean_"))}
